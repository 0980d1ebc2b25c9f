//! The agent's end of the channel, whatever a host says.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| hypeman_agent::fuzz::from_host(bytes));
