//! A line of a log as an object.

use std::time::SystemTime;

use hypeman_session::line::Line;

use crate::args::Source;
use crate::output;

/// Puts a line, which has no newline, into `out` as an object.
pub(super) fn object(
    instance: &str,
    source: Source,
    time: Option<SystemTime>,
    bytes: &[u8],
    partial: bool,
    out: &mut Vec<u8>,
) {
    let line = Line::of(instance, output::word(&source), time, bytes, partial);
    // Strings and a time: there is nothing that could fail.
    let _ = serde_json::to_writer(&mut *out, &line);
    out.push(b'\n');
}
