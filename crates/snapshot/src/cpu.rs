//! The host's CPU: a guest that has run on it under KVM has seen what it can do, and relies on
//! that.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

/// A kind of CPU.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cpu {
    /// Its maker, family and model, and its name.
    pub model: String,
    /// Its features, in the kernel's words (`flags` in /proc/cpuinfo).
    pub features: BTreeSet<String>,
}

impl Cpu {
    /// This host's; `None` when the kernel does not tell.
    #[must_use]
    pub fn of_this_host() -> Option<Cpu> {
        Cpu::parse(&std::fs::read_to_string("/proc/cpuinfo").ok()?)
    }

    fn parse(text: &str) -> Option<Cpu> {
        let field = |name: &str| {
            let lines = text.lines().filter_map(|line| line.split_once(':'));
            lines.filter(|(key, _)| key.trim() == name).map(|(_, value)| value.trim()).next()
        };
        let parts = ["vendor_id", "cpu family", "model", "model name"].map(field);
        let model = parts.into_iter().collect::<Option<Vec<_>>>()?.join(" ");
        let features = field("flags")?.split(' ').map(str::to_owned).collect();
        Some(Cpu { model, features })
    }

    /// Whether a guest that has run on `self` can go on on `other`.
    #[must_use]
    pub fn is_fit(&self, other: &Cpu) -> bool {
        self.model == other.model && self.features.is_subset(&other.features)
    }
}

impl std::fmt::Display for Cpu {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{} with {} features", self.model, self.features.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "processor\t: 0\nvendor_id\t: GenuineIntel\ncpu family\t: 6\nmodel\t\t: 207\nmodel name\t: A CPU\n\
                        flags\t\t: fpu vme\n\nprocessor\t: 1\nvendor_id\t: Other\n";

    #[test]
    fn a_guest_goes_on_only_where_all_is_that_it_has_seen() {
        let cpu = Cpu::parse(TEXT).unwrap();
        assert_eq!(cpu.model, "GenuineIntel 6 207 A CPU");
        let more = Cpu { features: ["fpu", "vme", "avx"].map(str::to_owned).into(), ..cpu.clone() };
        assert!(cpu.is_fit(&more) && !more.is_fit(&cpu));
        assert!(!cpu.is_fit(&Cpu { model: "Another".to_owned(), ..more }));
        assert_eq!(Cpu::parse("nothing"), None);
    }
}
