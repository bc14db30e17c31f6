//! The mode `costs`: what a channel costs that is not a rival's business. Fences and ways to wait,
//! memory, attaching, and how all of it grows with sizes, capacities, channels and processes.
//!
//! The two ends of a channel are processes of their own, one on each of the two CPUs, and so are a
//! runtime's children, on the second. Whatever can be compared is measured by turns in rounds.

mod attach;
mod channels;
mod children;
mod end;
mod fence;
mod load;
mod orders;
mod sizes;
mod table;
mod waits;

use std::thread;
use std::time::Duration;

pub use children::be_child_if_told;
pub use orders::serve_if_end;
pub use table::Costs;

use crate::machine::Machine;
use crate::plot::{Line, Plot};
use crate::report::Report;
use crate::rounds::{Rounds, median};

/// What some work takes, one figure a round.
pub struct Cost {
    pub work: &'static str,
    /// How it was done, if in several ways.
    pub way: &'static str,
    /// How much of it there is: bytes, channels, processes.
    pub at: u64,
    pub unit: &'static str,
    pub rounds: Vec<f64>,
}

impl Cost {
    fn new(work: &'static str, way: &'static str, at: u64, unit: &'static str) -> Self {
        Self {
            work,
            way,
            at,
            unit,
            rounds: Vec::new(),
        }
    }

    fn median(&self) -> f64 {
        median(&self.rounds)
    }
}

const PLOTS: &[Plot] = &[
    Plot {
        file: "cost-by-size.svg",
        title: "How the cost of a message grows with its size",
        across: "bytes of a message",
        up: "ns",
        lines: &[
            Line("round_trip_by_size", "round trip"),
            Line("stream_by_size", "a message in a stream"),
        ],
    },
    Plot {
        file: "cost-by-capacity.svg",
        title: "How costs grow with a channel's capacity",
        across: "bytes of each direction",
        up: "ns",
        lines: &[
            Line("stream_by_capacity", "a message of 64 bytes in a stream"),
            Line("create_by_capacity", "create the channel"),
            Line("open_by_capacity", "open it"),
            Line("close_by_capacity", "close both ends"),
        ],
    },
    Plot {
        file: "cost-by-channels.svg",
        title: "How costs grow with the number of channels",
        across: "channels between two processes",
        up: "ns for each channel",
        lines: &[
            Line("create_by_channels", "create"),
            Line("open_by_channels", "open"),
            Line("dump_by_channels", "show in a picture"),
            Line(
                "round_trip_by_channels",
                "send a message, receive an answer",
            ),
            Line("look_by_channels", "look for a message in vain"),
        ],
    },
    Plot {
        file: "cost-by-processes.svg",
        title: "How costs grow with the number of processes",
        across: "children of a runtime",
        up: "ns for each child",
        lines: &[
            Line("start_by_processes", "start, until it answered"),
            Line("stop_by_processes", "stop"),
            Line("dump_by_processes", "show in a picture, with two channels"),
            Line(
                "round_trip_by_processes",
                "send a message, receive an answer",
            ),
        ],
    },
];

/// A run takes a minute; only a hang takes this long.
const PATIENCE: Duration = Duration::from_secs(600);

/// A run: where it sits, and for how long.
struct Run<'a> {
    machine: &'a Machine,
    quick: bool,
}

pub fn run(quick: bool, report: &mut Report) {
    report.plots = PLOTS;
    thread::spawn(|| {
        thread::sleep(PATIENCE);
        eprintln!("the run hangs");
        // All others die with this process.
        std::process::exit(1);
    });
    let run = &Run {
        machine: &report.machine.clone(),
        quick,
    };
    println!("medians of interleaved rounds");
    let costs = &mut report.costs;
    fence::measure(run, costs);
    waits::measure(run, costs);
    attach::measure(run, costs);
    sizes::measure(run, costs);
    channels::measure(run, costs);
    children::measure(run, costs);
}

impl Run<'_> {
    /// Of what takes milliseconds.
    fn many_rounds(&self) -> Rounds {
        let most = if self.quick { 5 } else { 21 };
        fixed(most)
    }

    /// Of what takes longer.
    fn few_rounds(&self) -> Rounds {
        let most = if self.quick { 1 } else { 3 };
        fixed(most)
    }

    /// How long one turn takes at least.
    fn turn(&self) -> Duration {
        Duration::from_millis(3)
    }
}

fn fixed(rounds: usize) -> Rounds {
    Rounds {
        least: rounds,
        most: rounds,
        time: Duration::ZERO,
    }
}
