//! Questions over TCP (RFC 1035, 4.2.2; RFC 7766), with a limit of connections for each guest and
//! for all: what one guest holds open keeps nobody else from asking, and leaves descriptors for the
//! instances' records.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hickory_server::net::NetError;
use hickory_server::net::runtime::TokioTime;
use hickory_server::net::xfer::Protocol;
use hickory_server::proto::op::MessageType;
use hickory_server::proto::rr::Record;
use hickory_server::proto::serialize::binary::BinEncoder;
use hickory_server::server::{Request, RequestHandler, ResponseHandler, ResponseInfo};
use hickory_server::zone_handler::MessageResponse;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use crate::dns::answer::Answerer;

/// Timeout for a guest's next question on a connection.
const IDLE: Duration = Duration::from_secs(5);

/// Maximum number of connections of one guest.
const MOST_OF_ONE: usize = 16;

/// Maximum number of connections of all guests.
const MOST: usize = 512;

/// Delay after a connection could not be accepted.
const PAUSE: Duration = Duration::from_millis(100);

/// The connections that are open, by guest.
#[derive(Default)]
struct Open(Mutex<HashMap<IpAddr, usize>>);

/// One of them.
struct Permit {
    open: Arc<Open>,
    guest: IpAddr,
}

impl Open {
    fn permit(self: &Arc<Open>, guest: IpAddr, most: usize) -> Option<Permit> {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if open.values().sum::<usize>() >= most || open.get(&guest).is_some_and(|count| *count >= MOST_OF_ONE)
        {
            return None;
        }
        *open.entry(guest).or_default() += 1;
        Some(Permit { open: self.clone(), guest })
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut open = self.open.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = open.get_mut(&self.guest) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.guest);
            }
        }
    }
}

/// Maximum number of connections where a process may have so many descriptors: half of them are for
/// records and for questions that are passed on.
pub(crate) fn most(descriptors: u64) -> usize {
    usize::try_from(descriptors / 2).map_or(MOST, |half| half.min(MOST))
}

/// Answers, for as long as it is not dropped. A connection beyond the limits is closed at once.
pub(crate) async fn serve(listener: TcpListener, answerer: Arc<Answerer>, most: usize) {
    let open = Arc::new(Open::default());
    loop {
        let Ok((stream, guest)) = listener.accept().await else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        if let Some(permit) = open.permit(guest.ip(), most) {
            let answerer = answerer.clone();
            tokio::spawn(async move {
                let _permit = permit;
                let _ = converse(stream, guest, &answerer).await; // a guest that hung up needs no answer
            });
        }
    }
}

async fn converse(mut stream: TcpStream, guest: SocketAddr, answerer: &Answerer) -> std::io::Result<()> {
    loop {
        let question = timeout(IDLE, read(&mut stream)).await??;
        let request = Request::from_bytes(question, guest, Protocol::Tcp).map_err(std::io::Error::other)?;
        if request.metadata.message_type == MessageType::Response {
            return Ok(()); // as hickory has it for UDP: nobody is to be made to answer answers
        }
        let answer = Answer::default();
        answerer.handle_request::<_, TokioTime>(&request, answer.clone()).await;
        let bytes = answer.take();
        let length = u16::try_from(bytes.len()).map_err(std::io::Error::other)?;
        timeout(IDLE, stream.write_all(&[&length.to_be_bytes()[..], &bytes].concat())).await??;
    }
}

async fn read(stream: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let mut question = vec![0; stream.read_u16().await?.into()];
    stream.read_exact(&mut question).await?;
    Ok(question)
}

/// Bytes that are to be sent.
#[derive(Clone, Default)]
struct Answer(Arc<Mutex<Vec<u8>>>);

impl Answer {
    fn take(&self) -> Vec<u8> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[async_trait::async_trait]
impl ResponseHandler for Answer {
    async fn send_response<'a>(
        &mut self,
        response: MessageResponse<
            '_,
            'a,
            impl Iterator<Item = &'a Record> + Send + 'a,
            impl Iterator<Item = &'a Record> + Send + 'a,
            impl Iterator<Item = &'a Record> + Send + 'a,
            impl Iterator<Item = &'a Record> + Send + 'a,
        >,
    ) -> Result<ResponseInfo, NetError> {
        let mut bytes = Vec::new();
        let info = response.destructive_emit(&mut BinEncoder::new(&mut bytes))?;
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = bytes;
        Ok(info)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_guest_takes_the_connections_of_no_other() {
        let open = Arc::new(Open::default());
        let guest = |number: u8| IpAddr::from([10, 0, 0, number]);
        let held: Vec<Permit> = (0..100).filter_map(|_| open.permit(guest(1), 40)).collect();
        assert_eq!(held.len(), MOST_OF_ONE);
        let mut others: Vec<Permit> = (2..40).filter_map(|other| open.permit(guest(other), 40)).collect();
        assert_eq!(others.len(), 40 - MOST_OF_ONE, "there is a limit for all");
        others.pop();
        assert!(open.permit(guest(50), 40).is_some());
        drop((held, others));
        assert!(open.0.lock().unwrap().is_empty(), "nobody is remembered");
        assert_eq!((most(1024), most(100), most(1 << 20)), (512, 50, 512));
    }
}
