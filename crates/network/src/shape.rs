//! Limits of a VM's traffic: a token bucket (tc-tbf(8)) at the TAP for what goes to the guest, and
//! at an interface of its own (ifb) for what comes from it, since a queue is only where packets
//! leave.

use futures_util::StreamExt;
use rtnetlink::Handle;
use rtnetlink::packet_core::{
    DefaultNla, NLM_F_ACK, NLM_F_CREATE, NLM_F_REPLACE, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload,
};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::tc::{TcAttribute, TcHandle, TcMessage, TcOption};

use crate::error::{Doing, Result};

/// Smallest bucket in bytes: what a guest sends at once, several packets in one.
const MIN_BURST: u64 = 64 * 1024;

/// The attributes of the discipline (`enum` of TCA_TBF_*, linux/pkt_sched.h).
const PARAMETERS: u16 = 1;
const RATE_64: u16 = 4;
const BURST: u16 = 6;

/// Limits what leaves by an interface to so many bytes a second.
pub(crate) async fn limit(handle: &Handle, interface: u32, name: &str, rate: u64) -> Result<()> {
    let doing = || format!("limit {name} to {rate} bytes a second");
    let mut message = TcMessage::with_index(interface.cast_signed());
    message.header.parent = TcHandle::ROOT;
    message.header.handle = TcHandle { major: 1, minor: 0 };
    message.attributes = vec![TcAttribute::Kind("tbf".to_owned()), TcAttribute::Options(options(rate))];
    let mut request = NetlinkMessage::from(RouteNetlinkMessage::NewQueueDiscipline(message));
    request.header.flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE;
    let mut answers = handle.clone().request(request).doing(doing)?;
    while let Some(answer) = answers.next().await {
        if let NetlinkPayload::Error(error) = answer.payload
            && error.code.is_some()
        {
            return Err(rtnetlink::Error::NetlinkError(error)).doing(doing);
        }
    }
    Ok(())
}

fn options(rate: u64) -> Vec<TcOption> {
    let burst = (rate / 100).max(MIN_BURST); // of 10 ms
    let queue = burst + rate / 20; // 50 ms of waiting
    let [burst, queue] = [burst, queue].map(|bytes| u32::try_from(bytes).unwrap_or(u32::MAX));
    let option = |kind, value| TcOption::Other(DefaultNla::new(kind, value));
    vec![
        option(PARAMETERS, parameters(rate, queue)),
        option(RATE_64, rate.to_ne_bytes().to_vec()),
        option(BURST, burst.to_ne_bytes().to_vec()),
    ]
}

/// `struct tc_tbf_qopt`: rate and peak rate (`struct tc_ratespec`), the length of the queue, and
/// two that others stand for.
fn parameters(rate: u64, queue: u32) -> Vec<u8> {
    const ETHERNET: u8 = 1; // TC_LINKLAYER_ETHERNET
    let rate = u32::try_from(rate).unwrap_or(u32::MAX);
    let mut bytes = vec![0, ETHERNET, 0, 0, 0, 0, 0, 0];
    bytes.extend(rate.to_ne_bytes());
    bytes.extend([0; 12]);
    bytes.extend(queue.to_ne_bytes());
    bytes.extend([0; 8]);
    bytes
}
