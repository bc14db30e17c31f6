//! Between two ends that are awake, sending and receiving make no allocation and no system call.

mod common;
#[path = "common/counting.rs"]
mod counting;

use common::{Domain, Process, play, scale};
use counting::{allocations, calls_of, strace_works, total};
use ringlane::zerocopy::{Immutable, IntoBytes, KnownLayout, TryFromBytes};
use ringlane::{Channel, Message, Plain, TrySendError, Wait};
use std::time::{Duration, Instant};

#[test]
#[ignore = "what the processes of these tests run"]
fn process() {
    play(|role, arguments| {
        let count = arguments[1].parse().unwrap();
        match role {
            "both ends" => send_and_receive(arguments[0], count),
            "ping" => ping(arguments[0], count),
            "pong" => pong(arguments[0]),
            other => panic!("{other:?}"),
        }
    });
}

// ---- Allocations.

/// More than fit the ring, so that it wraps.
const ROUNDS: usize = 10_000;

/// All ways to send and receive without waiting. Gives how often one round allocates.
fn one_of_each<T: Message + ?Sized>(domain: &Domain, value: &T) -> f64 {
    let mut host = domain.of::<T>().capacity(4096).create("c").unwrap();
    let mut guest = domain.of::<T>().open("c").unwrap();
    let mut out = Vec::with_capacity(16);
    let long = Duration::from_secs(20);
    let mut round = || {
        host.send(value).ok().unwrap();
        drop(guest.recv().unwrap());
        host.try_send(value).ok().unwrap();
        drop(guest.try_recv().unwrap());
        host.send_timeout(value, long).ok().unwrap();
        drop(guest.recv_timeout(long).unwrap());
        host.send_all([value, value, value]).ok().unwrap();
        assert_eq!(guest.recv_many(&mut out, 16).unwrap(), 3);
        out.clear();
        host.send_all([value, value, value]).ok().unwrap();
        drop(guest.iter().next());
        drop(guest.recv_ref().unwrap());
        assert_eq!(guest.try_iter().count(), 1);
        // Nothing there, and no room, cost nothing either.
        assert!(guest.try_recv().is_err());
        while host.try_send(value).is_ok() {}
        guest.try_iter().for_each(drop);
    };
    round();
    let count = allocations(|| (0..ROUNDS / 100).for_each(|_| round()));
    count as f64 / (ROUNDS / 100) as f64
}

#[derive(TryFromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
struct Quote([u64; 7]);

impl Message for Quote {
    const NAME: &str = "test.Quote";
    type Codec = Plain;
}

#[test]
fn plain_messages_allocate_nothing() {
    let domain = Domain::new("plain-allocations");
    assert_eq!(one_of_each::<u64>(&domain, &7), 0.0);
    assert_eq!(size_of::<Quote>(), 56);
    assert_eq!(one_of_each::<Quote>(&domain, &Quote([7; 7])), 0.0);
}

#[cfg(feature = "bytemuck")]
#[test]
fn pod_messages_allocate_nothing() {
    #[derive(Clone, Copy, bytemuck::NoUninit, bytemuck::CheckedBitPattern)]
    #[repr(C)]
    struct Sample([u64; 7]);

    impl Message for Sample {
        const NAME: &str = "test.Sample";
        type Codec = ringlane::Pod;
    }

    let domain = Domain::new("pod-allocations");
    assert_eq!(one_of_each::<Sample>(&domain, &Sample([7; 7])), 0.0);
}

#[cfg(feature = "serde")]
#[test]
fn serde_messages_allocate_nothing_of_their_own() {
    #[derive(serde::Serialize, serde::Deserialize)]
    enum Line {
        Point { x: f64, y: f64, of: Option<u32> },
    }

    impl Message for Line {
        const NAME: &str = "test.Line";
        type Codec = ringlane::Postcard;
    }

    let domain = Domain::new("serde-allocations");
    let line = Line::Point {
        x: 1.5,
        y: 2.5,
        of: Some(7),
    };
    // The buffers of both handles grew in the first round.
    assert_eq!(one_of_each::<Line>(&domain, &line), 0.0);
}

/// What is received as a `Vec` is one allocation; in place there is none.
#[test]
fn bytes_allocate_only_what_is_handed_out() {
    let domain = Domain::new("bytes-allocations");
    let mut host = domain.of::<[u8]>().capacity(4096).create("c").unwrap();
    let mut guest = domain.of::<[u8]>().open("c").unwrap();
    let message = [7; 500];
    host.send(message).unwrap();
    guest.recv().unwrap();
    let count = allocations(|| {
        for _ in 0..ROUNDS {
            host.send(message).unwrap();
            assert_eq!(guest.recv().unwrap(), message);
        }
    });
    assert_eq!(count, ROUNDS as u64);
    let count = allocations(|| {
        for _ in 0..ROUNDS {
            let mut loan = host.loan(500).unwrap();
            loan.put(3, &message[3..]).unwrap();
            loan.commit(400).unwrap();
            let got = guest.recv_ref().unwrap();
            let mut part = [0; 100];
            got.copy_to(17, &mut part).unwrap();
            assert_eq!(part, [7; 100]);
        }
        let full = loop {
            if let Err(e) = host.try_send(message) {
                break e;
            }
        };
        assert!(matches!(full, TrySendError::Full(_)));
    });
    assert_eq!(count, 0);
    guest.try_iter().for_each(drop);
}

// ---- System calls.

/// Sends and receives with nobody to wait for.
fn send_and_receive(domain: &str, count: u64) {
    let options = || Channel::<Quote>::options().domain(domain);
    let mut host = options().create("c").unwrap();
    let mut guest = options().open("c").unwrap();
    let quote = Quote([7; 7]);
    for _ in 0..count {
        host.send(&quote).ok().unwrap();
        guest.recv().unwrap();
        guest.try_send(&quote).ok().unwrap();
        host.try_recv().unwrap();
    }
}

/// Sends and waits for an answer, as `pong` gives it.
fn ping(domain: &str, count: u64) {
    let options = Channel::<u64>::options().domain(domain).wait(Wait::Spin);
    let mut guest = options.open("c").unwrap();
    let start = Instant::now();
    for number in 0..count {
        guest.send(number).unwrap();
        assert_eq!(guest.recv(), Ok(number));
        // On a machine that is busy with something else, each answer may take milliseconds.
        if start.elapsed() > Duration::from_secs(10) {
            return;
        }
    }
}

fn pong(domain: &str) {
    let options = Channel::<u64>::options().domain(domain).wait(Wait::Spin);
    let mut host = options.create("c").unwrap();
    common::say("there");
    // The guest leaves when it is done; then it is our turn.
    while let Ok(number) = host.recv() {
        host.send(number).unwrap();
    }
}

#[test]
fn sending_and_receiving_make_no_system_call() {
    let domain = Domain::new("no-calls");
    if !strace_works() {
        return;
    }
    let (few, many) = (1_000, scale(200_000, 1_000_000, 100_000_000));
    let of_few = calls_of("both ends", domain.name(), few);
    let of_many = calls_of("both ends", domain.name(), many);
    eprintln!("{} calls for {few} rounds", total(&of_few));
    eprintln!("{} calls for {many} rounds", total(&of_many));
    // A process starts and ends with some; how many may differ by a few.
    assert!(
        total(&of_many) <= total(&of_few) + 20,
        "{of_few:?} became {of_many:?}"
    );
}

/// Two processes on two processors: whatever the answer is waited for by, it is not by sleeping.
///
/// An end that spins in vain gives the processor up now and then, and looks ten times a second
/// whether its peer lives. These calls come with time, which a busy machine takes, and not with
/// messages; so many are allowed.
#[test]
fn two_processes_that_are_awake_make_no_system_call() {
    let domain = Domain::new("ping-calls");
    if !strace_works() {
        return;
    }
    let (few, many) = (1_000, scale(100_000, 1_000_000, 10_000_000));
    let mut times = Vec::new();
    let mut both = [few, many].map(|count| {
        let mut pong = Process::start("pong", &[domain.name(), "0"]);
        assert_eq!(pong.line(), "there");
        let start = Instant::now();
        let calls = calls_of("ping", domain.name(), count);
        times.push(start.elapsed());
        pong.kill();
        domain.remove::<u64>("c");
        calls
    });
    let yields = both.each_mut().map(|calls| calls.remove("sched_yield"));
    // Where the clock is read by a system call, that comes with time, too.
    for calls in &mut both {
        calls.remove("clock_gettime");
    }
    let [of_few, of_many] = both;
    eprintln!("{few} and {many} messages in {times:?}, {yields:?} yields");
    let futexes = [&of_few, &of_many].map(|calls| calls.get("futex").copied().unwrap_or(0));
    assert!(futexes[1] <= futexes[0] + 20, "{futexes:?}");
    let totals = [&of_few, &of_many].map(total);
    eprintln!("{totals:?} calls otherwise, {futexes:?} of them futex");
    // Some twenty calls a look.
    let looks = times[1].as_millis() as u64 / 100 + 1;
    assert!(
        totals[1] <= totals[0] + 20 + 30 * looks,
        "{of_few:?} became {of_many:?} in {times:?}"
    );
}
