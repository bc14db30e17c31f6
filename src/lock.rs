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

use crate::error::{Error, Result};
use crate::roster::{Holder, Roster};
use crate::sync::Ordering::{Acquire, Relaxed, Release};
use crate::sys::{self, Futex};
use core::time::Duration;
use std::time::Instant;

const WAITERS: u32 = 1 << 31;
/// The longest that a dead owner goes unnoticed.
const SLICE: Duration = Duration::from_millis(10);
/// Looks at a held lock before sleeping: about as long as a small write takes.
const LOOKS: u32 = 100;

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
    let taken = lock.word().compare_exchange(0, me, Acquire, Relaxed);
    taken.is_ok()
}

/// Takes the lock for `me`, waiting for at most `timeout`.
///
/// # Errors
/// `LockTimeout`, naming the process that holds it.
#[cold]
#[inline(never)]
pub(crate) fn wait(lock: &Futex, me: u32, roster: &Roster, timeout: Duration) -> Result<()> {
    let word = lock.word();
    let take_free = |mine| word.compare_exchange(0, mine, Acquire, Relaxed).is_ok();
    if sys::several_processors() {
        for _ in 0..LOOKS {
            core::hint::spin_loop();
            if word.load(Relaxed) == 0 && take_free(me) {
                return Ok(());
            }
        }
    }
    let start = Instant::now();
    let mine = me | WAITERS;
    loop {
        let seen = word.load(Relaxed);
        if seen & !WAITERS == 0 {
            // Free. The bit alone is what somebody scribbled, and as good as free.
            if word.compare_exchange(seen, mine, Acquire, Relaxed).is_ok() {
                return Ok(());
            }
            continue;
        }
        let marked = seen | WAITERS;
        if seen != marked
            && word
                .compare_exchange(seen, marked, Relaxed, Relaxed)
                .is_err()
        {
            continue;
        }
        let left = timeout.saturating_sub(start.elapsed());
        if lock.wait(marked, left.min(SLICE)) {
            // Woken, or the word changed, or for no reason. Time is looked at all the same, lest
            // others be quicker for ever.
            if start.elapsed() < timeout {
                continue;
            }
        }
        // A slice passed, and the same owner held it all along.
        let Some(holder) = owner(marked) else {
            continue;
        };
        if !roster.is_alive(holder) {
            if word
                .compare_exchange(marked, mine, Acquire, Relaxed)
                .is_ok()
            {
                return Ok(());
            }
            continue;
        }
        if start.elapsed() >= timeout {
            let pid = roster.pid_of(holder);
            return Err(Error::LockTimeout { pid });
        }
    }
}

/// Gives the lock back, and wakes one who waits.
#[inline(always)]
pub(crate) fn give_back(lock: &Futex) {
    if lock.word().swap(0, Release) & WAITERS != 0 {
        lock.wake(1);
    }
}
