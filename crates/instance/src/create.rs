//! Creation: everything is made in a hidden directory, which gets its name when it is whole.

use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use hypeman_files::{AtPath, Lock, sync_directory, write_disk};
use hypeman_guest::status;
use hypeman_record::format::{self, Envelope};
use hypeman_record::names;
use hypeman_record::record::{ImageUse, KernelUse, Record};
use jiff::Timestamp;

use crate::error::{Error, Field, Result};
use crate::layout;
use crate::name;
use crate::options::{CreateOptions, check};
use crate::store::{Instance, Store};
use crate::{command, delete, start};

/// Makes an instance.
///
/// # Errors
/// When what was asked for cannot be had or the disk is full; nothing is left behind then.
pub fn create(store: &Store, options: &CreateOptions) -> Result<Instance> {
    check(options)?;
    let record = record(store, options)?;
    start::check_config(&record)?;
    let (hidden, _lock) = begin(store, &record.id)?;
    let made = write_files(&hidden, options, &record).and_then(|()| publish(store, &hidden, record, options));
    if made.is_err() {
        let _ = std::fs::remove_dir_all(&hidden); // else the next creator sweeps it away
    }
    made
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
    Ok(Record {
        id: name::new_id()?,
        name: options.name.clone().map_or_else(name::random_name, Ok)?,
        created: Timestamp::now(),
        image: options.image.as_ref().map(|(reference, image)| ImageUse {
            reference: reference.clone(),
            digest: image.digest.clone(),
        }),
        command: options
            .image
            .as_ref()
            .map(|(_, image)| command::resolve(options, &image.config))
            .transpose()?,
        kernel,
        own_initrd: options.initrd.is_some(),
        settings: options.settings.clone(),
        envelope: Envelope::of::<Record>(),
    })
}

/// Makes the hidden directory, held by its lock from its first moment that anyone else can see it.
fn begin(store: &Store, id: &str) -> Result<(PathBuf, Lock)> {
    let held = store.lock()?;
    delete::sweep(store, &held)?;
    let hidden = layout::instances(store.data_dir()).join(format!(".new-{id}"));
    std::fs::DirBuilder::new().mode(0o700).create(&hidden).at(&hidden)?;
    let lock = Lock::acquire(&hidden.join(names::LOCK))?;
    Ok((hidden, lock))
}

fn write_files(directory: &Path, options: &CreateOptions, record: &Record) -> Result<()> {
    for name in ["disks", "logs"] {
        let path = directory.join(name);
        std::fs::create_dir(&path).at(&path)?;
    }
    if let KernelUse::Own { source } = &record.kernel {
        std::fs::copy(source, directory.join(names::KERNEL)).at(source)?;
    }
    if let Some(initrd) = &options.initrd {
        std::fs::copy(initrd, directory.join(names::INITRD)).at(initrd)?;
    }
    if record.image.is_some() {
        hypeman_image::create_overlay(&directory.join(names::OVERLAY), record.settings.disk_size)?;
        write_disk(&directory.join(names::STATUS), &[], status::DISK_SIZE)?;
    }
    Ok(format::write(&directory.join(names::RECORD), record)?)
}

/// Gives the directory its name, when the instance's name is free and its image still there.
fn publish(store: &Store, hidden: &Path, mut record: Record, options: &CreateOptions) -> Result<Instance> {
    let _held = store.lock()?;
    let (others, _) = store.list()?;
    let holder = |name: &str| others.iter().find(|other| other.record.name == name);
    while let Some(other) = holder(&record.name) {
        if options.name.is_some() {
            return Err(Error::NameTaken { name: record.name, id: other.record.id.clone() });
        }
        record.name = name::random_name()?;
        format::write(&hidden.join(names::RECORD), &record)?;
    }
    if let Some((reference, image)) = &options.image
        && !image.rootfs().exists()
    {
        return Err(Error::Invalid {
            field: Field::Image,
            value: reference.clone(),
            reason: "it was removed meanwhile".to_owned(),
        });
    }
    let directory = layout::instances(store.data_dir()).join(&record.id);
    std::fs::rename(hidden, &directory).at(hidden)?;
    sync_directory(&layout::instances(store.data_dir()))?;
    Ok(Instance { record, directory })
}
