//! 1-byte writes at 1 MB/s, as a UART makes them: CPU and memory of the capturing process, and how
//! late bytes are on disk and at the standard output of someone who follows the log.

use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use hypeman_tests::bed::Bed;
use hypeman_tests::fixtures::testguest;
use hypeman_tests::measure::{cpu_seconds, pss};
use hypeman_tests::processes::KilledOnDrop;

use crate::peers::{self, Running};

const RATE: u64 = 1_000_000;
/// Every so many bytes the delay of one is measured.
const SAMPLE: u64 = 1000;
/// A line, as consoles have them.
const LINE: u64 = 64;

/// All of them: for five seconds.
const BYTES: u64 = 5 * RATE;

pub(crate) fn run() {
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    println!(
        "\n| 1-byte writes at 1 MB/s for {} s | CPU | a MB | PSS | p50, p99 to disk | p50, p99 to a follower |\n\
         |---|---|---|---|---|---|",
        BYTES / RATE
    );
    type Start<'a> = &'a dyn Fn(&Path) -> Running;
    let ways: [(&str, &str, Start); 3] = [
        ("socat on a unix socket, tail -f", "socat", &|path| peers::socat_on_socket(path)),
        ("conmon, tail -f", "conmon", &|path| peers::conmon(path)),
        ("virtlogd, tail -f", "virtlogd", &|path| peers::virtlogd(path)),
    ];
    let tail = |path: &Path| {
        let mut command = Command::new("tail");
        command.arg("-f").arg(path);
        command
    };
    let cpu = ways.map(|(title, name, start)| row(title, &directory.path().join(name), start, &tail));
    // The log of an instance that has not run: who follows it over its starts and stops waits for
    // what comes.
    let bed = Bed::new(&directory.path().join("data"));
    bed.ok(&["create", "--name", "followed", "--kernel", testguest()]);
    let logs = bed.data_dir.join("instances").join(&bed.instance_directories()[0]).join("logs");
    let follow = |_: &Path| bed.command(&["logs", "--follow-restarts", "followed"]);
    let title = "hypeman's capture on a FIFO, hypeman logs -F";
    let ours = row(title, &logs, &|path| peers::on_fifo("capture", path), &follow);
    println!("\nhypeman's CPU is {:.3} of socat's (goal: at most 0.05).", ours / cpu[0]);
}

/// An empty log in a directory that is made when it is missing.
fn begin(directory: &Path) -> PathBuf {
    std::fs::create_dir_all(directory).expect("a directory");
    let path = directory.join("app.log");
    File::create(&path).expect("a log");
    path
}

/// Measures a way of capturing, alone and then with someone who follows the log, and prints both;
/// gives the CPU that it took alone.
fn row(
    title: &str,
    directory: &Path,
    start: &dyn Fn(&Path) -> Running,
    follow: &dyn Fn(&Path) -> Command,
) -> f64 {
    let path = begin(directory);
    let alone = feed(start(&path), File::open(&path).expect("the log"));
    let path = begin(directory);
    let mut follower = KilledOnDrop(follow(&path).stdout(Stdio::piped()).spawn().expect("a follower"));
    let followed = feed(start(&path), follower.0.stdout.take().expect("piped"));
    let at = |delays: &[Duration], share: f64| {
        let index = (delays.len() as f64 * share) as usize;
        delays[index.min(delays.len() - 1)].as_secs_f64() * 1000.0
    };
    let both = |mut delays: Vec<Duration>| {
        delays.sort();
        format!("{:.1} ms, {:.1} ms", at(&delays, 0.5), at(&delays, 0.99))
    };
    let Figures { cpu, pss, delays } = alone;
    let a_megabyte = cpu / (BYTES as f64 / 1e6) * 1000.0;
    let (to_disk, to_follower) = (both(delays), both(followed.delays));
    println!("| {title} | {cpu:.2} s | {a_megabyte:.0} ms | {pss} KiB | {to_disk} | {to_follower} |");
    cpu
}

struct Figures {
    cpu: f64,
    pss: u64,
    delays: Vec<Duration>,
}

/// When each sample was written, from the beginning on.
struct Written {
    begin: Instant,
    stamps: Vec<AtomicU64>,
}

/// Writes at the rate and watches what comes; the figures are those of the capturing process at its
/// end.
fn feed(running: Running, log: impl Read + Send) -> Figures {
    let stamps = (0..BYTES / SAMPLE).map(|_| AtomicU64::new(0)).collect();
    let written = Written { begin: Instant::now(), stamps };
    let mut writer = File::from(running.writer.try_clone().expect("another handle"));
    let delays = std::thread::scope(|scope| {
        let watcher = scope.spawn(|| written.watch(log));
        written.write(&mut writer);
        watcher.join().expect("the watcher")
    });
    let pid = running.child.id();
    let (cpu, pss) = (cpu_seconds(pid), pss(pid));
    drop(writer);
    running.end();
    Figures { cpu, pss, delays }
}

impl Written {
    fn write(&self, writer: &mut File) {
        for n in 0..BYTES {
            writer.write_all(if n % LINE == LINE - 1 { b"\n" } else { b"x" }).expect("write");
            if n % SAMPLE == SAMPLE - 1 {
                self.stamps[(n / SAMPLE) as usize]
                    .store(self.begin.elapsed().as_nanos() as u64, Ordering::Release);
                let due = Duration::from_secs_f64(n as f64 / RATE as f64);
                std::thread::sleep(due.saturating_sub(self.begin.elapsed()));
            }
        }
    }

    /// For each sample, the time from its write until it came. Only the bytes within lines count:
    /// conmon adds its own.
    fn watch(&self, mut log: impl Read) -> Vec<Duration> {
        let (mut delays, mut come) = (Vec::new(), 0);
        let mut buffer = vec![0; 1 << 16];
        for (index, stamp) in self.stamps.iter().enumerate() {
            let end = (index as u64 + 1) * SAMPLE;
            while come < end - end / LINE || stamp.load(Ordering::Acquire) == 0 {
                let count = log.read(&mut buffer).expect("read");
                come += memchr::memchr_iter(b'x', &buffer[..count]).count() as u64;
                if count == 0 {
                    std::thread::sleep(Duration::from_micros(200));
                }
            }
            let written = Duration::from_nanos(stamp.load(Ordering::Acquire));
            delays.push(self.begin.elapsed().saturating_sub(written));
        }
        delays
    }
}
