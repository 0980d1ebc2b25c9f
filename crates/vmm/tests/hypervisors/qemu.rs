//! Tests of QEMU's FIFOs beyond what a socket does.

use hypeman_vmm::vm::Console;
use testguest::Options;
use testguest::check::Sequence;

use crate::bed::{on_each, qemus, read, start};

#[test]
fn a_reader_that_dies_and_comes_back_has_lost_nothing() {
    on_each(qemus(), async |machine| {
        let options = Options { count: machine.lines(), ..Options::default() };
        let mut bed = start(&machine, &options).await;
        bed.vm.boot().await.unwrap();
        let mut bytes = read(&mut bed, |bytes| bytes.len() > 10_000).await;
        bed.console =
            Console { output: std::fs::File::open("/dev/null").unwrap().into(), input: bed.console.input };
        bed.console = bed.vm.console().await.unwrap();
        bytes.extend(read(&mut bed, |_| false).await);
        assert_eq!(Sequence::new(&options).check(&bytes), Ok(0..options.count));
    });
}
