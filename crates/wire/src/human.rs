//! Sizes, rates and durations as the API writes them.

use std::time::Duration;

use jiff::SignedDuration;

/// Writes a size as upstream does: with one decimal, in powers of 1024.
#[must_use]
pub fn size(bytes: u64) -> String {
    let units = [(60, "EB"), (50, "PB"), (40, "TB"), (30, "GB"), (20, "MB"), (10, "KB")];
    let fitting = units.iter().find(|(shift, _)| bytes >> shift > 0);
    fitting.map_or_else(
        || format!("{bytes} B"),
        |(shift, unit)| format!("{:.1} {unit}", bytes as f64 / (1_u64 << shift) as f64),
    )
}

/// Writes a rate, given in bytes a second.
#[must_use]
pub fn rate(bytes: u64) -> String {
    format!("{}/s", size(bytes))
}

/// Reads a rate: bits a second with `bps` (`1Gbps`, decimal), else bytes (`125MB/s`, `10MBps`), in
/// bytes a second.
///
/// # Errors
/// Says what is wrong with it.
pub fn parse_rate(text: &str, parse_size: impl Fn(&str) -> Result<u64, String>) -> Result<u64, String> {
    let text = text.trim();
    if let Some(bits) = text.strip_suffix("bps") {
        let split = bits.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(bits.len());
        let (number, unit) = bits.split_at(split);
        let factor = match unit.trim() {
            "" => 1e0,
            "k" | "K" => 1e3,
            "m" | "M" => 1e6,
            "g" | "G" => 1e9,
            "t" | "T" => 1e12,
            _ => return Err("it is no rate; give one like 1Gbps or 125MB/s".to_owned()),
        };
        let number: f64 = number.parse().map_err(|_| "it is no rate; give one like 1Gbps or 125MB/s")?;
        return Ok((number * factor / 8.0) as u64);
    }
    parse_size(text.strip_suffix("/s").or(text.strip_suffix("ps")).unwrap_or(text))
}

/// Reads a duration as Go writes it: `1h30m`, `1.5s`, `200ms`, `0`.
///
/// # Errors
/// Says what is wrong with it.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let invalid = || format!("{text:?} is no duration; give one like 30s or 1h30m");
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let duration: SignedDuration = text.parse().map_err(|_| invalid())?;
    Duration::try_from(duration).map_err(|_| format!("the duration {text} is negative"))
}

/// Whether a time is left out; some clients send 0 for none.
pub(crate) fn is_no_time(text: Option<&str>) -> bool {
    text.is_none_or(|text| ["", "0", "0s"].contains(&text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_written_as_upstream_does() {
        for (bytes, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (512 << 20, "512.0 MB"),
            (1 << 30, "1.0 GB"),
            (10 << 30, "10.0 GB"),
        ] {
            assert_eq!(size(bytes), text);
        }
        assert_eq!(rate(125 << 20), "125.0 MB/s");
    }

    #[test]
    fn rates_are_bits_or_bytes_by_their_unit() {
        let bytes = |text: &str| match text {
            "125MB" => Ok(125 << 20),
            _ => Err("no size".to_owned()),
        };
        for (text, rate) in
            [("1Gbps", 125_000_000), ("8bps", 1), ("125MB/s", 125 << 20), ("125MBps", 125 << 20)]
        {
            assert_eq!(parse_rate(text, bytes), Ok(rate), "{text}");
        }
        for bad in ["", "fast", "1Qbps", "-1Gbps", "Gbps"] {
            assert!(parse_rate(bad, bytes).is_err(), "{bad}");
        }
    }

    #[test]
    fn durations_are_go_s() {
        for (text, milliseconds) in
            [("30s", 30_000), ("1h30m", 5_400_000), ("1.5s", 1500), ("200ms", 200), ("0", 0), ("0s", 0)]
        {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(milliseconds)), "{text}");
        }
        for bad in ["", "5", "s", "-5s", "1 fortnight", "99999999999999999999h"] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
    }
}
