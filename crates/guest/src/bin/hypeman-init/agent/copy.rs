//! Files to and from the host. A thread of its own reads and writes them; the stream is the
//! agent's.

use std::io::Result;
use std::path::{Path, PathBuf};

use hypeman_agent::data;
use hypeman_agent::frames;
use hypeman_agent::mux::Stream;
use hypeman_agent::names;
use hypeman_agent::protocol::{Copied, Failure};
use hypeman_copy::{LeftOut, Links, Trust};

/// Sends what is at a path.
pub(crate) async fn read(path: &str, name: String, follow: bool, mut stream: Stream) -> Result<()> {
    let path = Path::new("/").join(path);
    let found = if follow { named(&path).metadata() } else { named(&path).symlink_metadata() };
    let (path, name) = (named(&path), PathBuf::from(names::from_text(&name)));
    if let Err(error) = found {
        return frames::write_message(&mut stream, &failed(format!("{}: {error}", path.display()))).await;
    }
    frames::write_message(&mut stream, &Copied::Begins).await?;
    let (sink, pieces) = data::pipe();
    let packed = tokio::task::spawn_blocking(move || hypeman_copy::pack(&path, &name, follow, sink));
    data::send(pieces, &mut stream).await?;
    frames::write_message(&mut stream, &told(packed.await)).await?;
    give_memory_back();
    data::close(stream).await
}

/// Takes what comes apart below a directory.
pub(crate) async fn write(path: &str, archive: bool, mut stream: Stream) -> Result<()> {
    let directory: PathBuf = Path::new("/").join(names::from_text(path));
    match directory.metadata() {
        Ok(found) if found.is_dir() => {}
        Ok(_) => {
            let reason = format!("{}: it is no directory", directory.display());
            return frames::write_message(&mut stream, &failed(reason)).await;
        }
        Err(error) => {
            return frames::write_message(&mut stream, &failed(format!("{}: {error}", directory.display())))
                .await;
        }
    }
    frames::write_message(&mut stream, &Copied::Begins).await?;
    let (source, pieces) = data::source();
    let trust = Trust { owners: archive, devices: true, links: Links::Followed };
    let unpacked =
        tokio::task::spawn_blocking(move || hypeman_copy::unpack(source, &directory, Path::new(""), trust));
    data::receive(&mut stream, pieces).await?;
    frames::write_message(&mut stream, &told(unpacked.await)).await?;
    give_memory_back();
    data::close(stream).await
}

/// The path that a text tells of.
fn named(text: &Path) -> PathBuf {
    names::from_text(&text.to_string_lossy()).into()
}

fn told(done: std::result::Result<Result<LeftOut>, tokio::task::JoinError>) -> Copied {
    match done {
        Ok(Ok(left_out)) => Copied::Done { note: left_out.told() },
        Ok(Err(error)) => failed(error.to_string()),
        Err(_) => failed("the copier panicked".to_owned()),
    }
}

fn failed(message: String) -> Copied {
    Copied::Failed(Failure { code: 1, message })
}

/// A copy takes some MiB for a while, which are the guest's again when it is done.
#[allow(unsafe_code)]
fn give_memory_back() {
    // SAFETY: malloc_trim(3) gives back what is free, and touches nothing that is not.
    unsafe { libc::malloc_trim(0) };
}
