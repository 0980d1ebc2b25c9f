//! The flags of what is done in a guest, docker's.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use clap_complete::ArgValueCompleter;

use crate::{names, time};

#[derive(Debug, Args)]
pub(crate) struct ExecArguments {
    /// Give the command an input: what is typed, or comes from a pipe
    #[arg(short, long)]
    pub(crate) interactive: bool,
    /// Give the command a terminal
    #[arg(short, long)]
    pub(crate) tty: bool,
    /// Leave it running, and print nothing of it
    #[arg(short, long, conflicts_with_all = ["interactive", "tty", "timeout"])]
    pub(crate) detach: bool,
    /// Set a variable, or pass on ours when no value is given
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    pub(crate) env: Vec<String>,
    /// Set the variables in a file of NAME=VALUE lines
    #[arg(long, value_name = "FILE")]
    pub(crate) env_file: Vec<PathBuf>,
    /// Working directory in the guest [default: that of the instance's program]
    #[arg(short, long, visible_alias = "cwd", value_name = "DIR")]
    pub(crate) workdir: Option<String>,
    /// User in the guest [default: that of the instance's program]
    #[arg(short, long, value_name = "USER[:GROUP]")]
    pub(crate) user: Option<String>,
    /// End it after so long (seconds, or 1m30s); the exit code is 124 then
    #[arg(long, value_name = "TIME", value_parser = time::duration)]
    pub(crate) timeout: Option<Duration>,
    /// Name or the beginning of an id, and the command
    // One positional for both: from the name on, a word with a dash is the command's.
    #[arg(trailing_var_arg = true, required = true, num_args = 2.., value_names = ["NAME", "COMMAND"], add = ArgValueCompleter::new(names::instances))]
    pub(crate) name_and_command: Vec<OsString>,
}

#[derive(Debug, Args)]
pub(crate) struct ExportArguments {
    /// Write to a file, and not to standard output
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// Name, or the beginning of an id
    #[arg(add = ArgValueCompleter::new(names::instances))]
    pub(crate) name: String,
}

#[derive(Debug, Args)]
pub(crate) struct CopyArguments {
    /// Keep owners, by number, and set-user-ID bits; else what arrives is root's in the guest and ours here
    #[arg(short, long)]
    pub(crate) archive: bool,
    /// Copy what SRC leads to if it is a link, and not the link
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
