//! An instance that is gone when its test is over, however it is over.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Stdio};

use crate::bed::Bed;

/// An instance of a test's.
#[derive(Debug)]
pub struct Instance<'a> {
    /// Where it lies.
    pub bed: &'a Bed,
    /// Its name.
    pub name: String,
}

impl<'a> Instance<'a> {
    /// `hypeman run -d --name NAME` with these arguments.
    #[must_use]
    pub fn run(bed: &'a Bed, name: &str, arguments: &[&str]) -> Instance<'a> {
        let instance = Instance { bed, name: name.to_owned() };
        bed.ok(&[&["run", "-d", "--name", name], arguments].concat());
        instance
    }

    /// Its directory.
    #[must_use]
    pub fn directory(&self) -> PathBuf {
        let id = self.bed.inspect(&self.name)["id"].as_str().expect("an id").to_owned();
        self.bed.data_dir.join("instances").join(id)
    }

    /// Waits for its end; returns the exit code.
    #[must_use]
    pub fn wait(&self) -> i32 {
        self.bed.ok(&["wait", &self.name]).parse().expect("an exit code")
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
        let gone = outcome.code == 0 || outcome.stderr.contains("no instance is named");
        assert!(gone || std::thread::panicking(), "{outcome:?}");
    }
}
