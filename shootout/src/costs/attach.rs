//! What it takes to make a channel, to come to it and to leave it, and how that grows with its
//! capacity.

use super::end::{Channels, Fence, Pair, fill};
use super::table::{Costs, bytes, time};
use super::{Cost, Run};

const HEADER: u64 = 4096;

pub fn measure(run: &Run<'_>, costs: &mut Costs) {
    let most = if run.quick { 20 } else { 24 };
    let capacities = (12..=most).step_by(2).map(|bits| 1u64 << bits);
    let mut rows = Vec::new();
    for capacity in capacities {
        let works = [
            ("create_by_capacity", ""),
            ("open_by_capacity", ""),
            ("close_by_capacity", ""),
            ("stream_by_capacity", "64 bytes"),
        ];
        let mut lanes = works.map(|(work, way)| Cost::new(work, way, capacity, "ns"));
        let channels = Channels {
            capacity,
            size: 64,
            ..Channels::one("capacity")
        };
        let mut pair = Pair::start(run, Fence::Sleeper, channels);
        let count = fill(run.turn(), |n| pair.stream(n));
        run.many_rounds().run(|_| {
            let stream = pair.stream(count);
            let close = pair.guest.order("close")[0] + pair.host.order("close")[0];
            let (create, open) = pair.attach(channels);
            for (cost, nanos) in lanes.iter_mut().zip([create, open, close, stream]) {
                cost.rounds.push(nanos);
            }
        });
        let mut row = vec![bytes(capacity), bytes(HEADER + 2 * capacity)];
        row.extend(lanes.iter().map(|cost| time(cost.median())));
        rows.push(row);
        costs.extend(lanes);
    }
    costs.table(
        "A channel, by its capacity",
        &[
            "each direction",
            "file",
            "create",
            "open",
            "close both ends",
            "a message of 64 bytes in a stream",
        ],
        &rows,
    );
    first(run, costs);
}

/// The first channel of a process, which founds or joins the domain.
fn first(run: &Run<'_>, costs: &mut Costs) {
    let works = ["first_create", "first_open"];
    let mut lanes = works.map(|work| Cost::new(work, "", 4096, "ns"));
    run.few_rounds().run(|_| {
        let pair = Pair::start(run, Fence::Sleeper, Channels::one("after"));
        lanes[0].rounds.push(pair.first_created);
        lanes[1].rounds.push(pair.first_opened);
    });
    let row = lanes.iter().map(|cost| time(cost.median())).collect();
    costs.table(
        "The first channel of a process, 4 KiB each direction",
        &["create, and found the domain", "open, and join it"],
        &[row],
    );
    costs.extend(lanes);
}
