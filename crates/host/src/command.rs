//! Command that runs in the guest: the image's configuration and the user's options, merged by
//! docker's rules.

use std::collections::BTreeMap;

use hypeman_image::Config;
use hypeman_record::guest::config::Mode;
use hypeman_record::guest::ulimit::Ulimit;
use hypeman_record::record::CommandSpec;

use crate::error::{Field, Result, invalid};
use crate::health;
use crate::options::CreateOptions;
use crate::signal::signal_number;

/// Programs that are a system's PID 1.
const INITS: [&str; 6] = [
    "/sbin/init",
    "/usr/sbin/init",
    "/bin/init",
    "/lib/systemd/systemd",
    "/usr/lib/systemd/systemd",
    "/bin/systemd",
];

/// Supervisors of containers with several services (s6-overlay and its like). They want to be
/// process 1, but are no system: they end with the program, and exit with its code.
const SUPERVISOR: &str = "/init";

/// Maximum length of an argument or variable in bytes, its end mark included (`MAX_ARG_STRLEN`,
/// execve(2)).
const MAX_STRING: usize = 128 * 1024;

/// Environment every program finds, as docker gives it.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Words that replace those of a command; what is absent stays.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Replacement {
    /// The entrypoint.
    pub entrypoint: Option<Vec<String>>,
    /// The arguments.
    pub arguments: Option<Vec<String>>,
}

/// Joins the options with the image's configuration.
///
/// # Errors
/// When neither names a program, or a value cannot be passed to one.
pub(crate) fn resolve(options: &CreateOptions, image: &Config) -> Result<CommandSpec> {
    let (entrypoint, arguments) = words(options, image);
    let argv = [entrypoint, arguments].concat();
    if argv.first().is_none_or(String::is_empty) {
        let reference = options.image.as_ref().map_or("", |(reference, _)| reference);
        return invalid(Field::Image, reference, "it has no command; give one after the image");
    }
    let env = environment(options, image);
    let variables: Vec<String> = env.iter().map(|(name, value)| format!("{name}={value}")).collect();
    check_words(argv.iter().chain(&variables))?;
    let workdir = match &options.request.workdir {
        Some(workdir) if !workdir.starts_with('/') => {
            return invalid(Field::WorkingDirectory, workdir, "must be absolute");
        }
        Some(workdir) => workdir.clone(),
        // An image's may be relative, from the root.
        None => format!("/{}", image.working_dir.trim_start_matches('/')),
    };
    let mode = mode(&argv);
    if mode == Mode::Systemd {
        let reason = "the image's command is a system's init, which runs as root in /";
        if let Some(user) = &options.request.user {
            return invalid(Field::User, user, reason);
        }
        if let Some(workdir) = &options.request.workdir {
            return invalid(Field::WorkingDirectory, workdir, reason);
        }
    }
    Ok(CommandSpec {
        mode,
        pid_namespace: argv[0] == SUPERVISOR,
        argv,
        entrypoint_words: Some(entrypoint.len()),
        env,
        workdir,
        user: options.request.user.clone().unwrap_or_else(|| image.user.clone()),
        stop_signal: image.stop_signal.as_deref().and_then(|name| signal_number(name).ok()),
        ulimits: ulimits(&options.request.ulimits),
        stdio: options.request.stdio,
        health: health::resolve(&options.request.health, image.health.as_ref())?,
    })
}

/// Replaces the entrypoint, the arguments, or both of a command. As at creation, an entrypoint drops
/// the arguments that were there. `image` is the configuration of its image.
///
/// # Errors
/// When neither names a program, or a word cannot be passed to one.
pub(crate) fn replace(
    command: &CommandSpec,
    replacement: &Replacement,
    image: &Config,
) -> Result<CommandSpec> {
    let known = || command.argv.starts_with(&image.entrypoint).then_some(image.entrypoint.len());
    let words = command.entrypoint_words.or_else(known).unwrap_or(0).min(command.argv.len());
    let (old_entrypoint, old_arguments) = command.argv.split_at(words);
    let entrypoint = replacement.entrypoint.as_deref().unwrap_or(old_entrypoint);
    let kept = if replacement.entrypoint.is_some() { &[] } else { old_arguments };
    let argv = [entrypoint, replacement.arguments.as_deref().unwrap_or(kept)].concat();
    if argv.first().is_none_or(String::is_empty) {
        return invalid(Field::Command, "", "no program is left in it");
    }
    check_words(argv.iter())?;
    Ok(CommandSpec {
        mode: mode(&argv),
        pid_namespace: argv[0] == SUPERVISOR,
        entrypoint_words: Some(entrypoint.len()),
        argv,
        ..command.clone()
    })
}

/// Refuses words that cannot be passed to a program.
fn check_words<'a>(mut words: impl Iterator<Item = &'a String>) -> Result<()> {
    words.try_for_each(|text| match text {
        text if text.contains('\0') => invalid(Field::Argument, text, "it contains a NUL byte"),
        text if text.len() >= MAX_STRING => {
            let start: String = text.chars().take(20).collect();
            invalid(Field::Argument, format!("{start}..."), "must be shorter than 128 KiB")
        }
        _ => Ok(()),
    })
}

/// Mode of a command: a system's init, or a program.
fn mode(argv: &[String]) -> Mode {
    match argv.first() {
        Some(program) if INITS.contains(&program.as_str()) => Mode::Systemd,
        _ => Mode::Exec,
    }
}

/// Merges the given limits with docker's limit of open files. The last one of a name counts.
fn ulimits(given: &[Ulimit]) -> Vec<Ulimit> {
    let limits = [Ulimit::open_files()].into_iter().chain(given.iter().cloned());
    limits.map(|limit| (limit.name.clone(), limit)).collect::<BTreeMap<_, _>>().into_values().collect()
}

/// Returns warnings about an image that can be run all the same.
#[must_use]
pub(crate) fn warnings(image: &Config) -> Vec<String> {
    let unknown = image.stop_signal.as_deref().filter(|name| signal_number(name).is_err());
    let warning =
        |name: &str| format!("the image's stop signal {name:?} is none of Linux's; SIGTERM is used instead");
    unknown.map(warning).into_iter().collect()
}

/// Merges the user's command with the image's: an entrypoint drops the image's command, arguments
/// replace it.
fn words<'a>(options: &'a CreateOptions, image: &'a Config) -> (&'a [String], &'a [String]) {
    let entrypoint = options.request.entrypoint.as_ref().unwrap_or(&image.entrypoint);
    let arguments = if options.request.arguments.is_empty() && options.request.entrypoint.is_none() {
        &image.cmd
    } else {
        &options.request.arguments
    };
    (entrypoint, arguments)
}

fn environment(options: &CreateOptions, image: &Config) -> BTreeMap<String, String> {
    let mut env = BTreeMap::from([("PATH".to_owned(), PATH.to_owned())]);
    for variable in &image.env {
        if let Some((name, value)) = variable.split_once('=') {
            env.insert(name.to_owned(), value.to_owned());
        }
    }
    env.extend(options.request.env.clone());
    env
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stop_signal_that_linux_has_not_is_a_warning() {
        let image = |signal: &str| Config { stop_signal: Some(signal.to_owned()), ..Config::default() };
        assert!(warnings(&image("SIGFOO"))[0].contains("SIGFOO"));
        assert_eq!(warnings(&image("SIGRTMIN+3")), Vec::<String>::new());
    }

    #[test]
    fn docker_s_limit_of_open_files_holds_until_another_is_given() {
        let names =
            |given: &[Ulimit]| ulimits(given).into_iter().map(|l| (l.name, l.soft)).collect::<Vec<_>>();
        assert_eq!(names(&[]), [("nofile".to_owned(), Some(1_048_576))]);
        let given = ["nofile=9", "core=0", "nofile=8"].map(|text| Ulimit::parse(text).unwrap());
        assert_eq!(names(&given), [("core".to_owned(), Some(0)), ("nofile".to_owned(), Some(8))]);
    }
}
