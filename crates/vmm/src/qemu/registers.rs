//! Whether a guest can ever run again, from the monitor's `info registers -a`.

/// The flag IF in EFLAGS: interrupts are taken (Intel SDM volume 1, 3.4.3).
const INTERRUPT_FLAG: u64 = 1 << 9;

/// Whether every CPU has halted with interrupts off, as after Linux's `reboot: System halted`. Only
/// an NMI could wake them, and nobody sends one. CPUs that were never started look the same.
/// (target/i386/cpu-dump.c)
pub(crate) fn all_halted(registers: &str) -> bool {
    let mut cpus = 0;
    for cpu in registers.split("CPU#").skip(1) {
        let field = |name: &str| cpu.split_whitespace().find_map(|word| word.strip_prefix(name));
        let flags =
            field("RFL=").or_else(|| field("EFL=")).and_then(|text| u64::from_str_radix(text, 16).ok());
        if field("HLT=") != Some("1") || flags.is_none_or(|flags| flags & INTERRUPT_FLAG != 0) {
            return false;
        }
        cpus += 1;
    }
    cpus > 0
}

#[cfg(test)]
mod tests {
    use super::all_halted;

    const HALTED: &str =
        "\r\nCPU#0\r\nRAX=0 RBX=1\r\nRIP=ffff RFL=00000046 [---Z-P-] CPL=0 II=0 A20=1 SMM=0 HLT=1\r\n";

    #[test]
    fn an_idle_cpu_is_not_a_halted_one() {
        assert!(all_halted(HALTED));
        assert!(!all_halted(&HALTED.replace("RFL=00000046", "RFL=00000246")), "it waits for interrupts");
        assert!(!all_halted(&HALTED.replace("HLT=1", "HLT=0")), "it runs");
        assert!(!all_halted(&format!("{HALTED}{}", HALTED.replace("HLT=1", "HLT=0"))), "one of two runs");
        assert!(!all_halted("") && !all_halted("CPU#0 nonsense"));
    }
}
