//! Bytes from a VM's serial line to disk and to people. Knows nothing of VMs.
