//! The kernel and the images that tests share, made once and kept below `target/`.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::bed::Bed;
use crate::needs::find;

/// Name of the image of Debian's busybox.
pub const BUSYBOX: &str = "test/busybox";
/// Name of the image of a Debian 12 with systemd.
pub const DEBIAN: &str = "test/debian-with-login";

/// The password of its root.
pub const PASSWORD: &str = "secret";

/// The shared bed.
#[must_use]
pub fn bed() -> &'static Bed {
    static BED: OnceLock<Bed> = OnceLock::new();
    BED.get_or_init(|| {
        let data_dir = directory().join("data");
        std::fs::create_dir_all(&data_dir).expect("make it");
        let bed = Bed::new(&data_dir);
        // Files that killed tests have left.
        for id in bed.ok(&["ps", "-aq"]).lines() {
            bed.ok(&["rm", "-f", id]);
        }
        bed
    })
}

/// `target/e2e`.
///
/// # Panics
/// When it cannot be made.
#[must_use]
pub fn directory() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
    let directory = root.join("target/e2e");
    std::fs::create_dir_all(&directory).expect("make target/e2e");
    directory
}

/// The test guest as a file.
#[must_use]
pub fn testguest() -> &'static str {
    static PATH: OnceLock<String> = OnceLock::new();
    PATH.get_or_init(|| {
        let path = directory().join("testguest.elf");
        testguest::write_to(&path).expect("write the test guest");
        path.to_str().expect("UTF-8").to_owned()
    })
}

/// Makes sure that there is a kernel.
pub fn kernel() {
    static ONCE: OnceLock<()> = OnceLock::new();
    ONCE.get_or_init(|| {
        if bed().ok(&["kernel", "ls", "--format", "json"]).is_empty() {
            bed().ok(&["kernel", "pull"]);
        }
    });
}

/// The image of busybox; its name.
#[must_use]
pub fn busybox() -> &'static str {
    static ONCE: OnceLock<()> = OnceLock::new();
    ONCE.get_or_init(|| {
        kernel();
        if !has(BUSYBOX) {
            let tar = busybox_tar();
            bed().ok(&["image", "import", "--name", BUSYBOX, tar.to_str().expect("UTF-8")]);
        }
    });
    BUSYBOX
}

/// A root filesystem with nothing but busybox and its links, as a tar file.
#[must_use]
pub fn busybox_tar() -> PathBuf {
    let tar = directory().join("busybox.tar");
    if !tar.exists() {
        let root = tempfile::tempdir_in(directory()).expect("a directory");
        for name in ["bin", "etc", "tmp", "proc", "sys", "dev", "run"] {
            std::fs::create_dir(root.path().join(name)).expect("a directory");
        }
        let busybox = find("busybox").expect("busybox");
        std::fs::copy(&busybox, root.path().join("bin/busybox")).expect("copy busybox");
        let applets = Command::new(&busybox).arg("--list").output().expect("busybox --list").stdout;
        for applet in String::from_utf8_lossy(&applets).lines().filter(|applet| *applet != "busybox") {
            std::os::unix::fs::symlink("busybox", root.path().join("bin").join(applet)).expect("a link");
        }
        std::fs::write(root.path().join("etc/passwd"), "root:x:0:0::/root:/bin/sh\nweb:x:33:33::/:/bin/sh\n")
            .expect("passwd");
        std::fs::write(root.path().join("etc/group"), "root:x:0:\nweb:x:33:\n").expect("group");
        std::fs::write(root.path().join("etc/not-executable"), "text\n").expect("a file");
        let temporary = tar.with_extension("tmp");
        run(Command::new("tar")
            .arg("-C")
            .arg(root.path())
            .args(["--owner=0", "--group=0", "-cf"])
            .arg(&temporary)
            .arg("."));
        std::fs::rename(&temporary, &tar).expect("rename");
    }
    tar
}

/// The image of a Debian 12 with systemd, whose service `traffic` prints numbered lines through
/// /dev/kmsg; its name.
#[must_use]
pub fn debian() -> &'static str {
    static ONCE: OnceLock<()> = OnceLock::new();
    ONCE.get_or_init(|| {
        kernel();
        if !has(DEBIAN) {
            let tar = debian_tar();
            let import = ["image", "import", "--name", DEBIAN, "--cmd", "/sbin/init"];
            bed().ok(&[&import[..], &[tar.to_str().expect("UTF-8")]].concat());
        }
    });
    DEBIAN
}

fn debian_tar() -> PathBuf {
    let tar = directory().join("debian-with-login.tar");
    if !tar.exists() {
        // The power button wakes logind, which needs dbus, and which udev tells of the button.
        let mut unit = tempfile::NamedTempFile::new_in(directory()).expect("a file");
        unit.write_all(include_bytes!("traffic.service")).expect("write the unit");
        let unit = unit.path().to_str().expect("UTF-8").to_owned();
        let temporary = tar.with_extension("part.tar");
        run(Command::new("mmdebstrap")
            .args(["--variant=minbase", "--include=systemd-sysv,dbus,udev", "--quiet"])
            .arg(format!("--customize-hook=upload {unit} /etc/systemd/system/traffic.service"))
            .arg("--customize-hook=chroot \"$1\" systemctl enable traffic.service")
            .arg(format!("--customize-hook=echo root:{PASSWORD} | chroot \"$1\" chpasswd"))
            .arg("bookworm")
            .arg(&temporary));
        std::fs::rename(&temporary, &tar).expect("rename");
    }
    tar
}

fn has(image: &str) -> bool {
    bed().run(&["image", "inspect", image]).code == 0
}

fn run(command: &mut Command) {
    let status = command.status().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(status.success(), "{command:?}: {status}");
}
