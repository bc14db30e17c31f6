//! The words that watchers sleep on.
//!
//! The low bit of a word says that somebody sleeps, the rest counts changes. A writer makes its
//! change, counts it, and if it saw the bit, takes it away and wakes. A watcher sets the bit, looks
//! again at what it watches, and sleeps while the word is what it saw.
//!
//! Both set the word by a read-modify-write, so one comes first. *If it is the watcher's, the
//! writer sees the bit and wakes; if it is the writer's, the watcher's second look sees the
//! change.* The word is changed before the wake, so that who is about to sleep does not.
//!
//! A writer killed before it woke leaves sleepers without the bit. Whoever finishes its commit
//! wakes without looking for it.

use crate::sync::{Step, without};
use crate::sys::Futex;
use core::time::Duration;

const ASLEEP: u32 = 1;
const ONE_CHANGE: u32 = 2;
/// As many as there are: the kernel takes it for a signed number.
const ALL: u32 = u32::MAX >> 1;

/// Wakes who sleeps on `word`. Call it after what they watch was changed.
#[inline(never)]
pub(super) fn ring(word: &Futex) {
    // Release: who sees the count sees the change; partner: the watcher's `set`.
    if word.add(ONE_CHANGE) & ASLEEP != 0 {
        word.clear(ASLEEP);
        word.wake(ALL);
    }
}

/// The same in place of somebody who may have been killed while ringing.
#[cold]
pub(super) fn ring_for_another(word: &Futex) {
    word.add(ONE_CHANGE);
    word.clear(ASLEEP);
    word.wake(ALL);
}

/// Sleeps once, at most `timeout`, unless what is watched has `changed`. `false` if the time ran
/// out.
pub(super) fn sleep<E>(
    word: &Futex,
    timeout: Duration,
    changed: impl FnOnce() -> Result<bool, E>,
) -> Result<bool, E> {
    let seen = word.set(ASLEEP) | ASLEEP;
    Ok((!without(Step::SecondLook) && changed()?) || word.wait(seen, timeout))
}

#[cfg(all(test, loom, not(shuttle)))]
mod models {
    use super::*;
    use crate::sync::{AtomicU64, Ordering::*, run_without};
    use core::convert::Infallible;
    use loom::thread;
    use std::sync::Arc;

    #[derive(Default)]
    struct Shared {
        word: Futex,
        watched: AtomicU64,
    }

    impl Shared {
        fn is_changed(&self) -> Result<bool, Infallible> {
            Ok(self.watched.load(Relaxed) == 1)
        }

        /// Sleeps until it is changed. A lost wake is a deadlock, which loom reports.
        fn watch(&self) {
            while !self.is_changed().unwrap() {
                sleep(&self.word, Duration::MAX, || self.is_changed()).unwrap();
            }
        }
    }

    /// `write` beside as many watchers.
    fn model(watchers: usize, write: fn(&Shared)) {
        loom::model(move || {
            let shared = Arc::new(Shared::default());
            let sleepers = [0; 2].map(|_| shared.clone());
            let sleepers = sleepers.into_iter().take(watchers);
            let sleepers: Vec<_> = sleepers
                .map(|shared| thread::spawn(move || shared.watch()))
                .collect();
            write(&shared);
            for sleeper in sleepers {
                sleeper.join().unwrap();
            }
        });
    }

    fn change_and_ring(shared: &Shared) {
        shared.watched.store(1, Relaxed);
        ring(&shared.word);
    }

    #[test]
    fn no_wake_is_lost() {
        model(1, change_and_ring);
        model(2, change_and_ring);
    }

    #[test]
    fn each_step_is_needed() {
        for step in [Step::SecondLook, Step::RingRelease, Step::SleepAcquire] {
            assert!(run_without(step, || model(1, change_and_ring)), "{step:?}");
        }
        let fails = |write: fn(&Shared)| std::panic::catch_unwind(|| model(1, write)).is_err();
        // Ringing before the change.
        assert!(fails(|shared| {
            ring(&shared.word);
            shared.watched.store(1, Relaxed);
        }));
        // Waking without a change of the word.
        assert!(fails(|shared| {
            shared.watched.store(1, Relaxed);
            shared.word.wake(ALL);
        }));
    }

    /// What a writer does that is killed before it wakes.
    fn change_and_die(shared: &Shared) {
        shared.watched.store(1, Relaxed);
        shared.word.add(ONE_CHANGE);
        shared.word.clear(ASLEEP);
    }

    #[test]
    fn a_successor_wakes_for_a_killed_writer() {
        model(1, |shared| {
            change_and_die(shared);
            ring_for_another(&shared.word);
        });
        let fails = std::panic::catch_unwind(|| {
            model(1, |shared| {
                change_and_die(shared);
                ring(&shared.word);
            });
        });
        assert!(fails.is_err(), "it must not go by the bit");
    }
}
