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
//! barrier leaves `NEEDS_FENCE` in its word, and wakers that read it fence and look again.
//!
//! What stays open is a waker killed between taking `PARKED` away and waking. So nobody sleeps
//! longer than a [`SLICE`] at a time; slices that ran out although there was something to do are
//! counted, and without kills there are none.

use crate::layout::{Bell, NEEDS_FENCE, PARKED, RingHeader};
use crate::sync::{Ordering::*, Step, fence, light_fence, without};
use core::time::Duration;

/// The longest anyone sleeps without looking around.
pub(crate) const SLICE: Duration = Duration::from_millis(100);

/// Wakes whoever sleeps on `bell`. Call it after what the sleeper waits for was stored.
///
/// `fences` says that this process is not registered for the asymmetric fence.
#[inline(always)]
pub(crate) fn ring(bell: &Bell, ring: &RingHeader, fences: bool) {
    if !without(Step::WakerFence) {
        if fences { fence(SeqCst) } else { light_fence() }
    }
    // Partner: the sleeper's store in `sleep`.
    let parked = bell.parked.load(Relaxed);
    if parked != 0 {
        wake(bell, ring, parked);
    }
}

#[cold]
#[inline(never)]
fn wake(bell: &Bell, ring: &RingHeader, parked: u32) {
    if parked & NEEDS_FENCE != 0 {
        fence(SeqCst);
    }
    if bell.parked.fetch_and(!PARKED, AcqRel) & PARKED != 0 {
        if !without(Step::BellBeforeWake) {
            bell.rings.change();
        }
        bell.rings.wake(1);
        ring.sleepers.wakes.fetch_add(1, Relaxed);
    }
}

/// Wakes both sleepers of a ring, whatever they wait for, to look at the state of things.
pub(crate) fn announce(ring: &RingHeader) {
    // Release: whoever sees the count sees what was stored before; partner: `News::arrived`.
    ring.sleepers.news.fetch_add(1, Release);
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
    pub(crate) fn arrived(&mut self, ring: &RingHeader) -> bool {
        let news = ring.sleepers.news.load(Acquire);
        core::mem::replace(&mut self.0, news) != news
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
    } else {
        Slept::TimedOut
    };
    bell.parked.fetch_and(!PARKED, Relaxed);
    slept
}

/// Whether a sleep whose slice ran out, and which found something to do, was owed a ring that
/// never came. A ring that is just on its way is waited for a moment.
#[cfg(not(loom))]
pub(crate) fn was_rescued(bell: &Bell, mut ready: impl FnMut() -> bool) -> bool {
    const ON_ITS_WAY: Duration = Duration::from_millis(10);
    let seen = bell.rings.seen();
    bell.parked.fetch_or(PARKED, Relaxed);
    fence(SeqCst);
    debug_assert!(ready());
    bell.rings.wait(seen, ON_ITS_WAY);
    bell.parked.fetch_and(!PARKED, Relaxed) & PARKED != 0
}

/// Spinning before a sleep, for as long as it lately paid.
#[derive(Clone, Debug)]
pub(crate) struct Spinner {
    limit: u32,
    most: u32,
}

impl Spinner {
    /// About as long as a wake-up takes on a virtual machine: then sleeping costs at most twice
    /// what knowing the future would have cost.
    const MOST: u32 = 2_000;
    /// Enough for an answer that is already on its way between two cores.
    const LEAST: u32 = 64;

    /// `most` 0: never spins.
    pub(crate) fn new(spins: bool) -> Self {
        let most = if spins { Self::MOST } else { 0 };
        Spinner { limit: most, most }
    }

    /// Spins until `ready` or no longer worth it; says whether it was.
    #[inline(always)]
    pub(crate) fn spin(&mut self, mut ready: impl FnMut() -> bool) -> bool {
        for _ in 0..self.limit {
            if ready() {
                self.limit = self.most.min(self.limit + self.limit / 2);
                return true;
            }
            core::hint::spin_loop();
        }
        self.limit = self.most.min(Self::LEAST.max(self.limit / 2));
        false
    }
}

#[cfg(all(test, loom))]
mod models {
    use super::*;
    use crate::sync::{AtomicU64, run_without};
    // Not loom's: dropping that while a deadlock is being reported is a second panic.
    use std::sync::Arc;
    use loom::thread;

    struct Shared {
        ring: RingHeader,
        message: AtomicU64,
    }

    // One message, one sleeper. A lost wake is a deadlock, which loom reports.
    fn one_message() {
        loom::model(|| {
            let shared = Arc::new(Shared { ring: RingHeader::default(), message: AtomicU64::new(0) });
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

    #[test]
    fn no_wake_is_lost() {
        one_message();
    }

    #[test]
    fn each_step_is_needed() {
        for step in
            [Step::SleeperFence, Step::WakerFence, Step::SecondLook, Step::BellBeforeWake]
        {
            assert!(run_without(step, one_message), "the model does not notice the lack of {step:?}");
        }
    }

    // Messages there and back: both sides sleep in turn on bells of their own.
    #[test]
    fn both_sides_sleep() {
        loom::model(|| {
            let shared = Arc::new(Shared { ring: RingHeader::default(), message: AtomicU64::new(0) });
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
