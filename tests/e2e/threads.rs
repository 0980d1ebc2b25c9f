//! The library in a process that lives on and has many threads, such as a server.

use hypeman_instance::spawn::{Programs, Started};
use hypeman_instance::store::Store;
use hypeman_instance::{delete, standby, start, stop};
use hypeman_tests::bed::Bed;
use hypeman_tests::guest::Guest;
use hypeman_tests::needs::QEMU;
use hypeman_tests::vm::Instance;
use hypeman_tests::wait::until;

use crate::promises;

promises! {
    [QEMU] threads_that_run_vms_leave_no_zombie_and_no_descriptor;
}

/// Threads of this process.
const THREADS: usize = 8;

/// VMs of each thread, one after the other.
const VMS: usize = 2;

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

/// Starts a VM, puts it to standby, lets it go on, ends and removes it, beside a command that renames it.
fn live(bed: &Bed, store: &Store, programs: &Programs, name: &str) {
    let vm = Guest::new(bed, name).quiet().create();
    let instance = store.find(name).expect("an instance");
    assert!(matches!(start::start(store, &instance, programs), Ok(Started::Now(_))), "{name} starts");
    standby::standby(&instance, &programs.hypeman).expect("standby");
    let new = format!("{name}-renamed");
    bed.ok(&["rename", name, &new]);
    // What was read before the change of the record is not believed.
    assert!(matches!(standby::restore(store, &instance, programs), Ok(Started::Now(_))), "{name} goes on");
    let launch = std::fs::read_to_string(instance.directory.join("launch.json")).expect("an order");
    assert!(launch.contains(&new), "{launch}");
    stop::kill(&instance).expect("kill");
    delete::remove(&instance, true).expect("remove");
    drop(vm);
    drop(Instance::named(bed, &new));
}

fn threads_that_run_vms_leave_no_zombie_and_no_descriptor() {
    let scratch = tempfile::tempdir().expect("a directory");
    let bed = Bed::new(scratch.path());
    let programs =
        Programs { hypeman: bed.hypeman.clone(), init: bed.hypeman.with_file_name("hypeman-init") };
    let store = Store::new(scratch.path());
    live(&bed, &store, &programs, "first"); // which starts what stays: the thread that reaps
    until("the first is reaped", || zombies() == 0);
    let before = descriptors();
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (bed, store, programs) = (&bed, &store, &programs);
            scope.spawn(move || {
                for round in 0..VMS {
                    live(bed, store, programs, &format!("vm-{thread}-{round}"));
                }
            });
        }
    });
    assert_eq!(store.list().expect("the instances").0, [], "none is left");
    until("all are reaped", || zombies() == 0 && descriptors() <= before);
}
