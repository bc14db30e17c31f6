//! How the cost of a message grows with its size: copied in and copied out, both ends awake.

use super::end::{Channels, Fence, Pair, fill};
use super::table::{Costs, bytes, time};
use super::{Cost, Run};

/// Four of the largest fit.
const CAPACITY: u64 = 4 << 20;

pub fn measure(run: &Run<'_>, costs: &mut Costs) {
    let mut rows = Vec::new();
    let step = if run.quick { 4 } else { 1 };
    for size in (3..=20).step_by(step).map(|bits| 1u64 << bits) {
        let mut round_trip = Cost::new("round_trip_by_size", "", size, "ns");
        let mut stream = Cost::new("stream_by_size", "", size, "ns");
        let channels = Channels {
            size,
            capacity: CAPACITY,
            ..Channels::one("size")
        };
        let mut pair = Pair::start(run, Fence::Sleeper, channels);
        let round_trips = fill(run.turn(), |n| pair.round_trip(n));
        let messages = fill(run.turn(), |n| pair.stream(n));
        run.many_rounds().run(|_| {
            round_trip.rounds.push(pair.round_trip(round_trips));
            stream.rounds.push(pair.stream(messages));
        });
        rows.push(vec![
            bytes(size),
            time(round_trip.median()),
            time(stream.median()),
            format!("{:.2}", size as f64 / stream.median()),
        ]);
        costs.extend([round_trip, stream]);
    }
    costs.table(
        "A message, by its size",
        &["size", "round trip", "in a stream", "GB/s of the stream"],
        &rows,
    );
}
