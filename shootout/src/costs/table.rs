//! Tables for people, on standard output and in the page that is published.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use super::Cost;

/// What a section of the run gives: figures, and a table that stands in the page.
#[derive(Default)]
pub struct Costs {
    pub all: Vec<Cost>,
    tables: Vec<(&'static str, String)>,
}

impl Costs {
    pub fn extend(&mut self, costs: impl IntoIterator<Item = Cost>) {
        self.all.extend(costs);
    }

    /// Prints a table under a heading, and keeps it for the page.
    pub fn table(&mut self, heading: &'static str, head: &[&str], rows: &[Vec<String>]) {
        let mut table = format!("| {} |\n|{}\n", head.join(" | "), "---|".repeat(head.len()));
        for row in rows {
            let _ = writeln!(table, "| {} |", row.join(" | "));
        }
        println!("\n{heading}\n\n{table}");
        self.tables.push((heading, table));
    }

    /// Puts each table into `page`, between `<!-- costs: HEADING -->` and `<!-- end -->`, and who
    /// measured when between those of `machine`.
    pub fn publish(&self, machine: &str, page: &Path) -> Result<(), String> {
        let told = |e| format!("{}: {e}", page.display());
        let mut text = fs::read_to_string(page).map_err(told)?;
        let machine = ("machine", format!("{machine}\n"));
        for (heading, table) in self.tables.iter().chain([&machine]) {
            let start = format!("<!-- costs: {heading} -->\n");
            let place = text.find(&start).map(|at| at + start.len());
            let place = place.and_then(|from| Some((from, from + text[from..].find("<!-- end")?)));
            let (from, to) = place.ok_or(format!("no place for `{heading}` in the page"))?;
            text.replace_range(from..to, &format!("\n{table}\n"));
        }
        fs::write(page, text).map_err(told)
    }
}

/// Nanoseconds in the unit that suits them.
pub fn time(nanos: f64) -> String {
    match nanos {
        ..995.0 => format!("{} ns", digits(nanos)),
        ..995_000.0 => format!("{} µs", digits(nanos / 1e3)),
        ..995_000_000.0 => format!("{} ms", digits(nanos / 1e6)),
        _ => format!("{} s", digits(nanos / 1e9)),
    }
}

/// Two digits or three.
pub fn digits(value: f64) -> String {
    match value.abs() {
        ..9.95 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}

/// Bytes in the unit that suits them.
pub fn bytes(count: u64) -> String {
    match count {
        0..1024 => format!("{count} B"),
        1024..0x10_0000 => format!("{} KiB", count >> 10),
        _ => format!("{} MiB", count >> 20),
    }
}
