//! A request for a new instance, with docker's defaults, and how it becomes one.

use std::path::{Component, Path, PathBuf};

use hypeman_files::AtPath;
use hypeman_image::{Image, Progress, PullRequest};
use hypeman_record::network::{Connection, DEFAULT, NetworkSettings};
use hypeman_record::record::{KernelUse, Settings};
use hypeman_record::spec::HypervisorKind;

use crate::error::{Error, Field, Result, invalid};
use crate::host::Host;
use crate::instance::Instance;
use crate::options::CreateOptions;
pub use crate::options::CreateRequest;
use crate::verbs::Started;
use crate::{command, create, delete, name, network};

/// A request that is ready: its image was pulled, and its network chosen.
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
    /// Notes for its user, each in a sentence.
    pub notes: Vec<String>,
}

impl Prepared {
    /// Notes for the user, each in a sentence.
    #[must_use]
    pub fn notes(&self) -> &[String] {
        &self.notes
    }
}

impl Host {
    /// Prepares a request: pulls the image if it is not here, and chooses a network. May take long;
    /// makes no instance.
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
        let kernel = request.kernel.as_deref().map(|kernel| self.kernel_use(kernel)).transpose()?;
        let settings = self.settings(request, network)?;
        let request = CreateRequest { settings, ..request.clone() };
        let options = CreateOptions { request, image, kernel };
        Ok(Prepared { options, notes })
    }

    /// Makes an instance.
    ///
    /// # Errors
    /// When its name is taken, or something of the request cannot be used, or the disk is full;
    /// nothing is left then.
    pub fn create(&self, prepared: &Prepared) -> Result<Created> {
        let networks = self.networks();
        let is_new = |name: &&String| *name != DEFAULT && networks.get(name).is_err();
        let new = match &prepared.options.request.settings.network.connection {
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

    /// Makes an instance and starts it. One that does not start is removed.
    ///
    /// # Errors
    /// As [`Host::create`] and [`Host::start`].
    pub fn run(&self, prepared: &Prepared) -> Result<(Started, Vec<String>)> {
        self.programs()?; // before anything is made
        let Created { instance, notes } = self.create(prepared)?;
        let started = self.start_found(instance.clone()).inspect_err(|_| delete::clear_away(&instance))?;
        Ok((started, notes))
    }

    /// Returns an image, which is pulled if it is not here, as by docker.
    fn image_for(&self, reference: &str, progress: &dyn Progress) -> Result<(String, Image)> {
        let images = self.images();
        let image = match images.get(reference) {
            Err(hypeman_image::Error::NotFound(_)) => images
                .pull(&PullRequest::of(reference), progress)
                .map_err(|source| Error::NotPulled { reference: reference.to_owned(), source })?,
            other => other?,
        };
        Ok((reference.to_owned(), image))
    }

    /// Finds an installed version, or else a file.
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
        let hypervisor = request.settings.hypervisor;
        let named = request.settings.program.as_deref();
        let program = named.map(|path| self.named_program(path, hypervisor)).transpose()?;
        Ok(Settings { program, network, ..request.settings.clone() })
    }

    /// Returns the program's path for the shim, which works in another directory.
    fn named_program(&self, path: &Path, hypervisor: HypervisorKind) -> Result<PathBuf> {
        let program = hypeman_vmm::hypervisor(hypervisor).discover(Some(path), &self.findings())?;
        Ok(std::path::absolute(program.path).at(path)?)
    }
}

/// Chooses how an instance is connected. `exposed` are the ports of its image, if it has one.
fn network_of(
    request: &CreateRequest,
    exposed: Option<&[String]>,
    notes: &mut Vec<String>,
) -> Result<NetworkSettings> {
    let name = request.network.as_deref().filter(|name| !name.is_empty());
    let choice = network::choose(name, exposed.is_some(), request.settings.hypervisor)?;
    if let Some(why) = &choice.why_none {
        notes.push(format!("warning: the VM has no network ({why}); silence this with --network none"));
    }
    let exposed = exposed.filter(|_| request.publish_all).unwrap_or_default();
    Ok(NetworkSettings {
        connection: choice.connection,
        published: network::published(&request.publish, exposed)?,
        ..request.settings.network.clone()
    })
}
