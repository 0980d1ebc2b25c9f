//! The rate of the host's time stamp counter.
#![allow(unsafe_code)] // rdtsc

use std::arch::x86_64::_rdtsc;
use std::time::{Duration, Instant};

/// How long the counter is watched; the clock is read to well below a microsecond, so the rate is
/// right to some 0.01 %.
const SPAN: Duration = Duration::from_millis(20);

/// Ticks of the time stamp counter in a millisecond, measured.
///
/// A guest on TCG sees the host's counter (QEMU, include/qemu/timer.h, `cpu_get_host_ticks`) and
/// has to measure it itself. On the microvm machine it has nothing but the PIT to do so with, which
/// fails on a busy host, and Linux 6.1 hangs then. So it is better told: `tsc_early_khz=`.
#[must_use]
pub fn host_tsc_khz() -> u64 {
    let (clock, ticks) = (Instant::now(), read());
    std::thread::sleep(SPAN);
    let (elapsed, ticks) = (clock.elapsed(), read().wrapping_sub(ticks));
    let nanoseconds = u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX).max(1);
    ticks.saturating_mul(1_000_000) / nanoseconds
}

fn read() -> u64 {
    // SAFETY: rdtsc has no precondition but that the instruction exists, which it does on every
    // x86-64, and that Linux has not forbidden it (prctl PR_SET_TSC), which we never ask for.
    unsafe { _rdtsc() }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_rate_is_that_of_a_computer() {
        assert!((100_000..100_000_000).contains(&super::host_tsc_khz()));
    }
}
