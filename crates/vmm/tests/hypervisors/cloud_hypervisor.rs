//! What is Cloud Hypervisor's own: the serial line's socket, and how its API fails.

use std::os::unix::net::UnixListener;

use hypeman_vmm::hypervisor;
use hypeman_vmm::hypervisor::{Error, Origin, Unsupported};
use hypeman_vmm::spec::{Accelerator, HypervisorKind};
use testguest::Options;
use testguest::check::Sequence;

use crate::bed::{Machine, cloud_hypervisor, create, on_each, read, spec, start};

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
