//! A futex for the model checkers: a word, and a queue beside it. The queue's lock is std's, because
//! they run one thread at a time and switch only at their own operations, of which none is made
//! while it is held.

use crate::sync::thread::{Thread, current, park, yield_now};
use crate::sync::{AtomicU32, Ordering::*, Step, ordered};
use core::time::Duration;
use std::sync::Mutex;

#[derive(Debug, Default)]
pub(crate) struct Futex {
    word: AtomicU32,
    queue: Mutex<Queue>,
}

#[derive(Debug, Default)]
struct Queue {
    /// The newest value of the word, which is what the kernel compares with.
    newest: u32,
    sleepers: Vec<Thread>,
}

impl Futex {
    pub(crate) fn seen(&self) -> u32 {
        self.word.load(Relaxed)
    }

    pub(crate) fn change(&self) {
        self.add(1);
    }

    pub(crate) fn add(&self, by: u32) -> u32 {
        let old = self.word.fetch_add(by, ordered(Step::RingRelease, Release));
        self.queue.lock().unwrap().newest = old + by;
        old
    }

    pub(crate) fn set(&self, bits: u32) -> u32 {
        let old = self
            .word
            .fetch_or(bits, ordered(Step::SleepAcquire, AcqRel));
        self.queue.lock().unwrap().newest = old | bits;
        old
    }

    pub(crate) fn exchange(&self, from: u32, to: u32) -> bool {
        let acquire = ordered(Step::TakeAcquire, Acquire);
        let taken = self.word.compare_exchange(from, to, acquire, Relaxed);
        if taken.is_ok() {
            self.queue.lock().unwrap().newest = to;
        }
        taken.is_ok()
    }

    pub(crate) fn reset(&self) -> u32 {
        let old = self.word.swap(0, ordered(Step::GiveRelease, Release));
        self.queue.lock().unwrap().newest = 0;
        old
    }

    pub(crate) fn clear(&self, bits: u32) {
        let old = self.word.fetch_and(!bits, Relaxed);
        self.queue.lock().unwrap().newest = old & !bits;
    }

    /// Without a timeout: a lost wake is a deadlock, which is reported. But time that is up
    /// already is.
    pub(crate) fn wait(&self, seen: u32, timeout: Duration) -> bool {
        if timeout.is_zero() {
            yield_now();
            return false;
        }
        // A place to switch, between the caller's second look and the sleep. The kernel
        // looks at the newest value, so the caller sees none that is older afterwards.
        self.word.fetch_or(0, Relaxed);
        {
            let mut queue = self.queue.lock().unwrap();
            if queue.newest != seen {
                return true;
            }
            queue.sleepers.push(current());
        }
        // Shuttle ends some for no reason, but who is in the queue would be woken in vain.
        while self.is_queued(current()) {
            park();
        }
        true
    }

    fn is_queued(&self, thread: Thread) -> bool {
        let sleepers = &self.queue.lock().unwrap().sleepers;
        sleepers.iter().any(|sleeper| sleeper.id() == thread.id())
    }

    pub(crate) fn wake(&self, count: u32) {
        self.word.load(Relaxed);
        let sleepers: Vec<_> = {
            let sleepers = &mut self.queue.lock().unwrap().sleepers;
            let count = sleepers.len().min(count as usize);
            sleepers.drain(..count).collect()
        };
        sleepers.into_iter().for_each(|thread| thread.unpark());
    }
}

pub(crate) fn heavy_fence() -> bool {
    crate::sync::fence(SeqCst);
    true
}

/// Nobody spins in a model.
pub(crate) fn several_processors() -> bool {
    false
}
