//! One question, one answer.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex, PoisonError};

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{NameServerConfig, ResolveHosts, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_server::net::runtime::Time;
use hickory_server::proto::op::{Edns, Metadata, OpCode, ResponseCode};
use hickory_server::proto::rr::rdata::{A, PTR, SOA};
use hickory_server::proto::rr::{LowerName, Name, RData, Record, RecordType};
use hickory_server::server::{Request, RequestHandler, ResponseHandler, ResponseInfo};
use hickory_server::zone_handler::MessageResponseBuilder;
use hypeman_record::network::Network;
use ipnet::Ipv4Net;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::dns::error::Error;
use crate::dns::table::{Table, ZONE};

/// Time in seconds for which an answer of ours may be kept: upstream's.
const TTL: u32 = 5;

/// Maximum number of questions of one guest that are passed on at once.
const MAX_QUESTIONS: usize = 64;

/// Maximum size in bytes of an answer over UDP that is announced (RFC 6891, 6.2.5): it is never
/// fragmented.
const MAX_PAYLOAD: u16 = 1232;

/// Names by which guests know the host.
const HOST: [&str; 2] = ["host.hypeman.internal", "host.docker.internal"];

/// Answers.
pub(crate) struct Answerer {
    table: Table,
    subnet: Ipv4Net,
    gateway: Ipv4Addr,
    /// The host's servers.
    hosts: TokioResolver,
    /// Others that VMs have chosen.
    others: Mutex<HashMap<Vec<IpAddr>, Arc<TokioResolver>>>,
    /// Questions that each guest may still ask; there are as many guests as the network has
    /// addresses.
    askers: Mutex<HashMap<IpAddr, Arc<Semaphore>>>,
}

/// An answerer that several servers have.
pub(crate) struct Shared(pub(crate) Arc<Answerer>);

/// Answer to a question.
enum Answer {
    Records(Vec<Record>),
    /// There is nothing, for this reason.
    Nothing(ResponseCode),
}

impl Answerer {
    pub(crate) fn new(network: &Network, table: Table) -> Result<Answerer, Error> {
        let mut own = crate::resolver::of_host().own;
        if own.is_empty() {
            own.push(Ipv4Addr::LOCALHOST.into()); // as resolv.conf(5) has it
        }
        Ok(Answerer {
            table,
            subnet: network.subnet,
            gateway: network.gateway(),
            hosts: asking(&own)?,
            others: Mutex::default(),
            askers: Mutex::default(),
        })
    }

    async fn answer(&self, name: &LowerName, kind: RecordType, asker: IpAddr) -> Answer {
        let of_network = matches!(asker, IpAddr::V4(asker) if self.subnet.contains(&asker));
        if !of_network {
            return Answer::Nothing(ResponseCode::Refused);
        }
        let text = name.to_string().trim_end_matches('.').to_ascii_lowercase();
        if HOST.contains(&&*text) {
            return self.address(name, kind, self.gateway);
        }
        if let Some(address) = reversed(&text).filter(|address| self.subnet.contains(address)) {
            return self.pointer(name, kind, address);
        }
        let (found, members) = self.table.find(&text);
        if let Some(address) = found {
            return self.address(name, kind, address);
        }
        if !members.are_all {
            // It may be the name of one whose record cannot be read, and is nobody else's business
            // then.
            return Answer::Nothing(ResponseCode::ServFail);
        }
        if text == ZONE && matches!(kind, RecordType::SOA | RecordType::ANY) {
            return Answer::Records(vec![authority()]);
        }
        if Table::is_in_zone(&text) {
            return Answer::Nothing(ResponseCode::NXDomain);
        }
        self.pass_on(name, kind, asker, members.servers_of(asker)).await
    }

    fn address(&self, name: &LowerName, kind: RecordType, address: Ipv4Addr) -> Answer {
        let record = Record::from_rdata(Name::from(name.clone()), TTL, RData::A(A(address)));
        let is_asked = matches!(kind, RecordType::A | RecordType::ANY);
        Answer::Records(if is_asked { vec![record] } else { Vec::new() })
    }

    /// The name of an address on the network. Nobody else knows it.
    fn pointer(&self, name: &LowerName, kind: RecordType, address: Ipv4Addr) -> Answer {
        let found = match address == self.gateway {
            true => Some(HOST[0].to_owned()),
            false => self.table.name_of(address).map(|name| format!("{name}.{ZONE}")),
        };
        let Some(target) = found.and_then(|name| Name::from_ascii(format!("{name}.")).ok()) else {
            return Answer::Nothing(ResponseCode::NXDomain);
        };
        let record = Record::from_rdata(Name::from(name.clone()), TTL, RData::PTR(PTR(target)));
        let is_asked = matches!(kind, RecordType::PTR | RecordType::ANY);
        Answer::Records(if is_asked { vec![record] } else { Vec::new() })
    }

    async fn pass_on(
        &self,
        name: &LowerName,
        kind: RecordType,
        asker: IpAddr,
        servers: Vec<IpAddr>,
    ) -> Answer {
        // A guest that asks more than is answered is told so, and keeps nobody else from asking.
        let Some(_permit) = self.permit(asker) else { return Answer::Nothing(ResponseCode::Refused) };
        // As it was asked: no domain of the host's is added.
        let mut name = Name::from(name.clone());
        name.set_fqdn(true);
        let looked_up = match servers.is_empty() {
            true => self.hosts.lookup(name, kind).await,
            false => match self.other(servers) {
                Ok(resolver) => resolver.lookup(name, kind).await,
                Err(_) => return Answer::Nothing(ResponseCode::ServFail),
            },
        };
        match looked_up {
            Ok(lookup) => Answer::Records(lookup.answers().to_vec()),
            Err(NetError::Dns(DnsError::NoRecordsFound(none))) => Answer::Nothing(none.response_code),
            Err(NetError::Dns(DnsError::ResponseCode(code))) => Answer::Nothing(code),
            Err(_) => Answer::Nothing(ResponseCode::ServFail),
        }
    }

    fn permit(&self, asker: IpAddr) -> Option<OwnedSemaphorePermit> {
        let mut askers = self.askers.lock().unwrap_or_else(PoisonError::into_inner);
        let permits = askers.entry(asker).or_insert_with(|| Arc::new(Semaphore::new(MAX_QUESTIONS)));
        permits.clone().try_acquire_owned().ok()
    }

    fn other(&self, servers: Vec<IpAddr>) -> Result<Arc<TokioResolver>, Error> {
        let mut others = self.others.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(resolver) = others.get(&servers) {
            return Ok(resolver.clone());
        }
        let resolver = Arc::new(asking(&servers)?);
        others.insert(servers, resolver.clone());
        Ok(resolver)
    }
}

/// A resolver that asks these servers only: the host's own /etc/hosts is not for guests.
fn asking(servers: &[IpAddr]) -> Result<TokioResolver, Error> {
    let configs = servers.iter().map(|server| NameServerConfig::udp_and_tcp(*server)).collect();
    let config = ResolverConfig::from_name_servers(configs);
    let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
    builder.options_mut().use_hosts_file = ResolveHosts::Never;
    builder.build().map_err(|error| Error::Resolver(error.to_string()))
}

/// The address in a name like `4.3.2.1.in-addr.arpa` (RFC 1035, 3.5).
fn reversed(name: &str) -> Option<Ipv4Addr> {
    let address: Ipv4Addr = name.strip_suffix(".in-addr.arpa")?.parse().ok()?;
    let [d, c, b, a] = address.octets();
    Some(Ipv4Addr::new(a, b, c, d))
}

/// The start of authority of the zone of VMs' names.
fn authority() -> Record {
    let name = |text: String| Name::from_ascii(text).unwrap_or_default();
    let soa = SOA::new(
        name(format!("{}.", HOST[0])),
        name(format!("hostmaster.{ZONE}.")),
        1,
        3600,
        600,
        86400,
        TTL,
    );
    Record::from_rdata(name(format!("{ZONE}.")), TTL, RData::SOA(soa))
}

#[async_trait::async_trait]
impl RequestHandler for Shared {
    async fn handle_request<R: ResponseHandler, T: Time>(
        &self,
        request: &Request,
        response: R,
    ) -> ResponseInfo {
        self.0.handle_request::<R, T>(request, response).await
    }
}

#[async_trait::async_trait]
impl RequestHandler for Answerer {
    async fn handle_request<R: ResponseHandler, T: Time>(
        &self,
        request: &Request,
        mut response: R,
    ) -> ResponseInfo {
        let is_of_zone = |info: &hickory_server::server::RequestInfo<'_>| {
            Table::is_in_zone(&info.query.name().to_string())
        };
        let mut authorities = Vec::new();
        let has_newer_edns = request.edns.as_ref().is_some_and(|edns| edns.version() > 0);
        let answer = match request.request_info() {
            _ if has_newer_edns => Answer::Nothing(ResponseCode::BADVERS),
            Ok(info) if request.metadata.op_code == OpCode::Query => {
                let answer =
                    self.answer(info.query.name(), info.query.query_type(), request.src().ip()).await;
                let is_nothing = match &answer {
                    Answer::Records(records) => records.is_empty(),
                    Answer::Nothing(code) => *code == ResponseCode::NXDomain,
                };
                // With it a guest knows for how long that is true (RFC 2308).
                authorities.extend((is_nothing && is_of_zone(&info)).then(authority));
                answer
            }
            Ok(_) => Answer::Nothing(ResponseCode::NotImp),
            Err(_) => Answer::Nothing(ResponseCode::FormErr),
        };
        let mut metadata = Metadata::response_from_request(&request.metadata);
        metadata.recursion_available = true;
        let records = match answer {
            Answer::Records(records) => records,
            Answer::Nothing(code) => {
                metadata.response_code = code;
                Vec::new()
            }
        };
        let mut edns = Edns::new();
        edns.set_max_payload(MAX_PAYLOAD).set_version(0);
        edns.set_rcode_high(metadata.response_code.high());
        let mut builder = MessageResponseBuilder::from_message_request(request);
        if request.edns.is_some() {
            builder.edns(&edns);
        }
        let message = builder.build(metadata, &records, [], &authorities, []);
        match response.send_response(message).await {
            Ok(info) => info,
            // The client has gone.
            Err(_) => {
                ResponseInfo::from(hickory_server::proto::op::Header { metadata, counts: Default::default() })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read_from_its_name() {
        assert_eq!(reversed("4.3.2.1.in-addr.arpa"), Some(Ipv4Addr::new(1, 2, 3, 4)));
        assert_eq!(reversed("3.2.1.in-addr.arpa"), None);
        assert_eq!(reversed("web"), None);
    }
}
