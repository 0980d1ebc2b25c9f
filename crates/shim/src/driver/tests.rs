use std::cell::RefCell;
use std::path::Path;
use std::process::Command;

use async_trait::async_trait;
use hypeman_vmm::process::Start;
use hypeman_vmm::vm::{Console, KeepConsole};
use tokio::net::UnixStream;
use tokio::sync::watch;
use tokio::task::LocalSet;

use super::*;
use crate::shared::tests::shared;

/// A VM that does nothing but remember what it was asked for; its VMM is a process that only a
/// signal ends.
pub(crate) struct TestVm {
    status: watch::Sender<VmStatus>,
    asked: RefCell<Vec<&'static str>>,
    /// Whether it answers.
    answers: bool,
}

impl TestVm {
    /// One that answers, and whose guest runs.
    pub(crate) fn booted() -> TestVm {
        let vm = vm(true);
        vm.status.send_modify(|status| status.booted = true);
        vm
    }

    /// Returns the requests that it got so far.
    pub(crate) fn asked(&self) -> std::cell::Ref<'_, Vec<&'static str>> {
        self.asked.borrow()
    }

    async fn answer(&self, request: &'static str) -> hypeman_vmm::Result<()> {
        self.asked.borrow_mut().push(request);
        tokio::task::yield_now().await; // no VMM answers at once
        if !self.answers {
            pending::<()>().await;
        }
        Ok(())
    }
}

#[async_trait(?Send)]
impl Vm for TestVm {
    fn status(&self) -> watch::Receiver<VmStatus> {
        self.status.subscribe()
    }
    async fn console(&self) -> hypeman_vmm::Result<Console> {
        unreachable!("its console is not the driver's")
    }
    async fn boot(&self) -> hypeman_vmm::Result<()> {
        self.answer("boot").await
    }
    async fn power_button(&self) -> hypeman_vmm::Result<()> {
        assert!(self.asked.borrow().first() != Some(&"panic"), "a fault");
        self.answer("button").await
    }
    async fn quit(&self) -> hypeman_vmm::Result<()> {
        self.answer("quit").await
    }
    async fn pause(&self) -> hypeman_vmm::Result<()> {
        self.answer("pause").await
    }
    async fn resume(&self) -> hypeman_vmm::Result<()> {
        self.status.send_modify(|status| status.paused = None);
        self.answer("resume").await
    }
    async fn take_added_memory(&self) -> hypeman_vmm::Result<()> {
        Ok(())
    }
    async fn snapshot(&self, _: &Path) -> hypeman_vmm::Result<()> {
        self.answer("snapshot").await
    }
    fn holds_console_back(&self) -> bool {
        false
    }
    async fn rest_of_console(&self, _keep: &mut KeepConsole<'_>) -> hypeman_vmm::Result<Option<Console>> {
        Ok(None)
    }
    async fn abandon_snapshot(&self) -> hypeman_vmm::Result<()> {
        self.answer("abandon").await
    }
    async fn is_halted(&self) -> hypeman_vmm::Result<bool> {
        Ok(false)
    }
    async fn channel(&self, _vsock_port: u32) -> hypeman_vmm::Result<Option<UnixStream>> {
        Ok(None)
    }
}

/// Runs a test beside a driver: it gives orders, and gets what became of the VM.
fn drive<F: Future<Output = ()>>(
    vm: TestVm,
    test: impl FnOnce(mpsc::Sender<Asked>, Rc<TestVm>, Rc<Shared>) -> F,
) -> (Left, Option<Force>) {
    drive_after(Phase::Booting, std::future::ready(()), vm, test)
}

/// The same with a driver that begins in a phase in which something else is waited for.
fn drive_after<F: Future<Output = ()>>(
    phase: Phase,
    first: impl Future<Output = ()>,
    vm: TestVm,
    test: impl FnOnce(mpsc::Sender<Asked>, Rc<TestVm>, Rc<Shared>) -> F,
) -> (Left, Option<Force>) {
    let scratch = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, async {
        let mut sleep = Command::new("sleep");
        sleep.arg("1000");
        let start = Start::new(sleep, Vec::new(), Vec::new());
        let (process, []) = VmmProcess::start(start, &scratch.path().join("vmm.pid"), []).unwrap();
        let shared = shared(scratch.path());
        let (orders, queue) = mpsc::channel(8);
        let mut driver = Driver::new(shared.clone(), queue);
        let vm = Rc::new(vm);
        shared.enter(phase);
        let driven = async {
            let done = driver.meanwhile(first).await;
            assert_eq!(done.is_none(), phase == Phase::Suspending, "only a snapshot is given up");
            driver.watch_over(vm.clone(), &process).await
        };
        let (left, ()) = tokio::join!(driven, test(orders, vm.clone(), shared));
        process.kill().unwrap();
        (left, driver.force())
    })
}

fn vm(answers: bool) -> TestVm {
    TestVm { status: watch::Sender::new(VmStatus::default()), asked: RefCell::default(), answers }
}

async fn give(orders: &mpsc::Sender<Asked>, order: Order) -> Result<()> {
    let (reply, answer) = oneshot::channel();
    orders.send(Asked { order, reply }).await.unwrap();
    answer.await.unwrap()
}

#[test]
fn a_kill_does_not_wait_for_a_stop() {
    for answers in [true, false] {
        let ended = drive(vm(answers), async |orders, vm, _| {
            give(&orders, Order::Stop(Duration::from_secs(600))).await.unwrap();
            give(&orders, Order::Kill).await.unwrap();
            give(&orders, Order::Stop(Duration::from_secs(600))).await.unwrap();
            assert!(give(&orders, Order::Signal(15)).await.is_err(), "it is being ended");
            drop(vm);
        });
        assert!(
            matches!(ended, (Left::Ended(VmmExit::Signal(9)), Some(Force::Asked))),
            "answers: {answers}: {ended:?}"
        );
    }
}

#[test]
fn of_two_who_stop_the_more_impatient_one_counts() {
    let ended = drive(vm(true), async |orders, vm, shared| {
        give(&orders, Order::Stop(Duration::MAX)).await.unwrap();
        assert_eq!(shared.phase(), Phase::Stopping);
        give(&orders, Order::PowerButton).await.unwrap();
        assert!(vm.asked.borrow().contains(&"button"));
        give(&orders, Order::Stop(Duration::ZERO)).await.unwrap();
    });
    assert!(matches!(ended, (Left::Ended(VmmExit::Signal(9)), Some(Force::TimedOut))), "{ended:?}");
}

#[test]
fn a_fault_of_ours_leaves_a_vm_that_can_be_ended() {
    let broken = vm(true);
    broken.asked.borrow_mut().push("panic");
    let ended = drive(broken, async |orders, _, _| {
        let (reply, answer) = oneshot::channel();
        orders.send(Asked { order: Order::PowerButton, reply }).await.unwrap();
        assert!(answer.await.is_err(), "the fault met the one who asked");
        assert!(give(&orders, Order::PowerButton).await.is_err());
        give(&orders, Order::Kill).await.unwrap();
    });
    assert!(matches!(ended, (Left::Ended(VmmExit::Signal(9)), Some(Force::Asked))), "{ended:?}");
}

#[test]
fn a_vm_that_had_no_room_on_the_disk_goes_on_when_there_is() {
    drive(vm(true), async |orders, vm, shared| {
        vm.status.send_modify(|status| status.paused = Some(Paused::DiskFull));
        let mut published = shared.published.subscribe();
        published.wait_for(|published| published.paused == Some(Paused::DiskFull)).await.unwrap();
        published.wait_for(|published| published.paused.is_none()).await.unwrap();
        assert_eq!(*vm.asked.borrow(), ["resume"]);
        // One that someone has paused stays so.
        vm.status.send_modify(|status| status.paused = Some(Paused::Requested));
        published.wait_for(|published| published.paused.is_some()).await.unwrap();
        give(&orders, Order::Kill).await.unwrap();
    });
}

#[test]
fn a_vm_that_someone_has_paused_stays_so_until_someone_resumes_or_stops_it() {
    drive(vm(true), async |orders, vm, _| {
        for order in [Order::Pause, Order::Pause, Order::Resume, Order::Resume, Order::Pause] {
            give(&orders, order).await.unwrap();
        }
        assert_eq!(*vm.asked.borrow(), ["pause", "resume", "pause"], "what holds already is not asked for");
        give(&orders, Order::Stop(Duration::MAX)).await.unwrap();
        give(&orders, Order::PowerButton).await.unwrap();
        assert_eq!(vm.asked.borrow()[3..5], ["resume", "button"], "one that stands still hears no button");
        assert!(give(&orders, Order::Pause).await.is_err(), "it is to end");
        give(&orders, Order::Kill).await.unwrap();
    });
    drive(vm(false), async |orders, _, _| {
        assert!(give(&orders, Order::Pause).await.is_err(), "its VMM does not answer");
        give(&orders, Order::Kill).await.unwrap();
    });
}

#[test]
fn a_vm_is_left_as_it_runs_to_whoever_takes_it_over() {
    let ended = drive(vm(true), async |orders, vm, _| {
        give(&orders, Order::HandOver).await.unwrap();
        assert!(vm.asked.borrow().is_empty());
    });
    assert!(matches!(ended, (Left::ForHandOver, None)), "{ended:?}");
    drive(vm(true), async |orders, _, _| {
        give(&orders, Order::Stop(Duration::MAX)).await.unwrap();
        assert!(give(&orders, Order::HandOver).await.is_err(), "it is to end");
        give(&orders, Order::Kill).await.unwrap();
    });
}

#[test]
fn a_stop_of_a_vm_that_is_being_taken_over_asks_its_guest() {
    let (connected, connection) = oneshot::channel();
    let connection = async { connection.await.unwrap() };
    drive_after(Phase::Adopting, connection, vm(true), async |orders, vm, _| {
        give(&orders, Order::Stop(Duration::MAX)).await.unwrap();
        connected.send(()).unwrap();
        while vm.asked().is_empty() {
            tokio::task::yield_now().await;
        }
        assert_eq!(*vm.asked(), ["button"]);
        give(&orders, Order::Kill).await.unwrap();
    });
}

#[test]
fn a_kill_that_comes_while_a_snapshot_is_written_is_carried_out() {
    for answers in [true, false] {
        let ended = drive_after(Phase::Suspending, pending(), vm(answers), async |orders, vm, _| {
            give(&orders, Order::Kill).await.unwrap();
            drop(vm);
        });
        assert!(
            matches!(ended, (Left::Ended(VmmExit::Signal(9)), Some(Force::Asked))),
            "answers: {answers}: {ended:?}"
        );
    }
}

#[test]
fn what_is_asked_of_a_vm_that_is_being_taken_over_waits_for_it() {
    let (connected, connection) = oneshot::channel();
    let connection = async { connection.await.unwrap() };
    drive_after(Phase::Adopting, connection, vm(true), async |orders, vm, _| {
        let connect = async {
            while orders.capacity() < orders.max_capacity() {
                tokio::task::yield_now().await; // until the driver has it
            }
            connected.send(()).unwrap();
        };
        let (paused, ()) = tokio::join!(give(&orders, Order::Pause), connect);
        paused.unwrap();
        assert_eq!(*vm.asked(), ["pause"]);
        give(&orders, Order::Kill).await.unwrap();
    });
}
