//! The members of a tar archive that lies in a file: names, metadata, and where their content is.
//!
//! Headers are decoded by the crate `tar`. Its reader is not used, because it splits PAX records at newlines
//! and so refuses xattrs with a newline byte in them, as file capabilities may have.

use std::{
    fs::File,
    io::{self, BufReader, Read, Seek, SeekFrom},
};

use tar::{EntryType, Header};

const BLOCK: u64 = 512;
/// Long names, link targets and PAX records are held in memory: a bound on what an archive can make us take.
const MAX_EXTENSION: u64 = 1 << 20;

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
    pub(crate) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
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
    /// PAX records that hold for all following members.
    global: Vec<(Vec<u8>, Vec<u8>)>,
    done: bool,
    /// Whether a digest tells that the file is whole, so that it may lack the end mark.
    whole: bool,
}

fn invalid(reason: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason.into())
}

impl Members {
    /// Begins at the beginning of `file`. One that is known to be `whole` may lack the end mark.
    pub(crate) fn new(file: File, whole: bool) -> io::Result<Members> {
        let len = file.metadata()?.len();
        Ok(Members { file: BufReader::new(file), len, next: 0, global: Vec::new(), done: false, whole })
    }

    fn member(&mut self) -> io::Result<Option<Member>> {
        let mut local = self.global.clone();
        let (mut long_path, mut long_link) = (None, None);
        loop {
            let Some(header) = self.header()? else {
                return Ok(None);
            };
            match header.entry_type() {
                EntryType::XHeader => local.extend(parse_pax(&self.extension(&header)?)?),
                EntryType::XGlobalHeader => {
                    let records = parse_pax(&self.extension(&header)?)?;
                    local.extend(records.iter().cloned());
                    self.global.extend(records);
                }
                EntryType::GNULongName => long_path = Some(until_nul(self.extension(&header)?)),
                EntryType::GNULongLink => long_link = Some(until_nul(self.extension(&header)?)),
                _ => return self.finish(&header, local, long_path, long_link).map(Some),
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
                0 => {
                    "it is no tar archive, nor one that is compressed with gzip, zstd, xz or bzip2".to_owned()
                }
                byte => format!("no tar header at byte {byte}"),
            }));
        }
        self.next += BLOCK;
        Ok(Some(header))
    }

    /// Content of a member that only describes the next one.
    fn extension(&mut self, header: &Header) -> io::Result<Vec<u8>> {
        let size = header.entry_size()?;
        if size > MAX_EXTENSION {
            return Err(invalid(format!("an extended header of {size} bytes")));
        }
        let mut bytes = vec![0; size as usize];
        self.file.seek(SeekFrom::Start(self.next))?;
        self.file.read_exact(&mut bytes)?;
        self.skip(size)?;
        Ok(bytes)
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

    fn finish(
        &mut self,
        header: &Header,
        pax: Vec<(Vec<u8>, Vec<u8>)>,
        long_path: Option<Vec<u8>>,
        long_link: Option<Vec<u8>>,
    ) -> io::Result<Member> {
        let mut member = Member {
            kind: header.entry_type(),
            path: long_path.unwrap_or_else(|| header.path_bytes().into_owned()),
            link: long_link.or_else(|| header.link_name_bytes().map(|l| l.into_owned())).unwrap_or_default(),
            mode: header.mode()? & 0o7777,
            uid: header.uid()?,
            gid: header.gid()?,
            mtime: header.mtime().unwrap_or(0),
            device: device(header)?,
            xattrs: Vec::new(),
            offset: self.next,
            size: header.entry_size()?,
        };
        for (key, value) in pax {
            member.set(&key, value)?;
        }
        // Old archives mark directories by their name only.
        if member.kind.is_file() && member.path.ends_with(b"/") {
            member.kind = EntryType::Directory;
        }
        if !matches!(member.kind, EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse) {
            // Sizes of links and directories are noise: they have no content.
            member.size = 0;
        }
        member.offset = self.next;
        self.skip(member.size)?;
        Ok(member)
    }
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

impl Member {
    /// Applies one PAX record (pax(1), and star's SCHILY.xattr).
    fn set(&mut self, key: &[u8], value: Vec<u8>) -> io::Result<()> {
        let number = || -> io::Result<u64> {
            let text = String::from_utf8_lossy(&value);
            let whole = text.split('.').next().unwrap_or_default();
            // Times before 1970 cannot be told in a squashfs.
            if whole.starts_with('-') {
                return Ok(0);
            }
            whole.parse().map_err(|_| invalid(format!("bad number {text:?} in a PAX header")))
        };
        match key {
            b"path" => self.path = value,
            b"linkpath" => self.link = value,
            b"size" => self.size = number()?,
            b"uid" => self.uid = number()?,
            b"gid" => self.gid = number()?,
            b"mtime" => self.mtime = number()?,
            _ if key.starts_with(b"GNU.sparse.") => self.kind = EntryType::GNUSparse,
            _ => {
                if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                    self.xattrs.retain(|(old, _)| old != name);
                    self.xattrs.push((name.to_vec(), value));
                }
            }
        }
        Ok(())
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

/// Splits `LENGTH KEY=VALUE\n` records, whose values may hold any byte.
fn parse_pax(mut bytes: &[u8]) -> io::Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let bad = || invalid("malformed PAX header");
    let mut records = Vec::new();
    while bytes.first().is_some_and(|b| *b != 0) {
        let space = bytes.iter().position(|b| *b == b' ').ok_or_else(bad)?;
        let len: usize =
            std::str::from_utf8(&bytes[..space]).ok().and_then(|n| n.parse().ok()).ok_or_else(bad)?;
        let record = bytes.get(space + 1..len).and_then(|r| r.strip_suffix(b"\n")).ok_or_else(bad)?;
        let equals = record.iter().position(|b| *b == b'=').ok_or_else(bad)?;
        records.push((record[..equals].to_vec(), record[equals + 1..].to_vec()));
        bytes = &bytes[len..];
    }
    Ok(records)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_pax_value_may_hold_a_newline() {
        let records = parse_pax(b"11 k=a\nb=c\n8 x=yz\n\0\0").unwrap_err();
        assert_eq!(records.kind(), io::ErrorKind::InvalidData);
        let records = parse_pax(b"11 k=a\nb=c\n7 x=yz\n\0\0");
        assert_eq!(records.unwrap(), [(b"k".to_vec(), b"a\nb=c".to_vec()), (b"x".to_vec(), b"yz".to_vec())]);
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_pax_parser_panic(bytes: Vec<u8>) {
            let _ = parse_pax(&bytes);
        }

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
