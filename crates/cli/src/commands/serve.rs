//! serve and token: the HTTP API.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use hypeman_host::{Config as HostConfig, Host};
use hypeman_server::{Address, Config, Found, Grant, Scope, Secret, Telemetry};

use crate::args::{ConfigArgument, ServeArguments, TokenArguments};
use crate::{output, trace};

/// Address of a server when no address is given.
const LOOPBACK: &str = "127.0.0.1";

pub(crate) fn serve(data_dir: Option<PathBuf>, arguments: &ServeArguments) -> Result<ExitCode> {
    let Found { config, file, warnings } = find(&arguments.config)?;
    let telemetry = Telemetry::start(&config)?;
    trace::show(Some(config.logging.level.into()), telemetry.receiver());
    warnings.iter().for_each(output::complain);
    let addresses = match &arguments.listen[..] {
        [] => configured(&config)?,
        given => given.to_vec(),
    };
    let host = Host::open(HostConfig { must_exist: false, ..host(data_dir, &config)? })?;
    let secret = Secret::of(Some(&config.jwt_secret), host.data_dir().path())?;
    let data_dir = host.data_dir().path().to_owned();
    let ready = |addresses: &[String]| {
        let configured = file.map(|file| format!(", configured by {}", file.display())).unwrap_or_default();
        let addresses = addresses.join(" and ");
        output::complain(format_args!("serving {} on {addresses}{configured}", data_dir.display()));
    };
    hypeman_server::serve(host, config, &secret, &addresses, telemetry, ready)?;
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn token(data_dir: Option<PathBuf>, arguments: TokenArguments) -> Result<ExitCode> {
    if arguments.list_scopes {
        Scope::all().try_for_each(|scope| output::line(&scope.to_string()))?;
        return Ok(ExitCode::SUCCESS);
    }
    let Found { config, .. } = find(&arguments.config)?;
    let secret = Secret::of(Some(&config.jwt_secret), host(data_dir, &config)?.data_dir.path())?;
    let TokenArguments { user, duration, scopes, .. } = arguments;
    let scopes = Some(scopes).filter(|scopes| !scopes.is_empty());
    output::line(&hypeman_server::issue(&secret, &Grant { user, duration, scopes }))?;
    Ok(ExitCode::SUCCESS)
}

fn find(argument: &ConfigArgument) -> Result<Found> {
    let variable = |name: &str| std::env::var(name).ok();
    Ok(Config::find(argument.config.as_deref(), variable)?)
}

/// The addresses of a configuration.
fn configured(config: &Config) -> Result<Vec<Address>> {
    let of_port = [format!("{LOOPBACK}:{}", config.port)];
    let texts = if config.listen.is_empty() { &of_port[..] } else { &config.listen[..] };
    let parse =
        |text: &String| text.parse().map_err(anyhow::Error::msg).context("the configuration's key listen");
    texts.iter().map(parse).collect()
}

/// The host: the data directory of the command line and of `HYPEMAN_DATA_DIR` goes before that of
/// the configuration.
fn host(data_dir: Option<PathBuf>, config: &Config) -> Result<HostConfig> {
    let is_named =
        data_dir.is_some() || std::env::var_os("HYPEMAN_DATA_DIR").is_some_and(|dir| !dir.is_empty());
    let configured = config.data_dir.clone().filter(|_| !is_named);
    Ok(HostConfig::from_env(data_dir.or(configured))?)
}
