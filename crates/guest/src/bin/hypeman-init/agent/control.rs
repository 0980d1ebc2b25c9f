//! The shim's own stream: its orders, and what it is told.

use std::io::Result;

use hypeman_agent::frames;
use hypeman_agent::mux::Stream;
use hypeman_agent::protocol::{Order, Report};

use super::Agent;
use crate::process;

/// The init system of the image, where it is process 1.
const INIT: i32 = 1;

const SIGTERM: i32 = 15;

/// By which systemd is asked to power off (systemd(1), `SIGRTMIN+4`).
const SYSTEMD_POWER_OFF: i32 = 34 + 4;

/// Carries out one order after the other.
pub(crate) async fn converse(agent: &Agent, mut stream: Stream) -> Result<()> {
    let release = env!("CARGO_PKG_VERSION").to_owned();
    frames::write_message(&mut stream, &Report::Hello { release }).await?;
    loop {
        let order = frames::read_message(&mut stream).await?;
        let report = match carry_out(agent, order).await {
            Ok(()) => Report::Done,
            Err(error) => Report::Failed { message: error.to_string() },
        };
        frames::write_message(&mut stream, &report).await?;
    }
}

async fn carry_out(agent: &Agent, order: Order) -> Result<()> {
    match order {
        Order::Signal { signal } => process::send(agent.setting.program.unwrap_or(INIT), signal),
        Order::Stop => stop(agent),
        Order::Freeze => Ok(()),
        Order::Thaw { slept: _ } => Ok(()),
    }
}

/// Asks the program to end as its image wants to be asked, or a system to power off.
fn stop(agent: &Agent) -> Result<()> {
    let signal = agent.setting.config.stop_signal;
    match agent.setting.program {
        Some(program) => process::send(program, signal.unwrap_or(SIGTERM)),
        // As sd_booted(3) tells.
        None if std::path::Path::new("/run/systemd/system").is_dir() => {
            process::send(INIT, SYSTEMD_POWER_OFF)
        }
        None => match signal {
            Some(signal) => process::send(INIT, signal),
            None => Err(std::io::Error::other("nobody knows how this init is asked to power off")),
        },
    }
}
