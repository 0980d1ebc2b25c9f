//! The end of the VM.

use rustix::system::{RebootCommand, reboot};

use crate::console;

/// Powers the VM off, so silently that the command's last byte is the console's last.
pub(crate) fn off() -> ! {
    rustix::fs::sync();
    console::drain();
    // `reboot: Power down` is an emergency to Linux; at level 0 it keeps even those to itself (kernel/printk).
    let _ = std::fs::write("/proc/sys/kernel/printk", "0");
    let _ = reboot(RebootCommand::PowerOff);
    // A machine without a power switch: a reset ends the VM as well.
    let _ = reboot(RebootCommand::Restart);
    loop {
        std::thread::park();
    }
}
