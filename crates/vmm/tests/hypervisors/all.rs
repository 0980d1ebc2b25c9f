//! Tests that every hypervisor passes.

use std::io::Write;

use hypeman_record::end::{ShutdownReason, VmmExit};
use hypeman_vmm::hypervisor;
use hypeman_vmm::hypervisor::{Origin, Vmm};
use hypeman_vmm::vm::Paused;
use testguest::check::Sequence;
use testguest::{Finish, Options};

use crate::bed::{Bed, create, drain, machines, on_each, read, spec, start, while_reading};

#[test]
fn the_console_begins_with_the_first_byte_and_ends_with_the_last() {
    on_each(machines(), async |machine| {
        let options = Options { count: 500, ..Options::default() };
        let mut bed = start(&machine, &options).await;
        bed.vm.boot().await.unwrap();
        let bytes = read(&mut bed, |_| false).await;
        assert_eq!(Sequence::new(&options).check(&bytes), Ok(0..500));
        // Cloud Hypervisor does not wait until its last event is written; then its exit code tells.
        let told = bed.shutdown_reason().await;
        let lost = told.is_none() && bed.process.0.ended().await == VmmExit::Code(0);
        assert!(lost || told == Some(ShutdownReason::GuestShutdown), "{told:?}");
    });
}

#[test]
fn a_reset_ends_the_vm_and_is_told_from_a_power_off() {
    on_each(machines(), async |machine| {
        let bed = start(&machine, &Options { count: 1, finish: Finish::Reset, ..Options::default() }).await;
        bed.vm.boot().await.unwrap();
        bed.process.0.ended().await;
        assert_eq!(bed.shutdown_reason().await, Some(ShutdownReason::GuestReset));
    });
}

#[test]
fn quit_ends_the_vmm_and_is_told() {
    on_each(machines(), async |machine| {
        let mut bed = start(&machine, &Options::default()).await;
        bed.vm.boot().await.unwrap();
        read(&mut bed, |bytes| bytes.len() > 100).await;
        bed.vm.quit().await.unwrap();
        bed.process.0.ended().await;
        assert_eq!(bed.shutdown_reason().await, Some(ShutdownReason::HostRequest));
    });
}

#[test]
fn what_is_typed_reaches_the_guest() {
    on_each(machines(), async |machine| {
        let options = Options { count: 1, echo: true, ..Options::default() };
        let mut bed = start(&machine, &options).await;
        bed.vm.boot().await.unwrap();
        read(&mut bed, |bytes| bytes.ends_with(b"\n")).await;
        std::fs::File::from(bed.console.input.try_clone().unwrap()).write_all(b"hello\x04").unwrap();
        assert_eq!(read(&mut bed, |_| false).await, b"hello");
    });
}

#[test]
fn a_paused_guest_prints_nothing_and_goes_on_where_it_was() {
    on_each(machines(), async |machine| {
        let options = Options { count: machine.lines(), ..Options::default() };
        let mut bed = start(&machine, &options).await;
        bed.vm.boot().await.unwrap();
        let mut bytes = read(&mut bed, |bytes| bytes.len() > 1000).await;
        let mut status = bed.vm.status();
        assert_eq!(status.borrow().paused, None);
        while_reading(&bed.console.output, &mut bytes, bed.vm.pause()).await.unwrap();
        let told = status.wait_for(|status| status.paused.is_some()).await.unwrap().paused.clone();
        assert_eq!(told, Some(Paused::Requested));
        while drain(&bed.console.output, &mut bytes) {}
        let mut nothing = Vec::new();
        drain(&bed.console.output, &mut nothing);
        assert_eq!(nothing, b"");
        bed.vm.resume().await.unwrap();
        bytes.extend(read(&mut bed, |_| false).await);
        assert_eq!(Sequence::new(&options).check(&bytes), Ok(0..options.count));
        assert_eq!(status.borrow().paused, None);
    });
}

#[test]
fn a_vm_is_taken_over_with_its_console_its_control_and_its_end() {
    on_each(machines(), async |machine| {
        let options = Options { count: 1, echo: true, ..Options::default() };
        let mut bed = start(&machine, &options).await;
        bed.vm.boot().await.unwrap();
        read(&mut bed, |bytes| bytes.ends_with(b"\n")).await;
        drop((bed.vm, bed.console));
        let vmm = Vmm {
            program: &machine.program,
            directory: bed.directory.path(),
            process: &bed.process.0,
            network: None,
        };
        let vm = hypervisor(machine.kind).adopt(vmm).await.unwrap();
        assert_eq!((vm.status().borrow().booted, vm.status().borrow().paused.clone()), (true, None));
        let console = vm.console().await.unwrap();
        let mut bed = Bed { vm, console, ..bed };
        rustix::io::write(&bed.console.input, b"again\x04").unwrap();
        let mut typed = read(&mut bed, |_| false).await;
        typed.retain(|&byte| byte != 0); // Cloud Hypervisor types one when a client leaves (docs/limits.md)
        assert_eq!(typed, b"again");
        bed.process.0.ended().await;
    });
}

#[test]
fn a_snapshot_goes_on_where_it_was() {
    on_each(machines(), async |machine| {
        let options = Options { count: machine.lines(), ..Options::default() };
        let mut bed = start(&machine, &options).await;
        bed.vm.boot().await.unwrap();
        let mut bytes = read(&mut bed, |bytes| bytes.len() > 1000).await;
        while_reading(&bed.console.output, &mut bytes, bed.vm.pause()).await.unwrap();
        let snapshot = bed.directory.path().join("a snapshot");
        std::fs::create_dir(&snapshot).unwrap();
        bed.vm.snapshot("a snapshot".as_ref()).await.unwrap();
        bytes.extend({
            bed.vm.quit().await.unwrap();
            bed.process.0.ended().await;
            read(&mut bed, |_| false).await
        });
        let Bed { directory, process, vm, console } = bed;
        drop((process, vm, console));
        hypervisor(machine.kind).clean_up(directory.path());
        let origin = Origin::Restore("a snapshot".as_ref());
        let (process, vm) = create(&machine, directory.path(), &spec(&machine, &options), origin).await;
        let vm = vm.unwrap();
        let console = vm.console().await.unwrap();
        let mut bed = Bed { directory, process, vm, console };
        assert!(!bed.vm.status().borrow().is_last);
        bed.vm.boot().await.unwrap();
        bytes.extend(read(&mut bed, |_| false).await);
        assert_eq!(Sequence::new(&options).check(&bytes), Ok(0..options.count));
    });
}
