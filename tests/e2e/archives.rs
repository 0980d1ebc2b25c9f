//! An archive from outside takes little memory and little time, whatever is in it, and is refused
//! by name where it asks for more.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;
use hypeman_tests::bed::{Bed, Outcome};
use tar::{EntryType, Header};

use crate::promises;

promises! {
    []
        attributes_for_all_members,
        very_deep_paths,
        headers_that_pile_up,
        thousands_of_attributes,
        a_name_without_end,
        marks_and_whiteouts_again_and_again,
        links_through_a_target_without_end,
        an_archive_of_images_with_countless_members,
        more_than_an_image_may_have_or_the_disk_has;
}

/// The most memory that hypeman and its tools may take for an import, in bytes.
const MOST_MEMORY: u64 = 256 << 20;

/// A compressed archive.
struct Archive(GzEncoder<BufWriter<File>>);

impl Archive {
    fn member(&mut self, kind: EntryType, name: &str, content: &[u8]) {
        self.begin(kind, name, content.len() as u64);
        self.0.write_all(content).expect("write");
        self.0.write_all(&vec![0; content.len().next_multiple_of(512) - content.len()]).expect("write");
    }

    fn begin(&mut self, kind: EntryType, name: &str, size: u64) {
        let mut header = Header::new_ustar();
        let bytes = header.as_mut_bytes();
        let name = &name.as_bytes()[..name.len().min(100)];
        bytes[..name.len()].copy_from_slice(name);
        header.set_entry_type(kind);
        header.set_mode(0o644);
        [Header::set_uid, Header::set_gid, Header::set_mtime].iter().for_each(|set| set(&mut header, 0));
        header.set_size(size);
        header.set_cksum();
        self.0.write_all(header.as_bytes()).expect("write");
    }

    fn file(&mut self, name: &str) {
        if name.len() > 100 {
            self.member(EntryType::GNULongName, "././@LongLink", &[name.as_bytes(), b"\0"].concat());
        }
        self.member(EntryType::Regular, name, b"");
    }
}

/// A PAX record.
fn record(key: &str, value: &str) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let length = rest + (rest + rest.to_string().len()).to_string().len();
    format!("{length} {key}={value}\n").into_bytes()
}

/// Returns the result of the import of an archive, by hypeman with little memory.
fn import(bed: &Bed, scratch: &Path, fill: impl FnOnce(&mut Archive), arguments: &[&str]) -> Outcome {
    let path = scratch.join("archive.tgz");
    let file = BufWriter::new(File::create(&path).expect("a file"));
    let mut archive = Archive(GzEncoder::new(file, Compression::fast()));
    fill(&mut archive);
    archive.0.write_all(&[0; 1024]).expect("write");
    archive.0.finish().expect("write").flush().expect("write");
    let mut command = std::process::Command::new("prlimit");
    command.arg(format!("--data={MOST_MEMORY}")).arg(&bed.hypeman).args(["image", "import"]);
    command.args(arguments).arg(&path).env("HYPEMAN_DATA_DIR", &bed.data_dir);
    command.output().expect("hypeman image import").into()
}

/// It is refused with all of these words, and nothing is left of it.
fn is_refused(fill: impl FnOnce(&mut Archive), arguments: &[&str], words: &[&str]) {
    let scratch = tempfile::tempdir().expect("a directory");
    let bed = Bed::new(&scratch.path().join("data"));
    let outcome = import(&bed, scratch.path(), fill, arguments);
    assert_eq!(outcome.code, 1, "{outcome:?}");
    for word in words {
        assert!(outcome.stderr.contains(word), "{word:?}: {outcome:?}");
    }
    assert_eq!(bed.ok(&["image", "ls", "-q"]), "");
    let left: Vec<_> =
        std::fs::read_dir(bed.data_dir.join("images")).expect("a directory").flatten().collect();
    assert!(left.len() <= 1, "only the lock: {left:?}");
}

/// It is taken.
fn is_taken(fill: impl FnOnce(&mut Archive)) {
    let scratch = tempfile::tempdir().expect("a directory");
    let bed = Bed::new(&scratch.path().join("data"));
    let outcome = import(&bed, scratch.path(), fill, &[]);
    assert_eq!(outcome.code, 0, "{outcome:?}");
}

fn attributes_for_all_members() {
    let fill = |archive: &mut Archive| {
        archive.member(EntryType::XGlobalHeader, "pax", &record("SCHILY.xattr.user.x", &"A".repeat(60_000)));
        (0..3000).for_each(|number| archive.file(&format!("f{number}")));
    };
    is_refused(fill, &[], &["archive.tgz", "extended attributes for all members"]);
}

fn very_deep_paths() {
    let deep = |archive: &mut Archive| {
        (0..600).for_each(|number| archive.file(&format!("{number:04}/{}x", "a/".repeat(2040))));
    };
    is_refused(deep, &[], &["archive.tgz", "256 directories"]);
    is_taken(|archive| {
        (0..200).for_each(|number| archive.file(&format!("{number:04}/{}x", "a/".repeat(250))))
    });
}

fn headers_that_pile_up() {
    let fill = |archive: &mut Archive| {
        let comment = record("comment", &"A".repeat(1_000_000));
        (0..300).for_each(|_| archive.member(EntryType::XGlobalHeader, "pax", &comment));
        archive.file("x");
    };
    is_refused(fill, &[], &["archive.tgz", "describe one member"]);
}

fn thousands_of_attributes() {
    let fill = |archive: &mut Archive| {
        let records: Vec<u8> =
            (0..33_000).flat_map(|number| record(&format!("SCHILY.xattr.user.{number:06}"), "")).collect();
        for number in 0..20 {
            archive.member(EntryType::XHeader, "pax", &records);
            archive.file(&format!("f{number}"));
        }
    };
    is_refused(fill, &[], &["archive.tgz", "extended attributes", "64 KiB"]);
}

fn a_name_without_end() {
    let fill = |archive: &mut Archive| {
        archive.begin(EntryType::GNULongName, "././@LongLink", 400 << 20);
        (0..400).for_each(|_| archive.0.write_all(&vec![b'A'; 1 << 20]).expect("write"));
        archive.file("x");
    };
    is_refused(fill, &[], &["archive.tgz", "describe one member"]);
}

fn marks_and_whiteouts_again_and_again() {
    // Each is looked at once for each layer; 20,000 looks at 40,000 names would take minutes.
    is_taken(|archive| {
        (0..40_000).for_each(|number| archive.file(&format!("d{}/f{number}", number % 40)));
        (0..20_000).for_each(|_| archive.file(".wh..wh..opq"));
        (0..20_000).for_each(|number| archive.file(&format!(".wh.d{}", number % 40)));
    });
}

fn links_through_a_target_without_end() {
    let fill = |archive: &mut Archive| {
        archive.member(
            EntryType::GNULongLink,
            "././@LongLink",
            &[&b"x/../".repeat(200_000)[..], b"d\0"].concat(),
        );
        archive.member(EntryType::Symlink, "s", b"");
        (0..300).for_each(|number| archive.file(&format!("s/f{number}")));
    };
    is_refused(fill, &[], &["archive.tgz", "entry s", "longer than a path"]);
}

fn an_archive_of_images_with_countless_members() {
    let fill = |archive: &mut Archive| {
        archive.file("oci-layout");
        (0..120_000).for_each(|number| archive.file(&format!("m{number}")));
    };
    is_refused(fill, &[], &["archive.tgz", "100000 members"]);
}

fn more_than_an_image_may_have_or_the_disk_has() {
    let fill = |archive: &mut Archive| archive.member(EntryType::Regular, "zeros", &vec![0; 4 << 20]);
    is_refused(fill, &["--max-size", "2m"], &["archive.tgz", "2097152 bytes"]);
    is_taken(fill);
}
