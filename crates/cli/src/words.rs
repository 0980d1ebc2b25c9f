//! The words that users read, kept as snapshots, so that they are reviewed like code.

use std::path::PathBuf;

use anyhow::Error;
use clap::CommandFactory;
use hypeman_host::{Field, Needs};
use hypeman_record::kind::Kind;
use hypeman_record::spec::HypervisorKind;
use hypeman_record::state::State;

use crate::args::Arguments;
use crate::{kinds, output};

/// The help of a command and of those below it.
fn help(command: &mut clap::Command, path: &str, text: &mut String) {
    let name = format!("{path} {}", command.get_name()).trim().to_owned();
    text.push_str(&format!("## {name}\n\n{}\n\n", command.render_long_help()));
    let below: Vec<String> = command.get_subcommands().map(|command| command.get_name().to_owned()).collect();
    for subcommand in below.iter().filter(|name| *name != "help") {
        if let Some(subcommand) = command.find_subcommand_mut(subcommand) {
            help(subcommand, &name, text);
        }
    }
}

#[test]
fn the_help_of_every_command() {
    let mut command = Arguments::command().term_width(100);
    command.build();
    let mut text = String::new();
    help(&mut command, "", &mut text);
    let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
    insta::assert_snapshot!(lines.join("\n"));
}

fn named() -> String {
    "web".to_owned()
}

/// One error of each kind of the host's, and those of the libraries below it that users meet most.
fn errors() -> Vec<Error> {
    use hypeman_host::Error as Host;
    let full = || hypeman_files::Error::Io {
        path: PathBuf::from("/var/lib/hypeman/instances/0123/instance.json"),
        source: std::io::Error::from_raw_os_error(28),
    };
    let refused = |kind, reason: &str| hypeman_session::Error::Refused {
        name: named(),
        kind,
        reason: reason.to_owned(),
    };
    let state = |state, needs| Host::State { name: named(), state, needs };
    let invalid = |field, value: &str, reason: &str| Host::Invalid {
        field,
        value: value.to_owned(),
        reason: reason.to_owned(),
    };
    let failed = |kind, reason: &str| Host::Start { name: named(), kind, reason: reason.to_owned() };
    vec![
        Host::NoDataDir("/srv/vms".into()).into(),
        Host::DataDirOfAnother { path: "/srv/vms".into(), owner: Some(0) }.into(),
        Host::NoGuestInit("/usr/local/bin/hypeman-init".into()).into(),
        Host::NotFound(named()).into(),
        Host::Ambiguous { query: "a".to_owned(), ids: "a1, a2".to_owned() }.into(),
        Host::NameTaken { name: named(), id: "0123456789ab".to_owned() }.into(),
        invalid(Field::Vcpus, "0", "must be 1 to 255").into(),
        invalid(Field::Memory, "1m", "must be whole MiB, 16m or more").into(),
        state(State::Stopped, Needs::Running).into(),
        state(State::Standby, Needs::Running).into(),
        state(State::Running, Needs::Stopped).into(),
        state(State::Standby, Needs::NoSnapshot).into(),
        state(State::Running, Needs::StoppedOrForce).into(),
        state(State::Stopped, Needs::Standby).into(),
        state(State::Stopped, Needs::Memory).into(),
        Host::NoKvm {
            name: named(),
            hypervisor: HypervisorKind::Qemu,
            why: "/dev/kvm is missing".to_owned(),
        }
        .into(),
        Host::NotConfined { name: named(), missing: "landlock".to_owned() }.into(),
        Host::Files(full()).into(),
        failed(Kind::Vmm, "the VMM ended before the VM was made (exit status: 1)").into(),
        Host::NoSnapshot("v1".to_owned()).into(),
        Host::NoMemory("0123456789ab".to_owned()).into(),
        Host::BoundToHypervisor("0123456789ab".to_owned()).into(),
        Host::NotAllowed("/etc/shadow".into()).into(),
        Host::Restore { name: named(), kind: Kind::Unfit, reason: "the CPU is another".to_owned() }.into(),
        Host::Session(hypeman_session::Error::Silent {
            name: named(),
            reason: "timed out".to_owned(),
            hung_up: false,
        })
        .into(),
        Host::Session(hypeman_session::Error::NoInit { name: named() }).into(),
        Host::Session(refused(Kind::WrongState, "the VM is going to standby")).into(),
        Host::Image(hypeman_image::Error::NotFound("debian:13".to_owned())).into(),
        Host::Image(hypeman_image::Error::InUse {
            what: "image debian".to_owned(),
            user: "instance web".to_owned(),
        })
        .into(),
        Host::Image(hypeman_image::Error::NoKernel(None)).into(),
        Host::Network(hypeman_network::Error::NotFound("team".to_owned())).into(),
        Host::Network(hypeman_network::Error::InUse {
            name: "team".to_owned(),
            user: "instance web".to_owned(),
        })
        .into(),
        Host::Vmm(hypeman_vmm::Error::NotInstalled { program: "qemu-system-x86_64" }).into(),
        anyhow::anyhow!("web: port 80 is not published"),
    ]
}

#[test]
fn errors_with_their_codes_and_hints() {
    let lines =
        errors().into_iter().map(|error| format!("{}: {}", kinds::of(&error), output::explain(&error)));
    insta::assert_snapshot!(lines.collect::<Vec<_>>().join("\n"));
}
