//! The `hypeman` binary: the command line, and the entry of the processes that hypeman starts of
//! itself (shim, DNS server, compression).
//!
//! Owns the grammar, the words and the terminal. What a command does is a function of
//! `hypeman_host::Host`.
//!
//! Must not know: stores, locks, clients of shims; `tests/architecture` checks it.

mod agent;

mod args;
mod background;
mod commands;
mod detach_keys;
mod each;
mod env_file;
mod escape;
mod filter;
mod foreign;
mod hints;
mod inherited;
mod keyboard;
mod kinds;
mod names;
mod output;
mod progress;
mod size;
mod table;
mod template;
mod time;
mod trace;
mod view;
#[cfg(test)]
mod words;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{CommandFactory, Parser};
use clap_complete::CompleteEnv;
use hypeman_host::COMPRESSION_TASK;
use hypeman_record::data_dir::DataDir;
use hypeman_snapshot::{Algorithm, compression};
use rustix::fs::Mode;

use crate::args::{Arguments, Command};

/// With the value `json` it makes the errors of all commands JSON, also of those that have no
/// `--format`.
const ERROR_FORMAT: &str = "HYPEMAN_ERROR_FORMAT";

fn main() -> ExitCode {
    // Files that we and our children make are for this user only: disks, logs and sockets hold
    // guests' secrets.
    rustix::process::umask(Mode::RWXG | Mode::RWXO);
    inherited::keep_to_ourselves();
    // Before the command line is parsed as people's are: a shim lives long, and what it never runs
    // it need not keep in memory.
    if let Some((directory, mode)) = shim() {
        return match hypeman_shim::run(&directory, mode) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail(&error.into(), 1),
        };
    }
    if let Some((directory, algorithm)) = compression() {
        live_on();
        return match compression::process::compress(&directory, algorithm) {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE, // it stands where the progress stood
        };
    }
    if let Some((data_dir, network)) = names() {
        return answer_names(&data_dir, &network);
    }
    // Answers a shell that asks what may come next, and ends then.
    CompleteEnv::with_factory(Arguments::command).complete();
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return refuse(&error),
    };
    // docker's habit: 125 is an error of ours, so that it is not taken for the program's.
    let failure = if matches!(arguments.command, Command::Run(_)) { 125 } else { 1 };
    if arguments.command.is_json() || std::env::var_os(ERROR_FORMAT).is_some_and(|format| format == "json") {
        output::tell_errors_as_json();
    }
    match commands::run(arguments) {
        Ok(code) => code,
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS, // `hypeman logs x | head`
        Err(error) => fail(&error, failure),
    }
}

/// Outlives the service or session of this process's starter. Where that cannot be it
/// lives as long as they let it.
fn live_on() {
    let _ = hypeman_confine::cgroup::leave_starter();
}

/// A command line that cannot be understood, or one that asks for help.
fn refuse(error: &clap::Error) -> ExitCode {
    let line: Vec<_> = std::env::args_os().collect();
    let runs = line.iter().any(|argument| argument == "run");
    match foreign::explain(error, &line) {
        Some(text) => output::complain(text),
        None => drop(error.print()), // nobody may be there to read it
    }
    match (error.exit_code(), runs) {
        (0, _) => ExitCode::SUCCESS,
        (_, true) => ExitCode::from(125), // as docker
        (_, false) => ExitCode::from(2),
    }
}

fn fail(error: &anyhow::Error, code: u8) -> ExitCode {
    output::fail(error);
    ExitCode::from(code)
}

/// Returns the arguments of `hypeman shim` and its like, which only hypeman itself calls.
fn shim() -> Option<(PathBuf, hypeman_shim::Mode)> {
    let mut arguments = std::env::args_os().skip(1);
    let mode = match arguments.next()?.to_str()? {
        "shim" => hypeman_shim::Mode::Start,
        "shim-restore" => hypeman_shim::Mode::Restore,
        "shim-adopt" => hypeman_shim::Mode::Adopt,
        "shim-upgrade" => hypeman_shim::Mode::Upgrade,
        _ => return None,
    };
    Some((PathBuf::from(arguments.next()?), mode))
}

/// Returns the arguments of the DNS server, which only hypeman itself calls.
fn names() -> Option<(PathBuf, String)> {
    let mut arguments = std::env::args_os().skip(1);
    (arguments.next()? == hypeman_network::dns::TASK).then_some(())?;
    Some((PathBuf::from(arguments.next()?), arguments.next()?.into_string().ok()?))
}

/// Runs the DNS server. Its starter reads one line.
fn answer_names(data_dir: &Path, network: &str) -> ExitCode {
    let ready = || {
        println!("{}", hypeman_network::dns::READY);
        live_on(); // now that nobody waits
    };
    match hypeman_network::dns::process::serve(&DataDir::new(data_dir), network, ready) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Returns the arguments of a compression, which only hypeman itself calls.
fn compression() -> Option<(PathBuf, Algorithm)> {
    let mut arguments = std::env::args_os().skip(1);
    (arguments.next()? == COMPRESSION_TASK).then_some(())?;
    Some((PathBuf::from(arguments.next()?), Algorithm::of_name(arguments.next()?.to_str()?)?))
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let io = error.chain().find_map(|cause| cause.downcast_ref::<std::io::Error>());
    io.is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}
