//! `cargo bench --bench ratios`: how the contestants compare, as ratios taken side by side.
//!
//! A shared machine changes its speed within minutes. So the contestants take turns in rounds of
//! milliseconds, each ratio is taken within one round, and what counts is the median over all
//! rounds. A run in which the machine changed its mind shows in the spread of the raw round trip.

mod baseline;

use std::time::Duration;

use baseline::{Contestant, Entry, Machine, Pair, Work};

/// Odd, so that the median is one of them.
const ROUNDS: usize = 31;
/// How long one contestant's turn takes at least.
const TURN: Duration = Duration::from_millis(3);

fn main() {
    baseline::serve_if_child();
    let machine = Machine::prepare();
    if measuring() {
        measure(&machine);
    } else {
        check(&machine);
    }
}

/// Whether to measure (`cargo bench`) or only to check (`cargo test --benches`, `--test`); the
/// rule is criterion's own.
fn measuring() -> bool {
    let given = |flag: &str| std::env::args().any(|argument| argument == flag);
    given("--bench") && !given("--test")
}

/// Starting a pair checks it; that is all.
fn check(machine: &Machine) {
    for (work, bytes) in rows() {
        for entry in Entry::all(work, bytes) {
            Pair::start(entry, machine);
            println!("{entry}: right");
        }
    }
}

fn rows() -> impl Iterator<Item = (Work, usize)> {
    Work::ALL
        .into_iter()
        .flat_map(|work| work.sizes().map(|bytes| (work, bytes)))
}

fn measure(machine: &Machine) {
    println!("{ROUNDS} rounds, contestants by turns, ratios within a round, medians\n");
    println!(
        "{:<12}{:>6}{:>14}{:>14}{:>34}",
        "", "", "ringlane", "ringlane", "times slower than ringlane"
    );
    println!(
        "{:<12}{:>6}{:>14}{:>14}{:>10}{:>10}{:>14}{:>22}",
        "work",
        "bytes",
        "ns/message",
        "/ raw",
        "pipe",
        "unix",
        "shared_memory",
        "raw ns (least-most)"
    );
    let rows: Vec<Row> = rows()
        .map(|(work, bytes)| Row::measure(work, bytes, machine))
        .collect();
    print_floors(&rows);
}

/// The two figures that the library is held to.
fn print_floors(rows: &[Row]) {
    let find = |work| {
        rows.iter()
            .find(|row| row.work == work && row.bytes == 8)
            .expect("8 bytes")
    };
    let ratio = find(Work::RoundTrip).of_raw();
    println!("\nround trip, 8 bytes: ringlane / raw = {ratio:.2} (at most 1.5)");
    // A rate in millions a second times nanoseconds: 1000 times the messages in a raw round trip.
    let product = 1000.0 / find(Work::Stream).of_raw();
    println!("stream, 8 bytes: rate in M/s x raw round trip in ns = {product:.0} (at least 10000)");
}

/// All contestants at one work and size, and the raw round trip beside them.
struct Row {
    work: Work,
    bytes: usize,
    lanes: Vec<Lane>,
}

impl Row {
    fn measure(work: Work, bytes: usize, machine: &Machine) -> Self {
        let others = Entry::all(work, bytes).filter(|&entry| entry != Entry::RAW);
        let entries = std::iter::once(Entry::RAW).chain(others);
        let mut row = Self {
            work,
            bytes,
            lanes: entries.map(|entry| Lane::start(entry, machine)).collect(),
        };
        for _ in 0..ROUNDS {
            row.lanes.iter_mut().for_each(Lane::take_turn);
        }
        row.print();
        row
    }

    fn lane(&self, contestant: Contestant) -> &[f64] {
        let lane = self.lanes.iter().find(|lane| lane.contestant == contestant);
        &lane.expect("every row has every contestant").nanos
    }

    fn of_raw(&self) -> f64 {
        median_ratio(self.lane(Contestant::Ringlane), self.lane(Contestant::Raw))
    }

    fn slower(&self, contestant: Contestant) -> f64 {
        median_ratio(self.lane(contestant), self.lane(Contestant::Ringlane))
    }

    fn print(&self) {
        let raw = self.lane(Contestant::Raw);
        let least = raw.iter().copied().fold(f64::INFINITY, f64::min);
        let most = raw.iter().copied().fold(0.0, f64::max);
        println!(
            "{:<12}{:>6}{:>14.1}{:>14.3}{:>10.1}{:>10.1}{:>14.1}{:>22}",
            self.work.name(),
            self.bytes,
            median(self.lane(Contestant::Ringlane).to_vec()),
            self.of_raw(),
            self.slower(Contestant::Pipe),
            self.slower(Contestant::Unix),
            self.slower(Contestant::SharedMemory),
            format!("{:.0} ({least:.0}-{most:.0})", median(raw.to_vec())),
        );
    }
}

/// A contestant and its nanoseconds a message, one figure a round.
struct Lane {
    contestant: Contestant,
    pair: Pair,
    messages: u64,
    nanos: Vec<f64>,
}

impl Lane {
    /// Starts the pair and finds out how many messages fill a turn.
    fn start(entry: Entry, machine: &Machine) -> Self {
        let mut pair = Pair::start(entry, machine);
        let mut messages = 16;
        while pair.time(messages) < TURN {
            messages *= 2;
        }
        Self {
            contestant: entry.contestant,
            pair,
            messages,
            nanos: Vec::with_capacity(ROUNDS),
        }
    }

    fn take_turn(&mut self) {
        let elapsed = self.pair.time(self.messages);
        self.nanos
            .push(elapsed.as_nanos() as f64 / self.messages as f64);
    }
}

/// The median of what each round of `these` is to the same round of `those`.
fn median_ratio(these: &[f64], those: &[f64]) -> f64 {
    median(
        these
            .iter()
            .zip(those)
            .map(|(this, that)| this / that)
            .collect(),
    )
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
