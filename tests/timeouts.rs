//! A timed wait never ends early with nothing, and it finds what comes meanwhile.
//!
//! The bug that this guards against is raw_sync's: nanoseconds added without a carry, so that a
//! wait whose deadline lies in the next second fails at once.

mod common;

use common::actor::{self, act};
use common::{Domain, LONG, Process, Random, play, scale, tally};
use ringlane::{Channel, Error, PeerState, TryRecvError, TrySendError, Wait};
use std::time::{Duration, Instant};

#[test]
#[ignore = "what the processes of these tests run"]
fn process() {
    play(|_, arguments| act(arguments));
}

/// Waits for `timeout` by `wait`, which must find nothing, and for no less.
#[track_caller]
fn not_early(timeout: Duration, wait: impl FnOnce(Duration)) {
    let start = Instant::now();
    wait(timeout);
    let waited = start.elapsed();
    assert!(waited >= timeout, "{waited:?} instead of {timeout:?}");
}

/// The four waits, each with something of its own that never comes.
fn wait_in_vain(domain: &str, name: &str, wait: Wait, timeouts: &[Duration], which: usize) {
    let options = || Channel::<u64>::options().domain(domain).wait(wait);
    let mut host = options().capacity(4096).create(name).unwrap();
    match which {
        0 => {
            let mut guest = options().open(name).unwrap();
            for &timeout in timeouts {
                not_early(timeout, |t| {
                    assert_eq!(guest.recv_timeout(t), Err(TryRecvError::Empty));
                });
            }
        }
        1 => {
            let mut guest = options().open(name).unwrap();
            while host.try_send(0).is_ok() {}
            for &timeout in timeouts {
                not_early(timeout, |t| {
                    assert!(matches!(
                        host.send_timeout(9, t),
                        Err(TrySendError::Full(9))
                    ));
                });
            }
            assert!(guest.try_iter().all(|value| value == 0));
        }
        2 => {
            for &timeout in timeouts {
                not_early(timeout, |t| {
                    assert!(matches!(host.wait_peer(t), Err(Error::Timeout)));
                });
            }
        }
        3 => {
            let nowhere = format!("{name}-not");
            for &timeout in timeouts {
                not_early(timeout, |t| {
                    let outcome = options().open_timeout(&nowhere, t);
                    assert!(matches!(outcome, Err(Error::NotFound { .. })));
                });
            }
        }
        _ => {
            let _guest = options().open(name).unwrap();
            for &timeout in timeouts {
                not_early(timeout, |t| {
                    let outcome = options().open_timeout(name, t);
                    assert!(matches!(outcome, Err(Error::EndTaken { .. })));
                });
            }
        }
    }
}

/// Nor does one last for ever, as in https://github.com/eclipse-iceoryx/iceoryx2/issues/695.
#[test]
fn ten_thousand_waits_and_none_is_early() {
    let domain = Domain::new("early");
    let mut random = Random::printed();
    // Keeps the domain, so that all threads share one roster.
    let _keeper = domain.of::<u64>().create("keeper").unwrap();
    let (threads, each) = (20, scale(500, 2_000));
    let mut waits = 0;
    std::thread::scope(|scope| {
        for i in 0..threads {
            let mut timeouts: Vec<_> = (0..each).map(|_| random.micros(3_000)).collect();
            // Wherever in a second these begin, some of their deadlines lie in the next one.
            let near_a_second = (0..scale(2, 5)).map(|_| random.micros(200_000));
            timeouts.extend(near_a_second.map(|micros| Duration::from_millis(900) + micros));
            timeouts.extend([Duration::ZERO, Duration::from_nanos(1)]);
            waits += timeouts.len() as u64;
            let wait = [Wait::Adaptive, Wait::Sleep, Wait::Sleep, Wait::Spin][i / 5];
            let name = domain.name();
            scope.spawn(move || {
                wait_in_vain(name, &format!("c{i}"), wait, &timeouts, i % 5);
            });
        }
    });
    tally("stopped", "waits that did not end early", waits);
}

/// Waits that no clock can express are waits without an end.
#[test]
fn the_longest_timeout_is_no_overflow() {
    let domain = Domain::new("longest");
    let mut host = domain.of::<u64>().capacity(4096).create("c").unwrap();
    let mut other = actor::guest(domain.name(), "c");
    assert!(host.wait_peer(Duration::MAX).is_ok());
    other.tell("send 1");
    assert_eq!(host.recv_timeout(Duration::MAX), Ok(1));
    while host.try_send(7).is_ok() {}
    // The ring is full: both get on with it at once, or never.
    std::thread::scope(|scope| {
        let sending = scope.spawn(|| host.send_timeout(8, Duration::MAX));
        assert_eq!(other.line(), "Ok(())");
        assert_eq!(other.ask("recv"), "Ok(7)");
        assert_eq!(sending.join().unwrap(), Ok(()));
    });
    let again = domain.of::<u64>().open_timeout("c", Duration::ZERO);
    assert!(matches!(again, Err(Error::EndTaken { pid, .. }) if pid == other.pid()));
    let waiting = std::thread::scope(|scope| {
        let options = domain.of::<u64>();
        let waiting = scope.spawn(|| options.open_timeout("c", Duration::MAX));
        std::thread::sleep(Duration::from_millis(30));
        other.kill();
        waiting.join().unwrap()
    });
    assert_eq!(waiting.unwrap().try_iter().last(), Some(8));
}

/// Runs `then` a little after `wait` began, and gives what `wait` found.
fn meanwhile<R: Send>(wait: impl FnOnce() -> R + Send, then: impl FnOnce()) -> R {
    std::thread::scope(|scope| {
        let waiting = scope.spawn(wait);
        std::thread::sleep(Duration::from_millis(50));
        then();
        waiting.join().unwrap()
    })
}

#[test]
fn a_timed_wait_finds_what_comes_meanwhile() {
    let domain = Domain::new("meanwhile");
    for wait in [Wait::Sleep, Wait::Adaptive, Wait::Spin] {
        let options = domain.of::<u64>().capacity(4096).wait(wait);
        let mut other: Process = actor::start(domain.name());

        // A channel.
        let found = meanwhile(
            || options.clone().open_timeout("theirs", LONG),
            || assert_eq!(other.ask("create theirs"), "Ok"),
        );
        let mut theirs = found.unwrap();
        // A message.
        let found = meanwhile(
            || theirs.recv_timeout(LONG),
            || assert_eq!(other.ask("send 7"), "Ok(())"),
        );
        assert_eq!(found, Ok(7));
        // Room.
        while theirs.try_send(0).is_ok() {}
        let found = meanwhile(
            || theirs.send_timeout(1, LONG),
            || assert_eq!(other.ask("recv"), "Ok(0)"),
        );
        assert_eq!(found, Ok(()));
        // The end of the channel.
        let found = meanwhile(
            || theirs.recv_timeout(LONG),
            || assert_eq!(other.ask("leave"), "Ok"),
        );
        assert_eq!(found, Err(TryRecvError::Recv(ringlane::RecvError::Closed)));
        drop(theirs);

        // A peer.
        let mut ours = options.create("ours").unwrap();
        assert_eq!(ours.peer(), PeerState::Absent);
        let handle = &mut ours;
        let found = meanwhile(
            move || handle.wait_peer(LONG).map(|()| handle.peer()),
            || assert_eq!(other.ask("open ours"), "Ok"),
        );
        assert_eq!(found.unwrap(), PeerState::Alive { pid: other.pid() });
        assert_eq!(other.ask("leave"), "Ok");
        other.finish();
    }
}
