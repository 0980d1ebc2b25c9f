//! Hints that the command line adds to the libraries' errors: the command to type instead.

use hypeman_host::doctor::how_to_get;
use hypeman_host::{Error, Field, Needs};
use hypeman_record::spec::{Accelerator, HypervisorKind};
use hypeman_record::state::State;
use hypeman_vmm::Unsupported;

/// Returns a hint for an error, if there is one.
pub(crate) fn hint(error: &anyhow::Error) -> Option<String> {
    error.chain().find_map(|cause| {
        let of_instance = cause.downcast_ref::<Error>().and_then(instance);
        let of_image = || cause.downcast_ref::<hypeman_image::Error>().and_then(image);
        let of_network = || cause.downcast_ref::<hypeman_network::Error>().and_then(network);
        of_instance
            .or_else(of_network)
            .or_else(of_image)
            .or_else(|| cause.downcast_ref::<hypeman_vmm::Error>().and_then(vmm))
    })
}

fn instance(error: &Error) -> Option<String> {
    Some(match error {
        Error::NoDataDir(_) => "set an existing one with --data-dir or HYPEMAN_DATA_DIR; `hypeman pull`, `image import`, `create` and \
                               `run` create one"
            .to_owned(),
        Error::DataDirOfAnother { .. } => "run hypeman as that user (sudo), or set a directory of your own with --data-dir or \
                                          HYPEMAN_DATA_DIR"
            .to_owned(),
        Error::NoGuestInit(_) => "build it with `cargo build -p hypeman-guest`, or set HYPEMAN_INIT".to_owned(),
        Error::NotFound(_) => "`hypeman ps -a` lists them".to_owned(),
        Error::NameTaken { name, .. } => format!("choose another name, or run `hypeman rm {name}`"),
        Error::Invalid { field, .. } => field_hint(*field)?.to_owned(),
        Error::State { name, needs, state } => match needs {
            Needs::Running if *state == State::Standby => {
                format!("restore it first: `hypeman restore {name}`")
            }
            Needs::Running => format!("start it first: `hypeman start {name}`"),
            Needs::Stopped => format!("stop it first: `hypeman stop {name}`"),
            Needs::NoSnapshot => format!(
                "restore it with `hypeman restore {name}`, or discard its memory with `hypeman kill {name}`"
            ),
            Needs::Memory => {
                "it has no memory: omit --state, or use --state stopped or running"
                    .to_owned()
            }
            Needs::Standby => format!("put it in standby first: `hypeman standby {name}`"),
            Needs::StoppedOrForce => {
                format!(
                    "stop it first (`hypeman stop {name}`), or force removal: `hypeman rm -f {name}`"
                )
            }
        },
        Error::NotConfined { .. } => {
            "create it with --confine auto; `hypeman doctor` shows what this host supports".to_owned()
        }
        Error::NotAllowed(path) => {
            format!("allow it with --disk {}", path.display())
        }
        Error::NoSnapshot(_) => "`hypeman snapshot ls` lists them".to_owned(),
        Error::NoMemory(_) => "use --state stopped or running".to_owned(),
        Error::BoundToHypervisor(_) => "omit --hypervisor, or use a snapshot of kind Stopped".to_owned(),
        Error::Snapshot { name, problem } => snapshot(name, problem),
        Error::NoKvm { hypervisor, .. } if needs_kvm(*hypervisor) => {
            "create it with --hypervisor qemu, which does not need KVM".to_owned()
        }
        Error::NoKvm { .. } => "create it with --accel auto or tcg".to_owned(),
        Error::Session(error) => session(error)?,
        Error::Network(error) => network(error)?,
        Error::Image(error) => image(error)?,
        Error::Vmm(error) => vmm(error)?,
        _ => return None,
    })
}

fn session(error: &hypeman_session::Error) -> Option<String> {
    use hypeman_session::Error;
    Some(match error {
        Error::Silent { name, .. } => format!("force removal with `hypeman rm -f {name}`"),
        Error::NoInit { name } => {
            format!("only VMs of images have one; use `hypeman stop {name}` or `hypeman kill {name}`")
        }
        _ => return None,
    })
}

fn snapshot(name: &str, problem: &hypeman_snapshot::Error) -> String {
    use hypeman_snapshot::Error;
    let give_up = format!("discard its memory with `hypeman kill {name}` and start it");
    match problem {
        Error::OtherVersion { .. } => format!("install that program, or {give_up}"),
        Error::OtherCpu { .. } => format!("restore it on such a host, or {give_up}"),
        _ => give_up,
    }
}

/// Hint for a record that cannot be read.
const UNREADABLE: &str = "use the release that wrote the record, restore the record, or remove its directory";

fn network(error: &hypeman_network::Error) -> Option<String> {
    use hypeman_network::Error;
    Some(match error {
        Error::NotFound(_) => "`hypeman network ls` lists them".to_owned(),
        Error::Taken(name) => {
            format!("`hypeman network inspect {name}` shows it, `hypeman network rm {name}` removes it")
        }
        Error::InUse { user, .. } => match user.strip_prefix("instance ") {
            Some(name) => format!("remove the instance first: `hypeman rm {name}`"),
            None => UNREADABLE.to_owned(),
        },
        Error::Clash { network, .. } => {
            format!(
                "choose another: `hypeman network rm {network}`, then `hypeman network create {network} --subnet CIDR`"
            )
        }
        Error::Full(_) => "use another network: --network NAME".to_owned(),
        Error::Unable(_) => "`hypeman doctor` shows what is missing".to_owned(),
        _ => return None,
    })
}

fn needs_kvm(hypervisor: HypervisorKind) -> bool {
    !hypeman_vmm::hypervisor(hypervisor).abilities().runs_on(Accelerator::Tcg)
}

/// Returns a hint for an error of the VMM drivers.
fn vmm(error: &hypeman_vmm::Error) -> Option<String> {
    Some(match error {
        hypeman_vmm::Error::NotInstalled { .. } => how_to_get(error)?,
        hypeman_vmm::Error::Unsupported(Unsupported::MemoryHotplug) => {
            "omit --hotplug-size, or use --hypervisor cloud-hypervisor".to_owned()
        }
        hypeman_vmm::Error::Unsupported(Unsupported::Tcg) => {
            "use --accel kvm, or --hypervisor qemu for TCG".to_owned()
        }
        hypeman_vmm::Error::NoKvm { .. } => "use --accel auto or tcg".to_owned(),
        _ => return None,
    })
}

fn field_hint(field: Field) -> Option<&'static str> {
    Some(match field {
        Field::HealthCheck => "see the --health-* flags of `hypeman run --help`",
        Field::Vcpus => "see --cpus",
        Field::Memory => "see --memory",
        Field::HotplugMemory => "see --hotplug-size",
        Field::DiskLimit => "omit --disk-bps and --disk-iops for no limit",
        Field::DiskSize => "see --disk-size",
        Field::LogSize => "see --log-max-size",
        Field::LogBuffer => "see --log-opt",
        Field::LogFiles => "see --log-max-files",
        Field::KernelCommandLine => "see --cmdline",
        Field::Image => "give an image and its arguments, or --kernel FILE",
        Field::Accelerator => "see --accel and --hypervisor",
        Field::WorkingDirectory => "see --workdir",
        Field::User => "omit --user",
        Field::OnReboot => "omit --on-reboot",
        Field::DataDirectory => "set --data-dir or HYPEMAN_DATA_DIR",
        Field::Network => "see --network; `hypeman doctor` checks what this host supports",
        Field::Publish => "see `hypeman run --help` for -p and -P",
        Field::Dns => "omit --dns to use the host's",
        Field::NetworkRate => "omit --network-rate-in and --network-rate-out for no limit",
        Field::Kernel => "`hypeman kernel ls` lists those that are here",
        Field::SnapshotName => "see --name",
        Field::Name | Field::MaxImageSize | Field::Argument | Field::Command | Field::Signal => return None,
    })
}

fn image(error: &hypeman_image::Error) -> Option<String> {
    use hypeman_image::Error;
    Some(match error {
        Error::NotFound(_) => "`hypeman image ls` lists them".to_owned(),
        Error::InUse { user, .. } => match (user.strip_prefix("snapshot "), user.strip_prefix("instance ")) {
            (Some(id), _) => format!("remove it first: `hypeman snapshot rm {id}`"),
            (_, Some(name)) => format!("remove it first: `hypeman rm {name}`"),
            _ => UNREADABLE.to_owned(),
        },
        Error::NoKernel(_) => "get one with `hypeman kernel pull` or `hypeman kernel import`".to_owned(),
        Error::KernelTaken(name) => {
            format!("choose another, or run `hypeman kernel rm {name}`")
        }
        _ => return None,
    })
}
