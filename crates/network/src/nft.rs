//! The program `nft` (nftables' own syntax, as its users read and write it): what is handed to it
//! is carried out whole or not at all.

use std::path::PathBuf;
use std::time::Duration;

use hypeman_files::AtPath;

use crate::error::{Error, Result};

/// Where it is when it is not in `PATH`, which of users has no directories of the administrator's.
const USUAL: [&str; 2] = ["/usr/sbin/nft", "/sbin/nft"];

/// Timeout for a ruleset: the kernel takes them one after the other, also those of 200 starts at
/// once.
const LIMIT: Duration = Duration::from_secs(120);

/// The program, if it is there.
pub(crate) fn program() -> Option<PathBuf> {
    which::which("nft").ok().or_else(|| USUAL.map(PathBuf::from).into_iter().find(|path| path.is_file()))
}

/// Carries out `commands`.
pub(crate) fn run(commands: &str) -> Result<String> {
    command(&["-f", "-"], commands)
}

/// Refuses a name that is a word of nft's own (`inet`, `table`): no table could be called so.
///
/// # Errors
/// Its words.
pub(crate) fn check_name(name: &str) -> std::result::Result<(), String> {
    match command(&["--check", "-f", "-"], &format!("add table inet {name}\n")) {
        Err(Error::Rules(words)) if words.contains("syntax error") => {
            Err(format!("it is a word of nftables' own ({})", words.lines().next().unwrap_or_default()))
        }
        _ => Ok(()), // where it cannot be asked, the network has no rules either
    }
}

/// Lists the kernel's rules, as JSON (libnftables-json(5)).
pub(crate) fn list(what: &[&str]) -> Result<serde_json::Value> {
    let text = command(&[&["-j", "list"], what].concat(), "")?;
    serde_json::from_str(&text).map_err(|error| Error::Rules(error.to_string()))
}

fn command(arguments: &[&str], input: &str) -> Result<String> {
    let program = program().ok_or_else(|| Error::Unable("nft is not installed".to_owned()))?;
    let mut command = hypeman_process::program(&program);
    let output = hypeman_process::run(command.args(arguments), input.as_bytes(), LIMIT).at(&program)?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(Error::Rules(String::from_utf8_lossy(&output.stderr).trim().to_owned()))
}
