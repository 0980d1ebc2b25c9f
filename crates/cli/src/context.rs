//! What every command works with: the data directory and our own programs.

use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow, bail};
use hypeman_image::kernel::Kernels;
use hypeman_instance::layout;
use hypeman_instance::snapshots::Snapshots;
use hypeman_instance::spawn::Programs;
use hypeman_instance::store::Store;
use hypeman_record::data_dir::DataDir;
use hypeman_record::record::{KernelUse, Record};

use crate::size;

/// Names the data directory, where the flag does not.
const DATA_DIR: &str = "HYPEMAN_DATA_DIR";

/// Limits what an image may take.
const MAX_IMAGE_SIZE: &str = "HYPEMAN_MAX_IMAGE_SIZE";

/// Where things are.
#[derive(Debug)]
pub(crate) struct Context {
    /// The data directory.
    pub(crate) data_dir: PathBuf,
    /// Its instances.
    pub(crate) instances: Store,
    /// Its images.
    pub(crate) images: hypeman_image::Store,
    /// Its kernels.
    pub(crate) kernels: Kernels,
}

impl Context {
    /// The data directory by flag, environment or default. One that was named has to be there,
    /// unless `begins` says that it is made.
    pub(crate) fn new(data_dir: Option<PathBuf>, begins: bool) -> Result<Context> {
        let is_named =
            data_dir.is_some() || std::env::var_os(DATA_DIR).is_some_and(|value| !value.is_empty());
        let data_dir = layout::data_dir(data_dir)?;
        check(&data_dir, is_named && !begins)?;
        layout::make_private(&data_dir)?;
        Ok(Context {
            instances: Store::new(&data_dir),
            images: hypeman_image::Store::new(&data_dir).with_most(most_of_image()?),
            kernels: Kernels::new(&data_dir),
            data_dir,
        })
    }

    /// The instance or snapshot whose image has this digest, or whose record cannot be read.
    pub(crate) fn image_user(&self, digest: &str) -> Option<String> {
        self.user(|record| record.image.as_ref().is_some_and(|image| image.digest == digest))
    }

    /// As [`Context::image_user`], of a kernel's version.
    pub(crate) fn kernel_user(&self, version: &str) -> Option<String> {
        self.user(|record| record.kernel == KernelUse::Version(version.to_owned()))
    }

    /// A record that cannot be read may use anything: nothing is removed because of it.
    fn user(&self, uses: impl Fn(&Record) -> bool) -> Option<String> {
        let unreadable =
            |error: &dyn std::fmt::Display| Some(format!("something that cannot be read ({error})"));
        let (instances, damaged) = match self.instances.list() {
            Ok(listed) => listed,
            Err(error) => return unreadable(&error),
        };
        if let Some(instance) = instances.into_iter().find(|instance| uses(&instance.record)) {
            return Some(format!("instance {}", instance.record.name));
        }
        let (snapshots, damaged_snapshots) = match Snapshots::new(&self.data_dir).list() {
            Ok(listed) => listed,
            Err(error) => return unreadable(&error),
        };
        if let Some(snapshot) = snapshots.into_iter().find(|snapshot| uses(&snapshot.record.source)) {
            return Some(format!("snapshot {}", snapshot.record.id));
        }
        damaged.iter().chain(&damaged_snapshots).next().and_then(|error| unreadable(error))
    }
}

/// Refuses a data directory that is not there but has to be, and one that is another user's.
fn check(data_dir: &Path, has_to_be: bool) -> Result<()> {
    let here = data_dir.display();
    match std::fs::read_dir(DataDir::new(data_dir).instances()) {
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            let whose = match std::fs::metadata(data_dir).map(|metadata| metadata.uid()) {
                Ok(0) => "root".to_owned(),
                Ok(uid) => format!("the user with the number {uid}"),
                Err(_) => "another user".to_owned(),
            };
            bail!(
                "the data directory {here} belongs to {whose}: run hypeman as that one (sudo), or give a directory of your \
                 own with --data-dir or {DATA_DIR}"
            );
        }
        Err(_) if has_to_be && !data_dir.exists() => bail!(
            "there is no data directory {here}: name one that is there with --data-dir or {DATA_DIR}; `hypeman pull`, \
             `image import`, `create` and `run` make one"
        ),
        _ => Ok(()),
    }
}

/// The most that an image may take when it is decompressed.
fn most_of_image() -> Result<u64> {
    let Some(value) = std::env::var_os(MAX_IMAGE_SIZE).filter(|value| !value.is_empty()) else {
        return Ok(hypeman_image::DEFAULT_SIZE);
    };
    let size = value.to_str().ok_or("it is no text".to_owned()).and_then(size::parse);
    size.map_err(|reason| anyhow!("{MAX_IMAGE_SIZE} is {value:?}: {reason}"))
}

/// Our own binary, and the init beside it.
pub(crate) fn programs() -> Result<Programs> {
    let hypeman = hypeman()?;
    Ok(Programs { init: init(&hypeman)?, hypeman })
}

/// Our own binary.
pub(crate) fn hypeman() -> Result<PathBuf> {
    std::env::current_exe().context("find the hypeman binary")
}

fn init(hypeman: &Path) -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("HYPEMAN_INIT").filter(|path| !path.is_empty()).map(PathBuf::from) {
        if !path.is_file() {
            bail!("HYPEMAN_INIT names {}, which is no file", path.display());
        }
        return Ok(path);
    }
    let beside = hypeman.with_file_name("hypeman-init");
    if !beside.is_file() {
        let way_out = "build it with `cargo build -p hypeman-guest`, or set HYPEMAN_INIT";
        bail!("hypeman-init, which becomes PID 1 in the guest, is not at {}; {way_out}", beside.display());
    }
    Ok(beside)
}
