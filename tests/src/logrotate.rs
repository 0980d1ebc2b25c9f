//! The real logrotate.

use std::path::Path;
use std::process::Command;

use crate::needs::find;

/// The real logrotate, with `copytruncate`.
#[derive(Debug)]
pub struct Logrotate(tempfile::TempDir);

impl Logrotate {
    /// For one log, with these rules besides.
    ///
    /// # Panics
    /// When the rules cannot be written.
    #[must_use]
    pub fn new(log: &Path, rules: &str) -> Logrotate {
        let scratch = tempfile::tempdir().expect("a directory");
        let su = if rustix::process::geteuid().is_root() { "su root root\n" } else { "" };
        let rules = format!("{} {{\ncopytruncate\n{rules}\n{su}}}\n", log.display());
        std::fs::write(scratch.path().join("rules"), rules).expect("write the rules");
        Logrotate(scratch)
    }

    /// Rotates.
    ///
    /// # Panics
    /// When it fails.
    pub fn run(&self) {
        let mut command = Command::new(find("logrotate").expect("logrotate"));
        let (state, rules) = (self.0.path().join("state"), self.0.path().join("rules"));
        let output = command.arg("--force").arg("--state").arg(state).arg(rules).output();
        let output = output.expect("run logrotate");
        assert!(output.status.success(), "{output:?}");
    }
}
