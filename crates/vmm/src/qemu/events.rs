//! What QMP's events tell of a VM (qapi/run-state.json, qapi/block-core.json).

use hypeman_record::end::ShutdownReason;
use qapi::qmp::{BLOCK_IO_ERROR, BlockErrorAction, Event, ShutdownCause};

use crate::vm::{Paused, VmStatus};

/// What is to be remembered between two events.
#[derive(Debug, Default)]
pub(crate) struct Events {
    panicked: bool,
    /// The disk error for which QEMU stops the VM next.
    stops_for: Option<Paused>,
}

impl Events {
    /// What an event makes of the status.
    pub(crate) fn apply(&mut self, event: &Event, status: &mut VmStatus) {
        match event {
            Event::GUEST_PANICKED { .. } => self.panicked = true,
            Event::BLOCK_IO_ERROR { data, .. } => self.stops_for = stops_for(data),
            Event::STOP { .. } => {
                status.paused = Some(self.stops_for.take().unwrap_or(Paused::Requested));
            }
            Event::RESUME { .. } => {
                status.booted = true;
                status.paused = None;
            }
            Event::SHUTDOWN { data, .. } => {
                let reset = reason(data.reason);
                let dead = self.panicked && reset == Some(ShutdownReason::GuestReset);
                status.shutdown = if dead { Some(ShutdownReason::GuestPanic) } else { reset };
            }
            _ => {}
        }
    }
}

/// Why QEMU is about to stop the VM, if an error of a disk makes it do so.
fn stops_for(error: &BLOCK_IO_ERROR) -> Option<Paused> {
    match (error.action, error.nospace) {
        (BlockErrorAction::stop, Some(true)) => Some(Paused::DiskFull),
        (BlockErrorAction::stop, _) => Some(Paused::DiskError(error.reason.clone())),
        _ => None,
    }
}

/// The cause in our words; `None` for one that tells nothing.
fn reason(cause: ShutdownCause) -> Option<ShutdownReason> {
    match cause {
        ShutdownCause::guest_shutdown => Some(ShutdownReason::GuestShutdown),
        ShutdownCause::guest_reset | ShutdownCause::subsystem_reset => Some(ShutdownReason::GuestReset),
        ShutdownCause::guest_panic => Some(ShutdownReason::GuestPanic),
        ShutdownCause::host_qmp_quit | ShutdownCause::host_qmp_system_reset | ShutdownCause::host_ui => {
            Some(ShutdownReason::HostRequest)
        }
        ShutdownCause::host_signal => Some(ShutdownReason::HostSignal),
        _ => None,
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
