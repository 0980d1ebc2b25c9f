//! The form in which a release of QEMU writes its memory into a file.

use hypeman_record::program::Program;

/// The first release with `mapped-ram` (docs/devel/migration/mapped-ram.rst).
const MAPPED: u32 = 9;

/// How a release writes its memory into a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FileFormat {
    /// One after the other, as to another host.
    Stream,
    /// Each page in its place.
    Mapped,
}

impl FileFormat {
    /// Returns the file format of a program.
    pub(crate) fn of(program: &Program) -> FileFormat {
        let release = program.version.split('.').next().and_then(|number| number.parse().ok());
        if release.is_some_and(|release: u32| release >= MAPPED) {
            FileFormat::Mapped
        } else {
            FileFormat::Stream
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_release_writes_as_it_can() {
        let of =
            |version: &str| FileFormat::of(&Program { path: "qemu".into(), version: version.to_owned() });
        for (version, format) in [
            ("7.2.22", FileFormat::Stream),
            ("9.0.0", FileFormat::Mapped),
            ("10.0.2", FileFormat::Mapped),
            ("?", FileFormat::Stream),
        ] {
            assert_eq!(of(version), format, "{version}");
        }
    }
}
