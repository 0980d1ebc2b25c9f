//! Health checks: the image's and the user's options joined by docker's rules
//! (docs.docker.com/reference/cli/docker/container/run).

use std::time::Duration;

use hypeman_image::Health;
use hypeman_record::guest::config::HealthCheck;

use crate::error::{Field, Result, invalid};

/// Docker's usual ones.
const INTERVAL: Duration = Duration::from_secs(30);
const TIMEOUT: Duration = Duration::from_secs(30);
const START_INTERVAL: Duration = Duration::from_secs(5);
const RETRIES: u32 = 3;

/// Docker takes no shorter times.
const SHORTEST: Duration = Duration::from_millis(1);

/// Health check settings of a user; `None` takes the image's.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HealthOptions {
    /// Whether there is to be none.
    pub none: bool,
    /// Command line for the shell.
    pub command: Option<String>,
    /// Time between two checks.
    pub interval: Option<Duration>,
    /// Timeout for one check.
    pub timeout: Option<Duration>,
    /// Number of failures that make it unhealthy.
    pub retries: Option<u32>,
    /// Time after the start in which failures do not count.
    pub start_period: Option<Duration>,
    /// Time between two checks in that period.
    pub start_interval: Option<Duration>,
}

/// Joins them.
///
/// # Errors
/// When there is to be none and something is set of it, or a time is too short to be one.
pub(crate) fn resolve(options: &HealthOptions, image: Option<&Health>) -> Result<Option<HealthCheck>> {
    if options.none {
        if *options != (HealthOptions { none: true, ..HealthOptions::default() }) {
            return invalid(Field::HealthCheck, "none", "--no-healthcheck excludes the others");
        }
        return Ok(None);
    }
    let shell = |line: &str| ["/bin/sh", "-c", line].map(str::to_owned).to_vec();
    let of_image = image.and_then(|image| match &image.test[..] {
        [kind, argv @ ..] if kind == "CMD" && !argv.is_empty() => Some(argv.to_vec()),
        [kind, line] if kind == "CMD-SHELL" => Some(shell(line)),
        _ => None, // NONE among them
    });
    let Some(argv) = options.command.as_deref().map(shell).or(of_image) else { return Ok(None) };
    let nanoseconds =
        |time: fn(&Health) -> u64| image.map(time).filter(|time| *time > 0).map(Duration::from_nanos);
    let times = [
        options.interval.or(nanoseconds(|image| image.interval)).unwrap_or(INTERVAL),
        options.timeout.or(nanoseconds(|image| image.timeout)).unwrap_or(TIMEOUT),
        options.start_interval.or(nanoseconds(|image| image.start_interval)).unwrap_or(START_INTERVAL),
    ];
    if let Some(short) = times.iter().find(|time| **time < SHORTEST) {
        return invalid(Field::HealthCheck, format!("{short:?}"), "must be 1 ms or more");
    }
    let [interval_ms, timeout_ms, start_interval_ms] = times.map(milliseconds);
    let start_period = options.start_period.or(nanoseconds(|image| image.start_period)).unwrap_or_default();
    let retries = options.retries.or(image.map(|image| image.retries)).filter(|retries| *retries > 0);
    Ok(Some(HealthCheck {
        argv,
        interval_ms,
        timeout_ms,
        retries: retries.unwrap_or(RETRIES),
        start_period_ms: milliseconds(start_period),
        start_interval_ms,
    }))
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_user_s_words_go_before_the_image_s_and_those_before_docker_s() {
        let image = Health {
            test: ["CMD-SHELL", "check"].map(str::to_owned).to_vec(),
            interval: 7_000_000_000,
            retries: 5,
            ..Health::default()
        };
        let check = resolve(&HealthOptions::default(), Some(&image)).unwrap().unwrap();
        assert_eq!(check.argv, ["/bin/sh", "-c", "check"]);
        assert_eq!((check.interval_ms, check.timeout_ms, check.retries), (7000, 30_000, 5));
        let options = HealthOptions {
            command: Some("mine".to_owned()),
            interval: Some(Duration::from_millis(20)),
            ..HealthOptions::default()
        };
        let check = resolve(&options, Some(&image)).unwrap().unwrap();
        assert_eq!((check.argv[2].as_str(), check.interval_ms, check.retries), ("mine", 20, 5));
        assert_eq!(resolve(&HealthOptions::default(), None).unwrap(), None);
        let none = Health { test: vec!["NONE".to_owned()], ..Health::default() };
        assert_eq!(resolve(&HealthOptions::default(), Some(&none)).unwrap(), None);
        assert_eq!(
            resolve(&HealthOptions { none: true, ..HealthOptions::default() }, Some(&image)).unwrap(),
            None
        );
        assert!(resolve(&HealthOptions { none: true, ..options.clone() }, None).is_err());
        assert!(resolve(&HealthOptions { interval: Some(Duration::ZERO), ..options }, None).is_err());
    }
}
