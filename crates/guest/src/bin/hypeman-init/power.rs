//! The end of the VM, and the button that asks for it.

use std::fs::File;
use std::io::Read;
use std::path::PathBuf;

use rustix::process::Pid;
use rustix::system::{RebootCommand, reboot};

use crate::{console, process};

/// `KEY_POWER` and `EV_KEY` (linux/input-event-codes.h).
const KEY_POWER: u16 = 116;
const EV_KEY: u16 = 1;
/// Size of `struct input_event` on 64-bit Linux: two times 8 bytes of time, then type, code and
/// value.
const EVENT_SIZE: usize = 24;

/// Powers the VM off, so silently that the command's last byte is the console's last.
pub(crate) fn off() -> ! {
    rustix::fs::sync();
    console::drain();
    // `reboot: Power down` is an emergency to Linux; at level 0 it keeps even those to itself
    // (kernel/printk).
    let _ = std::fs::write("/proc/sys/kernel/printk", "0");
    let _ = reboot(RebootCommand::PowerOff);
    // A machine without a power switch: a reset ends the VM as well.
    let _ = reboot(RebootCommand::Restart);
    loop {
        std::thread::park();
    }
}

/// Asks the command to end when the power button is pressed, from threads that last as long as we
/// do.
pub(crate) fn watch_buttons(child: Pid, stop_signal: i32) {
    for button in buttons() {
        std::thread::spawn(move || watch_button(&button, child, stop_signal));
    }
}

fn buttons() -> Vec<PathBuf> {
    let entries = std::fs::read_dir("/sys/class/input").into_iter().flatten().flatten();
    let is_button = |entry: &std::fs::DirEntry| {
        let name = std::fs::read_to_string(entry.path().join("device/name")).unwrap_or_default();
        entry.file_name().to_string_lossy().starts_with("event") && name.trim() == "Power Button"
    };
    entries.filter(is_button).map(|entry| PathBuf::from("/dev/input").join(entry.file_name())).collect()
}

fn watch_button(button: &PathBuf, child: Pid, stop_signal: i32) {
    let Ok(mut button) = File::open(button) else {
        return;
    };
    let mut event = [0; EVENT_SIZE];
    while button.read_exact(&mut event).is_ok() {
        let kind = u16::from_ne_bytes([event[16], event[17]]);
        let code = u16::from_ne_bytes([event[18], event[19]]);
        let pressed = event[20] == 1;
        if kind == EV_KEY && code == KEY_POWER && pressed {
            let _ = process::send(child.as_raw_nonzero().get(), stop_signal); // it may have ended in this moment
        }
    }
}
