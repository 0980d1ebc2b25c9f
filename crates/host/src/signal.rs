//! Signals by name and number: the guest's, those of Linux on x86-64 (signal(7)); the host's could
//! be others one day.

use crate::error::{Error, Field, Result};

/// Returns the number of a signal given as `9`, `KILL`, `SIGKILL` or `SIGRTMIN+3`.
///
/// # Errors
/// When x86-64 Linux has no such signal.
pub fn signal_number(text: &str) -> Result<i32> {
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let number = SIGNALS.iter().find(|(known, _)| *known == name).map(|&(_, number)| number);
    let number = number.or_else(|| real_time(name)).or_else(|| text.parse().ok());
    number.filter(|number| (1..=RTMAX).contains(number)).ok_or_else(|| Error::Invalid {
        field: Field::Signal,
        value: text.to_owned(),
        reason: "it is a name like TERM, SIGTERM or SIGRTMIN+3, or a number from 1 to 64".to_owned(),
    })
}

/// First and last real-time signal, as glibc and docker count them (signal(7)).
const RTMIN: i32 = 34;
const RTMAX: i32 = 64;

/// Parses `RTMIN`, `RTMIN+n`, `RTMAX` or `RTMAX-n`.
fn real_time(name: &str) -> Option<i32> {
    let offset =
        |text: &str| if text.is_empty() { Some(0) } else { text[1..].parse::<u8>().ok().map(i32::from) };
    let number = match (name.strip_prefix("RTMIN"), name.strip_prefix("RTMAX")) {
        (Some(rest), _) if rest.is_empty() || rest.starts_with('+') => RTMIN + offset(rest)?,
        (_, Some(rest)) if rest.is_empty() || rest.starts_with('-') => RTMAX - offset(rest)?,
        _ => return None,
    };
    Some(number).filter(|number| (RTMIN..=RTMAX).contains(number))
}

/// The guest's signals, those of Linux on x86-64 (signal(7)); the host's could be others one day.
const SIGNALS: [(&str, i32); 31] = [
    ("HUP", 1),
    ("INT", 2),
    ("QUIT", 3),
    ("ILL", 4),
    ("TRAP", 5),
    ("ABRT", 6),
    ("BUS", 7),
    ("FPE", 8),
    ("KILL", 9),
    ("USR1", 10),
    ("SEGV", 11),
    ("USR2", 12),
    ("PIPE", 13),
    ("ALRM", 14),
    ("TERM", 15),
    ("STKFLT", 16),
    ("CHLD", 17),
    ("CONT", 18),
    ("STOP", 19),
    ("TSTP", 20),
    ("TTIN", 21),
    ("TTOU", 22),
    ("URG", 23),
    ("XCPU", 24),
    ("XFSZ", 25),
    ("VTALRM", 26),
    ("PROF", 27),
    ("WINCH", 28),
    ("IO", 29),
    ("PWR", 30),
    ("SYS", 31),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_by_name_and_number_as_docker_knows_them() {
        for (text, number) in [
            ("9", 9),
            ("kill", 9),
            ("SIGTERM", 15),
            ("RTMIN", 34),
            ("SIGRTMIN+3", 37),
            ("rtmax-2", 62),
            ("37", 37),
            ("SIGRTMAX", 64),
        ] {
            assert_eq!(signal_number(text).unwrap(), number, "{text}");
        }
        for text in ["", "0", "65", "-1", "NOPE", "RTMIN+31", "RTMIN-1", "RTMAX+1", "RTMIN+", "SIG", "RTMINx"]
        {
            assert!(signal_number(text).is_err(), "{text}");
        }
    }
}
