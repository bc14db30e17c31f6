//! The fence between a send and the look whether somebody sleeps: at the sleeper (`membarrier`)
//! against in every call, and what each costs whom.

use super::end::{Channels, Fence, Pair, fill};
use super::table::{Costs, time};
use super::{Cost, Run};
use crate::rounds::{median, ratios};

type Measure = fn(&mut Pair, u64) -> f64;

const WORKS: [(&str, &str, Measure); 3] = [
    ("fence_stream", "stream, 8 bytes", Pair::stream),
    ("fence_round_trip", "round trip, 8 bytes", Pair::round_trip),
    (
        "fence_round_trip_asleep",
        "round trip, both asleep in between",
        Pair::round_trip,
    ),
];
const ASLEEP: usize = 2;

pub fn measure(run: &Run<'_>, costs: &mut Costs) {
    let ways = [("membarrier", Fence::Sleeper), ("fence", Fence::Everybody)];
    let mut pairs = ways.map(|(name, fence)| {
        let awake = Channels::one(name);
        let asleep_name = format!("{name}-asleep");
        let asleep = Channels {
            wait: "sleep",
            ..Channels::one(&asleep_name)
        };
        [
            Pair::start(run, fence, awake),
            Pair::start(run, fence, asleep),
        ]
    });
    let mut rows = Vec::new();
    for (at, (work, title, one)) in WORKS.into_iter().enumerate() {
        let which = usize::from(at == ASLEEP);
        let mut lanes = ways.map(|(name, _)| Cost::new(work, name, 8, "ns"));
        let counts = [0, 1].map(|way| fill(run.turn(), |n| one(&mut pairs[way][which], n)));
        run.many_rounds().run(|_| {
            for way in 0..2 {
                let nanos = one(&mut pairs[way][which], counts[way]);
                lanes[way].rounds.push(nanos);
            }
        });
        let ratio = median(&ratios(&lanes[1].rounds, &lanes[0].rounds));
        rows.push(vec![
            title.to_owned(),
            time(lanes[0].median()),
            time(lanes[1].median()),
            format!("{ratio:.2}"),
        ]);
        costs.extend(lanes);
    }
    costs.table(
        "The fence",
        &["work", "at the sleeper", "in every call", "ratio"],
        &rows,
    );
}
