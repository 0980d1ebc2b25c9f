//! Lines of a log as server-sent events (<https://html.spec.whatwg.org/multipage/server-sent-events.html>).

/// Longest line that is one event, in bytes. A longer one is split.
const MAX_LINE: usize = 1 << 20;

/// Cuts bytes into lines, each an event with a JSON string.
#[derive(Debug, Default)]
pub struct Lines {
    /// A line whose end has not come.
    begun: Vec<u8>,
    /// Whether a part of it was told already.
    is_split: bool,
}

impl Lines {
    /// Takes bytes, and adds the events of the lines that have their end.
    pub fn take(&mut self, mut bytes: &[u8], events: &mut Vec<u8>) {
        while !bytes.is_empty() {
            let room = MAX_LINE - self.begun.len();
            let within = &bytes[..bytes.len().min(room)];
            match memchr::memchr(b'\n', within) {
                Some(end) if self.begun.is_empty() && !self.is_split => {
                    event(&bytes[..end], events);
                    bytes = &bytes[end + 1..];
                }
                Some(end) => {
                    self.begun.extend_from_slice(&bytes[..end]);
                    self.finish(events);
                    self.is_split = false;
                    bytes = &bytes[end + 1..];
                }
                None => {
                    self.begun.extend_from_slice(within);
                    bytes = &bytes[within.len()..];
                    if self.begun.len() == MAX_LINE {
                        self.split(events);
                    }
                }
            }
        }
    }

    /// Adds the event of the line that has no end, if there is one.
    pub fn finish(&mut self, events: &mut Vec<u8>) {
        if !self.begun.is_empty() {
            event(&self.begun, events);
            self.begun.clear();
        }
    }

    /// Adds an event of our own.
    pub fn note(&mut self, text: &str, events: &mut Vec<u8>) {
        self.finish(events);
        event(text.as_bytes(), events);
    }

    /// Adds the event of a line that is too long, but for the beginning of a character at its end.
    fn split(&mut self, events: &mut Vec<u8>) {
        let whole = match std::str::from_utf8(&self.begun) {
            Err(error) if error.error_len().is_none() => error.valid_up_to(),
            _ => self.begun.len(),
        };
        let rest = self.begun.split_off(whole);
        self.finish(events);
        self.begun = rest;
        self.is_split = true;
    }
}

fn event(line: &[u8], events: &mut Vec<u8>) {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    if is_plain(line) {
        events.extend_from_slice(b"data: \"");
        events.extend_from_slice(line);
        events.extend_from_slice(b"\"\n\n");
        return;
    }
    events.extend_from_slice(b"data: ");
    // Writing to memory does not fail.
    let _ = serde_json::to_writer(&mut *events, &String::from_utf8_lossy(line));
    events.extend_from_slice(b"\n\n");
}

/// Whether a line is a JSON string as it is, as most are: ASCII with nothing that is escaped.
fn is_plain(line: &[u8]) -> bool {
    let (words, rest) = line.as_chunks::<8>();
    let mut last = [b' '; 8];
    last[..rest.len()].copy_from_slice(rest);
    words.iter().chain([&last]).all(|word| are_plain(u64::from_ne_bytes(*word)))
}

/// As [`is_plain`], for eight bytes at once: compilers that optimize for size make no such code.
/// (<https://graphics.stanford.edu/~seander/bithacks.html#ZeroInWord>)
fn are_plain(word: u64) -> bool {
    const ONES: u64 = u64::MAX / 255;
    const HIGHEST: u64 = ONES << 7;
    let has_less = |word: u64, than: u8| word.wrapping_sub(ONES * u64::from(than)) & !word & HIGHEST != 0;
    let has = |byte: u8| has_less(word ^ (ONES * u64::from(byte)), 1);
    word & HIGHEST == 0 && !has_less(word, b' ') && !has(b'"') && !has(b'\\')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The strings of some events.
    fn strings(events: &[u8]) -> Vec<String> {
        let text = std::str::from_utf8(events).unwrap();
        let events = text.split_terminator("\n\n");
        events.map(|event| serde_json::from_str(event.strip_prefix("data: ").unwrap()).unwrap()).collect()
    }

    #[test]
    fn a_line_is_one_event_whatever_is_in_it() {
        let mut lines = Lines::default();
        let mut events = Vec::new();
        lines.take(b"one\r\n\ndata: x\nid: 1\x1b[2J\xff\0\nlast", &mut events);
        assert_eq!(strings(&events), ["one", "", "data: x", "id: 1\u{1b}[2J\u{fffd}\0"]);
        lines.finish(&mut events);
        assert_eq!(strings(&events).last().unwrap(), "last");
        lines.finish(&mut events);
        assert_eq!(strings(&events).len(), 5);
    }

    #[test]
    fn a_long_line_is_split_between_characters() {
        let line = "ä".repeat(MAX_LINE);
        let mut lines = Lines::default();
        let mut events = Vec::new();
        lines.take(b"x", &mut events);
        lines.take(line.as_bytes(), &mut events);
        lines.take(b"\nnext\n", &mut events);
        let mut found = strings(&events);
        assert_eq!(found.pop().unwrap(), "next");
        assert!(found.iter().all(|part| part.len() <= MAX_LINE) && found.len() == 3);
        assert_eq!(found.concat(), format!("x{line}"));
        events.clear();
        lines.take(&[b'x'; MAX_LINE], &mut events);
        lines.take(b"\n\n", &mut events);
        assert_eq!(strings(&events).iter().map(String::len).collect::<Vec<_>>(), [MAX_LINE, 0]);
    }

    proptest! {
        #[test]
        fn a_plain_line_is_one_that_json_leaves_as_it_is(
            text in "[ -~]{0,20}[\"\\\\\u{1f}\u{7f}\u{80}ä]?[ -~]{0,9}"
        ) {
            let is_left = text.is_ascii() && serde_json::to_string(&text).unwrap() == format!("\"{text}\"");
            prop_assert_eq!(is_plain(text.as_bytes()), is_left, "{:?}", text);
        }

        #[test]
        fn no_line_is_lost_however_the_bytes_are_cut(
            text in "[a-zä\"\\\\\u{1}\n]{0,200}", cuts in proptest::collection::vec(0_usize..200, 0..8)
        ) {
            let mut lines = Lines::default();
            let mut events = Vec::new();
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(text.len())).collect();
            cuts.sort_unstable();
            let mut from = 0;
            for cut in cuts.into_iter().chain([text.len()]) {
                lines.take(&text.as_bytes()[from..cut], &mut events);
                from = cut;
            }
            lines.finish(&mut events);
            prop_assert_eq!(strings(&events), text.split_terminator('\n').map(str::to_owned).collect::<Vec<_>>());
        }
    }
}
