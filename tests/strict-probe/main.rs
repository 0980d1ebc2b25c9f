//! Shows in a guest with an ordinary kernel that all walls around a VMM can be had there, and that
//! the cgroup's limits hold: what the machine that tests run on may lack.

use std::path::Path;
use std::process::Command;

use hypeman_confine::{Given, Needs};
use hypeman_record::confinement::Strictness;
use hypeman_record::end::VmmExit;
use hypeman_vmm::process::{Start, VmmProcess};

/// The limits, in bytes and threads.
const MEMORY: u64 = 64 << 20;
const THREADS: u64 = 8;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    match arguments.get(1).map(String::as_str) {
        Some("memory") => {
            let filled: Vec<Vec<u8>> = (0..2 * (MEMORY >> 20)).map(|_| vec![1; 1 << 20]).collect();
            println!("GOT {} MiB", filled.len());
        }
        Some("threads") => {
            let sleep = || std::thread::sleep(std::time::Duration::from_secs(1000));
            let started =
                (0..4 * THREADS).take_while(|_| std::thread::Builder::new().spawn(sleep).is_ok()).count();
            std::process::exit(if (started as u64) < THREADS { 8 } else { 1 });
        }
        _ => probe(&arguments[0]),
    }
}

fn probe(program: &str) {
    std::fs::create_dir_all("/sys/fs/cgroup").expect("a directory");
    let mounted = Command::new("mount").args(["-t", "cgroup2", "none", "/sys/fs/cgroup"]).status();
    println!("cgroup2 mounted: {mounted:?}");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        for (task, expected) in [("memory", VmmExit::Signal(9)), ("threads", VmmExit::Code(8))] {
            let exit = confined(program, task).await;
            println!("{task}: {}", if exit == expected { "limited".to_owned() } else { format!("{exit:?}") });
        }
    });
    println!("strict-probe is done");
}

/// Runs a task in the strict sandbox and returns its end.
async fn confined(program: &str, task: &str) -> VmmExit {
    let home = Path::new("/tmp/home");
    let _ = std::fs::remove_dir_all(home);
    std::fs::create_dir_all(home).expect("a directory");
    let file = std::fs::File::create("/tmp/file").expect("a file");
    let needs = Needs {
        program: Path::new(program),
        home: Some(home),
        files: &[Given { file: file.into(), number: 32, writable: false }],
        kvm: false,
        io_uring: false,
        name: task,
        memory: MEMORY,
        threads: THREADS,
    };
    let confinement = match hypeman_confine::prepare(&needs, Strictness::Strict) {
        Ok(confinement) => confinement,
        Err(error) => {
            println!("{error}");
            return VmmExit::Unknown;
        }
    };
    let cgroup = confinement.cgroup.clone().expect("strict");
    let mut command = Command::new(program);
    command.arg(task).current_dir(home);
    let mut start = Start::new(command, Vec::new(), Vec::new());
    start.confinement = Some(confinement);
    let (process, []) = VmmProcess::start(start, Path::new("/tmp/pid"), []).expect("start it");
    let exit = process.ended().await;
    hypeman_confine::cgroup::remove(&cgroup);
    println!("cgroup removed: {}", !cgroup.exists());
    exit
}
