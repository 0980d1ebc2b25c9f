//! modprobe for images without one: the kernel runs it when it wants a module (`request_module` in
//! kernel/module/kmod.c).
//! It finds modules as kmod does (modules.dep(5)), in what the host has put below /lib/modules.

use std::fs::File;
use std::path::{Path, PathBuf};

use glob::Pattern;
use rustix::fs::{CWD, FileType, Mode};

/// The file that names the program, and ours: it is PID 1, and stays it.
const SETTING: &str = "/proc/sys/kernel/modprobe";
const PROGRAM: &str = "/proc/1/exe";

/// The flag of finit_module(2) for a module that the kernel has to decompress
/// (`MODULE_INIT_COMPRESSED_FILE`).
const COMPRESSED: i32 = 4;

/// Has the kernel call us. A kernel without loadable modules has no such setting.
pub(crate) fn offer() {
    let _ = std::fs::write(SETTING, PROGRAM);
}

/// Makes the device nodes of modules that are not loaded yet, as udev would: opening one has the
/// kernel ask for its module (`modules.devname`, depmod(8)).
pub(crate) fn make_nodes() {
    let list = std::fs::read_to_string(directory().join("modules.devname")).unwrap_or_default();
    for (name, kind, device) in list.lines().filter_map(node) {
        let path = Path::new("/dev").join(name);
        // udev opens these to everyone, and no others of them.
        let mode = Mode::from_raw_mode(if matches!(name, "fuse" | "net/tun") { 0o666 } else { 0o600 });
        if let Some(parent) = path.parent() {
            let _ = std::fs::create_dir_all(parent);
        }
        // One that is there was made by the kernel, whose module is loaded.
        if rustix::fs::mknodat(CWD, &path, kind, mode, device).is_ok() {
            let _ = rustix::fs::chmod(&path, mode); // whatever the umask
        }
    }
}

/// A line `MODULE NODE TYPE MAJOR:MINOR`.
fn node(line: &str) -> Option<(&str, FileType, u64)> {
    let mut words = line.split_whitespace().skip(1);
    let (name, device) = (words.next()?, words.next()?);
    let kind = if device.starts_with('b') { FileType::BlockDevice } else { FileType::CharacterDevice };
    let (major, minor) = device.get(1..)?.split_once(':')?;
    Some((name, kind, rustix::fs::makedev(major.parse().ok()?, minor.parse().ok()?)))
}

fn directory() -> PathBuf {
    Path::new("/lib/modules").join(rustix::system::uname().release().to_string_lossy().into_owned())
}

/// The module that the kernel asks for, if these are the arguments of such a call: `-q -- NAME`.
pub(crate) fn requested(mut arguments: impl Iterator<Item = String>) -> Option<String> {
    let (quiet, end) = (arguments.next()?, arguments.next()?);
    (quiet == "-q" && end == "--").then(|| arguments.next()).flatten()
}

/// Loads a module, or all that an alias stands for, each after those it needs.
pub(crate) fn load(name: &str) -> std::io::Result<()> {
    let directory = directory();
    let read = |file: &str| std::fs::read_to_string(directory.join(file));
    for file in files(name, &read("modules.dep")?, &read("modules.alias").unwrap_or_default()) {
        let flags = if file.ends_with(".ko") { 0 } else { COMPRESSED };
        match rustix::system::finit_module(File::open(directory.join(&file))?, c"", flags) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// The files to load for `name`, in order.
fn files(name: &str, dependencies: &str, aliases: &str) -> Vec<String> {
    let name = normal(name);
    let file_of = |line: &str| line.split(':').next().unwrap_or_default().to_owned();
    let is = |line: &&str, module: &str| module_name(line.split(':').next().unwrap_or_default()) == module;
    let line_of = |module: &str| dependencies.lines().find(|line| is(line, module));
    let modules: Vec<String> = match line_of(&name) {
        Some(_) => vec![name],
        None => aliases.lines().filter_map(|line| alias(line, &name)).collect(),
    };
    let mut files = Vec::new();
    for line in modules.iter().filter_map(|module| line_of(module)) {
        // A module's dependencies follow it, the first one to load at the end.
        let needed = line.split(':').nth(1).unwrap_or_default().split_whitespace().rev().map(str::to_owned);
        for file in needed.chain([file_of(line)]) {
            if !files.contains(&file) {
                files.push(file);
            }
        }
    }
    files
}

/// The module of a line `alias PATTERN MODULE` whose pattern matches.
fn alias(line: &str, name: &str) -> Option<String> {
    let mut words = line.split_whitespace();
    let (keyword, pattern, module) = (words.next()?, words.next()?, words.next()?);
    let matches = || Pattern::new(&normal(pattern)).is_ok_and(|pattern| pattern.matches(name));
    (keyword == "alias" && matches()).then(|| normal(module))
}

/// `kernel/drivers/block/virtio-blk.ko.xz` is the module `virtio_blk`.
fn module_name(file: &str) -> String {
    let base = file.rsplit('/').next().unwrap_or(file);
    normal(base.split(".ko").next().unwrap_or(base))
}

/// To kmod a dash is an underscore.
fn normal(name: &str) -> String {
    name.replace('-', "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEPENDENCIES: &str = "\
kernel/fs/xfs/xfs.ko: kernel/lib/libcrc32c.ko
kernel/lib/libcrc32c.ko:
kernel/net/bridge/bridge.ko: kernel/net/802/stp.ko kernel/net/llc/llc.ko
kernel/net/802/stp.ko: kernel/net/llc/llc.ko
kernel/net/llc/llc.ko:
kernel/drivers/net/dummy.ko.xz:
";
    const ALIASES: &str =
        "# comment\nalias fs-xfs xfs\nalias rtnl-link-bridge bridge\nalias pci:v00001AF4d*sv* dummy\n";

    #[test]
    fn a_module_is_found_by_its_name_or_alias_and_comes_after_what_it_needs() {
        let found = |name: &str| files(name, DEPENDENCIES, ALIASES);
        assert_eq!(found("fs-xfs"), ["kernel/lib/libcrc32c.ko", "kernel/fs/xfs/xfs.ko"]);
        assert_eq!(
            found("rtnl-link-bridge"),
            ["kernel/net/llc/llc.ko", "kernel/net/802/stp.ko", "kernel/net/bridge/bridge.ko"]
        );
        assert_eq!(found("dummy"), ["kernel/drivers/net/dummy.ko.xz"]);
        assert_eq!(found("pci:v00001AF4d00001000sv0"), ["kernel/drivers/net/dummy.ko.xz"]);
        assert_eq!(found("no-such-module"), Vec::<String>::new());
    }

    #[test]
    fn a_node_is_told_by_its_line() {
        let device = rustix::fs::makedev(10, 229);
        assert_eq!(node("fuse fuse c10:229"), Some(("fuse", FileType::CharacterDevice, device)));
        assert_eq!(node("# Device nodes to trigger on-demand module loading."), None);
        assert_eq!(node("x y b7:z"), None);
    }

    #[test]
    fn only_the_kernel_s_way_of_asking_is_taken_for_that() {
        let asked = |words: &[&str]| requested(words.iter().map(ToString::to_string));
        assert_eq!(asked(&["-q", "--", "loop"]), Some("loop".to_owned()));
        assert_eq!(asked(&["-q", "loop", "x"]), None);
        assert_eq!(asked(&[]), None);
    }
}
