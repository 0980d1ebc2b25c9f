//! Where a host has its data and our programs.

use std::path::{Path, PathBuf};

use hypeman_files::AtPath;
use hypeman_record::data_dir::DataDir;

use crate::error::{Error, Field, Result};
use crate::layout::{self, DATA_DIR, variable};

/// Variable with the program that becomes PID 1 in guests.
const INIT: &str = "HYPEMAN_INIT";

/// Name of process 1 of guests.
const INIT_NAME: &str = "hypeman-init";

/// Variable with the maximum size of images.
const MAX_IMAGE_SIZE: &str = "HYPEMAN_MAX_IMAGE_SIZE";

/// Paths and limits of a host.
#[derive(Debug, Clone)]
pub struct Config {
    /// Absolute path of the data directory.
    pub data_dir: DataDir,
    /// Whether the data directory has to be there; else it is made.
    pub must_exist: bool,
    /// The `hypeman` binary, which is also the shim.
    pub hypeman: PathBuf,
    /// The `hypeman-init` that becomes PID 1 in guests.
    pub init: PathBuf,
    /// Maximum size of an image, decompressed, in bytes.
    pub max_image_size: u64,
}

impl Config {
    /// Returns the default paths: `data_dir`, or else that of the environment or the user's; this
    /// very program as `hypeman`, and `hypeman-init` beside it. A data directory that was named has
    /// to exist.
    ///
    /// # Errors
    /// When a variable of the environment has a value that cannot be used.
    pub fn from_env(data_dir: Option<PathBuf>) -> Result<Config> {
        Config::of(std::env::current_exe().at("/proc/self/exe".as_ref())?, data_dir)
    }

    /// As [`Config::from_env`], for another program than `hypeman`, which is at the path `hypeman`.
    ///
    /// # Errors
    /// As [`Config::from_env`].
    pub fn of(hypeman: PathBuf, data_dir: Option<PathBuf>) -> Result<Config> {
        Ok(Config {
            must_exist: data_dir.is_some() || variable(DATA_DIR).is_some(),
            data_dir: DataDir::new(&layout::data_dir(data_dir)?),
            init: variable(INIT).map_or_else(|| init_of(&hypeman), PathBuf::from),
            hypeman,
            max_image_size: max_image_size()?,
        })
    }
}

/// Returns the `hypeman-init` of a program: beside it, or where a package puts what nobody runs by
/// hand.
fn init_of(hypeman: &Path) -> PathBuf {
    let beside = hypeman.with_file_name(INIT_NAME);
    let prefix = hypeman.parent().and_then(Path::parent);
    let packaged = prefix.map(|prefix| prefix.join("lib/hypeman").join(INIT_NAME));
    packaged.filter(|packaged| packaged.exists() && !beside.exists()).unwrap_or(beside)
}

fn max_image_size() -> Result<u64> {
    let Some(value) = variable(MAX_IMAGE_SIZE) else { return Ok(hypeman_image::DEFAULT_SIZE) };
    let size = value.to_str().ok_or("it is no text".to_owned()).and_then(crate::size::parse);
    size.map_err(|reason| Error::Invalid {
        field: Field::MaxImageSize,
        value: value.to_string_lossy().into_owned(),
        reason,
    })
}
