//! A Debian with systemd as process 1, in namespaces of its own.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use crate::fixtures::directory;
use crate::needs::cgroups;
use crate::processes::KilledOnDrop;
use crate::wait::{DEADLINE, eventually, within};

/// Script in the place of firmware and initramfs. It gives the Debian only those of the host's
/// devices that hold nothing of the host's.
const BOOT: &str = r#"
    cd "$1"
    mount --bind . .
    cd "$1"
    mount -t proc proc proc
    mount -t sysfs sys sys
    mount -t cgroup2 none sys/fs/cgroup
    for directory in run tmp dev; do mount -t tmpfs -o mode=755 tmpfs $directory; done
    chmod 1777 tmp
    mkdir dev/pts dev/shm
    mount -t devpts -o newinstance,ptmxmode=0666 devpts dev/pts
    ln -s pts/ptmx dev/ptmx
    ln -s /proc/self/fd dev/fd
    for device in null zero full random urandom tty; do touch dev/$device; mount --bind /dev/$device dev/$device; done
    ip link set lo up
    exec env -i container=test PATH="$PATH" chroot . /lib/systemd/systemd
"#;

/// A Debian that runs. It ends, with all of its processes, when this is dropped.
#[derive(Debug)]
pub struct Container {
    _process: KilledOnDrop,
    _cgroup: Cgroup,
    /// Its process 1.
    init: String,
    root: tempfile::TempDir,
}

/// A cgroup of version 2, removed with all below when this is dropped.
#[derive(Debug)]
struct Cgroup(PathBuf);

impl Cgroup {
    fn new() -> Cgroup {
        let path = cgroups().expect("cgroups").join(format!("hypeman-container-{}", std::process::id()));
        std::fs::create_dir(&path).expect("a cgroup");
        Cgroup(path)
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let _ = within(DEADLINE, || remove(&self.0).ok()); // a killed process takes its time
    }
}

/// Removes a cgroup and those below it, in which no process may be.
fn remove(cgroup: &Path) -> std::io::Result<()> {
    for entry in std::fs::read_dir(cgroup)? {
        let path = entry?.path();
        if path.is_dir() {
            remove(&path)?;
        }
    }
    std::fs::remove_dir(cgroup)
}

impl Container {
    /// Boots a Debian 12 that has these packages besides; it is made once.
    ///
    /// # Panics
    /// When it does not come up.
    #[must_use]
    pub fn boot(packages: &str) -> Container {
        let root = tempfile::tempdir_in(directory()).expect("a directory");
        let unpacked =
            Command::new("tar").arg("-xf").arg(debian(packages)).arg("-C").arg(root.path()).status();
        assert!(unpacked.expect("tar").success());
        let namespaces =
            ["--mount", "--pid", "--cgroup", "--uts", "--ipc", "--net", "--fork", "--kill-child"];
        let cgroup = Cgroup::new();
        let mut command = Command::new("sh");
        command.args(["-ec", r#"echo 0 >"$1"/cgroup.procs; shift; exec unshare "$@""#, "sh"]).arg(&cgroup.0);
        command.args(namespaces).args(["sh", "-ec", BOOT, "sh"]).arg(root.path());

        let process = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn();
        let process = KilledOnDrop(process.expect("unshare"));
        let pid = process.0.id();
        let children = || std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok();
        let init = eventually("a process in it", || Some(children()?.split_whitespace().next()?.to_owned()));
        let container = Container { _process: process, _cgroup: cgroup, init, root };
        eventually("it is up", || {
            let state = container.run(&["systemctl", "is-system-running", "--wait"]).stdout;
            (state == b"running\n").then_some(())
        });
        container
    }

    /// A path of the host's of a file in it.
    #[must_use]
    pub fn path(&self, path: &str) -> PathBuf {
        self.root.path().join(path.trim_start_matches('/'))
    }

    /// Runs a command in it.
    ///
    /// # Panics
    /// When it cannot be run.
    #[must_use]
    pub fn run(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new("nsenter");
        command.args([
            "--target", &self.init, "--mount", "--pid", "--cgroup", "--uts", "--ipc", "--net", "chroot",
        ]);
        command.arg(self.root.path()).args(["env", "-i", "HOME=/root", "PATH=/usr/sbin:/usr/bin:/sbin:/bin"]);
        command.args(arguments).output().expect("nsenter")
    }

    /// Runs a command in it that has to succeed; what it said, without the last newline.
    ///
    /// # Panics
    /// When it fails.
    pub fn ok(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
        assert!(output.status.success(), "{arguments:?}: {} {}", text(&output.stdout), text(&output.stderr));
        text(&output.stdout)
    }
}

fn debian(packages: &str) -> PathBuf {
    let tar = directory().join("container.tar");
    if !tar.exists() {
        let temporary = tar.with_extension("part.tar");
        let include = format!("--include=systemd-sysv,{packages}");
        let made = Command::new("mmdebstrap")
            .args(["--variant=minbase", &include, "--quiet", "bookworm"])
            .arg(&temporary)
            .status();
        assert!(made.expect("mmdebstrap").success());
        std::fs::rename(&temporary, &tar).expect("rename");
    }
    tar
}

/// Makes the Debian package of this release, or of a later one that is the same.
///
/// # Panics
/// When it cannot be made.
pub fn package(output: &Path, version: &str) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("scripts/deb.sh");
    let made = Command::new(script).arg("dev").arg(output).arg(version).output().expect("deb.sh");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
}
