//! Contestants by turns at one work.

use std::time::Duration;

use super::contestant::{Contestant, Op};
use super::map::Key;
use super::{Keys, Run};
use crate::report::{Figure, Report};

pub struct Race {
    pub work: &'static str,
    pub payload: usize,
    pub op: Op,
    /// How long one contestant's turn takes, about.
    pub turn: Duration,
}

/// A contestant in a race: calls that make a turn, where he is in the keys, nanoseconds a call.
struct Lane<'a> {
    contestant: &'a mut Box<dyn Contestant>,
    count: usize,
    from: usize,
    nanos: Vec<f64>,
}

impl Race {
    pub fn run(
        &self,
        run: &Run<'_>,
        contestants: &mut [Box<dyn Contestant>],
        keys: &Keys,
        report: &mut Report,
    ) {
        let keys = match self.op {
            Op::Miss => &keys.absent,
            Op::Hit | Op::HitOverlapping | Op::Set => &keys.present,
        };
        let taking_part = contestants
            .iter_mut()
            .filter(|one| one.system().does(self.op));
        let mut lanes: Vec<Lane<'_>> = taking_part.map(|one| self.lane(one, keys)).collect();
        run.many_rounds().run(|_| {
            for lane in &mut lanes {
                let elapsed = lane.take_turn(self.op, keys);
                lane.nanos
                    .push(elapsed.as_nanos() as f64 / lane.count as f64);
            }
        });
        let figure = |lane: Lane<'_>| Figure {
            work: self.work,
            payload: self.payload,
            system: lane.contestant.system().name(),
            unit: "ns",
            rounds: lane.nanos,
            beside: Vec::new(),
        };
        report.add(lanes.into_iter().map(figure).collect());
    }

    /// Finds out how many calls make a turn.
    fn lane<'a>(&self, contestant: &'a mut Box<dyn Contestant>, keys: &[Key]) -> Lane<'a> {
        let mut lane = Lane {
            contestant,
            count: 16,
            from: 0,
            nanos: Vec::new(),
        };
        loop {
            let elapsed = lane.take_turn(self.op, keys).max(Duration::from_nanos(1));
            if 4 * elapsed >= self.turn {
                let turns = self.turn.as_secs_f64() / elapsed.as_secs_f64();
                lane.count = (lane.count as f64 * turns).ceil() as usize;
                return lane;
            }
            lane.count *= 2;
        }
    }
}

impl Lane<'_> {
    fn take_turn(&mut self, op: Op, keys: &[Key]) -> Duration {
        let elapsed = self.contestant.time(op, keys, self.from, self.count);
        self.from = (self.from + self.count) % keys.len();
        elapsed
    }
}
