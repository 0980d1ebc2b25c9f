//! Errors of the shim.

/// What ends a shim before its VM's time: the VM could not be started.
#[derive(Debug, thiserror::Error)]
#[error("{reason}")]
pub struct Error {
    /// What was being done, and why it failed.
    pub reason: String,
}

impl Error {
    pub(crate) fn new(reason: String) -> Error {
        Error { reason }
    }
}

/// Result of the shim.
pub type Result<T> = std::result::Result<T, Error>;

/// Any error before the guest runs is a failed start, with what was being done before the cause.
pub(crate) trait StartContext<T> {
    fn start(self, doing: &str) -> Result<T>;
}

impl<T, E: std::fmt::Display> StartContext<T> for std::result::Result<T, E> {
    fn start(self, doing: &str) -> Result<T> {
        self.map_err(|cause| Error::new(format!("{doing}: {cause}")))
    }
}
