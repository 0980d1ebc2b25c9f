//! Arguments of the server and of its tokens.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use hypeman_server::{Address, Scope};

use crate::time;

#[derive(Debug, Args)]
pub(crate) struct ServeArguments {
    #[command(flatten)]
    pub(crate) config: ConfigArgument,
    /// Address to listen on, as 127.0.0.1:4973 or unix:PATH; may be repeated [default: that of the
    /// configuration, else 127.0.0.1:4973]
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) listen: Vec<Address>,
}

#[derive(Debug, Args)]
pub(crate) struct TokenArguments {
    #[command(flatten)]
    pub(crate) config: ConfigArgument,
    /// User, for the server's log
    #[arg(long, alias = "user-id", default_value = "admin", value_name = "NAME")]
    pub(crate) user: String,
    /// How long the token is valid, in seconds or as 30days
    #[arg(long, default_value = "24h", value_name = "TIME", value_parser = time::duration)]
    pub(crate) duration: Duration,
    /// Scopes, separated by commas [default: all that there are]
    #[arg(long, value_name = "SCOPES", value_delimiter = ',')]
    pub(crate) scopes: Vec<Scope>,
    /// Print the scopes that there are
    #[arg(long, exclusive = true)]
    pub(crate) list_scopes: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ConfigArgument {
    /// Configuration file [default: CONFIG_PATH, else /etc/hypeman/config.yaml or
    /// ~/.config/hypeman/config.yaml]
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
}
