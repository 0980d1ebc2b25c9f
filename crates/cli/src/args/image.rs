//! The flags of images and kernels.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use clap_complete::ArgValueCompleter;

use super::FormatArgument;
use crate::{names, size};

#[derive(Debug, Subcommand)]
pub(crate) enum KernelCommand {
    /// Pull the distribution's cloud kernel; /boot stays as it is
    Pull,
    /// Import a kernel from a file
    Import {
        /// bzImage or PVH ELF
        vmlinuz: PathBuf,
        /// Directory of its modules, as in /lib/modules/VERSION
        #[arg(long)]
        modules: Option<PathBuf>,
        /// Version to store it as
        #[arg(long)]
        name: String,
    },
    /// List kernels
    Ls {
        #[command(flatten)]
        format: FormatArgument,
    },
    /// Remove kernels
    Rm {
        #[arg(required = true, add = ArgValueCompleter::new(names::kernels))]
        versions: Vec<String>,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum ImageCommand {
    /// Import an OCI layout, an OCI or docker archive, or a root filesystem in a tar file
    Import {
        #[command(flatten)]
        limit: ImageLimit,
        /// Directory or file
        source: PathBuf,
        /// Name of the image; required when the source has none
        #[arg(long)]
        name: Option<String>,
        /// Command of an image made from a root filesystem, split as a shell does
        #[arg(long)]
        cmd: Option<String>,
    },
    /// List images
    Ls {
        /// Print digests only
        #[arg(short, long)]
        quiet: bool,
        #[command(flatten)]
        format: FormatArgument,
    },
    /// Print details of images as JSON
    Inspect(ImageNames),
    /// Remove images
    Rm(ImageNames),
}

#[derive(Debug, Args)]
pub(crate) struct ImageLimit {
    /// Maximum size of the decompressed image [default: HYPEMAN_MAX_IMAGE_SIZE, else 64g]
    #[arg(long, value_name = "SIZE", value_parser = size::parse)]
    pub(crate) max_size: Option<u64>,
}

#[derive(Debug, Args)]
pub(crate) struct ImageNames {
    /// Names or digest prefixes
    #[arg(required = true, value_name = "IMAGE", add = ArgValueCompleter::new(names::images))]
    pub(crate) names: Vec<String>,
}
