//! Conversations with the kernel, by rtnetlink(7).

use std::net::IpAddr;
use std::path::Path;

use futures_util::TryStreamExt;
use hypeman_files::AtPath;
use rtnetlink::Handle;
use rtnetlink::packet_route::address::{AddressAttribute, AddressMessage};

use crate::error::{Doing, Error, Result};

/// Does something with a connection to the kernel, on a thread of its own: the caller's may be one
/// of another runtime.
pub(crate) fn netlink<T: Send>(work: impl AsyncFnOnce(Handle) -> Result<T> + Send) -> Result<T> {
    let converse = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build();
        runtime.at(Path::new("netlink"))?.block_on(async {
            let (connection, handle, _) = rtnetlink::new_connection().at(Path::new("netlink"))?;
            let connection = tokio::spawn(connection);
            let done = work(handle).await;
            connection.abort();
            done
        })
    };
    let joined = std::thread::scope(|scope| scope.spawn(converse).join());
    joined.unwrap_or_else(|_| Err(Error::Unable("the conversation with the kernel panicked".to_owned())))
}

/// The host's own addresses.
///
/// # Errors
/// When the kernel does not tell.
pub(crate) fn own_addresses() -> Result<Vec<IpAddr>> {
    netlink(async |handle| {
        let all = handle.address().get().execute().try_collect::<Vec<AddressMessage>>().await;
        let all = all.doing(|| "list the addresses".to_owned())?;
        let address = |attribute: &AddressAttribute| match attribute {
            AddressAttribute::Local(address) => Some(*address),
            _ => None,
        };
        Ok(all.iter().flat_map(|message| message.attributes.iter().filter_map(address)).collect())
    })
}
