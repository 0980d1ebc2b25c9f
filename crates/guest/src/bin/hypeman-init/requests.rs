//! What the host asks while the command runs: signals over the control port, the end by the power button.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;

use hypeman_guest::CONTROL_PORT;
use hypeman_guest::control::Request;
use rustix::process::Pid;

use crate::wake;

/// Longest request in bytes.
const MOST: u64 = 4096;
/// `KEY_POWER` and `EV_KEY` (linux/input-event-codes.h).
const KEY_POWER: u16 = 116;
const EV_KEY: u16 = 1;
/// Size of `struct input_event` on 64-bit Linux: two times 8 bytes of time, then type, code and value.
const EVENT_SIZE: usize = 24;

/// Passes on to `child` what the host asks, from threads that last as long as we do.
pub(crate) fn listen(child: Pid, stop_signal: i32) {
    for button in power_buttons() {
        std::thread::spawn(move || watch_button(&button, child, stop_signal));
    }
    if let Some(port) = control_port() {
        std::thread::spawn(move || {
            serve(&port, |request| match request {
                Request::Signal { signal } => send(child, signal),
                request => wake::act(&request),
            });
        });
    }
}

fn send(child: Pid, signal: i32) {
    // SAFETY: kill(2) touches no memory. Not rustix's, which knows no real-time signals.
    #[allow(unsafe_code)]
    let _ = unsafe { libc::kill(child.as_raw_nonzero().get(), signal) }; // it may have ended in this moment
}

/// The port's device file, found by the name that the host gave it.
pub(crate) fn control_port() -> Option<PathBuf> {
    let entries = std::fs::read_dir("/sys/class/virtio-ports").ok()?.flatten();
    let ours = |entry: &std::fs::DirEntry| {
        std::fs::read_to_string(entry.path().join("name")).is_ok_and(|name| name.trim() == CONTROL_PORT)
    };
    entries.into_iter().find(ours).map(|entry| PathBuf::from("/dev").join(entry.file_name()))
}

/// Takes what comes in over the port, for as long as there is one.
pub(crate) fn serve(port: &PathBuf, act: impl Fn(Request)) {
    let Ok(port) = File::open(port) else { return };
    let mut port = BufReader::new(port);
    loop {
        let mut line = Vec::new();
        match (&mut port).take(MOST).read_until(b'\n', &mut line) {
            // Nobody is connected on the host's side.
            Ok(0) | Err(_) => std::thread::sleep(std::time::Duration::from_millis(50)),
            Ok(_) => {
                if let Ok(request) = serde_json::from_slice(&line) {
                    act(request);
                }
            }
        }
    }
}

fn power_buttons() -> Vec<PathBuf> {
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
            send(child, stop_signal);
        }
    }
}
