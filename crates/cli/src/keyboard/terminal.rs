//! Our terminal, while it is a guest's.

use std::io::Stdin;

use anyhow::{Context as _, Result};
use rustix::termios::{
    InputModes, LocalModes, OptionalActions, OutputModes, SpecialCodeIndex, Termios, isatty, tcgetattr,
    tcsetattr,
};

/// The terminal of our standard input, every key of which goes on as it is. It is as it was before
/// when this is dropped.
#[derive(Debug)]
pub(crate) struct RawTerminal {
    stdin: Stdin,
    before: Termios,
}

impl RawTerminal {
    /// Takes the terminal for a guest whose command `has_terminal` of its own, or none; `None` if
    /// standard input is none.
    pub(crate) fn take(has_terminal: bool) -> Result<Option<RawTerminal>> {
        let stdin = std::io::stdin();
        if !isatty(&stdin) {
            return Ok(None);
        }
        let before = tcgetattr(&stdin).context("use the terminal")?;
        let mut raw = before.clone();
        // As cfmakeraw(3), but for a command whose output is a pipe: it ends its lines with a
        // newline alone.
        if has_terminal {
            raw.output_modes -= OutputModes::OPOST;
        }
        raw.input_modes -= InputModes::IGNBRK
            | InputModes::BRKINT
            | InputModes::PARMRK
            | InputModes::ISTRIP
            | InputModes::INLCR
            | InputModes::IGNCR
            | InputModes::ICRNL
            | InputModes::IXON;
        raw.local_modes -= LocalModes::ECHO
            | LocalModes::ECHONL
            | LocalModes::ICANON
            | LocalModes::ISIG
            | LocalModes::IEXTEN;
        raw.special_codes[SpecialCodeIndex::VMIN] = 1;
        raw.special_codes[SpecialCodeIndex::VTIME] = 0;
        tcsetattr(&stdin, OptionalActions::Now, &raw).context("use the terminal")?;
        Ok(Some(RawTerminal { stdin, before }))
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        let _ = tcsetattr(&self.stdin, OptionalActions::Now, &self.before);
    }
}
