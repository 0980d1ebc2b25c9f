//! The ways of capturing, each as a process of its own, with the end to write to.

mod conmon;
mod virtlogd;

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use hypeman_console::buffer::Buffer;
use hypeman_console::capture::capture;
use hypeman_console::log::{Limits, Log};
use hypeman_console::writer::Writer;
use hypeman_tests::needs::find;
use hypeman_tests::wait::until;
use rustix::process::{Pid, Signal, kill_process};
use tokio_util::sync::CancellationToken;

pub(crate) use conmon::conmon;
pub(crate) use virtlogd::virtlogd;

/// Packages to install.
const PACKAGES: [(&str, &str); 3] =
    [("socat", "socat"), ("conmon", "conmon"), (virtlogd::PROGRAM, "libvirt-daemon")];

/// A capturing process and the end to write to.
#[derive(Debug)]
pub(crate) struct Running {
    /// The process whose figures are taken.
    pub(crate) child: Child,
    pub(crate) writer: OwnedFd,
    end: End,
}

/// How it comes to its end.
#[derive(Debug)]
enum End {
    /// By itself, when nobody can write any more.
    ByItself,
    /// When the container has ended.
    With(Pid),
    /// By being killed when all is on disk.
    ByUs,
}

impl Running {
    /// Ends it, when all is on disk.
    pub(crate) fn end(self) {
        self.end_when(|| true);
    }

    /// Ends it when all is on disk, which is asked if it does not end then by itself.
    pub(crate) fn end_when(self, is_on_disk: impl FnMut() -> bool) {
        let Running { mut child, writer, end } = self;
        drop(writer);
        match end {
            End::ByItself => {}
            End::With(container) => kill_process(container, Signal::KILL).expect("kill"),
            End::ByUs => {
                until("all is on disk", is_on_disk);
                child.kill().expect("kill");
            }
        }
        child.wait().expect("the end of the capture");
    }
}

/// Returns the missing peers, and how to get them.
pub(crate) fn lacking() -> Option<String> {
    let missing = PACKAGES.iter().filter(|(program, _)| find(program).is_none());
    let packages: Vec<&str> = missing.map(|(_, package)| *package).collect();
    (!packages.is_empty()).then(|| format!("apt-get install {}", packages.join(" ")))
}

/// Our way.
pub(crate) fn capture_stdin(path: &Path, max_size: u64) {
    let limits = Limits { max_size, max_files: 3 };
    let mut writer =
        Writer::new(Log::open(path, limits).expect("open the log"), Buffer::new().expect("memory"));
    let stdin = rustix::io::fcntl_dupfd_cloexec(std::io::stdin(), 3).expect("standard input");
    rustix::io::ioctl_fionbio(&stdin, true).expect("non-blocking");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(capture(stdin, &mut writer, &CancellationToken::new(), &mut |_| {})).expect("capture");
}

/// The plainest way: read up to `size` bytes, write them, without rotation.
pub(crate) fn loop_stdin(path: &Path, size: usize) {
    let mut file = OpenOptions::new().append(true).create(true).open(path).expect("open the log");
    let mut buffer = vec![0; size];
    let mut stdin = File::from(rustix::io::fcntl_dupfd_cloexec(std::io::stdin(), 3).expect("standard input"));
    loop {
        match stdin.read(&mut buffer).expect("read") {
            0 => return,
            length => file.write_all(&buffer[..length]).expect("write"),
        }
    }
}

/// This program again, as one of the two above, with one end of a pipe or socket as its standard
/// input.
fn own(way: &str, path: &Path, source: OwnedFd, writer: OwnedFd) -> Running {
    let this = std::env::current_exe().expect("this program");
    let child = Command::new(this).arg(way).arg(path).stdin(Stdio::from(source)).spawn().expect("start");
    Running { child, writer, end: End::ByItself }
}

pub(crate) fn on_fifo(way: &str, path: &Path) -> Running {
    let (source, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).expect("a pipe");
    let _ = rustix::pipe::fcntl_setpipe_size(&source, 1 << 20);
    own(way, path, source, writer)
}

pub(crate) fn on_socket(way: &str, path: &Path) -> Running {
    let (source, writer) = UnixStream::pair().expect("a socket pair");
    own(way, path, source.into(), writer.into())
}

/// socat as a server on a unix socket, as people run it beside a VMM; it appends to the file.
pub(crate) fn socat_on_socket(path: &Path) -> Running {
    let socket = path.with_extension("sock");
    let _ = std::fs::remove_file(&socket);
    // The socket listens before socat starts, so that a connect waits instead of failing.
    let listener = UnixListener::bind(&socket).expect("bind");
    let writer = UnixStream::connect(&socket).expect("connect");
    let (connection, _) = listener.accept().expect("accept");
    let target = format!("OPEN:{},creat,append", path.display());
    let child = Command::new(find("socat").expect("socat"))
        .args(["-u", "-b262144", "STDIN", &target])
        .stdin(Stdio::from(OwnedFd::from(connection)))
        .spawn()
        .expect("start socat");
    Running { child, writer: writer.into(), end: End::ByItself }
}
