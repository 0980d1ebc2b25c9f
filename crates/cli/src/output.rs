//! Listings: a table for people or JSON for programs. A reader that hangs up is no error of ours.

use std::fmt::Display;
use std::io::{BufWriter, IsTerminal, Write};

use anyhow::Result;
use rustix::event::{PollFd, PollFlags};
use serde::Serialize;
use tabwriter::TabWriter;
use tokio::sync::oneshot;

use crate::args::Format;
use crate::commands::in_background;
use crate::escape::{self, cell, printable};
use crate::hints;

/// Prints a listing; each row is what a table shows of an item.
pub(crate) fn list<T: Serialize>(
    format: Format,
    header: &[&str],
    items: &[T],
    row: impl Fn(&T) -> Vec<String>,
) -> Result<()> {
    match format {
        Format::Json => {
            let documents =
                items.iter().map(serde_json::to_string).collect::<serde_json::Result<Vec<_>>>()?;
            lines(documents.iter().map(|document| escape::json(document)))
        }
        Format::Table => {
            let header = header.iter().map(ToString::to_string).collect();
            let rows = std::iter::once(header).chain(items.iter().map(row));
            let mut table = TabWriter::new(BufWriter::new(std::io::stdout().lock())).padding(3);
            for row in rows {
                writeln!(table, "{}", row.iter().map(|text| cell(text)).collect::<Vec<_>>().join("\t"))?;
            }
            Ok(table.flush()?)
        }
    }
}

/// Prints documents as one JSON array, as `docker inspect` does.
pub(crate) fn documents<T: Serialize>(documents: &[T]) -> Result<()> {
    line(&escape::json(&serde_json::to_string_pretty(documents)?))
}

/// Prints one document on a line.
pub(crate) fn document(document: &impl Serialize) -> Result<()> {
    line(&escape::json(&serde_json::to_string(document)?))
}

/// Prints many lines.
pub(crate) fn lines(lines: impl IntoIterator<Item = impl AsRef<str>>) -> Result<()> {
    // Standard output by itself writes each line as it comes.
    let mut out = BufWriter::new(std::io::stdout().lock());
    lines.into_iter().try_for_each(|line| writeln!(out, "{}", printable(line.as_ref())))?;
    Ok(out.flush()?)
}

/// A value as it stands in a record.
pub(crate) fn word(value: &impl Serialize) -> String {
    serde_json::to_value(value).ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}

/// Prints a line.
pub(crate) fn line(text: &str) -> Result<()> {
    Ok(writeln!(std::io::stdout().lock(), "{}", printable(text))?)
}

/// Whether standard output is a terminal.
pub(crate) fn is_terminal() -> bool {
    std::io::stdout().is_terminal()
}

/// Whether standard output is a terminal whose user wants colours (<https://no-color.org>).
pub(crate) fn is_coloured() -> bool {
    is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Says something on standard error, where there may be nobody any more to hear it.
pub(crate) fn complain(text: impl Display) {
    let _ = writeln!(std::io::stderr().lock(), "hypeman: {}", printable(&text.to_string()));
}

/// Tells when whoever reads our standard output has gone: the other end of a pipe, or a terminal that was hung up.
pub(crate) fn reader_gone() -> oneshot::Receiver<()> {
    in_background(|| {
        // Asked for nothing, poll(2) tells of errors alone; a file never has one.
        let stdout = std::io::stdout();
        while rustix::event::poll(&mut [PollFd::new(&stdout, PollFlags::empty())], None).is_err() {}
    })
}

/// An error with its causes, each once, and with the way out.
pub(crate) fn explain(error: &anyhow::Error) -> String {
    let causes = hypeman_files::with_causes(error.as_ref());
    match hints::way_out(error) {
        Some(way_out) => format!("{causes}; {way_out}"),
        None => causes,
    }
}

/// Text of unknown origin, made safe and cut to `width` characters.
pub(crate) fn short(text: &str, width: usize) -> String {
    let safe = cell(text);
    if safe.chars().count() <= width {
        return safe.into_owned();
    }
    safe.chars().take(width.saturating_sub(1)).chain(['…']).collect()
}

/// How long ago, in its two largest units.
pub(crate) fn ago(time: jiff::Timestamp) -> String {
    let seconds = jiff::Timestamp::now().duration_since(time).as_secs().max(0).unsigned_abs();
    let text = humantime::format_duration(std::time::Duration::from_secs(seconds)).to_string();
    text.split(' ').take(2).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use anyhow::Context;

    #[test]
    fn each_cause_is_told_once() {
        let file = hypeman_image::Error::from(hypeman_files::read_json::<i32>("/".as_ref()).unwrap_err());
        let error = anyhow::Error::from(file).context("no image is here");
        let text = super::explain(&error);
        assert_eq!(text.matches("directory").count(), 1, "{text}");
        assert!(text.starts_with("no image is here: /: "), "{text}");
        let error = Err::<(), _>(anyhow::anyhow!("inner")).context("outer").unwrap_err();
        assert_eq!(super::explain(&error), "outer: inner");
    }
}
