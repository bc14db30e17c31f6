//! The mode `channels`: ringlane's channels against other ways to hand messages over.
//!
//! Same work for all: two processes, or two threads for what cannot cross processes, pinned to the
//! two CPUs; every word of every message written by the sender and read by the receiver, and
//! checked; the same number of bytes in the channel. `README.md` says what each work is, and what
//! each contestant does.

mod link;
mod links;
mod load;
mod odd;
mod peer;
mod race;
mod system;
mod targets;
mod work;

use std::time::Duration;

use link::Waiting;
use load::Load;
pub use peer::serve_if_peer;
use race::{Contestant, Race};
use system::{Entry, System};
use work::Work;

use crate::chart::Picture;
use crate::machine::Machine;
use crate::report::Report;
use crate::rounds::{Rounds, ratios};

/// Bytes of a message.
const SIZES: [usize; 7] = [8, 56, 64, 1024, 8192, 64 << 10, 1 << 20];

const PICTURES: &[Picture] = &[
    Picture {
        file: "channels-round-trip-small.svg",
        title: "Channels: there and back, small messages",
        takes: |figure| figure.work == "rtt" && figure.payload < 1024,
    },
    Picture {
        file: "channels-round-trip-large.svg",
        title: "Channels: there and back, larger messages",
        takes: |figure| figure.work == "rtt" && figure.payload >= 1024,
    },
    Picture {
        file: "channels-stream-small.svg",
        title: "Channels: one way, small messages",
        takes: |figure| figure.work == "stream" && figure.payload < 1024,
    },
    Picture {
        file: "channels-stream-large.svg",
        title: "Channels: one way, larger messages",
        takes: |figure| figure.work == "stream" && figure.payload >= 1024,
    },
    Picture {
        file: "channels-asleep.svg",
        title: "Channels: there and back, both asleep before each message",
        takes: |figure| figure.work == "sleep_rtt" && [8, 1024, 65_536].contains(&figure.payload),
    },
    Picture {
        file: "channels-now-and-then.svg",
        title: "Channels: bursts of 100, and a message now and then",
        takes: |figure| figure.work == "burst" || figure.work.starts_with("paced"),
    },
    Picture {
        file: "channels-untouched.svg",
        title: "Channels: the payload neither written nor read",
        takes: |figure| figure.work.ends_with("untouched"),
    },
];

/// Ratios that are wanted besides those of ringlane to all others.
const RATIOS: [[System; 2]; 4] = [
    [System::RinglaneInPlace, System::Iceoryx2ZeroCopy],
    [System::RinglaneInPlace, System::Memcpy],
    [System::RinglaneBatch, System::Ringlane],
    [System::RinglanePostcard, System::Codec],
];

/// A run: who takes part, and for how long.
struct Run {
    machine: Machine,
    quick: bool,
    systems: Vec<System>,
}

pub fn run(quick: bool, report: &mut Report) {
    report.pictures = PICTURES;
    peer::start_watchdog();
    let run = Run {
        machine: report.machine.clone(),
        quick,
        systems: systems(quick),
    };
    println!("medians of interleaved rounds (least - most), and ringlane's in relation");
    if quick {
        run.sizes(&SIZES[..5], report);
    } else {
        run.all(report);
    }
    odd::print(report);
    targets::print(report);
}

fn systems(quick: bool) -> Vec<System> {
    use System::*;
    if quick {
        return vec![
            Ringlane,
            RinglaneInPlace,
            RinglaneBatch,
            Raw,
            Futex,
            Rtrb,
            Iceoryx2,
            Iceoryx2ZeroCopy,
            Pipe,
        ];
    }
    let mut all = System::ALL.to_vec();
    match links::python::installed() {
        Some(version) => println!("{version}"),
        None => {
            println!("no python3 here");
            all.retain(|&system| system != PythonPipe);
        }
    }
    all
}

impl Run {
    fn all(&self, report: &mut Report) {
        let touched = |bytes| Load {
            bytes,
            touched: true,
        };
        self.sizes(&SIZES, report);
        self.race(&[Work::Burst], touched(64), report);
        self.race(&[Work::Paced1kHz, Work::Paced10Hz], touched(64), report);
        let note = touched(links::postcard::BYTES);
        self.race(&[Work::RoundTripPostcard], note, report);
        for &bytes in &SIZES[3..] {
            let load = Load {
                bytes,
                touched: false,
            };
            let works = [Work::RoundTripUntouched, Work::StreamUntouched];
            self.race(&works, load, report);
        }
    }

    /// What every mode of the run measures.
    fn sizes(&self, sizes: &[usize], report: &mut Report) {
        for &bytes in sizes {
            let load = Load {
                bytes,
                touched: true,
            };
            self.race(&[Work::RoundTrip, Work::Stream], load, report);
            self.race(&[Work::SleepRoundTrip], load, report);
        }
    }

    /// Starts those who do one of these works, which all wait alike, and has them run.
    fn race(&self, works: &[Work], load: Load, report: &mut Report) {
        let waiting = works[0].waiting();
        assert!(works.iter().all(|work| work.waiting() == waiting));
        let mut contestants = self.start(works, load, waiting);
        for &work in works {
            let race = Race {
                work,
                load,
                rounds: self.rounds(work),
                turn: self.turn(work),
            };
            let figures = race.run(&mut contestants);
            for pair in RATIOS {
                let found = pair.map(|system| {
                    let mut all = figures.iter();
                    all.find(|figure| figure.system == system.name())
                });
                if let [Some(this), Some(that)] = found {
                    let name = format!("{}/{}", this.system, that.system);
                    let rounds = ratios(&this.rounds, &that.rounds);
                    report.add_ratio(work.name(), load.bytes, name, rounds);
                }
            }
            report.add(figures);
        }
    }

    fn start(&self, works: &[Work], load: Load, waiting: Waiting) -> Vec<Contestant> {
        let able = self
            .systems
            .iter()
            .filter(|system| works.iter().any(|&work| system.does(work, load)));
        let start = |&system: &System| {
            let entry = Entry {
                system,
                load,
                waiting,
            };
            Contestant::start(entry, &self.machine)
        };
        able.map(start).collect()
    }

    fn rounds(&self, work: Work) -> Rounds {
        let count = match (work.period(), self.quick) {
            (None, false) => 15,
            (None, true) => 11,
            (Some(_), _) => 9,
        };
        Rounds {
            least: count,
            most: count,
            time: Duration::ZERO,
        }
    }

    fn turn(&self, work: Work) -> Duration {
        let millis = match (work, self.quick) {
            (Work::Paced10Hz, _) => 200,
            (Work::Paced1kHz, _) => 50,
            // Some hundred sleeps at least.
            (Work::SleepRoundTrip, _) => 15,
            (_, false) => 10,
            (_, true) => 6,
        };
        Duration::from_millis(millis)
    }
}
