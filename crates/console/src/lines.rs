//! Bytes in pieces that are lines, or parts of one: a line may be of any length, and its end may be
//! still to come.

/// A part of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece<'a> {
    /// With the newline, if it is there.
    pub bytes: &'a [u8],
    /// Where in what was given it begins.
    pub index: usize,
    /// Whether a line begins with it.
    pub begins: bool,
    /// Whether it ends with a newline.
    pub ends: bool,
}

/// Cuts what comes after each newline. Remembers from one call to the next whether it is within a
/// line.
#[derive(Debug, Default)]
pub struct Lines {
    is_within: bool,
}

impl Lines {
    /// Begins a line with what comes next. Whether there was one without an end.
    pub fn begin(&mut self) -> bool {
        std::mem::take(&mut self.is_within)
    }

    /// The pieces of what comes next.
    pub fn pieces<'a>(&mut self, bytes: &'a [u8]) -> impl Iterator<Item = Piece<'a>> {
        let mut index = 0;
        bytes.split_inclusive(|byte| *byte == b'\n').map(move |piece| {
            let ends = piece.ends_with(b"\n");
            let begins = !std::mem::replace(&mut self.is_within, !ends);
            let at = index;
            index += piece.len();
            Piece { bytes: piece, index: at, begins, ends }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_in_as_many_pieces_as_it_came_in() {
        let mut lines = Lines::default();
        let mut seen = Vec::new();
        for chunk in ["one\ntw", "o", "\n", "", "\nthree"] {
            let pieces = lines.pieces(chunk.as_bytes());
            seen.extend(pieces.map(|piece| {
                (std::str::from_utf8(piece.bytes).unwrap(), piece.index, piece.begins, piece.ends)
            }));
        }
        let expected = [
            ("one\n", 0, true, true),
            ("tw", 4, true, false),
            ("o", 0, false, false),
            ("\n", 0, false, true),
            ("\n", 0, true, true),
            ("three", 1, true, false),
        ];
        assert_eq!(seen, expected);
        assert!(lines.is_within);
    }
}
