//! Two threads at one map, each on a CPU of its own.

use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use super::contestant::{Contestant, Op, System};
use super::map::Key;
use super::{MILLION, Run, map};
use crate::machine::pin;
use crate::report::{Figure, Report};
use crate::rounds::ratios;

/// How fast two overwrite together, and how fast one does: millions a second.
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
    run.many_rounds().run(|_| {
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
    report.add(ones);
    report.add(twos);
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
