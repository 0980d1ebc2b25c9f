//! The promises of hypeman, each kept on real VMs. Run one with `cargo test -p hypeman-tests --
//! NAME`.

mod accelerator;
mod actions;
mod adoption;
mod api;
mod api_hostile;
mod api_killed;
mod api_load;
mod archives;
mod attach;
mod cloud_hypervisor;
mod compression;
mod confinement;
mod console;
mod copies;
mod errors;
mod exec;
mod faults;
mod fork;
mod health;
mod images;
mod leases;
mod lifecycle;
mod logs;
mod many;
mod neighbours;
mod network;
mod package;
mod pause;
mod ports;
mod program;
mod reboots;
mod scripts;
mod service;
mod silence;
mod snapshots;
mod standby;
mod surroundings;
mod systemd;
mod telemetry;
mod threads;
mod tour;
mod truth;

use hypeman_tests::needs::Need;
use libtest_mimic::{Arguments, Trial};

/// A test. It fails by panicking.
pub(crate) struct Test {
    /// Its module and function.
    name: &'static str,
    /// Its requirements on the machine.
    needs: &'static [Need],
    /// Its function.
    run: fn(),
}

/// Registers the tests of a module: what they need, and their functions. Each is written once, and
/// one that is not registered is dead code to the compiler.
macro_rules! promises {
    ($([$($need:expr),*] $($name:ident),+ $(,)?;)+) => {
        pub(crate) fn tests() -> Vec<$crate::Test> {
            let mut tests = Vec::new();
            $({
                const NEEDS: &[hypeman_tests::needs::Need] = &[$($need),*];
                tests.extend([$($crate::Test {
                    name: concat!(module_path!(), "::", stringify!($name)),
                    needs: NEEDS,
                    run: $name,
                }),+]);
            })+
            tests
        }
    };
}
pub(crate) use promises;

fn main() {
    let arguments = Arguments::from_args();
    let suites = [
        accelerator::tests,
        actions::tests,
        adoption::tests,
        api::tests,
        api_hostile::tests,
        api_killed::tests,
        api_load::tests,
        archives::tests,
        attach::tests,
        cloud_hypervisor::tests,
        confinement::tests,
        compression::tests,
        console::tests,
        copies::tests,
        errors::tests,
        exec::tests,
        faults::tests,
        fork::tests,
        health::tests,
        images::tests,
        leases::tests,
        lifecycle::tests,
        logs::tests,
        many::tests,
        neighbours::tests,
        network::tests,
        package::tests,
        pause::tests,
        ports::tests,
        program::tests,
        reboots::tests,
        scripts::tests,
        service::tests,
        silence::tests,
        snapshots::tests,
        standby::tests,
        surroundings::tests,
        systemd::tests,
        telemetry::tests,
        threads::tests,
        tour::tests,
        truth::tests,
    ];
    let trials = suites.into_iter().flat_map(|tests| tests()).map(|test| trial(&test, arguments.list));
    libtest_mimic::run(&arguments, trials.collect()).exit();
}

/// A test whose needs this machine does not meet is counted as ignored, and says why.
fn trial(test: &Test, listing: bool) -> Trial {
    let name = test.name.trim_start_matches("e2e::");
    let lacking: Vec<String> = test.needs.iter().filter_map(|need| need.lacking()).collect();
    if !lacking.is_empty() && !listing {
        eprintln!("SKIPPED {name}: {}", lacking.join("; "));
    }
    let run = test.run;
    Trial::test(name, move || {
        run();
        Ok(())
    })
    .with_ignored_flag(!lacking.is_empty())
}
