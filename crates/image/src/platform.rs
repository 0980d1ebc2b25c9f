//! Which images a VM here can run: linux/amd64, by whatever name (as containerd's platforms package
//! normalises them).

use std::arch::is_x86_feature_detected as has;

/// How well a platform fits, the lower the better; `None` when no VM here can run it. Plain amd64
/// comes first; a variant of it for newer CPUs is taken only where there is nothing else and this
/// CPU is one (x86-64 psABI, 3.1.1).
pub(crate) fn rank(os: &str, architecture: &str, variant: Option<&str>) -> Option<u8> {
    let is_amd64 = ["amd64", "x86_64", "x86-64"].iter().any(|name| architecture.eq_ignore_ascii_case(name));
    if !os.eq_ignore_ascii_case("linux") || !is_amd64 {
        return None;
    }
    match variant.unwrap_or_default() {
        "" | "v1" => Some(0),
        "v2" => (has!("sse4.2") && has!("popcnt")).then_some(1),
        "v3" => (has!("avx2") && has!("bmi2") && has!("fma") && has!("movbe")).then_some(2),
        "v4" => (has!("avx512f") && has!("avx512bw") && has!("avx512vl")).then_some(3),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::rank;

    #[test]
    fn amd64_by_any_name_and_the_plain_one_first() {
        for name in ["amd64", "x86_64", "x86-64", "AMD64"] {
            assert_eq!(rank("linux", name, None), Some(0), "{name}");
        }
        assert_eq!(rank("linux", "amd64", Some("v1")), Some(0));
        assert_ne!(rank("linux", "amd64", Some("v3")), Some(0));
        for (os, architecture) in
            [("linux", "arm64"), ("windows", "amd64"), ("unknown", "unknown"), ("linux", "386")]
        {
            assert_eq!(rank(os, architecture, None), None, "{os}/{architecture}");
        }
        assert_eq!(rank("linux", "amd64", Some("v9")), None);
    }
}
