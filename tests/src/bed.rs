//! The binary under test, and a data directory.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// A `hypeman` with a data directory of its own.
#[derive(Debug, Clone)]
pub struct Bed {
    /// The binary.
    pub hypeman: PathBuf,
    /// The data directory.
    pub data_dir: PathBuf,
    /// Set for each command.
    environment: Vec<(String, OsString)>,
    /// User that runs each command, if it is not us.
    user: Option<u32>,
    /// Where each command runs, if it is not here.
    namespace: Option<String>,
}

/// Result of a command.
#[derive(Debug)]
pub struct Outcome {
    /// Exit code; 128 + signal for one that was killed.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Bed {
    /// The bed at `data_dir` for the binary that was built with these tests.
    ///
    /// # Panics
    /// When the binary is not there.
    #[must_use]
    pub fn new(data_dir: &Path) -> Bed {
        // target/<triple>/debug/deps/e2e-... -> target/<triple>/debug/hypeman
        let exe = std::env::current_exe().expect("the path of the test binary");
        let hypeman = exe.ancestors().nth(2).expect("target/.../debug").join("hypeman");
        assert!(
            hypeman.is_file(),
            "{} is not built: run `cargo build --workspace --bins`",
            hypeman.display()
        );
        // The machine that tests run on is left as it is, but for those in a network of their own.
        let environment = vec![("HYPEMAN_NETWORK".to_owned(), "none".into())];
        Bed { hypeman, data_dir: data_dir.to_owned(), environment, user: None, namespace: None }
    }

    /// The same for another binary.
    #[must_use]
    pub fn of(mut self, hypeman: PathBuf) -> Bed {
        self.hypeman = hypeman;
        self
    }

    /// The same with a variable set.
    #[must_use]
    pub fn with(mut self, variable: &str, value: impl Into<OsString>) -> Bed {
        self.environment.push((variable.to_owned(), value.into()));
        self
    }

    /// The same with commands that this user runs, who has to be able to.
    #[must_use]
    pub fn as_user(mut self, user: u32) -> Bed {
        self.user = Some(user);
        self
    }

    /// The same with commands in this network namespace.
    #[must_use]
    pub fn in_namespace(mut self, namespace: &str) -> Bed {
        self.namespace = Some(namespace.to_owned());
        self
    }

    /// A command of hypeman's, to be run as the test likes.
    #[must_use]
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = match &self.namespace {
            Some(namespace) => crate::netns::in_namespace(namespace, self.user, &self.hypeman, arguments),
            None => {
                let mut command = Command::new(&self.hypeman);
                command.args(arguments);
                command
            }
        };
        command.env("HYPEMAN_DATA_DIR", &self.data_dir).stdin(std::process::Stdio::null());
        command.envs(self.environment.iter().cloned());
        if let (Some(user), None) = (self.user, &self.namespace) {
            command.uid(user).gid(user);
        }
        command
    }

    /// Runs a command to its end.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn run(&self, arguments: &[&str]) -> Outcome {
        self.command(arguments).output().expect("run hypeman").into()
    }

    /// Runs a command that has to succeed; returns what it printed, trimmed.
    ///
    /// # Panics
    /// When it fails, with all it said.
    pub fn ok(&self, arguments: &[&str]) -> String {
        let outcome = self.run(arguments);
        assert_eq!(outcome.code, 0, "hypeman {arguments:?}: {outcome:?}");
        outcome.stdout.trim().to_owned()
    }

    /// Returns the trimmed output of a shell script that is run in a guest by `exec`.
    ///
    /// # Panics
    /// When it fails.
    pub fn shell(&self, name: &str, script: &str) -> String {
        self.ok(&["exec", name, "sh", "-c", script])
    }

    /// Runs a command that has to fail with all of `words` in its error.
    ///
    /// # Panics
    /// When it succeeds or says something else.
    pub fn fails(&self, arguments: &[&str], words: &[&str]) {
        let outcome = self.run(arguments);
        assert_ne!(outcome.code, 0, "hypeman {arguments:?} should have failed: {outcome:?}");
        for word in words {
            assert!(
                outcome.stderr.contains(word),
                "hypeman {arguments:?} should have named {word:?}: {outcome:?}"
            );
        }
        assert!(!outcome.stderr.contains("panicked"), "{outcome:?}");
    }

    /// The instance as `hypeman inspect` tells it.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    pub fn inspect(&self, name: &str) -> serde_json::Value {
        let documents: serde_json::Value = serde_json::from_str(&self.ok(&["inspect", name])).expect("JSON");
        documents[0].clone()
    }

    /// Names of what lies in the directory of the instances, the lock aside.
    #[must_use]
    pub fn instance_directories(&self) -> Vec<String> {
        let Ok(entries) = std::fs::read_dir(self.data_dir.join("instances")) else {
            return Vec::new();
        };
        let names = entries.map(|entry| entry.expect("entry").file_name().to_string_lossy().into_owned());
        names.filter(|name| name != ".lock").collect()
    }
}

impl From<Output> for Outcome {
    fn from(output: Output) -> Outcome {
        use std::os::unix::process::ExitStatusExt;
        let status = output.status;
        Outcome {
            code: status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0)),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}
