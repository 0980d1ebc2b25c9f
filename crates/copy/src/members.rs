//! The members of a tar stream, read within limits: a hostile sender may announce anything.
//!
//! Headers are decoded by the crate `tar`. Its reader is not used, because it reads names, PAX
//! headers and maps of sparse files into memory as long as the stream says they are, and fills
//! holes with zeros that somebody has to look at.

use std::ffi::OsStr;
use std::io::{self, Error, ErrorKind, Read, Result};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use tar::{EntryType, GnuExtSparseHeader, Header, PaxExtensions};

const BLOCK: u64 = 512;

/// Maximum length of a name or a link's target in bytes, as Linux has it (PATH_MAX).
const LONGEST_NAME: usize = 4096;

/// Maximum size in bytes of all that describes one member: long names and PAX headers.
const MOST_DESCRIPTION: u64 = 1 << 20;

/// Maximum number of pieces of a sparse file.
const MOST_PIECES: usize = 1 << 18;

/// One member.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) kind: EntryType,
    pub(crate) path: PathBuf,
    /// Target of a symbolic or hard link.
    pub(crate) link: Option<PathBuf>,
    pub(crate) attributes: Attributes,
    /// Major and minor number of a device.
    pub(crate) device: (u32, u32),
    pub(crate) contents: Contents,
}

/// Permissions, owner and time of a member.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Attributes {
    pub(crate) mode: u32,
    /// `None` where the header has no number.
    pub(crate) uid: Option<u64>,
    /// As `uid`.
    pub(crate) gid: Option<u64>,
    /// Seconds since 1970.
    pub(crate) mtime: i64,
}

/// How the bytes that follow in the stream lie in the file.
#[derive(Debug)]
pub(crate) enum Contents {
    /// One after the other.
    Dense,
    /// In pieces of this offset and length, with holes between them, in a file of this size.
    Sparse { pieces: Vec<(u64, u64)>, size: u64 },
}

/// Reads members one after the other.
pub(crate) struct Members<R> {
    stream: R,
    /// How much of the last member's content has not been read.
    left: u64,
    /// Padding after the content, up to the next block.
    padding: u64,
}

impl<R: Read> Members<R> {
    pub(crate) fn new(stream: R) -> Members<R> {
        Members { stream, left: 0, padding: 0 }
    }

    /// The next member; `None` at the end mark.
    pub(crate) fn next(&mut self) -> Result<Option<Member>> {
        let mut described = Described::default();
        loop {
            let Some(header) = self.header()? else { return Ok(None) };
            match header.entry_type() {
                EntryType::GNULongName => described.path = Some(until_nul(self.description(&mut described)?)),
                EntryType::GNULongLink => described.link = Some(until_nul(self.description(&mut described)?)),
                EntryType::XHeader => {
                    let bytes = self.description(&mut described)?;
                    described.read_pax(&bytes)?;
                }
                // For all that follow: comments of git, most often.
                EntryType::XGlobalHeader => drop(self.description(&mut described)?),
                _ => return self.finish(&header, described).map(Some),
            }
        }
    }

    /// The content of the member that was read last.
    pub(crate) fn body(&mut self) -> Body<'_, R> {
        Body(self)
    }

    /// Reads what follows the end mark, at most so many bytes: a writer is not to be cut off.
    pub(crate) fn drain(mut self, most: u64) -> Result<()> {
        let count = io::copy(&mut (&mut self.stream).take(most), &mut io::sink())?;
        if count == most { Err(invalid("the archive continues after its end")) } else { Ok(()) }
    }

    fn header(&mut self) -> Result<Option<Header>> {
        io::copy(&mut self.body(), &mut io::sink())?;
        let padding = std::mem::take(&mut self.padding);
        if io::copy(&mut (&mut self.stream).take(padding), &mut io::sink())? < padding {
            return Err(truncated());
        }
        let mut header = Header::new_old();
        self.stream.read_exact(header.as_mut_bytes()).map_err(|error| match error.kind() {
            ErrorKind::UnexpectedEof => truncated(),
            _ => error,
        })?;
        if header.as_bytes().iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        let sum = |(at, byte): (usize, &u8)| if (148..156).contains(&at) { 32 } else { u32::from(*byte) };
        if header.cksum().ok() != Some(header.as_bytes().iter().enumerate().map(sum).sum()) {
            return Err(invalid("it is no tar archive"));
        }
        self.expect(header.entry_size()?)?;
        Ok(Some(header))
    }

    fn expect(&mut self, size: u64) -> Result<()> {
        let padded =
            size.checked_next_multiple_of(BLOCK).ok_or_else(|| invalid("a member of impossible size"))?;
        (self.left, self.padding) = (size, padded - size);
        Ok(())
    }

    /// The content of a member that only describes the next one.
    fn description(&mut self, described: &mut Described) -> Result<Vec<u8>> {
        described.bytes = described.bytes.saturating_add(self.left);
        if described.bytes > MOST_DESCRIPTION {
            let bytes = described.bytes;
            return Err(invalid(format!(
                "{bytes} bytes that describe one member; {MOST_DESCRIPTION} are allowed"
            )));
        }
        let mut bytes = Vec::new();
        self.body().read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn finish(&mut self, header: &Header, described: Described) -> Result<Member> {
        let path = described.path.unwrap_or_else(|| header.path_bytes().into_owned());
        let link = described.link.or_else(|| header.link_name_bytes().map(|link| link.into_owned()));
        let mut kind = header.entry_type();
        // Old archives mark directories by their name only.
        if kind.is_file() && path.ends_with(b"/") {
            kind = EntryType::Directory;
        }
        // Sizes of these mean nothing: no content follows.
        let is_empty = kind.is_dir() || kind.is_symlink() || kind.is_hard_link() || kind.is_fifo();
        if is_empty || kind.is_block_special() || kind.is_character_special() {
            self.expect(0)?;
        } else if let Some(size) = described.size {
            self.expect(size)?;
        }
        let is_device = kind.is_block_special() || kind.is_character_special();
        Ok(Member {
            kind,
            path: named(path)?,
            link: link.map(named).transpose()?,
            attributes: Attributes {
                mode: header.mode()?,
                uid: described.uid.or_else(|| header.uid().ok()),
                gid: described.gid.or_else(|| header.gid().ok()),
                mtime: described.mtime.or_else(|| i64::try_from(header.mtime().ok()?).ok()).unwrap_or(0),
            },
            device: match is_device {
                true => (header.device_major()?.unwrap_or(0), header.device_minor()?.unwrap_or(0)),
                false => (0, 0),
            },
            contents: if kind.is_gnu_sparse() { self.sparse(header)? } else { Contents::Dense },
        })
    }

    /// The map of a sparse file, of which more may follow the header.
    fn sparse(&mut self, header: &Header) -> Result<Contents> {
        let header = header.as_gnu().ok_or_else(|| invalid("a sparse member without a map"))?;
        let mut pieces = Vec::new();
        let mut add = |piece: &tar::GnuSparseHeader| {
            if !piece.is_empty() {
                pieces.push((piece.offset()?, piece.length()?));
            }
            if pieces.len() > MOST_PIECES {
                return Err(invalid(format!("a sparse file in more than {MOST_PIECES} pieces")));
            }
            Ok(())
        };
        header.sparse.iter().try_for_each(&mut add)?;
        let mut is_extended = header.is_extended();
        while is_extended {
            let mut more = GnuExtSparseHeader::new();
            self.stream.read_exact(more.as_mut_bytes())?;
            more.sparse.iter().try_for_each(&mut add)?;
            is_extended = more.is_extended();
        }
        let size = header.real_size()?;
        let mut end = 0;
        for (offset, length) in &pieces {
            let piece_end =
                offset.checked_add(*length).filter(|piece_end| *offset >= end && *piece_end <= size);
            end = piece_end.ok_or_else(|| invalid("a sparse file whose pieces lie impossibly"))?;
        }
        if pieces.iter().map(|(_, length)| *length).sum::<u64>() != self.left {
            return Err(invalid("a sparse file whose pieces do not match its data"));
        }
        Ok(Contents::Sparse { pieces, size })
    }
}

/// The content of a member. It breaks off with [`ErrorKind::UnexpectedEof`] when the stream does.
pub(crate) struct Body<'a, R>(&'a mut Members<R>);

impl<R: Read> Read for Body<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let most = usize::try_from(self.0.left).unwrap_or(usize::MAX).min(buffer.len());
        if most == 0 {
            return Ok(0);
        }
        let count = self.0.stream.read(&mut buffer[..most])?;
        if count == 0 {
            return Err(truncated());
        }
        self.0.left -= count as u64;
        Ok(count)
    }
}

/// Headers before a member that describe it.
#[derive(Default)]
struct Described {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    uid: Option<u64>,
    gid: Option<u64>,
    mtime: Option<i64>,
    /// Length of all that.
    bytes: u64,
}

impl Described {
    fn read_pax(&mut self, bytes: &[u8]) -> Result<()> {
        for record in PaxExtensions::new(bytes) {
            let record = record?;
            let value = record.value_bytes();
            match record.key_bytes() {
                b"path" => self.path = Some(value.to_vec()),
                b"linkpath" => self.link = Some(value.to_vec()),
                b"size" => self.size = Some(number(value)?),
                b"uid" => self.uid = Some(number(value)?),
                b"gid" => self.gid = Some(number(value)?),
                b"mtime" => self.mtime = Some(number(value)?),
                key if key.starts_with(b"GNU.sparse.") => {
                    return Err(invalid("a sparse file as PAX has them; make the archive with --format=gnu"));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// A decimal number, without what follows a point.
fn number<T: std::str::FromStr>(value: &[u8]) -> Result<T> {
    let text = String::from_utf8_lossy(&value[..value.len().min(100)]);
    let whole = text.split('.').next().unwrap_or_default();
    whole.parse().map_err(|_| invalid(format!("bad number {text:?} in a PAX header")))
}

fn named(name: Vec<u8>) -> Result<PathBuf> {
    match name.len() {
        0..=LONGEST_NAME => Ok(Path::new(OsStr::from_bytes(&name)).to_owned()),
        length => Err(invalid(format!("a name of {length} bytes; {LONGEST_NAME} are allowed"))),
    }
}

fn until_nul(mut bytes: Vec<u8>) -> Vec<u8> {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    bytes.truncate(end);
    bytes
}

fn truncated() -> Error {
    Error::new(ErrorKind::UnexpectedEof, "the archive is truncated")
}

pub(crate) fn invalid(reason: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidData, reason.into())
}

#[cfg(test)]
mod tests;
