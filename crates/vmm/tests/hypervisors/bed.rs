//! A VM as a shim would have it, on each machine that runs the test guest here.

use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::rc::Rc;
use std::time::Duration;

use hypeman_record::end::ShutdownReason;
use hypeman_record::program::Program;
use hypeman_record::spec::{Accelerator, HypervisorKind, VmSpec};
use hypeman_vmm::findings::Findings;
use hypeman_vmm::hypervisor::{Origin, Vmm};
use hypeman_vmm::process::VmmProcess;
use hypeman_vmm::vm::{Console, Vm};
use hypeman_vmm::{Error, hypervisor, qemu};
use testguest::Options;
use tokio::io::unix::AsyncFd;

/// A hypervisor and how it runs guests.
#[derive(Debug, Clone)]
pub(crate) struct Machine {
    pub(crate) kind: HypervisorKind,
    accelerator: Accelerator,
    cpu_left_out: Vec<String>,
    pub(crate) program: Program,
}

impl Machine {
    /// Lines to ask for: fewer on KVM, where each byte costs two exits, some 50 us on a nested
    /// host.
    pub(crate) fn lines(&self) -> u64 {
        if self.accelerator == Accelerator::Kvm { 1000 } else { 20_000 }
    }
}

/// A created VM.
pub(crate) struct Bed {
    pub(crate) directory: tempfile::TempDir,
    pub(crate) process: Running,
    pub(crate) vm: Box<dyn Vm>,
    pub(crate) console: Console,
}

/// A VMM that ends with its test.
pub(crate) struct Running(pub(crate) Rc<VmmProcess>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.kill().unwrap();
    }
}

impl Bed {
    /// Returns the reason that the VMM reported for the VM's end.
    pub(crate) async fn shutdown_reason(&self) -> Option<ShutdownReason> {
        self.vm.status().wait_for(|status| status.is_last).await.unwrap().shutdown
    }
}

fn kvm() -> bool {
    let opened = std::fs::OpenOptions::new().read(true).write(true).open("/dev/kvm");
    if let Err(error) = &opened {
        eprintln!("SKIPPED with KVM: /dev/kvm: {error}");
    }
    opened.is_ok()
}

/// QEMU's machines, on each accelerator.
pub(crate) fn qemus() -> Vec<Machine> {
    let kinds = [HypervisorKind::Qemu, HypervisorKind::QemuMicrovm];
    let program = match hypervisor(kinds[0]).discover(None, &Findings::none()) {
        Ok(program) => program,
        Err(error) => {
            eprintln!("SKIPPED with QEMU: {error}");
            return Vec::new();
        }
    };
    let on_kvm = match qemu::try_features(&program) {
        Ok(features) => Some((Accelerator::Kvm, features.left_out)),
        Err(error) => {
            eprintln!("SKIPPED with QEMU on KVM: {error}");
            None
        }
    };
    let accelerators = [Some((Accelerator::Tcg, Vec::new())), on_kvm];
    let both = |kind| {
        let program = &program;
        let machine = move |(accelerator, cpu_left_out)| Machine {
            kind,
            accelerator,
            cpu_left_out,
            program: program.clone(),
        };
        accelerators.clone().into_iter().flatten().map(machine)
    };
    kinds.into_iter().flat_map(both).collect()
}

/// The real Cloud Hypervisor when one is named and there is KVM, or else the contract double, once
/// with the manners of the newest release and once with those of the ones before v53.0.
pub(crate) fn cloud_hypervisor() -> Vec<Machine> {
    let paths = match std::env::var_os("HYPEMAN_TEST_CLOUD_HYPERVISOR").map(PathBuf::from) {
        Some(_) if !kvm() => Vec::new(),
        Some(path) => vec![path],
        None => {
            eprintln!(
                "SKIPPED with the real Cloud Hypervisor, on its double instead: name a binary in HYPEMAN_TEST_CLOUD_HYPERVISOR"
            );
            vec![double(53), double(52)]
        }
    };
    let machine = |path: PathBuf| {
        let program =
            hypervisor(HypervisorKind::CloudHypervisor).discover(Some(&path), &Findings::none()).unwrap();
        Machine {
            kind: HypervisorKind::CloudHypervisor,
            accelerator: Accelerator::Kvm,
            cpu_left_out: Vec::new(),
            program,
        }
    };
    paths.into_iter().map(machine).collect()
}

/// The double with the manners of a release. Cargo puts the tests into `deps` below the directory
/// of the binaries.
fn double(release: u32) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let double = test.ancestors().nth(2).unwrap().join("cloud-hypervisor-double");
    assert!(double.exists(), "build it first: cargo build --workspace --bins");
    // Its name tells it. Linked aside and renamed: tests run beside each other, and one may just be
    // executing it.
    let link = double.with_file_name(format!("cloud-hypervisor-double-v{release}"));
    let aside = tempfile::tempdir_in(double.parent().unwrap()).unwrap();
    std::fs::hard_link(&double, aside.path().join("double")).unwrap();
    std::fs::rename(aside.path().join("double"), &link).unwrap();
    link
}

/// All that run here.
pub(crate) fn machines() -> Vec<Machine> {
    [qemus(), cloud_hypervisor()].concat()
}

/// A specification for the test guest.
pub(crate) fn spec(machine: &Machine, options: &Options) -> VmSpec {
    VmSpec {
        cmdline: options.to_string(),
        cpu_left_out: machine.cpu_left_out.clone(),
        control_port: Some("test".into()),
        ..VmSpec::new("test, with a comma", "kernel".into(), 32 << 20, machine.accelerator)
    }
}

/// A VM with the test guest, ready to boot.
pub(crate) async fn start(machine: &Machine, options: &Options) -> Bed {
    let directory = tempfile::tempdir().unwrap();
    testguest::write_to(&directory.path().join("kernel")).unwrap();
    let (process, created) = create(machine, directory.path(), &spec(machine, options), Origin::Boot).await;
    let vm = created.unwrap();
    let console = vm.console().await.unwrap();
    Bed { directory, process, vm, console }
}

/// Starts a VMM in `directory`, and makes a VM there.
pub(crate) async fn create(
    machine: &Machine,
    directory: &Path,
    spec: &VmSpec,
    origin: Origin<'_>,
) -> (Running, Result<Box<dyn Vm>, Error>) {
    let driver = hypervisor(machine.kind);
    let mut start = driver.command(&machine.program, directory, spec, origin).unwrap();
    start.command.stdin(Stdio::null());
    let (process, []) = VmmProcess::start(start, &directory.join("vmm.pid"), []).unwrap();
    let process = Running(Rc::new(process));
    let vmm = Vmm { program: &machine.program, directory, process: &process.0, network: None };
    let created = driver.create(vmm, spec, origin).await;
    (process, created)
}

/// Reads until `enough` says so, or the VM has ended and its pipe or socket is empty.
pub(crate) async fn read(bed: &mut Bed, enough: impl Fn(&[u8]) -> bool) -> Vec<u8> {
    // SAFETY: an `OwnedFd` gives the same descriptor each time it is asked, and has it open as long
    // as it lives.
    #[allow(unsafe_code)]
    let output = unsafe { AsyncFd::register(bed.console.output.try_clone().unwrap()) }.unwrap();
    let mut bytes = Vec::new();
    let mut ended = false; // QEMU was the last writer: then an empty pipe reads as its end
    while !enough(&bytes) {
        let mut buffer = [0; 65536];
        match rustix::io::read(&output, &mut buffer) {
            Ok(0) => break,
            Ok(length) => bytes.extend_from_slice(&buffer[..length]),
            Err(_) if ended => break,
            Err(_) => tokio::select! {
                ready = output.readable() => ready.unwrap().clear_ready(),
                _ = bed.process.0.ended() => ended = true,
            },
        }
    }
    bytes
}

/// Waits for something while the console is read, as a shim does: a VMM may wait for its reader.
pub(crate) async fn while_reading<T>(
    output: &OwnedFd,
    bytes: &mut Vec<u8>,
    work: impl Future<Output = T>,
) -> T {
    let mut work = std::pin::pin!(work);
    loop {
        tokio::select! {
            biased;
            done = &mut work => return done,
            () = tokio::time::sleep(Duration::from_millis(1)) => while drain(output, bytes) {},
        }
    }
}

/// Reads what is there; whether there was anything.
pub(crate) fn drain(fd: &OwnedFd, bytes: &mut Vec<u8>) -> bool {
    let mut buffer = [0; 65536];
    let Ok(length) = std::fs::File::from(fd.try_clone().unwrap()).read(&mut buffer) else {
        return false;
    };
    bytes.extend_from_slice(&buffer[..length]);
    length > 0
}

/// Runs a test for each machine, on the runtime that a shim has.
pub(crate) fn on_each(machines: Vec<Machine>, test: impl AsyncFn(Machine)) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for machine in machines {
        eprintln!("{machine:?}");
        let test = async { tokio::time::timeout(Duration::from_secs(120), test(machine)).await.unwrap() };
        tokio::task::LocalSet::new().block_on(&runtime, test);
    }
}
