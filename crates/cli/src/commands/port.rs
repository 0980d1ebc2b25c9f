//! port: where on the host an instance's ports can be reached.

use std::process::ExitCode;

use anyhow::{Result, bail};
use hypeman_host::Host;
use hypeman_record::network::{Protocol, Published};
use serde::Serialize;

use crate::args::Format;
use crate::output;

/// Row of the list of published ports.
#[derive(Debug, Serialize)]
struct Row {
    guest: u16,
    protocol: Protocol,
    /// `0.0.0.0` stands for each of the host's, of IPv6 too.
    address: String,
    host: Option<u16>,
}

/// Lists the published ports of an instance that runs, as `docker port` does.
pub(crate) fn port(host: &Host, name: &str, port: Option<&str>, format: Format) -> Result<ExitCode> {
    let wanted = port.map(wanted).transpose()?;
    let published = host.ports(name)?;
    let is_wanted = |published: &&Published| {
        wanted.is_none_or(|(port, protocol)| (published.guest, published.protocol) == (port, protocol))
    };
    let rows: Vec<Row> = published.iter().filter(is_wanted).map(row).collect();
    if let (true, Some(port)) = (rows.is_empty(), port) {
        bail!("{name}: port {port} is not published");
    }
    match format {
        Format::Json | Format::Template(_) => output::list(format, &[], &rows, |_| Vec::new())?,
        Format::Table if wanted.is_some() => output::lines(rows.iter().map(address))?,
        Format::Table => output::lines(
            rows.iter().map(|row| format!("{}/{} -> {}", row.guest, row.protocol, address(row))),
        )?,
    }
    Ok(ExitCode::SUCCESS)
}

fn wanted(text: &str) -> Result<(u16, Protocol)> {
    match hypeman_network::exposed(text).as_deref() {
        Ok([one]) => Ok((one.guest, one.protocol)),
        _ => bail!("invalid port {text:?}: must be as 80 or 53/udp"),
    }
}

fn row(published: &Published) -> Row {
    let address = match published.address {
        None => "0.0.0.0".to_owned(),
        Some(address) => address.to_string(),
    };
    Row { guest: published.guest, protocol: published.protocol, address, host: published.host }
}

fn address(row: &Row) -> String {
    let host = row.host.unwrap_or(0);
    if row.address.contains(':') {
        format!("[{}]:{host}", row.address)
    } else {
        format!("{}:{host}", row.address)
    }
}
