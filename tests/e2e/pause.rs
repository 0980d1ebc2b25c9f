//! A VM that someone has paused stands still until someone resumes or stops it.

use hypeman_tests::ch::on_each;
use hypeman_tests::console::assert_whole;
use hypeman_tests::fixtures::bed;
use hypeman_tests::guest::Guest;
use hypeman_tests::needs::{Need, QEMU};

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
    vm.prints();
    for _ in 0..2 {
        bed.ok(&["pause", name]); // the second time it is so already
        assert_eq!(vm.state(), "Paused");
    }
    vm.kill("shim");
    assert_eq!(vm.state(), "Paused", "whoever takes it over lets it stand");
    for _ in 0..2 {
        bed.ok(&["resume", name]);
        assert_eq!(vm.state(), "Running");
    }
    vm.prints();
    bed.ok(&["kill", name]);
    assert_whole(&vm.log(), &options);
    for verb in ["pause", "resume"] {
        bed.fails(&[verb, name], &[name, "Stopped", "hypeman start"]);
    }
}

fn a_paused_vm_goes_on_where_it_was_also_with_another_shim() {
    pause("paused", &[]);
}

fn a_paused_vm_on_cloud_hypervisor_goes_on_where_it_was() {
    on_each(|arguments| pause("paused-ch", arguments));
}

fn what_is_stopped_need_not_go_on_first() {
    let vm = Guest::new(bed(), "paused-stop").quiet().run();
    bed().ok(&["pause", "paused-stop"]);
    bed().ok(&["stop", "-t", "1", "paused-stop"]);
    assert_eq!(vm.state(), "Stopped");
}
