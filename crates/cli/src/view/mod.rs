//! Views of a log: raw, or line by line with names and times, or as JSON.

mod json;

use std::ops::ControlFlow;
use std::time::SystemTime;

use anstyle::{AnsiColor, Style};
use hypeman_console::lines::{Lines, Piece};
use hypeman_console::reader::Reader;
use jiff::Timestamp;

use crate::args::Source;
use crate::escape::Escaper;
use crate::output;

/// A longer line is cut where lines of several instances, or objects, are to be kept apart, in
/// bytes.
const LONGEST_LINE: usize = 64 * 1024;

/// The colours of names, one after the other.
const COLOURS: [AnsiColor; 6] = [
    AnsiColor::Cyan,
    AnsiColor::Yellow,
    AnsiColor::Green,
    AnsiColor::Magenta,
    AnsiColor::Blue,
    AnsiColor::BrightRed,
];

/// How logs are shown.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Options {
    /// Which logs they are.
    pub(crate) source: Source,
    /// One object a line.
    pub(crate) json: bool,
    /// The time before each line.
    pub(crate) timestamps: bool,
    /// Write control characters as they are.
    pub(crate) raw: bool,
    /// Nothing that was written later.
    pub(crate) until: Option<SystemTime>,
}

/// How one instance's log is shown.
#[derive(Debug)]
pub(crate) struct View {
    options: Options,
    instance: String,
    /// Prefix of each line, among lines of other instances.
    prefix: Option<String>,
    lines: Lines,
    escaper: Option<Escaper>,
    /// A line whose end has not come, if it has to be shown in one piece, with its time.
    held: Option<Held>,
}

/// A line, or as much of it as is shown at once.
#[derive(Debug, Default)]
struct Held {
    bytes: Vec<u8>,
    time: Option<SystemTime>,
}

impl View {
    /// A view of this instance's log. To a terminal, what that would obey is shown instead, unless
    /// the options have it raw.
    pub(crate) fn new(options: Options, instance: &str) -> View {
        let escaper = (!options.raw && !options.json && output::is_terminal()).then(Escaper::default);
        let (instance, lines) = (instance.to_owned(), Lines::default());
        View { options, instance, prefix: None, lines, escaper, held: None }
    }

    /// Says before each line whose it is, as the one at `index` of instances whose longest name has
    /// `width` characters.
    pub(crate) fn with_prefix(mut self, index: usize, width: usize) -> View {
        let style = match output::is_coloured() {
            true => COLOURS[index % COLOURS.len()].on_default(),
            false => Style::new(),
        };
        self.prefix = Some(format!("{style}{:<width$} |{style:#} ", self.instance));
        self
    }

    /// Whether bytes are shown as they are.
    fn is_exact(&self) -> bool {
        let Options { json, timestamps, until, .. } = self.options;
        !json && !timestamps && until.is_none() && self.prefix.is_none() && self.escaper.is_none()
    }

    /// Puts into `out` what the reader has just read. Breaks when no more is wanted.
    pub(crate) fn show(&mut self, reader: &mut Reader, read: &[u8], out: &mut Vec<u8>) -> ControlFlow<()> {
        if self.is_exact() {
            out.extend(read);
            return ControlFlow::Continue(());
        }
        let mut begin = 0;
        let mut looked_at = 0;
        while let Some(next) = reader.line_begins(looked_at..read.len()) {
            self.show_lines(reader, begin, &read[begin..next], out)?;
            self.begin_line(out);
            begin = next;
            looked_at = next + 1;
        }
        self.show_lines(reader, begin, &read[begin..], out)
    }

    /// Shows bytes that were read, the first of them at `begin`.
    fn show_lines(
        &mut self,
        reader: &mut Reader,
        begin: usize,
        read: &[u8],
        out: &mut Vec<u8>,
    ) -> ControlFlow<()> {
        let mut lines = std::mem::take(&mut self.lines);
        let needs_time = self.options.json || self.options.timestamps || self.options.until.is_some();
        let shown = lines.pieces(read).try_for_each(|piece| {
            let time = if piece.begins && needs_time { reader.time_of(begin + piece.index) } else { None };
            self.piece(piece, time, out)
        });
        self.lines = lines;
        shown
    }

    /// Ends a line that has no end: what comes is another boot's.
    fn begin_line(&mut self, out: &mut Vec<u8>) {
        if !self.lines.begin() {
            return;
        }
        match self.held.take() {
            Some(held) => self.line(&held, false, out),
            None if self.options.timestamps => out.push(b'\n'),
            None => {}
        }
    }

    /// Shows what waits for its end, when nothing more comes.
    pub(crate) fn finish(&mut self, out: &mut Vec<u8>) {
        if let Some(held) = self.held.take() {
            self.line(&held, false, out);
        }
        if let Some(escaper) = &mut self.escaper {
            escaper.finish(out);
        }
    }

    fn piece(&mut self, piece: Piece<'_>, time: Option<SystemTime>, out: &mut Vec<u8>) -> ControlFlow<()> {
        if let (Some(until), Some(time)) = (self.options.until, time)
            && time > until
        {
            return ControlFlow::Break(());
        }
        if !self.options.json && self.prefix.is_none() {
            if piece.begins {
                self.time(time, out);
            }
            self.text(piece.bytes, out);
            return ControlFlow::Continue(());
        }
        let mut held = self.held.take().unwrap_or_else(|| Held { time, bytes: Vec::new() });
        let mut rest = piece.bytes;
        while held.bytes.len() + rest.len() > LONGEST_LINE {
            let (some, more) = rest.split_at(LONGEST_LINE.saturating_sub(held.bytes.len()));
            held.bytes.extend(some);
            self.line(&held, false, out);
            held = Held { time: held.time, bytes: Vec::new() };
            rest = more;
        }
        held.bytes.extend(rest);
        if piece.ends {
            self.line(&held, true, out);
        } else {
            self.held = Some(held);
        }
        ControlFlow::Continue(())
    }

    /// Shows a line, or a part of one that is too long or has no end.
    fn line(&mut self, line: &Held, ends: bool, out: &mut Vec<u8>) {
        if self.options.json {
            let text = if ends { &line.bytes[..line.bytes.len() - 1] } else { &line.bytes };
            return json::object(&self.instance, self.options.source, line.time, text, !ends, out);
        }
        out.extend(self.prefix.iter().flat_map(|prefix| prefix.as_bytes()));
        self.time(line.time, out);
        self.text(&line.bytes, out);
        if let Some(escaper) = &mut self.escaper {
            escaper.end_colour(out); // it is not the next instance's
        }
        if !ends {
            out.push(b'\n');
        }
    }

    fn time(&self, time: Option<SystemTime>, out: &mut Vec<u8>) {
        if self.options.timestamps {
            let time = time.and_then(|time| Timestamp::try_from(time).ok());
            out.extend(time.map_or("-".to_owned(), |time| format!("{time:.9}")).as_bytes());
            out.push(b' ');
        }
    }

    fn text(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        match &mut self.escaper {
            Some(escaper) => escaper.write(bytes, out),
            None => out.extend(bytes),
        }
    }
}
