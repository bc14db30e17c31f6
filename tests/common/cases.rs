//! Tests that make up millions of cases. The library's own tests use this file too.
#![allow(dead_code)]

use super::random::{Random, printed};
use rustix::time::{ClockId, clock_gettime};
use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

/// So long only a hang takes.
const PATIENCE: Duration = Duration::from_secs(20);
/// What a case may take of a processor. How long it waits for one is not its fault.
const BUDGET: Duration = Duration::from_secs(1);
/// How often it is asked for, since that is a system call.
const LOOK: Duration = Duration::from_millis(50);

/// What this thread took of a processor so far.
fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Does what is to be done within a second of this thread.
#[track_caller]
pub fn in_time<T>(what: &str, act: impl FnOnce() -> T) -> T {
    let before = processor_time();
    let outcome = act();
    let took = processor_time() - before;
    assert!(took < BUDGET, "{what}: {took:?} of a processor");
    outcome
}

/// Counts the cases of a test, which one thread goes through. If one takes more than a second of it,
/// panics; if it hangs otherwise, aborts the process; both say which case it was. Each is made of the
/// ones before it and the seed.
pub struct Cases {
    test: &'static str,
    now: Arc<AtomicUsize>,
    /// When this last asked what the thread took, and that.
    looked: Cell<(Instant, Duration)>,
    _done: Sender<()>,
}

impl Cases {
    pub fn new(test: &'static str) -> Cases {
        let now = Arc::new(AtomicUsize::new(0));
        let theirs = now.clone();
        let seed = printed();
        let (done, dropped) = channel();
        std::thread::spawn(move || {
            let mut before = usize::MAX;
            while dropped.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout) {
                let case = theirs.load(Relaxed);
                if case == before {
                    let text = format!("\nWATCHDOG: {test}: case {case} hangs, {seed}\n");
                    // Not `eprintln`, whose output is captured, and lost by the abort.
                    let _ = rustix::io::write(rustix::stdio::stderr(), text.as_bytes());
                    std::process::abort();
                }
                before = case;
            }
        });
        Cases {
            test,
            now,
            looked: Cell::new((Instant::now(), processor_time())),
            _done: done,
        }
    }

    /// The next case begins.
    #[track_caller]
    pub fn begin(&self) {
        self.look();
        self.now.store(self.count() + 1, Relaxed);
    }

    /// Does the next case.
    #[track_caller]
    pub fn play<T>(&self, case: impl FnOnce() -> T) -> T {
        self.begin();
        in_time(self.test, case)
    }

    pub fn count(&self) -> usize {
        self.now.load(Relaxed)
    }

    #[track_caller]
    fn look(&self) {
        let (last, before) = self.looked.get();
        let now = Instant::now();
        if now - last < LOOK {
            return;
        }
        let time = processor_time();
        // All but the last of the cases since then began within LOOK.
        let took = time - before;
        assert!(
            took < BUDGET + LOOK,
            "{}: {took:?} of a processor",
            self.test
        );
        self.looked.set((now, time));
    }
}

impl Drop for Cases {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("in case {}, {}", self.count(), printed());
        } else {
            self.look();
        }
    }
}

/// What a word that was `old` may become, whatever it means; `other` is what another word is.
pub fn mutated(random: &mut Random, old: u64, other: u64) -> u64 {
    match random.below(10) {
        0 => 0,
        1 => 1,
        2 => u64::MAX,
        3 => old.wrapping_add(8),
        4 => old.wrapping_sub(8),
        5 => old.rotate_left(32),
        6 => other,
        7 => random.next(),
        _ => old ^ 1 << random.below(64),
    }
}
