//! The longest of many short calls, and how much of it is the scheduler's doing.
//!
//! A thread that is taken off its CPU in the middle of a call makes that call long. The kernel
//! counts the time that a thread ran; a call that was long by the clock and not by that count was
//! interrupted. What a hypervisor takes away is in neither count: for that there is a loop that
//! does nothing but watch the clock, just as long, in the same round.

use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

/// Calls from this length on are looked at closely.
const LONG: Duration = Duration::from_micros(30);
/// Calls between two looks at how long the thread ran.
const CHECKPOINT: usize = 1000;
/// What no insert should take.
pub const LIMIT: Duration = Duration::from_micros(250);

#[derive(Clone, Copy, Debug, Default)]
pub struct Pauses {
    /// The longest call, by the clock.
    pub longest: Duration,
    /// The longest without the time that its thread did not run.
    pub running: Duration,
    /// Calls beyond the limit, by the clock and without that time.
    pub beyond: usize,
    pub beyond_running: usize,
    /// All of it.
    pub total: Duration,
}

/// Watches calls until one says that it was none.
pub fn watch(mut call: impl FnMut() -> bool) -> Pauses {
    let start = Instant::now();
    let mut pauses = Pauses::default();
    let mut checkpoint = (start, ran());
    let mut before = start;
    let mut calls = 0;
    while call() {
        let now = Instant::now();
        let length = now - before;
        calls += 1;
        if length >= LONG {
            let ran = ran();
            let stopped = (now - checkpoint.0).saturating_sub(ran - checkpoint.1);
            pauses.note(length, length.saturating_sub(stopped));
        }
        before = now;
        if length >= LONG || calls % CHECKPOINT == 0 {
            before = Instant::now();
            checkpoint = (before, ran());
        }
    }
    pauses.total = start.elapsed();
    pauses
}

/// The same of a loop that does nothing, for as long.
pub fn watch_the_clock(total: Duration) -> Pauses {
    let end = Instant::now() + total;
    watch(|| Instant::now() < end)
}

impl Pauses {
    fn note(&mut self, length: Duration, running: Duration) {
        self.longest = self.longest.max(length);
        self.running = self.running.max(running);
        self.beyond += usize::from(length > LIMIT);
        self.beyond_running += usize::from(running > LIMIT);
    }
}

/// How long this thread was on a CPU.
pub fn ran() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}
