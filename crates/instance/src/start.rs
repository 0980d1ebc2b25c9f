//! Starting: the record is resolved to a launch order, and a shim of its own is started to carry it out.

use std::fs::OpenOptions;
use std::io::{BufRead, BufReader, PipeReader, Read};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::Duration;

use command_fds::{CommandFdExt, FdMapping};
use hypeman_agent::PORT_NAME;
use hypeman_files::{AtPath, Lock, write_disk};
use hypeman_image::kernel::Kernels;
use hypeman_record::confinement::Strictness;
use hypeman_record::format::{self, Envelope};
use hypeman_record::guest::config::{self, AgentChannel, GuestConfig, Mode};
use hypeman_record::guest::{disk, status};
use hypeman_record::launch::{Guest, Launch};
use hypeman_record::network::Wiring;
use hypeman_record::record::{CommandSpec, KernelUse, OnReboot, Record};
use hypeman_record::spec::{Disk, HypervisorKind, VmSpec};
use hypeman_record::state::State;
use hypeman_record::{names, protocol};
use hypeman_snapshot::standby;
use hypeman_vmm::findings::Findings;

use crate::client::Client;
use crate::error::{Error, Field, Needs, Result};
use crate::store::{Instance, Store, short_path};
use crate::{accelerator, background, cmdline, network, stop};

/// How long a shim whose VM has ended may take to go.
const LEAVING: Duration = Duration::from_secs(10);

/// How long one is waited for whose VM is about to end, before it has to be stopped first.
const ENDING: Duration = Duration::from_secs(2);

/// The programs of ours that a start needs.
#[derive(Debug, Clone)]
pub struct Programs {
    /// The `hypeman` binary, which is also the shim.
    pub hypeman: PathBuf,
    /// The static `hypeman-init` that becomes PID 1 in the guest.
    pub init: PathBuf,
}

/// What became of a start.
#[derive(Debug)]
pub enum Started {
    /// The guest runs now. The client was connected before it did: an instance that removes itself stays as long as the client
    /// does, so no end is missed.
    Now(Client),
    /// It runs already.
    Already,
}

/// Starts an instance; returns when its guest runs and its console is being kept.
///
/// # Errors
/// When it cannot be started; its logs are kept.
pub fn start(store: &Store, instance: &Instance, programs: &Programs) -> Result<Started> {
    let Some(alive) = become_starter(instance, Begin::Boot)? else { return Ok(Started::Already) };
    let order = || prepare(store, instance, programs);
    start_shim(instance, programs, Begin::Boot, alive, order).map(Started::Now)
}

/// How a VM comes to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Begin {
    /// It boots.
    Boot,
    /// It goes on from its snapshot.
    Restore,
}

/// Starts the shim of an instance whose starter we are, with the order that `order` makes.
pub(crate) fn start_shim(
    instance: &Instance,
    programs: &Programs,
    begin: Begin,
    alive: Lock,
    order: impl FnOnce() -> Result<Launch>,
) -> Result<Client> {
    network::release(&instance.directory); // what a shim that was killed has left
    let changed = instance.lock()?;
    // Someone may have been quicker than our look at it.
    if standby::is_whole(&instance.directory) != (begin == Begin::Restore) {
        drop((changed, alive));
        return Err(instance.refused(instance.observe()?.state, begin.needs()));
    }
    let logs = instance.directory.join(names::LOGS);
    std::fs::create_dir_all(&logs).at(&logs)?; // someone may have cleared them away
    format::write_unsynced(&instance.directory.join(names::LAUNCH), &order()?)?;
    let listener = listen(&instance.directory)?;
    let task = if begin == Begin::Boot { "shim" } else { "shim-restore" };
    let shim = Shim::start(instance, &programs.hypeman, task, listener, alive)?;
    drop(changed); // the directory is the shim's now, and the rest is waiting
    shim.wait_until_ready(instance)
}

impl Begin {
    /// What has to be true of an instance that does not run.
    fn needs(self) -> Needs {
        match self {
            Begin::Boot => Needs::NoSnapshot,
            Begin::Restore => Needs::Standby,
        }
    }
}

/// Takes the lock that the shim will hold: whoever has it is the only one who starts this instance. `None` when it runs.
pub(crate) fn become_starter(instance: &Instance, begin: Begin) -> Result<Option<Lock>> {
    let path = instance.directory.join(names::SHIM_PID);
    let mut has_waited = false;
    loop {
        let state = instance.observe()?.state;
        if (state, begin) == (State::Shutdown, Begin::Boot) && !std::mem::replace(&mut has_waited, true) {
            stop::wait_for_shim(instance, ENDING)?;
            continue;
        }
        let needs = match (state, begin) {
            (State::Created | State::Stopped, Begin::Boot) | (State::Standby, Begin::Restore) => None,
            (State::Initializing | State::Running, _) | (State::Paused, Begin::Boot) => return Ok(None),
            (State::Shutdown | State::Unknown, Begin::Boot) => Some(Needs::Stopped),
            (State::Standby, Begin::Boot) | (_, Begin::Restore) => Some(begin.needs()),
        };
        if let Some(needs) = needs {
            return Err(instance.refused(state, needs));
        }
        stop::wait_for_shim(instance, LEAVING)?; // the last one may have its end recorded and still be there
        match Lock::try_acquire(&path) {
            Ok(Some(lock)) => return Ok(Some(lock)),
            Ok(None) => {} // someone else starts it
            Err(error) if error.is_not_found() => return Err(Error::NotFound(instance.record.name.clone())),
            Err(error) => return Err(error.into()),
        }
    }
}

/// Resolves a record to what holds on this host now, and writes the disks of this start.
fn prepare(store: &Store, instance: &Instance, programs: &Programs) -> Result<Launch> {
    let record = &instance.record;
    check_confinement(record)?;
    let findings = Findings::in_directory(store.data_dir());
    let settings = &record.settings;
    let program =
        hypeman_vmm::hypervisor(settings.hypervisor).discover(settings.program.as_deref(), &findings)?;
    let decision = accelerator::decide(record, &program, &findings)?;
    let boot = boot_files(store, record, programs)?;
    let network = network::wiring(store, instance)?;
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
        by_descriptor: true,
        nic: network.as_ref().map(network::nic),
        control_port: record.command.is_some().then(|| PORT_NAME.to_owned()),
    };
    if let Some(command) = &record.command {
        let path = instance.directory.join(names::CONFIG);
        write_disk(
            &path,
            &guest_config(record, command, boot.modules.is_some(), network.as_ref())?,
            config::DISK_SIZE,
        )?;
        write_disk(&instance.directory.join(names::STATUS), &[], status::DISK_SIZE)?;
    }
    Ok(Launch {
        hypervisor: record.settings.hypervisor,
        found: Some(program),
        spec,
        guest: Guest::of(record.command.as_ref().map(|command| command.mode)),
        note: decision.note,
        network,
        log: record.settings.log,
        auto_remove: record.settings.auto_remove,
        on_reboot: on_reboot(record),
        confine: record.settings.confine,
        envelope: Envelope::of::<Launch>(),
    })
}

/// Refuses a VM that is to be confined as this host cannot. What only its start can show the shim refuses.
fn check_confinement(record: &Record) -> Result<()> {
    if record.settings.confine != Strictness::Strict {
        return Ok(());
    }
    match hypeman_confine::missing(&hypeman_confine::survey()) {
        missing if missing.is_empty() => Ok(()),
        missing => Err(Error::NotConfined { name: record.name.clone(), missing }),
    }
}

/// What to do when the guest reboots. A system is booted again, as everywhere; of anything else a reboot is the end.
fn on_reboot(record: &Record) -> OnReboot {
    let is_system = record.command.as_ref().is_some_and(|command| command.mode == Mode::Systemd);
    let usual = if is_system { OnReboot::Restart } else { OnReboot::Stop };
    record.settings.on_reboot.unwrap_or(usual)
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
    let length = guest_config(record, command, true, None)?.len() as u64;
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
fn guest_config(
    record: &Record,
    command: &CommandSpec,
    modules: bool,
    network: Option<&Wiring>,
) -> Result<Vec<u8>> {
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
        stdio: command.stdio,
        modules,
        agent: match record.settings.hypervisor {
            HypervisorKind::CloudHypervisor => AgentChannel::Vsock,
            HypervisorKind::Qemu | HypervisorKind::QemuMicrovm => AgentChannel::Port,
        },
        machine_id: Some(Record::machine_id(&record.id)),
        health: command.health.clone(),
        network: network.map(|network| network.guest.clone()),
    };
    Ok(serde_json::to_vec(&config).map_err(std::io::Error::from).at(Path::new(names::CONFIG))?)
}

/// A shim that was just started.
pub(crate) struct Shim {
    process: Child,
    /// Where it says its word.
    word: PipeReader,
    client: Client,
}

impl Shim {
    /// Starts the shim. Its socket is made here and handed over as standard input, so that from the shim's first moment a
    /// request waits in the backlog instead of being refused; and with it the lock that says that there is a shim.
    pub(crate) fn start(
        instance: &Instance,
        hypeman: &Path,
        task: &str,
        listener: UnixListener,
        alive: Lock,
    ) -> Result<Shim> {
        let directory = &instance.directory;
        let client = Client::connect(&instance.record.name, directory)?;
        let (word, shim_end) = std::io::pipe().at(directory)?;
        let log = directory.join(names::HYPEMAN_LOG);
        let stderr = OpenOptions::new().append(true).create(true).mode(0o600).open(&log).at(&log)?;
        let lock = FdMapping { parent_fd: alive.into(), child_fd: names::SHIM_LOCK_FD };
        let mut command = background::command(hypeman);
        command.arg(task).arg(directory).stdin(OwnedFd::from(listener)).stdout(shim_end).stderr(stderr);
        command.fd_mappings(vec![lock]).map_err(std::io::Error::other).at(hypeman)?;
        Ok(Shim { process: command.spawn().at(hypeman)?, word, client })
    }

    /// Waits for its word.
    pub(crate) fn wait_until_ready(mut self, instance: &Instance) -> Result<Client> {
        let mut line = String::new();
        // Ends with the line, or with the shim.
        BufReader::new(self.word).take(64 * 1024).read_line(&mut line).at(&instance.directory)?;
        let failed = |reason: String| Error::Start { name: instance.record.name.clone(), reason };
        match serde_json::from_str(&line) {
            Ok(protocol::Started::Ready) => Ok(self.client),
            Ok(protocol::Started::Failed { message }) => {
                let _ = self.process.wait(); // it has said its last word
                Err(failed(message))
            }
            Err(_) => {
                let how =
                    self.process.wait().map_or_else(|error| error.to_string(), |status| status.to_string());
                let log = instance.directory.join(names::HYPEMAN_LOG);
                Err(failed(format!("the shim ended without a word ({how}); {} may say more", log.display())))
            }
        }
    }
}

pub(crate) fn listen(directory: &Path) -> Result<UnixListener> {
    let socket = directory.join(names::SHIM_SOCKET);
    match std::fs::remove_file(&socket) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Ok(Err(error).at(&socket)?),
        _ => {}
    }
    let (_directory, path) = short_path(directory, names::SHIM_SOCKET).at(directory)?;
    Ok(UnixListener::bind(path).at(&socket)?)
}
