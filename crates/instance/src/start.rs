//! Starting: the record is resolved to a launch order, and a shim of its own is started to carry it out.

use std::fs::OpenOptions;
use std::io::{BufRead, BufReader, Read};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use hypeman_files::{AtPath, write_disk};
use hypeman_guest::config::{self, GuestConfig};
use hypeman_guest::{CONTROL_PORT, disk, status};
use hypeman_image::kernel::Kernels;
use hypeman_record::format::{self, Envelope};
use hypeman_record::launch::{Guest, Launch};
use hypeman_record::names;
use hypeman_record::protocol::Started;
use hypeman_record::record::{CommandSpec, KernelUse, Record};
use hypeman_vmm::findings::Findings;
use hypeman_vmm::spec::{Disk, VmSpec};

use crate::client::Client;
use crate::error::{Error, Field, Needs, Result};
use crate::stop;
use crate::store::{Instance, Store};
use crate::{accelerator, cmdline};

/// The programs of ours that a start needs.
#[derive(Debug, Clone)]
pub struct Programs {
    /// The `hypeman` binary, which is also the shim.
    pub hypeman: PathBuf,
    /// The static `hypeman-init` that becomes PID 1 in the guest.
    pub init: PathBuf,
}

/// Starts an instance; returns when its guest runs and its console is being kept. The returned client was connected
/// before the guest ran: an instance that removes itself stays as long as the client does, so no end is missed.
///
/// # Errors
/// When it runs already, or cannot be started; its logs are kept in both cases.
pub fn start(store: &Store, instance: &Instance, programs: &Programs) -> Result<Client> {
    let _lock = instance.lock()?;
    let state = instance.observe()?.state;
    if state.is_active() || state == hypeman_record::state::State::Unknown {
        return Err(Error::State { name: instance.record.name.clone(), state, needs: Needs::Stopped });
    }
    stop::wait_for_shim(instance)?; // the last one may have its end recorded and still be there
    let logs = instance.directory.join(names::LOGS);
    std::fs::create_dir_all(&logs).at(&logs)?; // someone may have cleared them away
    let launch = prepare(store, instance, programs)?;
    format::write(&instance.directory.join(names::LAUNCH), &launch)?;
    start_shim(instance, &programs.hypeman)
}

/// Resolves a record to what holds on this host now, and writes the disks of this start.
fn prepare(store: &Store, instance: &Instance, programs: &Programs) -> Result<Launch> {
    let record = &instance.record;
    let findings = Findings::in_directory(store.data_dir());
    let settings = &record.settings;
    let program =
        hypeman_vmm::hypervisor(settings.hypervisor).discover(settings.program.as_deref(), &findings)?;
    let decision = accelerator::decide(record, &program, &findings)?;
    let boot = boot_files(store, record, programs)?;
    let spec = VmSpec {
        name: record.name.clone(),
        vcpus: record.settings.vcpus,
        memory: record.settings.memory,
        hotplug_memory: record.settings.hotplug_memory,
        kernel: boot.kernel,
        initramfs: boot.initramfs,
        cmdline: cmdline::of(record, decision.accelerator),
        disks: disks(store, record, boot.modules.as_deref())?,
        accelerator: decision.accelerator,
        cpu_left_out: decision.cpu_left_out,
        control_port: record.command.is_some().then(|| CONTROL_PORT.to_owned()),
    };
    if let Some(command) = &record.command {
        let path = instance.directory.join(names::CONFIG);
        write_disk(&path, &guest_config(record, command, boot.modules.is_some())?, config::DISK_SIZE)?;
        write_disk(&instance.directory.join(names::STATUS), &[], status::DISK_SIZE)?;
    }
    Ok(Launch {
        hypervisor: record.settings.hypervisor,
        found: Some(program),
        spec,
        guest: Guest::of(record.command.as_ref().map(|command| command.mode)),
        note: decision.note,
        log: record.settings.log,
        auto_remove: record.settings.auto_remove,
        envelope: Envelope::of::<Launch>(),
    })
}

/// What a VM boots from, as seen from the instance's directory.
struct BootFiles {
    kernel: PathBuf,
    initramfs: Option<PathBuf>,
    /// Disk with the kernel's modules.
    modules: Option<PathBuf>,
}

fn boot_files(store: &Store, record: &Record, programs: &Programs) -> Result<BootFiles> {
    let own_initrd = record.own_initrd.then(|| PathBuf::from(names::INITRD));
    let kernels = Kernels::new(store.data_dir());
    match &record.kernel {
        KernelUse::Own { .. } => {
            // An image needs our init; with a kernel of the user's own, the modules of the newest known kernel would
            // not fit, so its drivers must be built in or come with the user's initramfs.
            let initramfs = match (&own_initrd, &record.image) {
                (Some(path), _) => Some(path.clone()),
                (None, Some(_)) => Some(relative(store, &kernels.initramfs_without_modules(&programs.init)?)),
                (None, None) => None,
            };
            Ok(BootFiles { kernel: PathBuf::from(names::KERNEL), initramfs, modules: None })
        }
        KernelUse::Version(version) => {
            let kernel = kernels.get(Some(version))?;
            let initramfs = match own_initrd {
                Some(path) => path,
                None => relative(store, &kernels.initramfs(&kernel, &programs.init)?),
            };
            let modules = match &record.image {
                Some(_) => kernels.modules_disk(&kernel)?.map(|disk| relative(store, &disk)),
                None => None,
            };
            Ok(BootFiles { kernel: relative(store, &kernel.vmlinuz()), initramfs: Some(initramfs), modules })
        }
    }
}

fn disks(store: &Store, record: &Record, modules: Option<&Path>) -> Result<Vec<Disk>> {
    let Some(image) = &record.image else {
        return Ok(Vec::new());
    };
    let image = hypeman_image::Store::new(store.data_dir()).get(&image.digest)?;
    let disk = |path: PathBuf, serial: &str, read_only| Disk {
        path,
        serial: serial.to_owned(),
        read_only,
        rate_limit: None,
    };
    let limited = |disk| Disk { rate_limit: record.settings.disk_rate_limit, ..disk };
    let mut disks = vec![
        limited(disk(relative(store, &image.rootfs()), disk::ROOT, true)),
        limited(disk(names::OVERLAY.into(), disk::OVERLAY, false)),
        disk(names::CONFIG.into(), disk::CONFIG, true),
        disk(names::STATUS.into(), disk::STATUS, false),
    ];
    disks.extend(modules.map(|modules| disk(modules.to_owned(), disk::MODULES, true)));
    Ok(disks)
}

/// A path below the data directory as seen from the directory of an instance.
fn relative(store: &Store, path: &Path) -> PathBuf {
    path.strip_prefix(store.data_dir())
        .map_or_else(|_| path.to_owned(), |below| Path::new("../..").join(below))
}

/// Refuses at creation what could never be started: a command and an environment that do not fit on their disk.
pub(crate) fn check_config(record: &Record) -> Result<()> {
    let Some(command) = &record.command else { return Ok(()) };
    let length = guest_config(record, command, true)?.len() as u64;
    if length <= config::DISK_SIZE {
        return Ok(());
    }
    Err(Error::Invalid {
        field: Field::Command,
        value: format!("of {length} bytes"),
        reason: format!("all of it has to fit into {} KiB", config::DISK_SIZE / 1024),
    })
}

/// What init is told, as it stands on its disk.
fn guest_config(record: &Record, command: &CommandSpec, modules: bool) -> Result<Vec<u8>> {
    let mut env = command.env.clone();
    env.entry("HOSTNAME".to_owned()).or_insert_with(|| record.name.clone());
    let config = GuestConfig {
        hostname: record.name.clone(),
        mode: command.mode,
        argv: command.argv.clone(),
        env,
        workdir: command.workdir.clone(),
        user: command.user.clone(),
        stop_signal: command.stop_signal,
        ulimits: command.ulimits.clone(),
        pid_namespace: command.pid_namespace,
        modules,
    };
    Ok(serde_json::to_vec(&config).map_err(std::io::Error::from).at(Path::new(names::CONFIG))?)
}

/// Starts the shim and waits for its word. Its socket is made here and handed over as standard input, so that from the
/// shim's first moment a request waits in the backlog instead of being refused.
fn start_shim(instance: &Instance, hypeman: &Path) -> Result<Client> {
    let listener = listen(&instance.directory)?;
    let client = Client::connect(&instance.record.name, &instance.directory)?;
    let (word, shim_end) = std::io::pipe().at(&instance.directory)?;
    let log = instance.directory.join(names::HYPEMAN_LOG);
    let stderr = OpenOptions::new().append(true).create(true).mode(0o600).open(&log).at(&log)?;
    let mut child = Command::new(hypeman)
        .arg("shim")
        .arg(&instance.directory)
        .stdin(OwnedFd::from(listener))
        .stdout(Stdio::from(shim_end))
        .stderr(stderr)
        .spawn()
        .at(hypeman)?;
    let mut line = String::new();
    // Ends with the line, or with the shim.
    BufReader::new(word).take(64 * 1024).read_line(&mut line).at(&instance.directory)?;
    let failed = |reason: String| Error::Start { name: instance.record.name.clone(), reason };
    match serde_json::from_str(&line) {
        Ok(Started::Ready) => Ok(client),
        Ok(Started::Failed { message }) => {
            let _ = child.wait(); // it has said its last word
            Err(failed(message))
        }
        Err(_) => {
            let how = child.wait().map_or_else(|error| error.to_string(), |status| status.to_string());
            Err(failed(format!("the shim ended without a word ({how}); {} may say more", log.display())))
        }
    }
}

fn listen(directory: &Path) -> Result<UnixListener> {
    let socket = directory.join(names::SHIM_SOCKET);
    match std::fs::remove_file(&socket) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Ok(Err(error).at(&socket)?),
        _ => {}
    }
    // By the handle of the directory, because the path of a socket has only 108 bytes (unix(7)).
    let handle = std::fs::File::open(directory).at(directory)?;
    let path = format!("/proc/self/fd/{}/{}", handle.as_raw_fd(), names::SHIM_SOCKET);
    Ok(UnixListener::bind(path).at(&socket)?)
}
