//! The kernel's command line.

use crate::record::Record;

/// For our init: the console on the serial line, a panic that resets (which ends the VM), and silence unless asked
/// otherwise. `loglevel=1` lets emergencies through, a panic among them.
const QUIET: &str = "console=ttyS0 rdinit=/init panic=-1 quiet loglevel=1";
const LOUD: &str = "console=ttyS0 rdinit=/init panic=-1 loglevel=7";

/// The command line for a record: ours and then the user's for an image, the user's alone for a bare kernel.
pub(crate) fn of(record: &Record) -> String {
    if record.image.is_none() {
        return record.settings.cmdline.clone();
    }
    let ours = if record.settings.show_boot { LOUD } else { QUIET };
    format!("{ours} {}", record.settings.cmdline).trim_end().to_owned()
}
