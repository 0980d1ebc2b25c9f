//! Traces of the libraries on standard error, for `HYPEMAN_LOG`.

use std::fmt::{Debug, Write};

use hypeman_server::Receiver;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

use crate::output;

/// Names the least severe level that is shown.
const LEVEL: &str = "HYPEMAN_LOG";

/// Shows events.
struct Reports;

/// Shows what the libraries report: up to the level that `HYPEMAN_LOG` names, else `usual`, else
/// warnings. The `receiver` chooses for itself.
pub(crate) fn show(usual: Option<Level>, receiver: Option<Receiver>) {
    let named = std::env::var(LEVEL).ok().and_then(|level| level.parse().ok());
    let level = named.or(usual).unwrap_or(Level::WARN);
    let is_shown = move |metadata: &tracing::Metadata<'_>| {
        // Of those who send telemetry only what an operator should look at.
        let target = metadata.target();
        let is_ours = target.starts_with("hypeman") && *metadata.level() <= level;
        metadata.is_event()
            && (is_ours || target.starts_with("opentelemetry") && *metadata.level() <= Level::WARN)
    };
    let heard = tracing_subscriber::registry().with(receiver);
    let heard = heard.with(Reports.with_filter(filter_fn(is_shown)));
    let _ = tracing::subscriber::set_global_default(heard); // it is the first
}

impl<S: Subscriber> Layer<S> for Reports {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut text = Text(String::new());
        event.record(&mut text);
        output::complain(text.0);
    }
}

/// The message of an event, and its fields.
struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let _ = match field.name() {
            "message" => write!(self.0, "{value:?}"),
            name => write!(self.0, " {name}={value:?}"),
        };
    }
}
