//! Network client and server with the features that busybox lacks, for tests in a guest or on a
//! host.
//!
//! - `echo tcp|udp ADDRESS:PORT`: answers each message with itself
//! - `ask tcp|udp ADDRESS:PORT WORD`: sends a word, prints the answer
//! - `get ADDRESS:PORT PATH`: prints a page, by HTTP
//! - `hold ADDRESS:PORT`: keeps one connection, over which numbers go back and forth, and prints
//!   each that has come back
//! - `sink ADDRESS:PORT`: takes all that comes over each connection, and says so
//! - `pour ADDRESS:PORT BYTES`: sends so many there, and prints the seconds until all were taken
//! - `bounce ADDRESS:PORT COUNT`: sends a byte to and fro, and prints the seconds for one
//! - `listen ADDRESS:PORT`: prints each datagram
//! - `say ADDRESS:PORT WORD`: answers each datagram with the word
//! - `steady ADDRESS:PORT`: sends datagrams there from one port, again and again, and prints each
//!   answer
//! - `send ADDRESS:PORT WORD`: sends a datagram and waits for nothing
//! - `forge MAC IP WORD PORT`: as `send` to the gateway's network, from another MAC or IP ("-" for
//!   its own), as a frame of its own making

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

mod frame;

/// How long an answer is waited for.
const PATIENCE: Duration = Duration::from_secs(5);

/// Between two numbers.
const BEAT: Duration = Duration::from_millis(50);

fn main() -> std::io::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["echo", "tcp", at] => echo_tcp(address(at)),
        ["echo", "udp", at] => echo_udp(address(at)),
        ["ask", "tcp", whom, word] => ask_tcp(address(whom), word),
        ["ask", "udp", whom, word] => ask_udp(address(whom), word),
        ["get", whom, path] => get(address(whom), path),
        ["hold", whom] => hold(address(whom)),
        ["sink", at] => sink(address(at)),
        ["pour", whom, bytes] => pour(address(whom), number(bytes)),
        ["bounce", whom, count] => bounce(address(whom), number(count)),
        ["listen", at] => listen(address(at)),
        ["say", at, word] => say(address(at), word),
        ["steady", whom] => steady(address(whom)),
        ["send", whom, word] => {
            UdpSocket::bind("0.0.0.0:0")?.send_to(word.as_bytes(), address(whom)).map(drop)
        }
        ["forge", mac, ip, whom, word] => frame::send(mac, ip, address(whom), word),
        _ => panic!("{arguments:?}"),
    }
}

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn number(text: &str) -> usize {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn echo_tcp(at: SocketAddr) -> std::io::Result<()> {
    let listener = TcpListener::bind(at)?;
    println!("listens");
    for stream in listener.incoming() {
        let mut stream = stream?;
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(length @ 1..) = stream.read(&mut bytes) {
                if stream.write_all(&bytes[..length]).is_err() {
                    return;
                }
            }
        });
    }
    Ok(())
}

fn echo_udp(at: SocketAddr) -> std::io::Result<()> {
    let socket = UdpSocket::bind(at)?;
    println!("listens");
    let mut bytes = [0; 4096];
    loop {
        let (length, whom) = socket.recv_from(&mut bytes)?;
        socket.send_to(&bytes[..length], whom)?;
    }
}

fn ask_tcp(whom: SocketAddr, word: &str) -> std::io::Result<()> {
    let mut stream = TcpStream::connect_timeout(&whom, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(word.as_bytes())?;
    let mut answer = vec![0; word.len()];
    stream.read_exact(&mut answer)?;
    println!("{}", String::from_utf8_lossy(&answer));
    Ok(())
}

fn ask_udp(whom: SocketAddr, word: &str) -> std::io::Result<()> {
    let socket = UdpSocket::bind(if whom.is_ipv6() { "[::]:0" } else { "0.0.0.0:0" })?;
    socket.connect(whom)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.send(word.as_bytes())?;
    let mut answer = [0; 4096];
    let length = socket.recv(&mut answer)?;
    println!("{}", String::from_utf8_lossy(&answer[..length]));
    Ok(())
}

/// HTTP/1.0 (RFC 1945), whose answers end with the connection.
fn get(whom: SocketAddr, path: &str) -> std::io::Result<()> {
    let mut stream = TcpStream::connect_timeout(&whom, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(stream, "GET {path} HTTP/1.0\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    match answer.split_once("\r\n\r\n") {
        Some((head, page)) if head.contains(" 200 ") => println!("{}", page.trim_end()),
        _ => return Err(std::io::Error::other(answer)),
    }
    Ok(())
}

fn hold(whom: SocketAddr) -> std::io::Result<()> {
    let mut stream = TcpStream::connect_timeout(&whom, PATIENCE)?;
    for number in 0_u64.. {
        stream.write_all(&number.to_be_bytes())?;
        let mut answer = [0; 8];
        stream.read_exact(&mut answer)?;
        assert_eq!(u64::from_be_bytes(answer), number, "what comes back is what was sent");
        println!("{number}");
        std::thread::sleep(BEAT);
    }
    Ok(())
}

fn sink(at: SocketAddr) -> std::io::Result<()> {
    let listener = TcpListener::bind(at)?;
    println!("listens");
    for stream in listener.incoming() {
        let mut stream = stream?;
        let taken = std::io::copy(&mut stream, &mut std::io::sink())?;
        stream.write_all(&taken.to_be_bytes())?;
    }
    Ok(())
}

fn pour(whom: SocketAddr, bytes: usize) -> std::io::Result<()> {
    let mut stream = TcpStream::connect_timeout(&whom, PATIENCE)?;
    let piece = vec![0; 1 << 17];
    let begin = Instant::now();
    let mut left = bytes;
    while left > 0 {
        let length = left.min(piece.len());
        stream.write_all(&piece[..length])?;
        left -= length;
    }
    stream.shutdown(std::net::Shutdown::Write)?;
    let mut taken = [0; 8];
    stream.read_exact(&mut taken)?;
    assert_eq!(u64::from_be_bytes(taken), bytes as u64);
    println!("{}", begin.elapsed().as_secs_f64());
    Ok(())
}

fn bounce(whom: SocketAddr, count: usize) -> std::io::Result<()> {
    let mut stream = TcpStream::connect_timeout(&whom, PATIENCE)?;
    stream.set_nodelay(true)?;
    let begin = Instant::now();
    for _ in 0..count {
        stream.write_all(b"x")?;
        stream.read_exact(&mut [0])?;
    }
    println!("{}", begin.elapsed().as_secs_f64() / count as f64);
    Ok(())
}

fn say(at: SocketAddr, word: &str) -> std::io::Result<()> {
    let socket = UdpSocket::bind(at)?;
    loop {
        let (_, whom) = socket.recv_from(&mut [0; 4096])?;
        socket.send_to(word.as_bytes(), whom)?;
    }
}

fn steady(whom: SocketAddr) -> std::io::Result<()> {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket.set_read_timeout(Some(BEAT))?;
    let mut answer = [0; 4096];
    loop {
        let _ = socket.send_to(b"question", whom); // nobody may be there now
        if let Ok((length, _)) = socket.recv_from(&mut answer) {
            println!("{}", String::from_utf8_lossy(&answer[..length]));
        }
        std::thread::sleep(BEAT);
    }
}

fn listen(at: SocketAddr) -> std::io::Result<()> {
    let socket = UdpSocket::bind(at)?;
    println!("listens");
    let mut bytes = [0; 4096];
    loop {
        let (length, from) = socket.recv_from(&mut bytes)?;
        println!("{} from {}", String::from_utf8_lossy(&bytes[..length]), from.ip());
    }
}
