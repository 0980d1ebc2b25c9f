//! Facts about this host that were found by trial, remembered so that each start need not try
//! again.
//!
//! It holds until the host is booted again: with another kernel KVM may be another. What was found
//! of a program holds for that very file. Where nothing can be remembered, everything is tried each
//! time.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use hypeman_files::{Lock, read_json, write_json};
use hypeman_record::process::boot_id;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A memory of findings in a file, or none.
#[derive(Debug, Clone)]
pub struct Findings {
    file: Option<PathBuf>,
}

/// The file.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Remembered {
    /// The boot of the host.
    boot: String,
    /// Facts by name.
    found: BTreeMap<String, Value>,
}

impl Findings {
    /// Those in the data directory `directory`, which need not exist yet.
    #[must_use]
    pub fn in_directory(directory: &Path) -> Findings {
        Findings { file: Some(directory.join("host.json")) }
    }

    /// A memory that keeps nothing.
    #[must_use]
    pub fn none() -> Findings {
        Findings { file: None }
    }

    /// Returns the remembered fact `key`, or finds it now with `find`. An error is not remembered.
    pub(crate) fn find_once<T: Serialize + DeserializeOwned, E>(
        &self,
        key: &str,
        find: impl FnOnce() -> Result<T, E>,
    ) -> Result<T, E> {
        let Some(file) = &self.file else { return find() };
        let recall = |remembered: &Remembered| {
            remembered.found.get(key).and_then(|value| serde_json::from_value(value.clone()).ok())
        };
        if let Some(found) = recall(&read(file)) {
            return Ok(found);
        }
        // Of many starts at once, one tries.
        let _held = Lock::acquire(&file.with_extension("lock"));
        let mut remembered = read(file);
        if let Some(found) = recall(&remembered) {
            return Ok(found);
        }
        let found = find()?;
        if let Ok(value) = serde_json::to_value(&found) {
            remembered.found.insert(key.to_owned(), value);
            let _ = write_json(file, &remembered);
        }
        Ok(found)
    }
}

/// Reads the facts of this boot of the host.
fn read(file: &Path) -> Remembered {
    let boot = boot_id();
    let remembered: Option<Remembered> = read_json(file).ok().flatten();
    let current = remembered.filter(|remembered| remembered.boot == boot);
    current.unwrap_or(Remembered { boot, ..Remembered::default() })
}

/// A key for what is found of the program at `path`; `None` for one that may be another without its
/// file having changed, as a script that calls another program.
pub(crate) fn key_of_program(what: &str, path: &Path) -> Option<String> {
    let mut magic = [0; 4];
    let mut file = File::open(path).ok()?;
    file.read_exact(&mut magic).ok()?;
    (magic == *b"\x7fELF").then(|| key_of_file(what, path)).flatten()
}

/// A key for what is found of the file at `path`, as long as it is not replaced or written.
pub(crate) fn key_of_file(what: &str, path: &Path) -> Option<String> {
    let file = path.metadata().ok()?;
    let changed = format!("{}.{:09}", file.ctime(), file.ctime_nsec());
    Some(format!("{what} {} {}:{} {changed}", path.display(), file.dev(), file.ino()))
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn it_is_found_once_and_anew_after_a_boot() {
        let scratch = tempfile::tempdir().unwrap();
        let findings = Findings::in_directory(scratch.path());
        let tries = Cell::new(0);
        let find = |key: &str| {
            findings.find_once(key, || {
                tries.set(tries.get() + 1);
                Ok::<_, ()>(tries.get())
            })
        };
        assert_eq!((find("a"), find("a"), find("b"), find("a")), (Ok(1), Ok(1), Ok(2), Ok(1)));
        let file = scratch.path().join("host.json");
        let older = std::fs::read_to_string(&file).unwrap().replace(&boot_id(), "another boot");
        std::fs::write(&file, older).unwrap();
        assert_eq!(find("a"), Ok(3));
    }

    #[test]
    fn an_error_is_not_remembered() {
        let scratch = tempfile::tempdir().unwrap();
        let findings = Findings::in_directory(scratch.path());
        assert_eq!(findings.find_once::<i32, _>("a", || Err("no")), Err("no"));
        assert_eq!(findings.find_once::<_, ()>("a", || Ok(1)), Ok(1));
    }

    #[test]
    fn a_script_may_be_another_program_tomorrow() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("program");
        std::fs::write(&path, "#!/bin/sh\nexec other").unwrap();
        assert_eq!(key_of_program("version", &path), None);
        std::fs::write(&path, "\x7fELF...").unwrap();
        let key = key_of_program("version", &path).unwrap();
        std::fs::write(scratch.path().join("newer"), "\x7fELF...").unwrap();
        std::fs::rename(scratch.path().join("newer"), &path).unwrap();
        assert_ne!(key_of_program("version", &path).unwrap(), key);
    }
}
