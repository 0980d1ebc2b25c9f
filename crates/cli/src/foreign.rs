//! Words and flags of docker, podman and virsh that are others here, or have no counterpart:
//! whoever types one is told.

use std::ffi::OsString;

use clap::error::{ContextKind, ContextValue, ErrorKind};

/// Commands of others, and what to type instead.
const WORDS: &[(&[&str], &str)] = &[
    (&["rmi"], "images are removed with `hypeman image rm IMAGE`; `hypeman rm` removes instances"),
    (&["ls", "list", "container", "vm", "domstate", "dominfo"], "instances are listed with `hypeman ps -a`"),
    (
        &["prune", "system"],
        "name the instances and images: `hypeman rm $(hypeman ps -aq --filter status=stopped)`, `hypeman image rm IMAGE`",
    ),
    (
        &["update", "set", "edit", "setvcpus", "setmem"],
        "resources are set when an instance is created (--memory, --cpus, --disk-size); `hypeman rename` changes its name",
    ),
    (&["load"], "archives are read with `hypeman image import FILE`"),
    (
        &["import", "define"],
        "`hypeman image import FILE`, `hypeman kernel import FILE` and `hypeman snapshot import DIR` are there",
    ),
    (&["save"], "images cannot be written to files; `hypeman export NAME` writes the files of an instance"),
    (
        &["console", "shell", "ssh"],
        "`hypeman exec -it NAME sh` gives a shell, `hypeman attach NAME` the console",
    ),
    (&["shutdown", "poweroff"], "instances are stopped with `hypeman stop NAME`"),
    (&["reboot", "reset"], "instances are stopped and started again with `hypeman restart NAME`"),
    (&["destroy"], "an instance is ended at once with `hypeman kill NAME`, which keeps its disk"),
    (&["delete", "remove", "undefine"], "instances are removed with `hypeman rm NAME`"),
    (
        &["suspend", "freeze", "checkpoint", "managedsave", "hibernate"],
        "`hypeman pause NAME` stops the vCPUs, `hypeman standby NAME` writes the memory to disk",
    ),
    (&["wake", "thaw"], "`hypeman resume NAME` ends a pause, `hypeman restore NAME` a standby"),
    (&["clone"], "an instance is doubled with `hypeman fork NAME NEW`"),
    (&["info"], "`hypeman doctor` tells of this machine, `hypeman inspect NAME` of an instance"),
    (&["net", "net-list"], "networks are listed with `hypeman network ls`"),
    (&["dumpxml"], "all that is known of an instance is told by `hypeman inspect NAME`"),
    (&["log"], "`hypeman logs NAME` shows an instance's output"),
    (&["copy", "scp"], "files are copied with `hypeman cp SRC DST`"),
    (
        &["build", "buildx", "commit", "tag", "push"],
        "hypeman makes no images: build them with docker, podman or buildah, and `hypeman pull` or `hypeman image import` them",
    ),
    (
        &["login", "logout"],
        "registries are logged in to with `docker login`, `podman login` or `skopeo login`: hypeman reads their auth files",
    ),
    (&["volume"], "hypeman has no volumes yet (docs/limits.md)"),
    (
        &["compose", "pod", "swarm", "stack", "service"],
        "hypeman knows single instances; on one network they find each other by name",
    ),
    (
        &["diff", "history", "events", "search", "manifest", "context", "plugin"],
        "hypeman does not have it (docs/limits.md)",
    ),
];

/// Flags of one command of docker's, and what to type instead.
const FLAGS: &[(&str, &[&str], &str)] = &[
    ("rm", &["-a", "--all"], "name the instances, or give all: `hypeman rm -f $(hypeman ps -aq)`"),
    ("rm", &["-v", "--volumes", "-l", "--link"], "omit it: an instance's disks go with it"),
    ("stop", &["-a", "--all"], "name them, or give all that run: `hypeman stop $(hypeman ps -q)`"),
    ("kill", &["-a", "--all"], "name them, or give all that run: `hypeman kill $(hypeman ps -q)`"),
    ("ps", &["-l", "--latest", "-n", "--last"], "`hypeman ps -a` lists all"),
    ("ps", &["-s", "--size"], "`hypeman stats` shows what instances use"),
    ("images", &["-a", "--all"], "omit it: all are listed"),
    ("image", &["-a", "--all"], "omit it, or name the images"),
    ("exec", &["--privileged"], "omit it: root in the guest may do all there"),
    ("start", &["-a", "--attach", "-i", "--interactive"], "start it, and then `hypeman attach NAME`"),
    ("logs", &["--details"], "omit it"),
];

/// Features that hypeman lacks, with docker's flags for them.
const ABSENT: [(&str, &[&str]); 7] = [
    ("volumes and mounts", &["-v", "--volume", "--mount", "--tmpfs", "--volumes-from"]),
    ("such setting of a network", &["--expose", "--network-alias", "--ip", "--link", "--mac-address"]),
    ("choice among a program's streams and signals", &["-a", "--attach", "--sig-proxy"]),
    ("restart policies", &["--restart"]),
    ("labels", &["-l", "--label", "--label-file", "--annotation"]),
    (
        "settings of a container's isolation, which a VM does not need",
        &[
            "--privileged",
            "--cap-add",
            "--cap-drop",
            "--security-opt",
            "--device",
            "--gpus",
            "--pid",
            "--ipc",
            "--uts",
            "--userns",
            "--cgroupns",
            "--cgroup-parent",
            "--runtime",
            "--isolation",
            "--sysctl",
            "--group-add",
        ],
    ),
    (
        "such setting",
        &[
            "--hostname",
            "--init",
            "--read-only",
            "--platform",
            "--pull",
            "--stop-signal",
            "--stop-timeout",
            "--log-driver",
            "--shm-size",
            "--pids-limit",
            "--memory-swap",
            "--cpu-shares",
            "--cpuset-cpus",
            "--cidfile",
        ],
    ),
];

/// Explains a command line that clap refused for such a word or flag.
pub(crate) fn explain(error: &clap::Error, line: &[OsString]) -> Option<String> {
    let given = |kind| match error.get(kind) {
        Some(ContextValue::String(given)) => Some(given.as_str()),
        _ => None,
    };
    match error.kind() {
        ErrorKind::InvalidSubcommand => {
            let word = given(ContextKind::InvalidSubcommand)?;
            // Of ours alone: the words below `image` and `network` are others.
            let (_, instead) =
                WORDS.iter().find(|(words, _)| words.contains(&word) && command(line) == Some(word))?;
            Some(format!("there is no command {word:?}: {instead}"))
        }
        ErrorKind::UnknownArgument => {
            let flag = given(ContextKind::InvalidArg)?.split('=').next()?;
            let command = command(line);
            if let Some((command, _, instead)) =
                FLAGS.iter().find(|(of, flags, _)| Some(*of) == command && flags.contains(&flag))
            {
                return Some(format!("hypeman {command} has no {flag}: {instead}"));
            }
            if !matches!(command, Some("run" | "create")) {
                return None;
            }
            let (what, _) = ABSENT.iter().find(|(_, flags)| flags.contains(&flag))?;
            Some(format!("{flag} does not exist yet: hypeman has no {what} (docs/limits.md); omit it"))
        }
        _ => None,
    }
}

/// The command of a command line.
fn command(line: &[OsString]) -> Option<&str> {
    let mut words = line.iter().skip(1).map(|word| word.to_str().unwrap_or_default());
    loop {
        match words.next()? {
            "--data-dir" => drop(words.next()),
            word if word.starts_with('-') => {}
            word => return Some(word),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::*;
    use crate::args::Arguments;

    fn explain(line: &[&str]) -> Option<String> {
        let line: Vec<OsString> = ["hypeman"].iter().chain(line).map(OsString::from).collect();
        super::explain(&Arguments::try_parse_from(&line).unwrap_err(), &line)
    }

    #[test]
    fn a_word_of_others_leads_to_ours_and_none_of_ours_is_among_them() {
        for (line, instead) in [
            (&["rmi", "x"][..], "hypeman image rm"),
            (&["--data-dir", "/x", "ls"], "hypeman ps"),
            (&["update", "-m", "1g"], "--memory"),
            (&["rm", "-fa"], "ps -aq"),
            (&["start", "-a", "x"], "hypeman attach"),
        ] {
            let told = explain(line).unwrap_or_default();
            assert!(told.contains(instead), "{line:?}: {told}");
        }
        assert_eq!(explain(&["image", "push"]), None);
        assert_eq!(explain(&["frobnicate"]), None);
        let ours = Arguments::command();
        let taken =
            WORDS.iter().flat_map(|(words, _)| *words).find(|word| ours.find_subcommand(word).is_some());
        assert_eq!(taken, None);
    }

    #[test]
    fn a_flag_of_docker_s_is_named_with_what_is_not_there() {
        let told = |flags: &[&str]| explain(&[&["run"], flags, &["image"]].concat());
        for (flags, words) in [
            (&["-v", "/a:/b"][..], "volumes"),
            (&["-a", "stdin"], "streams"),
            (&["--ip=1.2.3.4"], "network"),
            (&["-v/a:/b"], "volumes"),
            (&["--privileged"], "isolation"),
        ] {
            let text = told(flags).unwrap_or_default();
            assert!(
                text.contains(words) && text.starts_with(flags[0].get(..2).unwrap()),
                "{flags:?}: {text}"
            );
        }
        assert_eq!(told(&["--no-such-flag"]), None);
    }
}
