//! create: from flags to an instance.

use anyhow::Result;
use hypeman_host::Host;
use hypeman_host::instance::Instance;
use hypeman_host::request::CreateRequest;
use hypeman_record::guest::config::Stdio;
use hypeman_record::network::{NetworkSettings, Rates};
use hypeman_record::record::Settings;
use hypeman_record::spec::RateLimit;

use crate::args::{CreateArguments, Hypervisor, NetworkArguments};
use crate::progress::Terminal;
use crate::{env_file, output};

pub(crate) fn create(host: &Host, arguments: &CreateArguments) -> Result<()> {
    let prepared = host.prepare(&request(arguments)?, &Terminal::new())?;
    tell(prepared.notes());
    let created = host.create(&prepared)?;
    tell(&created.notes);
    print_id(&created.instance)
}

/// The request that the flags make.
pub(crate) fn request(arguments: &CreateArguments) -> Result<CreateRequest> {
    let entrypoint = |program: &String| if program.is_empty() { Vec::new() } else { vec![program.clone()] };
    Ok(CreateRequest {
        name: arguments.name.clone(),
        tags: arguments.labels.tags(),
        image: arguments.image().map(str::to_owned),
        entrypoint: arguments.entrypoint.as_ref().map(entrypoint),
        arguments: arguments.arguments().to_vec(),
        env: env_file::collect(&arguments.env_file, &arguments.env)?,
        workdir: arguments.workdir.clone(),
        user: arguments.user.clone(),
        ulimits: arguments.ulimit.clone(),
        stdio: Stdio { interactive: arguments.interactive, tty: arguments.tty },
        health: arguments.health.options(),
        kernel: arguments.kernel.clone(),
        initrd: arguments.initrd.clone(),
        network: arguments.network.network.clone(),
        publish: arguments.network.publish.clone(),
        publish_all: arguments.network.publish_all,
        settings: settings(arguments),
    })
}

fn settings(arguments: &CreateArguments) -> Settings {
    let limit =
        RateLimit { bytes_per_second: arguments.disk_bps, operations_per_second: arguments.disk_iops };
    let is_cloud_hypervisor = matches!(arguments.hypervisor, Hypervisor::CloudHypervisor);
    Settings {
        cmdline: arguments.cmdline.clone(),
        show_boot: arguments.show_boot,
        hypervisor: arguments.hypervisor.into(),
        program: arguments.program.cloud_hypervisor.clone().filter(|_| is_cloud_hypervisor),
        accelerator: arguments.accel.chosen(),
        vcpus: arguments.cpus,
        memory: arguments.memory,
        hotplug_memory: arguments.hotplug_size,
        disk_size: arguments.disk_size,
        disk_rate_limit: Some(limit).filter(|limit| *limit != RateLimit::default()),
        log: arguments.log.limits(),
        auto_remove: arguments.rm,
        on_reboot: arguments.on_reboot.map(Into::into),
        confine: arguments.confine.into(),
        network: network(&arguments.network),
    }
}

fn network(arguments: &NetworkArguments) -> NetworkSettings {
    NetworkSettings {
        rates: Rates { inbound: arguments.network_rate_in, outbound: arguments.network_rate_out },
        dns: arguments.dns.clone(),
        dns_search: arguments.dns_search.clone(),
        dns_options: arguments.dns_option.clone(),
        hosts: arguments.add_host.clone(),
        ..NetworkSettings::default()
    }
}

/// Tells what the user may want to know.
pub(crate) fn tell(notes: &[String]) {
    notes.iter().for_each(output::complain);
}

/// Prints the id, for scripts.
pub(crate) fn print_id(instance: &Instance) -> Result<()> {
    output::line(&instance.record.id)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::args::{Arguments, Command};

    #[test]
    fn without_flags_the_request_has_the_library_s_defaults() {
        let arguments = Arguments::parse_from(["hypeman", "create", "debian:12"]);
        let Command::Create(arguments) = arguments.command else { panic!("{arguments:?}") };
        let usual = CreateRequest { image: Some("debian:12".to_owned()), ..CreateRequest::default() };
        assert_eq!(format!("{:?}", request(&arguments).unwrap()), format!("{usual:?}"));
    }
}
