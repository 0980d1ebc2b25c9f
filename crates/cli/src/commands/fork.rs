//! fork: another instance of one that there is.

use anyhow::Result;
use hypeman_host::Host;
use hypeman_host::fork::ForkRequest;

use super::create::print_id;
use crate::args::{Labels, TargetState};

pub(crate) fn fork(
    host: &Host,
    source: &str,
    name: String,
    state: Option<TargetState>,
    labels: &Labels,
) -> Result<()> {
    let request = ForkRequest { name, state: state.map(Into::into), tags: labels.tags() };
    print_id(&host.fork(source, &request)?)
}
