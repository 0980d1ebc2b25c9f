//! The process that answers the questions of a network's guests for names, `hypeman names`: each
//! other's, from the records of those that are there, and all others from the host's servers.
//!
//! A process of its own for each network, so that guests that ask too much cost nobody's console.
//! It begins with the first VM of a network and ends with the last ([`crate::dns::start`]).

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use hickory_server::Server;
use hypeman_files::{AtPath, Lock};
use hypeman_record::data_dir::DataDir;
use hypeman_record::network::Network;
use rustix::thread::{CapabilitySet, CapabilitySets};
use socket2::{Domain, Socket, Type};
use tokio::net::{TcpListener, UdpSocket};

use crate::dns::answer::{Answerer, Shared};
use crate::dns::error::{Error, PORT};
use crate::dns::start::{in_use, lock, wait_until_unused};
use crate::dns::table::Table;
use crate::dns::tcp;
use crate::network::Networks;

/// Connections that wait to be accepted.
const BACKLOG: i32 = 128;

/// Answers the guests of a network until there is none any more; at once, if somebody else does.
/// `ready` is called when questions can be asked.
///
/// # Errors
/// When it cannot listen.
pub fn serve(data_dir: &DataDir, network: &str, ready: impl FnOnce()) -> Result<(), Error> {
    let networks = Networks::new(data_dir);
    let record = networks.get(network)?;
    let Some(_only) = Lock::try_acquire(&lock(&networks, network))? else {
        ready();
        return Ok(());
    };
    let _ = std::env::set_current_dir("/"); // that of whoever has started us may go
    let _ = rustix::process::setsid(); // fails for the leader of a session, which is as good
    let address = IpAddr::V4(record.gateway());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().at(data_dir.path())?;
    let table = Table::new(&data_dir.instances(), network);
    runtime.block_on(async {
        let failed = |source| Error::Port { address, source };
        let udp = UdpSocket::from_std(bind(&record, Type::DGRAM).map_err(failed)?.into()).map_err(failed)?;
        let tcp = bind(&record, Type::STREAM).and_then(|tcp| tcp.listen(BACKLOG).map(|()| tcp));
        let tcp = tcp.and_then(|tcp| TcpListener::from_std(tcp.into())).map_err(failed)?;
        let answerer = Arc::new(Answerer::new(&record, table)?);
        let most = tcp::most(hypeman_files::raise_descriptor_limit());
        let mut server = Server::new(Shared(answerer.clone()));
        server.register_socket(udp);
        tokio::spawn(tcp::serve(tcp, answerer, most));
        give_up_privileges();
        ready();
        let in_use = in_use(&networks, network);
        std::thread::spawn(move || {
            // When nobody holds it any more, the last VM has gone. Who comes now waits for us to be
            // gone too.
            let _ = wait_until_unused(&in_use);
            std::process::exit(0);
        });
        let _ = server.block_until_done().await;
        Ok(())
    })
}

/// A socket at the host's address on a network, for its bridge alone: others who can
/// route to the host is not answered.
fn bind(network: &Network, kind: Type) -> std::io::Result<Socket> {
    let socket = Socket::new(Domain::IPV4, kind.nonblocking().cloexec(), None)?;
    if kind == Type::STREAM {
        socket.set_reuse_address(true)?; // connections of before may still be on their way out
    }
    socket.bind_device(Some(network.bridge.as_bytes()))?;
    socket.bind(&SocketAddr::from((network.gateway(), PORT)).into())?;
    Ok(socket)
}

/// From here on it only reads its owner's files, and speaks.
fn give_up_privileges() {
    let none = CapabilitySet::empty();
    let sets = CapabilitySets { effective: none, permitted: none, inheritable: none };
    let _ = rustix::thread::set_capabilities(None, sets);
    let _ = rustix::thread::set_no_new_privs(true);
}
