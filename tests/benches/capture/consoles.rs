//! Five hundred consoles on one host: what a shim weighs and takes, each with a VMM of its own
//! whose guest prints 1 KB/s. The VMM is the double of Cloud Hypervisor, which weighs less than a
//! real one, and sends a line at once, so that the processors are left to the shims. Beside as many
//! socats with the same input.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use hypeman_tests::bed::Bed;
use hypeman_tests::ch;
use hypeman_tests::console::assert_whole;
use hypeman_tests::fixtures::testguest;
use hypeman_tests::measure::{cpu_seconds, pss};
use hypeman_tests::processes;
use testguest::Options;

use crate::peers::{self, Running};

const CONSOLES: usize = 500;

/// For how long the CPU is watched.
const WATCHED: Duration = Duration::from_secs(30);

/// Bytes of a line with its newline.
const LINE: u64 = 65;

/// Time of a line at 1 KB/s.
const PAUSE: Duration = Duration::from_micros(LINE * 1000);

pub(crate) fn run() {
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    println!("\n| {CONSOLES} consoles at 1 KB/s | CPU, all of them | PSS, each |\n|---|---|---|");
    row("socat", socats(directory.path()));
    row("hypeman's shim", shims(&directory.path().join("data")));
    println!("\nAll {CONSOLES} logs were whole.");
}

/// Seconds of CPU in a second, and KiB.
fn row(name: &str, (cpu, pss): (f64, u64)) {
    println!("| {name} | {:.1} % of one | {pss} KiB |", cpu * 100.0);
}

/// Usage of processes while they are watched: CPU in seconds a second, all together, and PSS in
/// KiB, each.
fn watch(processes: &[u32]) -> (f64, u64) {
    let cpu = || processes.iter().map(|pid| cpu_seconds(*pid)).sum::<f64>();
    let (begin, before) = (Instant::now(), cpu());
    std::thread::sleep(WATCHED);
    let taken = (cpu() - before) / begin.elapsed().as_secs_f64();
    let pss = processes.iter().map(|pid| pss(*pid)).sum::<u64>() / processes.len() as u64;
    (taken, pss)
}

fn socats(directory: &Path) -> (f64, u64) {
    let running: Vec<Running> = (0..CONSOLES)
        .map(|number| peers::socat_on_socket(&directory.join(format!("{number}.log"))))
        .collect();
    let mut writers: Vec<File> =
        running.iter().map(|running| running.writer.try_clone().expect("another handle").into()).collect();
    let is_over = AtomicBool::new(false);
    let figures = std::thread::scope(|scope| {
        scope.spawn(|| {
            let line = [&[b'x'; LINE as usize - 1][..], b"\n"].concat();
            let (begin, mut lines) = (Instant::now(), 0);
            while !is_over.load(Ordering::Acquire) {
                for writer in &mut writers {
                    writer.write_all(&line).expect("write");
                }
                lines += 1;
                std::thread::sleep((PAUSE * lines).saturating_sub(begin.elapsed()));
            }
        });
        let pids: Vec<u32> = running.iter().map(|running| running.child.id()).collect();
        let figures = watch(&pids);
        is_over.store(true, Ordering::Release);
        figures
    });
    drop(writers);
    running.into_iter().for_each(Running::end);
    figures
}

fn shims(data: &Path) -> (f64, u64) {
    let bed = Bed::new(data);
    let double = ch::double(53);
    let pause = u64::try_from(PAUSE.as_micros()).expect("a pause");
    let options = Options { pause, ..Options::default() };
    let cmdline = options.to_string();
    let names: Vec<String> = (0..CONSOLES).map(|number| format!("console-{number}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    for name in &names {
        let vmm = ["--hypervisor", "cloud-hypervisor", "--cloud-hypervisor", &double, "--memory", "16m"];
        let guest = ["--name", name, "--kernel", testguest(), "--cmdline", &cmdline];
        bed.ok(&[&["run", "-d"], &vmm[..], &guest[..]].concat());
    }
    let directories: Vec<_> =
        bed.instance_directories().iter().map(|id| bed.data_dir.join("instances").join(id)).collect();
    let shims = directories.iter().map(|directory| processes::shim(directory).expect("a shim"));
    let pids: Vec<u32> = shims.map(|pid| pid.as_raw_nonzero().get().unsigned_abs()).collect();
    let figures = watch(&pids);
    bed.ok(&[&["kill"], &names[..]].concat());
    directories.iter().for_each(|directory| assert_whole(&directory.join("logs/app.log"), &options));
    figures
}
