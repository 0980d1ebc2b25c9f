//! kernel pull, import, ls and rm.

use anyhow::Result;
use serde::Serialize;

use crate::args::KernelCommand;
use crate::context::Context;
use crate::output;
use crate::progress::Terminal;

#[derive(Debug, Serialize)]
struct Row {
    version: String,
    vmlinuz: std::path::PathBuf,
}

pub(crate) fn kernel(context: &Context, command: KernelCommand) -> Result<()> {
    match command {
        KernelCommand::Pull => output::line(&context.kernels.pull(&Terminal::new())?.version),
        KernelCommand::Import { vmlinuz, modules, name } => {
            output::line(&context.kernels.import(&vmlinuz, modules.as_deref(), &name)?.version)
        }
        KernelCommand::Ls { format } => {
            let kernels = context.kernels.list()?;
            let rows: Vec<Row> =
                kernels.into_iter().map(|k| Row { vmlinuz: k.vmlinuz(), version: k.version }).collect();
            output::list(format.format, &["VERSION", "FILE"], &rows, |row| {
                vec![row.version.clone(), row.vmlinuz.display().to_string()]
            })
        }
        KernelCommand::Rm { versions } => {
            for version in &versions {
                let _held = context.instances.lock()?;
                context.kernels.remove(version, context.kernel_user(version).as_deref())?;
                output::line(version)?;
            }
            Ok(())
        }
    }
}
