//! Work in an instance that was never started: in its guest, but before its program has ever run.

use std::time::Duration;

use hypeman_files::AtPath;
use hypeman_record::guest::config::{IDLE, Mode};
use hypeman_record::names;
use hypeman_record::network::{Connection, NetworkSettings};
use hypeman_record::record::{CommandSpec, Record, Settings};

use crate::error::Result;
use crate::instance::Instance;
use crate::processes::wait_for_shim;
use crate::spawn::{Programs, Started};
use crate::store::Store;
use crate::{start, stop};

/// Timeout for the guest to power off.
const ENDING: Duration = Duration::from_secs(30);

/// Boots an instance that was never started, without a network and with a program that does
/// nothing, has `work` done in it, and ends it: it counts as never started again. One that somebody
/// else starts meanwhile is left running.
///
/// # Errors
/// As [`start::start`] and [`stop::stop`].
pub(crate) fn visit<T>(
    store: &Store,
    instance: &Instance,
    programs: &Programs,
    work: impl FnOnce(&Instance) -> T,
) -> Result<T> {
    let started = start::start_as(store, instance, programs, idle)?;
    let Started::Now(client) = started else { return Ok(work(instance)) };
    // The instance of this record is not removed at its end.
    let visited = Instance { record: idle(&instance.record), directory: instance.directory.clone() };
    let done = work(&visited);
    drop(client);
    stop::stop(&visited, ENDING, &programs.hypeman)?;
    wait_for_shim(&visited, ENDING)?;
    let _unchanged = visited.lock()?;
    let run = visited.directory.join(names::RUN);
    std::fs::remove_file(&run).at(&run)?;
    Ok(done)
}

/// The same machine, in which nothing of the image's runs.
fn idle(record: &Record) -> Record {
    let command = record.command.as_ref().map(|command| CommandSpec {
        mode: Mode::Exec,
        argv: IDLE.map(str::to_owned).to_vec(),
        workdir: "/".to_owned(),
        user: String::new(),
        stop_signal: None,
        pid_namespace: false,
        health: None,
        ..command.clone()
    });
    let network = NetworkSettings {
        connection: Connection::None,
        published: Vec::new(),
        ..record.settings.network.clone()
    };
    let settings = Settings {
        show_boot: false,
        auto_remove: false,
        on_reboot: None,
        network,
        ..record.settings.clone()
    };
    Record { command, settings, ..record.clone() }
}
