//! The QEMU driver on real QEMUs with the test guest. Skipped aloud where QEMU is missing.

#![allow(clippy::unwrap_used)] // helpers of tests are tests

use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::time::Duration;

use hypeman_vmm::hypervisor;
use hypeman_vmm::hypervisor::{Console, ShutdownReason, Vm};
use hypeman_vmm::spec::{Accelerator, HypervisorKind, VmSpec};
use testguest::check::Sequence;
use testguest::{Finish, Options};
use tokio::net::unix::pipe::Receiver;
use tokio::process::Child;

/// A VM as a shim would have it.
struct Bed {
    _directory: tempfile::TempDir,
    child: Child,
    vm: Box<dyn Vm>,
    console: Console,
}

/// Every machine and every accelerator that runs the test guest here.
fn machines() -> Vec<(HypervisorKind, Accelerator)> {
    let kinds = [HypervisorKind::Qemu, HypervisorKind::QemuMicrovm];
    if let Err(error) = hypervisor(kinds[0]).discover() {
        eprintln!("SKIPPED: {error}");
        return Vec::new();
    }
    let kvm = std::fs::OpenOptions::new().read(true).write(true).open("/dev/kvm");
    if let Err(error) = &kvm {
        eprintln!("SKIPPED with KVM: /dev/kvm: {error}");
    }
    let accelerators = [Some(Accelerator::Tcg), kvm.ok().map(|_| Accelerator::Kvm)];
    let both = |kind| accelerators.into_iter().flatten().map(move |accelerator| (kind, accelerator));
    kinds.into_iter().flat_map(both).collect()
}

async fn start(kind: HypervisorKind, accelerator: Accelerator, options: &Options) -> Bed {
    let directory = tempfile::tempdir().unwrap();
    testguest::write_to(&directory.path().join("kernel")).unwrap();
    let spec = VmSpec {
        name: "test, with a comma".into(),
        vcpus: 1,
        memory: 32 << 20,
        kernel: "kernel".into(),
        initramfs: None,
        cmdline: options.to_string(),
        disks: Vec::new(),
        accelerator,
        control_port: Some("test".into()),
    };
    let driver = hypervisor(kind);
    let program = driver.discover().unwrap();
    let mut command =
        tokio::process::Command::from(driver.command(&program, directory.path(), &spec).unwrap());
    let child = command.kill_on_drop(true).stdin(std::process::Stdio::null()).spawn().unwrap();
    drop(command);
    let mut vm = driver.create(directory.path(), &spec).await.unwrap();
    let console = vm.console().await.unwrap();
    Bed { _directory: directory, child, vm, console }
}

/// Lines to ask for: fewer on KVM, where each byte costs two exits, some 50 us on a nested host.
fn lines(accelerator: Accelerator) -> u64 {
    if accelerator == Accelerator::Kvm { 1000 } else { 20_000 }
}

/// Reads until `enough` says so, or the VM has ended and its pipe is empty.
async fn read(bed: &mut Bed, enough: impl Fn(&[u8]) -> bool) -> Vec<u8> {
    let output = Receiver::from_owned_fd(bed.console.output.try_clone().unwrap()).unwrap();
    let mut bytes = Vec::new();
    let mut ended = false; // QEMU was the last writer: then an empty pipe reads as its end
    while !enough(&bytes) {
        let mut buffer = [0; 65536];
        match output.try_read(&mut buffer) {
            Ok(0) => break,
            Ok(length) => bytes.extend_from_slice(&buffer[..length]),
            Err(_) if ended => break,
            Err(_) => tokio::select! {
                ready = output.readable() => ready.unwrap(),
                _ = bed.child.wait() => ended = true,
            },
        }
    }
    bytes
}

/// Reads what is there; whether there was anything.
fn drain(fd: &OwnedFd, bytes: &mut Vec<u8>) -> bool {
    let mut buffer = [0; 65536];
    let Ok(length) = std::fs::File::from(fd.try_clone().unwrap()).read(&mut buffer) else {
        return false;
    };
    bytes.extend_from_slice(&buffer[..length]);
    length > 0
}

/// Runs a test for each machine, on the runtime that a shim has.
fn on_each_machine(test: impl AsyncFn(HypervisorKind, Accelerator)) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for (kind, accelerator) in machines() {
        eprintln!("{kind:?} {accelerator:?}");
        let test =
            async { tokio::time::timeout(Duration::from_secs(120), test(kind, accelerator)).await.unwrap() };
        tokio::task::LocalSet::new().block_on(&runtime, test);
    }
}

#[test]
fn the_console_begins_with_the_first_byte_and_ends_with_the_last() {
    on_each_machine(async |kind, accelerator| {
        let options = Options { count: 500, ..Options::default() };
        let mut bed = start(kind, accelerator, &options).await;
        bed.vm.boot().await.unwrap();
        let bytes = read(&mut bed, |_| false).await;
        assert_eq!(Sequence::new(&options).check(&bytes), Ok(0..500));
        assert_eq!(bed.vm.shutdown_reason().await, Some(ShutdownReason::GuestShutdown));
    });
}

#[test]
fn a_reset_ends_the_vm_and_is_told_from_a_power_off() {
    on_each_machine(async |kind, accelerator| {
        let mut bed =
            start(kind, accelerator, &Options { count: 1, finish: Finish::Reset, ..Options::default() })
                .await;
        bed.vm.boot().await.unwrap();
        bed.child.wait().await.unwrap();
        assert_eq!(bed.vm.shutdown_reason().await, Some(ShutdownReason::GuestReset));
    });
}

#[test]
fn quit_ends_the_vmm_and_is_told() {
    on_each_machine(async |kind, accelerator| {
        let mut bed = start(kind, accelerator, &Options::default()).await;
        bed.vm.boot().await.unwrap();
        read(&mut bed, |bytes| bytes.len() > 100).await;
        bed.vm.quit().await.unwrap();
        bed.child.wait().await.unwrap();
        assert_eq!(bed.vm.shutdown_reason().await, Some(ShutdownReason::HostRequest));
    });
}

#[test]
fn what_is_typed_reaches_the_guest() {
    on_each_machine(async |kind, accelerator| {
        let options = Options { count: 1, echo: true, ..Options::default() };
        let mut bed = start(kind, accelerator, &options).await;
        bed.vm.boot().await.unwrap();
        read(&mut bed, |bytes| bytes.ends_with(b"\n")).await;
        std::fs::File::from(bed.console.input.try_clone().unwrap()).write_all(b"hello\x04").unwrap();
        assert_eq!(read(&mut bed, |_| false).await, b"hello");
    });
}

#[test]
fn a_reader_that_dies_and_comes_back_has_lost_nothing() {
    on_each_machine(async |kind, accelerator| {
        let options = Options { count: lines(accelerator), ..Options::default() };
        let mut bed = start(kind, accelerator, &options).await;
        bed.vm.boot().await.unwrap();
        let mut bytes = read(&mut bed, |bytes| bytes.len() > 10_000).await;
        bed.console =
            Console { output: std::fs::File::open("/dev/null").unwrap().into(), input: bed.console.input };
        bed.console = bed.vm.console().await.unwrap();
        bytes.extend(read(&mut bed, |_| false).await);
        assert_eq!(Sequence::new(&options).check(&bytes), Ok(0..options.count));
    });
}

#[test]
fn a_paused_guest_prints_nothing_and_goes_on_where_it_was() {
    on_each_machine(async |kind, accelerator| {
        let options = Options { count: lines(accelerator), ..Options::default() };
        let mut bed = start(kind, accelerator, &options).await;
        bed.vm.boot().await.unwrap();
        let mut bytes = read(&mut bed, |bytes| bytes.len() > 1000).await;
        bed.vm.pause().await.unwrap();
        while drain(&bed.console.output, &mut bytes) {}
        let mut nothing = Vec::new();
        drain(&bed.console.output, &mut nothing);
        assert_eq!(nothing, b"");
        bed.vm.resume().await.unwrap();
        bytes.extend(read(&mut bed, |_| false).await);
        assert_eq!(Sequence::new(&options).check(&bytes), Ok(0..options.count));
    });
}
