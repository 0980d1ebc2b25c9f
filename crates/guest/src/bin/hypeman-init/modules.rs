//! The kernel's modules that the initramfs carries.

use std::fs::File;
use std::path::Path;

use crate::report::{Context, Failure};

/// Loads every module that `/modules.list` names, in its order. One that is built in or loaded
/// already is no error.
pub(crate) fn load_all() -> Result<(), Failure> {
    let Ok(list) = std::fs::read_to_string("/modules.list") else {
        return Ok(());
    }; // a kernel with all built in
    for name in list.lines() {
        let file =
            File::open(Path::new("/modules").join(name)).context(&format!("open the module {name}"))?;
        match rustix::system::finit_module(&file, c"", 0) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => {}
            Err(error) => return Err(error).context(&format!("load the module {name}")),
        }
    }
    // They are in the kernel now; this is memory.
    let _ = std::fs::remove_dir_all("/modules");
    Ok(())
}
