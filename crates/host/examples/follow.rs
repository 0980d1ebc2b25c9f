//! Follows the console of an instance until its VM ends: `follow NAME`. `HYPEMAN` names the
//! `hypeman` binary.

use std::error::Error;
use std::io::Write;
use std::path::PathBuf;

use hypeman_console::reader::Start;
use hypeman_host::{Config, Host};
use hypeman_session::follow::Follower;

fn main() -> Result<(), Box<dyn Error>> {
    let name = std::env::args().nth(1).ok_or("usage: follow NAME")?;
    let hypeman = std::env::var_os("HYPEMAN").map_or("/usr/local/bin/hypeman".into(), PathBuf::from);
    let host = Host::open(Config::of(hypeman, None)?)?;
    let instance = host.find(&name)?;
    let mut watch = host.watch(&name)?;

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        // All that the guest has printed is on disk when `end` tells that it has ended.
        let ended = async move { watch.end().await };
        let mut log = Follower::open(&instance.logs().app, Start::default(), ended)?;
        let mut chunk = vec![0; 64 * 1024];
        loop {
            match log.reader.read(&mut chunk)? {
                0 if !log.more().await? => return Ok(()),
                0 => {}
                count => std::io::stdout().write_all(&chunk[..count])?,
            }
        }
    })
}
