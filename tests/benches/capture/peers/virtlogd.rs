//! libvirt's virtlogd, which captures the consoles of its VMs. It is asked for a log as libvirtd
//! asks it, over its own protocol (src/logging/log_protocol.x, src/rpc/virnetprotocol.x of
//! libvirt), and answers with the end of a pipe.

use std::io::{IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};

use hypeman_tests::needs::find;
use hypeman_tests::wait::eventually;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};

use super::{End, Running};

/// Its program, which Debian has where only root looks.
pub(crate) const PROGRAM: &str = "virtlogd";

/// Where it listens, as root.
const SOCKET: &str = "/run/libvirt/virtlogd-sock";

/// VIR_LOG_MANAGER_PROTOCOL_PROGRAM, its version, and
/// VIR_LOG_MANAGER_PROTOCOL_PROC_DOMAIN_OPEN_LOG_FILE.
const OPEN_LOG_FILE: [u32; 3] = [0x8753_9319, 1, 1];

/// Length of a message's head: its length, program, version, procedure, type, serial and status.
const HEAD: usize = 28;

/// A virtlogd that does not rotate, with one log.
pub(crate) fn virtlogd(path: &Path) -> Running {
    std::fs::create_dir_all("/run/libvirt").expect("a directory");
    let _ = std::fs::remove_file(SOCKET);
    let (rules, pid_file) = (path.with_extension("conf"), path.with_extension("pid"));
    std::fs::write(&rules, "max_size = 0\n").expect("its rules");
    let mut command = Command::new(find(PROGRAM).expect("virtlogd"));
    command.arg("-f").arg(&rules).arg("-p").arg(&pid_file).stdin(Stdio::null()).stderr(Stdio::null());
    let child = command.spawn().expect("start virtlogd");
    let mut connection = eventually("virtlogd listens", || UnixStream::connect(SOCKET).ok());
    connection.write_all(&request(path)).expect("ask");
    let writer = answer(&mut connection);
    Running { child, writer, end: End::ByUs }
}

fn request(path: &Path) -> Vec<u8> {
    let number = |number: u32| number.to_be_bytes();
    let text = |text: &str| {
        let padding = text.len().next_multiple_of(4) - text.len();
        [&number(text.len() as u32)[..], text.as_bytes(), &[0; 3][..padding]].concat()
    };
    let (call, serial, ok) = (0, 1, 0);
    let head = [OPEN_LOG_FILE.as_slice(), &[call, serial, ok]].concat();
    let mut body: Vec<u8> = head.into_iter().flat_map(number).collect();
    body.extend(text("bench"));
    body.extend([7; 16]); // the domain's UUID
    body.extend(text("bench"));
    body.extend(text(path.to_str().expect("UTF-8")));
    body.extend(number(0));
    [&number(body.len() as u32 + 4)[..], &body].concat()
}

/// The descriptor that comes with the answer: behind it, with a byte of its own.
fn answer(connection: &mut UnixStream) -> OwnedFd {
    let mut head = [0; HEAD];
    connection.read_exact(&mut head).expect("an answer");
    let number = |at: usize| u32::from_be_bytes(head[at..at + 4].try_into().expect("four bytes"));
    assert_eq!(number(24), 0, "virtlogd refuses");
    let mut rest = vec![0; number(0) as usize - HEAD];
    connection.read_exact(&mut rest).expect("an answer");
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    recvmsg(connection, &mut [IoSliceMut::new(&mut byte)], &mut control, RecvFlags::CMSG_CLOEXEC)
        .expect("it");
    let rights = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut rights) => rights.next(),
        _ => None,
    });
    rights.expect("a descriptor")
}
