//! The library in a process that lives on and has many threads, such as a server.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use hypeman_agent::protocol::Exec;
use hypeman_host::instance::Instance;
use hypeman_host::request::CreateRequest;
use hypeman_host::{Config, Host};
use hypeman_record::data_dir::DataDir;
use hypeman_record::record::Settings;
use hypeman_record::state::State;
use hypeman_session::exec::{Ended, Event, start};
use hypeman_tests::bed::Bed;
use hypeman_tests::fixtures::{self, bed, busybox, kernel};
use hypeman_tests::guest::Guest;
use hypeman_tests::needs::{BUSYBOX, Need, QEMU};
use hypeman_tests::netns;
use hypeman_tests::processes::KilledOnDrop;
use hypeman_tests::vm::{IDLE, Instance as Vm};
use hypeman_tests::wait::{DEADLINE, until, within};

use crate::leases::assert_nothing_left;
use crate::promises;

promises! {
    [Need::NetworkNamespaces, QEMU, BUSYBOX] threads_and_commands_leave_nothing_of_their_vms;
    [QEMU] a_hundred_waiters_cost_no_thread_each;
    [QEMU, BUSYBOX]
        the_examples_do_what_they_say,
        a_killed_process_leaves_its_vm_running,
        a_command_in_a_guest_by_the_library;
}

/// Threads of this process, and as many commands beside them.
const THREADS: usize = 32;

/// Variable with the number of VMs of all threads; `make threads` has 500.
const VMS: &str = "HYPEMAN_TEST_VMS";

/// Number of VMs in a usual run.
const USUAL_VMS: usize = 40;

/// Shims that this process has started, that have ended and that were not waited for, by their stat
/// (proc_pid_stat(5)): each is the leader of a session. Other tests leave zombies of other kinds.
fn zombies() -> usize {
    let stats = std::fs::read_dir("/proc").expect("/proc").flatten();
    let stats = stats.filter_map(|process| std::fs::read_to_string(process.path().join("stat")).ok());
    let is_shim_of_ours = |stat: &String| {
        let (head, rest) = stat.rsplit_once(") ").unwrap_or_default();
        let pid = head.split(' ').next().unwrap_or_default();
        head.contains("(hypeman") && rest.starts_with(&format!("Z {} {pid} {pid} ", std::process::id()))
    };
    stats.filter(is_shim_of_ours).count()
}

/// Descriptors of this process.
fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").expect("/proc").count()
}

/// A host with the data directory of a bed.
fn host(bed: &Bed) -> Host {
    Host::open(Config {
        data_dir: DataDir::new(&bed.data_dir),
        must_exist: false,
        hypeman: bed.hypeman.clone(),
        init: bed.hypeman.with_file_name("hypeman-init"),
        max_image_size: 1 << 30,
    })
    .expect("a host")
}

/// Creates, starts, suspends, restores, kills and removes a VM on a network, beside a command that
/// renames it.
fn live(bed: &Bed, host: &Host, name: &str, network: &str) {
    let request = CreateRequest {
        name: Some(name.to_owned()),
        kernel: Some(Path::new(fixtures::testguest()).to_owned()),
        network: Some(network.to_owned()),
        settings: Settings {
            memory: 32 << 20,
            cmdline: testguest::Options { count: 1, echo: true, ..testguest::Options::default() }.to_string(),
            ..Settings::default()
        },
        ..CreateRequest::default()
    };
    let prepared = host.prepare(&request, &hypeman_image::Quiet).expect("prepare");
    let instance = host.create(&prepared).expect("create").instance;
    let id = &instance.record.id;
    drop(host.start(id).expect("start"));
    host.standby(id, None).expect("standby");
    let new = format!("{name}-renamed");
    bed.ok(&["rename", name, &new]);
    // A record that was read before the change is not believed.
    drop(host.restore(id).expect("restore"));
    let launch = std::fs::read_to_string(instance.directory.join("launch.json")).expect("an order");
    assert!(launch.contains(&new), "{launch}");
    assert_eq!(host.observe(&instance).expect("observe").state, State::Running, "{name}");
    let end = host.kill(&new, None).expect("kill").expect("an outcome").end;
    assert_eq!(end.exit_code, 137, "{name}: {end:?}");
    host.remove(id, false).expect("remove");
}

/// Runs a VM of an image and a command in it, and stops and removes it.
fn live_with_a_command(host: &Host, name: &str, network: &str) {
    let prepared = host.prepare(&idle(name, network), &hypeman_image::Quiet).expect("prepare");
    let (started, _) = host.run(&prepared).expect("run");
    let ended = new_runtime().block_on(exec(&host.guest(&started.instance), "echo $((6 * 7)); exit 3"));
    assert_eq!(ended, (b"42\n".to_vec(), Vec::new(), Ended::Exited(3)), "{name}");
    let outcome = host.stop(name, DEADLINE).expect("stop").expect("an outcome");
    assert_eq!(outcome.end.exit_code, 0, "{name}: {:?}", outcome.end);
    drop(started);
    host.remove(name, false).expect("remove");
}

/// As [`live`], by commands.
fn live_by_commands(bed: &Bed, name: &str, network: &str) {
    let vm = Guest::new(bed, name).quiet().with(&["--network", network]).create();
    for command in [&["start"][..], &["standby"], &["restore"], &["kill"], &["rm"]] {
        bed.ok(&[command, &[&vm.name]].concat());
    }
}

fn threads_and_commands_leave_nothing_of_their_vms() {
    kernel();
    let _ = busybox(); // imports it
    let machine = netns::Host::new();
    let live = || {
        machine.enter();
        live_on(machine.bed());
    };
    std::thread::scope(|scope| drop(scope.spawn(live)));
    assert_nothing_left(&machine);
}

/// Threads and commands beside them, half of whose VMs are on a bridge.
fn live_on(bed: &Bed) {
    let vms = std::env::var(VMS).ok().and_then(|vms| vms.parse().ok()).unwrap_or(USUAL_VMS);
    let host = host(bed);
    live(bed, &host, "first", "default"); // starts the thread that reaps
    until("the first is reaped", || zombies() == 0);
    let before = descriptors();
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (host, next) = (&host, &next);
            scope.spawn(move || {
                loop {
                    let vm = next.fetch_add(1, Ordering::Relaxed);
                    let (name, network) =
                        (format!("vm-{vm}"), if vm.is_multiple_of(2) { "default" } else { "none" });
                    match thread % 2 {
                        _ if vm >= vms => return,
                        _ if vm % 50 == 25 => live_with_a_command(host, &name, "default"),
                        0 => live(bed, host, &name, network),
                        _ => live_by_commands(bed, &name, network),
                    }
                }
            });
        }
    });
    let (instances, damaged) = host.list().expect("the instances");
    assert!(instances.is_empty() && damaged.is_empty(), "{instances:?} {damaged:?}");
    until("all are reaped, and their descriptors closed", || zombies() == 0 && descriptors() <= before);
}

/// Threads of this process in which something waits aside.
fn waiting_threads() -> usize {
    let names = std::fs::read_dir("/proc/self/task").expect("threads").flatten();
    let names = names.filter_map(|thread| std::fs::read_to_string(thread.path().join("comm")).ok());
    names.filter(|name| name.starts_with("hypeman-aside")).count()
}

fn a_hundred_waiters_cost_no_thread_each() {
    let scratch = tempfile::tempdir().expect("a directory");
    let bed = Bed::new(scratch.path());
    let host = host(&bed);
    let vm = Guest::new(&bed, "waited-for").quiet().run();
    let runtime = new_runtime();
    let mut watches: Vec<_> = (0..100).map(|_| host.watch(&vm.name).expect("a watch")).collect();
    let seen = watches.iter_mut().map(hypeman_host::watch::Watch::next);
    let seen = runtime.block_on(futures_util::future::join_all(seen));
    assert!(seen.iter().all(|seen| seen.as_ref().is_ok_and(|seen| seen.state == State::Running)), "{seen:?}");
    until("nobody waits in a thread", || waiting_threads() == 0);
    let ends = async {
        let kill = async { host.kill(&vm.name, None).expect("kill") };
        let ends = watches.iter_mut().map(hypeman_host::watch::Watch::end);
        futures_util::future::join(futures_util::future::join_all(ends), kill).await.0
    };
    for end in runtime.block_on(ends) {
        assert_eq!(end.expect("an end").exit_code, 137);
    }
}

/// An example of the crate `host`, with its arguments.
fn example(name: &str, arguments: &[&str]) -> std::process::Command {
    let bed = bed();
    let program = bed.hypeman.with_file_name("examples").join(name);
    assert!(program.is_file(), "{} is not built: run `cargo build --examples`", program.display());
    let mut command = std::process::Command::new(program);
    command.args(arguments).env("HYPEMAN", &bed.hypeman).env("HYPEMAN_DATA_DIR", &bed.data_dir);
    command
}

/// The output of an example.
fn ran(name: &str, arguments: &[&str]) -> std::process::Output {
    example(name, arguments).output().expect("the example")
}

/// A process with the library in it leaves what a killed command leaves: a VM that runs, under its
/// shim.
fn a_killed_process_leaves_its_vm_running() {
    kernel();
    let mark = format!("sleep 1000 # {}", std::process::id());
    let started = example("run", &[busybox(), "sh", "-c", &mark]).spawn().expect("the example");
    let mut process = KilledOnDrop(started);
    let mark = mark.as_str();
    let running = || {
        let (instances, _) = host(bed()).list().expect("the instances");
        let is_ours = |instance: &Instance| {
            instance
                .record
                .command
                .as_ref()
                .is_some_and(|command| command.argv.iter().any(|word| word == mark))
        };
        let instance = instances.into_iter().find(is_ours)?;
        let seen = instance.observe().expect("observe");
        (seen.state == State::Running && seen.supervised).then_some(instance)
    };
    let instance = within(DEADLINE, running).expect("it runs");
    process.0.kill().expect("kill");
    process.0.wait().expect("wait");
    assert_eq!(running(), Some(instance.clone()), "it runs as before");
    host(bed()).remove(&instance.record.id, true).expect("remove");
}

fn the_examples_do_what_they_say() {
    kernel();
    let ended = ran("run", &[busybox(), "sh", "-c", "exit 5"]);
    assert!(String::from_utf8_lossy(&ended.stdout).trim().ends_with("(5)"), "{ended:?}");
    let script = "echo one; while [ ! -e /go ]; do sleep 1; done; echo two";
    let vm = Vm::run(bed(), "exampled", &[busybox(), "sh", "-c", script]);
    std::thread::scope(|scope| {
        let followed = scope.spawn(|| ran("follow", &[&vm.name]));
        let ended = ran("exec", &[&vm.name, "sh", "-c", "touch /go; echo out; echo err >&2; exit 3"]);
        assert_eq!(
            (ended.status.code(), &ended.stdout[..], &ended.stderr[..]),
            (Some(3), &b"out\n"[..], &b"err\n"[..])
        );
        assert_eq!(followed.join().expect("follow").stdout, b"one\ntwo\n");
    });
}

fn a_command_in_a_guest_by_the_library() {
    let host = host(bed());
    let vm = Vm::named(bed(), "by-library");
    let prepared = host.prepare(&idle(&vm.name, "none"), &hypeman_image::Quiet).expect("prepare");
    let (started, _) = host.run(&prepared).expect("run");
    let guest = host.guest(&started.instance);
    new_runtime().block_on(async {
        let ended = exec(&guest, "echo out; echo err >&2; exit 3").await;
        assert_eq!(ended, (b"out\n".to_vec(), b"err\n".to_vec(), Ended::Exited(3)));
        assert!(guest.stat("/bin", true).await.expect("stat").is_dir);
        let top = guest.top().await.expect("top").processes;
        assert!(top.iter().any(|process| process.command.contains("sleep")), "{top:?}");
    });
}

/// A request for a VM of an image, whose program ends when it is asked to.
fn idle(name: &str, network: &str) -> CreateRequest {
    CreateRequest {
        name: Some(name.to_owned()),
        image: Some(busybox().to_owned()),
        arguments: IDLE.map(str::to_owned).to_vec(),
        network: Some(network.to_owned()),
        settings: Settings { memory: 256 << 20, ..Settings::default() },
        ..CreateRequest::default()
    }
}

/// Runs a script in a guest; returns its output, its errors and how it ended.
async fn exec(guest: &hypeman_session::guest::Guest, script: &str) -> (Vec<u8>, Vec<u8>, Ended) {
    let argv = ["sh", "-c", script].map(str::to_owned).to_vec();
    let stream = guest.connect().await.expect("the agent");
    let (mut output, _input) = start(stream, Exec { argv, ..Exec::default() }).await.expect("exec");
    let (mut out, mut errors) = (Vec::new(), Vec::new());
    loop {
        match output.next().await.expect("an event") {
            Event::Output(bytes) => out.extend(bytes),
            Event::Errors(bytes) => errors.extend(bytes),
            Event::Ended(ended) => return (out, errors, ended),
        }
    }
}

fn new_runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}
