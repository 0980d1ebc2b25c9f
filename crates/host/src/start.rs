//! Starting: the record is resolved to a launch order, and a shim of its own is started to carry it
//! out.

use std::path::{Path, PathBuf};

use hypeman_agent::PORT_NAME;
use hypeman_files::{AtPath, write_disk};
use hypeman_image::kernel::Kernels;
use hypeman_record::confinement::Strictness;
use hypeman_record::guest::config::{self, GuestConfig, Mode};
use hypeman_record::guest::{disk, status};
use hypeman_record::launch::{Guest, Launch};
use hypeman_record::network::NetworkConfig;
use hypeman_record::record::{CommandSpec, KernelUse, OnReboot, Record};
use hypeman_record::spec::{Disk, VmSpec};
use hypeman_record::state::State;
use hypeman_record::{format, names};
use hypeman_snapshot::standby;
use hypeman_vmm::findings::Findings;

use crate::command::{self, Replacement};
use crate::error::{Error, Field, Needs, Result, invalid};
use crate::instance::Instance;
use crate::machine::locked;
use crate::spawn::{Begin, Programs, Started, become_starter, start_shim};
use crate::store::Store;
use crate::{accelerator, cmdline, network};

/// Starts an instance; returns when its guest runs and its console is being kept.
///
/// # Errors
/// When it cannot be started; its logs are kept.
pub(crate) fn start(store: &Store, instance: &Instance, programs: &Programs) -> Result<Started> {
    start_as(store, instance, programs, Record::clone)
}

/// As [`start`], with what is made of the record as it is under the lock.
///
/// # Errors
/// As [`start`].
pub(crate) fn start_as(
    store: &Store,
    instance: &Instance,
    programs: &Programs,
    made_of: impl FnOnce(&Record) -> Record,
) -> Result<Started> {
    let Some(alive) = become_starter(instance, Begin::Boot)? else { return Ok(Started::Already) };
    let order = |instance: &Instance| {
        let record = made_of(&instance.record);
        prepare(store, &Instance { record, directory: instance.directory.clone() }, programs)
    };
    start_shim(instance, programs, Begin::Boot, alive, order).map(Started::Now)
}

/// Replaces words of the command of an instance that does not run, and has no memory to go on from.
///
/// # Errors
/// When it runs, or boots a kernel alone, or a word cannot be used.
pub(crate) fn replace_command(
    store: &Store,
    instance: &Instance,
    replacement: &Replacement,
) -> Result<Instance> {
    locked(instance, |instance| {
        if standby::is_whole(&instance.directory) {
            return Err(instance.refused(State::Standby, Needs::NoSnapshot));
        }
        let (Some(spec), Some(image)) = (&instance.record.command, &instance.record.image) else {
            return invalid(Field::Command, "", "the instance boots a kernel alone");
        };
        let image = hypeman_image::Store::new(store.data_dir()).get(&image.digest)?;
        let command = Some(command::replace(spec, replacement, &image.config)?);
        let record = Record { command, ..instance.record.clone() };
        check_config(&record)?;
        format::rewrite(&instance.directory.join(names::RECORD), &record)?;
        Ok(Instance { record, directory: instance.directory.clone() })
    })
}

/// Resolves a record on this host, and writes the disks of this start.
fn prepare(store: &Store, instance: &Instance, programs: &Programs) -> Result<Launch> {
    let record = &instance.record;
    check_confinement(record)?;
    let findings = Findings::in_directory(store.data_dir().path());
    let settings = &record.settings;
    let program =
        hypeman_vmm::hypervisor(settings.hypervisor).discover(settings.program.as_deref(), &findings)?;
    let decision = accelerator::decide(record, &program, &findings)?;
    let boot = boot_files(store, record, programs)?;
    let network = network::config(store, instance)?;
    let spec = VmSpec {
        vcpus: record.settings.vcpus,
        hotplug_memory: record.settings.hotplug_memory,
        initramfs: boot.initramfs,
        cmdline: cmdline::of(record, decision.accelerator),
        disks: disks(store, record, boot.modules.as_deref())?,
        cpu_left_out: decision.cpu_left_out,
        nic: network.as_ref().map(network::nic),
        control_port: record.command.is_some().then(|| PORT_NAME.to_owned()),
        ..VmSpec::new(&record.name, boot.kernel, record.settings.memory, decision.accelerator)
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
        found: Some(program),
        guest: Guest::of(record.command.as_ref().map(|command| command.mode)),
        note: decision.note,
        network,
        log: record.settings.log,
        auto_remove: record.settings.auto_remove,
        on_reboot: on_reboot(record),
        confine: record.settings.confine,
        ..Launch::new(record.settings.hypervisor, spec)
    })
}

/// Refuses a VM whose sandbox this host lacks. The shim refuses what only a start can show.
fn check_confinement(record: &Record) -> Result<()> {
    if record.settings.confine != Strictness::Strict {
        return Ok(());
    }
    match hypeman_confine::missing(&hypeman_confine::survey()) {
        missing if missing.is_empty() => Ok(()),
        missing => Err(Error::NotConfined { name: record.name.clone(), missing }),
    }
}

/// Chooses the action when the guest reboots. A system boots again, as everywhere; for other guests
/// a reboot is the end.
fn on_reboot(record: &Record) -> OnReboot {
    let is_system = record.command.as_ref().is_some_and(|command| command.mode == Mode::Systemd);
    let usual = if is_system { OnReboot::Restart } else { OnReboot::Stop };
    record.settings.on_reboot.unwrap_or(usual)
}

/// Files that a VM boots from, as seen from the instance's directory.
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
            // An image needs our init; with a kernel of the user's own, the modules of the newest
            // known kernel would not fit, so its drivers must be built in or come with the user's
            // initramfs.
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
    store.data_dir().seen_from_instance(path)
}

/// Refuses at creation what could never be started: a command and an environment that do not fit on
/// their disk.
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

/// Returns init's configuration, as it is on its disk.
fn guest_config(
    record: &Record,
    command: &CommandSpec,
    modules: bool,
    network: Option<&NetworkConfig>,
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
        agent: hypeman_vmm::hypervisor(record.settings.hypervisor).abilities().agent,
        machine_id: Some(Record::machine_id(&record.id)),
        health: command.health.clone(),
        network: network.map(|network| network.guest.clone()),
    };
    Ok(serde_json::to_vec(&config).map_err(std::io::Error::from).at(Path::new(names::CONFIG))?)
}
