//! Tests of Cloud Hypervisor alone: the serial line's socket, and errors of its API.

use std::io::Write;
use std::os::unix::net::{UnixListener, UnixStream};

use hypeman_record::spec::{Accelerator, HypervisorKind};
use hypeman_vmm::hypervisor::{Origin, Vmm};
use hypeman_vmm::vm::Paused;
use hypeman_vmm::{Error, Unsupported, hypervisor};
use testguest::Options;
use testguest::check::Sequence;

use crate::bed::{Bed, Machine, cloud_hypervisor, create, on_each, read, spec, start};

#[test]
fn fifty_boots_all_begin_with_line_0() {
    on_each(cloud_hypervisor(), async |machine| {
        let options = Options { count: 20, ..Options::default() };
        for boot in 0..50 {
            let mut bed = start(&machine, &options).await;
            bed.vm.boot().await.unwrap();
            let bytes = read(&mut bed, |_| false).await;
            assert_eq!(Sequence::new(&options).check(&bytes), Ok(0..20), "boot {boot}");
        }
    });
}

#[test]
fn a_stale_socket_is_no_obstacle() {
    on_each(cloud_hypervisor(), async |machine| {
        let directory = tempfile::tempdir().unwrap();
        testguest::write_to(&directory.path().join("kernel")).unwrap();
        drop(UnixListener::bind(directory.path().join("serial.sock")).unwrap());
        drop(UnixListener::bind(directory.path().join("ch.sock")).unwrap());
        let (_process, vm) =
            create(&machine, directory.path(), &spec(&machine, &Options::default()), Origin::Boot).await;
        vm.unwrap().console().await.unwrap();
    });
}

#[test]
fn what_was_sent_before_a_kill_9_can_be_read() {
    on_each(cloud_hypervisor(), async |machine| {
        let options = Options { count: 1_000_000, ..Options::default() };
        let mut bed = start(&machine, &options).await;
        bed.vm.boot().await.unwrap();
        let mut bytes = read(&mut bed, |bytes| bytes.len() > 1000).await;
        bed.process.0.kill().unwrap();
        bytes.extend(read(&mut bed, |_| false).await);
        Sequence::new(&options).check(&bytes).unwrap();
        assert_eq!(bed.shutdown_reason().await, None);
    });
}

#[test]
fn a_second_client_takes_the_line_over_and_it_can_be_had_back() {
    on_each(cloud_hypervisor(), async |machine| {
        let options = Options { count: 1, echo: true, ..Options::default() };
        let mut bed = start(&machine, &options).await;
        bed.vm.boot().await.unwrap();
        read(&mut bed, |bytes| bytes.ends_with(b"\n")).await;
        let _second =
            std::os::unix::net::UnixStream::connect(bed.directory.path().join("vmm/serial.sock")).unwrap();
        assert_eq!(read(&mut bed, |_| false).await, b"", "the first is closed");
        assert!(hypeman_files::is_held(&bed.directory.path().join("vmm.pid")).unwrap(), "and the VMM lives");
        bed.console = bed.vm.console().await.unwrap();
        rustix::io::write(&bed.console.input, b"back\x04").unwrap();
        assert_eq!(read(&mut bed, |_| false).await, b"back");
    });
}

#[test]
fn a_refused_boot_tells_all_causes() {
    on_each(cloud_hypervisor(), async |machine| {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("kernel"), "no kernel").unwrap();
        let (_process, vm) =
            create(&machine, directory.path(), &spec(&machine, &Options::default()), Origin::Boot).await;
        let vm = vm.unwrap();
        vm.console().await.unwrap();
        let error = vm.boot().await.unwrap_err().to_string();
        assert!(error.starts_with("vm.boot: ") && error.matches(": ").count() >= 2, "{error}");
    });
}

/// A request that the VMM carries out late is no later than the answer to the shim that takes the
/// VM over.
#[test]
fn what_a_killed_client_has_asked_for_is_done_before_the_state_is_told() {
    on_each(cloud_hypervisor(), async |machine| {
        let options = Options { count: 1, echo: true, ..Options::default() };
        let mut bed = start(&machine, &options).await;
        bed.vm.boot().await.unwrap();
        read(&mut bed, |bytes| bytes.ends_with(b"\n")).await;
        let Bed { directory, process, vm, console: _console } = bed;
        drop(vm); // with its reader of events
        let request =
            "PUT /api/v1/vm.pause HTTP/1.1\r\nHost: localhost\r\nX-Late: 200\r\nContent-Length: 0\r\n\r\n";
        let mut killed = UnixStream::connect(directory.path().join("ch.sock")).unwrap();
        killed.write_all(request.as_bytes()).unwrap();
        drop(killed);
        let vmm = Vmm {
            program: &machine.program,
            directory: directory.path(),
            process: &process.0,
            network: None,
        };
        let adopted = hypervisor(machine.kind).adopt(vmm).await.unwrap();
        let before = adopted.status().borrow().paused.clone();
        let real = std::env::var_os("HYPEMAN_TEST_CLOUD_HYPERVISOR").is_some(); // it may forget what nobody waits for
        assert!(real || before == Some(Paused::Requested), "{before:?}");
    });
}

#[test]
fn tcg_is_refused() {
    on_each(cloud_hypervisor(), async |machine: Machine| {
        let mut spec = spec(&machine, &Options::default());
        spec.accelerator = Accelerator::Tcg;
        let driver = hypervisor(HypervisorKind::CloudHypervisor);
        let error = driver.command(&machine.program, "nowhere".as_ref(), &spec, Origin::Boot).unwrap_err();
        assert!(matches!(error, Error::Unsupported(Unsupported::Tcg)), "{error}");
    });
}
