//! Escapes untrusted text for a terminal: text passes, and colours in a guest's output; other
//! sequences that a terminal would obey are shown.
//!
//! An escaped sequence is shown byte by byte, control characters as `^[` and the like, and the text
//! after it as text: a guest cannot hide what follows in a sequence that it never ends.

use std::borrow::Cow;
use std::io::Write;

use anstyle_parse::{Params, Parser, Perform, Utf8Parser};

/// No colour needs a longer sequence.
const LONGEST: usize = 64;

const ESCAPE: u8 = 0x1b;

/// Remembers what of a sequence has come.
#[derive(Debug, Default)]
pub(crate) struct Escaper {
    parser: Parser<Utf8Parser>,
    /// Bytes whose meaning depends on what comes.
    sequence: Vec<u8>,
    /// A carriage return has come, which is one if it ends a line and else goes back over what it
    /// hides.
    has_return: bool,
    has_colour: bool,
}

/// Class of a byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Meaning {
    /// More has to come.
    Unfinished,
    Character(char),
    Control,
    Colour,
    Other,
}

impl Escaper {
    /// Writes what has come, made safe.
    pub(crate) fn write(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        for byte in bytes {
            self.take(*byte, out);
        }
    }

    /// Writes what is still waiting for its end, and ends colours that were not.
    pub(crate) fn finish(&mut self, out: &mut Vec<u8>) {
        while !self.sequence.is_empty() {
            self.refuse(out);
        }
        if std::mem::take(&mut self.has_return) {
            escape(b'\r', out);
        }
        self.end_colour(out);
    }

    /// Ends colours that were not ended.
    pub(crate) fn end_colour(&mut self, out: &mut Vec<u8>) {
        if std::mem::take(&mut self.has_colour) {
            out.extend(b"\x1b[0m");
        }
    }

    fn take(&mut self, byte: u8, out: &mut Vec<u8>) {
        if std::mem::take(&mut self.has_return) {
            match byte {
                b'\n' => out.push(b'\r'),
                _ => escape(b'\r', out),
            }
        }
        self.sequence.push(byte);
        let mut meaning = Meaning::Unfinished;
        self.parser.advance(&mut Performer(&mut meaning), byte);
        match meaning {
            Meaning::Unfinished if self.may_be_finished() => return,
            Meaning::Character(character) if self.is_just(character) => show(character, out),
            Meaning::Control if self.sequence == b"\r" => self.has_return = true,
            Meaning::Control if matches!(self.sequence[..], [b'\n' | b'\t']) => out.push(byte),
            Meaning::Colour if self.sequence.starts_with(b"\x1b[") => {
                out.extend(&self.sequence);
                self.has_colour = true;
            }
            _ => return self.refuse(out),
        }
        self.sequence.clear();
    }

    /// Whether what has come can still be a colour or a character.
    fn may_be_finished(&self) -> bool {
        match self.sequence[..] {
            [ESCAPE] => true,
            [ESCAPE, b'[', ref rest @ ..] => !rest.contains(&ESCAPE) && rest.len() < LONGEST,
            [first, ..] => first >= 0xc2 && self.sequence.len() < 4,
            [] => true,
        }
    }

    /// Whether the sequence is this character, and not something that the parser has replaced by
    /// it.
    fn is_just(&self, character: char) -> bool {
        self.sequence == character.encode_utf8(&mut [0; 4]).as_bytes()
    }

    /// Shows the first byte of the sequence, and takes the others for what they are by themselves.
    fn refuse(&mut self, out: &mut Vec<u8>) {
        self.parser = Parser::default();
        let sequence = std::mem::take(&mut self.sequence);
        let Some((first, rest)) = sequence.split_first() else { return };
        escape(*first, out);
        self.write(rest, out);
    }
}

/// Text of ours in which there may be some of unknown origin, with its lines as they are.
pub(crate) fn printable(text: &str) -> Cow<'_, str> {
    replaced(text, |character| matches!(character, '\n' | '\t'), show)
}

/// A cell of a table, all in one line.
pub(crate) fn cell(text: &str) -> Cow<'_, str> {
    replaced(text, |_| false, show)
}

/// JSON, in whose strings serde_json escapes the control characters of ASCII only.
pub(crate) fn json(text: &str) -> Cow<'_, str> {
    let in_json = |character: char, out: &mut Vec<u8>| {
        let mut units = [0; 2];
        for unit in character.encode_utf16(&mut units) {
            let _ = write!(out, "\\u{unit:04x}");
        }
    };
    replaced(text, |character| character.is_ascii() && character != '\x7f', in_json)
}

/// Text in which all that is no text is put otherwise, but for what is kept.
fn replaced(text: &str, is_kept: impl Fn(char) -> bool, put: impl Fn(char, &mut Vec<u8>)) -> Cow<'_, str> {
    let is_replaced = |c: char| (c.is_control() || is_reordering(c)) && !is_kept(c);
    // As a rule it is plain ASCII, which is told by its bytes alone.
    if text.bytes().all(|byte| matches!(byte, b' '..=b'~')) || !text.contains(is_replaced) {
        return text.into();
    }
    let mut out = Vec::with_capacity(text.len() + 16);
    for character in text.chars() {
        if is_replaced(character) {
            put(character, &mut out);
        } else {
            out.extend(character.encode_utf8(&mut [0; 4]).as_bytes());
        }
    }
    String::from_utf8_lossy(&out).into_owned().into()
}

/// A character, if it is text.
fn show(character: char, out: &mut Vec<u8>) {
    if character.is_ascii_control() {
        escape(character as u8, out);
    } else if character.is_control() || is_reordering(character) {
        let _ = write!(out, "\\u{{{:x}}}", u32::from(character));
    } else {
        out.extend(character.encode_utf8(&mut [0; 4]).as_bytes());
    }
}

/// Whether it makes text read in another order than it is written (Unicode Standard Annex 9,
/// explicit formatting characters).
fn is_reordering(character: char) -> bool {
    matches!(character, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// A byte as `cat -v` shows it; one of no character by its number.
fn escape(byte: u8, out: &mut Vec<u8>) {
    match byte {
        0..=0x1f => out.extend([b'^', byte + b'@']),
        0x7f => out.extend(b"^?"),
        0x80.. => {
            let _ = write!(out, "\\x{byte:02x}");
        }
        _ => out.push(byte),
    }
}

/// Tells the meaning of the last byte.
struct Performer<'a>(&'a mut Meaning);

impl Perform for Performer<'_> {
    fn print(&mut self, character: char) {
        *self.0 = Meaning::Character(character);
    }

    fn execute(&mut self, _: u8) {
        *self.0 = Meaning::Control;
    }

    fn hook(&mut self, _: &Params, _: &[u8], _: bool, _: u8) {
        *self.0 = Meaning::Other;
    }

    fn osc_dispatch(&mut self, _: &[&[u8]], _: bool) {
        *self.0 = Meaning::Other;
    }

    fn csi_dispatch(&mut self, _: &Params, intermediates: &[u8], ignore: bool, action: u8) {
        // With a private marker, `m` is no colour (xterm's modifyOtherKeys).
        let is_colour = action == b'm' && intermediates.is_empty() && !ignore;
        *self.0 = if is_colour { Meaning::Colour } else { Meaning::Other };
    }

    fn esc_dispatch(&mut self, _: &[u8], _: bool, _: u8) {
        *self.0 = Meaning::Other;
    }
}

/// Text of unknown origin, made safe and cut to `width` characters.
pub(crate) fn short(text: &str, width: usize) -> String {
    let safe = cell(text);
    if safe.chars().count() <= width {
        return safe.into_owned();
    }
    safe.chars().take(width.saturating_sub(1)).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shown(chunks: &[&[u8]]) -> String {
        let mut escaper = Escaper::default();
        let mut out = Vec::new();
        chunks.iter().for_each(|chunk| escaper.write(chunk, &mut out));
        escaper.finish(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn text_and_colours_pass_and_what_else_a_terminal_obeys_is_shown() {
        let table: [(&str, &str); 17] = [
            ("plain \u{e9} \u{4e2d}\t.\n", "plain \u{e9} \u{4e2d}\t.\n"),
            ("\x1b[1;31mred\x1b[0m\n", "\x1b[1;31mred\x1b[0m\n\x1b[0m"),
            ("\x1b[38:2::1:2:3mx", "\x1b[38:2::1:2:3mx\x1b[0m"),
            ("dos\r\n", "dos\r\n"),
            ("real\rfake\n", "real^Mfake\n"),
            ("\x1b]0;title\x07after", "^[]0;title^Gafter"),
            ("\x1b]52;c;cm0gLXJm\x1b\\after", "^[]52;c;cm0gLXJm^[\\after"),
            ("\x1b]0;never ended", "^[]0;never ended"),
            ("\x1bP+q544e\x1b\\x", "^[P+q544e^[\\x"),
            ("\x1b[2J\x1b[H\x1b[c\x1b[6n", "^[[2J^[[H^[[c^[[6n"),
            ("\x1b[>4;2m\x1b[?1049h\x1bc", "^[[>4;2m^[[?1049h^[c"),
            ("\x1b[3\n1m", "^[[3\n1m"),
            ("\x1b", "^["),
            ("\u{9b}2J\u{202e}abc", "\\u{9b}2J\\u{202e}abc"),
            ("\x00\x07\x08\x7f\u{85}", "^@^G^H^?\\u{85}"),
            ("x\r", "x^M"),
            ("\x1b[\x1b[31mred", "^[[\x1b[31mred\x1b[0m"),
        ];
        for (printed, expected) in table {
            assert_eq!(shown(&[printed.as_bytes()]), expected, "{printed:?}");
            let bytes: Vec<&[u8]> = printed.as_bytes().chunks(1).collect();
            assert_eq!(shown(&bytes), expected, "{printed:?}, byte by byte");
        }
        assert_eq!(shown(&[b"\xff\xc3A\x9b2J\xe4\xb8\n"]), "\\xff\\xc3A\\x9b2J\\xe4\\xb8\n");
        let endless = [b"\x1b[".to_vec(), vec![b'1'; 1000]].concat();
        assert_eq!(shown(&[&endless]), format!("^[[{}", "1".repeat(1000)));
    }

    #[test]
    fn what_we_say_ourselves_has_neither_colours_nor_other_controls() {
        let text = "a\x1b[31m\u{9b}2J\n\t\r\u{202e}b";
        assert_eq!(printable(text), "a^[[31m\\u{9b}2J\n\t^M\\u{202e}b");
        assert_eq!(cell(text), "a^[[31m\\u{9b}2J^J^I^M\\u{202e}b");
        let document = serde_json::to_string(&[text, "\x7f"]).unwrap();
        let safe = json(&document);
        assert!(!safe.contains(|c: char| c.is_control() || is_reordering(c)), "{safe}");
        assert_eq!(serde_json::from_str::<[String; 2]>(&safe).unwrap(), [text, "\x7f"]);
    }

    proptest! {
        #[test]
        fn nothing_but_text_and_colours_comes_to_the_terminal(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let text = shown(&[&bytes]);
            for (index, character) in text.char_indices().filter(|(_, character)| character.is_control()) {
                let rest = &text[index..];
                let is_colour = rest.strip_prefix("\x1b[").is_some_and(|rest| {
                    rest.trim_start_matches(|c: char| c.is_ascii_digit() || ";:".contains(c)).starts_with('m')
                });
                prop_assert!(is_colour || rest.starts_with("\r\n") || matches!(character, '\n' | '\t'), "{text:?}");
            }
        }
    }
}
