//! Tests that make up millions of cases. The library's own tests use this file too.
#![allow(dead_code)]

use super::random::Random;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::Duration;

/// So long only a hang takes.
const PATIENCE: Duration = Duration::from_secs(20);

/// Counts the cases of a test. If one hangs, aborts the process, and says which case it was; a panic
/// says so too. Each is made of the ones before it and the seed.
pub struct Cases {
    now: Arc<AtomicUsize>,
    _done: Sender<()>,
}

impl Cases {
    pub fn new(test: &'static str) -> Cases {
        let now = Arc::new(AtomicUsize::new(0));
        let theirs = now.clone();
        let (done, dropped) = channel();
        std::thread::spawn(move || {
            let mut before = usize::MAX;
            while dropped.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout) {
                let case = theirs.load(Relaxed);
                if case == before {
                    let text = format!("\nWATCHDOG: {test}: case {case} hangs\n");
                    // Not `eprintln`, whose output is captured, and lost by the abort.
                    let _ = rustix::io::write(rustix::stdio::stderr(), text.as_bytes());
                    std::process::abort();
                }
                before = case;
            }
        });
        Cases { now, _done: done }
    }

    /// The next case begins.
    pub fn begin(&self) {
        self.now.store(self.count() + 1, Relaxed);
    }

    pub fn count(&self) -> usize {
        self.now.load(Relaxed)
    }
}

impl Drop for Cases {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("in case {}", self.count());
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
