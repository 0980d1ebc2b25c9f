//! The VMM and its one VM (`vmm/src/lib.rs`).

use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use testguest::{Finish, Options};

use crate::events::Events;
use crate::guest::{self, Gate};
use crate::net::Nets;
use crate::serial::{Line, Unserved};
use crate::vsock::Vsock;

/// The file in which the real one keeps the guest's memory.
const MEMORY: &str = "memory-ranges";

/// Result of a request: nothing or a body, or causes, the outermost first.
pub(crate) type Answer = Result<Option<Value>, Vec<String>>;

/// How long it takes to end a VM, make it again and load its kernel.
const REBOOT: Duration = Duration::from_millis(20);

/// The VMM.
#[derive(Clone)]
pub(crate) struct Vmm {
    release: u32,
    events: Events,
    vm: Arc<Mutex<Option<Vm>>>,
}

struct Vm {
    config: Value,
    state: State,
    vsock: Option<Vsock>,
    nets: Nets,
}

enum State {
    Created(Unserved),
    Running(Line, Gate),
    Paused(Line, Gate),
}

impl Vmm {
    pub(crate) fn new(release: u32, events: Events) -> Vmm {
        Vmm { release, events, vm: Arc::default() }
    }

    /// Answers one request.
    pub(crate) fn answer(&self, request: &str, body: &[u8], descriptors: Vec<OwnedFd>) -> Answer {
        let body = || {
            serde_json::from_slice::<Value>(body)
                .map_err(|error| vec!["Failed to deserialize JSON".to_owned(), error.to_string()])
        };
        match request {
            "vmm.ping" => {
                Ok(Some(json!({"version": format!("v{}.0-double", self.release), "pid": std::process::id()})))
            }
            "vmm.shutdown" => {
                self.shut_down();
                Ok(None)
            }
            "vm.create" => self.create(body()?),
            "vm.add-net" => self.add_net(body()?, descriptors),
            "vm.boot" => self.boot(),
            "vm.info" => self.info(),
            "vm.pause" => self.pause(true),
            "vm.resume" => self.pause(false),
            "vm.power-button" => Ok(None), // the test guest has no handler for it
            "vm.snapshot" => self.snapshot(&body()?),
            "vm.restore" => self.restore(&body()?, descriptors),
            _ => Err(vec!["Not Found".to_owned()]),
        }
    }

    /// Binds the serial socket (`vm_create`); the VM is made when it is booted.
    fn create(&self, config: Value) -> Answer {
        let mut vm = self.vm.lock().expect("no panic");
        if vm.is_some() {
            return Err(failure("The VM could not be created", "VM is already created"));
        }
        let line = Unserved::make(&config["serial"], self.release).map_err(|causes| {
            [vec!["Error from API".to_owned(), "The VM could not be created".to_owned()], causes].concat()
        })?;
        let vsock = Vsock::make(&config)?;
        *vm = Some(Vm { config, state: State::Created(line), vsock, nets: Nets::none() });
        Ok(None)
    }

    fn add_net(&self, net: Value, descriptors: Vec<OwnedFd>) -> Answer {
        let mut vm = self.vm.lock().expect("no panic");
        let Some(Vm { config, nets, .. }) = &mut *vm else {
            return Err(failure("The VM could not add a network device", "VM is not created"));
        };
        nets.add(config, net, descriptors)
    }

    fn boot(&self) -> Answer {
        let mut current = self.vm.lock().expect("no panic");
        let Some(vm) = current.take() else {
            return Err(failure("The VM could not boot", "VM is not created"));
        };
        let Vm { config, state, vsock, nets } = vm;
        let State::Created(line) = state else {
            *current = Some(Vm { config, state, vsock, nets });
            return Err(failure("The VM could not boot", "VM is already running"));
        };
        self.events.tell("vm", "booting");
        load(&config).map_err(|cause| failure("The VM could not boot", &cause))?;
        let gate = Gate::default();
        let line = self.start(&config, line, &gate)?;
        *current = Some(Vm { config, state: State::Running(line, gate), vsock, nets });
        self.events.tell("vm", "booted");
        Ok(None)
    }

    fn start(&self, config: &Value, line: Unserved, gate: &Gate) -> Result<Line, Vec<String>> {
        let options: Options =
            config["payload"]["cmdline"].as_str().unwrap_or_default().parse().unwrap_or_default();
        let (line, typed) = line.serve();
        let vmm = self.clone();
        guest::run(options, self.release, line.clone(), typed, gate.clone(), move |finish| match finish {
            Finish::Reset => vmm.reboot(),
            _ => {
                vmm.shut_down();
                std::process::exit(0)
            }
        })
        .map_err(|error| failure("The VM could not boot", &error.to_string()))?;
        Ok(line)
    }

    /// A guest that resets is booted again in place, on a serial line that was made again
    /// (`vm_reboot`).
    fn reboot(&self) {
        self.events.tell("vm", "rebooting");
        let mut current = self.vm.lock().expect("no panic");
        let Some(vm) = current.take() else { return };
        if let State::Running(line, gate) | State::Paused(line, gate) = vm.state {
            gate.end();
            line.close();
        }
        std::thread::sleep(REBOOT);
        let gate = Gate::default();
        let again = Unserved::make(&vm.config["serial"], self.release)
            .and_then(|line| self.start(&vm.config, line, &gate));
        if let Ok(line) = again {
            let state = State::Running(line, gate);
            *current = Some(Vm { config: vm.config, state, vsock: vm.vsock, nets: vm.nets });
            self.events.tell("vm", "rebooted");
        }
    }

    fn info(&self) -> Answer {
        let vm = self.vm.lock().expect("no panic");
        let Some(vm) = &*vm else { return Err(failure("The VM info is not available", "VM is not created")) };
        let state = match vm.state {
            State::Created(_) => "Created",
            State::Running(..) => "Running",
            State::Paused(..) => "Paused",
        };
        Ok(Some(json!({"config": vm.config, "state": state})))
    }

    fn pause(&self, pause: bool) -> Answer {
        let mut current = self.vm.lock().expect("no panic");
        let Some(vm) = current.take() else {
            return Err(failure("The VM could not be paused", "VM is not running"));
        };
        let state = match vm.state {
            State::Running(line, gate) if pause => {
                self.events.tell("vm", "pausing");
                gate.set_paused(true);
                self.events.tell("vm", "paused");
                State::Paused(line, gate)
            }
            State::Paused(line, gate) if !pause => {
                self.events.tell("vm", "resuming");
                gate.set_paused(false);
                self.events.tell("vm", "resumed");
                State::Running(line, gate)
            }
            state => {
                *current = Some(Vm { state, ..vm });
                return Err(failure("The VM could not be paused or resumed", "Invalid VM state transition"));
            }
        };
        *current = Some(Vm { state, ..vm });
        Ok(None)
    }

    fn snapshot(&self, body: &Value) -> Answer {
        let vm = self.vm.lock().expect("no panic");
        let Some(Vm { config, state: State::Paused(_, gate), .. }) = &*vm else {
            return Err(failure("The VM could not be snapshotted", "VM is not paused"));
        };
        let directory = directory(&body["destination_url"])?;
        for (file, value) in [("config.json", config), (MEMORY, &json!(gate.position()))] {
            std::fs::write(directory.join(file), value.to_string())
                .map_err(|error| failure("The VM could not be snapshotted", &error.to_string()))?;
        }
        Ok(None)
    }

    /// A restored VM is paused, on a serial line that was made as its `config.json` says.
    fn restore(&self, body: &Value, descriptors: Vec<OwnedFd>) -> Answer {
        let failed = |cause: String| failure("The VM could not be restored", &cause);
        let directory = directory(&body["source_url"])?;
        let read = |file: &str| {
            let text = std::fs::read(directory.join(file)).map_err(|error| failed(error.to_string()))?;
            serde_json::from_slice::<Value>(&text).map_err(|error| failed(error.to_string()))
        };
        let config = read("config.json")?;
        let position = serde_json::from_value(read(MEMORY)?).map_err(|error| failed(error.to_string()))?;
        let mut current = self.vm.lock().expect("no panic");
        if current.is_some() {
            return Err(failed("VM is already created".to_owned()));
        }
        let line = Unserved::make(&config["serial"], self.release)?;
        let vsock = Vsock::make(&config)?;
        let nets = Nets::restored(&config, body, descriptors)?;
        let gate = Gate::restored(position);
        let line = self.start(&config, line, &gate)?;
        *current = Some(Vm { config, state: State::Paused(line, gate), vsock, nets });
        Ok(None)
    }

    /// Ends the VM and the VMM (`vmm_shutdown`). The process ends next, or when whoever asked has
    /// been answered.
    fn shut_down(&self) {
        let vm = self.vm.lock().expect("no panic").take();
        if let Some(vm) = vm {
            match vm.state {
                State::Running(line, gate) | State::Paused(line, gate) => {
                    gate.end();
                    line.close();
                }
                State::Created(line) => line.serve().0.close(),
            }
            self.events.tell("vm", "shutdown");
            self.events.tell("vm", "deleted");
        }
        self.events.tell("vmm", "shutdown");
    }
}

pub(crate) fn failure(what: &str, cause: &str) -> Vec<String> {
    ["Error from API", what, cause].map(str::to_owned).to_vec()
}

/// `file://` in front of a directory (`url_to_path` in `vmm/src/migration/mod.rs`).
fn directory(url: &Value) -> Result<std::path::PathBuf, Vec<String>> {
    url.as_str()
        .and_then(|url| url.strip_prefix("file://"))
        .map(Into::into)
        .ok_or_else(|| vec!["Could not convert URL to local path".to_owned()])
}

/// A kernel has to be an ELF64 or a bzImage (`load_kernel` in `vmm/src/vm.rs`).
fn load(config: &Value) -> Result<(), String> {
    let path = config["payload"]["kernel"].as_str().unwrap_or_default();
    let bytes = std::fs::read(path).map_err(|error| format!("Cannot open kernel file: {error}"))?;
    let known = bytes.starts_with(b"\x7fELF") || bytes.get(0x202..0x206) == Some(b"HdrS");
    known
        .then_some(())
        .ok_or_else(|| "Cannot load the kernel into memory: Invalid ELF magic number".to_owned())
}
