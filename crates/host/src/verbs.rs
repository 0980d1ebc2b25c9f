//! Verbs on an existing instance, a function each.

use std::time::Duration;

use hypeman_record::state::State;
use hypeman_session::Guest;
use hypeman_session::client::Outcome;
use hypeman_session::keys::Keyboard;
use hypeman_snapshot::Algorithm;

use crate::command::Replacement;
use crate::error::{Error, Needs, Result};
use crate::fork::{self, ForkRequest};
use crate::host::Host;
use crate::instance::Instance;
use crate::watch::Watch;
use crate::{adopt, attach, compress, delete, pause, rename, spawn, standby, start, stop, visit};

/// Default timeout for a guest to end, docker's.
pub const STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// Number of SIGKILL: it ends the VM, whatever runs in it.
const KILL: i32 = 9;

/// An instance that was started.
#[derive(Debug)]
pub struct Started {
    /// The instance.
    pub instance: Instance,
    /// Watches it since before its guest ran. As long as this lives, an instance that removes
    /// itself stays.
    pub watch: Watch,
}

impl Host {
    /// Starts an instance; returns when its guest runs and its console is being kept. One that runs
    /// is left as it is.
    ///
    /// # Errors
    /// When it cannot be started, or is in standby; its logs are kept.
    pub fn start(&self, query: &str) -> Result<Started> {
        let instance = self.find_adopted(query)?;
        self.start_found(instance)
    }

    /// As [`Host::start`], with words of its command replaced, from now on.
    ///
    /// # Errors
    /// As [`Host::start`]; and when it runs, or has no command, or a word cannot be used.
    pub fn start_with(&self, query: &str, replacement: &Replacement) -> Result<Started> {
        let instance = self.find_adopted(query)?;
        let instance = start::replace_command(&self.instances, &instance, replacement)?;
        self.start_found(instance)
    }

    pub(crate) fn start_found(&self, instance: Instance) -> Result<Started> {
        let started = start::start(&self.instances, &instance, &self.programs()?)?;
        Ok(self.started(started, instance))
    }

    fn started(&self, started: spawn::Started, instance: Instance) -> Started {
        Started { watch: started.watch(instance.clone(), self.hypeman()), instance }
    }

    /// Asks a guest to end, and kills its VM after `timeout`. Returns how it ended, if there was a
    /// shim to tell. An instance that does not run is left as it is.
    ///
    /// # Errors
    /// When it is in standby, or its shim does not answer.
    pub fn stop(&self, query: &str, timeout: Duration) -> Result<Option<Outcome>> {
        stop::stop(&self.find_adopted(query)?, timeout, self.hypeman())
    }

    /// Sends the program in a guest a signal; SIGKILL ends the VM at once, and gives up the memory
    /// of one in standby.
    ///
    /// # Errors
    /// When it does not run, or no init of ours is in it to pass the signal on.
    pub fn kill(&self, query: &str, signal: Option<i32>) -> Result<Option<Outcome>> {
        let instance = self.find_adopted(query)?;
        match signal.unwrap_or(KILL) {
            KILL => stop::kill(&instance),
            signal => stop::signal(&instance, signal).map(|()| None),
        }
    }

    /// Stops an instance, as [`Host::stop`], and starts it.
    ///
    /// # Errors
    /// As [`Host::stop`] and [`Host::start`].
    pub fn restart(&self, query: &str, timeout: Duration) -> Result<Started> {
        let instance = self.find_adopted(query)?;
        stop::stop(&instance, timeout, self.hypeman())?;
        self.start_found(instance) // one that someone else has started since was restarted
    }

    /// Stops the vCPUs of an instance; returns when they stand.
    ///
    /// # Errors
    /// When it does not run, or its VMM does not answer.
    pub fn pause(&self, query: &str) -> Result<()> {
        pause::pause(&self.find_adopted(query)?)
    }

    /// Lets the vCPUs of an instance go on.
    ///
    /// # Errors
    /// As [`Host::pause`].
    pub fn resume(&self, query: &str) -> Result<()> {
        pause::resume(&self.find_adopted(query)?)
    }

    /// Writes the memory of an instance to disk, and ends its VMM. The memory is then compressed in
    /// the background, if that is asked for.
    ///
    /// # Errors
    /// When it does not run, or its memory cannot be saved; it runs on then.
    pub fn standby(&self, query: &str, compression: Option<Algorithm>) -> Result<()> {
        let instance = self.find(query)?;
        standby::standby(&instance, self.hypeman())?;
        match compression {
            Some(algorithm) => compress::begin(&instance.directory, algorithm, self.hypeman()),
            None => Ok(()),
        }
    }

    /// Lets an instance go on from standby.
    ///
    /// # Errors
    /// When it is not in standby, or cannot go on here; it is in standby as before then.
    pub fn restore(&self, query: &str) -> Result<Started> {
        let instance = self.find(query)?;
        let started = standby::restore(&self.instances, &instance, &self.programs()?)?;
        Ok(self.started(started, instance))
    }

    /// Why an instance in standby cannot go on here as things are.
    #[must_use]
    pub fn hindrance(&self, instance: &Instance) -> Option<String> {
        standby::hindrance(&self.instances, instance)
    }

    /// Makes another instance of one that there is, with its disks and, in a state that needs it,
    /// its memory.
    ///
    /// # Errors
    /// When the name is taken, or the state needs memory that there is not, or the fork does not
    /// come to run; nothing is left then.
    pub fn fork(&self, source: &str, request: &ForkRequest) -> Result<Instance> {
        fork::fork(&self.instances, &self.find(source)?, request, &self.programs()?)
    }

    /// Removes an instance; one that runs only by `force`.
    ///
    /// # Errors
    /// When it runs, or cannot be removed.
    pub fn remove(&self, query: &str, force: bool) -> Result<()> {
        delete::remove(&self.find(query)?, force)
    }

    /// Gives an instance another name.
    ///
    /// # Errors
    /// When the name cannot be used, or is taken.
    pub fn rename(&self, query: &str, name: &str) -> Result<()> {
        rename::rename(&self.instances, &self.find_adopted(query)?, name)
    }

    /// Gives a VM that has lost its shim another. Whether it did so.
    ///
    /// # Errors
    /// When it cannot be taken over, or does not run.
    pub fn adopt(&self, query: &str) -> Result<bool> {
        let instance = self.find(query)?;
        if adopt::adopt(&instance, self.hypeman())? {
            return Ok(true);
        }
        match instance.observe()?.state {
            state if state.is_active() => Ok(false),
            state => Err(instance.refused(state, Needs::Running)),
        }
    }

    /// Has the shim of an instance hand its VM over to one of this program.
    ///
    /// # Errors
    /// When it does not run, its shim is of a release that cannot do so, or it is being ended; it
    /// has the shim then that it had.
    pub fn upgrade_shim(&self, query: &str) -> Result<()> {
        adopt::upgrade(&self.find(query)?, self.hypeman())
    }

    /// Whether the shim of an instance is of another program than this host's, or of one that was
    /// replaced since.
    #[must_use]
    pub fn has_other_shim(&self, instance: &Instance) -> bool {
        adopt::is_of_another_program(instance, self.hypeman())
    }

    /// The guest of an instance. A guest that boots is waited for, at the first question.
    #[must_use]
    pub fn guest(&self, instance: &Instance) -> Guest {
        attach::guest(instance, self.hypeman())
    }

    /// The keyboard of an instance that runs.
    ///
    /// # Errors
    /// When it does not run, or its shim does not answer, or is of an older release.
    pub fn keyboard(&self, instance: &Instance) -> Result<Keyboard> {
        attach::keyboard(instance, self.hypeman())
    }

    /// Has `work` done in the guest of an instance, also of one that was never started: that is
    /// booted for it, with a program that does nothing, and counts as never started again. The
    /// instance that `work` gets is the one to be asked.
    ///
    /// # Errors
    /// When it was never started and cannot be.
    pub fn visit<T>(&self, instance: &Instance, work: impl FnOnce(&Instance) -> T) -> Result<T> {
        if instance.record.command.is_none() || instance.observe()?.state != State::Created {
            return Ok(work(instance));
        }
        visit::visit(&self.instances, instance, &self.programs()?, work)
    }

    /// Passes a signal on that was meant for the program of an instance, the first time to it; a
    /// system is asked to power off, and a kernel alone has its power button pressed. From the
    /// second time on it ends the VM. Nothing happens when that has ended.
    ///
    /// # Errors
    /// When the shim does not answer.
    pub fn interrupt(&self, instance: &Instance, signal: i32, times: u32) -> Result<()> {
        match stop::interrupt(instance, signal, times) {
            Err(Error::State { .. } | Error::NotFound(_)) => Ok(()),
            done => done,
        }
    }

    /// Waits until an instance that removes itself has done so, after the last of those who watch
    /// it is gone.
    ///
    /// # Errors
    /// When its directory is there and cannot be read.
    pub fn wait_for_removal(&self, instance: &Instance) -> Result<()> {
        stop::wait_for_removal(instance)
    }
}
