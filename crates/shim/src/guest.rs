//! Messages of the shim itself to its guest: signals, and the report of a standby. They go to the
//! agent, or to the init of a release before there was one.

use std::rc::Rc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hypeman_agent::protocol::{Order, Slept};
use hypeman_record::guest::control;
use hypeman_record::launch::{Guest, Launch};
use hypeman_record::record::Record;
use hypeman_vmm::vm::Vm;
use tokio::sync::oneshot;
use tokio::task::spawn_local;

use crate::agent::Failure;
use crate::order::{Error, Result};
use crate::shared::Shared;
use crate::{old_init, relay};

/// Timeout for a guest to do something that is no more than a word: one that has still to boot
/// needs some time.
const WORD: Duration = Duration::from_secs(20);

/// Time in which a VM ends whose program has died.
const ENDING: Duration = Duration::from_secs(10);

/// Random bytes for a guest that has slept.
const SEED: usize = 64;

/// Passes a signal on, beside all else: its guest may still boot.
pub(crate) fn signal(shared: Rc<Shared>, vm: Rc<dyn Vm>, signal: i32, reply: oneshot::Sender<Result<()>>) {
    spawn_local(async move {
        let passed_on = tokio::time::timeout(WORD, pass_on(&shared, vm, signal)).await;
        let _ = reply.send(passed_on.unwrap_or(Err(Error::NoAgent))); // whoever asked may have hung up
    });
}

/// Sends the program in the guest a signal; where its own init is that, the init.
async fn pass_on(shared: &Shared, vm: Rc<dyn Vm>, signal: i32) -> Result<()> {
    if old_init::is_in(&shared.launch) && shared.launch.guest == Guest::Exec {
        return old_init::send(&shared.old_init, vm, control::Request::Signal { signal }).await;
    }
    relay::reach(shared).await?;
    match shared.agent.order(Order::Signal { signal }).await {
        // A program that dies of a signal ends its VM, and the agent's answer may go with that.
        Err(Failure::Gone) if has_ended_soon(shared).await => Ok(()),
        answered => Ok(answered?),
    }
}

/// Whether the VM ends, as one does whose agent has gone because its program has ended.
async fn has_ended_soon(shared: &Shared) -> bool {
    let mut published = shared.published.subscribe();
    let ended = published.wait_for(|published| published.end.is_some());
    tokio::time::timeout(ENDING, ended).await.is_ok()
}

/// Has the guest told what it has missed. One without anybody of ours has to find out by itself.
pub(crate) fn has_slept(shared: &Rc<Shared>, vm: &Rc<dyn Vm>) {
    let slept = slept(&shared.launch);
    if !old_init::is_in(&shared.launch) {
        return shared.agent.has_slept(slept);
    }
    let wake = control::Request::Wake { unix_nanoseconds: slept.unix_nanoseconds, hostname: slept.hostname };
    let (shared, vm) = (shared.clone(), vm.clone());
    spawn_local(async move {
        match old_init::send(&shared.old_init, vm, wake).await {
            Ok(()) | Err(Error::NoInit) => {}
            Err(error) => shared.journal.note(format_args!("the guest's clock stays behind: {error}")),
        }
    });
}

/// The time, as a guest is told it.
pub(crate) fn unix_nanoseconds() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_nanos()).unwrap_or(u64::MAX)
}

/// Makes the report of a standby for a restored guest.
fn slept(launch: &Launch) -> Slept {
    let mut seed = [0; SEED];
    let _ = rustix::rand::getrandom(&mut seed, rustix::rand::GetRandomFlags::empty()); // never too much at once (getrandom(2))
    let id =
        std::env::current_dir().ok().and_then(|directory| Some(directory.file_name()?.to_str()?.to_owned()));
    Slept {
        unix_nanoseconds: unix_nanoseconds(),
        hostname: launch.spec.name.clone(),
        machine_id: Record::machine_id(&id.unwrap_or_default()),
        network: launch.network.as_ref().map(|network| network.guest.clone()),
        seed: seed.iter().map(|byte| format!("{byte:02x}")).collect(),
    }
}
