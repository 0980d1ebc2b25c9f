//! network: the networks of instances.

use std::process::ExitCode;

use anyhow::Result;
use hypeman_host::Host;
use hypeman_network::Options;
use hypeman_record::network::Network;

use crate::args::NetworkCommand;
use crate::each::each;
use crate::output;

pub(crate) fn network(host: &Host, command: NetworkCommand) -> Result<ExitCode> {
    host.clean_up_networks();
    match command {
        NetworkCommand::Create { subnet, bridge, mtu, allow_host_port, name } => {
            let options = Options { subnet, bridge, mtu, host_ports: allow_host_port, by_use: false };
            host.create_network(&name, &options)?;
            output::line(&name)?;
        }
        NetworkCommand::Ls { format } => {
            let (networks, damaged) = host.list_networks()?;
            damaged.iter().for_each(output::complain);
            let header = ["NAME", "BRIDGE", "SUBNET", "MTU", "INSTANCES"];
            output::list(format.format, &header, &networks, |view| {
                let Network { name, bridge, subnet, mtu, .. } = &view.network;
                let count = view.instances.len().to_string();
                vec![name.clone(), bridge.clone(), subnet.to_string(), mtu.to_string(), count]
            })?;
            if !damaged.is_empty() {
                return Ok(ExitCode::FAILURE);
            }
        }
        NetworkCommand::Inspect { names } => {
            let networks = names.iter().map(|name| host.network(name));
            output::documents(&networks.collect::<hypeman_host::Result<Vec<_>>>()?)?;
        }
        NetworkCommand::Rm { names } => {
            return Ok(each(&names, |name| {
                host.remove_network(name)?;
                output::line(name)
            }));
        }
        NetworkCommand::Repair { names } => {
            let names = if names.is_empty() { host.network_names()? } else { names };
            return Ok(each(&names, |name| {
                host.repair_network(name)?;
                output::line(name)
            }));
        }
    }
    Ok(ExitCode::SUCCESS)
}
