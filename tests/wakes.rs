//! No wake-up is lost: whoever falls asleep as the other one wakes it is woken, whatever either of
//! them had just come to. The clock would end the sleep too, and that would be counted.

mod common;

use common::{Domain, Process, Random, Slow, play, scale, tally, until, wait_of};
use ringlane::{Channel, TryRecvError, Wait};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use std::time::{Duration, Instant};

#[test]
#[ignore = "what the processes of these tests run"]
fn process() {
    play(|role, arguments| match role {
        "echo" => {
            let [domain, wait] = arguments else {
                panic!("{arguments:?}")
            };
            let options = Channel::<u64>::options().domain(domain);
            let mut slow = Slow::default();
            let options = options.wait(wait_of(wait));
            let mut channel = slow.time(|| options.open("c")).unwrap();
            while let Ok(value) = channel.recv() {
                slow.time(|| channel.send(value)).unwrap();
            }
            assert!(channel.stats().rescues <= slow.0);
        }
        "fill" => {
            let options = Channel::<[u8]>::options().domain(arguments[0]);
            let mut channel = options.wait(Wait::Sleep).open("c").unwrap();
            while channel.send(&[7; LIMIT][..]).is_ok() {}
        }
        other => panic!("{other:?}"),
    });
}

/// The least that a ring can have.
const CAPACITY: usize = 4096;
/// Half the ring, less a header.
const LIMIT: usize = CAPACITY / 2 - 8;

/// As often as is asked for, or until time is up: where two processes share a busy processor,
/// each time takes a time slice or more.
fn times(count: usize) -> impl Iterator<Item = u64> {
    let end = Instant::now() + Duration::from_secs(scale(30, 120) as u64);
    (0..count as u64).take_while(move |_| Instant::now() < end)
}

/// One message at a time, there and back. This end goes to sleep before each answer, after any
/// number of pauses up to `most`; `wait` is how the other one waits.
/// https://github.com/eclipse-iceoryx/iceoryx2/issues/1811 is a lost wake.
fn ping_pong(domain: &Domain, wait: &str, most: u64, count: usize) -> u64 {
    let options = domain.of::<u64>().wait(Wait::Sleep);
    let mut host = options.create("c").unwrap();
    let other = Process::start("echo", &[domain.name(), wait]);
    let mut slow = Slow::default();
    for i in times(count) {
        slow.time(|| host.send(i)).unwrap();
        let pauses = Random::of(i).next() % (most + 1);
        (0..pauses).for_each(|_| std::hint::spin_loop());
        assert_eq!(host.recv(), Ok(i));
    }
    let (sender, receiver) = host.split();
    let (sent, received) = (sender.stats(), receiver.stats());
    assert!(sent.rescues <= slow.0, "{} > {}", sent.rescues, slow.0);
    assert!(received.wakes > 0);
    drop((sender, receiver));
    other.finish();
    let wakes = "wakes of one that slept, or was about to";
    tally("wakeup", wakes, sent.wakes + received.wakes);
    sent.sent
}

#[test]
fn no_wake_is_lost_in_a_ping_pong() {
    let domain = Domain::new("ping-pong");
    ping_pong(&domain, "sleep", 0, scale(20_000, 300_000));
}

/// The answer comes at any moment of going to sleep.
#[test]
fn no_wake_is_lost_while_going_to_sleep() {
    let domain = Domain::new("going-to-sleep");
    let count = scale(100_000, 3_000_000);
    let answers = ping_pong(&domain, "spin", 256, count);
    tally("wakeup", "answers at any moment of going to sleep", answers);
}

/// Where whoever wakes and whoever sleeps may each be interrupted at any place by the other.
#[test]
fn no_wake_is_lost_in_a_ping_pong_on_one_processor() {
    let domain = Domain::new("one-processor");
    let all = sched_getaffinity(None).unwrap();
    let mut one = CpuSet::new();
    let allowed = (0..CpuSet::MAX_CPU).find(|cpu| all.is_set(*cpu));
    one.set(allowed.unwrap());
    // Of this thread, and of the process that it starts.
    sched_setaffinity(None, &one).unwrap();
    ping_pong(&domain, "sleep", 0, scale(20_000, 3_600_000));
    sched_setaffinity(None, &all).unwrap();
}

/// The ring holds two messages, and who receives them does not sleep.
#[test]
fn no_wake_is_lost_for_room() {
    let domain = Domain::new("room");
    let options = domain.of::<[u8]>().capacity(CAPACITY);
    let (sender, mut receiver) = options.create("c").unwrap().split();
    let other = Process::start("fill", &[domain.name()]);
    until(|| receiver.stats().sleeps > 0);
    let mut slow = Slow::default();
    for _ in times(scale(50_000, 200_000)) {
        match slow.time(|| receiver.try_recv()) {
            Ok(message) => assert!(message == [7; LIMIT]),
            Err(TryRecvError::Empty) => std::thread::yield_now(),
            Err(e) => panic!("{e:?}"),
        }
    }
    let rescues = receiver.stats().rescues;
    assert!(rescues <= slow.0, "{rescues} > {}", slow.0);
    drop((sender, receiver));
    other.finish();
}
