//! The way into a guest over a websocket, for exec and cp.

use std::time::Duration;

use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket, WebSocketUpgrade, close_code};
use axum::http::Response;
use axum::{body::Body, response::IntoResponse};
use futures_util::stream::SplitSink;
use futures_util::{SinkExt, StreamExt};
use hypeman_host::Needs;
use hypeman_record::state::State;
use hypeman_session::Guest;
use serde::de::DeserializeOwned;

use super::instances::InstanceId;
use crate::app::App;
use crate::call::{Call, parse};
use crate::refusal::{Answer, Refusal};

/// Largest frame of a client's, in bytes: upstream's Python client sends all input in one.
const MAX_FRAME: usize = 128 << 20;

/// How long the first frame may take.
const FIRST_FRAME: Duration = Duration::from_secs(30);

/// The frames to a client.
pub(super) type Frames = SplitSink<WebSocket, Message>;

/// Upgrade of a request, which is looked at after the token and the instance.
pub(super) type Upgrade = Result<WebSocketUpgrade, WebSocketUpgradeRejection>;

/// Upgrades a call for a running instance, and has a conversation with its guest.
///
/// # Errors
/// Before the upgrade: as any call; and when the instance does not run.
pub(super) async fn converse<F: Future<Output = ()> + Send + 'static>(
    upgrade: Upgrade,
    call: Call<InstanceId>,
    conversation: impl FnOnce(App, Guest, WebSocket) -> F + Send + 'static,
) -> Answer<Response<Body>> {
    let InstanceId { id } = call.path;
    let guest = call.app.run(move |host| {
        let instance = host.find_adopted(&id)?;
        match host.observe(&instance)?.state {
            State::Running => Ok(host.guest(&instance)),
            state => Err(instance.refused(state, Needs::Running)),
        }
    });
    let guest = guest.await?;
    let upgrade = upgrade.map_err(|error| Refusal::malformed(error.body_text()))?;
    let app = call.app;
    let upgrade = upgrade.max_frame_size(MAX_FRAME).max_message_size(MAX_FRAME);
    Ok(upgrade.on_upgrade(move |socket| conversation(app, guest, socket)).into_response())
}

/// The first frame of a client's, a document; `None` when the client leaves, or says nothing.
pub(super) async fn first<T: DeserializeOwned>(
    frames: &mut (impl StreamExt<Item = Result<Message, axum::Error>> + Unpin),
) -> Option<Answer<T>> {
    match tokio::time::timeout(FIRST_FRAME, next(frames)).await {
        Ok(Some(Message::Text(text))) => Some(parse(text.as_bytes())),
        Ok(Some(_)) => Some(Err(Refusal::malformed("the first frame has to be text"))),
        Ok(None) | Err(_) => None,
    }
}

/// The next frame of a client's that has something in it; `None` when it leaves.
pub(super) async fn next(
    frames: &mut (impl StreamExt<Item = Result<Message, axum::Error>> + Unpin),
) -> Option<Message> {
    loop {
        match frames.next().await? {
            Ok(Message::Ping(_) | Message::Pong(_)) => {}
            Ok(Message::Close(_)) | Err(_) => return None,
            Ok(message) => return Some(message),
        }
    }
}

/// Sends a document as a text frame; whether the client takes more.
pub(super) async fn send_document(frames: &mut Frames, document: &impl serde::Serialize) -> bool {
    let text = serde_json::to_string(document).unwrap_or_default();
    frames.send(Message::text(text)).await.is_ok()
}

/// Closes a connection in good order.
pub(super) async fn close(frames: &mut Frames) {
    let frame = CloseFrame { code: close_code::NORMAL, reason: Utf8Bytes::default() };
    let _ = frames.send(Message::Close(Some(frame))).await; // the client may have left
}
