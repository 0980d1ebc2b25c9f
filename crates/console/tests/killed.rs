//! The promise of `hypeman_console::buffer`: the process that captures a console may be killed at
//! any moment, and the next one loses nothing and writes nothing twice.

#![allow(clippy::unwrap_used)] // in helpers of tests

mod small_disk;

use std::io::Write;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use hypeman_console::buffer::Buffer;
use hypeman_console::capture::capture;
use hypeman_console::chain;
use hypeman_console::log::{Limits, Log};
use hypeman_console::settle::resume;
use hypeman_console::writer::Writer;
use small_disk::SmallDisk;
use testguest::Options;
use testguest::check::Sequence;
use tokio_util::sync::CancellationToken;

const LIMITS: Limits = Limits { max_size: 300_000, max_files: 1000 };

/// The log's path and the memory's, for the process that is to be killed.
const LOG: &str = "HYPEMAN_TEST_LOG";
const MEMORY: &str = "HYPEMAN_TEST_MEMORY";

/// It loses what comes beyond so many bytes; for the same process.
const LOSES: &str = "HYPEMAN_TEST_LOSES";
const LOSES_BEYOND: usize = 20_000;

const KILLS: u32 = 60;

fn run(source: OwnedFd, mut writer: Writer) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(capture(source, &mut writer, &CancellationToken::new(), &mut |_| {})).unwrap();
}

/// Not a test by itself: the process that is killed.
#[test]
#[ignore = "run by the test below"]
fn victim() {
    let Some(memory) = std::env::var_os(MEMORY) else { return };
    let memory = std::fs::File::options().read(true).write(true).open(memory).unwrap();
    let path = std::env::var_os(LOG).unwrap();
    let (writer, doubt) = resume(Path::new(&path), LIMITS, memory.into()).unwrap();
    assert!(doubt.is_none());
    let source = rustix::io::dup(std::io::stdin()).unwrap();
    run(source, if std::env::var_os(LOSES).is_some() { writer.losing_beyond(LOSES_BEYOND) } else { writer });
}

fn victim_of(log: &Path, memory: &OwnedFd, source: &OwnedFd) -> Command {
    let memory = format!("/proc/{}/fd/{}", std::process::id(), memory.as_raw_fd());
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", "victim", "--ignored", "--quiet"])
        .env(LOG, log)
        .env(MEMORY, memory)
        .stdin(Stdio::from(source.try_clone().unwrap()))
        .stdout(Stdio::null());
    command
}

/// Kills it again and again, at moments spread over all that it does: while it starts, reads,
/// writes and rotates.
fn kill_again_and_again(mut victim: Command) {
    for kill in 0..KILLS {
        let mut victim = victim.spawn().unwrap();
        std::thread::sleep(Duration::from_micros(u64::from(kill) * 997 % 40_000));
        victim.kill().unwrap();
        let status = victim.wait().unwrap();
        assert!(status.code().is_none(), "it ended by itself: {status}");
    }
}

/// Writes numbered lines to a console as fast as it takes them, until told to end; gives all that
/// was written.
fn flood(mut console: impl Write + Send + 'static, burst: usize) -> impl FnOnce() -> Vec<u8> {
    let end = CancellationToken::new();
    let ended = end.clone();
    let writer = std::thread::spawn(move || {
        let mut written = Vec::new();
        let mut number = 0;
        while !ended.is_cancelled() {
            let lines: Vec<u8> =
                (number..number + 50).flat_map(|n| format!("line {n}\n").into_bytes()).collect();
            number += 50;
            lines.chunks(burst).for_each(|chunk| console.write_all(chunk).unwrap());
            written.extend_from_slice(&lines);
            if burst < 100 {
                std::thread::sleep(Duration::from_micros(200));
            }
        }
        written
    });
    move || {
        end.cancel();
        writer.join().unwrap()
    }
}

fn each_byte_once(source: OwnedFd, console: impl Write + Send + 'static, burst: usize) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("app.log");
    let memory = Buffer::new().unwrap().memory().unwrap();
    let end = flood(console, burst);
    kill_again_and_again(victim_of(&path, &memory, &source));
    let finish = std::thread::spawn(end);
    let (writer, doubt) = resume(&path, LIMITS, memory).unwrap();
    assert!(doubt.is_none());
    run(source, writer);
    let written = finish.join().unwrap();
    let log: Vec<u8> =
        chain::files(&path).unwrap().iter().flat_map(|file| std::fs::read(file).unwrap()).collect();
    assert_eq!(log.len(), written.len(), "after {KILLS} kills");
    assert!(log == written, "after {KILLS} kills");
}

#[test]
fn each_byte_from_a_pipe_is_written_once_however_often_its_reader_is_killed() {
    for burst in [1, 1000] {
        let (source, console) = rustix::pipe::pipe().unwrap();
        each_byte_once(source, std::fs::File::from(console), burst);
    }
}

/// As long as somebody holds the socket open.
#[test]
fn each_byte_from_a_socket_is_written_once_however_often_its_reader_is_killed() {
    for burst in [1, 1000] {
        let (source, console) = std::os::unix::net::UnixStream::pair().unwrap();
        each_byte_once(source.into(), console, burst);
    }
}

/// On a disk that is full now and then, for a guest that must not wait.
#[test]
fn what_is_lost_is_told_once_however_often_its_reader_is_killed() {
    let Some(disk) = SmallDisk::new("100k") else { return };
    let path = disk.path().join("app.log");
    let memory = Buffer::new().unwrap().memory().unwrap();
    let (source, console) = rustix::pipe::pipe().unwrap();
    let sequence = Sequence::new(&Options::default());
    let lines =
        move |from: u64| (from..from + 50).flat_map(|number| sequence.line(number)).collect::<Vec<u8>>();
    let end = CancellationToken::new();
    let ended = end.clone();
    let mut console = std::fs::File::from(console);
    let guest = std::thread::spawn(move || {
        let mut number = 0;
        while !ended.is_cancelled() {
            console.write_all(&lines(number)).unwrap();
            number += 50;
        }
        console.write_all(Options::THE_END.as_bytes()).unwrap();
        number * 65
    });
    let resize = CancellationToken::new();
    let resized = resize.clone();
    let mut victim = victim_of(&path, &memory, &source);
    victim.env(LOSES, "yes");
    std::thread::scope(|scope| {
        // There is room for a little more now and then, so that losses begin and end.
        scope.spawn(|| {
            for kilobytes in (100..).step_by(70).take_while(|_| !resized.is_cancelled()) {
                disk.resize(&format!("{kilobytes}k"));
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        kill_again_and_again(victim);
        resize.cancel();
    });
    end.cancel();
    disk.resize("1g");
    let (writer, doubt) = resume(&path, LIMITS, memory).unwrap();
    assert!(doubt.is_none());
    run(source, writer.losing_beyond(LOSES_BEYOND));
    let printed = guest.join().unwrap();
    let log: Vec<u8> =
        chain::files(&path).unwrap().iter().flat_map(|file| std::fs::read(file).unwrap()).collect();
    let account = sequence.account(&[log]).unwrap();
    assert!(account.told > 0, "{account:?}");
    let with_the_end = printed + Options::THE_END.len() as u64;
    assert!([printed, with_the_end].contains(&account.printed), "{account:?} of {printed}");
    assert_eq!(account.on_disk + account.told, account.printed);
}

#[test]
fn a_log_that_is_begun_needs_no_memory_of_before() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("app.log");
    let (source, console) = rustix::pipe::pipe().unwrap();
    std::fs::File::from(console).write_all(b"a line\n").unwrap();
    run(source, Writer::new(Log::open(&path, LIMITS).unwrap(), Buffer::new().unwrap()));
    assert_eq!(std::fs::read(&path).unwrap(), b"a line\n");
}
