//! Sizes as docker reads and shows them.

pub(crate) use hypeman_host::size::parse;

/// A size for people, to three digits.
pub(crate) fn show(bytes: u64) -> String {
    indicatif::BinaryBytes(bytes).to_string()
}
