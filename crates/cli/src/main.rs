//! The `hypeman` command.
fn main() {}
