//! Contestants by turns at one work.

use std::time::{Duration, Instant};

use super::load::Load;
use super::peer::Turn;
use super::system::{Entry, System, Timed};
use super::work::Work;
use crate::machine::Machine;
use crate::report::Figure;
use crate::rounds::{Rounds, median};

/// A contestant, started.
pub struct Contestant {
    pub system: System,
    seat: Box<dyn Timed>,
}

impl Contestant {
    pub fn start(entry: Entry, machine: &Machine) -> Self {
        let _turn = Turn::of(format!("{entry}, starting"));
        Self {
            system: entry.system,
            seat: entry.start(machine),
        }
    }
}

pub struct Race {
    pub work: Work,
    pub load: Load,
    pub rounds: Rounds,
    /// How long one contestant's turn takes, about.
    pub turn: Duration,
}

/// A contestant in a race: how often he does it in a turn, and his figures.
struct Lane<'a> {
    contestant: &'a mut Contestant,
    count: u64,
    figures: Vec<f64>,
}

impl Race {
    /// Has those run who do this work.
    pub fn run(&self, contestants: &mut [Contestant]) -> Vec<Figure> {
        let able = contestants
            .iter_mut()
            .filter(|one| one.system.does(self.work, self.load));
        let mut lanes: Vec<Lane<'_>> = able.map(|one| self.lane(one)).collect();
        self.rounds.run(|_| {
            for lane in &mut lanes {
                let figure = self.take_turn(lane.contestant, lane.count);
                lane.figures.push(figure);
            }
        });
        let figure = |lane: Lane<'_>| Figure {
            work: self.work.name(),
            payload: self.load.bytes,
            system: lane.contestant.system.name(),
            unit: self.work.unit(),
            rounds: lane.figures,
            beside: Vec::new(),
        };
        lanes.into_iter().map(figure).collect()
    }

    /// Finds out how much makes a turn.
    fn lane<'a>(&self, contestant: &'a mut Contestant) -> Lane<'a> {
        let mut count = 1;
        if let Some(period) = self.work.period() {
            count = (self.turn.as_secs_f64() / period.as_secs_f64()).ceil() as u64;
        } else {
            loop {
                let elapsed = self.shortest(contestant, count);
                if 4 * elapsed >= self.turn {
                    let turns = self.turn.as_secs_f64() / elapsed.as_secs_f64();
                    count = (count as f64 * turns).ceil() as u64;
                    break;
                }
                count *= 2;
            }
        }
        Lane {
            contestant,
            count,
            figures: Vec::new(),
        }
    }

    /// How long so much takes, of a few tries: one of them may lose its processor for a while, and
    /// a turn that is too short because of that is mostly its beginning and its end.
    fn shortest(&self, contestant: &mut Contestant, count: u64) -> Duration {
        let tries = (0..3).map(|_| {
            let clock = Instant::now();
            self.take_turn(contestant, count);
            clock.elapsed()
        });
        tries.min().expect("three of them")
    }

    /// The figure of a turn, in the work's unit.
    fn take_turn(&self, contestant: &mut Contestant, count: u64) -> f64 {
        let _turn = Turn::of(format!(
            "{} {} {}",
            contestant.system.name(),
            self.work.name(),
            self.load.bytes
        ));
        let seat = &mut contestant.seat;
        let nanos = |elapsed: Duration| elapsed.as_nanos() as f64;
        match self.work {
            Work::RoundTrip
            | Work::SleepRoundTrip
            | Work::RoundTripUntouched
            | Work::RoundTripPostcard => nanos(seat.round_trips(count)) / count as f64,
            Work::Stream | Work::StreamUntouched => {
                // Messages a nanosecond are thousands of millions a second.
                1000.0 * count as f64 / nanos(seat.stream(count))
            }
            Work::Burst => nanos(seat.bursts(count)) / count as f64,
            Work::Paced1kHz | Work::Paced10Hz => {
                let period = self.work.period().expect("a pace");
                let took = seat.paced(count, period);
                median(&took.into_iter().map(nanos).collect::<Vec<_>>())
            }
        }
    }
}
