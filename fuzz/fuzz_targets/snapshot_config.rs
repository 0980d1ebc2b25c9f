//! Whatever a snapshot's config.json holds: no crash; and what comes out can be read, and is done.
#![no_main]

use hypeman_vmm::cloud_hypervisor::snapshot::{Fork, Net, forked, restored};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &[u8]| {
    if let Ok(Some(changed)) = restored(text, "serial.sock") {
        assert!(serde_json::from_slice::<serde::de::IgnoredAny>(&changed).is_ok());
        assert_eq!(restored(&changed, "serial.sock"), Ok(None));
    }
    let fork = Fork {
        moves: vec![("/a/vm1".into(), "/b/vm2".into())],
        vsock: Some("vsock.sock".into()),
        nets: vec![Net { tap: Some("tap7".into()), ..Net::default() }],
    };
    if let Ok(Some(changed)) = forked(text, "serial.sock", &fork) {
        assert_eq!(forked(&changed, "serial.sock", &fork), Ok(None));
    }
});
