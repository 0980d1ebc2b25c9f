//! The promise of `hypeman_console::capture`: all that comes is in the log, soon; on a disk that is
//! full or fails it waits, or, where it must not, is lost and told.

#![allow(clippy::unwrap_used)] // in helpers of tests

mod small_disk;

use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use hypeman_console::buffer::Buffer;
use hypeman_console::capture::capture;
use hypeman_console::event::Event;
use hypeman_console::log::{Limits, Log};
use hypeman_console::writer::Writer;
use small_disk::SmallDisk;
use tokio_util::sync::CancellationToken;

const LIMITS: Limits = Limits { max_size: 1 << 20, max_files: 3 };

/// Pause between two looks at a log.
const LOOK: Duration = Duration::from_millis(4);

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
            () = async { while std::fs::read(&path).unwrap() != b"login: " { tokio::time::sleep(LOOK).await } } => {}
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
            captured = capture(source.into(), &mut writer, &stop, &mut ignore) => drop(captured.unwrap()),
            () = async {
                for _ in 0..20 {
                    let before = size();
                    while size() == before {
                        tokio::time::sleep(LOOK).await;
                    }
                }
            } => {}
        }
    });
    assert!(size() < 100_000, "it was written in large steps: {} bytes in all", size());
    sender.join().unwrap();
}

/// A full disk: a tmpfs of one page, which is given more room while the capture waits.
#[test]
fn a_full_disk_loses_and_doubles_nothing() {
    let Some(disk) = SmallDisk::new("16k") else { return };
    let path = disk.path().join("app.log");
    let (source, mut writer) = pipe();
    let input: Vec<u8> = (0..5000).flat_map(|n| format!("line {n}\n").into_bytes()).collect();
    writer.write_all(&input).unwrap();
    drop(writer);
    let mut writer = Writer::new(Log::open(&path, LIMITS).unwrap(), Buffer::new().unwrap());
    let mut events = Vec::new();
    run(capture(source, &mut writer, &CancellationToken::new(), &mut |event| {
        if matches!(event, Event::Stalled { .. }) {
            disk.resize("1m");
        }
        events.push(event.to_string());
    }))
    .unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), input);
    assert_eq!(events.len(), 2, "{events:?}");
}

/// The guest prints on, and at the end each of its bytes is in the log or counted in it.
#[test]
fn a_guest_that_must_not_wait_prints_on_and_what_is_lost_is_told_where_it_is_missing() {
    let Some(disk) = SmallDisk::new("16k") else { return };
    let path = disk.path().join("app.log");
    let (source, mut console) = pipe();
    let (stalled, has_stalled) = std::sync::mpsc::channel();
    let lines = |from: usize, to: usize| -> Vec<u8> {
        (from..to).flat_map(|number| format!("line {number}\n").into_bytes()).collect()
    };
    let guest = std::thread::spawn(move || {
        console.write_all(&lines(0, 3000)).unwrap();
        has_stalled.recv().unwrap();
        // More than all that could keep it: if it waited, it would for ever.
        console.write_all(&lines(3000, 100_000)).unwrap();
        disk.resize("8m");
        console.write_all(&lines(100_000, 100_010)).unwrap();
        disk
    });
    let log = Log::open(&path, LIMITS).unwrap();
    let mut writer = Writer::new(log, Buffer::new().unwrap()).losing_beyond(20_000);
    let mut told = 0;
    run(capture(source, &mut writer, &CancellationToken::new(), &mut |event| match event {
        Event::Stalled { loses_beyond, .. } => {
            assert_eq!(loses_beyond, Some(20_000));
            let _ = stalled.send(());
        }
        Event::Lost(loss) => told += loss.bytes,
        _ => {}
    }))
    .unwrap();
    let _disk = guest.join().unwrap();
    let written = String::from_utf8(std::fs::read(&path).unwrap()).unwrap();
    let marks: Vec<&str> =
        written.split_inclusive('\n').filter(|line| line.starts_with("[hypeman: ")).collect();
    let marked = marks.iter().map(|mark| mark.split(' ').nth(1).unwrap().parse::<u64>().unwrap());
    assert_eq!(marked.sum::<u64>(), told, "{marks:?}");
    assert!(told > 0 && marks[0].contains("bytes of output are missing here, from 2"), "{marks:?}");
    assert!(written.starts_with("line 0\nline 1\n"));
    // A mark that is not at the beginning of a line ends it.
    let kept: u64 = written
        .lines()
        .filter(|line| !line.starts_with("[hypeman: "))
        .map(|line| line.len() as u64 + 1)
        .sum();
    let printed = lines(0, 100_010).len() as u64;
    assert!(
        (printed..=printed + marks.len() as u64).contains(&(kept + told)),
        "{kept} + {told} of {printed}"
    );
}

/// Memory bounds the buffer, of which a refused write holds all until it is done.
#[test]
fn a_full_disk_and_a_full_memory_lose_nothing_from_a_socket() {
    let Some(disk) = SmallDisk::new("100k") else { return };
    let path = disk.path().join("app.log");
    let (source, mut console) = UnixStream::pair().unwrap();
    let line = [&[b'x'; 999][..], b"\n"].concat();
    let input = line.repeat(6000);
    let limits = Limits { max_size: 64 << 20, max_files: 3 };
    let mut writer = Writer::new(Log::open(&path, limits).unwrap(), Buffer::new().unwrap());
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // The rest comes when there is room for it.
            let (before, after) = input.split_at(5_000_000);
            console.set_nonblocking(true).unwrap();
            let mut sent = 0;
            let mut waits = 0;
            while sent < before.len() && waits < 100 {
                match console.write(&before[sent..]) {
                    Ok(count) => (sent, waits) = (sent + count, 0),
                    Err(_) => {
                        std::thread::sleep(Duration::from_millis(10));
                        waits += 1;
                    }
                }
            }
            disk.resize("64m");
            console.set_nonblocking(false).unwrap();
            console.write_all(&before[sent..]).unwrap();
            console.write_all(after).unwrap();
            drop(console);
        });
        run(capture(source.into(), &mut writer, &CancellationToken::new(), &mut |_| {})).unwrap();
    });
    assert!(std::fs::read(&path).unwrap() == input, "{:?}", std::fs::metadata(&path).unwrap().len());
}

/// Also more than a pipe's bytes are given elsewhere.
#[test]
fn as_much_is_kept_as_was_asked_for() {
    let Some(disk) = SmallDisk::new("16k") else { return };
    let path = disk.path().join("app.log");
    let (source, mut console) = pipe();
    let input = b"some line of output\n".repeat(150_000);
    let limits = Limits { max_size: 64 << 20, max_files: 3 };
    let log = Log::open(&path, limits).unwrap();
    let mut writer = Writer::new(log, Buffer::new().unwrap()).losing_beyond(4 << 20);
    let mut lost = false;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            console.write_all(&input).unwrap();
            disk.resize("64m");
            drop(console);
        });
        run(capture(source, &mut writer, &CancellationToken::new(), &mut |event| {
            lost |= matches!(event, Event::Losing);
        }))
        .unwrap();
    });
    assert!(!lost && std::fs::read(&path).unwrap() == input);
}

/// A file that fails each write with EIO: the first page of our own memory (`mem_rw` in Linux'
/// fs/proc/base.c).
#[test]
fn a_failing_disk_is_waited_for_like_a_full_one() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("app.log");
    std::os::unix::fs::symlink("/proc/self/mem", &path).unwrap();
    let (source, mut writer) = pipe();
    writer.write_all(b"one\ntwo\n").unwrap();
    drop(writer);
    let mut writer = Writer::new(Log::open(&path, LIMITS).unwrap(), Buffer::new().unwrap());
    let mut events = Vec::new();
    run(capture(source, &mut writer, &CancellationToken::new(), &mut |event| {
        if let Event::Stalled { error, .. } = &event {
            assert_eq!(error.source.raw_os_error(), Some(rustix::io::Errno::IO.raw_os_error()));
            std::fs::remove_file(&path).unwrap(); // another disk
        }
        events.push(event.to_string());
    }))
    .unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), b"one\ntwo\n");
    assert_eq!(events.len(), 2, "{events:?}");
}
