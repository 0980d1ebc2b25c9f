//! fork: another instance of one that there is.

use anyhow::Result;

use super::create::print_id;
use crate::args::TargetState;
use crate::context::{Context, programs};

pub(crate) fn fork(context: &Context, source: &str, name: &str, state: Option<TargetState>) -> Result<()> {
    let source = context.instances.find(source)?;
    let state = state.map(Into::into);
    print_id(&hypeman_instance::fork::fork(&context.instances, &source, name, state, &programs()?)?)
}
