//! A line of a log as an object.

use std::borrow::Cow;
use std::time::SystemTime;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use jiff::Timestamp;
use serde::Serialize;

use crate::args::Source;
use crate::output;

/// One line of `logs --format json`.
#[derive(Debug, Serialize)]
struct Line<'a> {
    /// When it was written, as far as that is known.
    time: Option<Timestamp>,
    instance: &'a str,
    source: String,
    /// Without its newline. What is not UTF-8 is replaced by U+FFFD.
    text: Cow<'a, str>,
    /// All its bytes, when the text has not all of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    base64: Option<String>,
    /// It is a part: what comes next, if something does, goes on with it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    partial: bool,
}

/// Puts a line, which has no newline, into `out` as an object.
pub(super) fn object(
    instance: &str,
    source: Source,
    time: Option<SystemTime>,
    bytes: &[u8],
    partial: bool,
    out: &mut Vec<u8>,
) {
    let text = String::from_utf8_lossy(bytes);
    let base64 = matches!(text, Cow::Owned(_)).then(|| BASE64_STANDARD.encode(bytes));
    let time = time.and_then(|time| Timestamp::try_from(time).ok());
    let line = Line { time, instance, source: output::word(&source), text, base64, partial };
    // Strings and a time: there is nothing that could fail.
    let _ = serde_json::to_writer(&mut *out, &line);
    out.push(b'\n');
}
