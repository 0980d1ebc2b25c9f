//! Output of the command on its way to the console: as with docker a pipe, so that nothing pages,
//! colours or prompts for a terminal that nobody uses.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::Mode;
use rustix::pipe::PipeFlags;

/// How long the end of the output is waited for after everyone who could print was killed. One whom
/// the kernel holds back may keep the pipe open, and cannot print.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// A pipe to the console.
pub(crate) struct Output {
    copier: JoinHandle<()>,
    ending: Arc<AtomicBool>,
}

/// Makes a pipe for a command, which the command may open again also as another user, as
/// /dev/stdout.
pub(crate) fn pipe() -> std::io::Result<(OwnedFd, OwnedFd)> {
    let (reader, writer) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
    rustix::fs::fchmod(&writer, Mode::from_raw_mode(0o666))?;
    Ok((reader, writer))
}

impl Output {
    /// Copies all that comes out of the pipe to the console, in a thread of its own.
    pub(crate) fn copy(reader: OwnedFd, console: File) -> Output {
        let ending = Arc::new(AtomicBool::new(false));
        let seen = ending.clone();
        let copier = std::thread::spawn(move || copy(File::from(reader), console, &seen));
        Output { copier, ending }
    }

    /// Waits until all is copied that those had printed who are dead now. Our own copy of the
    /// pipe's end is closed.
    pub(crate) fn finish(self) {
        self.ending.store(true, Ordering::Release);
        let _ = self.copier.join(); // it does not panic
    }
}

fn copy(mut reader: File, mut console: File, ending: &AtomicBool) {
    let mut buffer = vec![0; 64 * 1024];
    let patience = Timespec::try_from(LAST_WORDS).ok();
    loop {
        let was_ending = ending.load(Ordering::Acquire);
        let ready = rustix::event::poll(&mut [PollFd::new(&reader, PollFlags::IN)], patience.as_ref());
        match ready {
            Ok(0) if was_ending => return,
            Ok(0) | Err(rustix::io::Errno::INTR) => continue,
            Ok(_) => {}
            Err(_) => return,
        }
        match reader.read(&mut buffer) {
            Ok(0) | Err(_) => return,
            // The console waits for the host; that it fails is not to be expected, and then there
            // is nowhere to tell it.
            Ok(length) if console.write_all(&buffer[..length]).is_err() => return,
            Ok(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_was_printed_is_copied_before_the_end_also_while_the_pipe_is_held_open() {
        for held_open in [false, true] {
            let (reader, writer) = pipe().unwrap();
            let mut console = tempfile::tempfile().unwrap();
            let output = Output::copy(reader, console.try_clone().unwrap());
            let mut writer = File::from(writer);
            let printed: Vec<u8> = (0..1_000_000_u32).map(|number| number as u8).collect();
            writer.write_all(&printed).unwrap();
            let holder = held_open.then(|| writer.try_clone().unwrap());
            drop(writer);
            output.finish();
            drop(holder);
            std::io::Seek::rewind(&mut console).unwrap();
            let mut copied = Vec::new();
            console.read_to_end(&mut copied).unwrap();
            assert!(copied == printed, "{} bytes of {}", copied.len(), printed.len());
        }
    }
}
