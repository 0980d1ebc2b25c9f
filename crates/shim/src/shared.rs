//! What the tasks of one shim share.

use std::cell::{Cell, RefCell};
use std::os::unix::net::UnixStream;
use std::rc::Rc;

use hypeman_record::end::End;
use hypeman_record::launch::Launch;
use hypeman_record::run::Run;
use hypeman_vmm::vm::Vm;
use tokio::sync::{Mutex, watch};
use tokio_util::sync::CancellationToken;

use crate::journal::Journal;

/// One VM, what is known of it and what is to become of it.
pub(crate) struct Shared {
    /// The order.
    pub(crate) launch: Launch,
    /// Our own log.
    pub(crate) journal: Rc<Journal>,
    /// The VMM's API.
    pub(crate) vm: Mutex<Box<dyn Vm>>,
    /// The record of this run; without its end as long as it runs.
    pub(crate) run: Run,
    /// Whether we have ended the VM by force.
    pub(crate) forced: Cell<bool>,
    /// Whether we have ended it because its guest had halted.
    pub(crate) halted: Cell<bool>,
    /// The VMM's process has ended: keep what it left in the pipes, and stop.
    pub(crate) vmm_gone: CancellationToken,
    /// The instance is to be removed: do not wait for room for what cannot be written.
    pub(crate) discard: CancellationToken,
    /// How it ended, once everything is on disk.
    pub(crate) end: watch::Sender<Option<End>>,
    /// The connection to init's control port, made at the first use.
    pub(crate) control: RefCell<Option<UnixStream>>,
}
