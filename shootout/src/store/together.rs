//! Two threads at one map, each on a CPU of its own.

#![expect(
    clippy::disallowed_types,
    reason = "the hardware's part is two bare words"
)]

use std::sync::Barrier;
use std::sync::atomic::{
    AtomicBool, AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
};
use std::thread;
use std::time::{Duration, Instant};

use super::contestant::{Contestant, Op, System};
use super::map::Key;
use super::{MILLION, Run, map};
use crate::machine::pin;
use crate::report::{Figure, Report};
use crate::rounds::ratios;

/// How fast two overwrite together, and how fast one does: millions a second. And how long a line
/// takes from one CPU to the other and back, for under a lock that is what two wait for most; a
/// virtual machine may change it by a factor of five from one minute to the next.
pub fn writers(run: &Run<'_>, contestants: &mut [Box<dyn Contestant>], report: &mut Report) {
    let turn = Duration::from_millis(if run.quick { 50 } else { 100 });
    let mut lanes = Vec::new();
    for one in contestants {
        let name = one.system().name();
        if let Some(another) = one.another().filter(|one| one.system().does(Op::Set)) {
            let alone = Figure::small("one_writer_1m", name, "M/s", &[]);
            let together = Figure::small("two_writers_1m", name, "M/s", &[]);
            lanes.push((one, another, alone, together));
        }
    }
    let mut line = Figure::small("line_there_and_back", "hardware", "ns", &[]);
    run.many_rounds().run(|_| {
        if run.machine.first != run.machine.second {
            line.note(line_there_and_back(run), &[]);
        }
        for (one, another, alone, together) in &mut lanes {
            alone.note(rate(run, turn, one.as_mut(), None), &[]);
            let both = rate(run, turn, one.as_mut(), Some(another.as_mut()));
            together.note(both, &[]);
        }
    });
    let (mut ones, mut twos) = (Vec::new(), Vec::new());
    for (_, _, alone, together) in lanes {
        let (name, gain) = (alone.system, ratios(&together.rounds, &alone.rounds));
        report.add_ratio("two_writers_1m", 8, format!("{name}/{name}-alone"), gain);
        ones.push(alone);
        twos.push(together);
    }
    if !line.rounds.is_empty() {
        report.add(vec![line]);
    }
    report.add(ones);
    report.add(twos);
}

/// How long a word of one CPU's takes to the other, and the answer to come back, in ns.
fn line_there_and_back(run: &Run<'_>) -> f64 {
    const TURNS: u64 = 20_000;
    /// A line of its own; processors fetch two at a time.
    #[repr(align(128))]
    struct Line(AtomicU64);
    let (there, back) = (Line(AtomicU64::new(0)), Line(AtomicU64::new(0)));
    let (there, back) = (&there.0, &back.0);
    let wait = |word: &AtomicU64, turn: u64| {
        while word.load(Acquire) != turn {
            std::hint::spin_loop();
        }
    };
    thread::scope(|scope| {
        scope.spawn(move || {
            pin(run.machine.second);
            for turn in 1..=TURNS {
                wait(there, turn);
                back.store(turn, Release);
            }
        });
        // The first turn waits for the other thread.
        there.store(1, Release);
        wait(back, 1);
        let clock = Instant::now();
        for turn in 2..=TURNS {
            there.store(turn, Release);
            wait(back, turn);
        }
        clock.elapsed().as_secs_f64() * 1e9 / (TURNS - 1) as f64
    })
}

/// Overwrites by one, or by two together, in millions a second.
fn rate(
    run: &Run<'_>,
    turn: Duration,
    one: &mut dyn Contestant,
    another: Option<&mut dyn Contestant>,
) -> f64 {
    let keys = &run.keys.present;
    let (stop, ready) = (AtomicBool::new(false), Barrier::new(2));
    let (stop, ready) = (&stop, &ready);
    let two = another.is_some();
    thread::scope(|scope| {
        let beside = scope.spawn(move || {
            pin(run.machine.second);
            ready.wait();
            match another {
                Some(another) => another.set_until(stop, keys, keys.len() / 2),
                None => {
                    thread::sleep(turn);
                    stop.store(true, Relaxed);
                    0
                }
            }
        });
        // Somebody must stop them; with two at work it is a third, who sleeps.
        if two {
            scope.spawn(move || {
                thread::sleep(turn);
                stop.store(true, Relaxed);
            });
        }
        ready.wait();
        let clock = Instant::now();
        let done = one.set_until(stop, keys, 0);
        let all = done + beside.join().expect("the other writer");
        all as f64 / clock.elapsed().as_secs_f64() / 1e6
    })
}

/// What a reader waits while somebody inserts as fast as he can.
pub fn reader(run: &Run<'_>, report: &mut Report) {
    let old = &run.keys.inserted[..];
    let new = map::keys(MILLION..MILLION + MILLION / 2, 4);
    let left_out = |system| match run.quick {
        true => system != System::Ringlane,
        false => matches!(system, System::Redb | System::Redis),
    };
    let mut lanes = Vec::new();
    for &system in &run.systems {
        if system.does(Op::Set) && !left_out(system) && run.start(system, 8).another().is_some() {
            let work = "reader_p999_beside_inserter";
            let beside = ["median_get", "p99_get"];
            lanes.push((system, Figure::small(work, system.name(), "ns", &beside)));
        }
    }
    run.few_rounds().run(|_| {
        for (system, figure) in &mut lanes {
            let mut one = run.start(*system, 8);
            one.fill(old);
            let mut nanos = beside_inserter(run, one.as_mut(), &run.keys.present, &new);
            nanos.sort_unstable();
            let at = |share: f64| f64::from(nanos[(nanos.len() as f64 * share) as usize]);
            figure.note(at(0.999), &[at(0.5), at(0.99)]);
        }
    });
    for (_, figure) in &lanes {
        let steady = ratios(&figure.rounds, &figure.beside[0].1);
        let name = format!("{0}/{0}-median", figure.system);
        report.add_ratio(figure.work, 8, name, steady);
    }
    report.add(lanes.into_iter().map(|(_, figure)| figure).collect());
}

/// Nanoseconds of each get while the other inserts all of `new`.
fn beside_inserter(run: &Run<'_>, one: &mut dyn Contestant, read: &[Key], new: &[Key]) -> Vec<u32> {
    let mut another = one.another().expect("who takes part has another");
    let (stop, ready) = (AtomicBool::new(false), Barrier::new(2));
    let (stop, ready) = (&stop, &ready);
    thread::scope(|scope| {
        scope.spawn(move || {
            pin(run.machine.second);
            ready.wait();
            another.time(Op::Set, new, 0, new.len());
            stop.store(true, Relaxed);
        });
        ready.wait();
        one.get_until(stop, read)
    })
}
