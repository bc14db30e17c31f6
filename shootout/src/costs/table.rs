//! Tables for people, as they stand in the documents.

/// Prints a table under a heading.
pub fn print(heading: &str, head: &[&str], rows: &[Vec<String>]) {
    println!("\n### {heading}\n");
    let wide = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.chain([head[column].len()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..head.len()).map(wide).collect();
    let line = |cells: Vec<&str>| {
        let cells = cells.iter().zip(&widths);
        let cells: Vec<String> = cells
            .map(|(cell, &width)| format!("{cell:<width$}"))
            .collect();
        println!("| {} |", cells.join(" | "));
    };
    line(head.to_vec());
    println!("|{}|", vec!["---"; head.len()].join("|"));
    for row in rows {
        line(row.iter().map(String::as_str).collect());
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
