//! What the driver is asked to do, and why it has not done it.

use std::time::Duration;

use hypeman_agent::mux::MAX_STREAMS;
use hypeman_record::kind::Kind;
use hypeman_record::protocol::Refusal;
use tokio::sync::oneshot;

use crate::policy::{Deed, Denial};

/// Asked of the driver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    /// Press the power button.
    PowerButton,
    /// Send the program in the guest a signal.
    Signal(i32),
    /// Ask the guest to end, and end it by force when it has not ended in time.
    Stop(Duration),
    /// End the VMM.
    Kill,
    /// End the VMM, and give up what cannot be written.
    Discard,
    /// Stop the vCPUs.
    Pause,
    /// Let the vCPUs go on.
    Resume,
    /// Write its snapshot, and end the VMM.
    Standby,
    /// Leave the VM as it is, to another shim.
    HandOver,
}

impl Order {
    /// What the policy decides about.
    pub(crate) fn deed(self) -> Deed {
        match self {
            Order::PowerButton => Deed::PowerButton,
            Order::Signal(_) => Deed::Signal,
            Order::Stop(_) => Deed::Stop,
            Order::Kill => Deed::Kill,
            Order::Discard => Deed::Discard,
            Order::Pause => Deed::Pause,
            Order::Resume => Deed::Resume,
            Order::Standby => Deed::Standby,
            Order::HandOver => Deed::HandOver,
        }
    }
}

/// An order, and where its answer goes: at once for one that leads to the VM's end, and else when it was carried out, or has failed.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) order: Order,
    pub(crate) reply: oneshot::Sender<Result<()>>,
}

/// Why something was not done.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("the VMM does not answer")]
    Silent,
    #[error(transparent)]
    Denied(#[from] Denial),
    #[error(transparent)]
    Vmm(#[from] hypeman_vmm::Error),
    #[error("standby failed: {0}")]
    Standby(crate::error::Error),
    #[error("the guest has no agent")]
    NoInit,
    #[error("the guest's agent does not answer")]
    NoAgent,
    #[error("the guest's agent is busy: {MAX_STREAMS} requests are under way")]
    Busy,
    #[error("it is paused")]
    Paused,
    #[error("the guest failed: {0}")]
    Guest(#[from] crate::agent::Failure),
    /// The same answer, for another who has asked for the same.
    #[error("{message}")]
    Same { refusal: Refusal, kind: Kind, message: String },
    #[error("the guest cannot be reached: {0}")]
    Port(#[from] std::io::Error),
}

pub(crate) type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// What whoever asked is told of it.
    pub(crate) fn refusal(&self) -> Refusal {
        match self {
            Error::Silent => Refusal::VmmSilent,
            Error::Denied(_) | Error::Paused => Refusal::WrongState,
            Error::Vmm(_) => Refusal::VmmRefused,
            Error::Standby(_) => Refusal::NotSaved,
            Error::NoInit => Refusal::NoInit,
            Error::NoAgent | Error::Busy | Error::Guest(_) | Error::Port(_) => Refusal::GuestBusy,
            Error::Same { refusal, .. } => *refusal,
        }
    }

    /// Its kind.
    pub(crate) fn kind(&self) -> Kind {
        match self {
            Error::Vmm(error) => error.kind(),
            Error::Standby(error) => error.kind,
            Error::Same { kind, .. } => *kind,
            error => error.refusal().kind(),
        }
    }

    /// The same, for one more who has asked.
    pub(crate) fn again(&self) -> Error {
        Error::Same { refusal: self.refusal(), kind: self.kind(), message: self.to_string() }
    }
}
