//! The interprocess mutex: one futex word that names its owner.
//!
//! ```text
//! lock word   waiters:1 | slot generation:23 | slot:8        0 = free
//! ```
//!
//! Taking it is one compare-exchange that writes the owner, so it is never held by nobody; giving
//! it back is one swap. A waiter sets the top bit and sleeps in slices. After each slice it asks
//! whether the owner is dead, by the roster's death rule and nothing else, and if so takes the
//! lock over by a compare-exchange of the very word it judged. A stopped owner is alive, and keeps
//! it.
//!
//! Whoever gets it by waiting keeps the top bit set: there may be others asleep, and the owner
//! that they would have been woken by may be dead. What a dead owner left half done is its
//! successor's to finish: `store::journal`.
//!
//! # Memory ordering
//! Acquire on taking, Release on giving back: who holds the lock sees all that earlier holders did.
//! A holder that was killed gave nothing back, but the kernel lets its token go only after its last
//! instruction, and the system call that finds the token free is ordered behind that.

use crate::layout::Holder;
use crate::sync::{Step, without};
use crate::sys::{self, Futex};
use core::time::Duration;
use std::time::Instant;

const WAITERS: u32 = 1 << 31;
/// The longest that a dead owner goes unnoticed.
const SLICE: Duration = Duration::from_millis(10);
/// Pauses of the processor before sleeping: longer than a small write takes even where a line takes
/// half a microsecond from one processor to the other.
const PAUSES: u32 = 512;
/// The most of them between two looks. Each look takes the line away from whoever is about to give
/// the lock back.
const APART: u32 = 64;

/// The word of `holder`. Never 0, since no generation in use is.
pub(crate) fn word_of(holder: Holder) -> u32 {
    (holder.generation & 0x7f_ffff) << 8 | u32::from(holder.slot)
}

/// Who holds the lock whose word was read, dead or alive.
pub(crate) fn owner(word: u32) -> Option<Holder> {
    (word & !WAITERS != 0).then_some(Holder {
        slot: word as u8,
        generation: (word >> 8) & 0x7f_ffff,
    })
}

/// Takes the lock for `me`, the [word](word_of) of a slot of ours, if it is free.
#[inline(always)]
pub(crate) fn try_take(lock: &Futex, me: u32) -> bool {
    lock.exchange(0, me)
}

/// Takes the lock for `me`, waiting for at most `timeout`. `is_alive` is the death rule.
///
/// # Errors
/// Who holds it, if time ran out.
#[cold]
#[inline(never)]
pub(crate) fn wait(
    lock: &Futex,
    me: u32,
    timeout: Duration,
    is_alive: impl Fn(Holder) -> bool,
) -> Result<(), Holder> {
    if sys::several_processors() {
        let (mut pauses, mut apart) = (0, 1);
        while pauses < PAUSES {
            (0..apart).for_each(|_| core::hint::spin_loop());
            if lock.seen() == 0 && lock.exchange(0, me) {
                return Ok(());
            }
            pauses += apart;
            apart = (2 * apart).min(APART);
        }
    }
    let start = Instant::now();
    let mine = if without(Step::StillWaiters) {
        me
    } else {
        me | WAITERS
    };
    // Each round lost was lost to another, or to somebody who scribbles, and time is looked at all
    // the same: a hundred when it is up are no coincidence.
    let mut late = 0;
    let mut lost = || {
        late += u32::from(start.elapsed() >= timeout);
        let holder = if late < 100 { None } else { owner(lock.seen()) };
        holder.map_or(Ok(()), Err)
    };
    loop {
        let seen = lock.seen();
        let Some(holder) = owner(seen) else {
            // Free. The bit alone is what somebody scribbled, and as good as free.
            if lock.exchange(seen, mine) {
                return Ok(());
            }
            lost()?;
            continue;
        };
        let marked = seen | WAITERS;
        if seen != marked && !lock.exchange(seen, marked) {
            lost()?;
            continue;
        }
        let left = timeout.saturating_sub(start.elapsed());
        if lock.wait(marked, left.min(SLICE)) {
            // Woken, or the word changed, or for no reason.
            if start.elapsed() < timeout {
                continue;
            }
        }
        // A slice passed, or time is up, and nobody gave it back when we last looked. Should it have
        // changed hands since, the exchange below fails.
        if !is_alive(holder) {
            let judged = if without(Step::JudgedWord) {
                lock.seen()
            } else {
                marked
            };
            if lock.exchange(judged, mine) {
                return Ok(());
            }
            lost()?;
            continue;
        }
        if start.elapsed() >= timeout {
            return Err(holder);
        }
    }
}

/// Gives the lock back, and wakes one who waits.
#[inline(always)]
pub(crate) fn give_back(lock: &Futex) {
    if lock.reset() & WAITERS != 0 {
        lock.wake(1);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::roster::Roster;
    use crate::sync::Ordering::{Acquire, Relaxed, Release};
    use std::cell::{Cell, UnsafeCell};
    use std::sync::Arc;
    use std::sync::atomic::AtomicBool;

    fn roster(test: &str) -> Arc<Roster> {
        let domain = format!("test-lock-{test}-{}", std::process::id());
        crate::roster::join(&domain, true).unwrap()
    }

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    #[allow(unsafe_code)]
    fn threads_exclude_each_other() {
        struct Shared(UnsafeCell<u64>);
        // SAFETY: touched under the lock only, which is what this test is about.
        unsafe impl Sync for Shared {}
        const ROUNDS: u64 = 20_000;
        let roster = roster("threads");
        let me = word_of(roster.me());
        let (lock, count) = (Futex::default(), Shared(UnsafeCell::new(0)));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    // The whole of it, not its one field.
                    let count = &count;
                    for _ in 0..ROUNDS {
                        if !try_take(&lock, me) {
                            wait(&lock, me, LONG, |holder| roster.is_alive(holder)).unwrap();
                        }
                        // SAFETY: we hold the lock.
                        unsafe { *count.0.get() += 1 };
                        give_back(&lock);
                    }
                });
            }
        });
        assert_eq!(count.0.into_inner(), 4 * ROUNDS);
        assert_eq!(lock.seen(), 0);
    }

    #[test]
    fn a_living_owner_is_not_robbed_and_is_named() {
        let roster = roster("living");
        let lock = Futex::default();
        let me = word_of(roster.me());
        assert!(try_take(&lock, me));
        for timeout in [0, 1, 25] {
            let timeout = Duration::from_millis(timeout);
            let start = Instant::now();
            let holder = wait(&lock, me, timeout, |holder| roster.is_alive(holder));
            assert_eq!(holder, Err(roster.me()));
            assert!(start.elapsed() >= timeout);
            assert_eq!(lock.seen() & !WAITERS, me);
        }
        give_back(&lock);
        assert!(try_take(&lock, me));
    }

    #[test]
    fn whatever_names_nobody_alive_is_taken_over() {
        let roster = roster("nobody");
        let lock = Futex::default();
        let mine = roster.me();
        let me = word_of(mine);
        let earlier = Holder {
            generation: mine.generation.wrapping_sub(1) & 0x7f_ffff,
            ..mine
        };
        let words = [
            word_of(earlier),
            WAITERS,
            WAITERS | word_of(earlier),
            0x7fff_ffff,
            u32::MAX,
        ];
        for word in words {
            lock.word().store(word, Relaxed);
            // It is asked when a slice is over.
            let slices = Cell::new(0);
            let is_alive = |holder| {
                slices.set(slices.get() + 1);
                roster.is_alive(holder)
            };
            if !try_take(&lock, me) {
                wait(&lock, me, LONG, is_alive).unwrap();
            }
            assert_eq!(slices.get(), i32::from(owner(word).is_some()), "{word:#x}");
            // Others may have slept on a dead owner, and nobody else would wake them.
            assert_eq!(lock.seen(), me | WAITERS, "after {word:#x}");
            give_back(&lock);
            assert_eq!(lock.seen(), 0);
        }
    }

    // Else a dead owner would go unnoticed where signals come quicker than slices end.
    #[test]
    #[allow(unsafe_code)]
    fn signals_do_not_end_a_slice() {
        let caught = Arc::new(AtomicBool::new(false));
        let handler = signal_hook::flag::register(libc::SIGUSR2, caught.clone()).unwrap();
        let (word, slice) = (Futex::default(), 10 * SLICE);
        let is_over = AtomicBool::new(false);
        // SAFETY: no more than a question.
        let sleeper = unsafe { libc::pthread_self() };
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !is_over.load(Relaxed) {
                    std::thread::sleep(SLICE / 10);
                    // SAFETY: that thread waits for this one to end.
                    unsafe { libc::pthread_kill(sleeper, libc::SIGUSR2) };
                }
            });
            let start = Instant::now();
            let woken = word.wait(0, slice);
            is_over.store(true, Relaxed);
            assert!(!woken && start.elapsed() >= slice);
        });
        signal_hook::low_level::unregister(handler);
        assert!(caught.load(Relaxed), "there was no signal");
    }

    /// What taking and giving back cost, beside the two instructions that they cannot do without.
    #[test]
    #[ignore = "a measurement: cargo test --release --lib lock::tests::cost -- --ignored --nocapture"]
    fn cost() {
        const TURNS: u32 = 1_000_000;
        let roster = roster("cost");
        let me = word_of(roster.me());
        let (lock, bare) = (Futex::default(), Futex::default());
        let time = |f: &dyn Fn()| {
            let start = Instant::now();
            f();
            start.elapsed().as_secs_f64() * 1e9 / f64::from(TURNS)
        };
        let mut rounds: Vec<(f64, f64)> = Vec::new();
        for _ in 0..15 {
            let locked = time(&|| {
                for _ in 0..TURNS {
                    let lock = core::hint::black_box(&lock);
                    if !try_take(lock, me) {
                        wait(lock, me, LONG, |holder| roster.is_alive(holder)).unwrap();
                    }
                    give_back(lock);
                }
            });
            let two = time(&|| {
                for _ in 0..TURNS {
                    let word = core::hint::black_box(&bare).word();
                    let _ = core::hint::black_box(word.compare_exchange(0, me, Acquire, Relaxed));
                    core::hint::black_box(word.swap(0, Release));
                }
            });
            rounds.push((locked, two));
        }
        rounds.sort_by(|a, b| (a.0 / a.1).total_cmp(&(b.0 / b.1)));
        let (locked, two) = rounds[rounds.len() / 2];
        println!(
            "lock and unlock {locked:.1} ns, compare-exchange and swap {two:.1} ns: {:.2} x",
            locked / two
        );
    }
}

#[cfg(all(test, loom, not(shuttle)))]
mod models {
    use super::*;
    use crate::sync::run_without;
    use loom::cell::UnsafeCell;
    use loom::thread;
    use std::sync::Arc;

    const DEAD: u32 = 1;

    struct Shared {
        lock: Futex,
        /// Loom checks that accesses to it exclude each other.
        guarded: UnsafeCell<u32>,
    }

    // SAFETY: as above.
    #[allow(unsafe_code)]
    unsafe impl Sync for Shared {}
    // SAFETY: as above.
    #[allow(unsafe_code)]
    unsafe impl Send for Shared {}

    impl Shared {
        fn change(&self, me: u32, timeout: Duration) {
            let is_alive = |holder| owner(DEAD) != Some(holder);
            if !try_take(&self.lock, me) {
                while wait(&self.lock, me, timeout, is_alive).is_err() {}
            }
            self.guarded.with_mut(|_| ());
            give_back(&self.lock);
        }
    }

    /// As many processes take the lock once.
    fn model(processes: u32, dead: bool) {
        loom::model(move || {
            let shared = Arc::new(Shared {
                lock: Futex::default(),
                guarded: UnsafeCell::new(0),
            });
            let timeout = if dead {
                assert!(try_take(&shared.lock, DEAD));
                Duration::ZERO
            } else {
                Duration::MAX
            };
            let others: Vec<_> = (2..processes + 1)
                .map(|me| {
                    let shared = shared.clone();
                    thread::spawn(move || shared.change(me, timeout))
                })
                .collect();
            shared.change(processes + 1, timeout);
            for other in others {
                other.join().unwrap();
            }
        });
    }

    #[test]
    fn processes_exclude_each_other_and_no_wake_is_lost() {
        model(2, false);
        model(3, false);
    }

    #[test]
    fn one_of_several_takes_over_from_the_dead() {
        model(2, true);
    }

    #[test]
    fn each_step_is_needed() {
        for step in [Step::TakeAcquire, Step::GiveRelease, Step::StillWaiters] {
            assert!(run_without(step, || model(3, false)), "{step:?}");
        }
        assert!(run_without(Step::JudgedWord, || model(2, true)));
    }
}
