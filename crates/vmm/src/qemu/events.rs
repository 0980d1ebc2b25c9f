//! Status of a VM from QMP's events (qapi/run-state.json, qapi/block-core.json).

use hypeman_record::end::ShutdownReason;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::qmp::Event;
use crate::vm::{Paused, VmStatus};

/// State between two events.
#[derive(Debug, Default)]
pub(crate) struct Events {
    panicked: bool,
    /// The disk error for which QEMU stops the VM next.
    stops_for: Option<Paused>,
}

impl Events {
    /// Updates the status by an event.
    pub(crate) fn apply(&mut self, event: &Event, status: &mut VmStatus) {
        match event.name.as_str() {
            "GUEST_PANICKED" => self.panicked = true,
            "BLOCK_IO_ERROR" => self.stops_for = told(event).and_then(stops_for),
            "STOP" => {
                status.paused = Some(self.stops_for.take().unwrap_or(Paused::Requested));
            }
            "RESUME" => {
                status.booted = true;
                status.paused = None;
            }
            "SHUTDOWN" => {
                let reset = told(event).and_then(|shutdown: Shutdown| reason(shutdown.reason));
                let dead = self.panicked && reset == Some(ShutdownReason::GuestReset);
                status.shutdown = if dead { Some(ShutdownReason::GuestPanic) } else { reset };
            }
            _ => {}
        }
    }
}

/// The data of an event; `None` when it is not what QEMU's schema says.
fn told<T: DeserializeOwned>(event: &Event) -> Option<T> {
    T::deserialize(&event.data).ok()
}

/// Data of BLOCK_IO_ERROR.
#[derive(Deserialize)]
struct BlockError {
    action: String,
    nospace: Option<bool>,
    reason: String,
}

/// Data of SHUTDOWN.
#[derive(Deserialize)]
struct Shutdown {
    reason: Cause,
}

/// Why a VM was shut down (`ShutdownCause`).
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Cause {
    GuestShutdown,
    GuestReset,
    SubsystemReset,
    GuestPanic,
    HostQmpQuit,
    HostQmpSystemReset,
    HostUi,
    HostSignal,
    #[serde(other)]
    Other,
}

/// Why QEMU is about to stop the VM, if an error of a disk makes it do so.
fn stops_for(error: BlockError) -> Option<Paused> {
    match (error.action.as_str(), error.nospace) {
        ("stop", Some(true)) => Some(Paused::DiskFull),
        ("stop", _) => Some(Paused::DiskError(error.reason)),
        _ => None,
    }
}

/// The cause in our words; `None` for one that tells nothing.
fn reason(cause: Cause) -> Option<ShutdownReason> {
    match cause {
        Cause::GuestShutdown => Some(ShutdownReason::GuestShutdown),
        Cause::GuestReset | Cause::SubsystemReset => Some(ShutdownReason::GuestReset),
        Cause::GuestPanic => Some(ShutdownReason::GuestPanic),
        Cause::HostQmpQuit | Cause::HostQmpSystemReset | Cause::HostUi => Some(ShutdownReason::HostRequest),
        Cause::HostSignal => Some(ShutdownReason::HostSignal),
        Cause::Other => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The status after these events, as QEMU prints them.
    fn after(events: &[&str]) -> VmStatus {
        let mut status = VmStatus::default();
        let mut folded = Events::default();
        for text in events {
            let event = format!("{{\"timestamp\": {{\"seconds\": 1, \"microseconds\": 1}}, {text}}}");
            folded.apply(&serde_json::from_str(&event).unwrap(), &mut status);
        }
        status
    }

    const RESUME: &str = r#""event": "RESUME""#;
    const STOP: &str = r#""event": "STOP""#;

    #[test]
    fn a_full_disk_is_told_from_someone_who_pauses_the_vm() {
        let error = |nospace, action: &str| {
            format!(
                r#""event": "BLOCK_IO_ERROR", "data": {{"device": "disk1", "operation": "write", "action": "{action}",
                "nospace": {nospace}, "reason": "No space left on device"}}"#
            )
        };
        assert_eq!(after(&[RESUME, STOP]).paused, Some(Paused::Requested));
        assert_eq!(after(&[RESUME, &error(true, "stop"), STOP]).paused, Some(Paused::DiskFull));
        assert!(matches!(after(&[RESUME, &error(false, "stop"), STOP]).paused, Some(Paused::DiskError(_))));
        assert_eq!(after(&[RESUME, &error(true, "report"), STOP]).paused, Some(Paused::Requested));
        assert_eq!(after(&[RESUME, &error(true, "stop"), STOP, RESUME]).paused, None);
        assert!(after(&[RESUME]).booted && !after(&[]).booted);
    }

    #[test]
    fn a_panic_that_resets_is_told_from_a_reboot() {
        let reset = r#""event": "SHUTDOWN", "data": {"guest": true, "reason": "guest-reset"}"#;
        let panic = r#""event": "GUEST_PANICKED", "data": {"action": "run"}"#;
        assert_eq!(after(&[RESUME, reset]).shutdown, Some(ShutdownReason::GuestReset));
        assert_eq!(after(&[RESUME, panic, reset]).shutdown, Some(ShutdownReason::GuestPanic));
    }
}
