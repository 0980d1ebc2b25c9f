//! Finding a hypervisor's program, and asking it for its version.

use std::path::{Path, PathBuf};
use std::time::Duration;

use hypeman_record::program::Program;

use crate::error::{Error, Result};
use crate::findings::{Findings, key_of_program};

/// Timeout for a program's version: others wait meanwhile.
const VERSION: Duration = Duration::from_secs(10);

/// Finds `name` at `path` if that is given, or else where the environment variable `variable` says,
/// or else in `PATH`. Its version is remembered in `findings`.
///
/// # Errors
/// When it is not there, or does not run.
pub(crate) fn discover(
    name: &'static str,
    path: Option<&Path>,
    variable: &str,
    findings: &Findings,
) -> Result<Program> {
    let named = match path {
        Some(path) => Some((name, path.to_owned())),
        None => std::env::var_os(variable)
            .filter(|value| !value.is_empty())
            .map(|value| (variable, PathBuf::from(value))),
    };
    let path = match named {
        Some((by, path)) => which::which(&path).map_err(|error| Error::Unusable {
            by: format!("{by}: "),
            path,
            reason: format!("it cannot be run: {error}"),
        })?,
        None => which::which(name).map_err(|_| Error::NotInstalled { program: name })?,
    };
    let version = match key_of_program("version", &path) {
        Some(key) => findings.find_once(&key, || version(&path))?,
        None => version(&path)?,
    };
    Ok(Program { path, version })
}

fn version(path: &Path) -> Result<String> {
    let broken = |why: String| {
        let reason = format!("--version failed: {why}");
        Error::Unusable { by: String::new(), path: path.to_owned(), reason }
    };
    let output = hypeman_process::run(hypeman_process::program(path).arg("--version"), b"", VERSION);
    let output = output.map_err(|error| broken(error.to_string()))?;
    if !output.status.success() {
        return Err(broken(format!("{}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim())));
    }
    parse_version(&String::from_utf8_lossy(&output.stdout))
        .ok_or_else(|| broken("it prints no version".to_owned()))
}

/// The first word that begins with a digit, or `v` and a digit.
fn parse_version(text: &str) -> Option<String> {
    let word = text.split_whitespace().map(|word| word.strip_prefix('v').unwrap_or(word));
    word.into_iter().find(|word| word.starts_with(|c: char| c.is_ascii_digit())).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    #[test]
    fn versions_as_qemu_and_cloud_hypervisor_print_them() {
        let parse = |text| super::parse_version(text);
        assert_eq!(parse("QEMU emulator version 7.2.22 (Debian 1:7.2)\nCopyright"), Some("7.2.22".into()));
        assert_eq!(parse("cloud-hypervisor v53.0.0\n"), Some("53.0.0".into()));
        assert_eq!(parse("hello\n"), None);
    }
}
