//! A shim lives as long as its VM, and does one thing: the code that started it need not stay in
//! memory.
#![allow(unsafe_code)] // madvise

use rustix::mm::{Advice, madvise};

/// Gives back the pages of our own program. Those that are still needed come back by themselves,
/// from the page cache, when they are next run.
pub(crate) fn give_back_startup_code() {
    let Ok(program) = std::fs::read_link("/proc/self/exe") else { return };
    let program = program.to_string_lossy();
    for line in std::fs::read_to_string("/proc/self/maps").unwrap_or_default().lines() {
        if line.ends_with(&*program)
            && let Some((start, length)) = unwritten(line)
        {
            // SAFETY: the range is a mapping of this program's file that is not writable and never
            // was (see `unwritten`), so its pages are those of the page cache, and are looked up
            // there again at the next access. Whatever is written to the file (some kernels refuse
            // that for a program that runs, with ETXTBSY, and others do not) shows in these pages
            // with or without this call, and the kernel may drop them at any time by itself:
            // nothing is changed that could not change anyway.
            let _ =
                unsafe { madvise(std::ptr::without_provenance_mut(start), length, Advice::LinuxDontNeed) };
        }
    }
}

/// Start and length of a mapping in a line of proc_pid_maps(5), if it can only hold what the file
/// has: code, and the constants at the file's beginning. Read-only data further on was written
/// once, when the program was relocated.
fn unwritten(line: &str) -> Option<(usize, usize)> {
    let mut fields = line.split_ascii_whitespace();
    let (start, end) = fields.next()?.split_once('-')?;
    let (permissions, offset) = (fields.next()?, fields.next()?);
    if permissions != "r-xp" && (permissions != "r--p" || offset.bytes().any(|digit| digit != b'0')) {
        return None;
    }
    let start = usize::from_str_radix(start, 16).ok()?;
    let end = usize::from_str_radix(end, 16).ok()?;
    Some((start, end.checked_sub(start)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_code_and_the_first_constants_are_given_back() {
        assert_eq!(unwritten("1000-3000 r-xp 00002000 fe:00 7 /bin/x"), Some((0x1000, 0x2000)));
        assert_eq!(unwritten("1000-3000 r--p 00000000 fe:00 7 /bin/x"), Some((0x1000, 0x2000)));
        assert_eq!(unwritten("1000-3000 r--p 00002000 fe:00 7 /bin/x"), None, "relocated data");
        assert_eq!(unwritten("1000-3000 rw-p 00000000 fe:00 7 /bin/x"), None);
    }

    #[test]
    fn the_program_runs_on_without_its_startup_code() {
        give_back_startup_code();
        assert_eq!("still here".len(), 10);
    }
}
