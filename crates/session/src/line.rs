//! A line of a log as an object, for programs.

use std::borrow::Cow;
use std::time::SystemTime;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use jiff::Timestamp;
use serde::Serialize;

/// A line of a log, as `logs --format json` has it.
#[derive(Debug, Clone, Serialize)]
pub struct Line<'a> {
    /// Time when it was written, as far as that is known.
    pub time: Option<Timestamp>,
    /// Name of the instance.
    pub instance: &'a str,
    /// Log that it is from: `app`, `vmm` or `hypeman`.
    pub source: Cow<'a, str>,
    /// Text without its newline. Bytes that are not UTF-8 are replaced by U+FFFD.
    pub text: Cow<'a, str>,
    /// All its bytes, when the text has not all of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base64: Option<String>,
    /// Whether it is a part, which the next entry continues.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub partial: bool,
}

impl<'a> Line<'a> {
    /// Makes the entry of these bytes, without a newline.
    #[must_use]
    pub fn of(
        instance: &'a str,
        source: impl Into<Cow<'a, str>>,
        time: Option<SystemTime>,
        bytes: &'a [u8],
        partial: bool,
    ) -> Line<'a> {
        let text = String::from_utf8_lossy(bytes);
        let base64 = matches!(text, Cow::Owned(_)).then(|| BASE64_STANDARD.encode(bytes));
        let time = time.and_then(|time| Timestamp::try_from(time).ok());
        Line { time, instance, source: source.into(), text, base64, partial }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_is_not_utf_8_has_all_its_bytes() {
        let json = |bytes| serde_json::to_value(Line::of("web", "app", None, bytes, false)).unwrap();
        assert_eq!(json(b"caf\xc3\xa9")["text"], "café");
        assert!(json(b"caf\xc3\xa9").get("base64").is_none());
        assert_eq!(json(b"caf\xe9")["text"], "caf\u{fffd}");
        assert_eq!(json(b"caf\xe9")["base64"], "Y2Fm6Q==");
    }
}
