//! An instance that is gone when its test is over, however it is over.

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, Stdio};

use crate::bed::Bed;
use crate::console::whole;
use crate::fixtures::busybox;
use crate::processes::KilledOnDrop;
use crate::wait::{DEADLINE, until, within};

/// A program that does nothing, until it is asked to end.
pub const IDLE: [&str; 3] = ["sh", "-c", "trap 'exit 0' TERM; while :; do sleep 1; done"];

/// A program that prints numbered lines, until it is asked to end.
pub const COUNTING: [&str; 3] =
    ["sh", "-c", "trap 'exit 0' TERM; i=0; while sleep 0.05; do echo \"line $i\"; i=$((i+1)); done"];

/// An instance of a test's.
#[derive(Debug)]
pub struct Instance<'a> {
    /// Where it lies.
    pub bed: &'a Bed,
    /// Its name.
    pub name: String,
}

impl<'a> Instance<'a> {
    /// The one of this name, which a command has made or will make.
    #[must_use]
    pub fn named(bed: &'a Bed, name: &str) -> Instance<'a> {
        Instance { bed, name: name.to_owned() }
    }

    /// `hypeman run -d --name NAME` with these arguments.
    #[must_use]
    pub fn run(bed: &'a Bed, name: &str, arguments: &[&str]) -> Instance<'a> {
        let instance = Instance::named(bed, name);
        bed.ok(&[&["run", "-d", "--name", name], arguments].concat());
        instance
    }

    /// `hypeman run -d` with busybox and an idle program, and these options.
    #[must_use]
    pub fn idle(bed: &'a Bed, name: &str, options: &[&str]) -> Instance<'a> {
        Instance::run(bed, name, &[options, &[busybox()], &IDLE].concat())
    }

    /// Its directory.
    #[must_use]
    pub fn directory(&self) -> PathBuf {
        let id = self.bed.inspect(&self.name)["id"].as_str().expect("an id").to_owned();
        self.bed.data_dir.join("instances").join(id)
    }

    /// The file of its console's log.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.directory().join("logs/app.log")
    }

    /// Waits until it has printed some more lines, whatever is rotated meanwhile.
    ///
    /// # Panics
    /// When it does not.
    pub fn prints(&self) {
        let log = self.log();
        let before = whole(&log).len();
        until("the log grows", || whole(&log).len() > before + 1000);
    }

    /// Its state.
    #[must_use]
    pub fn state(&self) -> String {
        self.bed.inspect(&self.name)["state"].as_str().expect("a state").to_owned()
    }

    /// Waits for its end; returns the exit code.
    ///
    /// # Panics
    /// When it does not end.
    #[must_use]
    pub fn wait(&self) -> i32 {
        let mut wait =
            self.bed.command(&["wait", &self.name]).stdout(Stdio::piped()).spawn().expect("hypeman wait");
        let ended = within(DEADLINE, || wait.try_wait().expect("hypeman wait"));
        let _ = wait.kill();
        assert!(ended.is_some_and(|status| status.success()), "{} has not ended: {ended:?}", self.name);
        let output = wait.wait_with_output().expect("its output").stdout;
        String::from_utf8_lossy(&output).trim().parse().expect("an exit code")
    }

    /// Tells the test guest that prints until it is told to come to its end, by typing. Whoever
    /// types stays until dropped.
    ///
    /// # Panics
    /// When nobody can type.
    #[must_use]
    pub fn tell_to_end(&self) -> KilledOnDrop {
        let mut command = self.bed.command(&["attach", &self.name]);
        let mut typist = command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().expect("hypeman attach");
        typist.stdin.as_mut().expect("piped").write_all(b"\x04").expect("type");
        KilledOnDrop(typist)
    }

    /// A process id from its record: `shim` or `vmm`.
    #[must_use]
    pub fn pid(&self, of: &str) -> u32 {
        let pid = self.bed.inspect(&self.name)["run"][of]["pid"].as_u64().expect("a pid");
        u32::try_from(pid).expect("a pid")
    }

    /// Kills a process of its record with SIGKILL: `shim` or `vmm`.
    ///
    /// # Panics
    /// When it has ended already.
    pub fn kill(&self, of: &str) {
        let pid = i32::try_from(self.pid(of)).ok().and_then(rustix::process::Pid::from_raw).expect("a pid");
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("kill -9");
    }

    /// Follows its console until a line contains `text`; returns the lines up to there.
    ///
    /// # Panics
    /// When the VM ends without such a line.
    #[must_use]
    pub fn read_until(&self, text: &str) -> Vec<String> {
        let mut follower = self.follow();
        let lines = BufReader::new(follower.stdout.take().expect("piped")).lines().map_while(Result::ok);
        let mut seen = Vec::new();
        let mut found = false;
        for line in lines {
            found = line.contains(text);
            seen.push(line);
            if found {
                break;
            }
        }
        let _ = follower.kill();
        let _ = follower.wait();
        assert!(found, "no line with {text:?}, but {seen:#?}");
        seen
    }

    /// `hypeman logs -f`, to be read or killed.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn follow(&self) -> Child {
        self.bed.command(&["logs", "-f", &self.name]).stdout(Stdio::piped()).spawn().expect("hypeman logs")
    }
}

impl Drop for Instance<'_> {
    fn drop(&mut self) {
        let outcome = self.bed.run(&["rm", "-f", &self.name]);
        // It may have removed itself; and a test that fails already shall fail with its own words.
        let gone = outcome.code == 0 || outcome.stderr.contains("no such instance");
        assert!(gone || std::thread::panicking(), "{outcome:?}");
    }
}
