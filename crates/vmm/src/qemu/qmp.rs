//! QMP, QEMU's protocol: one JSON object a line (docs/interop/qmp-spec.rst). The types are those of
//! qapi/*.json, as far as we use them.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::rc::Rc;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, oneshot};
use tokio_util::task::AbortOnDropHandle;

use crate::error::{Error, Result};

/// Maximum length of a message in bytes; the registers of 255 vCPUs have some 500 KiB.
const MAX_MESSAGE: u64 = 4 << 20;

/// Maximum number of commands that may wait for an answer: a QEMU that is silent gets no more of
/// them.
const MAX_IN_FLIGHT: usize = 16;

/// A command, whose fields are its arguments.
pub(super) trait Command: Serialize {
    /// Its name.
    const NAME: &'static str;
    /// Its answer.
    type Answer: DeserializeOwned;
}

macro_rules! commands {
    ($($(#[$doc:meta])* $name:ident { $($field:ident: $of:ty),* } = $wire:literal -> $answer:ty;)+) => {
        $($(#[$doc])*
        #[derive(Debug, Clone, Serialize)]
        #[serde(rename_all = "kebab-case")]
        pub(super) struct $name { $(pub(super) $field: $of),* }

        impl Command for $name {
            const NAME: &'static str = $wire;
            type Answer = $answer;
        })+
    };
}

/// The answer of commands that have nothing to tell: an empty object.
#[derive(Debug, Deserialize)]
pub(super) struct Done {}

commands! {
    /// Tells whether the VM runs.
    QueryStatus {} = "query-status" -> Status;
    /// Presses the power button.
    SystemPowerdown {} = "system_powerdown" -> Done;
    /// Ends QEMU.
    Quit {} = "quit" -> Done;
    /// Stops the vCPUs.
    Stop {} = "stop" -> Done;
    /// Lets the vCPUs run.
    Cont {} = "cont" -> Done;
    /// Gives a command of the human monitor.
    HumanMonitorCommand { command_line: String } = "human-monitor-command" -> String;
    /// Sets the rate of migrations, in bytes a second.
    MigrateSetParameters { max_bandwidth: u64 } = "migrate-set-parameters" -> Done;
    /// Switches capabilities of migrations.
    MigrateSetCapabilities { capabilities: Vec<Value> } = "migrate-set-capabilities" -> Done;
    /// Begins to write the VM's memory.
    Migrate { uri: String } = "migrate" -> Done;
    /// Begins to read the VM's memory.
    MigrateIncoming { uri: String } = "migrate-incoming" -> Done;
    /// Ends a migration.
    MigrateCancel {} = "migrate_cancel" -> Done;
    /// Tells of the last migration.
    QueryMigrate {} = "query-migrate" -> Migration;
    /// Takes the descriptor that was sent last, under a name.
    Getfd { fdname: String } = "getfd" -> Done;
}

/// The answer of [`QueryStatus`] (`StatusInfo`).
#[derive(Debug, Deserialize)]
pub(super) struct Status {
    pub(super) status: RunState,
}

/// A state of the VM.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum RunState {
    Prelaunch,
    Inmigrate,
    Paused,
    FinishMigrate,
    Postmigrate,
    IoError,
    InternalError,
    #[serde(other)]
    Other,
}

/// The answer of [`QueryMigrate`] (`MigrationInfo`).
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Migration {
    pub(super) status: Option<MigrationStatus>,
    pub(super) error_desc: Option<String>,
}

/// A state of a migration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum MigrationStatus {
    None,
    Completed,
    Failed,
    Cancelled,
    #[serde(other)]
    UnderWay,
}

/// An event.
#[derive(Debug, Deserialize)]
pub(super) struct Event {
    /// Its name.
    #[serde(rename = "event")]
    pub(super) name: String,
    /// Data of the event.
    #[serde(default)]
    pub(super) data: Value,
}

/// Message of QEMU.
#[derive(Deserialize)]
#[serde(untagged)]
enum Message {
    Event(Event),
    Answer {
        id: u64,
        #[serde(rename = "return")]
        answer: Value,
    },
    Failed {
        id: Option<u64>,
        error: Failure,
    },
    Greeting {
        #[serde(rename = "QMP")]
        _qmp: Value,
    },
}

/// Why a command was not carried out.
#[derive(Deserialize)]
struct Failure {
    desc: String,
}

/// An answer in JSON, or QEMU's words.
type Answer = std::result::Result<Value, String>;

/// Those who wait, by the ids of their commands; `None` when QEMU has closed the connection.
type Waiting = Rc<RefCell<Option<BTreeMap<u64, oneshot::Sender<Answer>>>>>;

/// A connection to QEMU. Dropping it closes it.
pub(super) struct Qmp {
    commands: mpsc::UnboundedSender<Vec<u8>>,
    waiting: Waiting,
    next_id: Cell<u64>,
    _tasks: [AbortOnDropHandle<()>; 2],
}

impl Qmp {
    /// Greets QEMU, and tells its events from then on; after the last one, the end. Needs a tokio
    /// `LocalSet`.
    pub(super) async fn open(
        stream: UnixStream,
        mut on_event: impl FnMut(Option<Event>) + 'static,
    ) -> std::io::Result<Qmp> {
        let (reader, mut writer) = stream.into_split();
        let mut reader = BufReader::new(reader);
        let Some(Message::Greeting { .. }) = read(&mut reader).await? else {
            return Err(std::io::Error::new(ErrorKind::InvalidData, "no greeting of QMP"));
        };
        writer.write_all(&line(0, "qmp_capabilities", &json!({}))).await?;
        match read(&mut reader).await? {
            Some(Message::Answer { .. }) => {}
            _ => return Err(std::io::Error::new(ErrorKind::InvalidData, "QMP was not negotiated")),
        }
        let (commands, queue) = mpsc::unbounded_channel();
        let waiting: Waiting = Rc::new(RefCell::new(Some(BTreeMap::new())));
        let writing = tokio::task::spawn_local(write(writer, queue));
        let asked = waiting.clone();
        // Reads to the very end: the SHUTDOWN event is the last thing QEMU says.
        let reading = tokio::task::spawn_local(async move {
            while let Ok(Some(message)) = read(&mut reader).await {
                match message {
                    Message::Event(event) => on_event(Some(event)),
                    Message::Answer { id, answer } => reply(&asked, id, Ok(answer)),
                    Message::Failed { id, error } => reply(&asked, id.unwrap_or(0), Err(error.desc)),
                    Message::Greeting { .. } => {}
                }
            }
            asked.take(); // whoever waits hears that nothing comes
            on_event(None);
        });
        let tasks = [writing, reading].map(AbortOnDropHandle::new);
        Ok(Qmp { commands, waiting, next_id: Cell::new(1), _tasks: tasks })
    }

    /// Gives a command, and waits for its answer. The caller may stop waiting at any time.
    pub(super) async fn execute<C: Command>(&self, command: C) -> Result<C::Answer> {
        let failed = |message: String| Error::Api { request: C::NAME.to_owned(), message };
        let gone = || failed("QEMU closed the connection".to_owned());
        let id = self.next_id.replace(self.next_id.get() + 1);
        let arguments = serde_json::to_value(command).map_err(|error| failed(error.to_string()))?;
        let (asker, answered) = oneshot::channel();
        match &mut *self.waiting.borrow_mut() {
            None => return Err(gone()),
            Some(waiting) if waiting.len() >= MAX_IN_FLIGHT => {
                return Err(failed("the VMM has not answered earlier requests".to_owned()));
            }
            Some(waiting) => drop(waiting.insert(id, asker)),
        }
        self.commands.send(line(id, C::NAME, &arguments)).map_err(|_| gone())?;
        let answer = answered.await.map_err(|_| gone())?.map_err(failed)?;
        serde_json::from_value(answer).map_err(|error| failed(error.to_string()))
    }
}

fn line(id: u64, name: &str, arguments: &Value) -> Vec<u8> {
    format!("{}\n", json!({"execute": name, "arguments": arguments, "id": id})).into_bytes()
}

fn reply(waiting: &Waiting, id: u64, answer: Answer) {
    let asker = waiting.borrow_mut().as_mut().and_then(|waiting| waiting.remove(&id));
    if let Some(asker) = asker {
        let _ = asker.send(answer); // it may have stopped waiting
    }
}

/// Writes commands, each whole.
async fn write(mut writer: OwnedWriteHalf, mut queue: mpsc::UnboundedReceiver<Vec<u8>>) {
    while let Some(command) = queue.recv().await {
        if writer.write_all(&command).await.is_err() {
            return; // the reader hears of it
        }
    }
}

/// The next message; `None` at the end.
async fn read(reader: &mut BufReader<OwnedReadHalf>) -> std::io::Result<Option<Message>> {
    let mut line = Vec::new();
    reader.take(MAX_MESSAGE).read_until(b'\n', &mut line).await?;
    if line.is_empty() {
        return Ok(None);
    }
    Ok(Some(serde_json::from_slice(&line)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_answer_is_for_whoever_asked_and_still_waits() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let qemu = async move {
            let (reader, mut writer) = theirs.into_split();
            let mut reader = BufReader::new(reader);
            writer.write_all(b"{\"QMP\": {\"version\": {}, \"capabilities\": [\"oob\"]}}\n").await.unwrap();
            for answers in [
                vec![json!({"return": {}, "id": 0})],
                vec![], // to the first command, whose asker goes away
                vec![
                    json!({"return": {"status": "paused"}, "id": 1}),
                    json!({"event": "STOP", "timestamp": {}}),
                    json!({"return": {"status": "io-error"}, "id": 2}),
                ],
                vec![json!({"error": {"class": "GenericError", "desc": "no"}, "id": 3})],
            ] {
                reader.read_until(b'\n', &mut Vec::new()).await.unwrap();
                for answer in answers {
                    writer.write_all(format!("{answer}\n").as_bytes()).await.unwrap();
                }
            }
        };
        let asks = async {
            let events = Rc::new(RefCell::new(Vec::new()));
            let told = events.clone();
            let heard = move |event: Option<Event>| told.borrow_mut().push(event.map(|event| event.name));
            let qmp = Qmp::open(ours, heard).await.unwrap();
            let gives_up = std::time::Duration::from_millis(10);
            assert!(tokio::time::timeout(gives_up, qmp.execute(QueryStatus {})).await.is_err());
            assert_eq!(qmp.execute(QueryStatus {}).await.unwrap().status, RunState::IoError);
            let refused = qmp.execute(Quit {}).await.unwrap_err().to_string();
            assert!(refused.contains("quit") && refused.contains("no"), "{refused}");
            let gone = qmp.execute(Quit {}).await.unwrap_err().to_string();
            assert!(gone.contains("closed"), "{gone}");
            assert_eq!(*events.borrow(), [Some("STOP".to_owned()), None]);
        };
        let local = tokio::task::LocalSet::new();
        local.run_until(async { tokio::join!(qemu, asks) }).await;
    }
}
