//! completion: the script by which a shell asks us what may come next.

use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap_complete::Shell;
use clap_complete::env::Shells;

use crate::output;

/// The variable by which a shell asks, as `CompleteEnv` has it.
const VARIABLE: &str = "COMPLETE";

pub(crate) fn completion(shell: Shell) -> Result<ExitCode> {
    let shells = Shells::builtins();
    let completer =
        shells.completer(&shell.to_string()).with_context(|| format!("{shell} is not supported"))?;
    let mut script = Vec::new();
    completer.write_registration(VARIABLE, "hypeman", "hypeman", "hypeman", &mut script)?;
    output::line(String::from_utf8_lossy(&script).trim_end())?;
    Ok(ExitCode::SUCCESS)
}
