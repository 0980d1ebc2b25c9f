//! States are told from the truth.

use hypeman_tests::console::whole;
use hypeman_tests::fixtures::{bed, testguest};
use hypeman_tests::needs::QEMU;
use hypeman_tests::vm::Instance;
use testguest::Options;

use crate::Test;

pub(crate) const TESTS: &[Test] = &[
    ("truth::a_vmm_killed_from_outside", &[QEMU], a_vmm_killed_from_outside),
    ("truth::a_shim_killed_leaves_its_vm_running", &[QEMU], a_shim_killed_leaves_its_vm_running),
    ("truth::a_guest_that_resets_itself", &[QEMU], a_guest_that_resets_itself),
];

fn endless(name: &str) -> Instance<'static> {
    let cmdline = Options { count: 0, ..Options::default() }.to_string();
    Instance::run(bed(), name, &["--kernel", testguest(), "--memory", "32m", "--cmdline", &cmdline])
}

fn a_vmm_killed_from_outside() {
    let vm = endless("vmm-killed");
    vm.kill("vmm");
    assert_eq!(vm.wait(), 137);
    let inspected = bed().inspect("vmm-killed");
    assert_eq!(inspected["state"], "Stopped");
    assert!(inspected["end"]["message"].as_str().expect("a message").contains("signal 9"), "{inspected}");
}

fn a_shim_killed_leaves_its_vm_running() {
    let vm = endless("shim-killed");
    vm.kill("shim");
    while bed().inspect("shim-killed")["supervised"] == true {
        std::thread::yield_now();
    }
    let inspected = bed().inspect("shim-killed");
    assert_eq!(inspected["state"], "Running", "{inspected}");
    vm.kill("vmm");
    while bed().inspect("shim-killed")["state"] == "Running" {
        std::thread::yield_now();
    }
    let inspected = bed().inspect("shim-killed");
    assert_eq!((&inspected["state"], &inspected["end"]["reason"]), (&"Stopped".into(), &"vanished".into()));
    assert!(!whole(&vm.directory().join("logs/app.log")).contains(&0));
}

fn a_guest_that_resets_itself() {
    let cmdline = Options { count: 10, finish: testguest::Finish::Reset, ..Options::default() }.to_string();
    let vm =
        Instance::run(bed(), "resets", &["--kernel", testguest(), "--memory", "32m", "--cmdline", &cmdline]);
    assert_eq!(vm.wait(), 125);
    assert_eq!(bed().inspect("resets")["end"]["reason"], "guest-reset");
}
