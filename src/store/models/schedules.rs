//! Three writers, who are killed now and then, beside a reader and a watcher: many changes, in orders
//! drawn at random. They see each other's stores in the order in which they were made; what else
//! they may see is shown by `exhaustive`, for a few.

use super::world::{BUCKETS, Contended, Is, Missing, Start, find, key, remove, set_and, try_get};
use crate::common::tally::{scale, tally};
use crate::lock;
use crate::store::alarm;
use crate::store::table::{Key, Table};
use crate::sync::kills::{kill_point, killed_after};
use crate::sync::{Step, draw, run_without, thread};
use crate::sys::Futex;
use core::time::Duration;
use shuttle::rand::{Rng, thread_rng};
use std::collections::BTreeSet;
use std::convert::Infallible;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

const WRITERS: u32 = 3;
const CHANGES: usize = 6;
const READS: usize = 24;
/// Keys that are always there. All have one home, until it is split, and the first two look the
/// same in a slot.
const KEYS: [(&str, u64); 4] = [("A", 0), ("B", 0), ("C", 0b10), ("D", 0b100)];
/// One that comes and goes.
const GUEST: (&str, u64) = ("E", 0b110);
/// More than any number that a writer stores.
const LAST: u64 = 1 << 20;
/// No change stores more often than this.
const STORES: u32 = 40;

struct Shared {
    table: Table,
    lock: Futex,
    alarm: Futex,
    /// What is not the library's is known to the scene by words that it does not see.
    known: Known,
}

#[derive(Default)]
struct Known {
    kills: bool,
    dead: Mutex<BTreeSet<u32>>,
    /// The number that was stored last.
    number: AtomicU64,
    /// The largest that a call stored under each key, and came back.
    acknowledged: [AtomicU64; KEYS.len()],
}

fn of((name, hash): (&'static str, u64)) -> Key<'static> {
    key(name, hash)
}

impl Shared {
    fn new(kills: bool) -> Shared {
        let mut start = Start::new(16);
        for (slot, key) in KEYS.into_iter().enumerate() {
            start.entry(BUCKETS[0] + 1 + slot as u64, &of(key));
        }
        let known = Known {
            kills,
            number: AtomicU64::new(KEYS.len() as u64),
            ..Known::default()
        };
        Shared {
            table: start.table(6),
            lock: Futex::default(),
            alarm: Futex::default(),
            known,
        }
    }

    /// Takes the lock as `me`, and finishes what its last holder left.
    fn lock(&self, me: u32) {
        // Nobody's time is up in a model. Where holders are killed, nobody sleeps.
        let timeout = if self.known.kills {
            Duration::ZERO
        } else {
            Duration::MAX
        };
        let is_alive = |holder| {
            let word = lock::word_of(holder);
            !self.known.dead.lock().unwrap().contains(&word)
        };
        if !lock::try_take(&self.lock, me) {
            while lock::wait(&self.lock, me, timeout, is_alive).is_err() {}
        }
        kill_point();
        let settled = self.table.settle(|| alarm::ring_for_another(&self.alarm));
        settled.unwrap();
    }

    fn give_back(&self) {
        kill_point();
        lock::give_back(&self.lock);
    }

    fn set(&self, key: (&'static str, u64), number: u64) {
        let wake = || alarm::ring(&self.alarm);
        set_and(&self.table, &of(key), number, wake).unwrap();
    }

    /// One change, of something.
    fn change(&self, me: u32) {
        let which = thread_rng().gen_range(0..8);
        self.lock(me);
        let number = self.known.number.fetch_add(1, Relaxed) + 1;
        let is_there = find(&self.table, &of(GUEST)).is_some();
        match which {
            // There is room for so many, and then chains get longer.
            7 => drop(self.table.split()),
            6 if is_there => remove(&self.table, &of(GUEST)),
            6 => self.set(GUEST, number),
            n => self.set(KEYS[n % KEYS.len()], number),
        }
        self.give_back();
        if which < 6 {
            self.known.acknowledged[which % KEYS.len()].fetch_max(number, Relaxed);
        }
    }

    fn write(&self, slot: u32) {
        let mut me = slot << 8 | slot;
        for _ in 0..CHANGES {
            let is_killed = self.known.kills && thread_rng().gen_ratio(1, 5);
            if !is_killed {
                self.change(me);
            } else if killed_after(thread_rng().gen_range(0..STORES), || self.change(me)).is_none()
            {
                self.known.dead.lock().unwrap().insert(me);
                // Its successor's generation.
                me += WRITERS << 8;
            }
        }
    }

    fn read(&self) {
        let mut seen = [0; KEYS.len()];
        for _ in 0..READS {
            let which = thread_rng().gen_range(0..=KEYS.len());
            let Some(seen) = seen.get_mut(which) else {
                // Whole, if it is there.
                try_get(&self.table, &of(GUEST));
                continue;
            };
            *seen = self.known.acknowledged[which].load(Relaxed).max(*seen);
            match try_get(&self.table, &of(KEYS[which])) {
                Is(number) => {
                    assert!(number >= *seen, "{number} after {seen}");
                    *seen = number;
                }
                Contended => {}
                Missing => panic!("{which} is there all the time"),
            }
        }
    }

    /// Sleeps until the last change.
    fn watch(&self) {
        let is_last = || try_get(&self.table, &of(KEYS[0])) == Is(LAST);
        while !is_last() {
            let changed = || Ok::<_, Infallible>(is_last());
            alarm::sleep(&self.alarm, Duration::MAX, changed).unwrap();
        }
    }
}

fn many(kills: bool) {
    let shared = Arc::new(Shared::new(kills));
    let run = |act: fn(&Shared, u32), slot| {
        let shared = shared.clone();
        thread::spawn(move || act(&shared, slot))
    };
    let mut threads: Vec<_> = (1..=WRITERS).map(|slot| run(Shared::write, slot)).collect();
    let others = [
        run(|shared, _| shared.read(), 0),
        run(|shared, _| shared.watch(), 0),
    ];
    threads.drain(..).for_each(|writer| writer.join().unwrap());
    let me = WRITERS + 1;
    shared.lock(me << 8 | me);
    shared.set(KEYS[0], LAST);
    shared.give_back();
    for other in others {
        other.join().unwrap();
    }
}

fn undisturbed() {
    many(false);
}

fn with_kills() {
    many(true);
}

#[test]
fn what_was_acknowledged_is_there_and_nobody_sleeps_for_ever() {
    let count = scale(500, 3_000);
    let drawn = draw(count, undisturbed);
    tally(
        "model",
        "schedules of writers, reader and watcher, drawn",
        drawn,
    );
    let drawn = draw(count, with_kills);
    tally(
        "model",
        "schedules of writers that are killed, reader and watcher, drawn",
        drawn,
    );
}

#[test]
fn each_step_is_needed() {
    for (step, scene) in [
        (Step::SecondLook, undisturbed as fn()),
        (Step::StillWaiters, undisturbed),
        (Step::SlotAgain, undisturbed),
        (Step::StampAgain, undisturbed),
        (Step::JudgedWord, with_kills),
    ] {
        assert!(
            run_without(step, move || {
                draw(4_000, scene);
            }),
            "nothing fails without {step:?}"
        );
    }
}
