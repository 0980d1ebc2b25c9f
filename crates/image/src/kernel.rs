//! Kernels: the distribution's cloud kernel or one that the user brings.

use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use hypeman_files::{AtPath, Draft, copy_sparse, lock_store, remove_entry, sync_directory};
use hypeman_record::data_dir::DataDir;

use crate::error::{Error, Result, content};
use crate::progress::Progress;
use crate::{digest, initramfs, tool};

/// Debian's package that depends on the newest cloud kernel.
const META_PACKAGE: &str = "linux-image-cloud-amd64";
const VMLINUZ: &str = "vmlinuz";
const MODULES: &str = "modules";
const MODULES_DISK: &str = "modules.squashfs";

/// A kernel of the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kernel {
    /// Its version, as `uname -r` prints it, or the name it was imported by.
    pub version: String,
    directory: PathBuf,
}

impl Kernel {
    /// The bzImage or PVH ELF.
    #[must_use]
    pub fn vmlinuz(&self) -> PathBuf {
        self.directory.join(VMLINUZ)
    }
}

/// The kernels below one data directory.
#[derive(Debug, Clone)]
pub struct Kernels {
    kernels: PathBuf,
}

impl Kernels {
    /// The kernels below `data_dir`, which need not exist yet.
    #[must_use]
    pub fn new(data_dir: &DataDir) -> Kernels {
        Kernels { kernels: data_dir.kernels() }
    }

    /// Takes the distribution's cloud kernel: its package is fetched and verified by apt and
    /// unpacked into the store. It is not installed, and needs no root.
    ///
    /// # Errors
    /// When apt is missing, knows no such package or cannot fetch it, or the disk is full; nothing
    /// is left then.
    pub fn pull(&self, progress: &dyn Progress) -> Result<Kernel> {
        let package = newest_package()?;
        let scratch = Draft::begin(&self.kernels)?;
        progress.start(&format!("fetching {package}"), None);
        let downloads = scratch.path().join("downloads");
        std::fs::create_dir(&downloads).at(&downloads)?;
        let mut download = tool::command("apt-get", "apt")?;
        download.args(["download", "-qq", &package]).current_dir(&downloads);
        tool::run("apt-get download", &mut download)?;
        let archive = only_entry(&downloads, "apt-get download")?;
        let root = scratch.path().join("root");
        progress.start(&format!("unpacking {package}"), None);
        tool::run("dpkg-deb", tool::command("dpkg-deb", "dpkg")?.arg("-x").arg(&archive).arg(&root))?;
        let modules = only_entry(&root.join("lib/modules"), &package)?;
        let version = modules.file_name().unwrap_or_default().to_string_lossy().into_owned();
        self.adopt(&version, &root.join(format!("boot/vmlinuz-{version}")), Some(&modules))
    }

    /// Takes a kernel from a file, and its modules from a directory like `/lib/modules/VERSION`.
    ///
    /// # Errors
    /// When the file is no kernel, or the name is taken or no name.
    pub fn import(&self, vmlinuz: &Path, modules: Option<&Path>, name: &str) -> Result<Kernel> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || "._+-~".contains(c);
        if !name.starts_with(|c: char| c.is_ascii_alphanumeric())
            || !name.chars().all(allowed)
            || name.len() > 100
        {
            return Err(content(
                format!("the kernel's name {name:?}"),
                "give letters, digits, `.`, `_`, `+`, `~` and `-`",
            ));
        }
        if self.kernels.join(name).exists() {
            return Err(Error::KernelTaken(name.to_owned()));
        }
        self.adopt(name, vmlinuz, modules)
    }

    /// All kernels, the newest version first.
    ///
    /// # Errors
    /// When the directory cannot be read. That it is not there is no error.
    pub fn list(&self) -> Result<Vec<Kernel>> {
        let mut kernels = Vec::new();
        for directory in hypeman_files::entries(&self.kernels)? {
            let version = directory.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if directory.join(VMLINUZ).exists() {
                kernels.push(Kernel { version, directory });
            }
        }
        kernels.sort_by_cached_key(|kernel| std::cmp::Reverse(version_key(&kernel.version)));
        Ok(kernels)
    }

    /// The kernel of this version, or the newest.
    ///
    /// # Errors
    /// [`Error::NoKernel`].
    pub fn get(&self, version: Option<&str>) -> Result<Kernel> {
        let wanted = |kernel: &Kernel| version.is_none_or(|version| kernel.version == version);
        self.list()?.into_iter().find(wanted).ok_or_else(|| Error::NoKernel(version.map(str::to_owned)))
    }

    /// Removes a kernel; `user` is an instance that uses it.
    ///
    /// # Errors
    /// When there is no such kernel, or it is used.
    pub fn remove(&self, version: &str, user: Option<&str>) -> Result<()> {
        let held = lock_store(&self.kernels)?;
        let kernel = self.get(Some(version))?;
        if let Some(user) = user {
            return Err(Error::InUse { what: format!("kernel {version}"), user: user.to_owned() });
        }
        Ok(remove_entry(&self.kernels, &kernel.directory, &held)?)
    }

    /// The initramfs for a kernel of the store with this init; made when it is not there yet.
    ///
    /// # Errors
    /// When the kernel lacks a module that no VM can do without, or the disk is full.
    pub fn initramfs(&self, kernel: &Kernel, init: &Path) -> Result<PathBuf> {
        let modules = Some(kernel.directory.join(MODULES)).filter(|path| path.is_dir());
        self.made_once(&kernel.directory, modules.as_deref(), init)
    }

    /// The disk with all modules of a kernel of the store, a squashfs; made when it is not there
    /// yet. `None` for a kernel without modules.
    ///
    /// # Errors
    /// When gensquashfs is missing or fails, or the disk is full.
    pub fn modules_disk(&self, kernel: &Kernel) -> Result<Option<PathBuf>> {
        let modules = kernel.directory.join(MODULES);
        let disk = kernel.directory.join(MODULES_DISK);
        if disk.exists() || !modules.is_dir() {
            return Ok(Some(disk).filter(|disk| disk.exists()));
        }
        let scratch = Draft::begin(&self.kernels)?;
        let made = scratch.path().join(MODULES_DISK);
        make_modules_disk(&modules, &made)?;
        std::fs::rename(&made, &disk).at(&disk)?;
        Ok(Some(disk))
    }

    fn made_once(&self, directory: &Path, modules: Option<&Path>, init: &Path) -> Result<PathBuf> {
        // The init may change with any update of ours: its digest tells one initramfs from another.
        let hash = digest::of(&std::fs::read(init).at(init)?);
        let path = directory.join(format!("initramfs-{}", &digest::hex(&hash)?[..16]));
        if !path.exists() {
            let scratch = Draft::begin(&self.kernels)?;
            let made = scratch.path().join("initramfs");
            initramfs::write(modules, init, &made)?;
            std::fs::rename(&made, &path).at(&path)?;
        }
        Ok(path)
    }

    /// The initramfs for a kernel of the user's own, which has to have all drivers built in.
    ///
    /// # Errors
    /// When the disk is full.
    pub fn initramfs_without_modules(&self, init: &Path) -> Result<PathBuf> {
        std::fs::create_dir_all(&self.kernels).at(&self.kernels)?;
        self.made_once(&self.kernels, None, init)
    }

    /// Puts a kernel into the store under its version, whole or not at all.
    fn adopt(&self, version: &str, vmlinuz: &Path, modules: Option<&Path>) -> Result<Kernel> {
        kernel_kind(vmlinuz)?;
        let scratch = Draft::begin(&self.kernels)?;
        let made = scratch.path().join("kernel");
        std::fs::DirBuilder::new().mode(0o700).create(&made).at(&made)?;
        copy_sparse(vmlinuz, &made.join(VMLINUZ))?;
        if let Some(modules) = modules {
            copy_modules(modules, &made, version)?;
            make_modules_disk(&made.join(MODULES), &made.join(MODULES_DISK))?;
        }
        let directory = self.kernels.join(version);
        match std::fs::rename(&made, &directory) {
            // It is here already: the same version is the same kernel.
            Err(_) if directory.join(VMLINUZ).exists() => {}
            other => other.at(&directory)?,
        }
        sync_directory(&self.kernels)?;
        Ok(Kernel { version: version.to_owned(), directory })
    }
}

/// Copies modules, and makes their indexes when they have none, as in a package that was not
/// installed.
fn copy_modules(modules: &Path, kernel: &Path, version: &str) -> Result<()> {
    // depmod wants the directory where an installed kernel has it.
    let root = kernel.join("root");
    let parent = root.join("lib/modules");
    std::fs::create_dir_all(&parent).at(&parent)?;
    let target = parent.join(version);
    tool::run(
        "cp",
        tool::command("cp", "coreutils")?.args(["-r", "--no-dereference", "--"]).arg(modules).arg(&target),
    )?;
    if !target.join("modules.dep").exists() {
        tool::run("depmod", tool::command("depmod", "kmod")?.arg("-b").arg(&root).arg(version))?;
    }
    std::fs::rename(&target, kernel.join(MODULES)).at(&target)?;
    Ok(std::fs::remove_dir_all(&root).at(&root)?)
}

/// Packs a directory of modules into a disk for guests.
fn make_modules_disk(modules: &Path, disk: &Path) -> Result<()> {
    let mut command = tool::command("gensquashfs", "squashfs-tools-ng")?;
    command.args(["--quiet", "--all-root", "--compressor", "lz4", "--pack-dir"]).arg(modules).arg(disk);
    tool::run("gensquashfs", &mut command)?;
    Ok(())
}

/// The package that the meta package depends on, as apt knows it.
fn newest_package() -> Result<String> {
    let mut show = tool::command("apt-cache", "apt")?;
    let unknown = || {
        let reason = format!("apt knows no {META_PACKAGE}; run `apt-get update`, or import a kernel");
        tool::failed("apt-cache", reason)
    };
    let output = show.args(["show", "--no-all-versions", META_PACKAGE]).output().map_err(|_| unknown())?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let depends = text.lines().find_map(|line| line.strip_prefix("Depends: ")).ok_or_else(unknown)?;
    let package = depends.split([',', ' ']).find(|word| word.starts_with("linux-image-"));
    package.map(str::to_owned).ok_or_else(unknown)
}

fn only_entry(directory: &Path, whence: &str) -> Result<PathBuf> {
    let mut entries = std::fs::read_dir(directory).at(directory)?;
    match (entries.next(), entries.next()) {
        (Some(entry), None) => Ok(entry.at(directory)?.path()),
        _ => Err(tool::failed(whence, "it did not write its result")),
    }
}

/// Numbers in a version compare as numbers: 6.1.0-9 is older than 6.1.0-10.
fn version_key(version: &str) -> Vec<(u64, String)> {
    let parts = version.split(['.', '-', '+', '~', '_']);
    parts.map(|part| (part.parse().unwrap_or(0), part.to_owned())).collect()
}

/// Kinds of kernel images that a VMM can boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KernelKind {
    /// A Linux bzImage.
    BzImage,
    /// An ELF64 with a PVH note.
    PvhElf,
}

/// Looks what kind of kernel a file is.
///
/// # Errors
/// [`Error::NotAKernel`] for any other file.
pub fn kernel_kind(path: &Path) -> Result<KernelKind> {
    let bytes = std::fs::read(path).at(path)?;
    // The header of Documentation/arch/x86/boot.rst: "HdrS" at 0x202, behind the boot sector's
    // signature.
    if bytes.get(0x1fe..0x200) == Some(&[0x55, 0xaa]) && bytes.get(0x202..0x206) == Some(b"HdrS") {
        return Ok(KernelKind::BzImage);
    }
    // XEN_ELFNOTE_PHYS32_ENTRY is note 18 of the owner "Xen" (xen/include/public/elfnote.h).
    let note = [&18_u32.to_le_bytes()[..], b"Xen\0"].concat();
    let is_elf64 = bytes.starts_with(b"\x7fELF\x02");
    if is_elf64 && bytes.windows(note.len()).any(|window| window == note) {
        return Ok(KernelKind::PvhElf);
    }
    Err(Error::NotAKernel { path: path.display().to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_ordered_by_their_numbers() {
        let newer = |a: &str, b: &str| version_key(a) > version_key(b);
        assert!(newer("6.1.0-10-cloud-amd64", "6.1.0-9-cloud-amd64"));
        assert!(newer("6.12.1", "6.2.9"));
    }

    #[test]
    fn a_file_that_is_no_kernel_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("text");
        for bytes in [&b""[..], b"hello", b"\x7fELF\x02 without a note"] {
            std::fs::write(&path, bytes).unwrap();
            assert!(kernel_kind(&path).unwrap_err().to_string().contains("text"));
        }
    }
}
