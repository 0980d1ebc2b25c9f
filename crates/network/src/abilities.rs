//! How this host can connect VMs: bridges, passt.

use std::path::Path;

use rustix::thread::CapabilitySet;

use crate::nft;
use crate::passt::PROGRAM;

/// Whether VMs can be put on bridges.
///
/// # Errors
/// The missing part.
pub fn can_bridge() -> Result<(), String> {
    let capabilities = rustix::thread::capabilities(None).map(|sets| sets.effective);
    if !capabilities.is_ok_and(|effective| effective.contains(CapabilitySet::NET_ADMIN)) {
        return Err("it takes root, or CAP_NET_ADMIN".to_owned());
    }
    if !Path::new("/dev/net/tun").exists() {
        return Err("/dev/net/tun is missing".to_owned());
    }
    nft::program().map(drop).ok_or_else(|| "nft is not installed".to_owned())
}

/// Whether VMs can be connected without privileges.
///
/// # Errors
/// The missing part.
pub fn can_user() -> Result<(), String> {
    which::which(PROGRAM).map(drop).map_err(|_| format!("{PROGRAM} is not installed"))
}
