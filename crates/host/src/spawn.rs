//! Starts the shim of an instance, and waits until it is ready.

use std::fs::OpenOptions;
use std::io::{BufRead, BufReader, PipeReader, Read};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixListener;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus};
use std::time::Duration;

use command_fds::{CommandFdExt, FdMapping};
use hypeman_files::{AtPath, Lock};
use hypeman_record::kind::Kind;
use hypeman_record::launch::Launch;
use hypeman_record::state::State;
use hypeman_record::{format, names, protocol};
use hypeman_session::client::{Client, short_path};
use hypeman_snapshot::standby;

use crate::error::{Error, Needs, Result};
use crate::instance::Instance;
use crate::network;
use crate::processes::wait_for_shim;

/// Timeout for a shim to end after its VM.
const LEAVING: Duration = Duration::from_secs(10);

/// Timeout for a VM that is about to end; after it the VM has to be stopped first.
const ENDING: Duration = Duration::from_secs(2);

/// Our programs that a start needs.
#[derive(Debug, Clone)]
pub struct Programs {
    /// The `hypeman` binary, which is also the shim.
    pub hypeman: PathBuf,
    /// The static `hypeman-init` that becomes PID 1 in the guest.
    pub init: PathBuf,
}

/// Result of a start.
#[derive(Debug)]
pub(crate) enum Started {
    /// The guest runs now. The client was connected before it did: an instance that removes itself
    /// stays as long as the client does, so no end is missed.
    Now(Client),
    /// It runs already.
    Already,
}

/// How a VM comes to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Begin {
    /// It boots.
    Boot,
    /// It is restored from its snapshot.
    Restore,
}

/// Starts the shim of an instance whose starter we are, with the order that `order` makes.
pub(crate) fn start_shim(
    instance: &Instance,
    programs: &Programs,
    begin: Begin,
    alive: Lock,
    order: impl FnOnce(&Instance) -> Result<Launch>,
) -> Result<Client> {
    network::release(&instance.directory); // what a shim that was killed has left
    let changed = instance.lock()?;
    let instance = &instance.read_again()?; // it may have been renamed, or put back to a snapshot
    // Someone may have been quicker than our look at it.
    if standby::is_whole(&instance.directory) != (begin == Begin::Restore) {
        drop((changed, alive));
        return Err(instance.refused(instance.observe()?.state, begin.needs()));
    }
    let logs = instance.directory.join(names::LOGS);
    std::fs::create_dir_all(&logs).at(&logs)?; // someone may have cleared them away
    format::write_unsynced(&instance.directory.join(names::LAUNCH), &order(instance)?)?;
    let listener = listen(&instance.directory)?;
    let task = if begin == Begin::Boot { "shim" } else { "shim-restore" };
    let shim = Shim::start(instance, &programs.hypeman, task, listener, alive)?;
    drop(changed); // the directory is the shim's now, and the rest is waiting
    shim.wait_until_ready(instance)
}

impl Begin {
    /// Returns the condition on an instance that does not run.
    fn needs(self) -> Needs {
        match self {
            Begin::Boot => Needs::NoSnapshot,
            Begin::Restore => Needs::Standby,
        }
    }
}

/// Takes the lock that the shim will hold: its holder is the only one that starts this instance.
/// `None` when it runs.
pub(crate) fn become_starter(instance: &Instance, begin: Begin) -> Result<Option<Lock>> {
    let path = instance.directory.join(names::SHIM_PID);
    let mut has_waited = false;
    loop {
        let state = instance.observe()?.state;
        if (state, begin) == (State::Shutdown, Begin::Boot) && !std::mem::replace(&mut has_waited, true) {
            wait_for_shim(instance, ENDING)?;
            continue;
        }
        let needs = match (state, begin) {
            (State::Created | State::Stopped, Begin::Boot) | (State::Standby, Begin::Restore) => None,
            (State::Initializing | State::Running, _) | (State::Paused, Begin::Boot) => return Ok(None),
            (State::Shutdown | State::Unknown, Begin::Boot) => Some(Needs::Stopped),
            (State::Standby, Begin::Boot) | (_, Begin::Restore) => Some(begin.needs()),
        };
        if let Some(needs) = needs {
            return Err(instance.refused(state, needs));
        }
        wait_for_shim(instance, LEAVING)?; // the last one may have its end recorded and still be there
        match Lock::try_acquire(&path) {
            Ok(Some(lock)) => return Ok(Some(lock)),
            Ok(None) => {} // someone else starts it
            Err(error) if error.is_not_found() => return Err(Error::NotFound(instance.record.name.clone())),
            Err(error) => return Err(error.into()),
        }
    }
}

/// A shim that was just started.
pub(crate) struct Shim {
    process: Child,
    /// Pipe for its first message.
    word: PipeReader,
    client: Client,
}

impl Shim {
    /// Starts the shim. Its socket is made here and handed over as standard input, so that from the
    /// shim's first moment a request waits in the backlog instead of being refused; and with it the
    /// lock that says that there is a shim.
    pub(crate) fn start(
        instance: &Instance,
        hypeman: &Path,
        task: &str,
        listener: UnixListener,
        alive: Lock,
    ) -> Result<Shim> {
        let directory = &instance.directory;
        let client = Client::connect(&instance.record.name, directory)?;
        let (word, shim_end) = std::io::pipe().at(directory)?;
        let log = directory.join(names::HYPEMAN_LOG);
        let stderr = OpenOptions::new().append(true).create(true).mode(0o600).open(&log).at(&log)?;
        let lock = FdMapping { parent_fd: alive.into(), child_fd: names::SHIM_LOCK_FD };
        let mut command = hypeman_process::hypeman(hypeman);
        command.arg(task).arg(directory).stdin(OwnedFd::from(listener)).stdout(shim_end).stderr(stderr);
        command.fd_mappings(vec![lock]).map_err(std::io::Error::other).at(hypeman)?;
        let process = hypeman_process::spawn(&mut command, names::SHIM_LOCK_FD).at(hypeman)?;
        Ok(Shim { process, word, client })
    }

    /// Waits for its first message.
    pub(crate) fn wait_until_ready(mut self, instance: &Instance) -> Result<Client> {
        let mut line = String::new();
        // Ends with the line, or with the shim.
        BufReader::new(self.word).take(64 * 1024).read_line(&mut line).at(&instance.directory)?;
        let failed = |kind, reason| Error::Start { name: instance.record.name.clone(), kind, reason };
        match serde_json::from_str(&line) {
            Ok(protocol::Started::Ready) => {
                hypeman_process::reap(self.process);
                Ok(self.client)
            }
            Ok(protocol::Started::Failed { kind, message }) => {
                let _ = self.process.wait(); // it has said its last word
                Err(failed(kind, message))
            }
            Err(_) => {
                let (kind, reason) = without_a_word(self.process.wait(), instance);
                Err(failed(kind, reason))
            }
        }
    }
}

/// Kind and reason of the failure of a shim that has ended and not said why.
fn without_a_word(ended: std::io::Result<ExitStatus>, instance: &Instance) -> (Kind, String) {
    if ended.as_ref().is_ok_and(ExitStatus::success) {
        return (Kind::Cancelled, "it was told to end before it ran".to_owned());
    }
    // One that is busy, and cannot answer who removes its instance, is killed.
    let was_killed = ended.as_ref().is_ok_and(|status| status.signal().is_some());
    let kind = if was_killed { Kind::Cancelled } else { Kind::Internal };
    let how = ended.map_or_else(|error| error.to_string(), |status| status.to_string());
    let log = instance.directory.join(names::HYPEMAN_LOG);
    (kind, format!("the shim ended without a word ({how}); {} may say more", log.display()))
}

pub(crate) fn listen(directory: &Path) -> Result<UnixListener> {
    let socket = directory.join(names::SHIM_SOCKET);
    match std::fs::remove_file(&socket) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Ok(Err(error).at(&socket)?),
        _ => {}
    }
    let (_directory, path) = short_path(directory, names::SHIM_SOCKET).at(directory)?;
    Ok(UnixListener::bind(path).at(&socket)?)
}
