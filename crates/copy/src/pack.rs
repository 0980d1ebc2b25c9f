//! From a tree to a tar stream.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::{File, Metadata, OpenOptions};
use std::io::{BufReader, Error, Read, Result, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use tar::{Builder, EntryType, Header, HeaderMode};

use crate::kernel_files::KernelFiles;
use crate::left_out::{LeftOut, named};

/// Size in bytes of a read of a file.
const READ_AHEAD: usize = 128 * 1024;

/// Maximum size in bytes of a file whose size is not known before it is read.
const MOST_UNTOLD: u64 = 64 << 20;

/// Writes what is at `path` to `stream` as `name`; of a directory with an empty name only what is
/// in it. `follow` is about a link that `path` itself is; others are sent as they are. File systems
/// of the kernel's below `path` are sent as empty directories.
///
/// # Errors
/// When something cannot be read, or `stream` takes no more. A file that is not whole in the
/// stream, which goes on after it, is told at the end.
pub fn pack(path: &Path, name: &Path, follow: bool, stream: impl Write) -> Result<LeftOut> {
    let metadata = if follow { path.metadata() } else { path.symlink_metadata() };
    let metadata = metadata.map_err(|error| named(path, &error))?;
    if metadata.file_type().is_socket() {
        return Err(named(path, &Error::other("it is a socket, which cannot be copied")));
    }
    let mut packer = Packer {
        archive: Builder::new(stream),
        links: HashMap::new(),
        kernel_files: KernelFiles::mounted(),
        device: metadata.dev(),
        left_out: LeftOut::default(),
        torn: LeftOut::default(),
    };
    packer.add(path, name, &metadata)?;
    packer.archive.into_inner()?.flush()?;
    match packer.torn.first {
        None => Ok(packer.left_out),
        Some(first) => {
            let more = packer.torn.count - 1;
            let more = if more == 0 { String::new() } else { format!(", and {more} more") };
            Err(Error::other(format!("not copied whole: {first}{more}")))
        }
    }
}

struct Packer<W: Write> {
    archive: Builder<W>,
    /// First name of files with several names, by device and number.
    links: HashMap<(u64, u64), PathBuf>,
    kernel_files: KernelFiles,
    /// Device of what is copied.
    device: u64,
    left_out: LeftOut,
    /// Files that are not whole in the stream.
    torn: LeftOut,
}

/// A directory whose entries are being sent.
struct Directory {
    path: PathBuf,
    name: PathBuf,
    /// The next one last.
    entries: Vec<OsString>,
}

impl Directory {
    fn read(path: PathBuf, name: PathBuf) -> Result<Directory> {
        let entries = std::fs::read_dir(&path).map_err(|error| named(&path, &error))?;
        let mut entries = entries.map(|entry| Ok(entry?.file_name())).collect::<Result<Vec<_>>>()?;
        entries.sort_unstable_by(|one, other| other.cmp(one));
        Ok(Directory { path, name, entries })
    }
}

impl<W: Write> Packer<W> {
    fn add(&mut self, path: &Path, name: &Path, metadata: &Metadata) -> Result<()> {
        self.add_one(path, name, metadata)?;
        let mut directories = Vec::new();
        if metadata.is_dir() {
            directories.push(Directory::read(path.to_owned(), name.to_owned())?);
        }
        while let Some(directory) = directories.last_mut() {
            let Some(entry) = directory.entries.pop() else {
                directories.pop();
                continue;
            };
            let (path, name) = (directory.path.join(&entry), directory.name.join(&entry));
            match path.symlink_metadata() {
                Ok(metadata) => {
                    self.add_one(&path, &name, &metadata)?;
                    let is_entered =
                        metadata.dev() == self.device || !self.kernel_files.are_on(metadata.dev());
                    if metadata.is_dir() && is_entered {
                        directories.push(Directory::read(path, name)?);
                    }
                }
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {} // it was removed meanwhile
                Err(error) => return Err(named(&path, &error)),
            }
        }
        Ok(())
    }

    fn add_one(&mut self, path: &Path, name: &Path, metadata: &Metadata) -> Result<()> {
        let kind = metadata.file_type();
        if name.as_os_str().is_empty() {
            return if kind.is_dir() { Ok(()) } else { Err(Error::other("a file needs a name")) };
        }
        if kind.is_file() {
            return self.add_file(path, name, metadata);
        }
        let mut header = header(metadata);
        header.set_size(0);
        let sent = if kind.is_dir() {
            self.archive.append_data(&mut header, name, std::io::empty())
        } else if kind.is_symlink() {
            let target = std::fs::read_link(path).map_err(|error| named(path, &error))?;
            self.archive.append_link(&mut header, name, target)
        } else if kind.is_socket() {
            self.left_out.add(path, "it is a socket");
            Ok(())
        } else {
            if kind.is_char_device() || kind.is_block_device() {
                header.set_device_major(rustix::fs::major(metadata.rdev()))?;
                header.set_device_minor(rustix::fs::minor(metadata.rdev()))?;
            }
            self.archive.append_data(&mut header, name, std::io::empty())
        };
        sent.map_err(|error| named(path, &error))
    }

    fn add_file(&mut self, path: &Path, name: &Path, metadata: &Metadata) -> Result<()> {
        if metadata.nlink() > 1
            && let Some(first) = self.links.get(&(metadata.dev(), metadata.ino()))
        {
            let mut header = header(metadata);
            header.set_entry_type(EntryType::Link);
            header.set_size(0);
            return self.archive.append_link(&mut header, name, first).map_err(|error| named(path, &error));
        }
        // Without waiting, and through no link: it may be something else by now.
        let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
        let opened = OpenOptions::new().read(true).custom_flags(flags).open(path);
        let mut file = match opened {
            // The one that was looked at may have been a link that is followed.
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error()) => {
                File::open(path)
            }
            opened => opened,
        }
        .map_err(|error| named(path, &error))?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(named(path, &Error::other("it was changed while it was read")));
        }
        let sent = if metadata.len() == 0 || self.kernel_files.are_on(metadata.dev()) {
            self.add_untold(file, path, name, &metadata)
        } else if metadata.blocks() * 512 < metadata.size() {
            self.add_sparse(&mut file, name, &metadata)
        } else {
            self.add_told(file, path, name, &metadata)
        };
        sent.map_err(|error| named(path, &error))?;
        if metadata.nlink() > 1 {
            self.links.insert((metadata.dev(), metadata.ino()), name.to_owned());
        }
        Ok(())
    }

    /// Sends a file that has the size it tells.
    fn add_told(&mut self, file: File, path: &Path, name: &Path, metadata: &Metadata) -> Result<()> {
        // tar's own copy reads 8 KiB at a time.
        let size = usize::try_from(metadata.len()).unwrap_or(usize::MAX).min(READ_AHEAD);
        let file = BufReader::with_capacity(size, file);
        let mut file = Exactly { file, left: metadata.len(), missing: 0 };
        self.archive.append_data(&mut header(metadata), name, &mut file)?;
        if file.missing > 0 {
            let why = format!("it became shorter while it was read, and ends with {} NULs", file.missing);
            self.torn.add(path, &why);
        }
        Ok(())
    }

    /// Sends a file whose size tells nothing: it is read first. Of most that are empty, nothing
    /// comes.
    fn add_untold(&mut self, file: File, path: &Path, name: &Path, metadata: &Metadata) -> Result<()> {
        let mut bytes = Vec::new();
        if let Err(error) = file.take(MOST_UNTOLD + 1).read_to_end(&mut bytes) {
            self.torn.add(path, &error.to_string());
            return Ok(());
        }
        if bytes.len() as u64 > MOST_UNTOLD {
            let most = MOST_UNTOLD >> 20;
            self.torn.add(path, &format!("it does not tell its size, and has more than {most} MiB"));
            return Ok(());
        }
        let mut header = header(metadata);
        header.set_size(bytes.len() as u64);
        self.archive.append_data(&mut header, name, &bytes[..])
    }

    /// Sends no holes. The archive would be torn by a file that changes meanwhile.
    fn add_sparse(&mut self, file: &mut File, name: &Path, before: &Metadata) -> Result<()> {
        self.archive.append_file(name, file)?;
        let after = file.metadata()?;
        let is_same = (after.len(), after.mtime(), after.mtime_nsec())
            == (before.len(), before.mtime(), before.mtime_nsec());
        if is_same { Ok(()) } else { Err(Error::other("it was changed while it was read, and has holes")) }
    }
}

fn header(metadata: &Metadata) -> Header {
    let mut header = Header::new_gnu();
    header.set_metadata_in_mode(metadata, HeaderMode::Complete);
    header
}

/// As many bytes of a file as were announced, also of one that is written to: a log has grown
/// meanwhile. One that has shrunk ends with NULs, as with tar(1).
struct Exactly {
    file: BufReader<File>,
    left: u64,
    /// How many of its bytes were not there any more.
    missing: u64,
}

impl Read for Exactly {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let buffer = &mut buffer[..most];
        let mut count = self.file.read(buffer)?;
        if count == 0 {
            buffer.fill(0);
            count = buffer.len();
            self.missing += count as u64;
        }
        self.left -= count as u64;
        Ok(count)
    }
}
