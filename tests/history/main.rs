//! What processes saw of a store and of a channel while they were killed at any moment, written
//! down by each of them and checked afterwards: the store did every call at one moment, and the
//! channel kept the order, lost nothing and repeated nothing without saying so.

#[path = "../common/mod.rs"]
mod common;
#[path = "../common/forkserver.rs"]
#[allow(dead_code)]
mod forkserver;

mod channel;
mod fifo;
mod linear;
mod store;

use common::{Domain, Process, Random, Shared, play, until};
use std::os::unix::process::ExitStatusExt;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use std::time::Duration;

#[test]
#[ignore = "what the processes of these tests run"]
fn process() {
    play(|role, arguments| match role {
        "caller" => store::act(arguments),
        "forkserver" => forkserver::serve(channel::act),
        other => panic!("{other:?}"),
    });
}

/// Has the kernel kill this process with SIGKILL at a time from now on, whatever it does then: a
/// killer that has to get a processor first comes late, and most often to somebody who waits.
fn be_killed_in(time: Duration) {
    // SAFETY: zeroes are a `sigevent` and a timer's times; all pointers are to locals.
    unsafe {
        let mut event: libc::sigevent = std::mem::zeroed();
        event.sigev_notify = libc::SIGEV_SIGNAL;
        event.sigev_signo = libc::SIGKILL;
        let mut timer = std::mem::zeroed();
        let made = libc::timer_create(libc::CLOCK_MONOTONIC, &raw mut event, &raw mut timer);
        assert_eq!(made, 0);
        let mut times: libc::itimerspec = std::mem::zeroed();
        times.it_value.tv_sec = time.as_secs() as i64;
        times.it_value.tv_nsec = i64::from(time.subsec_nanos()) + 1;
        let set = libc::timer_settime(timer, 0, &raw const times, std::ptr::null_mut());
        assert_eq!(set, 0);
    }
}

/// A time to live: for some hardly longer than it takes to begin, for others enough to do a lot. If
/// none lived for the slice of 10 ms that it takes to follow a dead holder of the lock, nobody would
/// ever have it again.
fn life(random: &mut Random) -> Duration {
    let most = if random.below(4) == 0 { 30_000 } else { 300 };
    random.micros(most)
}

/// Starts a process again each time it was killed, until it ends well. Says how often that was.
fn revive(start: impl Fn() -> Process) -> u64 {
    for kills in 0.. {
        let status = start().wait();
        if status.success() {
            return kills;
        }
        assert_eq!(status.signal(), Some(9), "{status}");
    }
    unreachable!()
}
