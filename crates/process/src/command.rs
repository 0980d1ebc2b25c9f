//! Commands without the caller's environment, which may hold secrets.

use std::path::Path;
use std::process::Command;

/// Variables of the caller's that `hypeman` itself has a use for.
const KEPT: [&str; 3] = ["PATH", "RUST_BACKTRACE", "TZ"];

/// A command that runs the program `hypeman`. It stays in memory as long as a VM, and gets of the
/// caller's environment only what it has a use for. The caller's descriptors are not its business:
/// `hypeman` has closed them to those whom it starts when it began.
#[must_use]
pub fn hypeman(path: &Path) -> Command {
    with(path, &KEPT)
}

/// A command that runs another program, with `PATH` and nothing else.
#[must_use]
pub fn program(path: &Path) -> Command {
    with(path, &KEPT[..1])
}

fn with(path: &Path, variables: &[&str]) -> Command {
    let mut command = Command::new(path);
    command.env_clear().envs(variables.iter().filter_map(|name| Some((name, std::env::var_os(name)?))));
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_has_the_path_and_nothing_else_of_ours() {
        let output = program(Path::new("env")).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(text.starts_with("PATH=") && text.lines().count() == 1, "{text}");
    }
}
