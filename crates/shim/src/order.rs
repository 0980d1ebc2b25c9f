//! Orders on their way to the driver, and why it has not carried one out.

use hypeman_agent::mux::MAX_STREAMS;
use hypeman_record::kind::Kind;
use hypeman_record::protocol::Refusal;
use tokio::sync::oneshot;

use crate::policy::{Denial, Order};

/// An order, and where its answer goes: at once for one that leads to the VM's end, and else when
/// it was carried out, or has failed.
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
    /// Returns the refusal for the client.
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
