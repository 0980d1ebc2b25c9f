//! What may befall a console. Commands may fail here: the disk may be full, and somebody else may have been quicker. Only the bytes
//! count.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use fastrand::Rng;
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

fn start(victim: &Victim, arguments: &[&str], stdout: Stdio) -> Child {
    let mut command: Command = victim.vm.bed.command(arguments);
    command.stdin(Stdio::piped()).stdout(stdout).stderr(Stdio::null()).spawn().expect("hypeman")
}

fn end(mut child: Child) {
    let _ = child.kill();
    let _ = child.wait();
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
    let command = start(victim, &[verbs[rng.usize(..verbs.len())], &victim.vm.name], Stdio::null());
    wait(rng, 80);
    end(command);
}

fn kill_follower(victim: &Victim, rng: &mut Rng) {
    let follower = start(victim, &["logs", "-f", "--timestamps", &victim.vm.name], Stdio::null());
    wait(rng, 300);
    end(follower);
}

fn stall_follower(victim: &Victim, rng: &mut Rng) {
    let follower = start(victim, &["logs", "-f", &victim.vm.name], Stdio::piped());
    wait(rng, 1000);
    end(follower);
}

fn attach(victim: &Victim, rng: &mut Rng) {
    use std::io::Write;
    let mut typist = start(victim, &["attach", &victim.vm.name], Stdio::null());
    let text = "x".repeat(rng.usize(1..200));
    let _ = typist.stdin.as_mut().expect("piped").write_all(text.as_bytes());
    wait(rng, 300);
    end(typist);
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
