//! What the store is held to, and whether it is met.

use super::pauses::LIMIT;
use crate::report::{OURS, Report, short};
use crate::rounds::{median, spread};

struct Target {
    what: &'static str,
    work: &'static str,
    payload: usize,
    ratio: &'static str,
    bound: Bound,
}

enum Bound {
    /// The ratio is at most this.
    AtMost(f64),
    /// The ratio of rates is at least this.
    AtLeast(f64),
    /// So many times faster: the ratio of times is at most its inverse.
    TimesFaster(f64),
}
use Bound::{AtLeast, AtMost, TimesFaster};

const fn target(
    what: &'static str,
    work: &'static str,
    payload: usize,
    ratio: &'static str,
    bound: Bound,
) -> Target {
    Target {
        what,
        work,
        payload,
        ratio,
        bound,
    }
}

const TARGETS: &[Target] = &[
    target(
        "hot get / hashbrown",
        "get_hit_1k",
        8,
        "ringlane/hashbrown",
        AtMost(1.3),
    ),
    target(
        "hot get, times faster than LMDB",
        "get_hit_1k",
        8,
        "ringlane/lmdb",
        TimesFaster(5.0),
    ),
    target(
        "1 M get / papaya",
        "get_hit_1m",
        8,
        "ringlane/papaya",
        AtMost(1.0),
    ),
    target(
        "1 M get, times faster than LMDB",
        "get_hit_1m",
        8,
        "ringlane/lmdb",
        TimesFaster(2.0),
    ),
    target(
        "1 M miss, times faster than LMDB",
        "get_miss_1m",
        8,
        "ringlane/lmdb",
        TimesFaster(3.5),
    ),
    target(
        "hot miss, times faster than LMDB",
        "get_miss_1k",
        8,
        "ringlane/lmdb",
        TimesFaster(3.5),
    ),
    target(
        "hot overwrite, times faster than LMDB",
        "overwrite_1k",
        8,
        "ringlane/lmdb",
        TimesFaster(8.0),
    ),
    target(
        "1 M overwrite, times faster than LMDB",
        "overwrite_1m",
        8,
        "ringlane/lmdb",
        TimesFaster(8.0),
    ),
    target(
        "64 KiB get / memcpy",
        "get_hit_1k",
        64 << 10,
        "ringlane/memcpy",
        AtMost(1.1),
    ),
    target(
        "reader p99.9 beside an inserter / its median",
        "reader_p999_beside_inserter",
        8,
        "ringlane/ringlane-median",
        AtMost(9.0),
    ),
    target(
        "two writers together / one, 1 M keys",
        "two_writers_1m",
        8,
        "ringlane/ringlane-alone",
        AtLeast(1.2),
    ),
];

pub fn print(report: &Report) {
    println!("\ntargets");
    for target in TARGETS {
        let Some(ratio) = report.ratio(target.work, target.payload, target.ratio) else {
            continue;
        };
        let (value, bound, met) = match target.bound {
            AtMost(bound) => (ratio, format!("<= {bound}"), ratio <= bound),
            AtLeast(bound) => (ratio, format!(">= {bound}"), ratio >= bound),
            TimesFaster(bound) => (1.0 / ratio, format!(">= {bound}"), 1.0 / ratio >= bound),
        };
        line(target.what, &bound, &short(value), met);
    }
    print_pause(report);
}

fn line(what: &str, bound: &str, value: &str, met: bool) {
    let verdict = if met { "met" } else { "MISSED" };
    println!("  {what:<46}{bound:>10}{value:>10}  {verdict}");
}

/// The longest insert: what the scheduler took is told apart, call by call; what remains in a loop
/// that does nothing is the machine's.
fn print_pause(report: &Report) {
    let Some(pause) = report.figure("insert_pause_1m", 8, OURS) else {
        return;
    };
    let beside = |name| {
        let found = pause.beside.iter().find(|(told, _)| *told == name);
        found.map_or(&[][..], |(_, rounds)| rounds)
    };
    let limit = LIMIT.as_micros() as f64;
    let running = median(beside("running"));
    line(
        "longest insert, us, scheduler aside",
        &format!("<= {limit}"),
        &short(running),
        running <= limit,
    );
    let (_, worst) = spread(beside("running"));
    println!(
        "    by the clock {}; worst round, scheduler aside, {}",
        short(median(&pause.rounds)),
        short(worst)
    );
    println!(
        "    a loop that only reads the clock, as long: {}, scheduler aside {}",
        short(median(beside("clock_loop"))),
        short(median(beside("clock_loop_running")))
    );
    let sum = |name| beside(name).iter().sum::<f64>();
    println!(
        "    calls beyond {limit} us in all {} rounds: {} by the clock, {} scheduler aside; \
         in the clock loops {} and {}",
        pause.rounds.len(),
        sum("beyond"),
        sum("beyond_running"),
        sum("clock_loop_beyond"),
        sum("clock_loop_beyond_running")
    );
}
