//! The members of a tar archive that lies in a file: names, metadata, and where their content is.
//!
//! Headers are decoded by the crate `tar`. Its reader is not used, because it splits PAX records at
//! newlines and so refuses xattrs with a newline byte in them, as file capabilities may have.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::rc::Rc;

use tar::{EntryType, Header};

use crate::entry::Xattrs;
use crate::limits::MOST_EXTENSION;
use crate::pax::{Pax, invalid};

/// Told of a file that does not even begin as an archive.
const NO_ARCHIVE: &str = "it is no tar archive, nor one that is compressed with gzip, zstd, xz or bzip2";

const BLOCK: u64 = 512;

/// One member.
#[derive(Debug, Clone)]
pub(crate) struct Member {
    pub(crate) kind: EntryType,
    pub(crate) path: Vec<u8>,
    /// Target of a symbolic or hard link; empty otherwise.
    pub(crate) link: Vec<u8>,
    /// Permission bits with setuid, setgid and sticky.
    pub(crate) mode: u32,
    pub(crate) uid: u64,
    pub(crate) gid: u64,
    /// Seconds since 1970.
    pub(crate) mtime: u64,
    /// Major and minor number.
    pub(crate) device: (u32, u32),
    /// `None` for a member without any.
    pub(crate) xattrs: Option<Rc<Xattrs>>,
    /// Where in the file its content begins.
    pub(crate) offset: u64,
    /// Length of its content in bytes.
    pub(crate) size: u64,
}

/// Iterates over the members of an archive that takes up a whole file.
pub(crate) struct Members {
    file: BufReader<File>,
    len: u64,
    next: u64,
    /// Global records, for all following members.
    global: Pax,
    done: bool,
    /// Whether a digest tells that the file is whole, so that it may lack the end mark.
    whole: bool,
}

impl Members {
    /// Begins at the beginning of `file`. One that is known to be `whole` may lack the end mark.
    pub(crate) fn new(file: File, whole: bool) -> io::Result<Members> {
        let len = file.metadata()?.len();
        Ok(Members { file: BufReader::new(file), len, next: 0, global: Pax::default(), done: false, whole })
    }

    fn member(&mut self) -> io::Result<Option<Member>> {
        let mut described = Described::default();
        loop {
            let Some(header) = self.header()? else {
                return Ok(None);
            };
            let kind = header.entry_type();
            if !matches!(
                kind,
                EntryType::XHeader
                    | EntryType::XGlobalHeader
                    | EntryType::GNULongName
                    | EntryType::GNULongLink
            ) {
                return self.finish(&header, described).map(Some);
            }
            let bytes = self.extension(&header, &mut described.bytes)?;
            match kind {
                EntryType::XHeader => described.pax.read(&bytes)?,
                EntryType::XGlobalHeader => {
                    self.global.read(&bytes)?;
                    if !self.global.xattrs.is_empty() {
                        return Err(invalid("extended attributes for all members, which no archiver writes"));
                    }
                }
                EntryType::GNULongName => described.path = Some(until_nul(bytes)),
                _ => described.link = Some(until_nul(bytes)),
            }
        }
    }

    /// The next header block; `None` at the end mark.
    fn header(&mut self) -> io::Result<Option<Header>> {
        // The padding of the last member may be missing too.
        if self.whole && self.next >= self.len {
            return Ok(None);
        }
        let mut block = [0; BLOCK as usize];
        self.file.seek(SeekFrom::Start(self.next))?;
        self.file.read_exact(&mut block).map_err(|e| match e.kind() {
            io::ErrorKind::UnexpectedEof if self.next == 0 => invalid(NO_ARCHIVE),
            io::ErrorKind::UnexpectedEof => invalid("the archive is truncated: it has no end mark"),
            _ => e,
        })?;
        if block == [0; BLOCK as usize] {
            return Ok(None);
        }
        let header = Header::from_byte_slice(&block).clone();
        let sum = block
            .iter()
            .enumerate()
            .map(|(i, b)| if (148..156).contains(&i) { 32 } else { u32::from(*b) })
            .sum();
        if header.cksum().ok() != Some(sum) {
            return Err(invalid(match self.next {
                0 => NO_ARCHIVE.to_owned(),
                byte => format!("no tar header at byte {byte}"),
            }));
        }
        self.next += BLOCK;
        Ok(Some(header))
    }

    /// Content of a member that only describes the next one, before which so many `bytes` stand.
    fn extension(&mut self, header: &Header, bytes: &mut u64) -> io::Result<Vec<u8>> {
        let size = header.entry_size()?;
        *bytes = bytes.saturating_add(size);
        if *bytes > MOST_EXTENSION {
            return Err(invalid(format!(
                "{bytes} bytes that describe one member; {MOST_EXTENSION} are allowed"
            )));
        }
        let start = self.next;
        self.skip(size)?; // before room is made for it: it has to be there
        let mut content = vec![0; usize::try_from(size).map_err(io::Error::other)?];
        self.file.seek(SeekFrom::Start(start))?;
        self.file.read_exact(&mut content)?;
        Ok(content)
    }

    fn skip(&mut self, size: u64) -> io::Result<()> {
        let end = size.checked_next_multiple_of(BLOCK).and_then(|padded| self.next.checked_add(padded));
        // The padding of the last member may be missing; its content may not.
        if self.next.checked_add(size).is_none_or(|content_end| content_end > self.len) {
            return Err(invalid("the archive is truncated within a member"));
        }
        self.next = end.ok_or_else(|| invalid("a member of impossible size"))?;
        Ok(())
    }

    fn finish(&mut self, header: &Header, described: Described) -> io::Result<Member> {
        let pax = described.pax.or(&self.global);
        let path = pax.path.or(described.path);
        let link =
            pax.link.or(described.link).or_else(|| header.link_name_bytes().map(|link| link.into_owned()));
        let mut member = Member {
            kind: if pax.is_sparse { EntryType::GNUSparse } else { header.entry_type() },
            path: path.unwrap_or_else(|| header.path_bytes().into_owned()),
            link: link.unwrap_or_default(),
            mode: header.mode()? & 0o7777,
            uid: pax.uid.map_or_else(|| header.uid(), Ok)?,
            gid: pax.gid.map_or_else(|| header.gid(), Ok)?,
            mtime: pax.mtime.unwrap_or_else(|| header.mtime().unwrap_or(0)),
            device: device(header)?,
            xattrs: (!pax.xattrs.is_empty()).then(|| Rc::new(pax.xattrs)),
            offset: self.next,
            size: pax.size.map_or_else(|| header.entry_size(), Ok)?,
        };
        // Old archives mark directories by their name only.
        if member.kind.is_file() && member.path.ends_with(b"/") {
            member.kind = EntryType::Directory;
        }
        if !matches!(member.kind, EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse) {
            // Sizes of links and directories mean nothing: they have no content.
            member.size = 0;
        }
        self.skip(member.size)?;
        Ok(member)
    }
}

/// Headers before a member that describe it.
#[derive(Default)]
struct Described {
    pax: Pax,
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    /// Length of all that.
    bytes: u64,
}

impl Iterator for Members {
    type Item = io::Result<Member>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let member = self.member().transpose();
        self.done = !matches!(member, Some(Ok(_)));
        member
    }
}

/// Device numbers; other kinds of member leave the fields blank, which is no number.
fn device(header: &Header) -> io::Result<(u32, u32)> {
    if !matches!(header.entry_type(), EntryType::Char | EntryType::Block) {
        return Ok((0, 0));
    }
    Ok((header.device_major()?.unwrap_or(0), header.device_minor()?.unwrap_or(0)))
}

fn until_nul(mut bytes: Vec<u8>) -> Vec<u8> {
    let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
    bytes.truncate(end);
    bytes
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..2048)) {
            use std::io::Write;
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(&bytes).unwrap();
            for whole in [false, true] {
                Members::new(file.try_clone().unwrap(), whole).unwrap().for_each(drop);
            }
        }
    }
}
