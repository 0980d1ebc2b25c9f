//! Files to a guest and from it, over a websocket: upstream's frames.

mod download;
mod upload;

use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::ws::WebSocket;
use axum::http::Response;
use axum::routing::get;
use futures_util::StreamExt;
use futures_util::stream::SplitStream;
use hypeman_session::Guest;
use hypeman_wire::files::{CopyFrame, CopyRequest, Direction};

use super::guest::{Frames, Upgrade, close, converse, first, next, send_document};
use super::instances::InstanceId;
use crate::app::App;
use crate::call::Call;
use crate::refusal::Answer;

/// How long the client has to close the connection after the last frame.
const LAST_FRAME: Duration = Duration::from_secs(30);

pub(super) fn routes() -> Router<App> {
    Router::new().route("/instances/{id}/cp", get(copy))
}

/// Copies one file or directory to a guest, or a tree from it.
async fn copy(upgrade: Upgrade, call: Call<InstanceId>) -> Answer<Response<axum::body::Body>> {
    converse(upgrade, call, conversation).await
}

async fn conversation(app: App, guest: Guest, socket: WebSocket) {
    let (mut frames, mut from) = socket.split();
    let Some(request) = first::<CopyRequest>(&mut from).await else { return };
    let last = match request {
        Err(refusal) => Some(error(refusal.message(), "")),
        Ok(request) => {
            let began = Instant::now();
            let last = tokio::select! {
                last = carry_out(&app, &guest, &request, &mut frames, &mut from) => last,
                () = app.stopping().cancelled() => Some(error("the server ends", &request.guest_path)),
            };
            let is_success =
                matches!(last, Some(CopyFrame::End { .. } | CopyFrame::Result { success: true, .. }));
            app.metrics().copied(word(request.direction), began.elapsed(), is_success);
            last
        }
    };
    if let Some(last) = last
        && send_document(&mut frames, &last).await
    {
        // The npm client takes a connection that is closed before it has closed its files for broken.
        let _ = tokio::time::timeout(LAST_FRAME, async { while next(&mut from).await.is_some() {} }).await;
    }
    close(&mut frames).await;
}

async fn carry_out(
    app: &App,
    guest: &Guest,
    request: &CopyRequest,
    frames: &mut Frames,
    from: &mut SplitStream<WebSocket>,
) -> Option<CopyFrame> {
    match request.direction {
        Direction::To => upload::upload(app, guest, request, from).await,
        Direction::From => tokio::select! {
            last = download::download(app, guest, request, frames) => last,
            // It says nothing but that it leaves.
            () = async { while next(from).await.is_some() {} } => None,
        },
    }
}

/// Name of a direction in metrics.
fn word(direction: Direction) -> &'static str {
    match direction {
        Direction::To => "to",
        Direction::From => "from",
    }
}

fn error(message: &str, path: &str) -> CopyFrame {
    CopyFrame::Error { message: message.to_owned(), path: path.to_owned() }
}
