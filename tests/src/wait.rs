//! Waiting for what can only be looked at: with a deadline, so that what never comes fails a test
//! instead of hanging it.

use std::time::{Duration, Instant};

/// Longest time that anything may take that a test waits for. No test measures by it: what takes so
/// long has broken.
pub const DEADLINE: Duration = Duration::from_secs(120);

/// Pause between two looks.
const PAUSE: Duration = Duration::from_millis(10);

/// Looks until there is something.
///
/// # Panics
/// When there is nothing at the deadline.
pub fn eventually<T>(what: &str, look: impl FnMut() -> Option<T>) -> T {
    within(DEADLINE, look).unwrap_or_else(|| panic!("in {} s it did not come: {what}", DEADLINE.as_secs()))
}

/// Looks until something is so.
///
/// # Panics
/// When it is not at the deadline.
pub fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    eventually(what, || is_so().then_some(()));
}

/// Looks until there is something, or the time is up.
pub fn within<T>(limit: Duration, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(found) = look() {
            return Some(found);
        }
        if Instant::now() > deadline {
            return None;
        }
        std::thread::sleep(PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_is_given_and_what_never_comes_is_not_waited_for_without_end() {
        let mut looks = 0;
        let found = within(DEADLINE, || {
            looks += 1;
            (looks == 3).then_some(looks)
        });
        assert_eq!(found, Some(3));
        assert_eq!(within(Duration::ZERO, || None::<()>), None);
    }
}
