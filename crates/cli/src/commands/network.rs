//! network: the networks of instances.

use std::net::Ipv4Addr;
use std::process::ExitCode;

use anyhow::Result;
use hypeman_instance::error::Field;
use hypeman_instance::network::{lease, look_after};
use hypeman_network::{Error, Networks, Options};
use hypeman_record::data_dir::DataDir;
use hypeman_record::network::{Connection, Network};
use serde::Serialize;

use crate::args::NetworkCommand;
use crate::context::{Context, hypeman};
use crate::each::each;
use crate::output;

/// What is known of a network.
#[derive(Debug, Serialize)]
struct Document {
    #[serde(flatten)]
    network: Network,
    gateway: Ipv4Addr,
    instances: Vec<Member>,
}

/// An instance that is on it.
#[derive(Debug, Serialize)]
struct Member {
    name: String,
    id: String,
    address: Option<Ipv4Addr>,
    mac: Option<String>,
}

pub(crate) fn network(context: &Context, command: NetworkCommand) -> Result<ExitCode> {
    let networks = Networks::new(&context.data_dir);
    look_after(&context.instances, &hypeman()?);
    match command {
        NetworkCommand::Create { subnet, bridge, mtu, allow_host_port, name } => {
            hypeman_network::can_bridge().map_err(|why| hypeman_instance::Error::Invalid {
                field: Field::Network,
                value: name.clone(),
                reason: why,
            })?;
            let options = Options { subnet, bridge, mtu, host_ports: allow_host_port, by_use: false };
            networks.create(&name, &options)?;
            output::line(&name)?;
        }
        NetworkCommand::Ls { format } => {
            let (all, damaged) = networks.list()?;
            damaged.iter().for_each(output::complain);
            let documents = documents(context, all)?;
            let header = ["NAME", "BRIDGE", "SUBNET", "MTU", "INSTANCES"];
            output::list(format.format, &header, &documents, |document| {
                let Network { name, bridge, subnet, mtu, .. } = &document.network;
                let count = document.instances.len().to_string();
                vec![name.clone(), bridge.clone(), subnet.to_string(), mtu.to_string(), count]
            })?;
            if !damaged.is_empty() {
                return Ok(ExitCode::FAILURE);
            }
        }
        NetworkCommand::Inspect { names } => {
            let all = names.iter().map(|name| networks.get(name)).collect::<Result<_, _>>()?;
            output::documents(&documents(context, all)?)?;
        }
        NetworkCommand::Rm { names } => return Ok(each(&names, |name| remove(context, &networks, name))),
        NetworkCommand::Repair { names } => return repair(context, &networks, names),
    }
    Ok(ExitCode::SUCCESS)
}

fn documents(context: &Context, networks: Vec<Network>) -> Result<Vec<Document>> {
    let document = |network: Network| {
        let instances = members(context, &network.name)?;
        Ok(Document { gateway: network.gateway(), network, instances })
    };
    networks.into_iter().map(document).collect()
}

fn members(context: &Context, network: &str) -> Result<Vec<Member>> {
    let (instances, _) = context.instances.list()?;
    let is_on = |connection: &Connection| matches!(connection, Connection::Bridge(name) if name == network);
    let members = instances.iter().filter(|instance| is_on(&instance.record.settings.network.connection));
    let member = |instance: &hypeman_instance::instance::Instance| {
        let lease = lease(&instance.directory)?;
        Ok(Member {
            name: instance.record.name.clone(),
            id: instance.record.id.clone(),
            address: lease.as_ref().map(|lease| lease.address),
            mac: lease.map(|lease| lease.mac),
        })
    };
    members.map(member).collect()
}

fn remove(context: &Context, networks: &Networks, name: &str) -> Result<()> {
    let network = networks.get(name)?;
    let _unchanged = context.instances.lock()?; // nobody comes to it meanwhile
    let in_use = |user: String| Err(Error::InUse { name: name.to_owned(), user }.into());
    if let Some(user) = members(context, name)?.first() {
        return in_use(format!("instance {}", user.name));
    }
    // A record that cannot be read may use it.
    let (_, damaged) = context.instances.list()?;
    let (_, unreadable) = hypeman_network::attached_in(&DataDir::new(&context.data_dir).instances());
    let damaged = damaged.iter().map(ToString::to_string);
    if let Some(error) = damaged.chain(unreadable.iter().map(ToString::to_string)).next() {
        return in_use(format!("something that cannot be read ({error})"));
    }
    hypeman_network::remove(networks, &network)?;
    output::line(name)
}

fn repair(context: &Context, networks: &Networks, names: Vec<String>) -> Result<ExitCode> {
    let names = match names.is_empty() {
        true => networks.list()?.0.into_iter().map(|network| network.name).collect(),
        false => names,
    };
    let instances = DataDir::new(&context.data_dir).instances();
    Ok(each(&names, |name| {
        let on_it = || hypeman_network::attached_on(&instances, name);
        let network = networks.get(name)?;
        hypeman_network::repair(networks, &network, on_it)?;
        if !on_it()?.is_empty() {
            hypeman_network::dns::start(networks, &network, &hypeman()?)?;
        }
        output::line(name)
    }))
}
