//! A guest under torture, and the account of what it has printed.

use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use hypeman_tests::bed::Bed;
use hypeman_tests::guest::Guest;
use hypeman_tests::logrotate::Logrotate;
use hypeman_tests::processes;
use hypeman_tests::vm::Instance;
use hypeman_tests::wait::until;
use rustix::process::Pid;
use testguest::account::Account;
use testguest::check::Sequence;

use crate::pieces;

/// Size of one file of its log, in bytes.
const MAX_SIZE: u64 = 1 << 20;

/// A guest that prints as fast as it can.
pub(crate) struct Victim<'a> {
    pub(crate) vm: Instance<'a>,
    directory: PathBuf,
    /// Its log's current file.
    pub(crate) log: PathBuf,
    pub(crate) logrotate: Logrotate,
    /// Where logrotate puts its copies.
    copies: tempfile::TempDir,
    /// How many files were renamed.
    aside: AtomicU32,
    sequence: Sequence,
    /// Its name, and what is particular about it.
    title: String,
}

impl Victim<'_> {
    /// Starts it; every other one never waits for the disk.
    pub(crate) fn start<'a>(bed: &'a Bed, number: usize, kind: &[&str]) -> Victim<'a> {
        let (name, size) = (format!("guest-{number}"), MAX_SIZE.to_string());
        let mut guest = Guest::new(bed, &name).until_told().with(kind);
        guest = guest.with(&["--log-max-size", &size, "--log-max-files", "1000"]);
        let mut title = format!("{name} ({})", kind[1]);
        if number % 2 == 1 {
            guest = guest.with(&["--log-opt", "mode=non-blocking", "--log-opt", "max-buffer-size=64k"]);
            title += " non-blocking";
        }
        let sequence = Sequence::new(&guest.options());
        let vm = guest.run();
        let (directory, log) = (vm.directory(), vm.log());
        let copies = tempfile::tempdir().expect("a directory");
        let rules = format!("rotate 100000\nolddir {}", copies.path().display());
        let logrotate = Logrotate::new(&log, &rules);
        Victim { vm, directory, log, logrotate, copies, aside: AtomicU32::new(0), sequence, title }
    }

    /// The shim that it has now.
    pub(crate) fn shim(&self) -> Option<Pid> {
        processes::shim(&self.directory)
    }

    /// Whether its log's current file has some lines, and will not be rotated in the next moment:
    /// so that whoever takes it away takes what tells its place.
    pub(crate) fn log_is_amid(&self) -> bool {
        self.log.metadata().is_ok_and(|file| (MAX_SIZE / 64..MAX_SIZE * 3 / 4).contains(&file.len()))
    }

    /// Where the current file can be renamed to.
    pub(crate) fn next_place_aside(&self) -> PathBuf {
        let number = self.aside.fetch_add(1, Ordering::Relaxed);
        self.log.with_file_name(format!("{}{number}", pieces::ASIDE))
    }

    /// Lets it go on and come to its end by itself; tells what became of all that it has printed.
    pub(crate) fn account(&self) -> Result<Account, String> {
        self.revive();
        let _typist = self.vm.tell_to_end();
        let code = self.vm.wait();
        let pieces = pieces::gather(&self.log, self.copies.path(), &self.sequence)?;
        let journal = self.vm.bed.run(&["logs", "--source", "hypeman", &self.vm.name]).stdout;
        let account = self.sequence.account(&pieces).and_then(|account| {
            // Cloud Hypervisor's unsent output is lost with it, when no shim gets a processor while
            // the guest ends (docs/limits.md).
            let is_whole = account.has_ended || journal.contains("holding output back");
            if is_whole { Ok(account) } else { Err("its last line is missing".to_owned()) }
        });
        let account = account.map_err(|error| {
            let kept = pieces::keep(&pieces, &self.vm.name);
            format!("{error}; its log in pieces is in {}\n{journal}", kept.display())
        })?;
        if code == 0 { Ok(account) } else { Err(format!("it ended with {code}")) }
    }

    /// Whatever was begun on it is brought to its end, and it runs.
    fn revive(&self) {
        until("it runs", || {
            let state = self.vm.state();
            let verb = match &*state {
                "Running" => return true,
                "Paused" => "resume",
                "Standby" => "restore",
                "Initializing" | "Shutdown" => return false,
                _ => panic!(
                    "{self} is {state}: {}",
                    self.vm.bed.ok(&["logs", "--source", "hypeman", &self.vm.name])
                ),
            };
            let _ = self.vm.bed.run(&[verb, &self.vm.name]);
            false
        });
    }
}

impl fmt::Display for Victim<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.title)
    }
}
