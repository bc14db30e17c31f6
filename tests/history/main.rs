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

use common::{Domain, Process, Random, Shared, be_killed_in, play, until};
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
