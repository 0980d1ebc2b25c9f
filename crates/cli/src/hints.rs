//! What to type instead: the words that the command line adds to the errors of the libraries.

use hypeman_host::doctor::how_to_get;
use hypeman_host::{Error, Field, Needs};
use hypeman_record::spec::{Accelerator, HypervisorKind};
use hypeman_record::state::State;
use hypeman_vmm::Unsupported;

/// The way out of an error, if there is one to be told.
pub(crate) fn way_out(error: &anyhow::Error) -> Option<String> {
    error.chain().find_map(|cause| {
        let of_instance = cause.downcast_ref::<Error>().and_then(instance);
        let of_image = || cause.downcast_ref::<hypeman_image::Error>().and_then(image);
        let of_network = || cause.downcast_ref::<hypeman_network::Error>().and_then(network);
        let of_session = || cause.downcast_ref::<hypeman_session::Error>().and_then(session);
        of_instance
            .or_else(of_session)
            .or_else(of_network)
            .or_else(of_image)
            .or_else(|| cause.downcast_ref::<hypeman_vmm::Error>().and_then(vmm))
    })
}

fn instance(error: &Error) -> Option<String> {
    Some(match error {
        Error::NoDataDir(_) => "name one that is there with --data-dir or HYPEMAN_DATA_DIR; `hypeman pull`, `image import`, `create` and \
                               `run` make one"
            .to_owned(),
        Error::DataDirOfAnother { .. } => "run hypeman as that one (sudo), or give a directory of your own with --data-dir or \
                                          HYPEMAN_DATA_DIR"
            .to_owned(),
        Error::NoGuestInit(_) => "build it with `cargo build -p hypeman-guest`, or set HYPEMAN_INIT".to_owned(),
        Error::NotFound(_) => "`hypeman ps -a` lists them".to_owned(),
        Error::NameTaken { name, .. } => format!("choose another, or remove that one: `hypeman rm {name}`"),
        Error::Invalid { field, .. } => field_hint(*field)?.to_owned(),
        Error::State { name, needs, state } => match needs {
            Needs::Running if *state == State::Standby => {
                format!("let it go on first: `hypeman restore {name}`")
            }
            Needs::Running => format!("start it first: `hypeman start {name}`"),
            Needs::Stopped => format!("stop it first: `hypeman stop {name}`"),
            Needs::NoSnapshot => format!(
                "let it go on with `hypeman restore {name}`, or give its memory up with `hypeman kill {name}`"
            ),
            Needs::Memory => {
                "it has no memory to go on from: leave --state out, or give --state stopped or running"
                    .to_owned()
            }
            Needs::Standby => format!("it has to be in standby: `hypeman standby {name}`"),
            Needs::StoppedOrForce => {
                format!(
                    "stop it first (`hypeman stop {name}`), or remove it by force: `hypeman rm -f {name}`"
                )
            }
        },
        Error::NotConfined { .. } => {
            "make it anew with --confine auto, which confines it as far as this host can; `hypeman doctor` tells how far".to_owned()
        }
        Error::NotAllowed(path) => {
            format!("if it is meant to have it, add --disk {}", path.display())
        }
        Error::NoSnapshot(_) => "`hypeman snapshot ls` lists them".to_owned(),
        Error::NoMemory(_) => "give --state stopped or running".to_owned(),
        Error::BoundToHypervisor(_) => "leave --hypervisor out, or take one of kind Stopped".to_owned(),
        Error::Snapshot { name, problem } => snapshot(name, problem),
        Error::NoKvm { hypervisor, .. } if needs_kvm(*hypervisor) => {
            "create it with --hypervisor qemu, which can do without KVM".to_owned()
        }
        Error::NoKvm { .. } => "create it with --accel auto or tcg, which can do without KVM".to_owned(),
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
        Error::Silent { name, .. } => format!("`hypeman rm -f {name}` removes it by force"),
        Error::NoInit { name } => {
            format!(
                "there is one in VMs of an image; press its power button with `hypeman stop {name}`, or end it with `hypeman kill {name}`"
            )
        }
        Error::Dial(error) => instance(error.downcast_ref()?)?,
        _ => return None,
    })
}

fn snapshot(name: &str, problem: &hypeman_snapshot::Error) -> String {
    use hypeman_snapshot::Error;
    let give_up = format!("give its memory up with `hypeman kill {name}`, and start it anew");
    match problem {
        Error::OtherVersion { .. } => format!("use the program that it was taken with, or {give_up}"),
        Error::OtherCpu { .. } => format!("restore it on a host as that one, or {give_up}"),
        _ => give_up,
    }
}

/// The way out where a record cannot be read.
const UNREADABLE: &str = "it may be used there: read it with the release that has written it, restore the record, or remove its directory";

fn network(error: &hypeman_network::Error) -> Option<String> {
    use hypeman_network::Error;
    Some(match error {
        Error::NotFound(_) => "`hypeman network ls` lists them".to_owned(),
        Error::Taken(name) => {
            format!("`hypeman network inspect {name}` shows it, `hypeman network rm {name}` removes it")
        }
        Error::InUse { user, .. } => match user.strip_prefix("instance ") {
            Some(name) => format!("remove what is on it first: `hypeman rm {name}`"),
            None => UNREADABLE.to_owned(),
        },
        Error::Clash { network, .. } => {
            format!(
                "give it others: `hypeman network create {network} --subnet CIDR`, after `hypeman network rm {network}` if it is there"
            )
        }
        Error::Full(_) => "put the VM on another network: --network NAME".to_owned(),
        Error::Unable(_) => "`hypeman doctor` tells what this host lacks".to_owned(),
        _ => return None,
    })
}

fn needs_kvm(hypervisor: HypervisorKind) -> bool {
    !hypeman_vmm::hypervisor(hypervisor).abilities().runs_on(Accelerator::Tcg)
}

/// The way out of an error of the VMM drivers.
fn vmm(error: &hypeman_vmm::Error) -> Option<String> {
    Some(match error {
        hypeman_vmm::Error::NotInstalled { .. } => how_to_get(error)?,
        hypeman_vmm::Error::Unsupported(Unsupported::MemoryHotplug) => {
            "leave --hotplug-size out, or use --hypervisor cloud-hypervisor".to_owned()
        }
        hypeman_vmm::Error::Unsupported(Unsupported::Tcg) => {
            "use --accel kvm, or --hypervisor qemu for TCG".to_owned()
        }
        hypeman_vmm::Error::NoKvm { .. } => "--accel auto or tcg can do without KVM".to_owned(),
        _ => return None,
    })
}

fn field_hint(field: Field) -> Option<&'static str> {
    Some(match field {
        Field::HealthCheck => {
            "see the --health-* flags of `hypeman run --help`; --no-healthcheck stands alone"
        }
        Field::Vcpus => "give another --cpus",
        Field::Memory => "give another --memory",
        Field::HotplugMemory => "give another --hotplug-size, or leave it out",
        Field::DiskLimit => "leave --disk-bps and --disk-iops out for no limit",
        Field::DiskSize => "give another --disk-size",
        Field::LogSize => "give another --log-max-size",
        Field::LogBuffer => "give another --log-opt max-buffer-size, with --log-opt mode=non-blocking",
        Field::LogFiles => "give another --log-max-files",
        Field::KernelCommandLine => "give another --cmdline",
        Field::Image => "give an image and a program after it, or a kernel to boot alone: --kernel FILE",
        Field::Accelerator => "give another --accel, or another --hypervisor",
        Field::WorkingDirectory => "give another -w, or leave it out",
        Field::User => "leave -u out",
        Field::OnReboot => "leave --on-reboot out",
        Field::DataDirectory => "give --data-dir, or set HYPEMAN_DATA_DIR",
        Field::Network => {
            "give another --network, or leave it out; `hypeman doctor` tells what this host can"
        }
        Field::Publish => "see `hypeman run --help` for -p and -P",
        Field::Dns => "leave --dns out for the host's own",
        Field::NetworkRate => "leave --network-rate-in and --network-rate-out out for no limit",
        Field::Kernel => "`hypeman kernel ls` lists those that are here",
        Field::SnapshotName => "give another --name",
        Field::Name | Field::MaxImageSize | Field::Argument | Field::Command | Field::Signal => return None,
    })
}

fn image(error: &hypeman_image::Error) -> Option<String> {
    use hypeman_image::Error;
    Some(match error {
        Error::NotFound(_) => "`hypeman image ls` lists them".to_owned(),
        Error::InUse { user, .. } => match (user.strip_prefix("snapshot "), user.strip_prefix("instance ")) {
            (Some(id), _) => format!("remove that first: `hypeman snapshot rm {id}`"),
            (_, Some(name)) => format!("remove that first: `hypeman rm {name}`"),
            _ => UNREADABLE.to_owned(),
        },
        Error::NoKernel(_) => {
            "get one with `hypeman kernel pull`, or bring one: `hypeman kernel import`".to_owned()
        }
        Error::KernelTaken(name) => {
            format!("give another, or remove that kernel: `hypeman kernel rm {name}`")
        }
        _ => return None,
    })
}
