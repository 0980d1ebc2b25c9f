//! Logs, as server-sent events: one for each line, a JSON string.

use std::path::PathBuf;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderName, Response};
use axum::response::IntoResponse;
use futures_util::stream;
use hypeman_console::reader::{Reader, Start};
use hypeman_session::follow::Follower;
use hypeman_wire::Error;
use hypeman_wire::lines::Lines;
use serde::Deserialize;
use tokio::time::{Interval, MissedTickBehavior, interval};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::instances::InstanceId;
use crate::app::App;
use crate::call::{Call, Query};
use crate::refusal::{Answer, Refusal};

/// Read at once, in bytes.
const CHUNK: usize = 256 << 10;

/// How often a stream that is silent tells that it is there.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// A comment, which clients pass over.
const COMMENT: &[u8] = b": keep-alive\n\n";

/// Tells nginx not to hold events back.
const BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(logs))
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct LogsQuery {
    /// Number of the last lines to begin with.
    #[serde(default = "usual_tail")]
    #[param(required = false, default = 100, minimum = 0)]
    tail: usize,
    /// Whether the stream goes on until the VM ends.
    #[serde(default)]
    #[param(required = false)]
    follow: bool,
    /// Log.
    #[serde(default)]
    #[param(required = false, inline)]
    source: Source,
}

fn usual_tail() -> usize {
    100
}

/// Log of an instance.
#[derive(Clone, Copy, Default, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum Source {
    /// Console of the guest.
    #[default]
    App,
    /// Output of the VMM.
    Vmm,
    /// What hypeman did.
    Hypeman,
}

/// Streams the log of an instance. Each event is a line, as a JSON string; bytes that are not UTF-8
/// are replaced, and a line of more than 1 MiB is split.
#[utoipa::path(
    get, path = "/instances/{id}/logs", tag = "Instances", operation_id = "getInstanceLogs",
    params(InstanceId, LogsQuery), security(("bearerAuth" = ["instance:read"])),
    responses(
        (status = 200, body = serde_json::Value, content_type = "text/event-stream"),
        (status = "default", body = Error, content_type = "application/json"),
    ),
)]
async fn logs(call: Call<InstanceId, Query<LogsQuery>>) -> Answer<Response<Body>> {
    let (InstanceId { id }, Query(query)) = (call.path, call.input);
    let found = call.app.run(move |host| {
        let instance = host.find_adopted(&id)?;
        let watch = query.follow.then(|| host.watch(&instance.record.id)).transpose()?;
        Ok::<_, hypeman_host::Error>((instance, watch))
    });
    let (instance, watch) = found.await?;
    let logs = instance.logs();
    let path = match query.source {
        Source::App => logs.app,
        Source::Vmm => logs.vmm,
        Source::Hypeman => logs.hypeman,
    };
    if !path.exists() {
        let message = format!("instance {} has no such log yet", instance.record.name);
        return Err(Refusal::new(axum::http::StatusCode::NOT_FOUND, "log_not_found", message));
    }
    let start = Start { lines: Some(query.tail), since: None };
    let source = open(path, start, watch)?;
    let events = Events { source, lines: Lines::default(), silence: silence(), app: call.app, ended: false };
    let body = Body::from_stream(stream::unfold(events, |mut events| async move {
        events.next().await.map(|bytes| (bytes, events))
    }));
    let headers = [(CONTENT_TYPE, "text/event-stream"), (CACHE_CONTROL, "no-cache"), (BUFFERING, "no")];
    Ok((headers, body).into_response())
}

/// A log that is read once, or followed.
enum Log {
    Once(Box<Reader>),
    Followed(Box<Follower<()>>),
}

fn open(path: PathBuf, start: Start, watch: Option<hypeman_host::watch::Watch>) -> Answer<Log> {
    let unread = |error: std::io::Error| Refusal::internal(format!("{}: {error}", path.display()));
    match watch {
        None => Reader::open(&path, start).map(|reader| Log::Once(Box::new(reader))).map_err(unread),
        Some(mut watch) => {
            let ended = async move { drop(watch.end().await) }; // one that is removed has ended too
            Follower::open(&path, start, ended).map(|log| Log::Followed(Box::new(log))).map_err(unread)
        }
    }
}

fn silence() -> Interval {
    let mut interval = interval(KEEP_ALIVE);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval.reset();
    interval
}

/// The events of a log.
struct Events {
    source: Log,
    lines: Lines,
    silence: Interval,
    app: App,
    ended: bool,
}

impl Events {
    /// Returns the next events; `None` at the end.
    async fn next(&mut self) -> Option<std::io::Result<Bytes>> {
        while !self.ended {
            match self.read() {
                Ok(events) if !events.is_empty() => {
                    self.silence.reset();
                    return Some(Ok(events));
                }
                Ok(_) => {}
                Err(error) => {
                    self.ended = true;
                    return Some(Err(error));
                }
            }
            let stopping = self.app.stopping().clone();
            let Log::Followed(log) = &mut self.source else { return self.finish() };
            tokio::select! {
                more = log.more() => match more {
                    Ok(true) => {}
                    Ok(false) => return self.finish(),
                    Err(error) => {
                        self.ended = true;
                        return Some(Err(error));
                    }
                },
                _ = self.silence.tick() => return Some(Ok(Bytes::from_static(COMMENT))),
                () = stopping.cancelled() => return self.finish(),
            }
        }
        None
    }

    /// The events of what has come.
    fn read(&mut self) -> std::io::Result<Bytes> {
        let reader = match &mut self.source {
            Log::Once(reader) => reader,
            Log::Followed(log) => &mut log.reader,
        };
        let mut chunk = vec![0; CHUNK];
        let mut events = Vec::new();
        while events.is_empty() {
            // From the page cache as a rule; a disk keeps only this thread of the server busy.
            let count = tokio::task::block_in_place(|| reader.read(&mut chunk))?;
            match reader.take_missed() {
                0 => {}
                bytes => self
                    .lines
                    .note(&format!("[hypeman: {bytes} bytes were rotated away unread]"), &mut events),
            }
            if count == 0 {
                break;
            }
            events.reserve(count + count / 4); // lines as they are, mostly
            self.lines.take(&chunk[..count], &mut events);
        }
        Ok(events.into())
    }

    /// The event of the last line, if it has no end.
    fn finish(&mut self) -> Option<std::io::Result<Bytes>> {
        self.ended = true;
        let mut events = Vec::new();
        self.lines.finish(&mut events);
        Some(events).filter(|events| !events.is_empty()).map(|events| Ok(events.into()))
    }
}
