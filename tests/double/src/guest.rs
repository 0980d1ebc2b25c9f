//! The test guest, on a thread that is named as a vCPU's (`vmm/src/cpu.rs`).

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

use testguest::check::Sequence;
use testguest::{Finish, Options};

use crate::serial::Line;

/// Whether the vCPUs run, and how far the guest has come.
#[derive(Clone, Default)]
pub(crate) struct Gate(Arc<Inner>);

#[derive(Default)]
struct Inner {
    /// Held by the guest while it prints a byte: whoever pauses it waits for that, as for a vCPU.
    guest: Mutex<Guest>,
    changed: Condvar,
    /// The VM was shut down.
    ended: AtomicBool,
}

#[derive(Default)]
struct Guest {
    is_paused: bool,
    position: Position,
}

/// How far a guest has come: all that it has in memory.
#[derive(Debug, Clone, Copy, Default, serde::Serialize, serde::Deserialize)]
pub(crate) struct Position {
    /// The line that it prints.
    number: u64,
    /// How many of its bytes it has printed.
    printed: usize,
}

impl Gate {
    /// Returns the gate of a guest that was saved, and is paused.
    pub(crate) fn restored(position: Position) -> Gate {
        let gate = Gate::default();
        *gate.0.guest.lock().expect("no panic") = Guest { is_paused: true, position };
        gate
    }

    pub(crate) fn set_paused(&self, paused: bool) {
        self.0.guest.lock().expect("no panic").is_paused = paused;
        self.0.changed.notify_all();
    }

    pub(crate) fn end(&self) {
        self.0.ended.store(true, Ordering::Release);
        self.0.changed.notify_all();
    }

    pub(crate) fn position(&self) -> Position {
        self.0.guest.lock().expect("no panic").position
    }

    /// Waits while it is paused; `None` when the guest may not go on.
    fn pass(&self) -> Option<MutexGuard<'_, Guest>> {
        let ended = || self.0.ended.load(Ordering::Acquire);
        let guest = self.0.guest.lock().expect("no panic");
        let guest = self.0.changed.wait_while(guest, |guest| guest.is_paused && !ended()).expect("no panic");
        (!ended()).then_some(guest)
    }
}

/// Ends what is typed.
const EOT: u8 = 0x04;

/// How long a line takes from v53.0 on, as on a nested host, where the two exits for each byte take
/// 50 us. There a client that is too slow for the guest loses what is in the ring when the guest
/// ends (docs/limits.md), so the guest must not be faster than a real one may be.
const LINE: Duration = Duration::from_millis(3);

/// How long it says nothing before its last line.
const SILENCE: Duration = Duration::from_secs(1);

/// How long a turn of the loop takes that makes a pause.
const TURN: Duration = Duration::from_micros(1);

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
        let Position { mut number, mut printed } = gate.position();
        // One that pauses is one of hundreds, which are to leave the processors to what is
        // measured.
        let at_once = if options.pause == 0 { 1 } else { usize::MAX };
        while options.count == 0 || number < options.count {
            for bytes in sequence.line(number)[printed..].chunks(at_once) {
                let Some(mut guest) = gate.pass() else { return };
                line.put(bytes);
                guest.position.printed += bytes.len();
            }
            number += 1;
            printed = 0;
            if let Some(mut guest) = gate.pass() {
                guest.position = Position { number, printed };
            }
            if options.typed && typed.try_recv() == Ok(EOT) {
                thread::sleep(SILENCE);
                line.put(Options::THE_END.as_bytes());
                break;
            }
            if release >= 53 || options.pause != 0 {
                thread::sleep(LINE.max(TURN * u32::try_from(options.pause).unwrap_or(u32::MAX)));
            }
        }
        if options.echo {
            typed.iter().take_while(|&byte| byte != EOT).for_each(|byte| line.put(&[byte]));
        }
        if options.finish != Finish::Halt {
            finished(options.finish);
        }
    };
    thread::Builder::new().name("vcpu0".to_owned()).spawn(guest).map(drop)
}
