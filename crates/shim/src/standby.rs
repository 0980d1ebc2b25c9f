//! From a VM that runs to a snapshot of it, with nothing of its console lost: what the guest has
//! printed is in the log, on disk, before the VMM that may hold some of it is told to quit.

use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use hypeman_agent::protocol::Order;
use hypeman_console::writer::Writer;
use hypeman_record::kind::Kind;
use hypeman_record::names;
use hypeman_record::spec::Accelerator;
use hypeman_snapshot::cpu::Cpu;
use hypeman_snapshot::standby;
use hypeman_vmm::vm::Vm;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use crate::driver::Driver;
use crate::error::{Error, Result, StartContext};
use crate::keep::Keep;
use crate::logs::{self, Keeper, take_rest};
use crate::shared::Shared;
use crate::vm::Vmm;

/// Timeout for a guest to freeze its programs.
const FREEZING: Duration = Duration::from_secs(1);

/// Timeout for a VMM to stop its vCPUs, or to let them go on.
const SWITCHING: Duration = Duration::from_secs(10);

/// Timeout for a guest to give added memory back.
const GIVING_BACK: Duration = Duration::from_secs(5);

/// Timeout for what the guest has printed to be written. On a full disk that takes for ever.
const WRITING: Duration = Duration::from_secs(10);

/// Timeout for a VMM to quit before it is killed: its memory is saved.
const QUITTING: Duration = Duration::from_millis(500);

/// A VM that is on its way to standby.
pub(crate) struct Suspension<'a> {
    pub(crate) shared: &'a Rc<Shared>,
    pub(crate) vmm: &'a Vmm,
    pub(crate) vm: &'a Rc<dyn Vm>,
    pub(crate) kept: &'a Rc<Keep>,
}

impl Suspension<'_> {
    /// Writes a snapshot of the VM, with its console written before. The console's capture task has
    /// ended then.
    ///
    /// # Errors
    /// When it cannot be written, or is given up for something more important; the VM goes on then,
    /// unless it is to be ended by force, and the console has the capture task that comes with the
    /// error.
    pub(crate) async fn save(
        &self,
        driver: &mut Driver,
        mut keeper: Keeper,
    ) -> std::result::Result<(), (Error, Keeper)> {
        let was_paused = self.vm.status().borrow().paused.is_some();
        let mut log = None;
        let saved = driver.meanwhile(self.write(was_paused, &mut keeper, &mut log)).await;
        // From here on nothing is waited for: either there is a whole snapshot, or there is none.
        let published = saved
            .unwrap_or_else(|| Err(Error::new(Kind::WrongState, "it was given up for another request")))
            .and_then(|()| standby::publish(Path::new(".")).start("finish the snapshot"));
        let Err(error) = published else { return Ok(()) };
        self.shared.journal.note(format_args!("not put to standby: {error}"));
        if let Err(stuck) = standby::withdraw(Path::new(".")) {
            self.shared.journal.note(format_args!("cannot remove the unfinished snapshot: {stuck}"));
            if standby::is_whole(Path::new(".")) {
                return Ok(()); // a VM that went on beside it would be torn in two
            }
        }
        let stands_still = was_paused || driver.force().is_some();
        let keeper = self.go_on(stands_still, keeper, log).await;
        Err((error, keeper))
    }

    async fn write(&self, was_paused: bool, keeper: &mut Keeper, log: &mut Option<Writer>) -> Result<()> {
        if !was_paused && self.shared.launch.spec.hotplug_memory.is_some() {
            match timeout(GIVING_BACK, self.vm.take_added_memory()).await {
                Ok(given) => given.start("take the added memory back")?,
                Err(_) => {
                    self.shared.journal.note("the guest keeps its added memory, which is saved with it")
                }
            }
        }
        // Until it is told what it has missed, nothing of the guest is to run on. One without an
        // agent has to do without.
        if !was_paused && self.shared.agent.is_there() {
            let _ = timeout(FREEZING, self.shared.agent.order(Order::Freeze)).await;
        }
        // First, so that the successor of a killed shim knows why the VM is paused.
        standby::begin(Path::new(".")).start("make the snapshot")?;
        if !was_paused {
            let paused = timeout(SWITCHING, self.vm.pause()).await;
            paused.start("pause the VM")?.start("pause the VM")?;
        }
        // Right after a restore the VMM may serve the connection late.
        self.vm.console_is_served().await;
        keeper.stop();
        *log = timeout(WRITING, keeper.finish()).await.start("write the guest's output")?;
        let written = log.as_mut().ok_or("its log is lost").start("write the guest's output")?;
        timeout(WRITING, take_rest(self.shared, &**self.vm, self.kept, written))
            .await
            .start("write the guest's output")??;
        self.vm.snapshot(Path::new(standby::NEW)).await.start("write the snapshot")?;
        let launch = self.shared.launch.clone();
        let sealed = spawn_blocking(move || {
            std::fs::File::open(names::APP_LOG).and_then(|log| log.sync_all()).start("sync the log")?;
            let on_kvm = launch.spec.accelerator == Accelerator::Kvm;
            let cpu = if on_kvm { Cpu::of_this_host() } else { None };
            standby::seal(Path::new("."), &launch, cpu).start("write the snapshot")
        });
        sealed.await.start("write the snapshot")?
    }

    /// Lets the VM go on whose snapshot was given up, unless it `stands_still`.
    async fn go_on(&self, stands_still: bool, mut keeper: Keeper, log: Option<Writer>) -> Keeper {
        if let Err(error) = self.vm.abandon_snapshot().await {
            self.shared.journal.note(format_args!("the VMM does not give the snapshot up: {error}"));
        }
        let console = match self.kept.connection() {
            Ok(console) => Ok(console),
            Err(_) => self.vm.console().await, // a FIFO's is not kept
        };
        let keeper = match console {
            Ok(console) => {
                keeper.stop(); // it may not have come to that: the next one waits for its log
                // On a full disk the last capture task still has something to write.
                let log = async move { if log.is_some() { log } else { keeper.finish().await } };
                logs::keep_console(self.shared, self.vm.clone(), console, self.kept.clone(), log)
            }
            Err(error) => {
                self.shared.journal.note(format_args!("the console is not kept any more: {error}"));
                keeper
            }
        };
        if !stands_still {
            match timeout(SWITCHING, self.vm.resume()).await {
                Ok(Ok(())) => {
                    self.shared.journal.note("the VM goes on");
                    let thaw = self.shared.agent.order(Order::Thaw { slept: None });
                    let _ = timeout(FREEZING, thaw).await; // after a while its agent does so by itself
                }
                Ok(Err(error)) => self.shared.journal.note(format_args!("the VM does not go on: {error}")),
                Err(_) => self.shared.journal.note("the VM does not go on: its VMM does not answer"),
            }
        }
        keeper
    }

    /// Ends the VMM, whose memory is saved.
    pub(crate) async fn quit(&self, driver: &mut Driver) {
        let quit = async {
            let _ = self.vm.quit().await; // it may end before it answers
            self.vmm.process.ended().await
        };
        if driver.meanwhile(timeout(QUITTING, quit)).await.is_none_or(|ended| ended.is_err()) {
            self.vmm.end().await;
        }
    }
}
