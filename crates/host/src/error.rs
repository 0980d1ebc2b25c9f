//! Errors: what is wrong, in kinds that a program can tell apart. What to type instead is the
//! command line's to say.

use std::path::PathBuf;

use hypeman_record::kind::Kind;
use hypeman_record::spec::HypervisorKind;
use hypeman_record::state::State;

/// Field of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field {
    /// The instance's name.
    Name,
    /// The number of vCPUs.
    Vcpus,
    /// The memory.
    Memory,
    /// The memory that can be added.
    HotplugMemory,
    /// The limit of a disk.
    DiskLimit,
    /// The size of the writable disk.
    DiskSize,
    /// The size of a log.
    LogSize,
    /// Bytes of a log that wait for the disk.
    LogBuffer,
    /// The number of rotated logs.
    LogFiles,
    /// Words for the kernel.
    KernelCommandLine,
    /// The image, or the kernel in its place.
    Image,
    /// How instructions are executed.
    Accelerator,
    /// An argument or variable of the program.
    Argument,
    /// The command with its environment.
    Command,
    /// The program's working directory.
    WorkingDirectory,
    /// The program's user.
    User,
    /// A signal.
    Signal,
    /// The data directory.
    DataDirectory,
    /// Action when the guest reboots.
    OnReboot,
    /// The name of a snapshot.
    SnapshotName,
    /// The health check.
    HealthCheck,
    /// The network.
    Network,
    /// Published ports.
    Publish,
    /// DNS servers.
    Dns,
    /// The rates of a network.
    NetworkRate,
    /// The kernel.
    Kernel,
    /// The limit of images.
    MaxImageSize,
}

impl std::fmt::Display for Field {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Field::Name => "name",
            Field::Vcpus => "number of vCPUs",
            Field::Memory => "memory size",
            Field::HotplugMemory => "hotplug size",
            Field::DiskLimit => "disk limit",
            Field::DiskSize => "disk size",
            Field::LogSize => "log size",
            Field::LogBuffer => "log buffer size",
            Field::LogFiles => "number of log files",
            Field::KernelCommandLine => "kernel command line",
            Field::Image => "image",
            Field::Accelerator => "accelerator",
            Field::Argument => "argument or variable",
            Field::Command => "command and environment",
            Field::WorkingDirectory => "working directory",
            Field::User => "user",
            Field::Signal => "signal",
            Field::DataDirectory => "data directory",
            Field::OnReboot => "--on-reboot",
            Field::SnapshotName => "snapshot name",
            Field::HealthCheck => "health check",
            Field::Network => "network",
            Field::Publish => "published port",
            Field::Dns => "DNS setting",
            Field::NetworkRate => "network rate",
            Field::Kernel => "kernel",
            Field::MaxImageSize => "HYPEMAN_MAX_IMAGE_SIZE",
        })
    }
}

/// Condition on an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Needs {
    /// It runs.
    Running,
    /// It does not run.
    Stopped,
    /// It has no snapshot to go on from.
    NoSnapshot,
    /// It is in standby.
    Standby,
    /// It runs, or is in standby.
    Memory,
    /// It does not run, or is to be removed by force.
    StoppedOrForce,
}

/// Error of an operation on instances.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The data directory was named, and is not there.
    #[error("there is no data directory {}", .0.display())]
    NoDataDir(PathBuf),
    /// The data directory is another user's.
    #[error("the data directory {} belongs to {}", path.display(), who(*owner))]
    DataDirOfAnother {
        /// The data directory.
        path: PathBuf,
        /// Number of its user, if it can be told.
        owner: Option<u32>,
    },
    /// The program that becomes PID 1 in guests is not there.
    #[error("hypeman-init, process 1 of guests, is missing: {}", .0.display())]
    NoGuestInit(PathBuf),
    /// An image that is not here could not be pulled.
    #[error("no image {reference:?} is here, and it could not be pulled")]
    NotPulled {
        /// The image.
        reference: String,
        /// The reason.
        source: hypeman_image::Error,
    },
    /// There is neither a name nor an id prefix like this.
    #[error("no such instance: {0}")]
    NotFound(String),
    /// The prefix fits several ids.
    #[error("ambiguous id prefix {query:?}: {ids}")]
    Ambiguous {
        /// The user's name, id or prefix.
        query: String,
        /// The ids that begin with it.
        ids: String,
    },
    /// Another instance has the name.
    #[error("name {name:?} is taken by instance {id}")]
    NameTaken {
        /// The name.
        name: String,
        /// Id of the instance that has the name.
        id: String,
    },
    /// The value is invalid.
    #[error("invalid {field} {value:?}: {reason}")]
    Invalid {
        /// The field.
        field: Field,
        /// The given value.
        value: String,
        /// The reason, with the allowed values.
        reason: String,
    },
    /// The instance is in a state that forbids the request.
    #[error("instance {name} is {state}")]
    State {
        /// The instance's name.
        name: String,
        /// Its state.
        state: State,
        /// The condition that the request needs.
        needs: Needs,
    },
    /// The VM needs a KVM, and there is none that would do.
    #[error("instance {name} could not be started: {why}")]
    NoKvm {
        /// The instance's name.
        name: String,
        /// The VM's hypervisor.
        hypervisor: HypervisorKind,
        /// The feature that KVM lacks here.
        why: String,
    },
    /// Its VMM is to be confined strictly, and this host cannot give all of it.
    #[error("instance {name} could not be started: strict confinement is not possible: {missing}")]
    NotConfined {
        /// The instance's name.
        name: String,
        /// The missing part, and the reason.
        missing: String,
    },
    /// A file or directory could not be used.
    #[error(transparent)]
    Files(#[from] hypeman_files::Error),
    /// A record cannot be used.
    #[error(transparent)]
    Record(#[from] hypeman_record::format::Error),
    /// The instance could not be started; its logs say more.
    #[error("instance {name} could not be started: {reason}")]
    Start {
        /// The instance's name.
        name: String,
        /// Its kind.
        kind: Kind,
        /// The shim's words.
        reason: String,
    },
    /// There is neither a snapshot's name nor an id prefix like this.
    #[error("no such snapshot: {0}")]
    NoSnapshot(String),
    /// The request needs memory, and the snapshot has only disks.
    #[error("snapshot {0} has disks only, no memory")]
    NoMemory(String),
    /// A snapshot with memory cannot be restored on another hypervisor.
    #[error("snapshot {0} has memory, which only its own hypervisor can restore")]
    BoundToHypervisor(String),
    /// Its snapshot cannot be used here.
    #[error("instance {name} cannot be restored: {problem}")]
    Snapshot {
        /// The instance's name.
        name: String,
        /// The fault.
        problem: hypeman_snapshot::Error,
    },
    /// It could not be restored.
    #[error("instance {name} could not be restored and stays in standby: {reason}")]
    Restore {
        /// The instance's name.
        name: String,
        /// Its kind.
        kind: Kind,
        /// The shim's words.
        reason: String,
    },
    /// A process of its refuses or ignores a request.
    #[error("instance {name}: {reason}")]
    Shim {
        /// The instance's name.
        name: String,
        /// Its kind.
        kind: Kind,
        /// The process, and its behaviour.
        reason: String,
    },
    /// From what was said to the shim or to the guest.
    #[error(transparent)]
    Session(hypeman_session::Error),
    /// From the images and kernels.
    #[error(transparent)]
    Image(#[from] hypeman_image::Error),
    /// From the files of a snapshot.
    #[error(transparent)]
    SnapshotFiles(#[from] hypeman_snapshot::Error),
    /// The configuration of somebody else's snapshot names a file that it may not have.
    #[error("{}: the snapshot refers to this file outside its directory", .0.display())]
    NotAllowed(PathBuf),
    /// From a snapshot of Cloud Hypervisor's.
    #[error(transparent)]
    Foreign(#[from] hypeman_vmm::cloud_hypervisor::snapshot::Error),
    /// From the networks.
    #[error(transparent)]
    Network(#[from] hypeman_network::Error),
    /// From the VMM drivers.
    #[error(transparent)]
    Vmm(#[from] hypeman_vmm::Error),
}

/// An error of the dialer is one of ours again.
impl From<hypeman_session::Error> for Error {
    fn from(error: hypeman_session::Error) -> Error {
        match error {
            hypeman_session::Error::Dial(error) => match error.downcast() {
                Ok(error) => *error,
                Err(error) => Error::Session(hypeman_session::Error::Dial(error)),
            },
            error => Error::Session(error),
        }
    }
}

/// Describes a user by name or number.
fn who(user: Option<u32>) -> String {
    match user {
        Some(0) => "root".to_owned(),
        Some(user) => format!("the user with the number {user}"),
        None => "another user".to_owned(),
    }
}

impl Error {
    /// Returns its kind, by which a program may decide.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Error::NoDataDir(_) | Error::NotFound(_) | Error::NoSnapshot(_) => Kind::NotFound,
            Error::DataDirOfAnother { .. } | Error::NotAllowed(_) => Kind::Denied,
            Error::NoGuestInit(_) => Kind::NotInstalled,
            Error::NotPulled { source, .. } => source.kind(),
            Error::Ambiguous { .. } => Kind::Ambiguous,
            Error::NameTaken { .. } => Kind::Taken,
            Error::Invalid { .. } => Kind::Invalid,
            Error::State { .. } | Error::NoMemory(_) => Kind::WrongState,
            Error::NoKvm { .. } => Kind::NoKvm,
            Error::NotConfined { .. } => Kind::NotConfined,
            Error::BoundToHypervisor(_) => Kind::Unsupported,
            Error::Start { kind, .. } | Error::Restore { kind, .. } | Error::Shim { kind, .. } => *kind,
            Error::Files(error) => Kind::of_files(error),
            Error::Record(error) => error.kind(),
            Error::Snapshot { problem: error, .. } | Error::SnapshotFiles(error) => error.kind(),
            Error::Session(error) => error.kind(),
            Error::Image(error) => error.kind(),
            Error::Foreign(error) => error.kind(),
            Error::Network(error) => error.kind(),
            Error::Vmm(error) => error.kind(),
        }
    }

    /// Whether it is of a shim that has hung up.
    pub(crate) fn has_hung_up(&self) -> bool {
        matches!(self, Error::Session(error) if error.has_hung_up())
    }
}

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// An [`Error::Invalid`].
pub(crate) fn invalid<T>(field: Field, value: impl ToString, reason: &str) -> Result<T> {
    Err(Error::Invalid { field, value: value.to_string(), reason: reason.to_owned() })
}
