//! What runs in the guest: the image's configuration and the user's wishes joined by docker's rules.

use std::collections::BTreeMap;

use hypeman_guest::config::Mode;
use hypeman_guest::ulimit::Ulimit;
use hypeman_image::Config;

use crate::create::Wish;
use crate::error::{Error, Result};
use crate::record::CommandSpec;

/// Programs that are a system's PID 1.
const INITS: [&str; 6] = [
    "/sbin/init",
    "/usr/sbin/init",
    "/bin/init",
    "/lib/systemd/systemd",
    "/usr/lib/systemd/systemd",
    "/bin/systemd",
];

/// What containers with several services call their supervisor (s6-overlay and its like): it wants to be process 1 too, but
/// is no system: it ends with the program, whose exit code is its own.
const SUPERVISOR: &str = "/init";

/// Longest argument or variable in bytes, its end mark included (`MAX_ARG_STRLEN`, execve(2)).
const MAX_STRING: usize = 128 * 1024;

/// Environment every program finds, as docker gives it.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Joins the wishes with the image's configuration.
///
/// # Errors
/// When neither names a program, or a value cannot be passed to one.
pub(crate) fn resolve(wish: &Wish, image: &Config) -> Result<CommandSpec> {
    let argv = argv(wish, image);
    let invalid = |what, value: &str, reason: &str| {
        Err(Error::Invalid { what, value: value.to_owned(), reason: reason.to_owned() })
    };
    if argv.first().is_none_or(String::is_empty) {
        let reference = wish.image.as_ref().map_or("", |(reference, _)| reference);
        return invalid("the image", reference, "it names no program to run; give one after the image");
    }
    let env = environment(wish, image);
    if let Some(text) = argv.iter().chain(env.keys()).chain(env.values()).find(|text| text.contains('\0')) {
        return invalid("the argument or variable", text, "it contains a NUL byte");
    }
    let long =
        argv.iter().map(|text| (text, 0)).chain(env.iter().map(|(name, value)| (value, name.len() + 1)));
    if let Some((text, _)) = long.into_iter().find(|(text, more)| text.len() + more >= MAX_STRING) {
        let start: String = text.chars().take(20).collect();
        return invalid(
            "the argument or variable",
            &format!("{start}..."),
            "Linux takes none of 128 KiB or more",
        );
    }
    let workdir = match &wish.workdir {
        Some(workdir) if !workdir.starts_with('/') => {
            return invalid("the working directory", workdir, "give an absolute path");
        }
        Some(workdir) => workdir.clone(),
        // An image's may be relative, from the root.
        None => format!("/{}", image.working_dir.trim_start_matches('/')),
    };
    let mode = if INITS.contains(&argv[0].as_str()) { Mode::Systemd } else { Mode::Exec };
    if mode == Mode::Systemd {
        let reason = "the image's command is a system's init, which runs as root in /; leave it out";
        if let Some(user) = &wish.user {
            return invalid("the user", user, reason);
        }
        if let Some(workdir) = &wish.workdir {
            return invalid("the working directory", workdir, reason);
        }
    }
    Ok(CommandSpec {
        mode,
        pid_namespace: argv[0] == SUPERVISOR,
        argv,
        env,
        workdir,
        user: wish.user.clone().unwrap_or_else(|| image.user.clone()),
        stop_signal: image.stop_signal.as_deref().and_then(|name| signal_number(name).ok()),
        ulimits: ulimits(&wish.ulimits),
    })
}

/// The limits that are wished for, and docker's of open files unless that is among them. The last one of a name counts.
fn ulimits(wished: &[Ulimit]) -> Vec<Ulimit> {
    let limits = [Ulimit::open_files()].into_iter().chain(wished.iter().cloned());
    limits.map(|limit| (limit.name.clone(), limit)).collect::<BTreeMap<_, _>>().into_values().collect()
}

/// What a user should know of an image that can be run all the same.
#[must_use]
pub fn warnings(image: &Config) -> Vec<String> {
    let unknown = image.stop_signal.as_deref().filter(|name| signal_number(name).is_err());
    let warning =
        |name: &str| format!("the image's stop signal {name:?} is none of Linux's; SIGTERM is used instead");
    unknown.map(warning).into_iter().collect()
}

/// An entrypoint of the user's drops the image's command; arguments of the user's replace it.
fn argv(wish: &Wish, image: &Config) -> Vec<String> {
    let entrypoint = wish.entrypoint.as_ref().unwrap_or(&image.entrypoint);
    let arguments =
        if wish.arguments.is_empty() && wish.entrypoint.is_none() { &image.cmd } else { &wish.arguments };
    entrypoint.iter().chain(arguments).cloned().collect()
}

fn environment(wish: &Wish, image: &Config) -> BTreeMap<String, String> {
    let mut env = BTreeMap::from([("PATH".to_owned(), PATH.to_owned())]);
    for variable in &image.env {
        if let Some((name, value)) = variable.split_once('=') {
            env.insert(name.to_owned(), value.to_owned());
        }
    }
    env.extend(wish.env.clone());
    env
}

/// The number of a signal given as `9`, `KILL`, `SIGKILL` or `SIGRTMIN+3`.
///
/// # Errors
/// When x86-64 Linux has no such signal.
pub fn signal_number(text: &str) -> Result<i32> {
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let number = SIGNALS.iter().find(|(known, _)| *known == name).map(|&(_, number)| number);
    let number = number.or_else(|| real_time(name)).or_else(|| text.parse().ok());
    number.filter(|number| (1..=RTMAX).contains(number)).ok_or_else(|| Error::Invalid {
        what: "the signal",
        value: text.to_owned(),
        reason: "give a name like TERM, SIGTERM or SIGRTMIN+3, or a number from 1 to 64".to_owned(),
    })
}

/// The real-time signals, as glibc and docker count them (signal(7)).
const RTMIN: i32 = 34;
const RTMAX: i32 = 64;

/// `RTMIN`, `RTMIN+n`, `RTMAX` or `RTMAX-n`.
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

    #[test]
    fn a_stop_signal_that_linux_has_not_is_a_warning() {
        let image = |signal: &str| Config { stop_signal: Some(signal.to_owned()), ..Config::default() };
        assert!(warnings(&image("SIGFOO"))[0].contains("SIGFOO"));
        assert_eq!(warnings(&image("SIGRTMIN+3")), Vec::<String>::new());
    }

    #[test]
    fn docker_s_limit_of_open_files_holds_until_another_is_given() {
        let names =
            |wished: &[Ulimit]| ulimits(wished).into_iter().map(|l| (l.name, l.soft)).collect::<Vec<_>>();
        assert_eq!(names(&[]), [("nofile".to_owned(), Some(1_048_576))]);
        let wished = ["nofile=9", "core=0", "nofile=8"].map(|text| Ulimit::parse(text).unwrap());
        assert_eq!(names(&wished), [("core".to_owned(), Some(0)), ("nofile".to_owned(), Some(8))]);
    }
}
