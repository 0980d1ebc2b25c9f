//! The arguments for how an instance's logs are kept.

use clap::Args;
use hypeman_record::record::{LogLimits, LogMode};

use crate::size;

#[derive(Debug, Args)]
pub(crate) struct LogLimitArguments {
    /// Maximum size of a log file before it is rotated
    #[arg(long, default_value = "50MB", value_parser = size::parse, value_name = "SIZE")]
    log_max_size: u64,
    /// Number of rotated files to keep
    #[arg(long, default_value_t = 3, value_name = "N")]
    log_max_files: u32,
    /// mode=blocking (default) lets the guest wait for the disk; mode=non-blocking drops output
    /// beyond max-buffer-size=SIZE (default 1m) and says so in the log
    #[arg(long, value_parser = LogOption::parse, value_name = "NAME=VALUE")]
    log_opt: Vec<LogOption>,
}

impl LogLimitArguments {
    /// Returns the limits.
    pub(crate) fn limits(&self) -> LogLimits {
        let mut limits = LogLimits {
            max_size: self.log_max_size,
            max_files: self.log_max_files,
            mode: LogMode::Blocking,
            max_buffer_size: None,
        };
        for option in &self.log_opt {
            match *option {
                LogOption::Mode(mode) => limits.mode = mode,
                LogOption::MaxBufferSize(size) => limits.max_buffer_size = Some(size),
            }
        }
        limits
    }
}

/// One of docker's options.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LogOption {
    Mode(LogMode),
    MaxBufferSize(u64),
}

impl LogOption {
    fn parse(text: &str) -> Result<LogOption, String> {
        let (name, value) = text.split_once('=').unwrap_or((text, ""));
        match (name, value) {
            ("mode", "blocking") => Ok(LogOption::Mode(LogMode::Blocking)),
            ("mode", "non-blocking") => Ok(LogOption::Mode(LogMode::NonBlocking)),
            ("mode", _) => Err("the mode is blocking or non-blocking".to_owned()),
            ("max-buffer-size", size) => size::parse(size).map(LogOption::MaxBufferSize),
            ("max-size", _) => Err("give --log-max-size instead".to_owned()),
            ("max-file", _) => Err("give --log-max-files instead".to_owned()),
            _ => Err("there are mode=blocking, mode=non-blocking and max-buffer-size=SIZE".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn docker_s_options_are_read_and_what_is_none_is_refused() {
        assert_eq!(LogOption::parse("mode=non-blocking"), Ok(LogOption::Mode(LogMode::NonBlocking)));
        assert_eq!(LogOption::parse("mode=blocking"), Ok(LogOption::Mode(LogMode::Blocking)));
        assert_eq!(LogOption::parse("max-buffer-size=2m"), Ok(LogOption::MaxBufferSize(2 << 20)));
        for (wrong, reason) in [
            ("mode", "blocking or non-blocking"),
            ("mode=lazy", "blocking or non-blocking"),
            ("max-buffer-size=much", "give a size"),
            ("max-size=10m", "--log-max-size"),
            ("max-file=3", "--log-max-files"),
            ("labels=x", "there are mode=blocking"),
        ] {
            let error = LogOption::parse(wrong).unwrap_err();
            assert!(error.contains(reason), "{wrong}: {error}");
        }
    }
}
