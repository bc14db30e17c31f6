//! How costs grow with the number of channels between two processes.

use std::time::Instant;

use ringlane::inspect;

use super::end::{Channels, DOMAIN, Fence, Pair};
use super::table::{Costs, bytes, digits, time};
use super::{Cost, Run};

const WORKS: [&str; 6] = [
    "create_by_channels",
    "open_by_channels",
    "round_trip_by_channels",
    "look_by_channels",
    "dump_by_channels",
    "close_by_channels",
];

pub fn measure(run: &Run<'_>, costs: &mut Costs) {
    let counts: &[u64] = match run.quick {
        true => &[1, 100],
        false => &[1, 10, 100, 1_000, 10_000],
    };
    let mut rows = Vec::new();
    for &count in counts {
        let mut lanes = WORKS.map(|work| Cost::new(work, "", count, "ns for each"));
        run.few_rounds().run(|_| {
            let figures = one_round(run, count, 4096);
            for (cost, nanos) in lanes.iter_mut().zip(figures) {
                cost.rounds.push(nanos);
            }
        });
        let mut row = vec![count.to_string()];
        row.extend(lanes.iter().map(|cost| time(cost.median())));
        rows.push(row);
        costs.extend(lanes);
    }
    costs.table(
        "Channels between two processes, for each of them",
        &[
            "channels",
            "create",
            "open",
            "message and answer",
            "look in vain",
            "show in a picture",
            "close both ends",
        ],
        &rows,
    );
    memory(run, costs);
}

fn channels(count: u64, capacity: u64) -> Channels<'static> {
    Channels {
        count,
        capacity,
        ..Channels::one("many")
    }
}

/// Nanoseconds of each of [`WORKS`], for each channel.
fn one_round(run: &Run<'_>, count: u64, capacity: u64) -> [f64; 6] {
    let mut pair = Pair::start(run, Fence::Sleeper, channels(count, capacity));
    let (created, opened) = (pair.created, pair.opened);
    let rounds = (20_000 / count).max(2);
    // The first round brings all of it into the caches, as far as it fits.
    pair.round_trip(1);
    let round_trip = pair.round_trip(rounds);
    let look = pair.host.order(&format!("look {rounds}"))[0] / rounds as f64;
    let dump = picture(count as usize);
    let close = pair.guest.order("close")[0] + pair.host.order("close")[0];
    [created, opened, round_trip, look, dump, close].map(|nanos| nanos / count as f64)
}

/// Nanoseconds of a picture, in which so many channels must be.
fn picture(channels: usize) -> f64 {
    let clock = Instant::now();
    let picture = inspect::snapshot_domain(DOMAIN).expect("a picture");
    let nanos = clock.elapsed().as_nanos() as f64;
    assert_eq!(
        (picture.channels.len(), picture.findings.len()),
        (channels, 0)
    );
    nanos
}

/// What a thousand channels take but time.
fn memory(run: &Run<'_>, costs: &mut Costs) {
    let count = if run.quick { 100 } else { 1_000 };
    let while_idle = if run.quick { 300 } else { 2_000 };
    let mut rows = Vec::new();
    for capacity in [4 << 10, 256 << 10] {
        let mut pair = Pair::start(run, Fence::Sleeper, channels(0, capacity));
        let before = pair.host.order("memory");
        pair.attach(channels(count, capacity));
        let after = pair.host.order("memory");
        pair.guest.order("close");
        let listen = format!("listen many {count} {while_idle}");
        let idle = pair.guest.order(&listen);
        let listening = idle[1] / idle[0] * 100.0;
        pair.host.order("close");
        // KiB to bytes, for each.
        let grown = |at: usize| (after[at] - before[at]) * 1024.0 / count as f64;
        let taken = [
            ("own_memory", grown(0), "bytes"),
            ("page_tables", grown(1), "bytes"),
            ("descriptors", after[2] - before[2], "for all"),
            ("threads", after[3] - before[3], "for all"),
            ("idle_listeners", listening, "% for all"),
        ];
        rows.push(vec![
            format!("{count} of {}", bytes(capacity)),
            bytes(4096 + 2 * capacity),
            format!("{} B", digits(grown(0))),
            format!("{} B", digits(grown(1))),
            format!("{:.0}", after[2] - before[2]),
            format!("{:.0}", after[3] - before[3]),
            format!("{listening:.1} %"),
        ]);
        for (work, figure, unit) in taken {
            let mut cost = Cost::new(work, "", capacity, unit);
            cost.rounds.push(figure);
            costs.extend([cost]);
        }
    }
    costs.table(
        "What a channel takes, and all of them",
        &[
            "channels",
            "file",
            "own memory of an end",
            "page tables of an end",
            "descriptors, all",
            "threads, all",
            "processor of as many idle listeners",
        ],
        &rows,
    );
}
