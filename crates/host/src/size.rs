//! Sizes as docker reads them: `512m` and `50MB` count in powers of 1024.

/// Parses a size like `4096`, `512m`, `50MB` or `1GiB`, into bytes.
///
/// # Errors
/// Says what is wrong with it.
pub fn parse(text: &str) -> Result<u64, String> {
    parse_size::Config::new().with_binary().parse_size(text).map_err(|error| match error {
        parse_size::Error::PosOverflow => {
            "it is more than any size can be; give one like 512m or 1g".to_owned()
        }
        error => format!("{error}; give a size like 512m or 1g"),
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn units_are_docker_s() {
        for (text, bytes) in
            [("4096", 4096), ("1k", 1024), ("50MB", 50 << 20), ("1g", 1 << 30), ("2GiB", 2 << 30)]
        {
            assert_eq!(super::parse(text), Ok(bytes));
        }
        for text in ["", "-1", "x", "1q", "99999999999999999999g"] {
            assert!(super::parse(text).is_err(), "{text}");
        }
    }
}
