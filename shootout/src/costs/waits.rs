//! The ways to wait: what an answer takes, and how much of a processor whoever waits for questions
//! uses, at three rates.

use std::time::Duration;

use super::end::{Channels, Fence, Pair, Taken};
use super::table::{Costs, time};
use super::{Cost, Run};

const WAITS: [(&str, &str); 3] = [
    ("adaptive", "`Adaptive` (default)"),
    ("spin", "`Spin`"),
    ("sleep", "`Sleep`"),
];

/// How often a question comes, and what is noted of it.
struct Rate {
    title: &'static str,
    period: Duration,
    works: [&'static str; 4],
}

const RATES: [Rate; 3] = [
    Rate {
        title: "10 a second",
        period: Duration::from_millis(100),
        works: [
            "wait_median_10_hz",
            "wait_p99_10_hz",
            "wait_processor_10_hz",
            "wait_sleeps_10_hz",
        ],
    },
    Rate {
        title: "1,000 a second",
        period: Duration::from_millis(1),
        works: [
            "wait_median_1_khz",
            "wait_p99_1_khz",
            "wait_processor_1_khz",
            "wait_sleeps_1_khz",
        ],
    },
    Rate {
        title: "one after another",
        period: Duration::ZERO,
        works: [
            "wait_median_full",
            "wait_p99_full",
            "wait_processor_full",
            "wait_sleeps_full",
        ],
    },
];

impl Rate {
    /// Messages of a turn.
    fn count(&self, run: &Run<'_>) -> u64 {
        let turn = Duration::from_millis(if run.quick { 300 } else { 1200 });
        match self.period {
            Duration::ZERO => 50_000,
            period => (turn.as_nanos() / period.as_nanos()) as u64,
        }
    }
}

pub fn measure(run: &Run<'_>, costs: &mut Costs) {
    let mut pairs = WAITS.map(|(wait, _)| {
        let channels = Channels {
            wait,
            ..Channels::one(wait)
        };
        Pair::start(run, Fence::Sleeper, channels)
    });
    let mut rows = Vec::new();
    for rate in RATES {
        let mut lanes = WAITS.map(|(wait, _)| {
            let units = ["ns", "ns", "%", "/s"];
            [0, 1, 2, 3].map(|i| Cost::new(rate.works[i], wait, 8, units[i]))
        });
        let count = rate.count(run);
        run.few_rounds().run(|_| {
            for (pair, lane) in pairs.iter_mut().zip(&mut lanes) {
                let order = format!("pace {} {count}", rate.period.as_nanos());
                let (asked, answered) = pair.run(&order, &format!("answer {count}"));
                let [median, p99] = asked.others[..] else {
                    panic!("two figures");
                };
                for (cost, figure) in lane.iter_mut().zip([
                    median,
                    p99,
                    share(&answered),
                    answered.sleeps / (answered.wall / 1e9),
                ]) {
                    cost.rounds.push(figure);
                }
            }
        });
        for ((_, title), lane) in WAITS.iter().zip(&lanes) {
            rows.push(vec![
                rate.title.to_owned(),
                (*title).to_owned(),
                time(lane[0].median()),
                time(lane[1].median()),
                format!("{:.1} %", lane[2].median()),
                format!("{:.0}", lane[3].median()),
            ]);
        }
        costs.extend(lanes.into_iter().flatten());
    }
    costs.table(
        "Ways to wait",
        &[
            "questions",
            "both wait by",
            "answer, median",
            "99th percentile",
            "processor of who answers",
            "its sleeps a second",
        ],
        &rows,
    );
}

/// Per cent of a processor.
fn share(taken: &Taken) -> f64 {
    taken.processor / taken.wall * 100.0
}
