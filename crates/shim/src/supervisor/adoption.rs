//! How a shim goes on with a VM that another one has had.

use std::path::Path;

use hypeman_record::kind::Kind;
use hypeman_record::run::Run;
use hypeman_record::{format, names};

use super::{Boot, Supervisor};
use crate::begin::go_on_again;
use crate::error::{Error, Result, StartContext};
use crate::keep::{self, Keep};
use crate::logs;
use crate::network::Network;
use crate::vm::Vmm;

impl Supervisor {
    /// Goes on with a VM whose shim was killed. When that cannot be, the VM is left as it is.
    pub(super) async fn take_over(&mut self, run: Run) -> Result<Boot> {
        let shared = self.shared.clone();
        let vmm = Vmm::adopt(&shared.launch, &run)?;
        self.network = Network::take_over(&shared.launch, &run.published, vmm.tap(), &shared.journal);
        let mut app = logs::take_over(&shared.launch, vmm.memory(), &shared.journal)?;
        let log = logs::open(&shared.launch, names::VMM_LOG)?;
        let from = run.adoptions.last().map(|adoption| adoption.reason.clone()).unwrap_or_default();
        // Nothing is kept of a FIFO, of which nothing is lost with its reader.
        let (keep, console, why_not) = match vmm.kept() {
            Ok((keep, console)) => (keep, Some(console), String::new()),
            Err(error) => (Keep::new().start("keep the console's connection")?, None, error.to_string()),
        };
        let was_full = console.as_ref().map(keep::is_full);
        // Meanwhile it is read: a VMM that waits for its reader would not answer.
        let read = logs::keep_reading(&shared, console.as_ref(), &mut app)?;
        let connected = tokio::select! {
            biased;
            connected = self.driver.meanwhile(vmm.connect_again(run, console)) => connected,
            () = read => None,
        };
        let Some(made) = connected else {
            vmm.end().await;
            return Err(Error::new(Kind::WrongState, "it was ended while it was being taken over"));
        };
        let made = made?;
        format::rewrite(Path::new(names::RUN), &made.run).start("record the run")?;
        shared.journal.note(format_args!("took over the VM, pid {}: {from}", made.run.vmm.pid));
        match was_full {
            Some(true) => shared.journal.note(
                "the console's connection was full: of the output beyond it, a VMM that does not wait keeps 1 MiB",
            ),
            None if keep::is_socket(&made.console) => shared.journal.note(format_args!(
                "the console was connected again, and output in the old connection is missing: {why_not}"
            )),
            Some(false) | None => {}
        }
        let goes_on = go_on_again(made.vm.clone(), Path::new("."));
        self.accompany(vmm, made, keep, [app, log], goes_on).await
    }
}
