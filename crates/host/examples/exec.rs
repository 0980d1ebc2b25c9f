//! Runs a command in a running instance: `exec NAME COMMAND [ARG...]`. `HYPEMAN` names the
//! `hypeman` binary.

use std::error::Error;
use std::io::Write;
use std::path::PathBuf;

use hypeman_agent::protocol::Exec;
use hypeman_host::{Config, Host};
use hypeman_session::exec::{Ended, Event, start};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let name = arguments.next().ok_or("usage: exec NAME COMMAND [ARG...]")?;
    let hypeman = std::env::var_os("HYPEMAN").map_or("/usr/local/bin/hypeman".into(), PathBuf::from);
    let host = Host::open(Config::of(hypeman, None)?)?;
    let guest = host.guest(&host.find(&name)?);

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let ended = runtime.block_on(async {
        let command = Exec { argv: arguments.collect(), ..Exec::default() };
        let (mut output, _input) = start(guest.connect().await?, command).await?;
        loop {
            match output.next().await? {
                Event::Output(bytes) => std::io::stdout().write_all(&bytes)?,
                Event::Errors(bytes) => std::io::stderr().write_all(&bytes)?,
                Event::Ended(ended) => return Ok::<_, Box<dyn Error>>(ended),
            }
        }
    })?;
    match ended {
        Ended::Exited(code) => std::process::exit(code),
        Ended::TimedOut => Err("it timed out".into()),
        Ended::Failed(failure) => Err(failure.message.into()),
    }
}
