//! The serial line as the command's terminal.

use std::fs::{File, OpenOptions};
use std::path::Path;

use rustix::termios::{OptionalActions, OutputModes, tcdrain, tcgetattr, tcsetattr};

use crate::report::{Context, Failure};

/// Opens the terminal behind /dev/console: a process can be given that one as its controlling terminal, and not
/// /dev/console itself.
pub(crate) fn open() -> Result<File, Failure> {
    // The last of the active consoles is the one that /dev/console is (Documentation/ABI/testing/sysfs-tty).
    let active = std::fs::read_to_string("/sys/class/tty/console/active").unwrap_or_default();
    let name = active.split_whitespace().last().unwrap_or("ttyS0").to_owned();
    OpenOptions::new().read(true).write(true).open(Path::new("/dev").join(name)).context("open its console")
}

/// Lets bytes through as the command writes them: no carriage return before each newline.
pub(crate) fn make_exact(console: &File) {
    if let Ok(mut attributes) = tcgetattr(console) {
        attributes.output_modes.remove(OutputModes::OPOST);
        let _ = tcsetattr(console, OptionalActions::Now, &attributes);
    }
}

/// Waits until all that was written has left the UART.
pub(crate) fn drain() {
    if let Ok(console) = open() {
        let _ = tcdrain(&console);
    }
}
