use proptest::prelude::*;

use super::*;

const FILE: FileState = FileState { device: 1, inode: 2, size: 3 };

/// Returns the content that another process would find now.
fn found(buffer: &Buffer) -> (Vec<u8>, Option<CutShort>) {
    let (buffer, cut_short) = Buffer::open(buffer.memory().unwrap()).unwrap();
    (buffer.bytes(0).to_vec(), cut_short)
}

pub(super) fn put(buffer: &mut Buffer, bytes: &[u8]) -> usize {
    let put = |free: &mut [u8]| {
        free.copy_from_slice(&bytes[..free.len()]);
        Ok(free.len())
    };
    buffer.receive(bytes.len(), put).unwrap()
}

#[test]
fn a_read_is_found_whole_or_not_at_all_whenever_its_process_is_killed() {
    for bytes in [&b"x"[..], b"seven b", b"more than eight bytes"] {
        let mut buffer = Buffer::new().unwrap();
        put(&mut buffer, b"before ");
        let memory = buffer.memory().unwrap();
        let now = || Buffer::open(memory.try_clone().unwrap()).unwrap().0.bytes(0).to_vec();
        let read = |free: &mut [u8]| {
            assert_eq!(now(), b"before ", "announced, and not done");
            free.copy_from_slice(bytes);
            assert_eq!(now(), [b"before ", bytes].concat(), "done, and not recorded");
            Ok(free.len())
        };
        buffer.receive(bytes.len(), read).unwrap();
        assert_eq!(found(&buffer).0, [b"before ", bytes].concat());
    }
}

#[test]
fn a_read_that_fails_or_takes_less_is_found_as_it_was() {
    let mut buffer = Buffer::new().unwrap();
    put(&mut buffer, b"one ");
    let _ = buffer.receive(10, |_| Err(ErrorKind::WouldBlock.into())).unwrap_err();
    assert_eq!(found(&buffer).0, b"one ");
    let some = |free: &mut [u8]| {
        free[..3].copy_from_slice(b"two");
        Ok(3)
    };
    assert_eq!(buffer.receive(10, some).unwrap(), 3);
    assert_eq!(found(&buffer).0, b"one two");
}

#[test]
fn a_write_is_found_with_the_file_it_went_to_until_it_is_recorded() {
    let mut buffer = Buffer::new().unwrap();
    put(&mut buffer, b"to be written and more");
    let batch = buffer.lend(13);
    assert_eq!(batch.next(), b"to be written");
    batch.about_to_write(FILE, 10);
    let cut_short = found(&buffer).1.unwrap();
    assert_eq!((cut_short.file, cut_short.length), (FILE, 10));
    batch.has_written(6);
    assert_eq!(found(&buffer), (b"written and more".to_vec(), None));
    assert_eq!(batch.next(), b"written");
    batch.about_to_write(FILE, 7);
    batch.has_written(0); // a full disk
    assert_eq!(found(&buffer), (b"written and more".to_vec(), None));
    buffer.release(batch);
    assert_eq!(buffer.held(), 16);
}

#[test]
fn whoever_is_killed_after_a_write_was_settled_finds_what_was_found_before() {
    let mut buffer = Buffer::new().unwrap();
    put(&mut buffer, b"0123456789");
    buffer.lend(10).about_to_write(FILE, 10);
    for _ in 0..2 {
        let (mut next, write) = Buffer::open(buffer.memory().unwrap()).unwrap();
        next.is_in_log(&write.unwrap(), 4);
        assert_eq!(next.bytes(0), b"456789");
    }
    let (mut next, write) = Buffer::open(buffer.memory().unwrap()).unwrap();
    next.is_in_log(&write.unwrap(), 4);
    let batch = next.lend(10);
    batch.about_to_write(FileState { size: 7, ..FILE }, 6);
    assert_eq!(found(&next).1.map(|write| (write.file.size, write.length)), Some((7, 6)));
}

#[test]
fn that_the_source_was_full_is_known_to_whoever_comes_after_a_kill() {
    let mut buffer = Buffer::new().unwrap();
    let now = |buffer: &Buffer| {
        let next = Buffer::open(buffer.memory().unwrap()).unwrap().0;
        (buffer.source_may_have_been_full(), next.source_may_have_been_full())
    };
    assert_eq!(now(&buffer), (false, false));
    buffer.note_source(true);
    assert_eq!(now(&buffer), (true, true));
    buffer.note_source(false);
    assert_eq!(now(&buffer), (false, false));
}

#[test]
fn what_someone_else_has_written_into_the_memory_is_refused() {
    for (field, value) in [
        (Field::Format, 0),
        (Field::Base, 5),
        (Field::Head, u64::MAX),
        (Field::Tail, 1 << 40),
        (Field::Tail, 0),
        (Field::ReadingTo, u64::MAX),
    ] {
        let mut buffer = Buffer::new().unwrap();
        put(&mut buffer, b"four");
        let batch = buffer.lend(4);
        batch.has_written(2);
        buffer.release(batch);
        buffer.inner.memory.set(field, value);
        assert!(Buffer::open(buffer.memory().unwrap()).is_err(), "{field:?} {value}");
    }
    let file = tempfile::tempfile().unwrap();
    file.set_len(1 << 23).unwrap();
    assert!(Buffer::open(file.into()).is_err(), "a file that can be made smaller");
}

#[test]
fn an_empty_buffer_gives_its_memory_back_and_goes_on() {
    let mut buffer = Buffer::new().unwrap();
    let allocated = |buffer: &Buffer| rustix::fs::fstat(buffer.memory().unwrap()).unwrap().st_blocks * 512;
    assert_eq!(put(&mut buffer, &vec![b'x'; 1 << 20]), 1 << 20);
    buffer.shrink(4096);
    assert!(allocated(&buffer) >= 1 << 20, "what is held is kept");
    let batch = buffer.lend(1 << 20);
    batch.has_written(1 << 20);
    buffer.release(batch);
    buffer.shrink(4096);
    assert!(allocated(&buffer) <= 8192, "{}", allocated(&buffer));
    put(&mut buffer, b"again");
    assert_eq!(found(&buffer).0, b"again");
}

/// A VMM that was taken over may write any numbers.
#[test]
fn positions_that_no_console_reaches_are_refused() {
    let buffer = Buffer::new().unwrap();
    for position in [u64::MAX, u64::MAX - 10, (1 << 62) + 1] {
        for field in [Field::Base, Field::Head, Field::Tail, Field::ReadingTo] {
            buffer.inner.memory.set(field, position);
        }
        let error = Buffer::open(buffer.memory().unwrap()).unwrap_err().to_string();
        assert!(error.contains("impossible positions"), "{error}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]
    #[test]
    fn no_numbers_in_the_memory_make_whoever_opens_it_panic(
        numbers in prop::collection::vec(
            prop_oneof![any::<u64>(), 0..10_u64, (u64::MAX - 10)..u64::MAX, (1_u64 << 62) - 10..(1 << 62) + 10],
            16,
        ),
    ) {
        let buffer = Buffer::new().unwrap();
        let fields = [
            Field::Guard, Field::Base, Field::Head, Field::Tail, Field::ReadingTo, Field::WritingFrom, Field::WritingTo,
            Field::Device, Field::Inode, Field::Size, Field::Lost, Field::LosingTo, Field::LostSince, Field::LostUntil,
            Field::MarkedTo, Field::SourceFull,
        ];
        fields.into_iter().zip(numbers).for_each(|(field, number)| buffer.inner.memory.set(field, number));
        if let Ok((mut next, cut_short)) = Buffer::open(buffer.memory().unwrap()) {
            if let Some(write) = cut_short {
                next.is_in_log(&write, write.length);
            }
            put(&mut next, b"more");
            next.tell_loss(|loss| format!("{loss:?}"));
            let batch = next.lend(next.tail());
            let length = batch.next().len();
            batch.about_to_write(FILE, length);
            batch.has_written(length);
            next.release(batch);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever comes and goes, over the ring's end many times, what is found is what came and did
    /// not go.
    #[test]
    fn what_is_held_is_what_came_and_was_not_written(
        steps in prop::collection::vec((1_usize..3 << 20, 0_usize..3 << 20), 1..12),
    ) {
        let mut buffer = Buffer::new().unwrap();
        let mut expected = Vec::new();
        let mut next = 0_u8;
        for (come, go) in steps {
            let bytes: Vec<u8> = std::iter::repeat_with(|| { next = next.wrapping_add(1); next }).take(come).collect();
            let taken = put(&mut buffer, &bytes);
            expected.extend_from_slice(&bytes[..taken]);
            prop_assert_eq!(buffer.held() + buffer.room(), CAPACITY);
            let go = go.min(expected.len());
            let batch = buffer.lend(buffer.tail());
            prop_assert!(expected.starts_with(&batch.next()) && batch.next().is_empty() == expected.is_empty());
            batch.about_to_write(FILE, go);
            batch.has_written(go);
            buffer.release(batch);
            expected.drain(..go);
            prop_assert!(found(&buffer).0 == expected);
        }
    }
}
