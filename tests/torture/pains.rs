//! Faults of a console. Commands may fail here: the disk may be full, and somebody else may have
//! been quicker. Only the bytes count.

use std::io::Write;
use std::process::Stdio;
use std::time::Duration;

use fastrand::Rng;
use hypeman_tests::processes::KilledOnDrop;
use rustix::process::{Signal, kill_process};

use crate::victim::Victim;

/// Something that may befall a console.
pub(crate) struct Pain {
    pub(crate) name: &'static str,
    pub(crate) inflict: fn(&Victim, &mut Rng),
}

const PAINS: &[Pain] = &[
    Pain { name: "a shim killed", inflict: kill_shim },
    Pain { name: "a command killed", inflict: kill_command },
    Pain { name: "a follower killed", inflict: kill_follower },
    Pain { name: "a follower that stalls", inflict: stall_follower },
    Pain { name: "someone who types", inflict: attach },
    Pain { name: "copytruncate", inflict: copytruncate },
    Pain { name: "a log renamed", inflict: rename },
    Pain { name: "sleep", inflict: sleep },
    Pain { name: "a pause", inflict: pause },
    Pain { name: "another shim", inflict: upgrade },
];

/// One of them.
pub(crate) fn any(rng: &mut Rng) -> &'static Pain {
    &PAINS[rng.usize(..PAINS.len())]
}

/// Waits for up to so many milliseconds.
fn wait(rng: &mut Rng, most: u64) {
    std::thread::sleep(Duration::from_micros(rng.u64(..most * 1000)));
}

/// Starts a command, to be killed.
fn start(victim: &Victim, arguments: &[&str], stdout: Stdio) -> KilledOnDrop {
    let mut command = victim.vm.bed.command(arguments);
    let command = command.stdin(Stdio::piped()).stdout(stdout).stderr(Stdio::null());
    KilledOnDrop(command.spawn().expect("hypeman"))
}

fn kill_shim(victim: &Victim, rng: &mut Rng) {
    if let Some(shim) = victim.shim() {
        let _ = kill_process(shim, Signal::KILL);
    }
    wait(rng, 300);
    let adopting: [&[&str]; 3] = [&["ps"], &["adopt", &victim.vm.name], &["inspect", &victim.vm.name]];
    let _ = victim.vm.bed.run(adopting[rng.usize(..adopting.len())]);
}

fn kill_command(victim: &Victim, rng: &mut Rng) {
    let verbs = ["standby", "restore", "pause", "resume", "adopt", "upgrade-shims", "logs", "inspect"];
    let _command = start(victim, &[verbs[rng.usize(..verbs.len())], &victim.vm.name], Stdio::null());
    wait(rng, 80);
}

fn kill_follower(victim: &Victim, rng: &mut Rng) {
    let _follower = start(victim, &["logs", "-f", "--timestamps", &victim.vm.name], Stdio::null());
    wait(rng, 300);
}

fn stall_follower(victim: &Victim, rng: &mut Rng) {
    let _follower = start(victim, &["logs", "-f", &victim.vm.name], Stdio::piped());
    wait(rng, 1000);
}

fn attach(victim: &Victim, rng: &mut Rng) {
    let mut typist = start(victim, &["attach", &victim.vm.name], Stdio::null());
    let text = "x".repeat(rng.usize(1..200));
    let _ = typist.0.stdin.as_mut().expect("piped").write_all(text.as_bytes());
    wait(rng, 300);
}

fn copytruncate(victim: &Victim, _: &mut Rng) {
    if victim.log_is_amid() {
        victim.logrotate.run();
    }
}

fn rename(victim: &Victim, _: &mut Rng) {
    if victim.log_is_amid() {
        let _ = std::fs::rename(&victim.log, victim.next_place_aside());
    }
}

fn sleep(victim: &Victim, rng: &mut Rng) {
    let _ = victim.vm.bed.run(&["standby", &victim.vm.name]);
    wait(rng, 100);
    let _ = victim.vm.bed.run(&["restore", &victim.vm.name]);
}

fn pause(victim: &Victim, rng: &mut Rng) {
    let _ = victim.vm.bed.run(&["pause", &victim.vm.name]);
    wait(rng, 100);
    let _ = victim.vm.bed.run(&["resume", &victim.vm.name]);
}

fn upgrade(victim: &Victim, _: &mut Rng) {
    let _ = victim.vm.bed.run(&["upgrade-shims", &victim.vm.name]);
}
