//! conmon, which captures the output of podman's containers. Its log is in the format k8s-file: it
//! has the time before each line, and before each part of one.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use hypeman_tests::needs::find;
use hypeman_tests::wait::eventually;
use rustix::process::Pid;

use super::{End, Running};

/// conmon, for a container that holds its output open and says nothing. What we write comes through
/// the same pipe.
pub(crate) fn conmon(path: &Path) -> Running {
    let bundle = path.with_extension("bundle");
    std::fs::create_dir_all(&bundle).expect("a directory");
    let (runtime, pid_file) = (bundle.join("runtime"), bundle.join("pid"));
    let _ = std::fs::remove_file(&pid_file);
    // `create` of an OCI runtime, as far as conmon looks at it.
    let script = format!("#!/bin/sh\nsleep 100000 &\necho $! > {}\n", pid_file.display());
    std::fs::write(&runtime, script).expect("a runtime");
    std::fs::set_permissions(&runtime, PermissionsExt::from_mode(0o755)).expect("a runtime");
    let log = format!("k8s-file:{}", path.display());
    let mut command = Command::new(find("conmon").expect("conmon"));
    command.args(["--sync", "--no-sync-log", "-c", "bench", "-u", "bench", "-n", "bench", "-l", &log]);
    command.arg("-r").arg(&runtime).arg("-b").arg(&bundle).arg("-p").arg(&pid_file);
    command.arg("--socket-dir-path").arg(&bundle).arg("--full-attach").arg("--exit-dir").arg(&bundle);
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().expect("start conmon");
    let pid = eventually("the container runs", || {
        std::fs::read_to_string(&pid_file).ok()?.trim().parse().ok().and_then(Pid::from_raw)
    });
    let pipe = format!("/proc/{}/fd/1", pid.as_raw_nonzero());
    let writer: File = OpenOptions::new().write(true).open(pipe).expect("the container's output");
    Running { child, writer: writer.into(), end: End::With(pid) }
}
