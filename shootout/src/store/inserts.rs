//! From nothing to a million keys. redb and Redis are left out: with a transaction or a round trip
//! for each insert they take minutes. In a quick run so is LMDB.

use std::time::Duration;

use super::Run;
use super::contestant::{Op, System};
use super::pauses::{Pauses, watch_the_clock};
use crate::report::{Figure, Report};

fn taking_part(run: &Run<'_>) -> Vec<System> {
    let too_slow = |system| match system {
        System::Redb | System::Redis => true,
        // Two seconds a round.
        System::Lmdb => run.quick,
        _ => false,
    };
    let all = run.systems.iter().copied();
    all.filter(|&system| system.does(Op::Set) && !too_slow(system))
        .collect()
}

pub fn mean(run: &Run<'_>, report: &mut Report) {
    let systems = taking_part(run);
    let lane = |system: &System| Figure::small("insert_1m", system.name(), "ns", &[]);
    let mut figures: Vec<Figure> = systems.iter().map(lane).collect();
    let keys = &run.keys.inserted;
    run.few_rounds().run(|_| {
        for (system, figure) in systems.iter().zip(&mut figures) {
            let mut contestant = run.start(*system, 8);
            let elapsed = contestant.time(Op::Set, keys, 0, keys.len());
            contestant.check(&keys[..1000], &run.keys.absent[..1000]);
            figure
                .rounds
                .push(elapsed.as_nanos() as f64 / keys.len() as f64);
        }
    });
    report.add(figures);
}

/// What is told of the longest calls beside the figure itself, by the clock and without the time
/// that the thread did not run; of the inserts, and of a loop that does nothing.
const BESIDE: [&str; 7] = [
    "running",
    "clock_loop",
    "clock_loop_running",
    "beyond",
    "beyond_running",
    "clock_loop_beyond",
    "clock_loop_beyond_running",
];

pub fn pauses(run: &Run<'_>, report: &mut Report) {
    let systems = match run.quick {
        true => vec![System::Ringlane],
        false => taking_part(run),
    };
    let lane = |system: &System| Figure::small("insert_pause_1m", system.name(), "us", &BESIDE);
    let mut figures: Vec<Figure> = systems.iter().map(lane).collect();
    run.few_rounds().run(|_| {
        for (system, figure) in systems.iter().zip(&mut figures) {
            let pauses = run.start(*system, 8).insert_watched(&run.keys.inserted);
            note(figure, pauses, watch_the_clock(pauses.total));
        }
    });
    report.add(figures);
}

fn note(figure: &mut Figure, inserts: Pauses, clock: Pauses) {
    let micros = |time: Duration| time.as_nanos() as f64 / 1000.0;
    figure.note(
        micros(inserts.longest),
        &[
            micros(inserts.running),
            micros(clock.longest),
            micros(clock.running),
            inserts.beyond as f64,
            inserts.beyond_running as f64,
            clock.beyond as f64,
            clock.beyond_running as f64,
        ],
    );
}
