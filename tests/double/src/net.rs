//! Interfaces whose other end was received as a descriptor (`VmAddNet` and `VmRestore` in
//! vmm/src/api/http/http_endpoint.rs, `RestoreConfig` in vmm/src/config.rs). Nothing goes over
//! them: the end is only kept open.

use std::os::fd::OwnedFd;

use serde_json::{Value, json};

use crate::vm::{Answer, failure};

/// The interfaces of a VM.
pub(crate) struct Nets(Vec<OwnedFd>);

impl Nets {
    /// None yet.
    pub(crate) fn none() -> Nets {
        Nets(Vec::new())
    }

    /// Adds one to a VM that is configured so.
    pub(crate) fn add(&mut self, config: &mut Value, mut net: Value, descriptors: Vec<OwnedFd>) -> Answer {
        if descriptors.is_empty() {
            return Err(failure(
                "The VM could not add a network device",
                "no descriptors, and taps are not made here",
            ));
        }
        // Packets to them go nowhere.
        net["fds"] = json!(vec![-1; descriptors.len()]);
        match config["net"].as_array_mut() {
            Some(nets) => nets.push(net),
            None => config["net"] = json!([net]),
        }
        self.0.extend(descriptors);
        Ok(None)
    }

    /// Those of a VM that was saved: each wants as many descriptors as it had.
    pub(crate) fn restored(
        config: &Value,
        body: &Value,
        descriptors: Vec<OwnedFd>,
    ) -> Result<Nets, Vec<String>> {
        let failed = |cause: &str| failure("The VM could not be restored", cause);
        let given: Vec<&Value> = body["net_fds"].as_array().into_iter().flatten().collect();
        let expected = given.iter().filter_map(|net| net["num_fds"].as_u64()).sum::<u64>();
        if expected != descriptors.len() as u64 {
            return Err(failed("Bad Request"));
        }
        for net in config["net"].as_array().into_iter().flatten() {
            let count = net["fds"].as_array().map(Vec::len).unwrap_or_default() as u64;
            match given.iter().find(|given| given["id"] == net["id"]) {
                None => return Err(failed("Net id associated with FDs is required")),
                Some(given) if given["num_fds"].as_u64() != Some(count) => {
                    return Err(failed("Number of Net FDs passed is incorrect"));
                }
                Some(_) => {}
            }
        }
        Ok(Nets(descriptors))
    }
}
