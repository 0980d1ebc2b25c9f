use std::fs::File;
use std::io::Write;
use std::os::unix::net::UnixStream;

use super::*;
use crate::buffer::Buffer;
use crate::log::{Limits, Log};
use crate::writer::TICK;

const LIMITS: Limits = Limits { max_size: 1 << 20, max_files: 3 };

fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

fn pipe() -> (OwnedFd, File) {
    let (reader, writer) = rustix::pipe::pipe().unwrap();
    (reader, writer.into())
}

#[test]
fn all_that_was_written_is_kept_when_the_writer_closes() {
    for (source, mut writer) in [
        {
            let (reader, writer) = pipe();
            (reader, Box::new(writer) as Box<dyn Write>)
        },
        {
            let (reader, writer) = UnixStream::pair().unwrap();
            (reader.into(), Box::new(writer) as Box<dyn Write>)
        },
    ] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("app.log");
        writer.write_all(b"one\ntwo\nno end").unwrap();
        drop(writer);
        let mut writer = Writer::new(Log::open(&path, LIMITS).unwrap(), Buffer::new().unwrap());
        run(capture(source, &mut writer, &CancellationToken::new(), &mut |_| {})).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"one\ntwo\nno end");
    }
}

#[test]
fn all_that_had_come_is_kept_when_it_is_stopped() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("app.log");
    let (source, mut writer) = pipe();
    writer.write_all(b"a\nb").unwrap();
    let stop = CancellationToken::new();
    stop.cancel();
    let mut writer = Writer::new(Log::open(&path, LIMITS).unwrap(), Buffer::new().unwrap());
    run(capture(source, &mut writer, &stop, &mut |_| {})).unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), b"a\nb");
    drop(writer);
}

#[test]
fn a_prompt_without_a_newline_appears() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("app.log");
    let (source, mut writer) = pipe();
    writer.write_all(b"login: ").unwrap();
    let stop = CancellationToken::new();
    let mut writer = Writer::new(Log::open(&path, LIMITS).unwrap(), Buffer::new().unwrap());
    let mut ignore = |_| {};
    run(async {
        tokio::select! {
            _ = capture(source, &mut writer, &stop, &mut ignore) => unreachable!("the writer is open"),
            () = async { while std::fs::read(&path).unwrap() != b"login: " { tokio::time::sleep(TICK).await } } => {}
        }
    });
    drop(writer);
}

/// Bytes that come one by one, and so quickly that each look at the socket finds some.
#[test]
fn what_comes_without_a_pause_is_written_while_it_comes() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("app.log");
    let (source, mut console) = UnixStream::pair().unwrap();
    let sender = std::thread::spawn(move || {
        for _ in 0..200_000 {
            if console.write_all(b"\n").is_err() {
                return; // enough was seen
            }
            let next = std::time::Instant::now() + Duration::from_micros(20);
            while std::time::Instant::now() < next {}
        }
    });
    let mut writer = Writer::new(Log::open(&path, LIMITS).unwrap(), Buffer::new().unwrap());
    let stop = CancellationToken::new();
    let mut ignore = |_| {};
    let size = || std::fs::metadata(&path).unwrap().len();
    run(async {
        tokio::select! {
            captured = capture(source.into(), &mut writer, &stop, &mut ignore) => captured.unwrap(),
            () = async {
                for _ in 0..20 {
                    let before = size();
                    while size() == before {
                        tokio::time::sleep(TICK).await;
                    }
                }
            } => {}
        }
    });
    assert!(size() < 100_000, "it was written in large steps: {} bytes in all", size());
    sender.join().unwrap();
}
