//! A VM that someone has paused stands still until someone resumes or stops it.

use hypeman_tests::ch::programs;
use hypeman_tests::console::whole;
use hypeman_tests::fixtures::bed;
use hypeman_tests::guest::Guest;
use hypeman_tests::needs::{Need, QEMU};
use testguest::check::Sequence;

use crate::console::wait_for_growth;
use crate::promises;

promises! {
    [QEMU]
        a_paused_vm_goes_on_where_it_was_also_with_another_shim,
        what_is_stopped_need_not_go_on_first;
    [Need::CloudHypervisor] a_paused_vm_on_cloud_hypervisor_goes_on_where_it_was;
}

fn pause(name: &str, arguments: &[&str]) {
    let bed = bed();
    let guest = Guest::new(bed, name).with(arguments);
    let options = guest.options();
    let vm = guest.run();
    let log = vm.directory().join("logs/app.log");
    wait_for_growth(&log, 1000);
    for _ in 0..2 {
        bed.ok(&["pause", name]); // the second time it is so already
        assert_eq!(bed.inspect(name)["state"], "Paused");
    }
    vm.kill("shim");
    assert_eq!(bed.inspect(name)["state"], "Paused", "whoever takes it over lets it stand");
    for _ in 0..2 {
        bed.ok(&["resume", name]);
        assert_eq!(bed.inspect(name)["state"], "Running");
    }
    wait_for_growth(&log, whole(&log).len() as u64 + 1000);
    bed.ok(&["kill", name]);
    let lines = Sequence::new(&options).check(&whole(&log)).unwrap_or_else(|broken| panic!("{broken:?}"));
    assert_eq!(lines.start, 0);
    for verb in ["pause", "resume"] {
        bed.fails(&[verb, name], &[name, "Stopped", "hypeman start"]);
    }
}

fn a_paused_vm_goes_on_where_it_was_also_with_another_shim() {
    pause("paused", &[]);
}

fn a_paused_vm_on_cloud_hypervisor_goes_on_where_it_was() {
    for program in programs() {
        pause("paused-ch", &["--hypervisor", "cloud-hypervisor", "--cloud-hypervisor", program]);
    }
}

fn what_is_stopped_need_not_go_on_first() {
    let vm = Guest::new(bed(), "paused-stop").quiet().run();
    bed().ok(&["pause", "paused-stop"]);
    bed().ok(&["stop", "-t", "1", "paused-stop"]);
    assert_eq!(bed().inspect(&vm.name)["state"], "Stopped");
}
