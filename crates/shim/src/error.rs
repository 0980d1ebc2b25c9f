//! Errors of the shim.

/// What ends a shim before its VM's time.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The VM could not be started.
    #[error("{0}")]
    Start(String),
}

/// Result of the shim.
pub type Result<T> = std::result::Result<T, Error>;

/// Any error before the guest runs is a failed start, with what was being done before the cause.
pub(crate) trait StartContext<T> {
    fn start(self, doing: &str) -> Result<T>;
}

impl<T, E: std::fmt::Display> StartContext<T> for std::result::Result<T, E> {
    fn start(self, doing: &str) -> Result<T> {
        self.map_err(|cause| Error::Start(format!("{doing}: {cause}")))
    }
}
