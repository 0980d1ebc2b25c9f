//! Whether Cloud Hypervisor can sandbox itself with Landlock here. We ask for it in `vm.create`; the option `--landlock`
//! is for a VM that is described on the command line, and refused without one.

use landlock::{ABI, Access, AccessFs, CompatLevel, Compatible, Ruleset, RulesetAttr};

use super::release;
use crate::hypervisor::Program;

/// The first release with `landlock_enable` (release notes of v41.0, "Sandboxing With Landlock").
const FIRST_RELEASE: u32 = 41;

/// Whether both the release and the host have it. Asks the kernel for just what Cloud Hypervisor will ask for
/// (`vmm/src/landlock.rs`), so that its start cannot fail on a host with less.
pub(crate) fn is_there(program: &Program) -> bool {
    let host = || {
        Ruleset::default()
            .set_compatibility(CompatLevel::HardRequirement)
            .handle_access(AccessFs::from_all(ABI::V3))
            .and_then(Ruleset::create)
            .is_ok()
    };
    release::number(program).is_some_and(|number| number >= FIRST_RELEASE) && host()
}
