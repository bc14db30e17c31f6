//! What one end sees when the other goes: a death is told once, then the successor once, what was
//! sent before is still received, in order; a stop is no death, and only the host's close is final.
//!
//! All the deaths here are SIGKILLs of real processes.

mod common;

use common::actor::{self, act};
use common::{Domain, LONG, Process, play, until};
use ringlane::{
    Channel, End, Error, PeerState, RecvError, SendError, TryRecvError, TrySendError, Wait,
};
use rustix::process::Signal;
use std::time::{Duration, Instant};

#[test]
#[ignore = "what the processes of these tests run"]
fn process() {
    play(|role, arguments| match role {
        "actor" => act(arguments),
        other => panic!("{other:?}"),
    });
}

const SHORT: Duration = Duration::from_millis(150);
const NOTHING: Result<u64, TryRecvError> = Err(TryRecvError::Empty);

fn died(process: &Process) -> Result<u64, TryRecvError> {
    let pid = process.pid();
    Err(TryRecvError::Recv(RecvError::PeerDied { pid }))
}

fn restarted(generation: u32) -> Result<u64, TryRecvError> {
    let error = RecvError::PeerRestarted { generation };
    Err(TryRecvError::Recv(error))
}

const CLOSED: Result<u64, TryRecvError> = Err(TryRecvError::Recv(RecvError::Closed));

fn host(domain: &Domain) -> Channel<u64> {
    domain.of().capacity(4096).create("c").unwrap()
}

/// Fills the ring that `channel` sends on. Gives how many messages that took.
fn fill(channel: &mut Channel<u64>) -> u64 {
    let mut count = 0;
    while channel.try_send(count).is_ok() {
        count += 1;
    }
    count
}

// ---- A death.

/// In https://github.com/servo/ipc-channel/issues/201 the receiver waits for ever.
#[test]
fn a_blocked_recv_sees_its_peer_die() {
    let domain = Domain::new("recv-death");
    for wait in [Wait::Adaptive, Wait::Sleep, Wait::Spin] {
        let mut host = domain.of::<u64>().wait(wait).create("c").unwrap();
        let mut guest = actor::guest(domain.name(), "c");
        let pid = guest.pid();
        let found = std::thread::scope(|scope| {
            let waiting = scope.spawn(|| host.recv());
            std::thread::sleep(SHORT);
            assert!(!waiting.is_finished());
            guest.kill();
            waiting.join().unwrap()
        });
        assert_eq!(found, Err(RecvError::PeerDied { pid }));
        // Once; then it is waited for a successor.
        assert_eq!(host.recv_timeout(SHORT), NOTHING);
        assert_eq!(host.peer(), PeerState::Dead { pid });
        assert!(matches!(host.wait_peer(SHORT), Err(Error::Timeout)));
        let mut successor = actor::guest(domain.name(), "c");
        assert!(host.wait_peer(LONG).is_ok());
        assert_eq!(successor.ask("send 7"), "Ok(())");
        assert_eq!(host.recv_timeout(LONG), restarted(2));
        assert_eq!(host.recv_timeout(LONG), Ok(7));
        successor.finish();
    }
}

/// Whoever slept in vain looks before it sleeps again, whatever the coarse clock says of the slice.
/// In https://github.com/eclipse-iceoryx/iceoryx2/issues/434 a wait loop adds hundreds of
/// milliseconds.
#[test]
fn a_death_is_told_after_one_sleep() {
    let domain = Domain::new("one-sleep");
    let (_sender, mut receiver) = host(&domain).split();
    for round in 1..=8 {
        let mut guest = actor::guest(domain.name(), "c");
        assert_eq!(guest.ask("send 7"), "Ok(())");
        if round > 1 {
            assert_eq!(receiver.recv_timeout(LONG), restarted(round));
        }
        assert_eq!(receiver.recv_timeout(LONG), Ok(7));
        // It takes a look, or has taken one lately.
        assert_eq!(receiver.try_recv(), NOTHING);
        let before = receiver.stats().sleeps;
        guest.kill();
        assert_eq!(receiver.recv_timeout(LONG), died(&guest));
        assert!(receiver.stats().sleeps - before <= 1);
    }
}

/// In https://github.com/eclipse-iceoryx/iceoryx2/issues/314 the sender waited for ever, and a
/// killed subscriber stops the publisher in https://github.com/eclipse-ecal/ecal/issues/1206.
#[test]
fn a_blocked_send_sees_its_peer_die() {
    let domain = Domain::new("send-death");
    for wait in [Wait::Adaptive, Wait::Sleep, Wait::Spin] {
        let options = domain.of::<u64>().capacity(4096).wait(wait);
        let mut host = options.create("c").unwrap();
        let mut guest = actor::guest(domain.name(), "c");
        let pid = guest.pid();
        let count = fill(&mut host);
        let found = std::thread::scope(|scope| {
            let waiting = scope.spawn(|| host.send(77));
            std::thread::sleep(SHORT);
            assert!(!waiting.is_finished());
            guest.kill();
            waiting.join().unwrap()
        });
        assert_eq!(found, Err(SendError::PeerDied { pid, value: 77 }));
        // As long as nobody comes, there is no use in waiting.
        let dead = SendError::PeerDied { pid, value: 78 };
        assert_eq!(host.send(78), Err(dead.clone()));
        let dead = Err(TrySendError::Send(dead));
        assert_eq!(host.try_send(78), dead);
        assert_eq!(host.send_timeout(78, LONG), dead);
        assert_eq!(
            host.send_all([78]),
            Err(SendError::PeerDied { pid, value: 78 })
        );
        // A successor makes room, and sending never tells of it.
        let mut successor = actor::guest(domain.name(), "c");
        for i in 0..count {
            assert_eq!(successor.ask("recv"), format!("Ok({i})"));
        }
        assert_eq!(host.send(79), Ok(()));
        assert_eq!(successor.ask("recv"), "Ok(79)");
        successor.finish();
    }
}

/// Both ends wait for room: who gave a timeout gets its message back, and who did not waits, until
/// the other one receives or dies. https://github.com/servo/webrender/issues/2478 is a pair of
/// processes that hang this way; others are https://github.com/servo/servo/issues/14704,
/// https://github.com/servo/ipc-channel/issues/34 and
/// https://github.com/servo/ipc-channel/issues/101.
#[test]
fn two_full_rings_are_a_timeout_and_no_hang() {
    let domain = Domain::new("both-full");
    for wait in [Wait::Adaptive, Wait::Sleep, Wait::Spin] {
        let options = domain.of::<u64>().capacity(4096).wait(wait);
        let mut host = options.create("c").unwrap();
        let mut guest = actor::guest(domain.name(), "c");
        guest.tell("range 0 1000");
        fill(&mut host);
        let start = Instant::now();
        let full = host.send_timeout(77, SHORT);
        assert_eq!(full, Err(TrySendError::Full(77)));
        assert!(start.elapsed() >= SHORT);
        let (mut sender, mut receiver) = host.split();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| sender.send(78));
            std::thread::sleep(SHORT);
            assert!(!waiting.is_finished());
            // That the other one can send on does not help us: it does not receive.
            assert!(receiver.iter().take(1000).eq(0..1000));
            assert_eq!(guest.line(), "Ok(1000)");
            assert!(!waiting.is_finished());
            // This does.
            assert_eq!(guest.ask("recv"), "Ok(0)");
            assert_eq!(waiting.join().unwrap(), Ok(()));
        });
        guest.tell("range 0 1000");
        until(|| receiver.stats().used > 4000);
        let pid = guest.pid();
        let found = std::thread::scope(|scope| {
            let waiting = scope.spawn(|| sender.send(79));
            std::thread::sleep(SHORT);
            assert!(!waiting.is_finished());
            guest.kill();
            waiting.join().unwrap()
        });
        assert_eq!(found, Err(SendError::PeerDied { pid, value: 79 }));
        drop((sender, receiver));
        domain.remove::<u64>("c");
    }
}

#[test]
fn with_room_a_dead_peer_is_nothing_to_a_sender() {
    let domain = Domain::new("send-room");
    let mut host = host(&domain);
    let mut guest = actor::guest(domain.name(), "c");
    guest.kill();
    assert_eq!(host.send_all(0..100), Ok(100));
    let mut successor = domain.of::<u64>().open("c").unwrap();
    assert!(successor.try_iter().eq(0..100));
}

/// A death, and a successor that is there before anybody looked.
#[test]
fn a_death_that_nobody_looked_at_is_told_before_the_successor() {
    let domain = Domain::new("unseen-death");
    let mut host = host(&domain);
    let mut first = actor::guest(domain.name(), "c");
    assert_eq!(first.ask("range 0 3"), "Ok(3)");
    first.kill();
    let mut second = actor::guest(domain.name(), "c");
    assert_eq!(second.ask("range 10 12"), "Ok(2)");
    // What the dead one sent comes first.
    for i in 0..3 {
        assert_eq!(host.recv_timeout(LONG), Ok(i));
    }
    assert_eq!(host.recv_timeout(LONG), died(&first));
    assert_eq!(host.recv_timeout(LONG), restarted(2));
    assert_eq!(host.recv_timeout(LONG), Ok(10));
    assert_eq!(host.recv_timeout(LONG), Ok(11));
    assert_eq!(host.recv_timeout(SHORT), NOTHING);
    // And by one that sent nothing.
    second.kill();
    let third = actor::guest(domain.name(), "c");
    assert_eq!(host.recv_timeout(LONG), died(&second));
    assert_eq!(host.recv_timeout(LONG), restarted(3));
    assert_eq!(host.recv_timeout(SHORT), NOTHING);
    assert_eq!(host.peer(), PeerState::Alive { pid: third.pid() });
    third.finish();
}

/// The same, but the successor is gone again, in order, when anybody looks.
#[test]
fn a_death_is_told_even_if_the_successor_left() {
    let domain = Domain::new("successor-left");
    let mut host = host(&domain);
    let mut first = actor::guest(domain.name(), "c");
    assert_eq!(first.ask("send 1"), "Ok(())");
    first.kill();
    let mut second = actor::guest(domain.name(), "c");
    assert_eq!(second.ask("send 2"), "Ok(())");
    second.finish();
    assert_eq!(host.recv_timeout(LONG), Ok(1));
    assert_eq!(host.recv_timeout(LONG), died(&first));
    assert_eq!(host.recv_timeout(LONG), restarted(2));
    assert_eq!(host.recv_timeout(LONG), Ok(2));
    assert_eq!(host.recv_timeout(SHORT), NOTHING);
}

/// Two deaths before anybody looked, both of processes that had sent something.
#[test]
fn every_death_is_told() {
    let domain = Domain::new("two-deaths");
    let mut host = host(&domain);
    let mut first = actor::guest(domain.name(), "c");
    assert_eq!(first.ask("send 1"), "Ok(())");
    first.kill();
    let mut second = actor::guest(domain.name(), "c");
    assert_eq!(second.ask("send 2"), "Ok(())");
    second.kill();
    let mut third = actor::guest(domain.name(), "c");
    assert_eq!(third.ask("send 3"), "Ok(())");
    assert_eq!(host.recv_timeout(LONG), Ok(1));
    // By now it may be forgotten which process that was.
    let told = host.recv_timeout(LONG);
    let forgotten = Err(TryRecvError::Recv(RecvError::PeerDied { pid: 0 }));
    assert!(told == died(&first) || told == forgotten, "{told:?}");
    assert_eq!(host.recv_timeout(LONG), restarted(2));
    assert_eq!(host.recv_timeout(LONG), Ok(2));
    assert_eq!(host.recv_timeout(LONG), died(&second));
    assert_eq!(host.recv_timeout(LONG), restarted(3));
    assert_eq!(host.recv_timeout(LONG), Ok(3));
    third.finish();
}

#[test]
fn iterators_pass_over_deaths_and_successors() {
    let domain = Domain::new("iterators");
    let mut host = host(&domain);
    for i in 0..3 {
        let mut guest = actor::guest(domain.name(), "c");
        assert_eq!(
            guest.ask(&format!("range {} {}", 10 * i, 10 * i + 10)),
            "Ok(10)"
        );
        guest.kill();
    }
    assert!(host.try_iter().eq(0..30));
    let mut guest = actor::guest(domain.name(), "c");
    assert_eq!(guest.ask("range 30 40"), "Ok(10)");
    assert!(host.iter().take(10).eq(30..40));
    guest.finish();
}

#[test]
fn a_guest_sees_its_host_die_and_another_come() {
    let domain = Domain::new("host-death");
    let mut first = actor::host(domain.name(), "c");
    let mut guest = domain.of::<u64>().open("c").unwrap();
    assert_eq!(guest.end(), End::Guest);
    assert_eq!(first.ask("send 1"), "Ok(())");
    first.kill();
    assert_eq!(guest.recv_timeout(LONG), Ok(1));
    assert_eq!(guest.recv_timeout(LONG), died(&first));
    assert_eq!(guest.recv_timeout(SHORT), NOTHING);
    // While nobody is there, what is sent waits for whoever comes.
    guest.send(2).unwrap();
    let mut second = actor::host(domain.name(), "c");
    assert_eq!(second.ask("recv"), "Ok(2)");
    assert_eq!(second.ask("send 3"), "Ok(())");
    assert_eq!(guest.recv_timeout(LONG), restarted(2));
    assert_eq!(guest.recv_timeout(LONG), Ok(3));
    second.finish();
    assert_eq!(guest.recv_timeout(LONG), CLOSED);
}

// ---- What is left by the dead.

#[test]
fn what_was_not_delivered_outlives_both_ends() {
    let domain = Domain::new("undelivered");
    let mut host = actor::host(domain.name(), "c");
    let mut guest = actor::guest(domain.name(), "c");
    assert_eq!(host.ask("range 0 100"), "Ok(100)");
    assert_eq!(guest.ask("range 1000 1100"), "Ok(100)");
    for i in 0..10 {
        assert_eq!(guest.ask("recv"), format!("Ok({i})"));
    }
    host.kill();
    guest.kill();
    // Another generation adds to it, and dies too.
    let mut host = actor::host(domain.name(), "c");
    assert_eq!(host.ask("range 100 150"), "Ok(50)");
    host.kill();
    let mut guest = actor::guest(domain.name(), "c");
    assert_eq!(guest.ask("range 1100 1150"), "Ok(50)");
    guest.kill();

    let mut guest = domain.of::<u64>().open("c").unwrap();
    let mut host = domain.of::<u64>().create("c").unwrap();
    assert!(host.try_iter().eq(1000..1150));
    assert!(guest.try_iter().eq(10..150));
    let stats = host.stats();
    assert_eq!((stats.sent, stats.received), (150, 150));
}

#[test]
fn a_host_drops_what_was_not_delivered_on_request() {
    let domain = Domain::new("host-drops");
    let mut first = actor::host(domain.name(), "c");
    let mut guest = domain.of::<u64>().open("c").unwrap();
    assert_eq!(first.ask("range 0 10"), "Ok(10)");
    guest.send_all(20..30).unwrap();
    assert_eq!(guest.recv_timeout(LONG), Ok(0));
    first.kill();
    let mut second = actor::start(domain.name());
    assert_eq!(second.ask("create c drop"), "Ok");
    assert_eq!(second.ask("try_recv"), "Err(Empty)");
    assert_eq!(guest.recv_timeout(LONG), died(&first));
    assert_eq!(guest.recv_timeout(LONG), restarted(2));
    assert_eq!(guest.recv_timeout(SHORT), NOTHING);
    // The past is gone, the channel is not.
    assert_eq!(second.ask("send 11"), "Ok(())");
    assert_eq!(guest.recv_timeout(LONG), Ok(11));
    guest.send(31).unwrap();
    assert_eq!(second.ask("recv"), "Ok(31)");
    second.finish();
}

#[test]
fn a_guest_drops_what_was_not_delivered_on_request() {
    let domain = Domain::new("guest-drops");
    let mut host = host(&domain);
    let mut first = actor::guest(domain.name(), "c");
    assert_eq!(first.ask("range 0 10"), "Ok(10)");
    assert_eq!(host.recv_timeout(LONG), Ok(0));
    let count = fill(&mut host);
    first.kill();
    // Each time, however soon after the last.
    for _ in 0..3 {
        let dead = host.try_send(count).unwrap_err();
        assert!(matches!(
            dead,
            TrySendError::Send(SendError::PeerDied { .. })
        ));
        let dead = host.send_timeout(count, Duration::ZERO).unwrap_err();
        assert!(matches!(
            dead,
            TrySendError::Send(SendError::PeerDied { .. })
        ));
    }
    let mut second = actor::start(domain.name());
    assert_eq!(second.ask("open c drop"), "Ok");
    assert_eq!(second.ask("try_recv"), "Err(Empty)");
    // There is room for as much as before.
    assert_eq!(fill(&mut host), count);
    assert_eq!(host.recv_timeout(LONG), died(&first));
    assert_eq!(host.recv_timeout(LONG), restarted(2));
    assert_eq!(host.recv_timeout(SHORT), NOTHING);
    assert_eq!(second.ask("send 11"), "Ok(())");
    assert_eq!(host.recv_timeout(LONG), Ok(11));
    for i in 0..count {
        assert_eq!(second.ask("recv"), format!("Ok({i})"));
    }
    second.finish();
}

/// Only of the dead is anything dropped.
#[test]
fn what_was_left_in_order_is_kept_in_any_case() {
    let domain = Domain::new("kept");
    let mut host = host(&domain);
    let mut first = actor::guest(domain.name(), "c");
    assert_eq!(first.ask("range 0 10"), "Ok(10)");
    host.send_all(20..30).unwrap();
    first.finish();
    let mut second = actor::start(domain.name());
    assert_eq!(second.ask("open c drop"), "Ok");
    for i in 20..30 {
        assert_eq!(second.ask("recv"), format!("Ok({i})"));
    }
    for i in 0..10 {
        assert_eq!(host.recv_timeout(LONG), Ok(i));
    }
    second.finish();
}

#[test]
fn a_message_in_the_hands_of_the_dead_is_redelivered() {
    let domain = Domain::new("redelivered");
    let mut host = host(&domain);
    host.send_all(0..5).unwrap();
    let mut guest = actor::guest(domain.name(), "c");
    assert_eq!(guest.ask("recv"), "Ok(0)");
    let held = guest.ask("hold");
    guest.kill();
    // Its next holder dies with it too.
    let mut guest = actor::guest(domain.name(), "c");
    assert_eq!(guest.ask("hold"), held);
    guest.kill();
    let mut guest = domain.of::<u64>().open("c").unwrap();
    let again = guest.recv_ref().unwrap();
    assert_eq!(again.get().unwrap(), 1);
    assert_eq!(held, format!("1 {}", again.position()));
    assert!(again.redelivered());
    again.keep();
    let again = guest.try_recv_ref().unwrap();
    assert_eq!((again.get().unwrap(), again.redelivered()), (1, true));
    drop(again);
    // The next was in nobody's hands.
    for i in 2..5 {
        let message = guest.recv_ref().unwrap();
        assert_eq!((message.get().unwrap(), message.redelivered()), (i, false));
    }
    assert_eq!(guest.recv_timeout(SHORT), NOTHING);
}

// ---- A leave in order.

/// In https://github.com/eclipse-ecal/ecal/issues/854 a subscriber that leaves takes a name with it
/// that others need.
#[test]
fn a_guest_that_leaves_in_order_is_no_error() {
    let domain = Domain::new("guest-leaves");
    let mut host = host(&domain);
    for generation in 1..4 {
        let mut guest = actor::guest(domain.name(), "c");
        if generation > 1 {
            assert_eq!(host.recv_timeout(LONG), restarted(generation));
        }
        assert_eq!(guest.ask("send 7"), "Ok(())");
        guest.finish();
        assert_eq!(host.recv_timeout(LONG), Ok(7));
        assert_eq!(host.recv_timeout(SHORT), NOTHING);
        assert_eq!(host.try_recv(), NOTHING);
        assert_eq!(host.peer(), PeerState::Absent);
        assert!(matches!(host.wait_peer(SHORT), Err(Error::Timeout)));
    }
    // With nobody there, messages queue while there is room, and then wait for room.
    let count = fill(&mut host);
    assert_eq!(host.send_timeout(0, SHORT), Err(TrySendError::Full(0)));
    let mut guest = domain.of::<u64>().open("c").unwrap();
    assert!(guest.try_iter().eq(0..count));
}

#[test]
fn a_blocked_recv_goes_on_while_guests_come_and_go() {
    let domain = Domain::new("goes-on");
    let mut host = host(&domain);
    let first = actor::guest(domain.name(), "c");
    // Or the second might be the first that it sees.
    assert_eq!(host.try_recv(), NOTHING);
    let found = std::thread::scope(|scope| {
        let waiting = scope.spawn(|| host.recv());
        std::thread::sleep(SHORT);
        first.finish();
        std::thread::sleep(SHORT);
        assert!(!waiting.is_finished());
        let second = actor::guest(domain.name(), "c");
        let found = waiting.join().unwrap();
        second.finish();
        found
    });
    assert_eq!(found, Err(RecvError::PeerRestarted { generation: 2 }));
}

/// Everything of a guest's end after its host has closed the channel and the rest was received.
fn everything_is_closed(guest: &mut Channel<u64>) {
    for _ in 0..2 {
        assert_eq!(guest.recv(), Err(RecvError::Closed));
        assert_eq!(guest.try_recv(), CLOSED);
        assert_eq!(guest.recv_timeout(LONG), CLOSED);
        assert_eq!(guest.recv_many(&mut Vec::new(), 9), Err(RecvError::Closed));
        assert!(matches!(guest.recv_ref(), Err(RecvError::Closed)));
        assert!(guest.iter().next().is_none());
        assert_eq!(guest.send(1), Err(SendError::Closed(1)));
        let closed = Err(TrySendError::Send(SendError::Closed(2)));
        assert_eq!(guest.try_send(2), closed);
        assert_eq!(guest.send_timeout(2, LONG), closed);
        assert_eq!(guest.send_all([3, 4]), Err(SendError::Closed(3)));
        assert_eq!(guest.peer(), PeerState::Closed);
        assert!(matches!(guest.wait_peer(LONG), Err(Error::Closed)));
    }
}

/// In https://github.com/eclipse-ecal/ecal/issues/2622 a subscriber opens the segment of before a
/// restart.
#[test]
fn a_hosts_close_is_final_once_all_is_received() {
    let domain = Domain::new("host-closes");
    let mut host = actor::host(domain.name(), "c");
    let mut guest = domain.of::<u64>().open("c").unwrap();
    assert_eq!(host.ask("range 0 3"), "Ok(3)");
    assert!(domain.file("c").exists());
    host.finish();
    // The guest holds it, and nobody else needs its name.
    assert!(!domain.file("c").exists());
    for i in 0..3 {
        assert_eq!(guest.recv(), Ok(i));
    }
    everything_is_closed(&mut guest);
    // The name is free for a new one, and whoever opens it has that one.
    let mut other = actor::host(domain.name(), "c");
    assert_eq!(guest.peer(), PeerState::Closed);
    let mut newcomer = actor::guest(domain.name(), "c");
    assert_eq!(other.ask("send 7"), "Ok(())");
    assert_eq!(newcomer.ask("recv"), "Ok(7)");
    newcomer.finish();
    other.finish();
}

#[test]
fn the_first_send_after_a_close_gives_the_value_back() {
    let domain = Domain::new("first-send");
    let host = actor::host(domain.name(), "c");
    let mut guest = domain.of::<u64>().open("c").unwrap();
    host.finish();
    let refused = guest.send(77).unwrap_err();
    assert_eq!(refused, SendError::Closed(77));
    assert_eq!(refused.into_inner(), 77);
}

#[test]
fn blocked_calls_see_the_host_close() {
    let domain = Domain::new("blocked-close");
    for wait in [Wait::Adaptive, Wait::Sleep, Wait::Spin] {
        let mut host = actor::host(domain.name(), "c");
        let channel = domain.of::<u64>().wait(wait).open("c").unwrap();
        let (mut sender, mut receiver) = channel.split();
        while sender.try_send(1).is_ok() {}
        std::thread::scope(|scope| {
            let receiving = scope.spawn(|| receiver.recv());
            let sending = scope.spawn(|| sender.send(2));
            std::thread::sleep(SHORT);
            assert!(!receiving.is_finished() && !sending.is_finished());
            assert_eq!(host.ask("leave"), "Ok");
            assert_eq!(receiving.join().unwrap(), Err(RecvError::Closed));
            assert_eq!(sending.join().unwrap(), Err(SendError::Closed(2)));
        });
        host.finish();
    }
}

/// In https://github.com/eclipse-iceoryx/iceoryx/issues/62,
/// https://github.com/eclipse-iceoryx/iceoryx/issues/301 and
/// https://github.com/eclipse-iceoryx/iceoryx2/issues/1641 who comes late misses the first
/// messages, in https://github.com/eclipse-iceoryx/iceoryx2/issues/337 those of a sender
/// that left first.
#[test]
fn what_an_orderly_host_sent_waits_for_a_guest() {
    let domain = Domain::new("close-undelivered");
    let mut host = actor::host(domain.name(), "c");
    assert_eq!(host.ask("range 0 5"), "Ok(5)");
    host.finish();
    assert!(domain.file("c").exists());
    // Several guests may take their turns: one leaves in order, one dies.
    let mut guest = actor::guest(domain.name(), "c");
    assert_eq!(guest.ask("recv"), "Ok(0)");
    guest.finish();
    assert!(domain.file("c").exists());
    let mut guest = actor::guest(domain.name(), "c");
    assert_eq!(guest.ask("recv"), "Ok(1)");
    assert_eq!(guest.ask("send 9"), "Err(Closed(..))");
    guest.kill();
    assert!(domain.file("c").exists());
    let mut guest = domain.of::<u64>().open("c").unwrap();
    for i in 2..5 {
        assert_eq!(guest.recv_timeout(LONG), Ok(i));
    }
    everything_is_closed(&mut guest);
    drop(guest);
    assert!(!domain.file("c").exists());
}

#[test]
fn what_an_orderly_host_sent_outlives_its_dead_guest() {
    let domain = Domain::new("close-dead-guest");
    let mut host = host(&domain);
    let mut guest = actor::guest(domain.name(), "c");
    host.send_all(0..3).unwrap();
    assert_eq!(guest.ask("recv"), "Ok(0)");
    guest.kill();
    drop(host);
    let mut guest = domain.of::<u64>().open("c").unwrap();
    assert!(guest.iter().eq(1..3));
    everything_is_closed(&mut guest);
}

#[test]
fn halves_close_their_directions() {
    let domain = Domain::new("halves");
    let mut host = host(&domain);
    let mut guest = actor::guest(domain.name(), "c");
    assert_eq!(guest.ask("range 0 3"), "Ok(3)");
    assert_eq!(guest.ask("drop_sender"), "Ok");
    for i in 0..3 {
        assert_eq!(host.recv(), Ok(i));
    }
    assert_eq!(host.recv(), Err(RecvError::Closed));
    assert_eq!(host.try_recv(), CLOSED);
    // The other direction is open, and somebody is there.
    assert_eq!(host.peer(), PeerState::Alive { pid: guest.pid() });
    host.send(4).unwrap();
    assert_eq!(guest.ask("recv"), "Ok(4)");
    // Who comes next has both halves again.
    guest.finish();
    assert_eq!(host.recv_timeout(SHORT), NOTHING);

    let mut guest = actor::guest(domain.name(), "c");
    assert_eq!(host.recv_timeout(LONG), restarted(2));
    assert_eq!(guest.ask("drop_receiver"), "Ok");
    assert_eq!(host.send(5), Err(SendError::Closed(5)));
    let closed = Err(TrySendError::Send(SendError::Closed(5)));
    assert_eq!(host.try_send(5), closed);
    assert_eq!(guest.ask("send 6"), "Ok(())");
    assert_eq!(host.recv(), Ok(6));
    // Not even by its death does it close the channel.
    guest.kill();
    assert_eq!(host.recv_timeout(LONG), died(&guest));
    let mut guest = actor::guest(domain.name(), "c");
    assert_eq!(host.recv_timeout(LONG), restarted(3));
    host.send(7).unwrap();
    assert_eq!(guest.ask("recv"), "Ok(7)");
    guest.finish();
}

#[test]
fn halves_of_a_host_close_their_directions() {
    let domain = Domain::new("host-halves");
    let mut host = actor::host(domain.name(), "c");
    let mut guest = domain.of::<u64>().open("c").unwrap();
    assert_eq!(host.ask("send 1"), "Ok(())");
    assert_eq!(host.ask("drop_sender"), "Ok");
    assert_eq!(guest.recv(), Ok(1));
    assert_eq!(guest.recv(), Err(RecvError::Closed));
    guest.send(2).unwrap();
    assert_eq!(host.ask("recv"), "Ok(2)");
    host.kill();
    let mut host = actor::host(domain.name(), "c");
    assert_eq!(host.ask("drop_receiver"), "Ok");
    assert_eq!(guest.send(3), Err(SendError::Closed(3)));
    assert_eq!(host.ask("send 4"), "Ok(())");
    host.finish();
    let rest: Vec<_> = guest.iter().collect();
    assert_eq!(rest, [4]);
}

/// Dropping a half wakes whoever waits in the direction that it closes.
#[test]
fn blocked_calls_see_a_half_close() {
    let domain = Domain::new("blocked-halves");
    let mut host = host(&domain);
    let mut guest = actor::guest(domain.name(), "c");
    let found = std::thread::scope(|scope| {
        let waiting = scope.spawn(|| host.recv());
        std::thread::sleep(SHORT);
        assert_eq!(guest.ask("drop_sender"), "Ok");
        waiting.join().unwrap()
    });
    assert_eq!(found, Err(RecvError::Closed));
    guest.finish();
    let mut guest = actor::guest(domain.name(), "c");
    fill(&mut host);
    let found = std::thread::scope(|scope| {
        let waiting = scope.spawn(|| host.send(5));
        std::thread::sleep(SHORT);
        assert_eq!(guest.ask("drop_receiver"), "Ok");
        waiting.join().unwrap()
    });
    assert_eq!(found, Err(SendError::Closed(5)));
    guest.finish();
    domain_is_drained(&domain);
}

/// Takes what is left, so that the host's close removes the file.
fn domain_is_drained(domain: &Domain) {
    let mut guest = domain.of::<u64>().open("c").unwrap();
    assert!(guest.try_iter().count() > 0);
}

// ---- A stop.

#[test]
fn a_stop_is_no_death() {
    let domain = Domain::new("stop");
    let mut host = host(&domain);
    let mut guest = actor::guest(domain.name(), "c");
    let alive = PeerState::Alive { pid: guest.pid() };
    assert_eq!(guest.ask("send 1"), "Ok(())");
    guest.signal(Signal::STOP);
    until(|| guest.state() == 'T');
    let start = Instant::now();
    assert_eq!(host.recv_timeout(LONG), Ok(1));
    assert_eq!(host.recv_timeout(Duration::from_secs(3)), NOTHING);
    let count = fill(&mut host);
    assert_eq!(host.send_timeout(0, SHORT), Err(TrySendError::Full(0)));
    while start.elapsed() < Duration::from_secs(4) {
        assert_eq!(host.peer(), alive);
        assert_eq!(host.try_recv(), NOTHING);
        assert_eq!(host.try_send(0), Err(TrySendError::Full(0)));
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(host.wait_peer(SHORT).is_ok());
    let again = domain.of::<u64>().open("c");
    assert!(matches!(again, Err(Error::EndTaken { pid, .. }) if pid == guest.pid()));
    assert_eq!(guest.state(), 'T');
    guest.signal(Signal::CONT);
    for i in 0..count {
        assert_eq!(guest.ask("recv"), format!("Ok({i})"));
    }
    // Stopped in the middle of a wait, it goes on with it.
    guest.tell("recv");
    std::thread::sleep(SHORT);
    guest.signal(Signal::STOP);
    until(|| guest.state() == 'T');
    host.send(2).unwrap();
    std::thread::sleep(SHORT);
    guest.signal(Signal::CONT);
    assert_eq!(guest.line(), "Ok(2)");
    guest.finish();
}
