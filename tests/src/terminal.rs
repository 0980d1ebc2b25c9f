//! A terminal that a test sits at.

use std::fs::File;
use std::io::{Read, Write};
use std::process::{Child, Command};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};

use crate::wait::until;

/// A pseudo-terminal: what a program shows on it is gathered, and what is typed comes to the
/// program.
#[derive(Debug)]
pub struct Terminal {
    keyboard: File,
    line: File,
    shown: Arc<Mutex<Vec<u8>>>,
}

impl Terminal {
    /// A new one.
    ///
    /// # Panics
    /// When there is none to be had.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "it opens something")]
    pub fn new() -> Terminal {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a pseudo-terminal");
        grantpt(&master).expect("grantpt");
        unlockpt(&master).expect("unlockpt");
        let name = ptsname(&master, Vec::new()).expect("ptsname").into_string().expect("UTF-8");
        let line = File::options().read(true).write(true).open(name).expect("open the terminal");
        let keyboard = File::from(master);
        let mut screen = keyboard.try_clone().expect("another handle");
        let shown = Arc::new(Mutex::new(Vec::new()));
        let gathered = shown.clone();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = screen.read(&mut buffer) {
                gathered.lock().unwrap_or_else(PoisonError::into_inner).extend(&buffer[..count]);
            }
        });
        Terminal { keyboard, line, shown }
    }

    /// Starts a command on it.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn start(&self, mut command: Command) -> Child {
        let line = || self.line.try_clone().expect("another handle");
        command.stdin(line()).stdout(line()).stderr(line()).spawn().expect("start a command")
    }

    /// Types.
    ///
    /// # Panics
    /// When nobody reads.
    pub fn types(&self, bytes: &[u8]) {
        (&self.keyboard).write_all(bytes).expect("type");
    }

    /// Gives it another size.
    ///
    /// # Panics
    /// When it is gone.
    pub fn resize(&self, rows: u16, columns: u16) {
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&self.keyboard, size).expect("another size");
    }

    /// Returns the output so far.
    pub fn shown(&self) -> MutexGuard<'_, Vec<u8>> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until this text is shown, and takes it and all before it away.
    ///
    /// # Panics
    /// When it is not.
    pub fn shows(&self, text: &str) -> String {
        let mut taken = None;
        until(&format!("the terminal shows {text:?}"), || {
            let mut shown = self.shown();
            let found = shown.windows(text.len()).position(|window| window == text.as_bytes());
            taken = found.map(|at| shown.drain(..at + text.len()).collect::<Vec<u8>>());
            taken.is_some()
        });
        String::from_utf8_lossy(&taken.unwrap_or_default()).into_owned()
    }

    /// Whether it is as it was at first: it gathers lines, and shows what is typed.
    ///
    /// # Panics
    /// When it is gone.
    #[must_use]
    pub fn is_cooked(&self) -> bool {
        let modes = tcgetattr(&self.line).expect("the terminal's modes").local_modes;
        modes.contains(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG)
    }
}
