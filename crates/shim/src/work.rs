//! Pieces of work: what is asked of a VMM, with a limit for its answer.

use std::future::pending;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use hypeman_agent::protocol::Order;
use hypeman_vmm::vm::Vm;

use crate::order::{Error, Result};
use crate::shared::Shared;

/// Time a VMM is given to answer.
const ANSWER: Duration = Duration::from_secs(1);

/// Time a VMM is given to tell whether its guest has halted: nobody waits for that, and it may be
/// asked again then.
const LOOK: Duration = crate::halt::LOOK;

/// Time a VMM is given to quit before it is killed.
const QUIT: Duration = Duration::from_millis(500);

/// Purpose of a piece of work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The power button is pressed.
    Press,
    /// The VMM quits.
    Quit,
    /// The guest goes on, where its disk had no room.
    Resume,
    /// The guest is paused, because someone has asked for it.
    Hold,
    /// The guest goes on, because someone has asked for it.
    Release,
    /// It is found out whether the guest has halted.
    Look,
    /// It is found out whether a guest that nobody has paused can go on.
    Examine,
}

/// A piece of work that is under way. Dropping it gives up the answer.
pub(crate) struct Work {
    pub(crate) kind: Kind,
    future: Pin<Box<dyn Future<Output = Result<bool>>>>,
}

impl Work {
    pub(crate) fn press(vm: &Rc<dyn Vm>) -> Work {
        let vm = vm.clone();
        Work::new(Kind::Press, ANSWER, async move { vm.power_button().await.map(|()| true) })
    }

    /// Asks the guest to end by its agent, or by the power button if that fails.
    pub(crate) fn ask(vm: &Rc<dyn Vm>, shared: &Rc<Shared>) -> Work {
        let (vm, shared) = (vm.clone(), shared.clone());
        Work::new(Kind::Press, ANSWER, async move {
            let asked = tokio::time::timeout(ANSWER / 2, shared.agent.order(Order::Stop)).await;
            if !matches!(asked, Ok(Ok(()))) {
                vm.power_button().await?;
            }
            Ok(true)
        })
    }

    pub(crate) fn resume(vm: &Rc<dyn Vm>) -> Work {
        Work::going_on(Kind::Resume, vm)
    }

    pub(crate) fn hold(vm: &Rc<dyn Vm>) -> Work {
        let vm = vm.clone();
        Work::new(Kind::Hold, ANSWER, async move { vm.pause().await.map(|()| true) })
    }

    pub(crate) fn release(vm: &Rc<dyn Vm>) -> Work {
        Work::going_on(Kind::Release, vm)
    }

    fn going_on(kind: Kind, vm: &Rc<dyn Vm>) -> Work {
        let vm = vm.clone();
        Work::new(kind, ANSWER, async move { vm.resume().await.map(|()| true) })
    }

    pub(crate) fn look(vm: &Rc<dyn Vm>) -> Work {
        let vm = vm.clone();
        Work::new(Kind::Look, LOOK, async move { vm.is_halted().await })
    }

    pub(crate) fn examine(vm: &Rc<dyn Vm>) -> Work {
        let vm = vm.clone();
        Work::new(Kind::Examine, LOOK, async move { vm.is_unrunnable().await })
    }

    /// Is done when the VMM should have ended, and has not.
    pub(crate) fn quit(vm: &Rc<dyn Vm>) -> Work {
        let vm = vm.clone();
        Work::new(Kind::Quit, QUIT, async move {
            vm.quit().await?;
            pending().await
        })
    }

    fn new(
        kind: Kind,
        limit: Duration,
        work: impl Future<Output = hypeman_vmm::Result<bool>> + 'static,
    ) -> Work {
        let future = Box::pin(async move {
            match tokio::time::timeout(limit, work).await {
                Ok(done) => Ok(done?),
                Err(_) => Err(Error::Silent),
            }
        });
        Work { kind, future }
    }

    /// Waits for the outcome of what is under way; for ever when nothing is.
    pub(crate) async fn done(work: &mut Option<Work>) -> Result<bool> {
        match work {
            Some(work) => (&mut work.future).await,
            None => pending().await,
        }
    }
}
