//! The control port of init: signals for the program in the guest, and what it has missed in its sleep.

use std::io::Write;
use std::os::unix::net::UnixStream;

use hypeman_guest::control;
use hypeman_vmm::vm::Vm;

use crate::order::{Error, Result};

/// The host's end of the port, connected at the first use.
#[derive(Debug, Default)]
pub(crate) struct Channel(Option<UnixStream>);

impl Channel {
    /// Hands a request to init. It goes into the socket's buffer; init takes it when it listens.
    pub(crate) fn send(&mut self, vm: &dyn Vm, request: &control::Request) -> Result<()> {
        let mut line = serde_json::to_vec(request).map_err(std::io::Error::from)?;
        line.push(b'\n');
        if self.0.is_none() {
            self.0 = vm.channel()?;
        }
        let stream = self.0.as_mut().ok_or(Error::NoInit)?;
        match stream.write(&line) {
            Ok(written) if written == line.len() => Ok(()),
            // A guest that takes nothing has filled the buffer; half a line would garble the next.
            Ok(_) => Err(Error::PortFull),
            Err(error) => {
                self.0 = None;
                Err(error.into())
            }
        }
    }
}
