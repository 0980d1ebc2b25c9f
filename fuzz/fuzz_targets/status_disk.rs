//! Whatever a guest leaves on its status disk: no crash, and a report that can be told.
#![no_main]

use hypeman_record::{end, status};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Some(report) = status::parse(bytes) {
        let _ = end::reported(&report);
    }
});
