//! The flags of health checks, docker's.

use std::time::Duration;

use clap::Args;
use hypeman_host::health::HealthOptions;

use crate::time::duration;

#[derive(Debug, Args)]
pub(crate) struct HealthArguments {
    /// Shell command that exits 0 if the program is healthy [default: the image's]
    #[arg(long, value_name = "COMMAND")]
    health_cmd: Option<String>,
    /// Interval between checks [default: the image's, else 30s]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    health_interval: Option<Duration>,
    /// Timeout of a check [default: the image's, else 30s]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    health_timeout: Option<Duration>,
    /// Consecutive failures until it is unhealthy [default: the image's, else 3]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    health_retries: Option<u32>,
    /// Time after the start when failures do not count [default: the image's, else none]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    health_start_period: Option<Duration>,
    /// Interval between checks in that time [default: the image's, else 5s]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    health_start_interval: Option<Duration>,
    /// Disable health checks
    #[arg(long)]
    no_healthcheck: bool,
}

impl HealthArguments {
    pub(crate) fn options(&self) -> HealthOptions {
        HealthOptions {
            none: self.no_healthcheck,
            command: self.health_cmd.clone().filter(|command| !command.is_empty()),
            interval: self.health_interval,
            timeout: self.health_timeout,
            retries: self.health_retries,
            start_period: self.health_start_period,
            start_interval: self.health_start_interval,
        }
    }
}
