//! The serial line as the command's terminal.

use std::fs::{File, OpenOptions};
use std::path::Path;

use rustix::termios::{
    InputModes, LocalModes, OptionalActions, OutputModes, SpecialCodeIndex, Termios, tcdrain, tcgetattr,
    tcsetattr,
};

use crate::report::{Context, Failure};

/// Opens the terminal behind /dev/console: a process can be given that one as its controlling
/// terminal, and not /dev/console itself.
pub(crate) fn open() -> Result<File, Failure> {
    // The last of the active consoles is the one that /dev/console is
    // (Documentation/ABI/testing/sysfs-tty).
    let active = std::fs::read_to_string("/sys/class/tty/console/active").unwrap_or_default();
    let name = active.split_whitespace().last().unwrap_or("ttyS0").to_owned();
    OpenOptions::new().read(true).write(true).open(Path::new("/dev").join(name)).context("open its console")
}

/// Lets bytes through as the command writes them: no carriage return before each newline.
pub(crate) fn make_exact(console: &File) {
    change(console, |modes| modes.output_modes.remove(OutputModes::OPOST));
}

/// Makes it an input that is no terminal's: what comes is taken as it is, line by line, and not
/// shown. Only the character that ends the input does so, as nothing else on a serial line could.
pub(crate) fn make_input(console: &File) {
    change(console, |modes| {
        let end = modes.special_codes[SpecialCodeIndex::VEOF];
        modes.input_modes = InputModes::empty();
        modes.local_modes = LocalModes::ICANON;
        for special in SPECIAL {
            modes.special_codes[special] = DISABLED;
        }
        modes.special_codes[SpecialCodeIndex::VEOF] = end;
    });
}

/// Special characters of a terminal in line mode.
const SPECIAL: [SpecialCodeIndex; 7] = [
    SpecialCodeIndex::VERASE,
    SpecialCodeIndex::VKILL,
    SpecialCodeIndex::VEOL,
    SpecialCodeIndex::VEOL2,
    SpecialCodeIndex::VWERASE,
    SpecialCodeIndex::VLNEXT,
    SpecialCodeIndex::VREPRINT,
];

/// Means nothing (`_POSIX_VDISABLE` on Linux, termios(3)).
const DISABLED: u8 = 0;

fn change(console: &File, change: impl FnOnce(&mut Termios)) {
    if let Ok(mut modes) = tcgetattr(console) {
        change(&mut modes);
        let _ = tcsetattr(console, OptionalActions::Now, &modes);
    }
}

/// Waits until all that was written has left the UART.
pub(crate) fn drain() {
    if let Ok(console) = open() {
        let _ = tcdrain(&console);
    }
}
