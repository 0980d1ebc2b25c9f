//! Why a VM ended, from QMP's SHUTDOWN event.

use qapi::qmp::ShutdownCause;

use crate::hypervisor::ShutdownReason;

/// The cause in our words; `None` for one that tells nothing (qapi/run-state.json).
pub(crate) fn reason(cause: ShutdownCause) -> Option<ShutdownReason> {
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
