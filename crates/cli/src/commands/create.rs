//! create: from flags to an instance.

use std::path::{Component, Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use hypeman_instance::instance::Instance;
use hypeman_instance::options::CreateOptions;
use hypeman_instance::{command, create};
use hypeman_network::Networks;
use hypeman_record::guest::config::Stdio;
use hypeman_record::network::{Connection, DEFAULT, NetworkSettings, Rates};
use hypeman_record::record::{KernelUse, LogLimits, LogMode, Settings};
use hypeman_record::spec::{HypervisorKind, RateLimit};
use hypeman_vmm::findings::Findings;

use crate::args::CreateArguments;
use crate::context::Context;
use crate::progress::Terminal;
use crate::{env_file, output};

/// The limits of logs that nobody has given others.
pub(crate) const USUAL_LOG: LogLimits =
    LogLimits { max_size: 50 << 20, max_files: 3, mode: LogMode::Blocking, max_buffer_size: None };

/// Makes the instance.
pub(crate) fn create(context: &Context, arguments: &CreateArguments) -> Result<Instance> {
    make(context, &options(context, arguments)?)
}

/// Makes the instance, and says so where a network was made by the way: its name may be mistyped.
pub(crate) fn make(context: &Context, options: &CreateOptions) -> Result<Instance> {
    let networks = Networks::new(&context.data_dir);
    let is_new = |name: &&String| *name != DEFAULT && networks.get(name).is_err();
    let new = match &options.settings.network.connection {
        Connection::Bridge(name) => Some(name).filter(is_new),
        Connection::User | Connection::None => None,
    };
    let made = create::create(&context.instances, options)?;
    if let Some(network) = new.and_then(|name| networks.get(name).ok()) {
        output::complain(format_args!(
            "there was no network {:?}: made it, {} on {} (hypeman network rm {})",
            network.name, network.subnet, network.bridge, network.name
        ));
    }
    Ok(made)
}

/// What the flags ask for. An image that is not here is pulled, as docker does.
pub(crate) fn options(context: &Context, arguments: &CreateArguments) -> Result<CreateOptions> {
    if let Some(name) = &arguments.name {
        hypeman_instance::name::check(name)?; // before a long pull
    }
    let image = arguments.image().map(|reference| image(context, reference)).transpose()?;
    for warning in image.iter().flat_map(|(_, image)| command::warnings(&image.config)) {
        output::complain(format_args!("warning: {warning}"));
    }
    let network = network(arguments, image.as_ref().map(|(_, image)| &image.config))?;
    Ok(CreateOptions {
        name: arguments.name.clone(),
        image,
        entrypoint: arguments
            .entrypoint
            .as_ref()
            .map(|program| if program.is_empty() { Vec::new() } else { vec![program.clone()] }),
        arguments: arguments.arguments().to_vec(),
        env: env_file::collect(&arguments.env_file, &arguments.env)?,
        workdir: arguments.workdir.clone(),
        user: arguments.user.clone(),
        ulimits: arguments.ulimit.clone(),
        stdio: Stdio { interactive: arguments.interactive, tty: arguments.tty },
        health: arguments.health.options(),
        kernel: arguments.kernel.as_deref().map(|kernel| kernel_use(context, kernel)).transpose()?,
        initrd: arguments.initrd.clone(),
        settings: settings(arguments, network, &Findings::in_directory(&context.data_dir))?,
    })
}

fn settings(arguments: &CreateArguments, network: NetworkSettings, findings: &Findings) -> Result<Settings> {
    let hypervisor = HypervisorKind::from(arguments.hypervisor);
    let limits =
        RateLimit { bytes_per_second: arguments.disk_bps, operations_per_second: arguments.disk_iops };
    Ok(Settings {
        cmdline: arguments.cmdline.clone(),
        show_boot: arguments.show_boot,
        hypervisor,
        program: match (&arguments.program.cloud_hypervisor, hypervisor) {
            (Some(path), HypervisorKind::CloudHypervisor) => Some(named_program(path, hypervisor, findings)?),
            _ => None,
        },
        accelerator: arguments.accel.chosen(),
        vcpus: arguments.cpus,
        memory: arguments.memory,
        hotplug_memory: arguments.hotplug_size,
        disk_size: arguments.disk_size,
        disk_rate_limit: (arguments.disk_bps.is_some() || arguments.disk_iops.is_some()).then_some(limits),
        log: arguments.log.limits(),
        auto_remove: arguments.rm,
        on_reboot: arguments.on_reboot.map(Into::into),
        confine: arguments.confine.into(),
        network,
    })
}

/// How it is connected. Where that cannot be, though it is usual, it is said.
fn network(arguments: &CreateArguments, image: Option<&hypeman_image::Config>) -> Result<NetworkSettings> {
    let flags = &arguments.network;
    let name = flags.network.as_deref().filter(|name| !name.is_empty());
    let choice = hypeman_instance::network::choose(name, image.is_some(), arguments.hypervisor.into())?;
    if let Some(why) = &choice.why_none {
        output::complain(format_args!(
            "warning: the VM has no network ({why}); --network none says that it is to have none"
        ));
    }
    let exposed = image.filter(|_| flags.publish_all).map(|image| image.exposed.as_slice());
    let settings = NetworkSettings {
        connection: choice.connection,
        published: hypeman_instance::network::published(&flags.publish, exposed.unwrap_or_default())?,
        rates: Rates { inbound: flags.network_rate_in, outbound: flags.network_rate_out },
        dns: flags.dns.clone(),
        dns_search: flags.dns_search.clone(),
        dns_options: flags.dns_option.clone(),
        hosts: flags.add_host.clone(),
    };
    hypeman_instance::network::check(&settings)?;
    Ok(settings)
}

/// The program as the shim will find it, whose directory is another.
fn named_program(path: &Path, hypervisor: HypervisorKind, findings: &Findings) -> Result<PathBuf> {
    let program = hypeman_vmm::hypervisor(hypervisor).discover(Some(path), findings)?;
    Ok(std::path::absolute(program.path)?)
}

/// Prints the id, for scripts.
pub(crate) fn print_id(instance: &Instance) -> Result<()> {
    output::line(&instance.record.id)
}

fn image(context: &Context, reference: &str) -> Result<(String, hypeman_image::Image)> {
    let image = match context.images.get(reference) {
        Err(hypeman_image::Error::NotFound(_)) => {
            context.images.pull(reference, &Terminal::new()).with_context(|| {
                format!("no image {reference:?} is here (`hypeman image ls`), and it could not be pulled")
            })?
        }
        other => other?,
    };
    Ok((reference.to_owned(), image))
}

/// A known version, or else a file.
fn kernel_use(context: &Context, kernel: &Path) -> Result<KernelUse> {
    let mut components = kernel.components();
    let word = match (components.next(), components.next()) {
        (Some(Component::Normal(word)), None) => word.to_str(),
        _ => None,
    };
    match word {
        Some(version) if context.kernels.get(Some(version)).is_ok() => {
            Ok(KernelUse::Version(version.to_owned()))
        }
        Some(version) if !kernel.exists() => bail!(
            "--kernel {version}: no kernel of that version is here (`hypeman kernel ls`), and no file of that name"
        ),
        _ => Ok(KernelUse::Own { source: kernel.to_owned() }),
    }
}
