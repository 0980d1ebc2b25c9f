//! Input and output of the command: nothing and a pipe, as with docker; or the keyboard, or the
//! console as its terminal.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::Stdio;

use hypeman_record::guest::config;
use rustix::fs::{Mode, Uid};

use crate::console;
use crate::output::{self, Output};
use crate::report::{Context, Failure};
use crate::user::User;

/// For one command.
pub(crate) struct Streams {
    input: OwnedFd,
    output: OwnedFd,
    is_terminal: bool,
}

/// Output that is still to be copied to the console.
pub(crate) struct Printed(Option<(OwnedFd, File)>);

impl Streams {
    /// Those that the configuration asks for, on this console.
    pub(crate) fn open(
        stdio: config::Stdio,
        console: File,
        user: &User,
    ) -> Result<(Streams, Printed), Failure> {
        let again = |file: &File| file.try_clone().map(OwnedFd::from).context("open the console");
        if stdio.tty {
            // The command may become another user and open its terminal again, as with login(1).
            let owner = rustix::fs::fchown(&console, Some(Uid::from_raw(user.uid)), None);
            owner
                .and_then(|()| rustix::fs::fchmod(&console, Mode::from_raw_mode(0o620)))
                .context("give the console away")?;
            let streams = Streams { input: again(&console)?, output: console.into(), is_terminal: true };
            return Ok((streams, Printed(None)));
        }
        console::make_exact(&console);
        let input = if stdio.interactive {
            console::make_input(&console);
            typed(File::from(again(&console)?))?
        } else {
            OpenOptions::new().read(true).open("/dev/null").context("open an empty input")?.into()
        };
        // Standard output and standard error are its one end, so that what is printed keeps its
        // order.
        let (reader, writer) = output::pipe().context("make a pipe for the output")?;
        let streams = Streams { input, output: writer, is_terminal: false };
        Ok((streams, Printed(Some((reader, console)))))
    }

    /// As a command's input, output and errors.
    pub(crate) fn into_stdio(self) -> Result<[Stdio; 3], Failure> {
        let errors = self.output.try_clone().context("open the output")?;
        Ok([self.input.into(), self.output.into(), errors.into()])
    }

    /// Whether the command's standard input is to be its terminal.
    pub(crate) fn is_terminal(&self) -> bool {
        self.is_terminal
    }
}

impl Printed {
    /// Copies it from now on.
    pub(crate) fn copy(self) -> Option<Output> {
        self.0.map(|(reader, console)| Output::copy(reader, console))
    }
}

/// A pipe with what is typed, up to the end of the input. Not the console itself: programs take one
/// for a person, and who splices from it to the pipe of the output, as busybox's cat does, holds
/// that locked until something is typed (`splice_file_to_pipe`, fs/splice.c).
fn typed(mut console: File) -> Result<OwnedFd, Failure> {
    let (reader, writer) = output::pipe().context("make a pipe for the input")?;
    std::thread::spawn(move || {
        let mut writer = File::from(writer);
        let mut buffer = [0; 4096];
        // Not std::io::copy, which splices as well.
        while let Ok(count @ 1..) = console.read(&mut buffer) {
            if writer.write_all(&buffer[..count]).is_err() {
                return; // the program listens no more
            }
        }
    });
    Ok(reader)
}
