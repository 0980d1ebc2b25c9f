//! fork: another instance of one that there is.

use anyhow::Result;
use hypeman_host::Host;

use super::create::print_id;
use crate::args::TargetState;

pub(crate) fn fork(host: &Host, source: &str, name: &str, state: Option<TargetState>) -> Result<()> {
    print_id(&host.fork(source, name, state.map(Into::into))?)
}
