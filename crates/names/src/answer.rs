//! One question, one answer.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{NameServerConfig, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_server::net::runtime::Time;
use hickory_server::proto::op::{Metadata, OpCode, ResponseCode};
use hickory_server::proto::rr::rdata::A;
use hickory_server::proto::rr::{LowerName, Name, RData, Record, RecordType};
use hickory_server::server::{Request, RequestHandler, ResponseHandler, ResponseInfo};
use hickory_server::zone_handler::MessageResponseBuilder;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::Error;
use crate::table::Table;

/// How long an answer of ours is true, in seconds: upstream's.
const TTL: u32 = 5;

/// Most questions of one guest that are passed on at once.
const MAX_QUESTIONS: usize = 64;

/// Answers.
pub(crate) struct Answerer {
    table: Table,
    /// Those whom the host asks.
    hosts: TokioResolver,
    /// Others that VMs have chosen.
    others: Mutex<HashMap<Vec<IpAddr>, Arc<TokioResolver>>>,
    /// What each may still ask; there are as many as the network has addresses.
    askers: Mutex<HashMap<IpAddr, Arc<Semaphore>>>,
}

/// What there is to say.
enum Answer {
    Records(Vec<Record>),
    /// There is nothing, for this reason.
    Nothing(ResponseCode),
}

impl Answerer {
    pub(crate) fn new(table: Table) -> Result<Answerer, Error> {
        let builder = TokioResolver::builder_tokio().map_err(|error| Error::Resolver(error.to_string()))?;
        Ok(Answerer { table, hosts: built(builder)?, others: Mutex::default(), askers: Mutex::default() })
    }

    async fn answer(&self, name: &LowerName, kind: RecordType, asker: IpAddr) -> Answer {
        let text = name.to_string();
        let (found, members) = self.table.find(&text);
        if let Some(address) = found {
            let record = Record::from_rdata(Name::from(name.clone()), TTL, RData::A(A(address)));
            let is_asked = matches!(kind, RecordType::A | RecordType::ANY);
            return Answer::Records(if is_asked { vec![record] } else { Vec::new() });
        }
        if Table::is_in_zone(&text) {
            return Answer::Nothing(ResponseCode::NXDomain);
        }
        // A guest that asks more than is answered is told so, and keeps nobody else from asking.
        let Some(_permit) = self.permit(asker) else { return Answer::Nothing(ResponseCode::Refused) };
        // As it was asked: no domain of the host's is added.
        let mut name = Name::from(name.clone());
        name.set_fqdn(true);
        let servers = members.servers_of(asker);
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
        let configs = servers.iter().map(|server| NameServerConfig::udp_and_tcp(*server)).collect();
        let config = ResolverConfig::from_name_servers(configs);
        let provider = TokioRuntimeProvider::default();
        let resolver = Arc::new(built(TokioResolver::builder_with_config(config, provider))?);
        others.insert(servers, resolver.clone());
        Ok(resolver)
    }
}

fn built(builder: hickory_resolver::ResolverBuilder<TokioRuntimeProvider>) -> Result<TokioResolver, Error> {
    builder.build().map_err(|error| Error::Resolver(error.to_string()))
}

#[async_trait::async_trait]
impl RequestHandler for Answerer {
    async fn handle_request<R: ResponseHandler, T: Time>(
        &self,
        request: &Request,
        mut response: R,
    ) -> ResponseInfo {
        let answer = match request.request_info() {
            Ok(info) if request.metadata.op_code == OpCode::Query => {
                self.answer(info.query.name(), info.query.query_type(), request.src().ip()).await
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
        let message =
            MessageResponseBuilder::from_message_request(request).build(metadata, &records, [], [], []);
        match response.send_response(message).await {
            Ok(info) => info,
            // Whoever asked has gone.
            Err(_) => {
                ResponseInfo::from(hickory_server::proto::op::Header { metadata, counts: Default::default() })
            }
        }
    }
}
