//! 1-byte writes at 1 MB/s, as a UART makes them: CPU and memory of the capturing process, and how late bytes are on disk and at the
//! standard output of someone who follows the log.

use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use hypeman_tests::bed::Bed;
use hypeman_tests::fixtures::testguest;

use crate::peers::{self, Running};
use crate::report::{cpu_seconds, pss};

const RATE: u64 = 1_000_000;
/// Every so many bytes the delay of one is measured.
const SAMPLE: u64 = 1000;
/// A line, as consoles have them.
const LINE: u64 = 64;

/// For how long.
const DURATION: Duration = Duration::from_secs(5);

pub(crate) fn run() {
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let bytes = RATE * DURATION.as_secs();
    println!(
        "\n| 1-byte writes at 1 MB/s for {} s | CPU | a MB | PSS | p50, p99 to disk | p50, p99 to a follower |\n\
         |---|---|---|---|---|---|",
        DURATION.as_secs()
    );
    type Start<'a> = &'a dyn Fn(&Path) -> Running;
    let ways: [(&str, &str, Start); 3] = [
        ("socat on a unix socket, tail -f", "socat", &|path| peers::socat_on_socket(path)),
        ("conmon, tail -f", "conmon", &|path| peers::conmon(path)),
        ("virtlogd, tail -f", "virtlogd", &|path| peers::virtlogd(path)),
    ];
    let mut cpu = Vec::new();
    for (title, name, start) in ways {
        let path = begin(&directory.path().join(name));
        let figures = feed(start(&path), &path, None, bytes);
        let path = begin(&directory.path().join(name));
        let tail = Command::new("tail").arg("-f").arg(&path).stdout(Stdio::piped()).spawn().expect("tail");
        let followed = feed(start(&path), &path, Some(tail), bytes);
        cpu.push(row(title, figures, followed));
    }
    // The log of an instance that has not run: who follows it over its starts and stops waits for what comes.
    let bed = Bed::new(&directory.path().join("data"));
    bed.ok(&["create", "--name", "followed", "--kernel", testguest()]);
    let logs = bed.data_dir.join("instances").join(&bed.instance_directories()[0]).join("logs");
    let path = begin(&logs);
    let figures = feed(peers::on_fifo("capture", &path), &path, None, bytes);
    let path = begin(&logs);
    let follower = bed.command(&["logs", "--follow-restarts", "followed"]).stdout(Stdio::piped()).spawn();
    let follower = Some(follower.expect("hypeman logs"));
    let followed = feed(peers::on_fifo("capture", &path), &path, follower, bytes);
    let ours = row("hypeman's capture on a FIFO, hypeman logs -F", figures, followed);
    println!("\nhypeman's CPU is {:.3} of socat's (goal: at most 0.05).", ours / cpu[0]);
}

/// An empty log in a directory that is made when it is missing.
fn begin(directory: &Path) -> PathBuf {
    std::fs::create_dir_all(directory).expect("a directory");
    let path = directory.join("app.log");
    File::create(&path).expect("a log");
    path
}

struct Figures {
    cpu: f64,
    pss: u64,
    to_disk: Vec<Duration>,
    to_follower: Vec<Duration>,
}

/// Prints them, the last column as it was with a follower; gives the CPU without one.
fn row(name: &str, figures: Figures, followed: Figures) -> f64 {
    let Figures { cpu, pss, to_disk, .. } = figures;
    let at = |delays: &[Duration], share: f64| {
        let index = (delays.len() as f64 * share) as usize;
        delays[index.min(delays.len() - 1)].as_secs_f64() * 1000.0
    };
    let both = |mut delays: Vec<Duration>| {
        delays.sort();
        format!("{:.1} ms, {:.1} ms", at(&delays, 0.5), at(&delays, 0.99))
    };
    let a_megabyte = cpu / (to_disk.len() as f64 * SAMPLE as f64 / 1e6) * 1000.0;
    let (to_disk, to_follower) = (both(to_disk), both(followed.to_follower));
    println!("| {name} | {cpu:.2} s | {a_megabyte:.0} ms | {pss} KiB | {to_disk} | {to_follower} |");
    cpu
}

/// When each sample was written, from the beginning on.
struct Written {
    begin: Instant,
    stamps: Vec<AtomicU64>,
}

/// Writes at the rate and watches the file and its follower; the CPU is that of the capturing process at its end.
fn feed(running: Running, path: &Path, follower: Option<Child>, bytes: u64) -> Figures {
    let stamps = (0..bytes / SAMPLE).map(|_| AtomicU64::new(0)).collect();
    let written = Written { begin: Instant::now(), stamps };
    let mut writer = File::from(running.writer.try_clone().expect("another handle"));
    let (to_disk, to_follower) = std::thread::scope(|scope| {
        // Only one of them looks at a time: it takes from the processors what is measured.
        let watcher = match follower {
            Some(follower) => scope.spawn(|| (Vec::new(), written.watch_and_end(follower))),
            None => scope.spawn(|| (written.watch(File::open(path).expect("the log")), Vec::new())),
        };
        written.write(&mut writer, bytes);
        watcher.join().expect("the watcher")
    });
    let pid = running.child.id();
    let (cpu, pss) = (cpu_seconds(pid), pss(pid));
    drop(writer);
    running.end();
    Figures { cpu, pss, to_disk, to_follower }
}

impl Written {
    fn write(&self, writer: &mut File, bytes: u64) {
        for n in 0..bytes {
            writer.write_all(if n % LINE == LINE - 1 { b"\n" } else { b"x" }).expect("write");
            if n % SAMPLE == SAMPLE - 1 {
                self.stamps[(n / SAMPLE) as usize]
                    .store(self.begin.elapsed().as_nanos() as u64, Ordering::Release);
                let due = Duration::from_secs_f64(n as f64 / RATE as f64);
                std::thread::sleep(due.saturating_sub(self.begin.elapsed()));
            }
        }
    }

    fn watch_and_end(&self, mut follower: Child) -> Vec<Duration> {
        let delays = self.watch(follower.stdout.as_mut().expect("piped"));
        follower.kill().expect("kill");
        follower.wait().expect("the follower");
        delays
    }

    /// For each sample, the time from its write until it came. Only the bytes within lines count: conmon adds its own.
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
