//! Images and kernels, and who uses them: what is in use is not removed.

use std::path::Path;

use hypeman_image::kernel::Kernel;
use hypeman_image::{Changes, Image, Progress, PullRequest};
use hypeman_record::record::{KernelUse, Record};

use crate::error::Result;
use crate::host::Host;

impl Host {
    /// Pulls an image. `max_size` limits it, decompressed, in bytes; else the host's own limit
    /// does.
    ///
    /// # Errors
    /// When the registry does not give it, or it is too large, or the disk is full.
    pub fn pull_image(
        &self,
        request: &PullRequest,
        max_size: Option<u64>,
        progress: &dyn Progress,
    ) -> Result<Image> {
        Ok(self.limited(max_size).pull(request, progress)?)
    }

    /// Asks the registry which image a reference means; returns its digest.
    ///
    /// # Errors
    /// When the registry has no such image, refuses, or cannot be reached.
    pub fn resolve_image(&self, request: &PullRequest) -> Result<String> {
        Ok(self.images().resolve(request)?)
    }

    /// Gives an image another name.
    ///
    /// # Errors
    /// When there is no such image, or the name cannot be one.
    pub fn tag_image(&self, query: &str, name: &str) -> Result<Image> {
        Ok(self.images().tag(query, name)?)
    }

    /// Imports an image from a file or directory, or from `-`, standard input. `max_size` as for
    /// [`Host::pull_image`].
    ///
    /// # Errors
    /// When the archive cannot be read, or is too large, or the disk is full.
    pub fn import_image(
        &self,
        source: &Path,
        name: Option<&str>,
        changes: &Changes,
        max_size: Option<u64>,
        progress: &dyn Progress,
    ) -> Result<Image> {
        Ok(self.limited(max_size).import(source, name, changes, progress)?)
    }

    fn limited(&self, max_size: Option<u64>) -> hypeman_image::Store {
        max_size.map_or_else(|| self.images(), |most| self.images().with_most(most))
    }

    /// Lists all images.
    ///
    /// # Errors
    /// When one cannot be read.
    pub fn list_images(&self) -> Result<Vec<Image>> {
        Ok(self.images().list()?)
    }

    /// Finds the image of this name, or with this digest.
    ///
    /// # Errors
    /// When there is none.
    pub fn image(&self, query: &str) -> Result<Image> {
        Ok(self.images().get(query)?)
    }

    /// Removes a name of an image, and with the last one the image.
    ///
    /// # Errors
    /// When an instance or a snapshot uses it, or a record that cannot be read may.
    pub fn remove_image(&self, query: &str) -> Result<()> {
        let _held = self.instances.lock()?; // no instance appears with it meanwhile
        Ok(self.images().remove(query, &|digest| {
            self.user(|record| record.image.as_ref().is_some_and(|image| image.digest == digest))
        })?)
    }

    /// Pulls the distribution's kernel.
    ///
    /// # Errors
    /// When its packages cannot be had.
    pub fn pull_kernel(&self, progress: &dyn Progress) -> Result<Kernel> {
        Ok(self.kernels().pull(progress)?)
    }

    /// Imports a kernel of the user's own under a name.
    ///
    /// # Errors
    /// When it is no kernel, or its name is taken.
    pub fn import_kernel(&self, vmlinuz: &Path, modules: Option<&Path>, name: &str) -> Result<Kernel> {
        Ok(self.kernels().import(vmlinuz, modules, name)?)
    }

    /// Lists all kernels.
    ///
    /// # Errors
    /// When their directory cannot be read.
    pub fn list_kernels(&self) -> Result<Vec<Kernel>> {
        Ok(self.kernels().list()?)
    }

    /// Returns the kernel of this version; the newest without one.
    ///
    /// # Errors
    /// When there is none.
    pub fn kernel(&self, version: Option<&str>) -> Result<Kernel> {
        Ok(self.kernels().get(version)?)
    }

    /// Removes a kernel.
    ///
    /// # Errors
    /// As [`Host::remove_image`].
    pub fn remove_kernel(&self, version: &str) -> Result<()> {
        let _held = self.instances.lock()?;
        let user = self.user(|record| record.kernel == KernelUse::Version(version.to_owned()));
        Ok(self.kernels().remove(version, user.as_deref())?)
    }

    /// Finds the instance or snapshot that uses something. A record that cannot be read may use
    /// anything: nothing is removed because of it.
    fn user(&self, uses: impl Fn(&Record) -> bool) -> Option<String> {
        let (instances, damaged) = match self.list() {
            Ok(listed) => listed,
            Err(error) => return Some(unreadable(&error)),
        };
        if let Some(instance) = instances.into_iter().find(|instance| uses(&instance.record)) {
            return Some(format!("instance {}", instance.record.name));
        }
        let (snapshots, damaged_snapshots) = match self.list_snapshots() {
            Ok(listed) => listed,
            Err(error) => return Some(unreadable(&error)),
        };
        if let Some(snapshot) = snapshots.into_iter().find(|snapshot| uses(&snapshot.record.source)) {
            return Some(format!("snapshot {}", snapshot.record.id));
        }
        damaged.iter().chain(&damaged_snapshots).next().map(|error| unreadable(error))
    }
}

/// The user of something that nobody can name: its record cannot be read.
pub(crate) fn unreadable(error: &dyn std::fmt::Display) -> String {
    format!("an unreadable record ({error})")
}
