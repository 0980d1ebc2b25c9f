//! Tables for people. On a terminal a row is a line: what does not fit is cut.

use std::borrow::Cow;
use std::io::{BufWriter, IsTerminal, Write};

use anyhow::Result;
use rustix::termios::tcgetwinsize;
use tabwriter::TabWriter;

use crate::escape::{cell, short};

/// Spaces between two columns.
const PADDING: usize = 3;

/// A column is not cut to less than so many characters.
const LEAST: usize = 8;

/// Prints a table, cut to the width of the terminal that it goes to.
pub(crate) fn print(rows: impl Iterator<Item = Vec<String>>, width: Option<usize>) -> Result<()> {
    let mut table = TabWriter::new(BufWriter::new(std::io::stdout().lock())).padding(PADDING);
    let rows = rows.map(|row| row.into_iter().map(printable).collect::<Vec<String>>());
    match width {
        // Its widths are known only when all rows are.
        Some(width) => {
            fitted(&rows.collect::<Vec<_>>(), width).iter().try_for_each(|row| line(&mut table, row))?
        }
        None => rows.into_iter().try_for_each(|row| line(&mut table, &row))?,
    }
    Ok(table.flush()?)
}

/// Writes a row.
fn line(table: &mut impl Write, row: &[String]) -> std::io::Result<()> {
    for (column, text) in row.iter().enumerate() {
        if column > 0 {
            table.write_all(b"\t")?;
        }
        table.write_all(text.as_bytes())?;
    }
    table.write_all(b"\n")
}

/// The text of a cell. As a rule it is printable as it is.
fn printable(text: String) -> String {
    match cell(&text) {
        Cow::Borrowed(_) => text,
        Cow::Owned(text) => text,
    }
}

/// The width of the terminal that standard output is; `None` for anything else.
pub(crate) fn width() -> Option<usize> {
    let stdout = std::io::stdout();
    let size = stdout.is_terminal().then(|| tcgetwinsize(&stdout).ok()).flatten()?;
    Some(usize::from(size.ws_col)).filter(|columns| *columns > 0)
}

fn fitted(rows: &[Vec<String>], width: usize) -> Vec<Vec<String>> {
    let count = rows.iter().map(Vec::len).max().unwrap_or(0);
    let widest =
        |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|text| text.chars().count()).max();
    let mut widths: Vec<usize> = (0..count).map(|column| widest(column).unwrap_or(0)).collect();
    let room = width.saturating_sub(PADDING * count.saturating_sub(1));
    while widths.iter().sum::<usize>() > room {
        // The widest gives way first.
        match widths.iter_mut().max().filter(|width| **width > LEAST) {
            Some(width) => *width -= 1,
            None => break,
        }
    }
    let cut = |row: &Vec<String>| row.iter().zip(&widths).map(|(text, width)| short(text, *width)).collect();
    rows.iter().map(cut).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_a_line() {
        let row = |texts: [&str; 4]| texts.map(str::to_owned).to_vec();
        let rows = vec![
            row(["ID", "NAME", "COMMAND", "STATUS"]),
            row([
                "0123456789ab",
                "web",
                &"sh -c something that is long ".repeat(4),
                &"Running for an hour ".repeat(3),
            ]),
        ];
        let fitted = fitted(&rows, 80);
        for row in &fitted {
            let length: usize = row.iter().map(|text| text.chars().count()).sum::<usize>() + 3 * PADDING;
            assert!(length <= 80, "{length}: {row:?}");
        }
        assert_eq!((&*fitted[1][0], &*fitted[1][1]), ("0123456789ab", "web"), "what is short stays whole");
        assert!(fitted[1][2].ends_with('…'));
    }
}
