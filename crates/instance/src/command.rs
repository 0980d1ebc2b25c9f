//! What runs in the guest: the image's configuration and the user's wishes joined by docker's rules.

use std::collections::BTreeMap;

use hypeman_guest::config::Mode;
use hypeman_image::Config;

use crate::create::Wish;
use crate::error::{Error, Result};
use crate::record::CommandSpec;

/// Programs that want to be PID 1.
const INITS: [&str; 7] = [
    "/sbin/init",
    "/usr/sbin/init",
    "/bin/init",
    "/init",
    "/lib/systemd/systemd",
    "/usr/lib/systemd/systemd",
    "/bin/systemd",
];

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
    let workdir = wish.workdir.clone().unwrap_or_else(|| image.working_dir.clone());
    let workdir = if workdir.is_empty() { "/".to_owned() } else { workdir };
    if !workdir.starts_with('/') {
        return invalid("the working directory", &workdir, "give an absolute path");
    }
    Ok(CommandSpec {
        mode: if INITS.contains(&argv[0].as_str()) { Mode::Systemd } else { Mode::Exec },
        argv,
        env,
        workdir,
        user: wish.user.clone().unwrap_or_else(|| image.user.clone()),
        stop_signal: image.stop_signal.as_deref().map(signal_number).transpose()?,
    })
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

/// The number of a signal given as `9`, `KILL` or `SIGKILL`.
///
/// # Errors
/// When x86-64 Linux has no such signal.
pub fn signal_number(text: &str) -> Result<i32> {
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let number = SIGNALS.iter().find(|(known, _)| *known == name).map(|&(_, number)| number);
    number.or_else(|| text.parse().ok().filter(|number| (1..=64).contains(number))).ok_or_else(|| {
        Error::Invalid {
            what: "the signal",
            value: text.to_owned(),
            reason: "give a name like TERM or SIGTERM, or a number from 1 to 64".to_owned(),
        }
    })
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
