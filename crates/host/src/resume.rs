//! What ran when the host was rebooted.

use hypeman_record::end::Reason;

use crate::error::Result;
use crate::host::Host;
use crate::instance::Instance;

impl Host {
    /// Lists the instances that ran when the host was rebooted, and were not started since, oldest
    /// first.
    ///
    /// # Errors
    /// As [`Host::list`].
    pub fn interrupted(&self) -> Result<Vec<Instance>> {
        let (instances, damaged) = self.list()?;
        damaged.iter().for_each(|error| tracing::warn!("{error}"));
        let seen = self.observe_all(&instances);
        let ran = instances.into_iter().zip(seen).filter(|(_, seen)| {
            let end = seen.as_ref().ok().and_then(|seen| seen.end.as_ref());
            end.is_some_and(|end| end.reason == Reason::HostRebooted)
        });
        Ok(ran.map(|(instance, _)| instance).collect())
    }
}
