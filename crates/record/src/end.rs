//! How a run ended, told from what the guest reported, what the VMM said, and what we did.

use serde::{Deserialize, Serialize};

use crate::guest::status::Status;
use crate::launch::Guest;

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// Why.
    pub reason: Reason,
    /// Exit code in docker's sense: the program's, 128 + signal, 125 to 127 for a program that
    /// could not be started, 137 for a VM that was killed.
    pub exit_code: i32,
    /// One sentence for people.
    pub message: String,
}

/// Why a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// The program ended by itself.
    Exited,
    /// The program was ended by a signal.
    Signaled,
    /// Init could not start the program.
    Failed,
    /// The guest powered itself off.
    GuestShutdown,
    /// The guest reset itself: it rebooted.
    GuestReset,
    /// The guest's kernel panicked.
    GuestPanic,
    /// We ended the VM by force, as we were told.
    Killed,
    /// The VMM ended without being asked.
    VmmExited,
    /// It has not ended: its memory is saved, and it can go on.
    Standby,
    /// The VM could not be started.
    StartFailed,
    /// The host was rebooted under the VM.
    HostRebooted,
    /// Both the VMM and the shim were ended from outside.
    Vanished,
}

/// Why we ended a VM by force.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Force {
    /// Someone asked for it.
    Asked,
    /// Its guest was asked to end, and did not in time.
    TimedOut,
}

/// Evidence of how a VM ended, by source.
#[derive(Debug, Clone, Copy)]
pub struct Evidence<'a> {
    /// Kind of the guest.
    pub guest: Guest,
    /// The status disk.
    pub status: Option<&'a Status>,
    /// Reason that the VMM gave.
    pub shutdown: Option<ShutdownReason>,
    /// How the VMM's process ended.
    pub vmm: VmmExit,
    /// Why we ended it by force, if we did.
    pub force: Option<Force>,
}

/// Decides how a run ended: a final report of init counts most, then what we did ourselves, then
/// what the VMM said.
#[must_use]
pub fn judge(evidence: Evidence<'_>) -> End {
    if evidence.guest == Guest::Exec
        && let Some(end) = evidence.status.and_then(reported)
    {
        return end;
    }
    // A failure before the handover is reported in systemd mode too.
    if let (Guest::Systemd, Some(status @ Status::Failed { .. })) = (evidence.guest, evidence.status)
        && let Some(end) = reported(status)
    {
        return end;
    }
    match evidence.force {
        Some(Force::Asked) => {
            return end(Reason::Killed, 137, "the VM was ended by force, as asked".to_owned());
        }
        Some(Force::TimedOut) => {
            let message = "the guest did not end in time, so its VM was ended by force".to_owned();
            return end(Reason::Killed, 137, message);
        }
        None => {}
    }
    // A VMM that ends well and says no more was powered off by its guest: Cloud Hypervisor does not
    // wait until its last event is written (event_monitor/src/lib.rs: a channel to a thread that
    // nobody joins).
    let ended_well = (evidence.vmm == VmmExit::Code(0)).then_some(ShutdownReason::GuestShutdown);
    match (evidence.shutdown.or(ended_well), evidence.vmm) {
        // Also when the VMM was killed for it: Cloud Hypervisor would boot the guest again.
        (Some(ShutdownReason::GuestReset), _) => {
            // An init system that reboots has ended everything in good order.
            let exit_code = if evidence.guest == Guest::Systemd { 0 } else { 125 };
            let message = "the guest rebooted, which ends its VM; start it again to boot it again".to_owned();
            end(Reason::GuestReset, exit_code, message)
        }
        (Some(ShutdownReason::GuestPanic), _) => {
            let message = "the guest's kernel panicked; app.log tells why".to_owned();
            end(Reason::GuestPanic, 125, message)
        }
        (Some(ShutdownReason::Unrunnable), _) => {
            let message = "KVM could not go on with the guest (vmm.log has its registers); --accel tcg runs it without KVM";
            end(Reason::VmmExited, 125, message.to_owned())
        }
        (_, VmmExit::Signal(signal)) => {
            end(Reason::VmmExited, 128 + signal, format!("the VMM was ended from outside by signal {signal}"))
        }
        (Some(ShutdownReason::GuestHalt), _) => {
            let exit_code = if evidence.guest == Guest::Exec { 125 } else { 0 };
            end(Reason::GuestShutdown, exit_code, "the guest halted its CPUs, which ends its VM".to_owned())
        }
        (Some(ShutdownReason::GuestShutdown), _) if evidence.guest == Guest::Exec => {
            end(Reason::GuestShutdown, 125, "the guest powered off before its program had ended".to_owned())
        }
        (Some(ShutdownReason::GuestShutdown), _) => {
            end(Reason::GuestShutdown, 0, "the guest powered off".to_owned())
        }
        (Some(ShutdownReason::HostSignal), _) => {
            end(Reason::VmmExited, 143, "the VMM was asked to end from outside".to_owned())
        }
        (Some(ShutdownReason::HostRequest), _) => {
            end(Reason::VmmExited, 137, "the VMM was told to quit over its API from outside".to_owned())
        }
        (None, VmmExit::Unknown) => {
            let message = "the VMM ended while no shim ran; vmm.log may say why".to_owned();
            end(Reason::VmmExited, 125, message)
        }
        (None, VmmExit::Code(code)) => {
            end(Reason::VmmExited, 125, format!("the VMM ended with code {code}; vmm.log may say why"))
        }
    }
}

/// The end that init reported, if it reported one.
#[must_use]
pub fn reported(status: &Status) -> Option<End> {
    // The guest is hostile: its numbers are cut to what an exit code can be.
    match status {
        Status::Running => None,
        Status::Exited { code } => {
            let code = code & 0xff;
            Some(end(Reason::Exited, code, format!("the program ended with exit code {code}")))
        }
        Status::Signaled { signal } => {
            let signal = signal & 0x7f;
            Some(end(Reason::Signaled, 128 + signal, format!("the program was ended by signal {signal}")))
        }
        // A failure is no success, whatever the guest reports.
        Status::Failed { code, message } => {
            let code = Some(code & 0xff).filter(|code| *code != 0).unwrap_or(125);
            Some(end(Reason::Failed, code, printable(message)))
        }
    }
}

/// Escapes control characters and cuts the message: a hostile guest may have written it, and it
/// goes to a terminal.
fn printable(message: &str) -> String {
    message.chars().filter(|c| !c.is_control()).take(500).collect()
}

/// An end from its parts.
#[must_use]
pub fn end(reason: Reason, exit_code: i32, message: String) -> End {
    End { reason, exit_code, message }
}

/// How a VMM's process has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum VmmExit {
    /// By itself, with this code.
    Code(i32),
    /// By this signal.
    Signal(i32),
    /// Nobody can tell: it was not our child.
    Unknown,
}

/// Why a VM ended, as far as the VMM told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ShutdownReason {
    /// The guest powered itself off.
    GuestShutdown,
    /// The guest reset itself: a reboot, a triple fault, a panic that nobody was told of.
    GuestReset,
    /// The guest's kernel panicked, and said so.
    GuestPanic,
    /// The guest has halted all its CPUs for good.
    GuestHalt,
    /// The VMM cannot go on with the guest: KVM met an instruction or state that it cannot handle.
    Unrunnable,
    /// We asked the VMM to quit.
    HostRequest,
    /// The VMM was ended by a signal.
    HostSignal,
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUIET: Evidence<'static> = Evidence {
        guest: Guest::Exec,
        status: None,
        shutdown: Some(ShutdownReason::GuestShutdown),
        vmm: VmmExit::Code(0),
        force: None,
    };

    #[test]
    fn the_program_s_own_code_wins_over_everything() {
        let status = Status::Exited { code: 7 };
        let end = judge(Evidence { status: Some(&status), force: Some(Force::Asked), ..QUIET });
        assert_eq!((end.reason, end.exit_code), (Reason::Exited, 7));
    }

    #[test]
    fn a_guest_that_powers_off_behind_init_s_back_is_no_success() {
        let end = judge(Evidence { status: Some(&Status::Running), ..QUIET });
        assert_eq!((end.reason, end.exit_code), (Reason::GuestShutdown, 125));
        assert_eq!(judge(Evidence { guest: Guest::Systemd, ..QUIET }).exit_code, 0);
    }

    #[test]
    fn a_vmm_that_ends_well_without_a_word_was_powered_off_and_one_that_fails_was_not() {
        let silent = Evidence { guest: Guest::Bare, shutdown: None, ..QUIET };
        assert_eq!((judge(silent).reason, judge(silent).exit_code), (Reason::GuestShutdown, 0));
        let failed = judge(Evidence { vmm: VmmExit::Code(1), ..silent });
        assert_eq!((failed.reason, failed.exit_code), (Reason::VmmExited, 125));
    }

    #[test]
    fn a_vmm_killed_from_outside_is_told_from_one_killed_by_us() {
        let killed = Evidence { shutdown: None, vmm: VmmExit::Signal(9), ..QUIET };
        assert_eq!(judge(killed).reason, Reason::VmmExited);
        assert_eq!(judge(Evidence { force: Some(Force::Asked), ..killed }).reason, Reason::Killed);
    }

    #[test]
    fn a_hostile_report_neither_overflows_nor_drives_a_terminal() {
        assert_eq!(reported(&Status::Signaled { signal: i32::MAX }).unwrap().exit_code, 128 + 127);
        assert_eq!(reported(&Status::Exited { code: -1 }).unwrap().exit_code, 255);
        let failed = Status::Failed { code: 127, message: "\x1b[2Jx".repeat(1000) };
        let message = reported(&failed).unwrap().message;
        assert!(!message.contains('\x1b') && message.len() <= 500);
        for code in [0, 256] {
            let failed = Status::Failed { code, message: String::new() };
            assert_eq!(reported(&failed).unwrap().exit_code, 125, "what failed is no success");
        }
    }
}
