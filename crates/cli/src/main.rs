//! `hypeman`: OCI images as microVMs, whose console logs are whole.

mod args;
mod commands;
mod context;
mod env_file;
mod output;
mod progress;
mod size;

use std::process::ExitCode;

use clap::Parser;

use crate::args::{Arguments, Command};

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // docker's habit: 125 is an error of ours, so that it is not taken for the program's.
    let failure = if matches!(arguments.command, Command::Run(_)) { 125 } else { 1 };
    match commands::run(arguments) {
        Ok(code) => code,
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS, // `hypeman logs x | head`
        Err(error) => {
            eprintln!("hypeman: {error:#}");
            ExitCode::from(failure)
        }
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let io = error.chain().find_map(|cause| cause.downcast_ref::<std::io::Error>());
    io.is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}
