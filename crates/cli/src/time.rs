//! Times as docker reads them: spans, and points: how long ago, a date, a date and time, or seconds
//! since 1970.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};

/// The time that `10m`, `2026-11-25T10:00:00Z`, `2026-11-25 10:00`, `2026-11-25` or `1764064800.5`
/// tell.
pub(crate) fn parse(text: &str) -> Result<SystemTime, String> {
    let seconds = || text.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    let ago = || humantime::parse_duration(text).ok();
    let time = if let Some(seconds) = seconds() {
        UNIX_EPOCH.checked_add(seconds)
    } else if let Some(ago) = ago() {
        SystemTime::now().checked_sub(ago)
    } else if let Ok(time) = text.parse::<Timestamp>() {
        Some(time.into())
    } else {
        // Without a zone, it is this machine's.
        let local = text.parse::<DateTime>().ok();
        local
            .and_then(|local| local.to_zoned(TimeZone::system()).ok())
            .map(|zoned: Zoned| zoned.timestamp().into())
    };
    time.ok_or_else(|| {
        "give how long ago, like 10m or 1h30m, or a time, like 2026-11-25T10:00:00Z".to_owned()
    })
}

/// A span of time: seconds, or `1m30s`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    let duration = seconds.or_else(|| humantime::parse_duration(text).ok());
    duration.ok_or_else(|| "give seconds, or a time like 1m30s".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_docker_reads_them() {
        let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
        assert_eq!(parse("1764064800"), Ok(at(1_764_064_800)));
        assert_eq!(parse("1764064800.5"), Ok(at(1_764_064_800) + Duration::from_millis(500)));
        for text in ["2025-11-25T10:00:00Z", "2025-11-25T11:00:00+01:00", "2025-11-25T10:00:00.000Z"] {
            assert_eq!(parse(text), Ok(at(1_764_064_800)), "{text}");
        }
        for text in ["2025-11-25", "2025-11-25T10:00", "2025-11-25 10:00:00.25"] {
            assert!(parse(text).is_ok(), "{text}");
        }
        for (text, seconds) in [("90s", 90), ("10m", 600), ("1h30m", 5400), ("2d", 172_800)] {
            let before = SystemTime::now();
            let told = parse(text).unwrap() + Duration::from_secs(seconds);
            assert!((before..=SystemTime::now()).contains(&told), "{text}: {told:?}");
        }
        for text in ["", "x", "-5", "yesterday", "99999999999999999999d", "2025-13-01", "NaN"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
