//! Listings: a table for people or JSON for programs. A reader that hangs up is no error of ours.

use std::io::Write;

use anyhow::Result;
use comfy_table::{Table, presets};
use rustix::event::{PollFd, PollFlags};
use serde::Serialize;
use tokio::sync::oneshot;

use crate::args::Format;
use crate::commands::in_background;
use crate::hints;

/// Prints a listing; each row is what a table shows of an item.
pub(crate) fn list<T: Serialize>(
    format: Format,
    header: &[&str],
    items: &[T],
    row: impl Fn(&T) -> Vec<String>,
) -> Result<()> {
    match format {
        Format::Json => items.iter().try_for_each(|item| line(&serde_json::to_string(item)?)),
        Format::Table => {
            let mut table = Table::new();
            table.load_preset(presets::NOTHING).set_header(header).add_rows(items.iter().map(row));
            for column in table.column_iter_mut() {
                column.set_padding((0, 3));
            }
            table.trim_fmt().lines().try_for_each(line)
        }
    }
}

/// Prints documents as one JSON array, as `docker inspect` does.
pub(crate) fn documents<T: Serialize>(documents: &[T]) -> Result<()> {
    line(&serde_json::to_string_pretty(documents)?)
}

/// Prints a line.
pub(crate) fn line(text: &str) -> Result<()> {
    Ok(writeln!(std::io::stdout().lock(), "{text}")?)
}

/// Says something on standard error, where there may be nobody any more to hear it.
pub(crate) fn complain(text: impl std::fmt::Display) {
    let _ = writeln!(std::io::stderr().lock(), "hypeman: {text}");
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

/// Text of unknown origin, made safe for a terminal and cut to `width` characters.
pub(crate) fn short(text: &str, width: usize) -> String {
    let clean: String = text.chars().filter(|c| !c.is_control()).collect();
    if clean.chars().count() <= width {
        return clean;
    }
    clean.chars().take(width.saturating_sub(1)).chain(['…']).collect()
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
