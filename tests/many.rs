//! A process can have a thousand channels: none of them takes a file descriptor or a thread of its
//! own, and all are in one picture. (A hundred children are in `runtime`.)

mod common;

use common::{Domain, Process, hear, play, say, scale};
use ringlane::inspect::{self, EndState};
use ringlane::{Channel, Error};

#[test]
#[ignore = "what the processes of these tests run"]
fn process() {
    play(|_, arguments| answer(arguments[0], arguments[1].parse().unwrap()));
}

fn name(n: usize) -> String {
    format!("c{n:04}")
}

/// What might be taken by each channel: descriptors and threads of this process.
fn taken() -> [usize; 2] {
    ["/proc/self/fd", "/proc/self/task"].map(|of| std::fs::read_dir(of).unwrap().count())
}

/// Makes so many of them.
fn all(count: usize, mut one: impl FnMut(&str) -> Channel<u64>) -> Vec<Channel<u64>> {
    let mut one = |n| one(&name(n));
    let mut channels = vec![one(0)];
    let by_one = taken();
    channels.extend((1..count).map(one));
    assert_eq!(taken(), by_one, "descriptors and threads");
    channels
}

/// Opens so many channels, and sends back what comes on each, plus one, each time it is told to.
fn answer(domain: &str, count: usize) {
    let options = || Channel::<u64>::options().domain(domain);
    let mut channels = all(count, |name| options().open(name).unwrap());
    say("there");
    while hear().is_some() {
        for channel in &mut channels {
            let number = channel.recv().unwrap();
            channel.send(number + 1).unwrap();
        }
        say("answered");
    }
}

/// In https://github.com/servo/servo/issues/37161 descriptors run out, since each channel takes some.
#[test]
fn a_thousand_channels() {
    let domain = Domain::new("thousand");
    let count = scale(1_000, 1_000);
    let options = || domain.of::<u64>().capacity(4096);
    let mut channels = all(count, |name| options().create(name).unwrap());
    let mut other = Process::start("answer", &[domain.name(), &count.to_string()]);
    assert_eq!(other.line(), "there");
    for round in 0..3 {
        for (channel, n) in channels.iter_mut().zip(0..) {
            channel.send(round + n).unwrap();
        }
        assert_eq!(other.ask("answer"), "answered");
        for (channel, n) in channels.iter_mut().zip(0..) {
            assert_eq!(channel.recv(), Ok(round + n + 1));
        }
    }

    let picture = inspect::snapshot_domain(domain.name()).unwrap();
    assert_eq!(picture.findings, []);
    assert_eq!(picture.channels.len(), count);
    for (channel, n) in picture.channels.iter().zip(0..) {
        assert_eq!(channel.name, name(n));
        assert_eq!(channel.host.pid, Some(std::process::id()));
        assert_eq!(channel.guest.pid, Some(other.pid()));
        for end in [channel.host, channel.guest] {
            assert_eq!(end.state, EndState::Alive);
        }
        for direction in &channel.directions {
            assert_eq!((direction.sent, direction.received), (3, 3));
        }
    }
    other.finish();
    drop(channels);
    assert!(matches!(
        inspect::snapshot_domain(domain.name()),
        Err(Error::NotFound { .. })
    ));
}
