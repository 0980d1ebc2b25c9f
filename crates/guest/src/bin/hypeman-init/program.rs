//! Finding and starting the command as a container's runtime does: without the shell that libc
//! gives what it cannot execute.
#![allow(unsafe_code)] // execve

use std::collections::BTreeMap;
use std::ffi::CString;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::report::{Context, Failure};
use elf::ElfBytes;
use elf::endian::AnyEndian;
use hypeman_agent::names;

/// How much of a program is read to learn which interpreter it wants, in bytes. The table is at its
/// beginning.
const HEAD: u64 = 1 << 20;

/// A command that was found and is ready to be executed.
pub(crate) struct Program {
    path: PathBuf,
    /// The strings that `pointers` point to.
    _strings: Vec<CString>,
    arguments: Pointers,
    environment: Pointers,
}

/// A list of strings as execve(2) wants it: pointers, and a null pointer at the end.
struct Pointers(Vec<*const libc::c_char>);

// SAFETY: the pointers are only read, and what they point to is kept and left alone by `Program` as
// long as they are.
unsafe impl Send for Pointers {}
// SAFETY: as above.
unsafe impl Sync for Pointers {}

impl Program {
    /// Finds a command in a working directory, for someone who is at home in `home`.
    pub(crate) fn find(
        argv: &[String],
        mut environment: BTreeMap<String, String>,
        workdir: &str,
        home: &str,
        has_terminal: bool,
    ) -> Result<Program, Failure> {
        let name = argv.first().ok_or("there is none").context("run a command")?;
        let path = find(name, environment.get("PATH").map_or("", String::as_str), Path::new(workdir))?;
        environment.entry("HOME".to_owned()).or_insert_with(|| home.to_owned());
        if has_terminal {
            environment.entry("TERM".to_owned()).or_insert_with(|| "xterm".to_owned()); // as docker's
        }
        let string = |text: String| {
            CString::new(names::from_text(&text).into_encoded_bytes()).context("pass the command's arguments")
        };
        let strings = |texts: Vec<String>| texts.into_iter().map(string).collect::<Result<Vec<_>, _>>();
        let mut all = strings(argv.to_vec())?;
        let environment =
            strings(environment.iter().map(|(name, value)| format!("{name}={value}")).collect())?;
        let pointers = |strings: &[CString]| {
            Pointers(strings.iter().map(|string| string.as_ptr()).chain([std::ptr::null()]).collect())
        };
        let (arguments, variables) = (pointers(&all), pointers(&environment));
        all.extend(environment);
        Ok(Program { path, _strings: all, arguments, environment: variables })
    }

    /// The path of the file.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Becomes the command; comes back only when that fails. Allocates nothing, so that it may be
    /// called after a fork; `path` is [`Program::path`].
    pub(crate) fn execute(&self, path: &CString) -> std::io::Error {
        // SAFETY: all three are what execve(2) asks for: a string, and two lists that end with a
        // null pointer, of strings that live as long as `self`. It changes nothing in our memory
        // when it fails.
        unsafe { libc::execve(path.as_ptr(), self.arguments.0.as_ptr(), self.environment.0.as_ptr()) };
        std::io::Error::last_os_error()
    }

    /// Returns the failure of a command that could not be executed, with docker's codes.
    pub(crate) fn failure(&self, error: &std::io::Error) -> Failure {
        let (code, why) = match error.kind() {
            // The file is there, or we would not have come here: it is what it wants that is not.
            ErrorKind::NotFound => match interpreter(&self.path) {
                Some(interpreter) => (127, format!("its interpreter {interpreter} is not there")),
                None => (127, "command not found".to_owned()),
            },
            _ if error.raw_os_error() == Some(libc::ENOEXEC) => (126, "exec format error".to_owned()),
            _ => (126, error.to_string()),
        };
        Failure { code, message: format!("{}: {why}", self.path.display()) }
    }
}

/// Finds a command in `path`, as a shell would, unless its name is a path itself.
fn find(name: &str, path: &str, workdir: &Path) -> Result<PathBuf, Failure> {
    let not_found = Failure { code: 127, message: format!("{name}: command not found") };
    if name.contains('/') {
        let file = workdir.join(names::from_text(name));
        return if file.symlink_metadata().is_ok() { Ok(file) } else { Err(not_found) };
    }
    let files: Vec<PathBuf> = path
        .split(':')
        .map(|directory| workdir.join(directory).join(names::from_text(name)))
        .filter(|file| file.is_file())
        .collect();
    let is_executable =
        |file: &&PathBuf| file.metadata().is_ok_and(|metadata| metadata.permissions().mode() & 0o111 != 0);
    // One that cannot be executed is better than none: executing it tells why.
    files.iter().find(is_executable).or(files.first()).cloned().ok_or(not_found)
}

/// The interpreter that a script or a dynamic program names.
fn interpreter(path: &Path) -> Option<String> {
    let mut bytes = Vec::new();
    std::io::Read::read_to_end(&mut std::io::Read::take(std::fs::File::open(path).ok()?, HEAD), &mut bytes)
        .ok()?;
    let text = |bytes: &[u8]| Some(String::from_utf8_lossy(bytes).trim_matches('\0').to_owned());
    if let Some(line) = bytes.strip_prefix(b"#!") {
        let words = line.split(|byte| *byte == b'\n').next().unwrap_or_default();
        return text(words.split(|byte| byte.is_ascii_whitespace()).find(|word| !word.is_empty())?);
    }
    let file = ElfBytes::<AnyEndian>::minimal_parse(&bytes).ok()?;
    let segment = file.segments()?.iter().find(|segment| segment.p_type == elf::abi::PT_INTERP)?;
    text(file.segment_data(&segment).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(directory: &Path, name: &str, text: &str, mode: u32) -> PathBuf {
        let path = directory.join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    #[test]
    fn a_command_is_found_as_a_shell_finds_it() {
        let scratch = tempfile::tempdir().unwrap();
        let [one, two] = ["one", "two"].map(|name| scratch.path().join(name));
        std::fs::create_dir(&one).unwrap();
        std::fs::create_dir(&two).unwrap();
        let path = format!("{}:two", one.display());
        file(&one, "text", "", 0o644);
        let tool = file(&two, "tool", "", 0o755);
        let found = |name: &str| find(name, &path, scratch.path()).map_err(|failure| failure.code);
        assert_eq!(found("tool"), Ok(tool.clone()), "a directory may be relative to the working directory");
        assert_eq!(found("text"), Ok(one.join("text")), "executing it tells why it cannot be");
        file(&one, "tool", "", 0o644);
        assert_eq!(found("tool"), Ok(tool), "one that can be executed comes first");
        assert_eq!((found("nothing"), found("/no/such/file")), (Err(127), Err(127)));
        assert_eq!(found("./two/tool"), Ok(scratch.path().join("./two/tool")));
    }

    #[test]
    fn the_interpreter_that_is_missing_is_named() {
        let scratch = tempfile::tempdir().unwrap();
        let script = file(scratch.path(), "script", "#! /no/such/shell -e\n", 0o755);
        assert_eq!(interpreter(&script).as_deref(), Some("/no/such/shell"));
        assert_eq!(interpreter(Path::new("/bin/sh")).as_deref(), Some("/lib64/ld-linux-x86-64.so.2"));
        assert_eq!(interpreter(&file(scratch.path(), "text", "text", 0o755)), None);
    }
}
