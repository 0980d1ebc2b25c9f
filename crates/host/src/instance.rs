//! An instance on disk.

use std::path::PathBuf;

use hypeman_files::Lock;
use hypeman_record::protocol::{Request, Response};
use hypeman_record::record::Record;
use hypeman_record::state::State;
use hypeman_record::{format, names};
use hypeman_session::client::{Client, Outcome};

use crate::error::{Error, Needs, Result};

/// An instance on disk.
#[derive(Debug, Clone, PartialEq)]
pub struct Instance {
    /// The user's settings.
    pub record: Record,
    /// Absolute path of its directory.
    pub directory: PathBuf,
}

impl Instance {
    /// Makes the error that its state forbids a request.
    #[must_use]
    pub fn refused(&self, state: State, needs: Needs) -> Error {
        Error::State { name: self.record.name.clone(), state, needs }
    }

    /// Connects to its shim.
    pub(crate) fn client(&self) -> Result<Client> {
        Ok(Client::connect(&self.record.name, &self.directory)?)
    }

    /// Asks its shim for something.
    pub(crate) fn ask(&self, request: &Request) -> Result<Response> {
        Ok(self.client()?.ask(request)?)
    }

    /// Asks its shim for the end of its VM.
    pub(crate) fn ask_for_end(&self, request: &Request) -> Result<Outcome> {
        Ok(self.client()?.ask_for_end(request)?)
    }

    /// Reads its record again. Under its lock the record stays so.
    ///
    /// # Errors
    /// [`Error::NotFound`] when it has been removed meanwhile, or the error of its record.
    pub fn read_again(&self) -> Result<Instance> {
        let record = format::read(&self.directory.join(names::RECORD))?;
        let record = record.ok_or_else(|| Error::NotFound(self.record.name.clone()))?;
        Ok(Instance { record, directory: self.directory.clone() })
    }

    /// Waits for the instance's lock, for a change.
    ///
    /// # Errors
    /// [`Error::NotFound`] when it has been removed meanwhile.
    pub fn lock(&self) -> Result<Lock> {
        let gone = || Error::NotFound(self.record.name.clone());
        let lock = match Lock::acquire(&self.directory.join(names::LOCK)) {
            Err(error) if error.is_not_found() => return Err(gone()),
            other => other?,
        };
        // The holder of the lock before us may have removed the instance.
        if self.directory.join(names::RECORD).exists() { Ok(lock) } else { Err(gone()) }
    }
}
