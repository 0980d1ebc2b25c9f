//! Creation: everything is made in a hidden directory, which gets its name when it is whole.

use std::path::Path;

use hypeman_files::{AtPath, Draft, copy_sparse, write_disk};
use hypeman_record::format::{self, Envelope};
use hypeman_record::guest::config::Mode;
use hypeman_record::guest::status;
use hypeman_record::names;
use hypeman_record::record::{ImageUse, KernelUse, OnReboot, Record};
use jiff::Timestamp;

use crate::error::{Error, Field, Result, invalid};
use crate::instance::Instance;
use crate::options::{CreateOptions, check};
use crate::store::{Store, may_be_named};
use crate::{command, name, network, start};

/// Makes an instance.
///
/// # Errors
/// When what was asked for cannot be had or the disk is full; nothing is left behind then.
pub(crate) fn create(store: &Store, options: &CreateOptions) -> Result<Instance> {
    check(options)?;
    let record = record(store, options)?;
    start::check_config(&record)?;
    let draft = Draft::begin(&store.directory())?;
    write_files(draft.path(), options, &record)?;
    publish(store, draft, record, options.request.name.is_some())
}

fn record(store: &Store, options: &CreateOptions) -> Result<Record> {
    let kernels = hypeman_image::kernel::Kernels::new(store.data_dir());
    let kernel = match &options.kernel {
        None => KernelUse::Version(kernels.get(None)?.version),
        Some(KernelUse::Version(version)) => KernelUse::Version(kernels.get(Some(version))?.version),
        Some(KernelUse::Own { source }) => {
            hypeman_image::kernel::kernel_kind(source)?;
            KernelUse::Own { source: std::path::absolute(source).at(source)? }
        }
    };
    let command =
        options.image.as_ref().map(|(_, image)| command::resolve(options, &image.config)).transpose()?;
    if options.request.settings.on_reboot == Some(OnReboot::Restart)
        && command.as_ref().is_some_and(|command| command.mode == Mode::Exec)
    {
        return invalid(Field::OnReboot, "restart", "only an image with an init can be booted again");
    }
    Ok(Record {
        id: name::new_id()?,
        name: options.request.name.clone().map_or_else(name::random_name, Ok)?,
        created: Timestamp::now(),
        tags: options.request.tags.clone(),
        image: options.image.as_ref().map(|(reference, image)| ImageUse {
            reference: reference.clone(),
            digest: image.digest.clone(),
        }),
        command,
        kernel,
        own_initrd: options.request.initrd.is_some(),
        settings: options.request.settings.clone(),
        envelope: Envelope::of::<Record>(),
    })
}

fn write_files(directory: &Path, options: &CreateOptions, record: &Record) -> Result<()> {
    for name in ["disks", "logs"] {
        let path = directory.join(name);
        std::fs::create_dir(&path).at(&path)?;
    }
    if let KernelUse::Own { source } = &record.kernel {
        copy_sparse(source, &directory.join(names::KERNEL))?;
    }
    if let Some(initrd) = &options.request.initrd {
        copy_sparse(initrd, &directory.join(names::INITRD))?;
    }
    if record.image.is_some() {
        hypeman_image::create_overlay(&directory.join(names::OVERLAY), record.settings.disk_size)?;
        write_disk(&directory.join(names::STATUS), &[], status::DISK_SIZE)?;
    }
    Ok(format::write(&directory.join(names::RECORD), record)?)
}

/// Gives the directory its name, when the instance's name is free, or can be made up, and its image
/// is still there.
pub(crate) fn publish(store: &Store, draft: Draft, mut record: Record, has_name: bool) -> Result<Instance> {
    let _held = store.lock()?;
    let (others, damaged) = store.list()?;
    let holder = |name: &str| others.iter().find(|other| other.record.name == name);
    while let Some(other) = holder(&record.name) {
        if has_name {
            return Err(Error::NameTaken { name: record.name, id: other.record.id.clone() });
        }
        record.name = name::random_name()?;
        format::write(&draft.path().join(names::RECORD), &record)?;
    }
    // A record that cannot be read may be of an instance with this name.
    if let Some(error) = damaged.into_iter().find(|error| has_name && may_be_named(error, &record.name)) {
        return Err(error);
    }
    if let Some(ImageUse { reference, digest }) = &record.image
        && hypeman_image::Store::new(store.data_dir()).get(digest).is_err()
    {
        return Err(Error::Invalid {
            field: Field::Image,
            value: reference.clone(),
            reason: "it was removed meanwhile".to_owned(),
        });
    }
    network::give_lease(store, draft.path(), &record)?;
    let directory = store.directory().join(&record.id);
    draft.publish(&directory)?;
    Ok(Instance { record, directory })
}
