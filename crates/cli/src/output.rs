//! Printing: tables, JSON, YAML, names, sizes and durations.
//!
//! A reader that goes away (`| head`) ends the printing without an error.

use crate::failure::Failure;
use std::io::Write;

/// Prints text to standard output.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        outcome => Ok(outcome?),
    }
}

/// Prints rows in aligned columns, three spaces apart, as kubectl does.
pub(crate) fn table(headers: &[String], rows: &[Vec<String>]) -> Result<(), Failure> {
    let mut widths: Vec<usize> = headers
        .iter()
        .map(|header| header.chars().count())
        .collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    for row in std::iter::once(headers).chain(rows.iter().map(Vec::as_slice)) {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            line.push_str(cell);
            let padding = (width + 3).saturating_sub(cell.chars().count());
            line.extend(std::iter::repeat_n(' ', padding));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    print(&text)
}

/// Prints a value as JSON.
pub(crate) fn json(value: &impl serde::Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value).map_err(|error| Failure::from_error(&error))?;
    print(&format!("{text}\n"))
}

/// Prints a value as YAML.
pub(crate) fn yaml(value: &impl serde::Serialize) -> Result<(), Failure> {
    let text = serde_norway::to_string(value).map_err(|error| Failure::from_error(&error))?;
    print(&text)
}

/// `1536` → `1.5 KiB`.
pub(crate) fn bytes(count: u64) -> String {
    indicatif::BinaryBytes(count).to_string()
}

/// `1234` → `1.2s`; `65000` → `1m5s`.
pub(crate) fn millis(millis: u64) -> String {
    match millis {
        0..1000 => format!("{millis}ms"),
        1000..60_000 => format!("{}.{}s", millis / 1000, millis % 1000 / 100),
        _ => format!("{}m{}s", millis / 60_000, millis % 60_000 / 1000),
    }
}
