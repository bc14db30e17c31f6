//! A picture as tables, for people.

use ringlane::End;
use ringlane::inspect::{
    ChannelInfo, ChildInfo, DirectionInfo, DomainInfo, EndInfo, EndState, Finding, MainInfo,
    Snapshot, StoreEntry, StoreInfo,
};
use std::fmt::Write as _;

pub fn table(picture: &Snapshot) -> String {
    let mut text = String::new();
    let used = picture.domains.iter().map(|domain| domain.bytes).sum();
    let _ = writeln!(
        text,
        "ringlane {}  layout {}  {} {}, {} free (ringlane {})  kernel {}",
        picture.library,
        picture.layout,
        picture.directory,
        bytes(picture.space.size),
        bytes(picture.space.free),
        bytes(used),
        kernel(),
    );
    if picture.domains.is_empty() {
        text.push_str("no domains\n");
    }
    for domain in &picture.domains {
        domain_table(&mut text, domain);
    }
    findings(&mut text, "", &picture.findings);
    text
}

fn domain_table(text: &mut String, domain: &DomainInfo) {
    let main = domain.main.as_ref().map_or("no main".into(), main_line);
    let _ = writeln!(text, "\n{}   {main}", printable(&domain.name));
    if !domain.children.is_empty() {
        let mut rows = vec![row([
            "CHILD",
            "PID",
            "GEN",
            "STATE",
            "RESTARTS",
            "LAST EXIT",
        ])];
        rows.extend(domain.children.iter().map(child_row));
        columns(text, "lrrlrl", &rows);
    }
    if !domain.channels.is_empty() {
        let mut rows = vec![row([
            "CHANNEL",
            "TYPE",
            "CODEC",
            "DIR",
            "SENDER",
            "SENT",
            "RECEIVED",
            "USED/CAP",
            "PEAK",
            "FULL",
            "SLEEPS/WAKES",
            "MODE",
        ])];
        rows.extend(domain.channels.iter().flat_map(channel_rows));
        columns(text, "lllllrrrrrrl", &rows);
    }
    for channel in &domain.channels {
        for direction in &channel.directions {
            messages(text, channel, direction);
        }
    }
    for store in &domain.stores {
        store_table(text, store);
    }
    findings(text, "  ", &domain.findings);
}

fn store_table(text: &mut String, store: &StoreInfo) {
    let holder = match store.holder {
        None => "free".to_string(),
        Some(holder) => {
            let state = match (holder.alive, holder.stopped) {
                (false, _) => " dead",
                (true, true) => " stopped",
                (true, false) => "",
            };
            format!("held by {}{state}", or_dash(holder.pid))
        }
    };
    let _ = writeln!(
        text,
        "  STORE {}  {} keys, {} in use of {} (up to {}), {} changes, {} recoveries, lock {holder}",
        printable(&store.name),
        store.keys,
        bytes(store.live_bytes),
        bytes(store.file_bytes),
        bytes(store.max_size),
        store.changes,
        store.recoveries,
    );
    if store.entries.is_empty() {
        return;
    }
    let heads = ["KEY", "TYPE", "CODEC", "VERSION", "WRITER", "SIZE", "VALUE"];
    let mut rows = vec![row(heads)];
    rows.extend(store.entries.iter().map(entry_row));
    columns(text, "lllrrrl", &rows);
    for entry in &store.entries {
        if entry.text.is_none() && !entry.bytes.is_empty() {
            let _ = writeln!(text, "    {}:", printable(&key(entry)));
            hex(text, &entry.bytes);
        }
    }
    let more = store.keys.saturating_sub(store.entries.len() as u64);
    if more > 0 {
        let _ = writeln!(text, "    and {more} more");
    }
}

fn entry_row(entry: &StoreEntry) -> Vec<String> {
    /// Characters of a key or a value in a table.
    const WIDE: usize = 40;
    let short = |text: String| match text.char_indices().nth(WIDE) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    };
    row([
        &short(printable(&key(entry))),
        &printable(&entry.type_name),
        &printable(&entry.codec),
        &entry.version.to_string(),
        &or_dash(entry.writer),
        &entry.len.to_string(),
        &short(entry.text.as_deref().map_or("-".to_string(), printable)),
    ])
}

fn key(entry: &StoreEntry) -> String {
    String::from_utf8_lossy(&entry.key).into_owned()
}

fn main_line(main: &MainInfo) -> String {
    let program = std::fs::read_link(format!("/proc/{}/exe", main.pid))
        .ok()
        .filter(|_| main.alive)
        .map_or(String::new(), |exe| {
            format!("  {}", printable(&exe.to_string_lossy()))
        });
    let state = match main.uptime {
        Some(up) if main.stopping => format!("stopping, up {}", duration(up)),
        Some(up) => format!("up {}", duration(up)),
        None => "dead".to_string(),
    };
    format!("main {}{program}   {state}", main.pid)
}

fn child_row(child: &ChildInfo) -> Vec<String> {
    row([
        &printable(&child.name),
        &or_dash(child.pid),
        &child.generation.to_string(),
        &child.state.to_string(),
        &child.restarts.to_string(),
        &child.last_exit.clone().unwrap_or("-".to_string()),
    ])
}

fn channel_rows(channel: &ChannelInfo) -> Vec<Vec<String>> {
    let named = |first: bool, text: &str| match (first, text) {
        (false, _) => String::new(),
        (true, "") => "-".to_string(),
        (true, text) => printable(text),
    };
    let rows = channel.directions.iter().enumerate().map(|(i, direction)| {
        let first = i == 0;
        row([
            &named(first, &channel.name),
            &named(first, &channel.type_name),
            &named(first, &channel.codec),
            &arrow(direction),
            &holder(end_info(channel, direction.from)),
            &direction.sent.to_string(),
            &direction.received.to_string(),
            &format!("{}/{}", bytes(direction.used), bytes(direction.capacity)),
            &bytes(direction.peak),
            &direction.full.to_string(),
            &format!("{}/{}", direction.sleeps, direction.wakes),
            &mode(direction),
        ])
    });
    rows.collect()
}

fn end_info(channel: &ChannelInfo, end: End) -> &EndInfo {
    match end {
        End::Host => &channel.host,
        End::Guest => &channel.guest,
    }
}

fn arrow(direction: &DirectionInfo) -> String {
    let name = |end| match end {
        End::Host => "host",
        End::Guest => "guest",
    };
    format!("{}→{}", name(direction.from), name(direction.to))
}

/// The pid of who holds an end; more only if it is not the usual.
fn holder(end: &EndInfo) -> String {
    match (end.pid, end.state) {
        (Some(pid), EndState::Alive) if end.stopped => format!("{pid} stopped"),
        (Some(pid), EndState::Alive) => pid.to_string(),
        (Some(pid), state) => format!("{pid} {state}"),
        (None, state) => state.to_string(),
    }
}

fn mode(direction: &DirectionInfo) -> String {
    if direction.closed {
        "closed".to_string()
    } else {
        direction.mode.to_string()
    }
}

/// The undelivered messages of a direction.
fn messages(text: &mut String, channel: &ChannelInfo, direction: &DirectionInfo) {
    if direction.messages.is_empty() {
        return;
    }
    let _ = writeln!(
        text,
        "  {} {}: {} undelivered",
        printable(&channel.name),
        arrow(direction),
        direction.undelivered
    );
    for message in &direction.messages {
        let _ = writeln!(text, "    at {}, length {}", message.position, message.len);
        hex(text, &message.bytes);
    }
    let more = direction.undelivered as usize - direction.messages.len();
    if more > 0 {
        let _ = writeln!(text, "    and {more} more");
    }
}

/// Sixteen bytes a line, as numbers and as text.
fn hex(text: &mut String, bytes: &[u8]) {
    for line in bytes.chunks(16) {
        let digits: String = line.iter().map(|byte| format!("{byte:02x} ")).collect();
        let letters: String = line.iter().map(|byte| letter(*byte)).collect();
        let _ = writeln!(text, "      {digits:<48} |{letters}|");
    }
}

fn letter(byte: u8) -> char {
    match byte {
        b' '..=b'~' => byte.into(),
        _ => '.',
    }
}

fn findings(text: &mut String, indent: &str, findings: &[Finding]) {
    for finding in findings {
        let _ = writeln!(text, "{indent}{}", printable(&finding.to_string()));
    }
}

fn row<const N: usize>(cells: [&str; N]) -> Vec<String> {
    cells.map(str::to_string).into()
}

/// Writes rows in columns as wide as what stands in them, `l`eft or `r`ight of their place.
fn columns(text: &mut String, places: &str, rows: &[Vec<String>]) {
    let width = |cell: &String| cell.chars().count();
    let widths: Vec<usize> = (0..places.len())
        .map(|i| rows.iter().map(|row| width(&row[i])).max().unwrap_or(0))
        .collect();
    for row in rows {
        let mut line = String::new();
        for ((cell, place), width) in row.iter().zip(places.chars()).zip(&widths) {
            let _ = match place {
                'r' => write!(line, "  {cell:>width$}"),
                _ => write!(line, "  {cell:<width$}"),
            };
        }
        let _ = writeln!(text, "{}", line.trim_end());
    }
}

/// Names in a segment are whatever somebody wrote there, commands to the terminal not excepted.
pub fn printable(text: &str) -> String {
    let one = |c: char| match c {
        '"' | '\'' | '\\' => c.to_string(),
        c => c.escape_debug().to_string(),
    };
    text.chars().map(one).collect()
}

fn or_dash(number: Option<u32>) -> String {
    number.map_or("-".to_string(), |number| number.to_string())
}

/// `96`, `2.2M`, `256K`.
fn bytes(count: u64) -> String {
    let units = ["", "K", "M", "G", "T", "P", "E"];
    let mut unit = 0;
    let mut value = count as f64;
    while value >= 1024.0 {
        value /= 1024.0;
        unit += 1;
    }
    let digits = usize::from(value < 10.0 && value.fract() >= 0.05);
    format!("{value:.digits$}{}", units[unit])
}

/// `03:12`, `1:03:12`, `2d 01:03:12`.
fn duration(seconds: u64) -> String {
    let (days, hours) = (seconds / 86400, seconds / 3600 % 24);
    let (minutes, seconds) = (seconds / 60 % 60, seconds % 60);
    match (days, hours) {
        (0, 0) => format!("{minutes:02}:{seconds:02}"),
        (0, hours) => format!("{hours}:{minutes:02}:{seconds:02}"),
        (days, hours) => format!("{days}d {hours:02}:{minutes:02}:{seconds:02}"),
    }
}

fn kernel() -> String {
    std::fs::read_to_string("/proc/sys/kernel/osrelease")
        .map_or("unknown".to_string(), |release| release.trim().to_string())
}
