//! The protocol between the host and the agent in a guest, and its transport.
//!
//! Owns the link over a channel that may break off at any byte ([`link::Link`]), the streams on it
//! ([`mux`]) and the messages on a stream ([`frames`], [`protocol`]). Each end bounds what the
//! other makes it keep: the guest is hostile. The shim has the host's end and only joins streams to
//! clients; clients speak [`protocol`].
//!
//! Must not know: instances, VMMs, files of the host.

pub mod data;
pub mod frames;
#[cfg(feature = "fuzz")]
pub mod fuzz;
pub mod link;
pub mod mux;
pub mod names;
pub mod protocol;

/// Maximum length of what an agent says that is kept or shown, in characters.
const BRIEF: usize = 1000;

/// Words of an agent, on one line and cut: the guest's root may say anything in its place, as often
/// as it likes.
#[must_use]
pub fn brief(text: &str) -> String {
    let mut brief: String = text.chars().take(BRIEF).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if brief.len() < text.len() && text.chars().nth(BRIEF).is_some() {
        brief.push_str(" ...");
    }
    brief
}

/// The port on which the agent listens on vsock, where the channel is one.
pub const VSOCK_PORT: u32 = 1024;

/// Name of the virtio-serial port that is the channel elsewhere.
pub const PORT_NAME: &str = "hypeman.agent";

#[cfg(test)]
mod tests {
    use super::brief;

    #[test]
    fn what_an_agent_says_is_short_and_on_one_line() {
        assert_eq!(brief("no such file"), "no such file");
        assert_eq!(brief("one\nhypeman: error: two\u{9b}31m"), "one hypeman: error: two 31m");
        let long = brief(&"\u{1b}x".repeat(1 << 20));
        assert!(long.chars().count() < 1010 && long.ends_with("..."), "{}", long.len());
    }
}
