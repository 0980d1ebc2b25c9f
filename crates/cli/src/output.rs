//! Listings: a table for people or JSON for programs. A reader that hangs up is no error of ours.

use std::fmt::Display;
use std::io::{BufWriter, IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Result;
use hypeman_record::kind::Kind;
use hypeman_session::in_background;
use rustix::event::{PollFd, PollFlags};
use serde::Serialize;
use serde_json::Value as Json;
use tokio::sync::oneshot;

use crate::args::Format;
use crate::escape::{self, printable};
use crate::template::{Form, with_docker_names};
use crate::{hints, kinds, table};

/// Prints a listing; each row is what a table shows of an item.
pub(crate) fn list<T: Serialize>(
    format: Format,
    header: &[&str],
    items: &[T],
    row: impl Fn(&T) -> Vec<String>,
) -> Result<()> {
    list_within(table::width(), format, header, items, row)
}

/// As [`list`], with lines of this width at most, or of any.
pub(crate) fn list_within<T: Serialize>(
    width: Option<usize>,
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
            table::print(std::iter::once(header).chain(items.iter().map(row)), width)
        }
        Format::Template(text) => {
            let form = Form::parse(text)?;
            let documents = items.iter().map(|item| for_template(header, item, &row(item)));
            let documents = documents.collect::<Result<Vec<_>>>()?;
            let head = documents.first().and_then(|document| form.head(document));
            let shown = documents.iter().map(|document| form.show(document));
            lines(head.into_iter().chain(shown).collect::<Result<Vec<_>>>()?)
        }
    }
}

/// An item as a template sees it: its JSON, the cells of its row by the names of their columns, and
/// docker's names for both.
fn for_template(header: &[&str], item: &impl Serialize, cells: &[String]) -> Result<Json> {
    let mut document = with_docker_names(&serde_json::to_value(item)?);
    if let Some(fields) = document.as_object_mut() {
        for (name, cell) in header.iter().zip(cells) {
            let mut letters = name.chars();
            let first = letters.next().map(String::from).unwrap_or_default();
            let title = first + &letters.as_str().to_lowercase();
            let cell = Json::from(cell.clone());
            for name in [Some(title.as_str()), docker_name(name)].into_iter().flatten() {
                fields.insert(name.to_owned(), cell.clone());
            }
        }
    }
    Ok(document)
}

/// The name of a column in docker's templates, where it is not that of its head.
fn docker_name(column: &str) -> Option<&'static str> {
    match column {
        "ID" => Some("ID"),
        "NAME" => Some("Names"),
        "CREATED" => Some("RunningFor"),
        _ => None,
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

/// Whether errors are told as JSON, because the answer is.
static IS_JSON: AtomicBool = AtomicBool::new(false);

/// Tells errors as JSON from now on.
pub(crate) fn tell_errors_as_json() {
    IS_JSON.store(true, Ordering::Relaxed);
}

/// An error for programs.
#[derive(Serialize)]
struct Failure {
    code: Kind,
    message: String,
}

/// Tells an error on standard error: in a sentence, or for programs with its code.
pub(crate) fn fail(error: &anyhow::Error) {
    if !IS_JSON.load(Ordering::Relaxed) {
        return complain(explain(error));
    }
    let failure = Failure { code: kinds::of(error), message: explain(error) };
    let document = serde_json::to_string(&failure).unwrap_or_default();
    let _ = writeln!(std::io::stderr().lock(), "{}", escape::json(&document));
}

/// Waits until the reader of our standard output has gone: the other end of a pipe, or a terminal
/// that was hung up.
pub(crate) fn reader_gone() -> oneshot::Receiver<()> {
    in_background(|| {
        // Asked for nothing, poll(2) tells of errors alone; a file never has one.
        let stdout = std::io::stdout();
        while rustix::event::poll(&mut [PollFd::new(&stdout, PollFlags::empty())], None).is_err() {}
    })
}

/// An error with its causes, each once, and with a hint.
pub(crate) fn explain(error: &anyhow::Error) -> String {
    let causes = hypeman_files::with_causes(error.as_ref());
    match hints::hint(error) {
        Some(hint) => format!("{causes}; {hint}"),
        None => causes,
    }
}

/// How long ago, as docker tells it: `12 minutes`.
pub(crate) fn ago(time: jiff::Timestamp) -> String {
    span(jiff::Timestamp::now().duration_since(time).as_secs().max(0).unsigned_abs())
}

/// A span of time in its largest unit of which there are two.
fn span(seconds: u64) -> String {
    const UNITS: [(u64, &str); 6] = [
        (365 * 86400, "years"),
        (30 * 86400, "months"),
        (7 * 86400, "weeks"),
        (86400, "days"),
        (3600, "hours"),
        (60, "minutes"),
    ];
    for (unit, name) in UNITS {
        if seconds >= 2 * unit {
            return format!("{} {name}", seconds / unit);
        }
    }
    match seconds {
        60.. => "a minute".to_owned(),
        1 => "a second".to_owned(),
        seconds => format!("{seconds} seconds"),
    }
}

#[cfg(test)]
mod tests {
    use anyhow::Context;

    #[test]
    fn spans_are_told_in_one_unit() {
        for (seconds, text) in [
            (0, "0 seconds"),
            (1, "a second"),
            (59, "59 seconds"),
            (60, "a minute"),
            (720, "12 minutes"),
            (7199, "119 minutes"),
        ] {
            assert_eq!(super::span(seconds), text);
        }
        assert_eq!((super::span(7200), super::span(86400 * 3)), ("2 hours".to_owned(), "3 days".to_owned()));
    }

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
