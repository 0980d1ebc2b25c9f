use proptest::prelude::*;

use super::*;

/// A header as a hostile sender writes it.
fn header(kind: u8, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(EntryType::new(kind));
    header.set_path("x").unwrap();
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(size);
    header.set_cksum();
    header
}

/// A stream without an end, of which no more is read than is allowed.
struct Endless {
    begin: Vec<u8>,
    read: u64,
}

impl Read for Endless {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let count = buffer.len().min(self.begin.len().max(1 << 16));
        let from_begin = self.begin.len().min(count);
        buffer[..from_begin].copy_from_slice(&self.begin[..from_begin]);
        self.begin.drain(..from_begin);
        buffer[from_begin..count].fill(b'a');
        self.read += count as u64;
        assert!(self.read < 64 << 20, "it reads on and on");
        Ok(count)
    }
}

#[test]
fn a_length_is_not_believed() {
    for kind in *b"LKxg" {
        for size in [MOST_DESCRIPTION + 1, 4 << 30, u64::MAX >> 2] {
            let begin = header(kind, size).as_bytes().to_vec();
            let mut members = Members::new(Endless { begin, read: 0 });
            let error = members.next().unwrap_err();
            assert!(error.to_string().contains("1048576 are allowed"), "{error}");
        }
    }
}

#[test]
fn a_long_name_is_refused_and_one_that_linux_takes_is_not() {
    for (length, is_taken) in [(LONGEST_NAME, true), (LONGEST_NAME + 1, false)] {
        let mut stream = header(b'L', length as u64).as_bytes().to_vec();
        stream.extend(vec![b'n'; length]);
        stream.resize(stream.len().next_multiple_of(512), 0);
        stream.extend(header(b'0', 0).as_bytes());
        assert_eq!(Members::new(&stream[..]).next().is_ok(), is_taken);
    }
}

#[test]
fn a_map_without_an_end_is_refused() {
    let mut begin = header(b'S', 512);
    begin.as_gnu_mut().unwrap().isextended[0] = 1;
    begin.set_cksum();
    let mut more = GnuExtSparseHeader::new();
    more.isextended[0] = 1;
    for piece in &mut more.sparse {
        piece.offset.copy_from_slice(b"00000000000\0");
        piece.numbytes.copy_from_slice(b"00000000000\0");
    }
    let mut stream = begin.as_bytes().to_vec();
    for _ in 0..20_000 {
        stream.extend(more.as_bytes());
    }
    let error = Members::new(&stream[..]).next().unwrap_err();
    assert!(error.to_string().contains("pieces"), "{error}");
}

#[test]
fn a_size_of_pax_counts_and_nothing_is_taken_for_a_header_that_is_content() {
    let record = b"12 size=512\n";
    let mut stream = header(b'x', record.len() as u64).as_bytes().to_vec();
    stream.extend(record);
    stream.resize(1024, 0);
    stream.extend(header(b'0', 0).as_bytes());
    stream.extend(header(b'L', 4 << 30).as_bytes()); // the content
    stream.extend([0; 1024]);
    let mut members = Members::new(&stream[..]);
    members.next().unwrap().unwrap();
    let mut content = Vec::new();
    members.body().read_to_end(&mut content).unwrap();
    assert_eq!(content.len(), 512);
    assert!(members.next().unwrap().is_none());
}

#[test]
fn after_the_end_so_much_may_come() {
    let stream = vec![0; 1 << 20];
    let mut members = Members::new(&stream[..]);
    assert!(members.next().unwrap().is_none());
    members.drain(1 << 20).unwrap();
    let mut members = Members::new(std::io::repeat(0));
    assert!(members.next().unwrap().is_none());
    assert!(members.drain(1 << 20).is_err());
}

proptest! {
    #[test]
    fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..2048)) {
        let mut members = Members::new(&bytes[..]);
        while let Ok(Some(_)) = members.next() {}
    }

    #[test]
    fn nor_do_headers_with_bytes_of_any_kind(
        kind in proptest::sample::select(b"0LKxgS125".to_vec()),
        at in 0..512_usize,
        bytes in proptest::collection::vec(any::<u8>(), 0..100),
    ) {
        let mut header = header(kind, 100);
        let end = (at + bytes.len()).min(512);
        header.as_mut_bytes()[at..end].copy_from_slice(&bytes[..end - at]);
        header.set_cksum();
        let mut stream = header.as_bytes().to_vec();
        stream.extend([7; 4096]);
        let mut members = Members::new(&stream[..]);
        while let Ok(Some(_)) = members.next() {}
    }
}
