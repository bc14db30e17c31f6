//! The store-load race of `doorbell`, between two processes.

use super::*;
use crate::common::tally::{scale, skip, tally};
use crate::sync::{AtomicU64, Ordering::*, light_fence};
use std::time::{Duration, Instant};

/// One side's words, each on a line of its own.
#[repr(C, align(128))]
struct Side {
    arrived: AtomicU64,
    stored: AtomicU64,
    seen: AtomicU64,
}

/// Waits until `word` is at least `round`, leaving the processor to others now and then.
fn wait(word: &AtomicU64, round: u64) {
    let mut spins = 0u32;
    while word.load(Acquire) < round {
        spins += 1;
        if spins % (1 << 12) == 0 {
            rustix::thread::sched_yield();
        }
    }
}

/// One round: both store, pass their fence, and load what the other stored.
fn store_and_load(mine: &Side, theirs: &Side, round: u64, fence: impl Fn()) {
    mine.arrived.store(round, Release);
    wait(&theirs.arrived, round);
    mine.stored.store(round, Relaxed);
    fence();
    mine.seen.store(theirs.stored.load(Relaxed), Release);
    // Nobody begins the next round before both are done with this one.
    mine.arrived.store(round + 1, Release);
    wait(&theirs.arrived, round + 1);
}

/// Plays `rounds` with a forked process, or until one went wrong, or time is up. Wrong is that
/// neither side saw the other's store; gives whether one was.
fn any_wrong(rounds: u64, limit: Duration, sleeper: impl Fn()) -> bool {
    let start = Instant::now();
    let len = 4096;
    // SAFETY: a new shared mapping; it is unmapped below, after its last use.
    let page = unsafe {
        libc::mmap(
            core::ptr::null_mut(),
            len,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_SHARED | libc::MAP_ANONYMOUS,
            -1,
            0,
        )
    };
    assert_ne!(page, libc::MAP_FAILED);
    // SAFETY: the page is large enough for three lines, zeroed, and only atomics refer to it.
    let (a, b, stop) = unsafe {
        let sides = page.cast::<Side>();
        (&*sides, &*sides.add(1), &(*sides.add(2)).stored)
    };
    // SAFETY: the child only touches the page and leaves by `_exit`.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0);
    if pid == 0 {
        // A parent that fails must not leave us spinning.
        let _ =
            rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL));
    }
    let mut wrong = false;
    for round in (0..rounds).map(|r| 2 * r + 1) {
        if pid == 0 {
            store_and_load(b, a, round, light_fence);
        } else {
            store_and_load(a, b, round, &sleeper);
            wrong = a.seen.load(Relaxed) < round && b.seen.load(Acquire) < round;
            if wrong || start.elapsed() > limit {
                stop.store(round, Relaxed);
            }
        }
        // Both must play the same rounds, so both look between two barriers.
        let (mine, theirs) = if pid == 0 { (b, a) } else { (a, b) };
        mine.arrived.store(round + 2, Release);
        wait(&theirs.arrived, round + 2);
        if stop.load(Relaxed) != 0 {
            break;
        }
    }
    if pid == 0 {
        // SAFETY: leaves at once, without anything of the parent's.
        unsafe { libc::_exit(0) };
    }
    // SAFETY: our own child, and a page that nobody uses any more.
    unsafe {
        libc::waitpid(pid, core::ptr::null_mut(), 0);
        libc::munmap(page, len);
    }
    wrong
}

#[test]
fn the_heavy_fence_reaches_into_the_other_process() {
    let barrier = barrier();
    if !barrier.registered || !barrier.can_issue {
        return skip(
            "model",
            "the kernel refuses membarrier, so plain fences are used",
        );
    }
    // Processes that share a processor take a time slice for each round.
    let rounds = scale(50_000, 1_000_000) as u64;
    let limit = Duration::from_secs(scale(5, 60) as u64);
    assert!(!any_wrong(rounds, limit, || assert!(heavy_fence())));
}

#[test]
fn without_it_the_two_processes_miss_each_other() {
    // Those that we may use, not those that there are.
    let several = std::thread::available_parallelism().is_ok_and(|n| n.get() > 1);
    if !several || cfg!(ringlane_plain_fence) {
        let why = "one processor races nothing, and plain fences need no other";
        return skip("model", why);
    }
    // How often is the machine's business; where it never happens, this litmus test, and so
    // the one above, sees nothing, and the counts say so.
    if any_wrong(u64::MAX / 4, Duration::from_secs(60), light_fence) {
        tally(
            "model",
            "processes that missed each other without a fence",
            1,
        );
    } else {
        skip("model", "no reordering was ever seen");
    }
}
