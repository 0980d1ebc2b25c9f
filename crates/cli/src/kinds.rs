//! The kinds of errors, which a script can test.

use hypeman_record::kind::Kind;

/// The kind of an error: that of the first of its causes that has one. An error of the command line
/// alone is a value that cannot be used.
pub(crate) fn of(error: &anyhow::Error) -> Kind {
    error.chain().find_map(of_cause).unwrap_or(Kind::Invalid)
}

fn of_cause(cause: &(dyn std::error::Error + 'static)) -> Option<Kind> {
    let of_host = cause.downcast_ref().map(hypeman_host::Error::kind);
    of_host
        .or_else(|| cause.downcast_ref().map(hypeman_image::Error::kind))
        .or_else(|| cause.downcast_ref().map(hypeman_network::Error::kind))
        .or_else(|| cause.downcast_ref().map(Kind::of_files))
        .or_else(|| cause.downcast_ref().map(Kind::of_io))
}
