//! `hypeman-init`: process 1 of a guest, and its agent.
//!
//! Owns the guest's boot: the root filesystem, the network, the image's command or its init. It
//! prints nothing when all goes well, because the console belongs to the command.
//!
//! Must not know: anything of the host but its configuration disk and the agent's channel.

mod agent;
mod console;
mod disks;
mod exec;
mod identity;
mod loopback;
mod modprobe;
mod modules;
mod network;
mod output;
mod power;
mod process;
mod program;
mod report;
mod root;
mod sockets;
mod streams;
mod systemd;
mod user;

use std::time::Duration;

use hypeman_record::guest::config::{GuestConfig, IDLE, Mode};

use crate::disks::Disks;
use crate::report::Failure;

/// Time after which a guest that is only visited ends by itself: the client that wanted something
/// in it has gone.
const LONGEST_VISIT: Duration = Duration::from_secs(3600);

fn main() {
    // On a host it would mount over the root and switch the machine off.
    if std::process::id() != 1 {
        if let Some(task) = agent::requested(std::env::args().skip(1)) {
            return agent::carry_out(task);
        }
        if let Some(module) = modprobe::requested(std::env::args().skip(1)) {
            std::process::exit(i32::from(modprobe::load(&module).is_err()));
        }
        if std::env::args().nth(1).as_deref() == Some(IDLE[1]) {
            return std::thread::sleep(LONGEST_VISIT);
        }
        eprintln!("hypeman-init is PID 1 of a VM and nothing else; `hypeman run` starts it there");
        std::process::exit(125);
    }
    let mut status = None;
    if let Err(failure) = run(&mut status) {
        match &status {
            Some(status) => report::write(status, &failure.into_status()),
            // Without a disk to report on, the console is all there is.
            None => eprintln!("hypeman-init: {}", failure.message),
        }
    }
    power::off();
}

/// From the first instruction to the end of the command. `status` is set as soon as there is a disk
/// to report on.
fn run(status: &mut Option<std::fs::File>) -> Result<(), Failure> {
    root::mount_early()?;
    modules::load_all()?;
    let disks = Disks::find()?;
    let status = status.insert(disks.open_status()?);
    let config: GuestConfig = disks.read_config()?;
    root::enter(&disks, &config)?;
    loopback::bring_up();
    if let Some(network) = &config.network {
        network::bring_up(network, config.mode);
    }
    match config.mode {
        Mode::Exec => exec::run(&config, status),
        Mode::Systemd => systemd::hand_over(&config, status),
    }
}
