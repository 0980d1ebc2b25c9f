//! Whatever an archive or a layer holds: no crash, no name that leads out of the image, and little
//! memory (`-rss_limit_mb`).
#![no_main]

use std::cell::RefCell;
use std::fs::File;
use std::io::{Seek, Write};

use libfuzzer_sys::fuzz_target;

thread_local! {
    static INPUT: RefCell<File> = RefCell::new(tempfile::tempfile_in("/dev/shm").expect("a file"));
}

/// Blocks whose checksums are right: hardly any input would get past its first header otherwise.
fn summed(bytes: &[u8]) -> Vec<u8> {
    let mut summed = bytes.to_vec();
    for block in summed.chunks_exact_mut(512).filter(|block| block[257..262] == *b"ustar") {
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    }
    summed
}

fuzz_target!(|bytes: &[u8]| {
    INPUT.with_borrow_mut(|file| {
        file.set_len(0).and_then(|()| file.rewind()).and_then(|()| file.write_all(&summed(bytes))).expect("write");
        let _ = hypeman_image::fuzz::read(file);
    });
});
