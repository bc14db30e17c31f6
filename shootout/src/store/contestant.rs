//! Who takes part, and what he is asked to do. All loops that are timed are here, compiled for
//! each contestant by itself.

use std::marker::PhantomData;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use super::map::{Key, Map, Payload, stamp_of};
use super::pauses::{Pauses, ran, watch};
use super::{in_process, lmdb, memcpy, redb, redis, ringlane};
use crate::keeper::Scratch;
use crate::machine::Machine;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum System {
    /// The library, with default options.
    Ringlane,
    /// In process, one thread: what it costs to share with nobody.
    Hashbrown,
    /// In process, threads.
    Papaya,
    Dashmap,
    Rwlock,
    /// Between processes, a transaction for each call.
    Lmdb,
    /// The same, all reads in one transaction.
    LmdbLongTxn,
    /// In process, a transaction for each call.
    Redb,
    /// A server on a Unix socket.
    Redis,
    /// No map at all: the value's bytes, copied.
    Memcpy,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    Hit,
    Miss,
    Set,
    /// A hit whose call need not wait for the answer of the one before.
    HitOverlapping,
}

impl System {
    pub fn name(self) -> &'static str {
        match self {
            Self::Ringlane => crate::report::OURS,
            Self::Hashbrown => "hashbrown",
            Self::Papaya => "papaya",
            Self::Dashmap => "dashmap",
            Self::Rwlock => "rwlock",
            Self::Lmdb => "lmdb",
            Self::LmdbLongTxn => "lmdb-long-txn",
            Self::Redb => "redb",
            Self::Redis => "redis",
            Self::Memcpy => "memcpy",
        }
    }

    /// What he is by himself; a long transaction is for reads, and a copy needs no key.
    pub fn does(self, op: Op) -> bool {
        match self {
            Self::LmdbLongTxn => op != Op::Set,
            Self::Memcpy => matches!(op, Op::Hit | Op::HitOverlapping),
            _ => true,
        }
    }

    /// Starts him, empty, for values of so many bytes.
    pub fn start(self, bytes: usize, scratch: &Scratch, machine: &Machine) -> Box<dyn Contestant> {
        match bytes {
            8 => self.start_with::<u64>(bytes, scratch, machine),
            _ => self.start_with::<Vec<u8>>(bytes, scratch, machine),
        }
    }

    fn start_with<P: Payload>(
        self,
        bytes: usize,
        scratch: &Scratch,
        machine: &Machine,
    ) -> Box<dyn Contestant>
    where
        ringlane::Ringlane: Map<P>,
    {
        match self {
            Self::Ringlane => self.seat::<P, _>(bytes, ringlane::Ringlane::create(scratch)),
            Self::Hashbrown => self.seat::<P, _>(bytes, in_process::Hashbrown::<P>::default()),
            Self::Papaya => self.seat::<P, _>(bytes, in_process::Papaya::<P>::default()),
            Self::Dashmap => self.seat::<P, _>(bytes, in_process::Dashmap::<P>::default()),
            Self::Rwlock => self.seat::<P, _>(bytes, in_process::Rwlock::<P>::default()),
            Self::Lmdb => self.seat::<P, _>(bytes, lmdb::Lmdb::create(scratch)),
            Self::LmdbLongTxn => self.seat::<P, _>(bytes, lmdb::LongTxn::create(scratch)),
            Self::Redb => self.seat::<P, _>(bytes, redb::Redb::create(scratch)),
            Self::Redis => self.seat::<P, _>(bytes, redis::Redis::start(scratch, machine)),
            Self::Memcpy => self.seat::<P, _>(bytes, memcpy::Memcpy::<P>::default()),
        }
    }

    fn seat<P: Payload, M: Map<P>>(self, bytes: usize, map: M) -> Box<dyn Contestant> {
        Box::new(Seat {
            system: self,
            bytes,
            map,
            payload: PhantomData,
        })
    }
}

/// A contestant that was started. Each key's value is that of the key's stamp throughout, so that
/// every answer can be checked.
pub trait Contestant: Send {
    fn system(&self) -> System;
    fn another(&self) -> Option<Box<dyn Contestant>>;
    /// Sets all keys, untimed.
    fn fill(&mut self, keys: &[Key]);
    /// Looks whether he answers rightly, after `fill`, before anything is timed.
    fn check(&mut self, present: &[Key], absent: &[Key]);
    /// How long it takes to do this once with each of `count` keys, from that one on, round and
    /// round. What the scheduler gave to others meanwhile does not count; for who waits for a
    /// server it must.
    fn time(&mut self, op: Op, keys: &[Key], from: usize, count: usize) -> Duration;
    /// Sets all keys, and watches how long each takes.
    fn insert_watched(&mut self, keys: &[Key]) -> Pauses;
    /// Sets keys, from that one on, round and round, until told to stop; gives how many.
    fn set_until(&mut self, stop: &AtomicBool, keys: &[Key], from: usize) -> usize;
    /// Gets keys, round and round, until told to stop; gives the nanoseconds of each call.
    fn get_until(&mut self, stop: &AtomicBool, keys: &[Key]) -> Vec<u32>;
}

struct Seat<P, M> {
    system: System,
    bytes: usize,
    map: M,
    payload: PhantomData<fn() -> P>,
}

impl<P: Payload, M: Map<P>> Seat<P, M> {
    fn value(&self, stamp: u64) -> P {
        P::stamped(self.bytes, stamp)
    }

    #[inline(always)]
    fn gets(&mut self, keys: &[Key], value: &mut P, between: impl Fn()) -> usize {
        let mut right = 0;
        for key in keys {
            between();
            let found = self.map.get(key, value);
            right += usize::from(found && value.read() == stamp_of(key));
        }
        right
    }

    #[inline(always)]
    fn misses(&mut self, keys: &[Key], value: &mut P) -> usize {
        let mut hits = 0;
        for key in keys {
            settle();
            hits += usize::from(self.map.get(key, value));
        }
        hits
    }

    #[inline(always)]
    fn sets(&mut self, keys: &[Key], value: &mut P, between: impl Fn()) -> usize {
        for key in keys {
            between();
            value.stamp(stamp_of(key));
            self.map.set(key, value);
        }
        0
    }

    fn expect(&mut self, key: &Key, expected: Option<u64>) {
        let mut out = self.value(0);
        let found = self.map.get(key, &mut out);
        let right = match expected {
            Some(stamp) => found && out == self.value(stamp),
            None => !found,
        };
        assert!(right, "{}: a wrong answer", self.system.name());
    }
}

impl<P: Payload, M: Map<P>> Contestant for Seat<P, M> {
    fn system(&self) -> System {
        self.system
    }

    fn another(&self) -> Option<Box<dyn Contestant>> {
        Some(self.system.seat(self.bytes, self.map.another()?))
    }

    fn fill(&mut self, keys: &[Key]) {
        let bytes = self.bytes;
        let entries = keys
            .iter()
            .map(|key| (*key, P::stamped(bytes, stamp_of(key))));
        self.map.fill(&mut { entries });
    }

    fn check(&mut self, present: &[Key], absent: &[Key]) {
        self.map.enter();
        for key in present {
            self.expect(key, Some(stamp_of(key)));
        }
        if self.system.does(Op::Miss) {
            absent.iter().for_each(|key| self.expect(key, None));
        }
        if self.system.does(Op::Set) {
            for key in present.iter().take(1000) {
                let (old, new) = (stamp_of(key), !stamp_of(key));
                for stamp in [new, old] {
                    let value = self.value(stamp);
                    self.map.set(key, &value);
                    self.expect(key, Some(stamp));
                }
            }
        }
        self.map.leave();
    }

    fn time(&mut self, op: Op, keys: &[Key], from: usize, count: usize) -> Duration {
        let mut value = self.value(0);
        let mut hits = 0;
        self.map.enter();
        let (clock, ran_before) = (Instant::now(), ran());
        for part in round_and_round(keys, from, count) {
            hits += match op {
                Op::Hit => self.gets(part, &mut value, settle),
                Op::HitOverlapping => self.gets(part, &mut value, || {}),
                Op::Miss => self.misses(part, &mut value),
                Op::Set => self.sets(part, &mut value, settle),
            };
        }
        let elapsed = match self.system {
            System::Redis => clock.elapsed(),
            _ => ran() - ran_before,
        };
        self.map.leave();
        let hits_due = match op {
            Op::Hit | Op::HitOverlapping => count,
            Op::Miss | Op::Set => 0,
        };
        assert!(hits == hits_due, "{}: wrong answers", self.system.name());
        elapsed
    }

    fn insert_watched(&mut self, keys: &[Key]) -> Pauses {
        let mut value = self.value(0);
        let mut left = keys.iter();
        watch(|| {
            let Some(key) = left.next() else {
                return false;
            };
            value.stamp(stamp_of(key));
            self.map.set(key, &value);
            true
        })
    }

    fn set_until(&mut self, stop: &AtomicBool, keys: &[Key], from: usize) -> usize {
        /// Between two looks at the flag.
        const SOME: usize = 64;
        let mut value = self.value(0);
        let mut done = 0;
        self.map.enter();
        while !stop.load(Relaxed) {
            for part in round_and_round(keys, from + done, SOME) {
                self.sets(part, &mut value, || {});
            }
            done += SOME;
        }
        self.map.leave();
        done
    }

    fn get_until(&mut self, stop: &AtomicBool, keys: &[Key]) -> Vec<u32> {
        let mut value = self.value(0);
        // Written to once, so that no call pays for its pages.
        let mut nanos = vec![1; 1 << 21];
        nanos.clear();
        self.map.enter();
        let mut before = Instant::now();
        for key in keys.iter().cycle() {
            if stop.load(Relaxed) || nanos.len() == nanos.capacity() {
                break;
            }
            let hit = self.map.get(key, &mut value) && value.read() == stamp_of(key);
            assert!(
                hit,
                "{}: a wrong answer beside a writer",
                self.system.name()
            );
            let now = Instant::now();
            nanos.push(u32::try_from((now - before).as_nanos()).unwrap_or(u32::MAX));
            before = now;
        }
        self.map.leave();
        nanos
    }
}

/// Waits until all calls before have ended: a program that needs one answer before it can ask for
/// the next has them one after another. Without it a processor works on several calls at once,
/// which hides most of what a short call takes.
#[inline(always)]
fn settle() {
    // SAFETY: the instruction waits, and touches neither memory nor registers.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        std::arch::asm!("lfence", options(nostack, preserves_flags));
    }
    // SAFETY: as above.
    #[cfg(target_arch = "aarch64")]
    unsafe {
        std::arch::asm!("dsb ld", "isb", options(nostack, preserves_flags));
    }
}

/// The stretches of `keys` that make up `count` of them from `from` on, the first behind the last.
fn round_and_round(keys: &[Key], from: usize, count: usize) -> impl Iterator<Item = &[Key]> {
    let (mut from, mut left) = (from % keys.len(), count);
    std::iter::from_fn(move || {
        let part = &keys[from..keys.len().min(from + left)];
        left -= part.len();
        from = (from + part.len()) % keys.len();
        (!part.is_empty()).then_some(part)
    })
}
