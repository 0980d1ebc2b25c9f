//! Programs of the system.

use std::path::PathBuf;
use std::process::{Command, Output};

use crate::error::{Error, Result};

/// A program in `PATH`, or where Debian keeps those of root, which users often lack in theirs.
#[must_use]
pub fn find_tool(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let directories = std::env::split_paths(&path).chain(["/usr/sbin", "/sbin"].map(PathBuf::from));
    which::which_in(name, std::env::join_paths(directories).ok(), "/").ok()
}

/// A command for a tool; `package` is Debian's that has it.
pub(crate) fn command(name: &str, package: &str) -> Result<Command> {
    let path =
        find_tool(name).ok_or_else(|| failed(name, format!("it is not here; apt-get install {package}")))?;
    let mut command = hypeman_process::program(&path);
    command.env("LC_ALL", "C").stdin(std::process::Stdio::null()); // messages that do not depend on who runs us
    Ok(command)
}

/// Runs a tool to its end; its last words become the error.
pub(crate) fn run(name: &str, command: &mut Command) -> Result<Output> {
    let output = command.output().map_err(|error| failed(name, error))?;
    check(name, &output)?;
    Ok(output)
}

/// An error for a tool that has failed.
pub(crate) fn check(name: &str, output: &Output) -> Result<()> {
    if output.status.success() {
        return Ok(());
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    Err(failed(name, format!("{}: {}", output.status, stderr.trim().replace('\n', "; "))))
}

pub(crate) fn failed(tool: &str, reason: impl ToString) -> Error {
    Error::Tool { tool: tool.to_owned(), reason: reason.to_string() }
}
