//! The mode `channels`: ringlane's channels against other ways to hand messages over.
//!
//! Same work for all: two processes, or two threads for what cannot cross processes, pinned to the
//! two CPUs; every word of every message written by the sender and read by the receiver, and
//! checked; the same number of bytes in the channel. `README.md` says what each work is, and what
//! each contestant does.

mod link;
mod links;
mod load;
mod peer;
mod race;
mod system;
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
use crate::rounds::Rounds;

/// Bytes of a message.
const SIZES: [usize; 7] = [8, 56, 64, 1024, 8192, 64 << 10, 1 << 20];

const PICTURES: &[Picture] = &[];

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
    let touched = |bytes| Load {
        bytes,
        touched: true,
    };
    for &bytes in if quick { &SIZES[..5] } else { &SIZES } {
        let load = touched(bytes);
        run.race(&[Work::RoundTrip, Work::Stream], load, report);
        run.race(&[Work::SleepRoundTrip], load, report);
    }
    if quick {
        return;
    }
    run.race(&[Work::Burst], touched(64), report);
    run.race(&[Work::Paced1kHz, Work::Paced10Hz], touched(64), report);
    run.race(
        &[Work::RoundTripPostcard],
        touched(links::postcard::BYTES),
        report,
    );
    println!("\nthe payload neither written nor read:");
    for &bytes in &SIZES[3..] {
        let load = Load {
            bytes,
            touched: false,
        };
        let works = [Work::RoundTripUntouched, Work::StreamUntouched];
        run.race(&works, load, report);
    }
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
            report.add(race.run(&mut contestants));
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
