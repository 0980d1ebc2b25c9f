//! What became of each byte that a guest has printed: it is on disk, or hypeman tells that it is
//! missing, or someone has cut the log where it was. Anything else is a fault.

use crate::Options;
use crate::check::Sequence;

/// Begins a line in which hypeman tells how many bytes are missing there
/// (`hypeman_console::writer`).
const MARK: &[u8] = b"[hypeman: ";

/// As many bytes tell for sure where in the sequence they stand.
const TELLING: usize = 40;

/// The bytes that a guest has printed, by what became of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Account {
    /// All of them.
    pub printed: u64,
    /// Those that are on disk.
    pub on_disk: u64,
    /// Those that hypeman tells to be missing.
    pub told: u64,
    /// Those that were cut out by someone who has copied and truncated the log.
    pub cut: u64,
    /// Whether its last line is there, or among what is told to be missing.
    pub has_ended: bool,
}

impl Sequence {
    /// The account of a guest that was told to come to its end ([`Options::typed`]). Each piece of
    /// its log but the last was cut off at its end by someone.
    ///
    /// # Errors
    /// Where the first byte is that nothing explains.
    pub fn account(&self, pieces: &[Vec<u8>]) -> Result<Account, String> {
        let mut reading = Reading { sequence: self, position: 0, account: Account::default() };
        for (index, piece) in pieces.iter().enumerate() {
            let is_last = index + 1 == pieces.len();
            let from = if index == 0 { 0 } else { reading.find(piece)? };
            reading.read(piece, from, is_last).map_err(|error| format!("piece {index}: {error}"))?;
        }
        Ok(Account { printed: reading.position, ..reading.account })
    }

    /// What is printed from a position on, to the end of the line.
    fn rest_of_line(&self, position: u64) -> Vec<u8> {
        let length = self.line_length();
        self.line(position / length).split_off(usize::try_from(position % length).unwrap_or(0))
    }

    /// Where the first whole line begins, and its number.
    #[must_use]
    pub fn first_whole_line(&self, bytes: &[u8]) -> Option<(usize, u64)> {
        let mut at = 0;
        bytes.split_inclusive(|byte| *byte == b'\n').find_map(|line| {
            let begin = at;
            at += line.len();
            let number = self.first_number(line).ok()?;
            (self.line(number) == line).then_some((begin, number))
        })
    }
}

/// The log, read up to a position in the sequence.
struct Reading<'a> {
    sequence: &'a Sequence,
    position: u64,
    account: Account,
}

impl Reading<'_> {
    /// Finds the first whole line behind a cut; what stands before it counts as cut out.
    fn find(&mut self, piece: &[u8]) -> Result<usize, String> {
        let found = self.sequence.first_whole_line(piece);
        let (at, number) = found.ok_or("there is no whole line behind a cut")?;
        let position = number * self.sequence.line_length();
        let cut = position.checked_sub(self.position);
        self.account.cut += cut.ok_or_else(|| format!("line {number} is there twice"))?;
        self.position = position;
        Ok(at)
    }

    fn read(&mut self, piece: &[u8], from: usize, is_last: bool) -> Result<(), String> {
        let mut at = from;
        while at < piece.len() {
            let rest = &piece[at..];
            let begins_line = at == 0 || piece[at - 1] == b'\n';
            if begins_line && rest.starts_with(MARK) {
                let Some(end) = rest.iter().position(|byte| *byte == b'\n') else {
                    return if is_last { Err("an unfinished mark".to_owned()) } else { Ok(()) };
                };
                at += end + 1;
                let behind = &piece[at..];
                self.skip(&rest[..end], behind)?;
                // The last line may be among what is missing.
                if is_last && Options::THE_END.as_bytes().ends_with(behind) {
                    self.account.has_ended = true;
                    return Ok(());
                }
                continue;
            }
            if begins_line && rest == Options::THE_END.as_bytes() && is_last {
                self.account.has_ended = true;
                return Ok(());
            }
            let expected = self.sequence.rest_of_line(self.position);
            let same = expected.iter().zip(rest).take_while(|(expected, found)| expected == found).count();
            at += same;
            self.position += same as u64;
            self.account.on_disk += same as u64;
            if same == expected.len() || at == piece.len() {
                continue;
            }
            let found = &piece[at..];
            let behind_newline = found.strip_prefix(b"\n");
            let is_cut_mark = !is_last && MARK.starts_with(behind_newline.unwrap_or(found));
            match behind_newline {
                _ if is_cut_mark => return Ok(()),
                // A mark within a line ends that.
                Some(mark) if mark.starts_with(MARK) => at += 1,
                _ => return Err(self.unexplained(at, &expected[same..], found)),
            }
        }
        Ok(())
    }

    /// Goes on behind what a mark tells to be missing.
    fn skip(&mut self, mark: &[u8], behind: &[u8]) -> Result<(), String> {
        let text = String::from_utf8_lossy(&mark[MARK.len()..]);
        let bytes: Option<u64> = text.split(' ').next().and_then(|number| number.parse().ok());
        let bytes = bytes.ok_or_else(|| format!("a mark that tells nothing: {text}"))?;
        // The newline before it may be its own, and the guest's be the first byte that is missing.
        let begins_line = self.position.is_multiple_of(self.sequence.line_length());
        let is_own = begins_line
            && !self.fits(self.position + bytes, behind)
            && self.fits(self.position + bytes - 1, behind);
        if is_own {
            self.position -= 1;
            self.account.on_disk -= 1;
        }
        self.position += bytes;
        self.account.told += bytes;
        Ok(())
    }

    /// Whether the sequence goes on with these bytes at a position.
    fn fits(&self, position: u64, bytes: &[u8]) -> bool {
        if bytes.starts_with(MARK) {
            return true;
        }
        let mut expected = self.sequence.rest_of_line(position);
        expected.extend(self.sequence.rest_of_line(position + expected.len() as u64));
        let is_end = bytes == Options::THE_END.as_bytes();
        is_end || expected.iter().zip(bytes).take(TELLING).all(|(expected, found)| expected == found)
    }

    fn unexplained(&self, at: usize, expected: &[u8], found: &[u8]) -> String {
        let text = |bytes: &[u8]| bytes[..bytes.len().min(2 * TELLING)].escape_ascii().to_string();
        let (position, expected, found) = (self.position, text(expected), text(found));
        format!("byte {position} of all should stand at {at}: expected {expected:?}, found {found:?}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sequence() -> Sequence {
        Sequence::new(&Options::default())
    }

    fn lines(from: u64, to: u64) -> Vec<u8> {
        (from..to).flat_map(|number| sequence().line(number)).collect()
    }

    fn account(pieces: &[&[u8]]) -> Result<Account, String> {
        let mut pieces: Vec<Vec<u8>> = pieces.iter().map(|piece| piece.to_vec()).collect();
        pieces.last_mut().expect("a piece").extend(b"the end\n");
        sequence().account(&pieces)
    }

    /// The first 20 lines, with `bytes` of them told to be missing at a position.
    fn marked(at: usize, bytes: usize) -> Vec<u8> {
        let all = lines(0, 20);
        let newline = if at.is_multiple_of(65) { "" } else { "\n" };
        let mark =
            format!("{newline}[hypeman: {bytes} bytes of output are missing here, from then to now]\n");
        [&all[..at], mark.as_bytes(), &all[at + bytes..]].concat()
    }

    #[test]
    fn each_byte_is_on_disk_or_told_or_cut_out() {
        let all = Account { printed: 1300, on_disk: 1300, has_ended: true, ..Account::default() };
        assert_eq!(account(&[&lines(0, 20)]), Ok(all));
        // The newline at 129 is there, is the first that is missing, and is the last.
        for (at, bytes) in
            [(130, 65), (130, 7), (100, 300), (129, 1), (129, 66), (128, 2), (64, 65), (65, 64)]
        {
            let expected = Account { on_disk: 1300 - bytes as u64, told: bytes as u64, ..all };
            assert_eq!(account(&[&marked(at, bytes)]), Ok(expected), "{bytes} at {at}");
        }
        let cut = Account { on_disk: 1300 - 260, cut: 260, ..all };
        assert_eq!(account(&[&lines(0, 10), &lines(14, 20)]), Ok(cut));
        let within = Account { on_disk: 1300 - 245, cut: 245, ..all };
        assert_eq!(account(&[&lines(0, 11)[..665], &lines(13, 20)[30..]]), Ok(within));
        let no_mark = [&lines(0, 10)[..], b"[hypeman: 26"].concat();
        let no_end = sequence().account(&[marked(1000, 300)]);
        assert_eq!(no_end, Ok(Account { on_disk: 1000, told: 300, ..all }), "which may be missing too");
        let its_rest = [b"0 bytes of output]\n", &lines(14, 20)[..]].concat();
        assert_eq!(account(&[&no_mark, &its_rest]), Ok(cut));
    }

    #[test]
    fn what_nothing_explains_is_found() {
        let (all, end) = (lines(0, 20), b"the end\n");
        let doubled = [&all[..], &all[1000..]].concat();
        let wrong: [&[&[u8]]; 5] = [
            &[&all[1..]],
            &[&[&all[..500], &all[501..]].concat()],
            &[&doubled],
            &[&lines(0, 10), &lines(9, 20)],
            &[&[&marked(130, 7)[..500], &marked(130, 7)[501..]].concat()],
        ];
        for pieces in wrong {
            assert!(account(pieces).is_err(), "{pieces:?}");
        }
        let without_end = sequence().account(std::slice::from_ref(&all));
        assert!(matches!(without_end, Ok(Account { has_ended: false, .. })), "{without_end:?}");
        assert!(sequence().account(&[[&all[..], end, &all[..]].concat()]).is_err(), "and more");
    }
}
