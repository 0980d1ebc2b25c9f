//! How a shim comes to its VM.

/// How a shim comes to its VM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// It starts it.
    Start,
    /// It lets it go on from its snapshot.
    Restore,
    /// It runs already, and its shim has ended.
    Adopt,
    /// It runs already, and its shim has handed it over.
    Upgrade,
}
