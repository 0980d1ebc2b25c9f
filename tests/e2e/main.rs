//! The promises of hypeman, each kept on real VMs. Run one with `cargo test -p hypeman-tests -- NAME`.

mod accelerator;
mod cloud_hypervisor;
mod console;
mod errors;
mod images;
mod lifecycle;
mod logs;
mod many;
mod program;
mod silence;
mod surroundings;
mod systemd;
mod truth;

use hypeman_tests::needs::Need;
use libtest_mimic::{Arguments, Trial};

/// A test: what it needs, and what it does. It fails by panicking.
type Test = (&'static str, &'static [Need], fn());

fn main() {
    let arguments = Arguments::from_args();
    let suites: [&[Test]; 13] = [
        accelerator::TESTS,
        cloud_hypervisor::TESTS,
        console::TESTS,
        errors::TESTS,
        images::TESTS,
        lifecycle::TESTS,
        logs::TESTS,
        many::TESTS,
        program::TESTS,
        silence::TESTS,
        surroundings::TESTS,
        systemd::TESTS,
        truth::TESTS,
    ];
    let trials = suites.into_iter().flatten().map(|&test| trial(test, arguments.list)).collect();
    libtest_mimic::run(&arguments, trials).exit();
}

/// A test whose needs this machine does not meet is counted as ignored, and says why.
fn trial((name, needs, run): Test, listing: bool) -> Trial {
    let lacking: Vec<String> = needs.iter().filter_map(|need| need.lacking()).collect();
    if !lacking.is_empty() && !listing {
        eprintln!("SKIPPED {name}: {}", lacking.join("; "));
    }
    Trial::test(name, move || {
        run();
        Ok(())
    })
    .with_ignored_flag(!lacking.is_empty())
}
