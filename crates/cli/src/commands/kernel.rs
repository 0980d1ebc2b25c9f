//! kernel pull, import, ls and rm.

use anyhow::Result;
use hypeman_host::Host;
use serde::Serialize;

use crate::args::KernelCommand;
use crate::output;
use crate::progress::Terminal;

#[derive(Debug, Serialize)]
struct Row {
    version: String,
    vmlinuz: std::path::PathBuf,
}

pub(crate) fn kernel(host: &Host, command: KernelCommand) -> Result<()> {
    match command {
        KernelCommand::Pull => output::line(&host.pull_kernel(&Terminal::new())?.version),
        KernelCommand::Import { vmlinuz, modules, name } => {
            output::line(&host.import_kernel(&vmlinuz, modules.as_deref(), &name)?.version)
        }
        KernelCommand::Ls { format } => {
            let kernels = host.list_kernels()?;
            let rows: Vec<Row> =
                kernels.into_iter().map(|k| Row { vmlinuz: k.vmlinuz(), version: k.version }).collect();
            output::list(format.format, &["VERSION", "FILE"], &rows, |row| {
                vec![row.version.clone(), row.vmlinuz.display().to_string()]
            })
        }
        KernelCommand::Rm { versions } => {
            for version in &versions {
                host.remove_kernel(version)?;
                output::line(version)?;
            }
            Ok(())
        }
    }
}
