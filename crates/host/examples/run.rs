//! Runs a VM and prints its exit code: `run IMAGE [ARG...]`. `HYPEMAN` names the `hypeman` binary,
//! which is also the shim.

use std::error::Error;
use std::path::PathBuf;

use hypeman_host::request::CreateRequest;
use hypeman_host::{Config, Host};
use hypeman_record::record::Settings;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let image = arguments.next().ok_or("usage: run IMAGE [ARG...]")?;
    let hypeman = std::env::var_os("HYPEMAN").map_or("/usr/local/bin/hypeman".into(), PathBuf::from);
    let host = Host::open(Config::of(hypeman, None)?)?;

    let request = CreateRequest {
        image: Some(image),
        arguments: arguments.collect(),
        settings: Settings { auto_remove: true, ..Settings::default() },
        ..CreateRequest::default() // docker's defaults
    };
    let prepared = host.prepare(&request, &hypeman_image::Quiet)?; // pulls the image if it is not here
    let (mut started, notes) = host.run(&prepared)?;
    notes.iter().for_each(|note| eprintln!("{note}"));

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let end = runtime.block_on(started.watch.end())?;
    println!("{} ended: {} ({})", started.instance.record.name, end.message, end.exit_code);
    Ok(())
}
