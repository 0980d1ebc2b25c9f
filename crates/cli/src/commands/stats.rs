//! stats: what instances use of the host.

use std::io::IsTerminal;
use std::time::Duration;

use anyhow::Result;
use hypeman_host::Host;
use hypeman_host::stats::{Usage, usage};

use crate::args::Format;
use crate::output;
use crate::size::show;

/// Between two looks, from which the use of the CPU is told.
const BETWEEN: Duration = Duration::from_millis(500);

/// Sequence that clears a terminal (ECMA-48, ED and CUP).
const EMPTY: &str = "\x1b[H\x1b[2J";

/// Shows it once, or to a terminal again and again.
pub(crate) fn stats(host: &Host, names: &[String], no_stream: bool, format: Format) -> Result<()> {
    let streams = !no_stream && format == Format::Table && std::io::stdout().is_terminal();
    let mut before = host.sample(names)?;
    loop {
        std::thread::sleep(BETWEEN);
        let now = host.sample(names)?;
        let rows = usage(&before, &now)?;
        if streams {
            print!("{EMPTY}");
        }
        show_rows(format, &rows)?;
        if !streams {
            return Ok(());
        }
        before = now;
    }
}

fn show_rows(format: Format, rows: &[Usage]) -> Result<()> {
    let header = ["ID", "NAME", "CPU", "MEM / LIMIT", "DISK I/O", "DISK", "NET I/O"];
    let pair = |one: Option<u64>, other: Option<u64>| match (one, other) {
        (Some(one), Some(other)) => format!("{} / {}", show(one), show(other)),
        _ => "-".to_owned(),
    };
    output::list(format, &header, rows, |row| {
        vec![
            row.instance_id.chars().take(12).collect(),
            row.instance_name.clone(),
            format!("{:.1}%", row.cpu_percent),
            pair(Some(row.memory_rss_bytes), Some(row.allocated_memory_bytes)),
            pair(row.disk_read_bytes, row.disk_write_bytes),
            show(row.disk_used_bytes),
            pair(row.network_rx_bytes, row.network_tx_bytes),
        ]
    })
}
