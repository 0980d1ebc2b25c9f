//! A hypervisor that is known by name only.

use std::path::Path;
use std::process::Command;

use async_trait::async_trait;

use crate::hypervisor::{Error, Hypervisor, Program, Result, Vm};
use crate::spec::VmSpec;

/// Refuses everything, with the way out.
#[derive(Debug)]
pub(crate) struct CloudHypervisor;

fn refuse<T>() -> Result<T> {
    let message =
        "this build of hypeman does not support Cloud Hypervisor yet; use --hypervisor qemu or qemu-microvm";
    Err(Error::Program(message.to_owned()))
}

#[async_trait(?Send)]
impl Hypervisor for CloudHypervisor {
    fn discover(&self) -> Result<Program> {
        refuse()
    }

    fn command(&self, _program: &Program, _directory: &Path, _spec: &VmSpec) -> Result<Command> {
        refuse()
    }

    async fn create(&self, _directory: &Path, _spec: &VmSpec) -> Result<Box<dyn Vm>> {
        refuse()
    }
}
