//! Snapshots that Cloud Hypervisor has written for somebody else: whose serial line may end in a
//! file, and whose paths are those of another place. They become named snapshots as our own are: on
//! a socket, and with all that belongs to them.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use hypeman_files::{AtPath, Draft, copy_open, open_plain_below};
use hypeman_record::format::Envelope;
use hypeman_record::launch::Launch;
use hypeman_record::named::{Kind, NamedSnapshot};
use hypeman_record::names;
use hypeman_record::record::{KernelUse, LogLimits, Record, Settings};
use hypeman_record::spec::{Accelerator, Disk, HypervisorKind, VmSpec};
use hypeman_record::unknown::Unknown;
use hypeman_snapshot::standby;
use hypeman_vmm::cloud_hypervisor::SERIAL_SOCKET;
use hypeman_vmm::cloud_hypervisor::description::{self, Description};
use hypeman_vmm::cloud_hypervisor::snapshot::{Fork, prepare_fork};
use hypeman_vmm::given;
use jiff::Timestamp;

use crate::error::{Error, Result};
use crate::name;
use crate::snapshots::{Snapshot, Snapshots};

/// Name of the file that describes a snapshot's VM.
const CONFIG: &str = "config.json";

/// Place of the socket of a vsock device.
const VSOCK: &str = "vsock.sock";

/// Takes the snapshot in `directory` into the store, with copies of its disks, under the name
/// `name`. Its configuration is a stranger's: of the files that it names, those below the directory
/// are taken, and those that are among `allowed`. Its kernel, which it goes on without, is left out
/// otherwise.
///
/// # Errors
/// When it is no snapshot of Cloud Hypervisor's, or a disk of it is not there or not allowed;
/// nothing is left then.
pub(crate) fn import(
    snapshots: &Snapshots,
    directory: &Path,
    name: &str,
    allowed: &[PathBuf],
    log: LogLimits,
) -> Result<Snapshot> {
    name::check(name)?;
    let files = Files::of(directory, allowed)?;
    let draft = snapshots.draft()?;
    standby::begin(draft.path()).map_err(unfit(name))?;
    let new = draft.path().join(standby::NEW);
    for file in hypeman_files::entries(directory)? {
        let file = Path::new(file.file_name().unwrap_or_default());
        copy_open(&open_plain_below(&files.handle, file)?, file, &new.join(file))?;
    }
    let found = description::describe(&new.join(CONFIG))?;
    let disks = move_disks(&found, &files, &draft, &new.join(CONFIG))?;
    let kernel = found.payload.as_ref().and_then(|payload| payload.kernel.clone());
    if let Some(kernel) = kernel.as_ref()
        && let Ok(file) = files.open(kernel)
    {
        copy_open(&file, kernel, &draft.path().join(names::KERNEL))?;
    }
    let source = record(name, &found, kernel.unwrap_or_default(), log)?;
    let launch = launch(&source, disks);
    // On which CPU it was taken nobody has written down.
    standby::seal(draft.path(), &launch, None).map_err(unfit(name))?;
    standby::publish(draft.path()).map_err(unfit(name))?;
    let record = NamedSnapshot {
        id: source.id.clone(),
        name: Some(name.to_owned()),
        kind: Kind::Standby,
        created: Timestamp::now(),
        tags: BTreeMap::new(),
        source,
        envelope: Envelope::of::<NamedSnapshot>(),
    };
    snapshots.publish(draft, record, &Unknown::default())
}

/// The files that a stranger's configuration may name.
struct Files<'a> {
    /// The snapshot's directory, as it was given and without links.
    directories: [PathBuf; 2],
    handle: File,
    /// Files that the user has named besides.
    allowed: &'a [PathBuf],
}

impl Files<'_> {
    fn of<'a>(directory: &Path, allowed: &'a [PathBuf]) -> Result<Files<'a>> {
        let handle = File::open(directory).at(directory)?;
        let directories =
            [std::path::absolute(directory).at(directory)?, std::fs::canonicalize(directory).at(directory)?];
        Ok(Files { directories, handle, allowed })
    }

    fn open(&self, path: &Path) -> Result<File> {
        if self.allowed.iter().any(|allowed| allowed == path) {
            return Ok(hypeman_files::open_plain(path)?);
        }
        match self.directories.iter().find_map(|directory| path.strip_prefix(directory).ok()) {
            Some(below) => Ok(open_plain_below(&self.handle, below)?),
            None => Err(Error::NotAllowed(path.to_owned())),
        }
    }
}

fn unfit(name: &str) -> impl Fn(hypeman_snapshot::Error) -> Error {
    let name = name.to_owned();
    move |problem| Error::Snapshot { name: name.clone(), problem }
}

/// Copies the disks into the draft, and has the configuration find them there. The serial line
/// comes to a socket on the way.
fn move_disks(found: &Description, files: &Files<'_>, draft: &Draft, config: &Path) -> Result<Vec<Disk>> {
    let directory = draft.path().join(names::DISKS);
    std::fs::create_dir(&directory).at(&directory)?;
    let mut disks = Vec::new();
    let mut moves = Vec::new();
    for (index, disk) in found.disks.iter().flatten().enumerate() {
        let Some(source) = &disk.path else { continue };
        let target = Path::new(names::DISKS).join(format!("disk{index}"));
        copy_open(&files.open(source)?, source, &draft.path().join(&target))?;
        moves.push((source.clone(), given::disk(disks.len())));
        let serial = format!("disk{index}");
        disks.push(Disk { path: target, serial, read_only: disk.readonly, rate_limit: None });
    }
    let fork = Fork { moves, vsock: Some(VSOCK.to_owned()), nets: Vec::new() };
    prepare_fork(config, SERIAL_SOCKET, &fork)?;
    Ok(disks)
}

/// Makes the record that the instance would have had here.
fn record(name: &str, found: &Description, kernel: PathBuf, log: LogLimits) -> Result<Record> {
    let cmdline = found.payload.as_ref().and_then(|payload| payload.cmdline.clone());
    Ok(Record {
        id: name::new_id()?,
        name: name.to_owned(),
        created: Timestamp::now(),
        tags: BTreeMap::new(),
        image: None,
        command: None,
        kernel: KernelUse::Own { source: kernel },
        own_initrd: false,
        settings: Settings {
            cmdline: cmdline.unwrap_or_default(),
            hypervisor: HypervisorKind::CloudHypervisor,
            accelerator: Some(Accelerator::Kvm),
            vcpus: found.cpus.boot_vcpus,
            memory: found.memory.size,
            hotplug_memory: found.memory.hotplug_size,
            disk_size: 0,
            log,
            ..Settings::default()
        },
        envelope: Envelope::of::<Record>(),
    })
}

/// Makes the launch by which it would have been started here.
fn launch(record: &Record, disks: Vec<Disk>) -> Launch {
    let settings = &record.settings;
    let spec = VmSpec {
        vcpus: settings.vcpus,
        hotplug_memory: settings.hotplug_memory,
        cmdline: settings.cmdline.clone(),
        disks,
        ..VmSpec::new(&record.name, names::KERNEL.into(), settings.memory, Accelerator::Kvm)
    };
    Launch { log: settings.log, confine: settings.confine, ..Launch::new(settings.hypervisor, spec) }
}
