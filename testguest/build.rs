//! Assembles the guest with gcc.

use std::path::PathBuf;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=asm");
    let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets OUT_DIR")).join("testguest.elf");
    let status = Command::new("gcc")
        .args(["-nostdlib", "-static", "-no-pie", "-Wl,--build-id=none", "-Wl,-T,asm/guest.ld"])
        .args(["-Wl,-z,noexecstack", "-Wl,--no-warn-rwx-segments", "-Wl,--strip-all", "asm/guest.S", "-o"])
        .arg(&out)
        .status();
    match status {
        Ok(status) if status.success() => {}
        Ok(status) => panic!("gcc could not assemble the test guest: {status}"),
        Err(error) => panic!("gcc is needed to assemble the test guest: {error}; apt-get install gcc"),
    }
}
