//! Health checks, as docker makes them (docs.docker.com/reference/dockerfile, HEALTHCHECK): from
//! time to time a command tells how the program is.

use std::rc::Rc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hypeman_agent::protocol::Exec;
use hypeman_record::guest::config::HealthCheck;
use hypeman_record::guest::health::{Health, HealthStatus, MAX_HEALTH_OUTPUT};
use rustix::process::Signal;
use tokio::time::{Instant, sleep, timeout};

use super::pipe::Printed;
use super::session::Session;
use super::{Agent, exec};

/// Exit code of a check that timed out.
const TIMED_OUT: i32 = 124;

/// Makes one check after the other.
pub(crate) async fn check(agent: Rc<Agent>, check: HealthCheck) {
    let begun = Instant::now();
    let start_period = Duration::from_millis(check.start_period_ms);
    let mut health = Health::default();
    loop {
        let is_starting = health.status == HealthStatus::Starting && begun.elapsed() < start_period;
        let pause = if is_starting { check.start_interval_ms } else { check.interval_ms };
        sleep(Duration::from_millis(pause)).await;
        let (code, output) = run(&agent, &check).await;
        let is_starting = health.status == HealthStatus::Starting && begun.elapsed() < start_period;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        health = after(health, code, is_starting, check.retries);
        health.checked_at_ms = u64::try_from(now).ok();
        health.output = output;
        agent.health.send_replace(Some(health.clone()));
    }
}

/// Updates the health by a check's exit code. While a program starts, failures do not count.
fn after(before: Health, code: i32, is_starting: bool, retries: u32) -> Health {
    let mut health = Health { exit_code: Some(code), ..before };
    if code == 0 {
        (health.status, health.failures) = (HealthStatus::Healthy, 0);
    } else if !is_starting {
        health.failures += 1;
        if health.failures >= retries {
            health.status = HealthStatus::Unhealthy;
        }
    }
    health
}

/// Makes a check: its exit code, and what it has printed.
async fn run(agent: &Agent, check: &HealthCheck) -> (i32, String) {
    let command = Exec { argv: check.argv.clone(), ..Exec::default() };
    let (session, ends) = match exec::start(agent, &command) {
        Ok(started) => started,
        Err(failure) => return (failure.code, failure.message),
    };
    let mut output = Vec::new();
    let code =
        match timeout(Duration::from_millis(check.timeout_ms), watch(&session, ends.printed, &mut output))
            .await
        {
            Ok(code) => code.unwrap_or(125),
            Err(_) => TIMED_OUT,
        };
    session.end(Signal::KILL).await;
    (code, String::from_utf8_lossy(&output).into_owned())
}

/// Waits for a check's end, and keeps the beginning of what it prints.
async fn watch(session: &Session, mut printed: Printed, output: &mut Vec<u8>) -> std::io::Result<i32> {
    let mut buffer = vec![0; MAX_HEALTH_OUTPUT];
    loop {
        tokio::select! {
            biased; // what was printed before its end is kept
            read = printed.next(&mut buffer) => {
                let room = MAX_HEALTH_OUTPUT - output.len();
                output.extend_from_slice(&buffer[..read?.1.min(room)]);
            }
            code = session.ended() => return code,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_checks_come_to_is_docker_s() {
        let check = |health, code, is_starting| after(health, code, is_starting, 3);
        let told = |health: &Health| (health.status, health.failures);
        let mut health = Health::default();
        for _ in 0..5 {
            health = check(health, 1, true);
        }
        assert_eq!(told(&health), (HealthStatus::Starting, 0), "while it starts none counts");
        for (failures, status) in
            [(1, HealthStatus::Starting), (2, HealthStatus::Starting), (3, HealthStatus::Unhealthy)]
        {
            health = check(health, 1, false);
            assert_eq!(told(&health), (status, failures));
        }
        health = check(health, 0, false);
        assert_eq!(told(&health), (HealthStatus::Healthy, 0));
        health = check(health, TIMED_OUT, false);
        assert_eq!(told(&health), (HealthStatus::Healthy, 1), "one failure is none");
    }
}
