//! Traces of the libraries on standard error, for `HYPEMAN_LOG`.

use std::fmt::{Debug, Write};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

use crate::output;

/// Names the least severe level that is shown.
const LEVEL: &str = "HYPEMAN_LOG";

/// Shows events of a level.
struct Reports(Level);

/// Shows what the libraries report: up to the level that `HYPEMAN_LOG` names, else `usual`, else
/// warnings.
pub(crate) fn show(usual: Option<Level>) {
    let named = std::env::var(LEVEL).ok().and_then(|level| level.parse().ok());
    let level = named.or(usual).unwrap_or(Level::WARN);
    let _ = tracing::subscriber::set_global_default(Reports(level)); // it is the first
}

impl Subscriber for Reports {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= self.0 && metadata.target().starts_with("hypeman")
    }

    fn event(&self, event: &Event<'_>) {
        let mut text = Text(String::new());
        event.record(&mut text);
        output::complain(text.0);
    }

    // The libraries have no spans.
    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }
    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
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
