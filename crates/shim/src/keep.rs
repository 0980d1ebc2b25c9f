//! A console's connection that outlives its shim. A socket's unread bytes are gone when its last
//! reader is; so the connection lies as well in a message that nobody has taken out (SCM_RIGHTS,
//! unix(7)), in a socket that the VMM holds open. The next shim borrows that socket from the VMM
//! (pidfd_getfd(2)) and looks at the message.

use std::io::{Error, ErrorKind, IoSlice, IoSliceMut, Result};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use hypeman_vmm::vm::Console;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg,
};

/// Maximum number of connections that are looked at: there are two while a shim makes a new one.
/// The VMM could put in as many as it likes.
const MOST_KEPT: usize = 4;

/// So many single bytes all but fill a connection, which has room for some 280 (unix(7)).
const NEARLY_FULL: u64 = 256;

/// Both ends of the pair: what is sent into the one lies in the other, of which the VMM has a copy.
#[derive(Debug)]
pub(crate) struct Keep {
    sender: OwnedFd,
    store: OwnedFd,
}

impl Keep {
    /// One in which nothing is kept yet.
    pub(crate) fn new() -> Result<Keep> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let (sender, store) =
            rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
        Ok(Keep { sender, store })
    }

    /// The end that the VMM is to hold.
    pub(crate) fn store(&self) -> BorrowedFd<'_> {
        self.store.as_fd()
    }

    /// Opens a VMM's store, and returns the newest connection in it that is still open.
    pub(crate) fn open(store: OwnedFd) -> Result<(Keep, Console)> {
        for _ in 0..MOST_KEPT {
            let [output, sender] = look(&store, RecvFlags::PEEK)?;
            if !has_hung_up(&output) {
                let input = output.try_clone()?;
                return Ok((Keep { sender, store }, Console { output, input }));
            }
            look(&store, RecvFlags::empty())?; // of one that was made anew the next message tells
        }
        Err(Error::new(ErrorKind::InvalidData, "none of the connections is open"))
    }

    /// The connection that is kept.
    pub(crate) fn connection(&self) -> Result<Console> {
        let [output, _] = look(&self.store, RecvFlags::PEEK)?;
        if has_hung_up(&output) {
            return Err(ErrorKind::NotConnected.into());
        }
        Ok(Console { input: output.try_clone()?, output })
    }

    /// Keeps this connection instead of those before, if it is one that needs to be kept. Of a shim
    /// that is killed in here two stay, the newer one of which is the same or was never connected.
    pub(crate) fn put(&self, console: &Console) -> Result<()> {
        if !is_socket(console) {
            return Ok(());
        }
        let descriptors = [console.output.as_fd(), self.sender.as_fd()];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        control.push(SendAncillaryMessage::ScmRights(&descriptors));
        sendmsg(&self.sender, &[IoSlice::new(b"c")], &mut control, SendFlags::NOSIGNAL)?;
        while rustix::io::ioctl_fionread(&self.store)? > 1 {
            look(&self.store, RecvFlags::empty())?; // never without one; a message is one byte
        }
        Ok(())
    }
}

/// Whether a console is a socket.
pub(crate) fn is_socket(console: &Console) -> bool {
    use rustix::fs::FileType;
    let stat = rustix::fs::fstat(&console.output);
    stat.is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Socket)
}

/// Whether so much waits to be read that the VMM may not have been able to send all.
pub(crate) fn is_full(console: &Console) -> bool {
    waiting(console) >= NEARLY_FULL
}

/// How many bytes wait to be read.
pub(crate) fn waiting(console: &Console) -> u64 {
    rustix::io::ioctl_fionread(&console.output).unwrap_or(0)
}

/// The descriptors in the first message.
fn look(store: &OwnedFd, flags: RecvFlags) -> Result<[OwnedFd; 2]> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    let flags = flags | RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
    recvmsg(store, &mut [IoSliceMut::new(&mut byte)], &mut control, flags)?;
    let rights = control.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(rights) => Some(rights),
        _ => None,
    });
    let descriptors: Vec<OwnedFd> = rights.flatten().collect();
    descriptors.try_into().map_err(|_| Error::new(ErrorKind::InvalidData, "no connection was kept"))
}

fn has_hung_up(connection: &OwnedFd) -> bool {
    let mut polled = [PollFd::new(connection, PollFlags::empty())];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    let _ = rustix::event::poll(&mut polled, Some(&now));
    polled[0].revents().intersects(PollFlags::HUP | PollFlags::ERR)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    use super::*;

    fn connection() -> (UnixStream, Console) {
        let (vmm, ours) = UnixStream::pair().unwrap();
        (vmm, Console { input: ours.try_clone().unwrap().into(), output: ours.into() })
    }

    fn read(console: Console) -> String {
        let mut bytes = [0; 1000];
        let length = UnixStream::from(console.output).read(&mut bytes).unwrap();
        String::from_utf8(bytes[..length].to_vec()).unwrap()
    }

    #[test]
    fn what_nobody_has_read_outlives_the_reader_again_and_again() {
        let (mut vmm, console) = connection();
        let keep = Keep::new().unwrap();
        keep.put(&console).unwrap();
        drop(console);
        let held = keep.store.try_clone().unwrap(); // by the VMM
        drop(keep);
        for (said, is_full) in [("one", false), ("two", false), (&*"x".repeat(300), true)] {
            vmm.write_all(said.as_bytes()).unwrap();
            let (_, console) = Keep::open(held.try_clone().unwrap()).unwrap();
            assert_eq!(super::is_full(&console), is_full);
            assert_eq!(read(console), said);
        }
    }

    #[test]
    fn what_a_killed_shim_has_left_behind_goes_with_the_next_connection() {
        let keep = Keep::new().unwrap();
        let (_first, console) = connection();
        keep.put(&console).unwrap();
        // A shim was killed after it had sent, and before it had taken the one before out.
        let descriptors = [console.output.as_fd(), keep.sender.as_fd()];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        control.push(SendAncillaryMessage::ScmRights(&descriptors));
        sendmsg(&keep.sender, &[IoSlice::new(b"c")], &mut control, SendFlags::empty()).unwrap();
        let (mut new, console) = connection();
        keep.put(&console).unwrap();
        new.write_all(b"new").unwrap();
        assert_eq!(read(Keep::open(keep.store.try_clone().unwrap()).unwrap().1), "new");
    }

    #[test]
    fn of_two_connections_the_one_that_is_open_is_found() {
        let keep = Keep::new().unwrap();
        let (old, console) = connection();
        keep.put(&console).unwrap();
        drop((old, console));
        let held = keep.store.try_clone().unwrap();
        let (mut new, console) = connection();
        keep.put(&console).unwrap();
        new.write_all(b"new").unwrap();
        assert_eq!(read(Keep::open(held.try_clone().unwrap()).unwrap().1), "new");
        drop((new, console));
        assert!(Keep::open(held).is_err(), "none is open");
    }
}
