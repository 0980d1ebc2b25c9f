//! PAX records (pax(1), and star's SCHILY.xattr), as they stand before a member of a tar.

use std::io;

use crate::entry::Xattrs;
use crate::limits::{LONGEST_XATTR, MOST_XATTR_NAMES};

/// PAX records of a member.
#[derive(Debug, Clone, Default)]
pub(crate) struct Pax {
    pub(crate) path: Option<Vec<u8>>,
    pub(crate) link: Option<Vec<u8>>,
    pub(crate) size: Option<u64>,
    pub(crate) uid: Option<u64>,
    pub(crate) gid: Option<u64>,
    /// Seconds since 1970.
    pub(crate) mtime: Option<u64>,
    pub(crate) is_sparse: bool,
    pub(crate) xattrs: Xattrs,
}

impl Pax {
    /// Applies the records in `bytes`. A later one of a name counts.
    pub(crate) fn read(&mut self, bytes: &[u8]) -> io::Result<()> {
        for record in Records(bytes) {
            let (key, value) = record?;
            match key {
                b"path" => self.path = Some(value.to_vec()),
                b"linkpath" => self.link = Some(value.to_vec()),
                b"size" => self.size = Some(number(value)?),
                b"uid" => self.uid = Some(number(value)?),
                b"gid" => self.gid = Some(number(value)?),
                b"mtime" => self.mtime = Some(number(value)?),
                _ if key.starts_with(b"GNU.sparse.") => self.is_sparse = true,
                _ => {
                    if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                        self.xattrs.insert(name.to_vec(), value.to_vec());
                    }
                }
            }
        }
        self.check_xattrs()
    }

    /// Refuses more than a file of Linux can have.
    fn check_xattrs(&self) -> io::Result<()> {
        let names: usize = self.xattrs.keys().map(|name| name.len() + 1).sum();
        if names > MOST_XATTR_NAMES {
            return Err(invalid(
                "the names of a member's extended attributes are longer than 64 KiB together",
            ));
        }
        match self.xattrs.values().find(|value| value.len() > LONGEST_XATTR) {
            Some(long) => {
                Err(invalid(format!("an extended attribute of {} bytes; Linux takes 64 KiB", long.len())))
            }
            None => Ok(()),
        }
    }

    /// Fills in the global records where a member's own are silent. Extended attributes for all
    /// members are refused when they are read.
    pub(crate) fn or(self, global: &Pax) -> Pax {
        Pax {
            path: self.path.or_else(|| global.path.clone()),
            link: self.link.or_else(|| global.link.clone()),
            size: self.size.or(global.size),
            uid: self.uid.or(global.uid),
            gid: self.gid.or(global.gid),
            mtime: self.mtime.or(global.mtime),
            is_sparse: self.is_sparse || global.is_sparse,
            xattrs: self.xattrs,
        }
    }
}

pub(crate) fn invalid(reason: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason.into())
}

fn number(value: &[u8]) -> io::Result<u64> {
    let text = String::from_utf8_lossy(&value[..value.len().min(100)]);
    let whole = text.split('.').next().unwrap_or_default();
    // Times before 1970 cannot be told in a squashfs.
    if whole.starts_with('-') {
        return Ok(0);
    }
    whole.parse().map_err(|_| invalid(format!("bad number {text:?} in a PAX header")))
}

/// Splits `LENGTH KEY=VALUE\n` records, whose values may hold any byte.
struct Records<'a>(&'a [u8]);

impl<'a> Iterator for Records<'a> {
    type Item = io::Result<(&'a [u8], &'a [u8])>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.first().is_none_or(|byte| *byte == 0) {
            return None;
        }
        let record = split(self.0);
        self.0 = match &record {
            Some((_, _, rest)) => rest,
            None => &[],
        };
        Some(record.map(|(key, value, _)| (key, value)).ok_or_else(|| invalid("malformed PAX header")))
    }
}

/// Key and value of the first record, and what follows it.
fn split(bytes: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    // More digits than these no length has.
    let space = bytes.iter().take(20).position(|byte| *byte == b' ')?;
    let length: usize = std::str::from_utf8(&bytes[..space]).ok()?.parse().ok()?;
    let record = bytes.get(space + 1..length)?.strip_suffix(b"\n")?;
    let equals = record.iter().position(|byte| *byte == b'=')?;
    Some((&record[..equals], &record[equals + 1..], &bytes[length..]))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn records(bytes: &[u8]) -> io::Result<Vec<(&[u8], &[u8])>> {
        Records(bytes).collect()
    }

    #[test]
    fn a_value_may_hold_a_newline() {
        assert_eq!(records(b"11 k=a\nb=c\n8 x=yz\n\0\0").unwrap_err().kind(), io::ErrorKind::InvalidData);
        assert_eq!(
            records(b"11 k=a\nb=c\n7 x=yz\n\0\0").unwrap(),
            [(&b"k"[..], &b"a\nb=c"[..]), (b"x", b"yz")]
        );
    }

    #[test]
    fn more_than_linux_takes_is_refused() {
        let record = |name: usize, value: usize| {
            let text = format!("SCHILY.xattr.{name:06}={}\n", "x".repeat(value));
            let length = text.len() + 1 + (text.len() + 8).to_string().len();
            format!("{length} {text}").into_bytes()
        };
        let read = |bytes: &[u8]| Pax::default().read(bytes).map_err(|error| error.to_string());
        assert_eq!(read(&record(1, LONGEST_XATTR)), Ok(()));
        assert!(read(&record(1, LONGEST_XATTR + 1)).unwrap_err().contains("65537"));
        let many: Vec<u8> = (0..10_000).flat_map(|number| record(number, 0)).collect();
        assert!(read(&many).unwrap_err().contains("64 KiB together"));
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_parser_panic(bytes: Vec<u8>) {
            let _ = Pax::default().read(&bytes);
        }
    }
}
