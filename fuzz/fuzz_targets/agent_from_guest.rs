//! The host's end of the channel to the agent, whatever a guest says.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| hypeman_agent::fuzz::from_guest(bytes));
