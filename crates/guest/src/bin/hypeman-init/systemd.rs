//! Systemd mode: the image's own init becomes PID 1.

use std::fs::{File, OpenOptions};
use std::os::unix::process::CommandExt;
use std::process::Command;

use hypeman_record::guest::config::GuestConfig;
use hypeman_record::guest::status::Status;

use crate::agent;
use crate::report::{self, Context, Failure};

/// Becomes the image's init. Returns only when that cannot be started.
pub(crate) fn hand_over(config: &GuestConfig, status: &File) -> Result<(), Failure> {
    let [program, arguments @ ..] = &config.argv[..] else {
        return Err(Failure { code: 125, message: "there is no init to run".to_owned() });
    };
    let console =
        OpenOptions::new().read(true).write(true).open("/dev/console").context("open its console")?;
    let duplicate = || console.try_clone().context("open its console");
    let mut command = Command::new(program);
    command.args(arguments).env_clear().envs(&config.env);
    command.stdin(duplicate()?).stdout(duplicate()?).stderr(duplicate()?);
    for (resource, limit) in config.ulimits.iter().filter_map(|limit| limit.limit()) {
        let _ = rustix::process::setrlimit(resource, limit); // a system may set its own
    }
    agent::keep_apart(config);
    report::write(status, &Status::Running);
    let error = command.exec();
    let code = if error.kind() == std::io::ErrorKind::NotFound { 127 } else { 126 };
    Err(Failure { code, message: format!("{program}: {error}") })
}
