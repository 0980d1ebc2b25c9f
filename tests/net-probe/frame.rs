//! Frames of one's own making, as a guest's root can send them.
#![allow(unsafe_code)] // packet(7)

use std::fs::File;
use std::io::{Error, Result};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::{AsRawFd, FromRawFd};

const INTERFACE: &str = "eth0";

/// Sends a datagram in a frame to the gateway; `-` stands for the own address.
pub(crate) fn send(mac: &str, ip: &str, whom: SocketAddr, word: &str) -> Result<()> {
    let own_mac = std::fs::read_to_string(format!("/sys/class/net/{INTERFACE}/address"))?;
    let source_mac = bytes_of(if mac == "-" { own_mac.trim() } else { mac });
    let source: Ipv4Addr = if ip == "-" { own_ip()? } else { ip.parse().map_err(Error::other)? };
    let IpAddr::V4(target) = whom.ip() else { panic!("{whom}") };
    let mut packet = datagram(source, target, whom.port(), word.as_bytes());
    let sum = checksum(&packet[..20]);
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    let frame = [&gateway()?[..], &source_mac, &[8, 0], &packet].concat();
    transmit(&frame)
}

fn bytes_of(mac: &str) -> Vec<u8> {
    mac.split(':').map(|byte| u8::from_str_radix(byte, 16).expect("a MAC")).collect()
}

/// The address that a packet to anywhere would have.
fn own_ip() -> Result<Ipv4Addr> {
    let socket = std::net::UdpSocket::bind("0.0.0.0:0")?;
    socket.connect("192.0.2.1:9")?;
    match socket.local_addr()?.ip() {
        IpAddr::V4(address) => Ok(address),
        IpAddr::V6(address) => panic!("{address}"),
    }
}

/// The gateway's MAC, as the kernel has learnt it (proc_net(5), `arp`).
fn gateway() -> Result<Vec<u8>> {
    let table = std::fs::read_to_string("/proc/net/arp")?;
    let line = table.lines().nth(1).expect("something was sent before");
    Ok(bytes_of(line.split_whitespace().nth(3).expect("a MAC")))
}

/// UDP in IPv4 (RFC 791, RFC 768), without the sums.
fn datagram(source: Ipv4Addr, target: Ipv4Addr, port: u16, word: &[u8]) -> Vec<u8> {
    let length = |bytes: usize| u16::try_from(bytes).expect("a short word").to_be_bytes();
    let mut packet = vec![0x45, 0];
    packet.extend(length(28 + word.len()));
    packet.extend([0, 0, 0, 0, 64, 17, 0, 0]);
    packet.extend(source.octets());
    packet.extend(target.octets());
    packet.extend(40000_u16.to_be_bytes());
    packet.extend(port.to_be_bytes());
    packet.extend(length(8 + word.len()));
    packet.extend([0, 0]);
    packet.extend(word);
    packet
}

fn checksum(header: &[u8]) -> u16 {
    let sum: u32 = header.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    let sum = (sum & 0xffff) + (sum >> 16);
    !u16::try_from((sum & 0xffff) + (sum >> 16)).expect("folded")
}

fn transmit(frame: &[u8]) -> Result<()> {
    let index: i32 = std::fs::read_to_string(format!("/sys/class/net/{INTERFACE}/ifindex"))?
        .trim()
        .parse()
        .map_err(Error::other)?;
    // SAFETY: socket(2) takes numbers.
    let number = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW, 0) };
    if number < 0 {
        return Err(Error::last_os_error());
    }
    // SAFETY: it was just made, and is nobody else's.
    let socket = unsafe { File::from_raw_fd(number) };
    // SAFETY: all its fields are numbers or arrays of such, for which zero is a value.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = libc::AF_PACKET as u16; // 17
    address.sll_ifindex = index;
    // SAFETY: both the frame and the address live until the call returns, and have the sizes that
    // are told.
    let sent = unsafe {
        libc::sendto(
            socket.as_raw_fd(),
            frame.as_ptr().cast(),
            frame.len(),
            0,
            (&raw const address).cast(),
            size_of::<libc::sockaddr_ll>() as u32,
        )
    };
    if sent < 0 { Err(Error::last_os_error()) } else { Ok(()) }
}
