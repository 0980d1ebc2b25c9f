use futures_io::{AsyncRead as _, AsyncWrite as _};
use proptest::prelude::*;
use tokio::io::duplex;

use super::*;

fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

async fn send<T: AsyncRead + AsyncWrite + Unpin>(link: &mut Link<T>, mut bytes: &[u8]) -> Result<()> {
    while !bytes.is_empty() {
        let count = std::future::poll_fn(|cx| Pin::new(&mut *link).poll_write(cx, bytes)).await?;
        bytes = &bytes[count..];
    }
    std::future::poll_fn(|cx| Pin::new(&mut *link).poll_flush(cx)).await
}

async fn receive<T: AsyncRead + AsyncWrite + Unpin>(link: &mut Link<T>, most: usize) -> Result<Vec<u8>> {
    let mut buffer = vec![0; most];
    let count = std::future::poll_fn(|cx| Pin::new(&mut *link).poll_read(cx, &mut buffer)).await?;
    buffer.truncate(count);
    Ok(buffer)
}

async fn pair() -> (Link<tokio::io::DuplexStream>, Link<tokio::io::DuplexStream>) {
    let (host, guest) = duplex(1 << 20);
    let (mut host, mut guest) = (Link::new(host), Link::new(guest));
    let (begun, accepted) = tokio::join!(host.begin(), guest.accept());
    begun.unwrap();
    accepted.unwrap();
    (host, guest)
}

#[test]
fn what_goes_in_comes_out_in_order() {
    block_on(async {
        let (mut host, mut guest) = pair().await;
        let sent: Vec<u8> = (0..1_000_000_u32).map(|number| (number * 7) as u8).collect();
        let reader = async {
            let mut got = Vec::new();
            while got.len() < 1_000_000 {
                got.extend(receive(&mut guest, 10_000).await.unwrap());
            }
            got
        };
        let (written, got) = tokio::join!(send(&mut host, &sent), reader);
        written.unwrap();
        assert!(got == sent);
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// The channel breaks after any byte that the first host has sent, and a second host comes.
    #[test]
    fn a_session_that_breaks_off_anywhere_passes_on_no_torn_frame_and_the_next_is_whole(
        lengths in proptest::collection::vec(1_usize..3000, 1..5),
        cut in 0_usize..12_000,
    ) {
        block_on(async {
            // The first host's bytes, recorded.
            let (mut first, mut guest) = pair().await;
            let mut frames = Vec::new();
            for (number, length) in lengths.iter().enumerate() {
                let frame = vec![number as u8; *length];
                send(&mut first, &frame).await.unwrap();
                frames.push(frame);
            }
            drop(first);
            let mut said = Vec::new();
            guest.channel.read_to_end(&mut said).await.unwrap();
            said.truncate(cut);
            // It arrives as far as that, and then the second one's.
            let (host, channel) = duplex(1 << 20);
            let mut host = Link::new(host);
            guest.channel = channel;
            host.channel.write_all(&said).await.unwrap();
            let next = async {
                host.begin().await.unwrap();
                send(&mut host, b"from the next").await.unwrap();
            };
            let agent = async {
                let mut got = Vec::new();
                while let Ok(bytes) = receive(&mut guest, 1 << 16).await {
                    got.push(bytes);
                }
                guest.accept().await.unwrap();
                (got, receive(&mut guest, 100).await.unwrap())
            };
            let ((), (got, from_next)) = tokio::join!(next, agent);
            prop_assert!(got.len() <= frames.len() && got[..] == frames[..got.len()], "only whole ones, in order");
            prop_assert_eq!(from_next, b"from the next".to_vec());
            Ok(())
        })?;
    }
}

#[test]
fn a_host_hears_that_the_agent_is_another_one() {
    block_on(async {
        let (mut host, guest) = pair().await;
        // It was killed in the middle of a frame.
        let mut channel = guest.channel;
        channel
            .write_all(&[&1000_u32.to_le_bytes()[..], &guest.nonce[..4], b"half of it"].concat())
            .await
            .unwrap();
        let mut next = Link::new(channel);
        let begins_again = async {
            assert_eq!(receive(&mut host, 100).await.unwrap_err().kind(), ErrorKind::InvalidData);
            host.begin().await.unwrap();
        };
        let (accepted, ()) = tokio::join!(next.accept(), begins_again);
        accepted.unwrap();
        send(&mut next, b"again").await.unwrap();
        assert_eq!(receive(&mut host, 100).await.unwrap(), b"again");
    });
}

#[test]
fn a_guest_that_only_makes_noise_is_given_up() {
    block_on(async {
        let (host, mut guest) = duplex(1 << 16);
        let mut host = Link::new(host);
        let noise = async {
            let (mut reader, mut writer) = tokio::io::split(&mut guest);
            let mut sink = tokio::io::sink();
            let drain = tokio::io::copy(&mut reader, &mut sink);
            let shout = async { while writer.write_all(&[b'H'; 4096]).await.is_ok() {} };
            tokio::select! { _ = drain => {}, () = shout => {} }
        };
        let begun = tokio::select! { begun = host.begin() => begun, () = noise => panic!("it never ends") };
        assert_eq!(begun.unwrap_err().kind(), ErrorKind::InvalidData);
    });
}

#[test]
fn a_session_that_was_never_taken_up_is_passed_over() {
    block_on(async {
        let (host, guest) = duplex(1 << 20);
        let mut gone = Link::new(host);
        // It begins, and is killed before the agent is there.
        let _ = tokio::time::timeout(std::time::Duration::ZERO, gone.begin()).await;
        let (mut host, mut guest) = (Link::new(gone.channel), Link::new(guest));
        let agent = async {
            loop {
                guest.accept().await.unwrap();
                if let Ok(bytes) = receive(&mut guest, 100).await {
                    break bytes;
                }
            }
        };
        let next = async {
            host.begin().await.unwrap();
            send(&mut host, b"hello").await.unwrap();
        };
        let ((), got) = tokio::join!(next, agent);
        assert_eq!(got, b"hello");
    });
}
