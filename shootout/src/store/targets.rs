//! What the store is held to, and whether it is met.

use super::pauses::LIMIT;
use crate::report::{OURS, Report, short};
use crate::rounds::{median, spread};
use crate::targets::Bound::{AtLeast, AtMost, TimesFaster};
use crate::targets::{self, Target, line, target};

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
    targets::print(TARGETS, report);
    print_pause(report);
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
