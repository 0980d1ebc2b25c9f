//! A request for a new instance, with docker's defaults, and how it becomes one.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Component, Path, PathBuf};

use hypeman_files::AtPath;
use hypeman_image::{Image, Progress};
use hypeman_record::confinement::Strictness;
use hypeman_record::guest::config::Stdio;
use hypeman_record::guest::ulimit::Ulimit;
use hypeman_record::network::{Connection, DEFAULT, HostName, NetworkSettings, Rates};
use hypeman_record::record::{KernelUse, LogLimits, OnReboot, Settings};
use hypeman_record::spec::{Accelerator, HypervisorKind, RateLimit};

use crate::error::{Error, Field, Result, invalid};
use crate::health::HealthOptions;
use crate::host::Host;
use crate::instance::Instance;
use crate::options::CreateOptions;
use crate::verbs::Started;
use crate::{command, create, delete, name, network};

/// A request for a new instance: the counterpart of `docker create`'s flags, with docker's defaults.
#[derive(Debug, Clone)]
pub struct CreateRequest {
    /// Name; made up when absent.
    pub name: Option<String>,
    /// Reference of the image, which is pulled when it is not here. Without one a kernel boots alone.
    pub image: Option<String>,
    /// Replaces the image's entrypoint and command.
    pub entrypoint: Option<Vec<String>>,
    /// Replaces the image's command.
    pub arguments: Vec<String>,
    /// Added to the image's environment.
    pub env: BTreeMap<String, String>,
    /// Replaces the image's working directory.
    pub workdir: Option<String>,
    /// Replaces the image's user.
    pub user: Option<String>,
    /// Resource limits of the program.
    pub ulimits: Vec<Ulimit>,
    /// What the program has as its input and output.
    pub stdio: Stdio,
    /// What replaces the image's health check.
    pub health: HealthOptions,
    /// Version of a kernel that is here, or file of one of the user's own; the newest when absent.
    pub kernel: Option<PathBuf>,
    /// File of an initramfs of the user's own.
    pub initrd: Option<PathBuf>,
    /// Words added to the kernel's command line.
    pub cmdline: String,
    /// Whether what the kernel says while it boots is shown.
    pub show_boot: bool,
    /// Hypervisor on which it runs.
    pub hypervisor: HypervisorKind,
    /// Program of that hypervisor; the one that is found when absent. Cloud Hypervisor only.
    pub program: Option<PathBuf>,
    /// How instructions are executed; KVM where it works when absent.
    pub accelerator: Option<Accelerator>,
    /// Number of vCPUs.
    pub vcpus: u32,
    /// Memory in bytes.
    pub memory: u64,
    /// Memory in bytes that can be added.
    pub hotplug_memory: Option<u64>,
    /// Size of the writable disk in bytes.
    pub disk_size: u64,
    /// Limits of the disks, in bytes and operations a second.
    pub disk_rate: RateLimit,
    /// Limits of the logs.
    pub log: LogLimits,
    /// Whether it is removed when it has ended.
    pub auto_remove: bool,
    /// What to do when the guest reboots.
    pub on_reboot: Option<OnReboot>,
    /// How strictly its VMM is confined.
    pub confine: Strictness,
    /// Its network.
    pub network: NetworkRequest,
}

/// The network of a request for a new instance.
#[derive(Debug, Clone, Default)]
pub struct NetworkRequest {
    /// Name of a network, or `user` or `none`; the best that this host can give when absent.
    pub name: Option<String>,
    /// Ports to be published, as docker writes them: `8080:80/tcp`.
    pub publish: Vec<String>,
    /// Whether all ports are published that the image exposes.
    pub publish_all: bool,
    /// Limits of its traffic.
    pub rates: Rates,
    /// DNS servers; the host's when empty.
    pub dns: Vec<IpAddr>,
    /// Domains in which names are looked up.
    pub dns_search: Vec<String>,
    /// Options of the resolver.
    pub dns_options: Vec<String>,
    /// Further names of hosts.
    pub hosts: Vec<HostName>,
}

impl Default for CreateRequest {
    fn default() -> CreateRequest {
        let usual = Settings::default();
        CreateRequest {
            name: None,
            image: None,
            entrypoint: None,
            arguments: Vec::new(),
            env: BTreeMap::new(),
            workdir: None,
            user: None,
            ulimits: Vec::new(),
            stdio: Stdio::default(),
            health: HealthOptions::default(),
            kernel: None,
            initrd: None,
            cmdline: usual.cmdline,
            show_boot: usual.show_boot,
            hypervisor: usual.hypervisor,
            program: usual.program,
            accelerator: usual.accelerator,
            vcpus: usual.vcpus,
            memory: usual.memory,
            hotplug_memory: usual.hotplug_memory,
            disk_size: usual.disk_size,
            disk_rate: RateLimit::default(),
            log: usual.log,
            auto_remove: usual.auto_remove,
            on_reboot: usual.on_reboot,
            confine: usual.confine,
            network: NetworkRequest::default(),
        }
    }
}

/// A request of which all is here that it needs: its image was pulled, and its network chosen.
#[derive(Debug, Clone)]
pub struct Prepared {
    options: CreateOptions,
    notes: Vec<String>,
}

/// An instance that was made.
#[derive(Debug, Clone)]
pub struct Created {
    /// The instance.
    pub instance: Instance,
    /// What its user may want to know, each in a sentence.
    pub notes: Vec<String>,
}

impl Prepared {
    /// What the user may want to know, each in a sentence.
    #[must_use]
    pub fn notes(&self) -> &[String] {
        &self.notes
    }
}

impl Host {
    /// Gets what a request needs: pulls the image if it is not here, and chooses a network. May take long; nothing is made.
    ///
    /// # Errors
    /// When the image cannot be pulled, or something of the request cannot be used.
    pub fn prepare(&self, request: &CreateRequest, progress: &dyn Progress) -> Result<Prepared> {
        if let Some(name) = &request.name {
            name::check(name)?; // before a long pull
        }
        let image =
            request.image.as_deref().map(|reference| self.image_for(reference, progress)).transpose()?;
        let warnings = image.iter().flat_map(|(_, image)| command::warnings(&image.config));
        let mut notes: Vec<String> = warnings.map(|warning| format!("warning: {warning}")).collect();
        let exposed = image.as_ref().map(|(_, image)| &image.config.exposed[..]);
        let network = network_of(request, exposed, &mut notes)?;
        let options = CreateOptions {
            name: request.name.clone(),
            image,
            entrypoint: request.entrypoint.clone(),
            arguments: request.arguments.clone(),
            env: request.env.clone(),
            workdir: request.workdir.clone(),
            user: request.user.clone(),
            ulimits: request.ulimits.clone(),
            stdio: request.stdio,
            health: request.health.clone(),
            kernel: request.kernel.as_deref().map(|kernel| self.kernel_use(kernel)).transpose()?,
            initrd: request.initrd.clone(),
            settings: self.settings(request, network)?,
        };
        Ok(Prepared { options, notes })
    }

    /// Makes an instance.
    ///
    /// # Errors
    /// When its name is taken, or something of the request cannot be used, or the disk is full; nothing is left then.
    pub fn create(&self, prepared: &Prepared) -> Result<Created> {
        let networks = self.networks();
        let is_new = |name: &&String| *name != DEFAULT && networks.get(name).is_err();
        let new = match &prepared.options.settings.network.connection {
            Connection::Bridge(name) => Some(name).filter(is_new),
            Connection::User | Connection::None => None,
        };
        let instance = create::create(&self.instances, &prepared.options)?;
        // Its name may be mistyped.
        let made = new.and_then(|name| networks.get(name).ok()).map(|network| {
            format!(
                "created network {:?}: {} on {} (remove it with hypeman network rm {})",
                network.name, network.subnet, network.bridge, network.name
            )
        });
        Ok(Created { instance, notes: made.into_iter().collect() })
    }

    /// Makes an instance and starts it. One that does not come to run is not left behind.
    ///
    /// # Errors
    /// As [`Host::create`] and [`Host::start`].
    pub fn run(&self, prepared: &Prepared) -> Result<(Started, Vec<String>)> {
        self.programs()?; // before anything is made
        let Created { instance, notes } = self.create(prepared)?;
        let started = self.start_found(instance.clone()).inspect_err(|_| delete::clear_away(&instance))?;
        Ok((started, notes))
    }

    /// An image that is here, or is pulled, as docker does.
    fn image_for(&self, reference: &str, progress: &dyn Progress) -> Result<(String, Image)> {
        let images = self.images();
        let image = match images.get(reference) {
            Err(hypeman_image::Error::NotFound(_)) => images
                .pull(reference, progress)
                .map_err(|source| Error::NotPulled { reference: reference.to_owned(), source })?,
            other => other?,
        };
        Ok((reference.to_owned(), image))
    }

    /// A version that is here, or else a file.
    fn kernel_use(&self, kernel: &Path) -> Result<KernelUse> {
        let mut components = kernel.components();
        let word = match (components.next(), components.next()) {
            (Some(Component::Normal(word)), None) => word.to_str(),
            _ => None,
        };
        match word {
            Some(version) if self.kernels().get(Some(version)).is_ok() => {
                Ok(KernelUse::Version(version.to_owned()))
            }
            Some(version) if !kernel.exists() => {
                invalid(Field::Kernel, version, "neither an installed version nor a file")
            }
            _ => Ok(KernelUse::Own { source: kernel.to_owned() }),
        }
    }

    fn settings(&self, request: &CreateRequest, network: NetworkSettings) -> Result<Settings> {
        let hypervisor = request.hypervisor;
        let is_limited = request.disk_rate != RateLimit::default();
        Ok(Settings {
            cmdline: request.cmdline.clone(),
            show_boot: request.show_boot,
            hypervisor,
            program: match (&request.program, hypervisor) {
                (Some(path), HypervisorKind::CloudHypervisor) => Some(self.named_program(path, hypervisor)?),
                _ => None,
            },
            accelerator: request.accelerator,
            vcpus: request.vcpus,
            memory: request.memory,
            hotplug_memory: request.hotplug_memory,
            disk_size: request.disk_size,
            disk_rate_limit: is_limited.then_some(request.disk_rate),
            log: request.log,
            auto_remove: request.auto_remove,
            on_reboot: request.on_reboot,
            confine: request.confine,
            network,
        })
    }

    /// The program as the shim will find it, whose directory is another.
    fn named_program(&self, path: &Path, hypervisor: HypervisorKind) -> Result<PathBuf> {
        let program = hypeman_vmm::hypervisor(hypervisor).discover(Some(path), &self.findings())?;
        Ok(std::path::absolute(program.path).at(path)?)
    }
}

/// How an instance is connected. `exposed` are the ports of its image, if it has one.
fn network_of(
    request: &CreateRequest,
    exposed: Option<&[String]>,
    notes: &mut Vec<String>,
) -> Result<NetworkSettings> {
    let asked = &request.network;
    let name = asked.name.as_deref().filter(|name| !name.is_empty());
    let choice = network::choose(name, exposed.is_some(), request.hypervisor)?;
    if let Some(why) = &choice.why_none {
        notes.push(format!("warning: the VM has no network ({why}); silence this with --network none"));
    }
    let exposed = exposed.filter(|_| asked.publish_all).unwrap_or_default();
    Ok(NetworkSettings {
        connection: choice.connection,
        published: network::published(&asked.publish, exposed)?,
        rates: asked.rates,
        dns: asked.dns.clone(),
        dns_search: asked.dns_search.clone(),
        dns_options: asked.dns_options.clone(),
        hosts: asked.hosts.clone(),
    })
}
