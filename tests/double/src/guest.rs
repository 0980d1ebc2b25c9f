//! What the test guest would do, on a thread that is named as a vCPU's (`vmm/src/cpu.rs`).

use std::sync::mpsc::Receiver;
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

use testguest::check::Sequence;
use testguest::{Finish, Options};

use crate::serial::Line;

/// Whether the vCPUs run.
#[derive(Clone, Default)]
pub(crate) struct Gate(Arc<(Mutex<State>, Condvar)>);

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum State {
    #[default]
    Running,
    Paused,
    /// For good: the VM was shut down.
    Ended,
}

impl Gate {
    pub(crate) fn set_paused(&self, paused: bool) {
        self.set(if paused { State::Paused } else { State::Running });
    }

    pub(crate) fn end(&self) {
        self.set(State::Ended);
    }

    fn set(&self, state: State) {
        let mut current = self.0.0.lock().expect("no panic");
        if *current != State::Ended {
            *current = state;
        }
        self.0.1.notify_all();
    }

    /// Waits while it is paused; whether the guest may go on.
    fn pass(&self) -> bool {
        let state = self.0.0.lock().expect("no panic");
        let state = self.0.1.wait_while(state, |state| *state == State::Paused).expect("no panic");
        *state == State::Running
    }
}

/// How long a line takes from v53.0 on, as on a nested host, where the two exits for each byte take 50 us. There a client
/// that is too slow for the guest loses what is in the ring when the guest ends (docs/limits.md), so the guest must not be
/// faster than a real one may be.
const LINE: Duration = Duration::from_millis(3);

/// Runs it; `finished` is told how it ended, if it does.
pub(crate) fn run(
    options: Options,
    release: u32,
    line: Line,
    typed: Receiver<u8>,
    gate: Gate,
    finished: impl FnOnce(Finish) + Send + 'static,
) -> std::io::Result<()> {
    let guest = move || {
        let sequence = Sequence::new(&options);
        let mut number = 0;
        while options.count == 0 || number < options.count {
            for byte in sequence.line(number) {
                if !gate.pass() {
                    return;
                }
                line.put(byte);
            }
            number += 1;
            if release >= 53 {
                thread::sleep(LINE);
            }
        }
        if options.echo {
            typed.iter().take_while(|&byte| byte != 0x04).for_each(|byte| line.put(byte));
        }
        if options.finish != Finish::Halt {
            finished(options.finish);
        }
    };
    thread::Builder::new().name("vcpu0".to_owned()).spawn(guest).map(drop)
}
