//! Flags of docker's that have no counterpart here yet: whoever types one is told so, and not to pass it to the program.

use clap::error::{ContextKind, ContextValue, ErrorKind};

/// What is not there, and docker's flags for it.
const ABSENT: [(&str, &[&str]); 7] = [
    ("volumes and mounts", &["-v", "--volume", "--mount", "--tmpfs", "--volumes-from"]),
    ("that setting of a network", &["--expose", "--network-alias", "--ip", "--link", "--mac-address"]),
    ("a choice among a program's streams and signals", &["-a", "--attach", "--sig-proxy"]),
    ("restart policies", &["--restart"]),
    ("labels", &["-l", "--label", "--label-file", "--annotation"]),
    (
        "the settings of a container's isolation, which a VM has no use for",
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
        "that setting",
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

/// What to say of a command line that clap refused for such a flag.
pub(crate) fn explain(error: &clap::Error) -> Option<String> {
    if error.kind() != ErrorKind::UnknownArgument {
        return None;
    }
    let Some(ContextValue::String(given)) = error.get(ContextKind::InvalidArg) else { return None };
    let flag = given.split('=').next()?;
    let (what, _) = ABSENT.iter().find(|(_, flags)| flags.contains(&flag))?;
    Some(format!("{flag} is not there yet: hypeman has not got {what} (docs/limits.md); leave it out"))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use crate::args::Arguments;

    #[test]
    fn a_flag_of_docker_s_is_named_with_what_is_not_there() {
        let told = |flags: &[&str]| {
            let line = [&["hypeman", "run"], flags, &["image"]].concat();
            super::explain(&Arguments::try_parse_from(line).unwrap_err())
        };
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
