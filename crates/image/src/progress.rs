//! Progress of long work, to show or cancel it.

/// Stage of a pull.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Its layers are fetched.
    Pulling,
    /// Its disk is made.
    Converting,
}

/// Is told what is being done and how far it is.
pub trait Progress: Send + Sync {
    /// A piece of work begins; `total` is its size in bytes, when that is known.
    fn start(&self, what: &str, total: Option<u64>);
    /// A stage of a pull begins.
    fn stage(&self, _stage: Stage) {}
    /// So many bytes more are done.
    fn advance(&self, bytes: u64);
    /// Something that the user should know, and that is no obstacle.
    fn warn(&self, message: &str);
    /// Whether the work is to be broken off; it is asked many times a second. Nothing is left of it
    /// then.
    fn is_cancelled(&self) -> bool {
        false
    }
}

/// Shows nothing.
#[derive(Debug, Clone, Copy)]
pub struct Quiet;

impl Progress for Quiet {
    fn start(&self, _what: &str, _total: Option<u64>) {}
    fn advance(&self, _bytes: u64) {}
    fn warn(&self, _message: &str) {}
}
