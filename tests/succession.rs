//! Ends change hands, also quickly and several times unseen: every death and every successor that
//! sent something is told, once and in order, and nobody waits for what cannot come.

mod common;

use common::{Domain, LONG, Slow, actor, play};
use ringlane::{Channel, Error, PeerState, RecvError, TryRecvError};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

#[test]
#[ignore = "plays the roles of the other tests"]
fn process() {
    play(|role, arguments| match role {
        "actor" => actor::act(arguments),
        other => panic!("{other}"),
    });
}

// Where the words lie, and what stands in their lowest byte.
const ROLE_OF_HOST: u64 = 32;
const ROLE_OF_GUEST: u64 = 40;
const SWEPT: u8 = 3;
const CLOSED: u8 = 4;

/// All that a receiver has to say until it has nothing to say for a while.
fn all(receiver: &mut Channel<u64>) -> Vec<String> {
    let mut said = Vec::new();
    loop {
        match receiver.recv_timeout(Duration::from_millis(300)) {
            Ok(number) => said.push(number.to_string()),
            Err(TryRecvError::Recv(RecvError::PeerDied { .. })) => said.push("died".into()),
            Err(TryRecvError::Recv(RecvError::PeerRestarted { generation })) => {
                said.push(format!("generation {generation}"));
            }
            Err(TryRecvError::Empty) => return said,
            Err(other) => panic!("{other:?}"),
        }
    }
}

fn send_and_die(domain: &Domain, number: u64) {
    let mut guest = actor::guest(domain.name(), "c");
    assert_eq!(guest.ask(&format!("send {number}")), "Ok(())");
    guest.kill();
}

fn send_and_leave(domain: &Domain, number: u64) {
    let mut guest = actor::guest(domain.name(), "c");
    assert_eq!(guest.ask(&format!("send {number}")), "Ok(())");
    guest.finish();
}

#[test]
fn three_deaths_before_the_first_look() {
    let domain = Domain::new("three-deaths");
    let mut host = domain.of::<u64>().create("c").unwrap();
    for number in [11, 22, 33] {
        send_and_die(&domain, number);
    }
    let told = [
        "11",
        "died",
        "generation 2",
        "22",
        "died",
        "generation 3",
        "33",
        "died",
    ];
    assert_eq!(all(&mut host), told);
}

#[test]
fn a_death_is_told_even_if_the_successor_left_in_order() {
    let domain = Domain::new("left-after-death");
    let mut host = domain.of::<u64>().create("c").unwrap();
    send_and_die(&domain, 11);
    send_and_leave(&domain, 22);
    assert_eq!(all(&mut host), ["11", "died", "generation 2", "22"]);
    send_and_leave(&domain, 33);
    assert_eq!(all(&mut host), ["generation 3", "33"]);
}

#[test]
fn a_new_host_hears_of_generations_in_their_order() {
    let domain = Domain::new("new-host");
    let host = actor::host(domain.name(), "c");
    send_and_die(&domain, 11);
    send_and_die(&domain, 22);
    let mut living = actor::guest(domain.name(), "c");
    drop(host);
    let mut host = domain.of::<u64>().create("c").unwrap();
    assert_eq!(living.ask("send 33"), "Ok(())");
    let told = [
        "11",
        "died",
        "generation 2",
        "22",
        "died",
        "generation 3",
        "33",
    ];
    assert_eq!(all(&mut host), told);
    // Closed in order: the guest has nothing left to wait for.
    drop(host);
    living.finish();
}

#[test]
fn room_of_discarded_messages_is_offered_at_once() {
    let domain = Domain::new("discarded");
    let mut host = domain.of::<u64>().capacity(4096).create("c").unwrap();
    let mut dead = actor::guest(domain.name(), "c");
    // As many as fit: 16 bytes each, and 8 more.
    assert_eq!(dead.ask("range 0 255"), "Ok(255)");
    dead.kill();
    let mut guest = actor::start(domain.name());
    assert_eq!(guest.ask("open c drop"), "Ok");
    // Full until the host passes over what was discarded.
    guest.tell("range 1000 1300");
    let (mut got, mut slow) = (Vec::new(), Slow::default());
    while got.len() < 300 {
        match slow.time(|| host.try_recv()) {
            Ok(number) => got.push(number),
            Err(TryRecvError::Empty) => std::thread::yield_now(),
            Err(TryRecvError::Recv(
                RecvError::PeerDied { .. } | RecvError::PeerRestarted { .. },
            )) => {}
            Err(other) => panic!("{other:?}"),
        }
    }
    assert_eq!(guest.line(), "Ok(300)");
    assert!(got.into_iter().eq(1000..1300));
    let (_, receiver) = host.split();
    // Nobody was killed in the middle of a ring, so none was owed.
    let rescues = receiver.stats().rescues;
    assert!(rescues <= slow.0, "{rescues} > {}", slow.0);
    guest.finish();
}

#[test]
fn nobody_waits_for_a_channel_without_a_name() {
    let domain = Domain::new("nameless");
    let mut host = actor::host(domain.name(), "c");
    let mut guest = domain.of::<u64>().open("c").unwrap();
    assert_eq!(host.ask("send 7"), "Ok(())");
    host.kill();
    std::fs::remove_file(domain.file("c")).unwrap();
    assert_eq!(guest.recv(), Ok(7));
    assert!(matches!(guest.recv(), Err(RecvError::PeerDied { .. })));
    assert_eq!(guest.recv(), Err(RecvError::Closed));
}

#[test]
fn each_of_many_is_offered_at_once() {
    let domain = Domain::new("slow-iterator");
    let mut host = domain.of::<u64>().create("c").unwrap();
    let mut guest = domain.of::<u64>().open("c").unwrap();
    let (seen, wait) = std::sync::mpsc::channel();
    let receiver = std::thread::spawn(move || {
        for expected in 0..20 {
            assert_eq!(guest.recv(), Ok(expected));
            seen.send(()).unwrap();
        }
        guest
    });
    // Each is made only after the one before it was received.
    let slow = (0..20u64).inspect(|number| {
        if *number > 0 {
            wait.recv().unwrap();
        }
    });
    assert_eq!(host.send_all(slow).unwrap(), 20);
    drop(receiver.join().unwrap());
}

/// A program that sends and ends, again and again, before anybody comes to receive.
#[test]
fn a_host_that_closed_comes_again_to_its_messages() {
    let domain = Domain::new("closed-and-created");
    for round in 0..3 {
        let mut host = actor::host(domain.name(), "c");
        let sent = host.ask(&format!("range {} {}", 10 * round, 10 * round + 2));
        assert_eq!(sent, "Ok(2)");
        host.finish();
    }
    let mut host = domain.of::<u64>().create("c").unwrap();
    assert_eq!(host.peer(), PeerState::Absent);
    let mut guest = domain.of::<u64>().open("c").unwrap();
    host.send(30).unwrap();
    let told = [
        "0",
        "1",
        "generation 2",
        "10",
        "11",
        "generation 3",
        "20",
        "21",
        "generation 4",
        "30",
    ];
    assert_eq!(all(&mut guest), told);
    // Whose guest died comes to what is left, too; but who asks for it gets none.
    drop(guest);
    host.send_all([40, 41]).unwrap();
    drop(host);
    let mut guest = actor::guest(domain.name(), "c");
    assert_eq!(guest.ask("recv"), "Ok(40)");
    guest.kill();
    let host = domain.of::<u64>().create("c").unwrap();
    drop(host);
    assert!(domain.file("c").exists());
    let host = domain.of::<u64>().keep_undelivered(false).create("c");
    let mut host = host.unwrap();
    host.send(50).unwrap();
    let mut guest = domain.of::<u64>().open("c").unwrap();
    assert_eq!(all(&mut guest), ["50"]);
}

/// While somebody receives what a host left, its name is his.
#[test]
fn messages_of_a_closed_host_are_left_to_a_living_guest() {
    let domain = Domain::new("closed-and-drained");
    let mut host = actor::host(domain.name(), "c");
    assert_eq!(host.ask("range 0 3"), "Ok(3)");
    host.finish();
    let mut guest = actor::guest(domain.name(), "c");
    assert_eq!(guest.ask("recv"), "Ok(0)");
    let taken = domain.of::<u64>().create("c");
    assert!(
        matches!(taken, Err(Error::AlreadyExists { .. })),
        "{taken:?}"
    );
    assert_eq!(guest.ask("recv"), "Ok(1)");
    assert_eq!(guest.ask("recv"), "Ok(2)");
    assert_eq!(guest.ask("recv"), "Err(Closed)");
    guest.finish();
    assert!(!domain.file("c").exists());
}

/// Else a creator that is killed just then would have it forgotten that the host died.
#[test]
fn who_cannot_replace_a_channel_leaves_its_roles_alone() {
    let domain = Domain::new("not-swept");
    let mut host = actor::host(domain.name(), "c");
    let guest = actor::guest(domain.name(), "c");
    host.kill();
    let file = File::open(domain.file("c")).unwrap();
    let role_of_host = || {
        let mut word = [0; 8];
        file.read_exact_at(&mut word, ROLE_OF_HOST).unwrap();
        word
    };
    let before = role_of_host();
    let is_over = AtomicBool::new(false);
    let unchanged = std::thread::scope(|scope| {
        let watching = scope.spawn(|| {
            let mut unchanged = true;
            while !is_over.load(Ordering::Relaxed) {
                unchanged &= role_of_host() == before;
            }
            unchanged
        });
        for _ in 0..1000 {
            let other = domain.of::<u32>().create("c");
            assert!(matches!(other, Err(Error::TypeMismatch { .. })));
        }
        is_over.store(true, Ordering::Relaxed);
        watching.join().unwrap()
    });
    assert!(unchanged);
    guest.finish();
    drop(file);
    domain.remove::<u64>("c");
}

#[test]
fn nobody_waits_for_a_peer_of_a_channel_without_a_name() {
    let domain = Domain::new("nameless-peer");
    let mut host = actor::host(domain.name(), "c");
    let guest = domain.of::<u64>().open("c").unwrap();
    host.kill();
    std::fs::remove_file(domain.file("c")).unwrap();
    let waited = guest.wait_peer(LONG);
    assert!(matches!(waited, Err(Error::Closed)), "{waited:?}");
    // Nor does one who never saw anybody.
    let host = domain.of::<u64>().create("c").unwrap();
    std::fs::remove_file(domain.file("c")).unwrap();
    let waited = host.wait_peer(LONG);
    assert!(matches!(waited, Err(Error::Closed)), "{waited:?}");
}

/// News that came together are told one after the other, without a look at the clock.
#[test]
fn what_came_with_a_successor_is_told_behind_it() {
    let domain = Domain::new("together");
    let mut first = actor::host(domain.name(), "c");
    let mut guest = domain.of::<u64>().open("c").unwrap();
    assert_eq!(first.ask("send 1"), "Ok(())");
    assert_eq!(guest.recv(), Ok(1));
    first.kill();
    assert!(matches!(guest.recv(), Err(RecvError::PeerDied { .. })));
    let mut second = actor::host(domain.name(), "c");
    assert_eq!(second.ask("drop_sender"), "Ok");
    let restarted = RecvError::PeerRestarted { generation: 2 };
    assert_eq!(guest.recv(), Err(restarted));
    let closed = Err(TryRecvError::Recv(RecvError::Closed));
    assert_eq!(guest.try_recv(), closed);
    second.finish();
}

/// Who came between, and sent nothing, does not hide it.
#[test]
fn the_death_of_one_who_was_known_is_told_whoever_came_since() {
    let domain = Domain::new("hidden-death");
    let mut host = domain.of::<u64>().create("c").unwrap();
    let leave = || actor::guest(domain.name(), "c").finish();
    let die = || actor::guest(domain.name(), "c").kill();
    // One who took its end over, and left in order, before the next came.
    send_and_die(&domain, 11);
    assert_eq!(host.recv(), Ok(11));
    leave();
    let guest = actor::guest(domain.name(), "c");
    assert_eq!(all(&mut host), ["died", "generation 3"]);
    guest.finish();
    // One who died as well, and one who left.
    send_and_die(&domain, 44);
    assert_eq!(all(&mut host), ["generation 4", "44", "died"]);
    send_and_die(&domain, 55);
    assert!(matches!(
        host.recv(),
        Err(RecvError::PeerRestarted { generation: 5 })
    ));
    assert_eq!(host.recv(), Ok(55));
    die();
    leave();
    assert_eq!(all(&mut host), ["died"]);
    // And no death is told of one who left in order.
    send_and_leave(&domain, 88);
    assert_eq!(all(&mut host), ["generation 8", "88"]);
    leave();
    leave();
    assert_eq!(all(&mut host), [""; 0]);
    send_and_leave(&domain, 111);
    assert_eq!(all(&mut host), ["generation 11", "111"]);
}

/// Whoever creates a channel again has its other end as well, for a moment.
#[test]
fn an_end_that_somebody_has_for_a_moment_is_waited_for() {
    let domain = Domain::new("for-a-moment");
    let host = domain.of::<u64>().create("c").unwrap();
    let (mut both, path) = (File::options(), domain.file("c"));
    let file = both.read(true).write(true).open(path).unwrap();
    let mut role = [0; 8];
    file.read_exact_at(&mut role, ROLE_OF_HOST).unwrap();
    role[0] = SWEPT;
    let guest = loop {
        file.write_all_at(&role, ROLE_OF_GUEST).unwrap();
        let swept = Instant::now();
        let opened = std::thread::scope(|scope| {
            let opening = scope.spawn(|| domain.of::<u64>().open("c"));
            std::thread::sleep(Duration::from_millis(20));
            file.write_all_at(&[0; 8], ROLE_OF_GUEST).unwrap();
            opening.join().unwrap()
        });
        // It waits for a tenth of a second, in which we need not get a processor.
        if swept.elapsed() < Duration::from_millis(90) {
            break opened;
        }
    };
    drop((guest.unwrap(), host));
    // One who is gone for good is not.
    let host = domain.of::<u64>().create("c").unwrap();
    let file = File::options().write(true).open(domain.file("c")).unwrap();
    file.write_all_at(&[CLOSED], ROLE_OF_GUEST).unwrap();
    let closed = domain.of::<u64>().open("c");
    assert!(matches!(closed, Err(Error::NotFound { .. })), "{closed:?}");
    drop(host);
}
