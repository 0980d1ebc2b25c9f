//! What every hypervisor does alike.

use std::io::Write;

use hypeman_vmm::hypervisor::ShutdownReason;
use testguest::check::Sequence;
use testguest::{Finish, Options};

use crate::bed::{drain, machines, on_each, read, start};

#[test]
fn the_console_begins_with_the_first_byte_and_ends_with_the_last() {
    on_each(machines(), async |machine| {
        let options = Options { count: 500, ..Options::default() };
        let mut bed = start(&machine, &options).await;
        bed.vm.boot().await.unwrap();
        let bytes = read(&mut bed, |_| false).await;
        assert_eq!(Sequence::new(&options).check(&bytes), Ok(0..500));
        assert_eq!(bed.vm.shutdown_reason().await, Some(ShutdownReason::GuestShutdown));
    });
}

#[test]
fn a_reset_ends_the_vm_and_is_told_from_a_power_off() {
    on_each(machines(), async |machine| {
        let mut bed =
            start(&machine, &Options { count: 1, finish: Finish::Reset, ..Options::default() }).await;
        bed.vm.boot().await.unwrap();
        bed.child.wait().await.unwrap();
        assert_eq!(bed.vm.shutdown_reason().await, Some(ShutdownReason::GuestReset));
    });
}

#[test]
fn quit_ends_the_vmm_and_is_told() {
    on_each(machines(), async |machine| {
        let mut bed = start(&machine, &Options::default()).await;
        bed.vm.boot().await.unwrap();
        read(&mut bed, |bytes| bytes.len() > 100).await;
        bed.vm.quit().await.unwrap();
        bed.child.wait().await.unwrap();
        assert_eq!(bed.vm.shutdown_reason().await, Some(ShutdownReason::HostRequest));
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
        assert!(!bed.vm.is_paused().await.unwrap());
        bed.vm.pause().await.unwrap();
        assert!(bed.vm.is_paused().await.unwrap());
        while drain(&bed.console.output, &mut bytes) {}
        let mut nothing = Vec::new();
        drain(&bed.console.output, &mut nothing);
        assert_eq!(nothing, b"");
        bed.vm.resume().await.unwrap();
        bytes.extend(read(&mut bed, |_| false).await);
        assert_eq!(Sequence::new(&options).check(&bytes), Ok(0..options.count));
    });
}
