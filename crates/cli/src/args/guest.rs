//! The flags of what is done in a guest, docker's.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use clap_complete::ArgValueCompleter;

use crate::{names, time};

#[derive(Debug, Args)]
pub(crate) struct ExecArguments {
    /// Keep standard input open
    #[arg(short, long)]
    pub(crate) interactive: bool,
    /// Allocate a terminal
    #[arg(short, long)]
    pub(crate) tty: bool,
    /// Run in the background
    #[arg(short, long, conflicts_with_all = ["interactive", "tty", "timeout"])]
    pub(crate) detach: bool,
    /// Set an environment variable; without a value, copy it from here
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    pub(crate) env: Vec<String>,
    /// Read environment variables from a file
    #[arg(long, value_name = "FILE")]
    pub(crate) env_file: Vec<PathBuf>,
    /// Working directory in the guest [default: the program's]
    #[arg(short, long, visible_alias = "cwd", value_name = "DIR")]
    pub(crate) workdir: Option<String>,
    /// User in the guest [default: the program's]
    #[arg(short, long, value_name = "USER[:GROUP]")]
    pub(crate) user: Option<String>,
    /// Timeout, in seconds or as 1m30s; the exit code is then 124
    #[arg(long, value_name = "TIME", value_parser = time::duration)]
    pub(crate) timeout: Option<Duration>,
    /// Name, id or id prefix, and the command
    // One positional for both: from the name on, a word with a dash is the command's.
    #[arg(trailing_var_arg = true, required = true, num_args = 2.., value_names = ["NAME", "COMMAND"], add = ArgValueCompleter::new(names::instances))]
    pub(crate) name_and_command: Vec<OsString>,
}

#[derive(Debug, Args)]
pub(crate) struct ExportArguments {
    /// Write to a file instead of standard output
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// Name, id or id prefix
    #[arg(add = ArgValueCompleter::new(names::instances))]
    pub(crate) name: String,
}

#[derive(Debug, Args)]
pub(crate) struct CopyArguments {
    /// Keep numeric owners and set-user-ID bits
    #[arg(short, long)]
    pub(crate) archive: bool,
    /// Follow SRC if it is a link
    #[arg(short = 'L', long, visible_alias = "follow-links")]
    pub(crate) follow_link: bool,
    /// Show no progress
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// NAME:PATH in an instance, a path here, or `-` for a tar stream from standard input
    #[arg(value_name = "SRC")]
    pub(crate) source: OsString,
    /// NAME:PATH in an instance, a path here, or `-` for a tar stream to standard output
    #[arg(value_name = "DST")]
    pub(crate) target: OsString,
}
