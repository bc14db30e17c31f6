//! Between two ends that are awake, sending and receiving make no allocation and no system call.

mod common;
#[path = "common/counting.rs"]
mod counting;

use common::{Domain, Process, play, scale};
use counting::{allocations, calls_of, strace_works, total};
use ringlane::zerocopy::{Immutable, IntoBytes, KnownLayout, TryFromBytes};
use ringlane::{Channel, Message, Owned, Plain, TrySendError, Wait};
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

const CAPACITY: usize = 4096;

/// Both ends of a channel, in one process, and what goes to and fro.
struct Ends<'a, T: Message + ?Sized> {
    host: Channel<T>,
    guest: Channel<T>,
    value: &'a T,
    out: Vec<Owned<T>>,
}

impl<'a, T: Message + ?Sized> Ends<'a, T> {
    fn new(domain: &str, value: &'a T) -> Self {
        let options = || Channel::<T>::options().domain(domain);
        Ends {
            host: options().capacity(CAPACITY).create("c").unwrap(),
            guest: options().open("c").unwrap(),
            value,
            out: Vec::with_capacity(16),
        }
    }

    /// All ways to send and receive without waiting, the next time in the other direction.
    fn one_of_each(&mut self) {
        let Ends {
            host,
            guest,
            value,
            out,
        } = self;
        let value = *value;
        let long = Duration::from_secs(20);
        host.send(value).ok().unwrap();
        drop(guest.recv().unwrap());
        host.try_send(value).ok().unwrap();
        drop(guest.try_recv().unwrap());
        host.send_timeout(value, long).ok().unwrap();
        drop(guest.recv_timeout(long).unwrap());
        host.send_all([value, value, value]).ok().unwrap();
        assert_eq!(guest.recv_many(out, 16).unwrap(), 3);
        out.clear();
        host.send_all([value, value, value, value]).ok().unwrap();
        drop(guest.iter().next());
        drop(guest.recv_ref().unwrap());
        drop(guest.try_recv_ref().unwrap());
        assert_eq!(guest.try_iter().count(), 1);
        // Nothing there costs nothing either.
        assert!(guest.try_recv().is_err());
        std::mem::swap(host, guest);
    }

    fn fill_and_drain(&mut self) {
        while self.host.try_send(self.value).is_ok() {}
        self.guest.try_iter().for_each(drop);
    }
}

/// How often a round of all ways allocates.
fn allocations_of_a_round<T: Message + ?Sized>(domain: &Domain, value: &T) -> f64 {
    let mut ends = Ends::new(domain.name(), value);
    let rounds = |ends: &mut Ends<T>, count| {
        for _ in 0..count {
            ends.one_of_each();
            ends.fill_and_drain();
        }
    };
    // What grows does so in the first round of each direction.
    rounds(&mut ends, 2);
    let count = ROUNDS / 100;
    allocations(|| rounds(&mut ends, count)) as f64 / count as f64
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
    assert_eq!(allocations_of_a_round::<u64>(&domain, &7), 0.0);
    assert_eq!(size_of::<Quote>(), 56);
    assert_eq!(
        allocations_of_a_round::<Quote>(&domain, &Quote([7; 7])),
        0.0
    );
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
    assert_eq!(
        allocations_of_a_round::<Sample>(&domain, &Sample([7; 7])),
        0.0
    );
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
    assert_eq!(allocations_of_a_round::<Line>(&domain, &line), 0.0);
}

/// Bytes are written where they will lie, and copied from there to where they are wanted.
fn in_place(host: &mut Channel<[u8]>, guest: &mut Channel<[u8]>, message: &[u8; 500]) {
    let mut loan = host.loan(500).unwrap();
    loan.put(3, &message[3..]).unwrap();
    loan.commit(400).unwrap();
    let got = guest.recv_ref().unwrap();
    let mut part = [0; 100];
    got.copy_to(17, &mut part).unwrap();
    assert_eq!(part, message[17..117]);
}

/// What is received as a `Vec` is one allocation; in place there is none.
#[test]
fn bytes_allocate_only_what_is_handed_out() {
    let domain = Domain::new("bytes-allocations");
    let message = [7; 500];
    let Ends {
        mut host,
        mut guest,
        ..
    } = Ends::<[u8]>::new(domain.name(), &message);
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
            in_place(&mut host, &mut guest, &message);
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

/// Sends and receives with nobody to wait for: numbers, 56 bytes, and bytes of any length.
fn send_and_receive(domain: &str, count: u64) {
    let quote = Quote([7; 7]);
    let bytes = [7; 500];
    let mut numbers = Ends::<u64>::new(domain, &7);
    (0..count).for_each(|_| numbers.one_of_each());
    drop(numbers);
    let mut quotes = Ends::<Quote>::new(domain, &quote);
    (0..count).for_each(|_| quotes.one_of_each());
    drop(quotes);
    let mut pieces = Ends::<[u8]>::new(domain, &bytes);
    for _ in 0..count {
        pieces.one_of_each();
        in_place(&mut pieces.host, &mut pieces.guest, &bytes);
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
    let (few, many) = (1_000, scale(50_000, 300_000));
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
    let (few, many) = (1_000, scale(100_000, 1_000_000));
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
