//! The shim's own stream: its orders, and what it is told.

use std::io::Result;
use std::rc::Rc;
use std::time::Duration;

use hypeman_agent::frames;
use hypeman_agent::mux::Stream;
use hypeman_agent::protocol::{Order, Report};
use tokio::sync::mpsc;
use tokio::task::spawn_local;

use super::Agent;
use super::sleep::{self, Frozen};
use crate::process;

/// The init system of the image, where it is process 1.
const INIT: i32 = 1;

const SIGTERM: i32 = 15;

/// By which systemd is asked to power off (systemd(1), `SIGRTMIN+4`).
const SYSTEMD_POWER_OFF: i32 = 34 + 4;

/// Time after which the agent thaws without a message of the host.
const STANDING_STILL: Duration = Duration::from_secs(5);

/// Carries out one order after the other, and tells how the program is.
pub(crate) async fn converse(agent: Rc<Agent>, stream: Stream) -> Result<()> {
    let (mut reader, mut writer) = tokio::io::split(stream);
    let release = env!("CARGO_PKG_VERSION").to_owned();
    frames::write_message(&mut writer, &Report::Hello { release }).await?;
    let mut health = agent.health.subscribe();
    health.mark_changed();
    // One frame after the other, each to its end: none may be torn.
    let (order, mut orders) = mpsc::channel(1);
    let listen = async {
        loop {
            let _ = order.send(frames::read_message::<Order>(&mut reader).await?).await; // `act` is there as long as we are
        }
    };
    let act = async {
        loop {
            let report = tokio::select! {
                Some(order) = orders.recv() => match carry_out(&agent, order).await {
                    Ok(()) => Report::Done,
                    Err(error) => Report::Failed { message: error.to_string() },
                },
                Ok(()) = health.changed() => match health.borrow_and_update().clone() {
                    Some(health) => Report::Health(health),
                    None => continue,
                },
            };
            frames::write_message(&mut writer, &report).await?;
        }
    };
    tokio::select! {
        ended = listen => ended,
        ended = act => ended,
    }
}

async fn carry_out(agent: &Rc<Agent>, order: Order) -> Result<()> {
    match order {
        Order::Signal { signal } => process::send(agent.setting.program.unwrap_or(INIT), signal),
        Order::Stop => stop(agent),
        Order::Freeze => {
            let Some(frozen) = Frozen::freeze().await else { return Ok(()) };
            let watched = agent.clone();
            // Should the host have gone, or have changed its mind.
            let guard = spawn_local(async move {
                tokio::time::sleep(STANDING_STILL).await;
                thaw(&watched);
            });
            if let Some((_, last)) = agent.frozen.replace(Some((frozen, guard))) {
                last.abort();
            }
            Ok(())
        }
        Order::Thaw { slept } => {
            let woken = match &slept {
                Some(slept) => sleep::wake(slept).await,
                None => Ok(()),
            };
            thaw(agent);
            woken
        }
    }
}

fn thaw(agent: &Agent) {
    if let Some((frozen, guard)) = agent.frozen.take() {
        frozen.thaw();
        guard.abort(); // it may be the one that has called
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
            None => Err(std::io::Error::other("there is no known way to ask this init to power off")),
        },
    }
}
