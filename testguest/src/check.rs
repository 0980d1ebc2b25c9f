//! Tells whether bytes are a part of the guest's sequence.

use std::ops::Range;

use crate::Options;

/// Digits of a line's number.
const DIGITS: usize = 10;

/// Where a sequence is broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken {
    /// The first wrong byte.
    pub offset: usize,
    /// The line that should be there.
    pub expected: String,
    /// What is there.
    pub found: String,
}

/// The lines of a guest with these options.
#[derive(Debug, Clone, Copy)]
pub struct Sequence {
    options: Options,
}

impl Sequence {
    /// The sequence of a guest that was given `options`.
    #[must_use]
    pub fn new(options: &Options) -> Sequence {
        Sequence { options: *options }
    }

    /// Line `number` with its newline.
    #[must_use]
    pub fn line(&self, number: u64) -> Vec<u8> {
        let mut line = format!("{number:0DIGITS$} ").into_bytes();
        line.extend((line.len() as u64..self.options.length).map(|place| self.filler(number + place)));
        line.push(b'\n');
        line
    }

    /// Bytes of a line with its newline.
    pub(crate) fn line_length(&self) -> u64 {
        self.options.length + 1
    }

    fn filler(&self, n: u64) -> u8 {
        // Both are below 64.
        if self.options.wide { 0x80 | (n % 64) as u8 } else { b'a' + (n % 26) as u8 }
    }

    /// The numbers of the lines in `bytes`, which begin with a whole line, whichever it is, and may
    /// end within one.
    ///
    /// # Errors
    /// Where the first byte is that does not belong there.
    pub fn check(&self, bytes: &[u8]) -> Result<Range<u64>, Broken> {
        if bytes.is_empty() {
            return Ok(0..0);
        }
        let first = self.first_number(bytes)?;
        let mut number = first;
        let mut offset = 0;
        while offset < bytes.len() {
            let expected = self.line(number);
            let found = &bytes[offset..(offset + expected.len()).min(bytes.len())];
            if !expected.starts_with(found) {
                return Err(broken(offset, &expected, found));
            }
            number += u64::from(found.len() == expected.len());
            offset += expected.len();
        }
        Ok(first..number)
    }

    pub(crate) fn first_number(&self, bytes: &[u8]) -> Result<u64, Broken> {
        let digits = &bytes[..DIGITS.min(bytes.len())];
        let number = std::str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok());
        number.ok_or_else(|| broken(0, b"a number", digits))
    }
}

fn broken(offset: usize, expected: &[u8], found: &[u8]) -> Broken {
    let same = expected.iter().zip(found).take_while(|(a, b)| a == b).count();
    let text = |bytes: &[u8]| bytes.escape_ascii().to_string();
    Broken { offset: offset + same, expected: text(expected), found: text(found) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(range: Range<u64>) -> (Sequence, Vec<u8>) {
        let sequence = Sequence::new(&Options::default());
        (sequence, range.flat_map(|number| sequence.line(number)).collect())
    }

    #[test]
    fn a_whole_sequence_is_told_from_its_first_to_its_last_line() {
        let (sequence, bytes) = lines(7..12);
        assert_eq!(sequence.check(&bytes), Ok(7..12));
        assert_eq!(sequence.check(&bytes[..bytes.len() - 1]), Ok(7..11));
    }

    #[test]
    fn a_missing_a_doubled_and_a_changed_byte_are_found_where_they_are() {
        let (sequence, bytes) = lines(0..3);
        let mut missing = bytes.clone();
        missing.remove(70);
        let mut doubled = bytes.clone();
        doubled.insert(100, bytes[100]);
        let mut changed = bytes.clone();
        changed[130] = 0;
        assert_eq!(sequence.check(&missing).unwrap_err().offset / 65, 1);
        assert_eq!(sequence.check(&doubled).unwrap_err().offset, 101);
        assert_eq!(sequence.check(&changed).unwrap_err().offset, 130);
    }
}
