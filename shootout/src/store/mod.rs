//! The mode `store`: the shared store against maps in process, LMDB, redb and Redis.
//!
//! Same work for all: keys of 16 bytes, shuffled; each value copied out in full; answers checked
//! before anything is timed, and again while it is. One call begins when the one before has ended,
//! as in a program that needs the answer; what a processor gains that may work on several gets at
//! once is told apart, as `overlapping`.

mod contestant;
mod in_process;
mod inserts;
mod lmdb;
mod map;
mod memcpy;
mod pauses;
mod race;
mod redb;
mod redis;
mod ringlane;
mod targets;
mod together;

use std::time::Duration;

use contestant::{Contestant, Op, System};
use map::Key;
use race::Race;

use crate::chart::Picture;
use crate::keeper::Scratch;
use crate::machine::Machine;
use crate::report::Report;
use crate::rounds::Rounds;

const PICTURES: &[Picture] = &[
    Picture {
        file: "store-reads.svg",
        title: "Store: reading 8 bytes",
        takes: |figure| figure.payload == 8 && figure.work.starts_with("get_"),
    },
    Picture {
        file: "store-writes.svg",
        title: "Store: writing 8 bytes",
        takes: |figure| {
            figure.work.starts_with("insert")
                || figure.work == "overwrite_1k" && figure.payload == 8
                || figure.work == "overwrite_1m"
        },
    },
    Picture {
        file: "store-sizes.svg",
        title: "Store: larger values",
        takes: |figure| figure.payload != 8,
    },
    Picture {
        file: "store-together.svg",
        title: "Store: two at a time",
        takes: |figure| figure.work.contains("writer") || figure.work.contains("beside"),
    },
];

/// A run: who takes part, for how long, with which keys.
struct Run<'a> {
    scratch: &'a Scratch,
    machine: &'a Machine,
    quick: bool,
    systems: Vec<System>,
    keys: Keys,
}

/// Keys that are there and keys that are not, in different orders.
struct Keys {
    /// As they are inserted.
    inserted: Vec<Key>,
    /// The same, as they are read and overwritten; of few keys, in many orders one after another,
    /// since a processor learns a short one by heart.
    present: Vec<Key>,
    absent: Vec<Key>,
}

/// The least number of keys between two repetitions of their order.
const UNREPEATED: u64 = 1 << 16;

const MILLION: u64 = 1_000_000;
const ABSENT: u64 = 1 << 40;

impl Keys {
    fn new(count: u64) -> Self {
        let orders = 2..2 + UNREPEATED.div_ceil(count);
        let shuffled = |from: u64| {
            let order = |seed| map::keys(from..from + count, seed);
            orders.clone().flat_map(order).collect()
        };
        Self {
            inserted: map::keys(0..count, 1),
            present: shuffled(0),
            absent: shuffled(ABSENT),
        }
    }
}

pub fn run(quick: bool, scratch: &Scratch, report: &mut Report) {
    report.pictures = PICTURES;
    let run = &Run {
        scratch,
        machine: &report.machine.clone(),
        quick,
        systems: systems(quick),
        keys: Keys::new(MILLION),
    };
    println!(
        "LMDB with {}, in the same memory file system as ringlane",
        lmdb::FLAGS
    );
    println!("one call after another, each value copied out in full");
    println!("medians of interleaved rounds (least - most), and ours in relation");
    small(run, report);
    sizes(run, report);
    inserts::mean(run, report);
    inserts::pauses(run, report);
    million(run, report);
    together::reader(run, report);
    targets::print(report);
}

fn systems(quick: bool) -> Vec<System> {
    use System::*;
    if quick {
        return vec![Ringlane, Hashbrown, Papaya, Lmdb];
    }
    let mut all = vec![
        Ringlane,
        Hashbrown,
        Papaya,
        Dashmap,
        Rwlock,
        Lmdb,
        LmdbLongTxn,
        Redb,
    ];
    match redis::installed() {
        Some(version) => {
            println!("Redis {version}");
            all.push(Redis);
        }
        None => println!("no redis-server here"),
    }
    all
}

impl Run<'_> {
    /// Rounds of a work whose turns are short.
    fn many_rounds(&self) -> Rounds {
        match self.quick {
            true => Rounds {
                least: 5,
                most: 9,
                time: Duration::from_millis(1500),
            },
            false => Rounds {
                least: 9,
                most: 21,
                time: Duration::from_secs(20),
            },
        }
    }

    /// Rounds in which each contestant starts from nothing.
    fn few_rounds(&self) -> Rounds {
        match self.quick {
            true => Rounds {
                least: 5,
                most: 5,
                time: Duration::ZERO,
            },
            false => Rounds {
                least: 9,
                most: 9,
                time: Duration::ZERO,
            },
        }
    }

    /// Starts one, empty, whatever heap the one before left.
    fn start(&self, system: System, bytes: usize) -> Box<dyn Contestant> {
        trim_heap();
        system.start(bytes, self.scratch, self.machine)
    }

    /// Starts all of them that take part, filled and checked.
    fn start_all(&self, systems: &[System], bytes: usize, keys: &Keys) -> Vec<Box<dyn Contestant>> {
        let start = |&system: &System| {
            let mut contestant = self.start(system, bytes);
            contestant.fill(&keys.inserted);
            let looked_at = keys.inserted.len().min(10_000);
            contestant.check(&keys.present[..looked_at], &keys.absent[..looked_at]);
            contestant
        };
        systems.iter().map(start).collect()
    }
}

/// A thousand keys: all of it in the caches.
fn small(run: &Run<'_>, report: &mut Report) {
    let keys = Keys::new(1000);
    let mut contestants = run.start_all(&run.systems, 8, &keys);
    let turn = Duration::from_millis(if run.quick { 4 } else { 10 });
    for (work, op) in [
        ("get_hit_1k", Op::Hit),
        ("get_miss_1k", Op::Miss),
        ("overwrite_1k", Op::Set),
        ("get_hit_1k_overlapping", Op::HitOverlapping),
    ] {
        let race = Race {
            work,
            payload: 8,
            op,
            turn,
        };
        race.run(run, &mut contestants, &keys, report);
    }
}

/// A million keys: nothing in the caches but by chance.
fn million(run: &Run<'_>, report: &mut Report) {
    let mut contestants = run.start_all(&run.systems, 8, &run.keys);
    let turn = Duration::from_millis(if run.quick { 25 } else { 60 });
    for (work, op) in [
        ("get_hit_1m", Op::Hit),
        ("get_miss_1m", Op::Miss),
        ("overwrite_1m", Op::Set),
        ("get_hit_1m_overlapping", Op::HitOverlapping),
    ] {
        let race = Race {
            work,
            payload: 8,
            op,
            turn,
        };
        race.run(run, &mut contestants, &run.keys, report);
    }
    together::writers(run, &mut contestants, report);
}

/// Larger values: a thousand of them, and a few very large ones.
fn sizes(run: &Run<'_>, report: &mut Report) {
    let turn = Duration::from_millis(if run.quick { 6 } else { 15 });
    for (payload, count, get, overwrite) in [
        (64, 1000, "get_hit_1k", "overwrite_1k"),
        (1024, 1000, "get_hit_1k", "overwrite_1k"),
        (64 << 10, 1000, "get_hit_1k", "overwrite_1k"),
        (1 << 20, 16, "get_hit_16", "overwrite_16"),
    ] {
        let keys = Keys::new(count);
        let mut systems = run.systems.clone();
        if payload >= 64 << 10 {
            systems.push(System::Memcpy);
        }
        let mut contestants = run.start_all(&systems, payload, &keys);
        for (work, op) in [(get, Op::Hit), (overwrite, Op::Set)] {
            let race = Race {
                work,
                payload,
                op,
                turn,
            };
            race.run(run, &mut contestants, &keys, report);
        }
    }
}

/// Gives freed memory back to the kernel: else who comes next gets it in the order in which it was
/// freed, all over the place, or warm, where a store in a file of its own always begins with fresh
/// pages.
fn trim_heap() {
    // SAFETY: it may be called at any time.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::malloc_trim(0);
    }
}
