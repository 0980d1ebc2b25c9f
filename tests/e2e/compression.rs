//! A memory that is compressed aside is as usable at each moment as before.

use hypeman_tests::ch::on_each;
use hypeman_tests::console::assert_whole;
use hypeman_tests::fixtures::bed;
use hypeman_tests::guest::Guest;
use hypeman_tests::needs::{Need, QEMU};
use hypeman_tests::vm::Instance;
use hypeman_tests::wait::until;

use crate::promises;

promises! {
    [QEMU]
        a_compressed_memory_is_smaller_and_the_same,
        a_restore_that_comes_early_does_not_race,
        a_compressed_snapshot_is_forked;
    [Need::CloudHypervisor] a_compressed_memory_on_cloud_hypervisor_is_the_same;
}

fn sleep(name: &str, arguments: &[&str]) {
    let bed = bed();
    let guest = Guest::new(bed, name).with(arguments);
    let options = guest.options();
    let vm = guest.run();
    for algorithm in ["zstd", "lz4"] {
        vm.prints();
        bed.ok(&["standby", "--compress", algorithm, name]);
        let memory = || bed.inspect(name)["snapshot"].clone();
        // A small memory stays as it is, as the double's.
        until("it is compressed", || memory()["compression_state"] != "compressing");
        if memory()["uncompressed_size_bytes"].as_u64().expect("a size") > 1 << 20 {
            until("it is compressed", || memory()["compression_state"] == "compressed");
            let size = |of: &str| memory()[of].as_u64().expect("a size");
            assert!(size("compressed_size_bytes") < size("uncompressed_size_bytes"));
            assert_eq!(memory()["compression"], algorithm);
        }
        bed.ok(&["restore", name]);
        assert!(memory().is_null());
    }
    vm.prints();
    bed.ok(&["kill", name]);
    assert_whole(&vm.log(), &options);
}

fn a_compressed_memory_is_smaller_and_the_same() {
    sleep("squeezed", &[]);
}

fn a_compressed_memory_on_cloud_hypervisor_is_the_same() {
    on_each(|arguments| sleep("squeezed-ch", arguments));
}

fn a_restore_that_comes_early_does_not_race() {
    let name = "squeezed-early";
    let guest = Guest::new(bed(), name);
    let options = guest.options();
    let vm = guest.run();
    for round in 0..20 {
        vm.prints();
        bed().ok(&["standby", "--compress", if round % 2 == 0 { "zstd" } else { "lz4" }, name]);
        std::thread::sleep(std::time::Duration::from_millis(round % 5 * 3));
        bed().ok(&["restore", name]);
    }
    vm.prints();
    bed().ok(&["kill", name]);
    assert_whole(&vm.log(), &options);
}

fn a_compressed_snapshot_is_forked() {
    let name = "squeezed-kept";
    let vm = Guest::new(bed(), name).run();
    vm.prints();
    let id = bed().ok(&["snapshot", "create", "--compress", "zstd", name]);
    for state in ["standby", "running"] {
        let new = format!("{name}-{state}");
        bed().ok(&["snapshot", "fork", "--state", state, &id, &new]);
        let fork = Instance::named(bed(), &new);
        if state == "standby" {
            bed().ok(&["restore", &fork.name]);
        }
        fork.prints();
    }
    let seen: serde_json::Value =
        serde_json::from_str(&bed().ok(&["snapshot", "inspect", &id])).expect("JSON");
    assert_eq!(seen[0]["memory"]["compression_state"], "compressed");
    assert!(bed().ok(&["snapshot", "ls"]).contains(" of "));
    bed().ok(&["snapshot", "rm", &id]);
}
