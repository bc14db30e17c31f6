//! Waiting: spin a little, then sleep on a futex word until rung. Waking: a look at one word, and a
//! system call only if someone sleeps.
//!
//! # Protocol
//! ```text
//! sleeper                                waker
//!   seen = rings                           commit (or release)
//!   parked |= PARKED                       light fence
//!   heavy fence                            parked & PARKED set?
//!   look again: something there? stay up     take the bit away
//!   futex wait while rings == seen           rings += 1
//!   parked &= !PARKED                        futex wake
//! ```
//! The waker that takes `PARKED` away is the one that rings, so a burst costs one system call.
//!
//! # Memory ordering
//! This is a store-load race on two words (the record's header and `parked`), so a full barrier is
//! needed between store and load on both sides: *if the sleeper's fence comes first, the waker sees
//! `PARKED`; if the waker's comes first, the sleeper's second look sees the record.* A full fence
//! in every send would halve the rate of small messages, so the sleeper, who is about to spend
//! microseconds anyway, pays for both: `membarrier` makes every thread of the waker's process pass
//! a barrier. It works only on processes that registered; which of them did stands in the role
//! word of each end, and is read after the sleeper's own store and fence, each time. An end that
//! comes later passes a full fence when it claims its role, before its first look.
//!
//! A side whose process could not register fences in each send. A sleeper that cannot issue the
//! barrier leaves `NEEDS_FENCE` in its word, so that wakers never find 0 there and always come to
//! take `PARKED` away. That is a read-modify-write, as setting it is, and of two such on one word one
//! comes first: *if the sleeper's, the waker reads `PARKED`; if the waker's (Release), the sleeper
//! reads what it left, and behind its fence the record.*
//!
//! What stays open is a waker killed, or held up, between taking `PARKED` away and waking. So nobody sleeps
//! longer than a [`SLICE`] at a time; slices that ran out although there was something to do are
//! counted, and while nobody is killed or held up there are none.

use crate::layout::{Bell, NEEDS_FENCE, PARKED, RingHeader};
use crate::sync::{Ordering::*, Step, fence, light_fence, without};
use core::time::Duration;

/// How long a waker that was interrupted between commit and ring may take to count as alive.
const ON_ITS_WAY: Duration = Duration::from_millis(10);
/// The longest anyone sleeps without looking around.
pub(crate) const SLICE: Duration = Duration::from_millis(100);

/// Wakes whoever sleeps on `bell`. Call it after what the sleeper waits for was stored.
///
/// `fences` says that this process is not registered for the asymmetric fence. Gives whether
/// someone was woken.
#[inline(always)]
pub(crate) fn ring(bell: &Bell, ring: &RingHeader, fences: bool) -> bool {
    if !without(Step::WakerFence) {
        if fences { fence(SeqCst) } else { light_fence() }
    }
    // Partner: the sleeper's store in `sleep`.
    let parked = bell.parked.load(Relaxed);
    parked != 0 && wake(bell, ring)
}

#[cold]
#[inline(never)]
fn wake(bell: &Bell, ring: &RingHeader) -> bool {
    let asleep = bell.parked.fetch_and(!PARKED, AcqRel) & PARKED != 0;
    if asleep {
        if !without(Step::BellBeforeWake) {
            bell.rings.change();
        }
        bell.rings.wake(1);
        ring.sleepers.wakes.fetch_add(1, Relaxed);
    }
    asleep
}

/// Wakes both sleepers of a ring, whatever they wait for, to look at the state of things.
pub(crate) fn announce(ring: &RingHeader) {
    // Release: whoever sees the count sees what was stored before; partner: `News::arrived`.
    ring.sleepers.news.fetch_add(1, Release);
    announce_to_sleepers(ring);
}

fn announce_to_sleepers(ring: &RingHeader) {
    for bell in [&ring.sleepers.consumer, &ring.sleepers.producer] {
        bell.parked.fetch_and(!PARKED, AcqRel);
        bell.rings.change();
        bell.rings.wake(u32::MAX >> 1);
    }
}

/// Remembers how much of what was announced has been looked at.
#[derive(Clone, Copy, Debug)]
pub(crate) struct News(u32);

impl News {
    /// Nothing looked at yet.
    pub(crate) fn none(ring: &RingHeader) -> Self {
        News(ring.sleepers.news.load(Relaxed).wrapping_sub(1))
    }

    /// Whether there is something new; takes note of it, so look *after* asking.
    #[inline(always)]
    pub(crate) fn arrived(&mut self, ring: &RingHeader) -> bool {
        let news = ring.sleepers.news.load(Acquire);
        let arrived = news != self.0;
        if arrived {
            self.0 = news;
        }
        arrived
    }

    /// Whether there is something new, without taking note of it.
    #[inline(always)]
    pub(crate) fn pending(self, ring: &RingHeader) -> bool {
        ring.sleepers.news.load(Acquire) != self.0
    }

    /// Has the next question answered with yes.
    pub(crate) fn forget(&mut self) {
        self.0 = self.0.wrapping_sub(1);
    }
}

/// How a sleep ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Slept {
    /// Not at all: the second look found what is waited for.
    Ready,
    /// Someone rang, or the sleep ended for no reason.
    Rung,
    /// The time ran out.
    TimedOut,
    /// The time ran out, although there was something that nobody rang for.
    Rescued,
}

/// Sleeps once, at most `timeout`, unless `ready`.
///
/// `they_are_registered` reads the other side's role word: whether our barrier reaches them.
pub(crate) fn sleep(
    bell: &Bell,
    timeout: Duration,
    they_are_registered: impl FnOnce() -> bool,
    mut ready: impl FnMut() -> bool,
) -> Slept {
    let seen = bell.rings.seen();
    // Partner: the waker's look in `ring`.
    bell.parked.fetch_or(PARKED, Relaxed);
    if !without(Step::SleeperFence) {
        fence(SeqCst);
        if they_are_registered() && !crate::sys::heavy_fence() {
            // Refused all of a sudden. From now on wakers fence; what this sleep misses, the
            // slice brings.
            bell.parked.fetch_or(NEEDS_FENCE, Relaxed);
        }
    }
    let slept = if !without(Step::SecondLook) && ready() {
        Slept::Ready
    } else if bell.rings.wait(seen, timeout) {
        Slept::Rung
    } else if ready() && bell.rings.seen() == seen {
        // `PARKED` still stands, so whoever made it ready rings, or was killed before it could. A
        // ring that is on its way is waited for.
        bell.rings.wait(seen, ON_ITS_WAY);
        if bell.rings.seen() == seen {
            Slept::Rescued
        } else {
            Slept::Rung
        }
    } else {
        Slept::TimedOut
    };
    bell.parked.fetch_and(!PARKED, Relaxed);
    slept
}

/// Spinning before a sleep, for as long as it lately paid.
///
/// A whole spin is somewhat longer than an answer takes from a process that has to be woken first
/// (two wake-ups, some 50 µs on a virtual machine). So an end that spins while its peer sleeps
/// catches the answer, and from then on both are awake. When spinning has failed a few times in a
/// row, most waits spin only for as long as an answer takes that is already on its way; every so
/// often one is whole, to notice that the traffic changed.
#[derive(Clone, Debug)]
#[cfg(not(loom))]
pub(crate) struct Spinner {
    spins: bool,
    failures: u32,
}

#[cfg(not(loom))]
impl Spinner {
    const WHOLE: Duration = Duration::from_micros(80);
    /// Pauses of a short spin, and between two looks at the clock of a whole one: about 1 µs.
    const SHORT: u32 = 64;
    const FAILURES: u32 = 4;
    const EVERY: u32 = 4;

    pub(crate) fn new(spins: bool) -> Self {
        Spinner { spins, failures: 0 }
    }

    /// Spins until `ready` or no longer worth it; says whether it was.
    pub(crate) fn spin(&mut self, ready: impl Fn() -> bool) -> bool {
        let caught = self.spins && self.try_spin(ready);
        self.failures = if caught {
            0
        } else {
            self.failures.wrapping_add(1)
        };
        caught
    }

    #[inline(always)]
    fn try_spin(&self, ready: impl Fn() -> bool) -> bool {
        let short = || {
            (0..Self::SHORT).any(|_| {
                core::hint::spin_loop();
                ready()
            })
        };
        if short() {
            return true;
        }
        if self.failures >= Self::FAILURES && self.failures % Self::EVERY != 0 {
            return false;
        }
        let start = std::time::Instant::now();
        loop {
            if short() {
                return true;
            }
            if start.elapsed() >= Self::WHOLE {
                return false;
            }
        }
    }
}

/// Falling behind on purpose, while it pays.
///
/// An end that follows the other closely meets it on every cache line: each line then crosses once
/// for every message on it, one after the other. An end that lets the other get ahead finds many
/// lines, which cross side by side. So when a receiver runs empty in the middle of a stream, or a
/// sender full, it first looks away for a while (a microsecond; less for a small ring, which would
/// run full, or empty, meanwhile).
///
/// Whether it is a stream is found out by trying: if what was there afterwards was more than a few
/// messages, it was worth it. If not, as in a dialogue, where nothing comes until we answer, the
/// next try is twice as many waits away.
#[derive(Clone, Debug)]
#[cfg(not(loom))]
pub(crate) struct Slip {
    pauses: u32,
    /// Messages counted at the last wait.
    counted: u64,
    /// Waits until the next try, and how many they were from the last.
    left: u32,
    distance: u32,
}

#[cfg(not(loom))]
impl Slip {
    const WORTH: u64 = 4;
    const FARTHEST: u32 = 1024;

    pub(crate) fn new(spins: bool, capacity: u64) -> Self {
        let pauses = (capacity >> 12).min(64) as u32;
        Slip {
            pauses: if spins { pauses } else { 0 },
            counted: 0,
            left: 0,
            distance: 1,
        }
    }

    /// To be called when there is nothing to do, with the number of messages so far.
    pub(crate) fn slip(&mut self, count: u64) {
        let run = count.wrapping_sub(self.counted);
        self.counted = count;
        if self.left == 0 {
            // The last wait was a try.
            let paid = run >= Self::WORTH;
            self.distance = if paid {
                1
            } else {
                (2 * self.distance).min(Self::FARTHEST)
            };
            self.left = self.distance;
        }
        self.left -= 1;
        if self.left == 0 {
            for _ in 0..self.pauses {
                core::hint::spin_loop();
            }
        }
    }
}

#[cfg(all(test, loom, not(shuttle)))]
mod models {
    use super::*;
    use crate::sync::{AtomicU64, run_without};
    // Not loom's: dropping that while a deadlock is being reported is a second panic.
    use loom::thread;
    use std::sync::Arc;

    struct Shared {
        ring: RingHeader,
        message: AtomicU64,
    }

    // One message, one sleeper, whose parked word was `parked`. A lost wake is a deadlock, which loom
    // reports.
    fn one_message_to(parked: u32) {
        loom::model(move || {
            let shared = Arc::new(Shared {
                ring: RingHeader::default(),
                message: AtomicU64::new(0),
            });
            let bell = &shared.ring.sleepers.consumer;
            bell.parked.store(parked, Relaxed);
            let theirs = shared.clone();
            let sender = thread::spawn(move || {
                theirs.message.store(1, Release);
                ring(&theirs.ring.sleepers.consumer, &theirs.ring, false);
            });
            let there = || shared.message.load(Acquire) == 1;
            while !there() {
                sleep(&shared.ring.sleepers.consumer, SLICE, || false, there);
            }
            sender.join().unwrap();
        });
    }

    fn one_message() {
        one_message_to(0);
    }

    #[test]
    fn no_wake_is_lost() {
        one_message();
        one_message_to(NEEDS_FENCE);
    }

    #[test]
    fn wakers_without_a_fence_see_a_sleeper_who_needs_one() {
        let to_one_who_needs_it = || one_message_to(NEEDS_FENCE);
        assert!(!run_without(Step::WakerFence, to_one_who_needs_it));
    }

    /// Something other than a message, which one sleeps for, while `tell` tells of it.
    fn news(tell: fn(&RingHeader)) {
        loom::model(move || {
            let shared = Arc::new(Shared {
                ring: RingHeader::default(),
                message: AtomicU64::new(0),
            });
            let theirs = shared.clone();
            let teller = thread::spawn(move || {
                theirs.message.store(1, Relaxed);
                tell(&theirs.ring);
            });
            let ring = &shared.ring;
            let mut news = News::none(ring);
            while !(news.arrived(ring) && shared.message.load(Relaxed) == 1) {
                let bell = &ring.sleepers.consumer;
                sleep(bell, SLICE, || false, || news.pending(ring));
            }
            teller.join().unwrap();
        });
    }

    #[test]
    fn news_are_seen_by_who_sleeps() {
        news(announce);
        let too_late = |ring: &RingHeader| {
            let bell = &ring.sleepers.consumer;
            bell.rings.change();
            bell.rings.wake(1);
            ring.sleepers.news.fetch_add(1, Release);
        };
        assert!(std::panic::catch_unwind(|| news(too_late)).is_err());
        // Not ordered behind what they are about.
        let unordered = |ring: &RingHeader| {
            ring.sleepers.news.fetch_add(1, Relaxed);
            announce_to_sleepers(ring);
        };
        assert!(std::panic::catch_unwind(|| news(unordered)).is_err());
    }

    #[test]
    fn each_step_is_needed() {
        for step in [
            Step::SleeperFence,
            Step::WakerFence,
            Step::SecondLook,
            Step::BellBeforeWake,
        ] {
            assert!(
                run_without(step, one_message),
                "the model does not notice the lack of {step:?}"
            );
        }
    }

    // Messages there and back: both sides sleep in turn on bells of their own.
    #[test]
    fn both_sides_sleep() {
        loom::model(|| {
            let shared = Arc::new(Shared {
                ring: RingHeader::default(),
                message: AtomicU64::new(0),
            });
            let theirs = shared.clone();
            let other = thread::spawn(move || {
                let asked = || theirs.message.load(Acquire) == 1;
                while !asked() {
                    sleep(&theirs.ring.sleepers.consumer, SLICE, || false, asked);
                }
                theirs.message.store(2, Release);
                ring(&theirs.ring.sleepers.producer, &theirs.ring, false);
            });
            shared.message.store(1, Release);
            ring(&shared.ring.sleepers.consumer, &shared.ring, false);
            let answered = || shared.message.load(Acquire) == 2;
            while !answered() {
                sleep(&shared.ring.sleepers.producer, SLICE, || false, answered);
            }
            other.join().unwrap();
        });
    }
}
