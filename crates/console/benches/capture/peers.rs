//! The ways of capturing, each as a process that reads its standard input.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use hypeman_console::buffer::Buffer;
use hypeman_console::capture::capture;
use hypeman_console::log::{Limits, Log};
use hypeman_console::writer::Writer;
use tokio_util::sync::CancellationToken;

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

/// Where socat is.
pub(crate) fn socat() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|directory| directory.join("socat")).find(|path| path.is_file())
}

/// A capturing process and the end to write to.
pub(crate) struct Running {
    pub(crate) child: Child,
    pub(crate) writer: OwnedFd,
}

/// This program again, as one of the two above, with one end of a pipe or socket as its standard input.
pub(crate) fn own(way: &str, path: &Path, source: OwnedFd, writer: OwnedFd) -> Running {
    let this = std::env::current_exe().expect("this program");
    let child = Command::new(this).arg(way).arg(path).stdin(Stdio::from(source)).spawn().expect("start");
    Running { child, writer }
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
    let child = Command::new(socat().expect("socat"))
        .args(["-u", "-b262144", "STDIN", &target])
        .stdin(Stdio::from(OwnedFd::from(connection)))
        .spawn()
        .expect("start socat");
    Running { child, writer: writer.into() }
}
