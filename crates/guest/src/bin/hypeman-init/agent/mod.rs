//! The agent: does in the guest what the host asks for. A process of its own beside the image's
//! program or init system, started again when it ends.
//!
//! It knows the host by one channel, and forgets what it did for it when that begins a new session:
//! commands that were run for someone who has gone are ended.

mod channel;
mod control;
mod copy;
mod exec;
mod health;
mod output;
mod pipe;
mod session;
mod sleep;
mod stat;
mod top;

use std::cell::RefCell;
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::process::{Child, Command, Stdio};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use channel::Channel;
use hypeman_agent::link::Link;
use hypeman_agent::mux::{self, Stream};
use hypeman_agent::protocol::Request;
use hypeman_agent::{data, frames};
use hypeman_record::guest::config::GuestConfig;
use hypeman_record::guest::health::Health;
use rustix::fs::MemfdFlags;
use rustix::process::Pid;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::task::{JoinHandle, LocalSet, spawn_local};

/// The words by which init calls itself for this.
const AGENT: &str = "agent";
const KEEPER: &str = "agent-keeper";

/// Our own program, also when its file is out of reach.
const PROGRAM: &str = "/proc/self/exe";

/// Has an agent's libc copy memory in a loop, for `rep movsb` goes byte by byte where instructions
/// are emulated (TCG), and is no quicker elsewhere; and keep little of what was freed
/// (<https://sourceware.org/glibc/manual/latest/html_node/Tunables.html>).
const TUNABLES: &str = "glibc.cpu.x86_rep_movsb_threshold=0x100000000:glibc.cpu.x86_rep_stosb_threshold=0x100000000:\
                        glibc.malloc.arena_max=1:glibc.malloc.mmap_threshold=131072:glibc.malloc.trim_threshold=1048576";

/// How long one is waited for before it is started again.
const PAUSE: Duration = Duration::from_millis(100);

/// Configuration of an agent, on its standard input.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Setting {
    pub(crate) config: GuestConfig,
    /// The image's program; `None` where its init is process 1.
    pub(crate) program: Option<i32>,
    /// The descriptor of its channel; `None` is that of the configuration.
    #[serde(default)]
    pub(crate) channel: Option<i32>,
}

/// Role of this process, if it is not process 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Task {
    Agent,
    Keeper,
}

/// Whether this process is to be one of these.
pub(crate) fn requested(mut arguments: impl Iterator<Item = String>) -> Option<Task> {
    match arguments.next()?.as_str() {
        AGENT => Some(Task::Agent),
        KEEPER => Some(Task::Keeper),
        _ => None,
    }
}

/// Is that.
pub(crate) fn carry_out(task: Task) {
    let Ok(setting) = std::os::fd::AsFd::as_fd(&std::io::stdin()).try_clone_to_owned().map(File::from) else {
        return;
    };
    match task {
        Task::Keeper => keep(&setting, &AtomicBool::new(false)),
        Task::Agent => {
            if let Err(error) = be_agent(setting) {
                eprintln!("hypeman-init: the agent ends: {error}");
            }
        }
    }
}

/// One that is kept beside a program of ours.
pub(crate) struct Kept(Arc<AtomicBool>);

impl Kept {
    /// Does not start it again: all is about to end.
    pub(crate) fn leave(&self) {
        self.0.store(true, Ordering::Release);
    }
}

/// Keeps an agent running beside a program, from a thread.
pub(crate) fn keep_beside(config: &GuestConfig, program: Pid) -> Kept {
    let leaves = Arc::new(AtomicBool::new(false));
    if let Ok(setting) = write(config, Some(program.as_raw_nonzero().get())) {
        let leaves = leaves.clone();
        std::thread::spawn(move || keep(&setting, &leaves));
    }
    Kept(leaves)
}

/// Has another process keep one, for process 1 is about to be another's. Init systems leave those
/// alone that were there before them.
pub(crate) fn keep_apart(config: &GuestConfig) {
    if let Ok(setting) = write(config, None) {
        let _ = start(&setting, KEEPER); // without it the guest does without
    }
}

fn write(config: &GuestConfig, program: Option<i32>) -> std::io::Result<File> {
    let setting = Setting { config: config.clone(), program, channel: None };
    let mut file = File::from(rustix::fs::memfd_create("agent", MemfdFlags::CLOEXEC)?);
    file.write_all(&serde_json::to_vec(&setting)?)?;
    Ok(file)
}

fn start(setting: &File, word: &str) -> std::io::Result<Child> {
    let mut command = Command::new(PROGRAM);
    command.env_clear().env("GLIBC_TUNABLES", TUNABLES);
    command.arg(word).stdin(setting.try_clone()?).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn()
}

/// Starts an agent again and again. Process 1 may reap it before we do.
fn keep(setting: &File, leaves: &AtomicBool) {
    while !leaves.load(Ordering::Acquire) {
        if let Ok(mut agent) = start(setting, AGENT) {
            let _ = agent.wait();
        }
        std::thread::sleep(PAUSE);
    }
}

/// State that all parts of the agent share.
pub(crate) struct Agent {
    pub(crate) setting: Setting,
    pub(crate) sessions: session::Sessions,
    /// Result of the health checks, if there are any.
    pub(crate) health: watch::Sender<Option<Health>>,
    /// Frozen processes, and the task that thaws them if nobody else does.
    pub(crate) frozen: RefCell<Option<(sleep::Frozen, JoinHandle<()>)>>,
}

fn be_agent(mut file: File) -> std::io::Result<()> {
    let mut text = Vec::new();
    file.rewind()?; // an agent before us has read it
    file.read_to_end(&mut text)?;
    let setting: Setting = serde_json::from_slice(&text)?;
    // The OOM killer takes others first.
    let _ = std::fs::write("/proc/self/oom_score_adj", "-1000");
    sleep::thaw_what_was_left();
    let agent = Rc::new(Agent {
        health: watch::Sender::new(setting.config.health.as_ref().map(|_| Health::default())),
        setting,
        sessions: session::Sessions::begin(),
        frozen: RefCell::new(None),
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, agent.live())
}

impl Agent {
    async fn live(self: Rc<Agent>) -> std::io::Result<()> {
        if let Some(check) = self.setting.config.health.clone() {
            spawn_local(health::check(self.clone(), check));
        }
        let mut channels = channel::Channels::open(&self.setting).await?;
        loop {
            let channel = channels.next().await?;
            tokio::select! {
                () = self.serve(channel) => {}
                // The host has made a new one: the client of the last is gone.
                again = channels.again() => again?,
            }
        }
    }

    /// Serves one session after the other, as long as the channel is there.
    async fn serve(self: &Rc<Agent>, channel: Channel) {
        let mut link = Link::new(channel);
        while link.accept().await.is_ok() {
            let _ = mux::accept(&mut link, |stream| {
                let agent = self.clone();
                spawn_local(async move {
                    let _ = agent.converse(stream).await; // whoever hung up needs no answer
                });
            })
            .await;
        }
    }

    async fn converse(self: Rc<Agent>, mut stream: Stream) -> std::io::Result<()> {
        match frames::read_message(&mut stream).await? {
            Request::Control => control::converse(self, stream).await,
            Request::Exec(exec) => exec::converse(&self, exec, stream).await,
            Request::Stat { path, follow } => answer(stream, &stat::stat(&path, follow)).await,
            Request::Top => answer(stream, &top::top()).await,
            Request::Read { path, follow, name } => copy::read(&path, name, follow, stream).await,
            Request::Write { path, archive } => copy::write(&path, archive, stream).await,
        }
    }
}

async fn answer(mut stream: Stream, word: &impl Serialize) -> std::io::Result<()> {
    frames::write_message(&mut stream, word).await?;
    data::close(stream).await
}
