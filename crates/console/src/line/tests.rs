use std::cell::RefCell;
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::task::Poll;

use futures_util::future::poll_fn;
use tokio::task::yield_now;

use super::*;
use crate::buffer::Buffer;
use crate::log::{Limits, Log};

/// Both halves of a socket.
fn line(socket: UnixStream) -> std::io::Result<Line> {
    Ok(Line { input: socket.try_clone()?.into(), output: socket.into() })
}

fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

fn writer(directory: &std::path::Path) -> Writer {
    let limits = Limits { max_size: 1 << 20, max_files: 3 };
    Writer::new(Log::open(&directory.join("app.log"), limits).unwrap(), Buffer::new().unwrap())
}

#[test]
fn a_line_that_closes_is_connected_again_and_the_gap_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let (first, mut server) = UnixStream::pair().unwrap();
    server.write_all(b"one\n").unwrap();
    drop(server);
    let stop = CancellationToken::new();
    let mut attempts = 0;
    let connect = async || {
        attempts += 1;
        if attempts < 3 {
            return Err(std::io::ErrorKind::ConnectionRefused.into());
        }
        let (second, mut server) = UnixStream::pair()?;
        server.write_all(b"two\n")?;
        stop.cancel();
        line(second)
    };
    let mut events = Vec::new();
    run(capture_line(
        line(first).unwrap(),
        connect,
        &mut writer(directory.path()),
        &Keyboard::new(),
        &stop,
        &mut |event| {
            events.push(event.to_string());
        },
    ));
    assert_eq!(std::fs::read(directory.path().join("app.log")).unwrap(), b"one\ntwo\n");
    assert!(matches!(&events[..], [event] if event.contains("closed")), "{events:?}");
}

#[test]
fn an_end_after_a_full_socket_is_told() {
    // Full before a silence, full and closed, with room after it was full, and never full.
    for (says, expected) in [(&[200, 0][..], true), (&[200], true), (&[200, 0, 20], false), (&[20], false)] {
        let directory = tempfile::tempdir().unwrap();
        let (first, mut server) = UnixStream::pair().unwrap();
        let stop = CancellationToken::new();
        let mut events = Vec::new();
        let mut writer = writer(directory.path());
        let log = directory.path().join("app.log");
        let guest = async {
            let mut printed = 0;
            for &length in says {
                for _ in 0..length {
                    server.write_all(b"\n").unwrap();
                }
                printed += length;
                while length == 0 && log.metadata().unwrap().len() < printed {
                    tokio::time::sleep(FIRST_PAUSE).await;
                }
            }
            drop(server);
            stop.cancel();
        };
        let mut note = |event| events.push(event);
        let connect = async || Err(std::io::ErrorKind::ConnectionRefused.into());
        let keyboard = Keyboard::new();
        run(async {
            tokio::join!(
                guest,
                capture_line(line(first).unwrap(), connect, &mut writer, &keyboard, &stop, &mut note)
            )
        });
        assert_eq!(matches!(events[..], [Event::EndedFull]), expected, "{says:?}: {events:?}");
    }
}

/// Every interleaving of a close with connecting: the future can lose control only where it is
/// pending, so it is stopped at each of its polls in turn, from before the first one until it ends
/// by itself no more. Whenever that is, it must end, and leave no connection open.
#[test]
fn a_close_at_any_moment_closes_every_connection() {
    for third_stays_open in [true, false] {
        let mut moments = 0;
        while stopped_at_poll(moments, third_stays_open) {
            moments += 1;
        }
        assert!(moments > 10, "only {moments} moments");
    }
}

/// Stops the line at its poll `moment`; tells whether it has got as far as that in its three
/// connections.
fn stopped_at_poll(moment: u32, third_stays_open: bool) -> bool {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("serial.sock");
    let listener = UnixListener::bind(&path).unwrap();
    // The server closes each connection as soon as it has accepted it, but for the third; or it is
    // gone after that.
    let accepted = RefCell::new(Vec::new());
    let connect = async || {
        yield_now().await;
        if accepted.borrow().len() == 3 {
            return Err(std::io::ErrorKind::ConnectionRefused.into());
        }
        let client = UnixStream::connect(&path)?;
        let (server, _) = listener.accept()?;
        if accepted.borrow().len() < 2 || !third_stays_open {
            server.shutdown(std::net::Shutdown::Write)?;
        }
        accepted.borrow_mut().push(server);
        yield_now().await;
        line(client)
    };
    let stop = CancellationToken::new();
    let mut writer = writer(directory.path());
    let keyboard = Keyboard::new();
    let mut polls = 0;
    run(async {
        tokio::time::pause(); // pauses between attempts take no time
        let (first, server) = UnixStream::pair().unwrap();
        drop(server);
        let mut ignore = |_| {};
        let mut line = std::pin::pin!(capture_line(
            line(first).unwrap(),
            connect,
            &mut writer,
            &keyboard,
            &stop,
            &mut ignore
        ));
        let end = tokio::time::Instant::now() + Duration::from_secs(60);
        let idle = tokio::time::sleep_until(end);
        let mut idle = std::pin::pin!(idle);
        let ended = poll_fn(|context| {
            if polls == moment {
                stop.cancel();
            }
            polls += 1;
            match line.as_mut().poll(context) {
                Poll::Ready(()) => Poll::Ready(()),
                Poll::Pending => {
                    if idle.as_mut().poll(context).is_ready() {
                        stop.cancel(); // it waits, or tries to connect, for ever
                        return line.as_mut().poll(context);
                    }
                    Poll::Pending
                }
            }
        });
        tokio::time::timeout(Duration::from_secs(120), ended).await.expect("a line that is closed ends");
    });
    drop(writer);
    for mut server in accepted.into_inner() {
        server.set_nonblocking(true).unwrap();
        assert_eq!(server.read(&mut [0]).unwrap(), 0, "closed by us, stopped at poll {moment}");
    }
    polls > moment
}
