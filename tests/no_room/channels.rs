//! The calls of a channel, and of the inspector, with their system calls failing.

use super::faults::Bench;
use super::{Left, listeners};
use crate::common::{actor, until};
use ringlane::{Channel, ChannelOptions, PeerState, RecvError, Result, TryRecvError, TrySendError};
use std::thread::JoinHandle;
use std::time::Duration;

const SHORT: Duration = Duration::from_millis(2);
pub const LONG: Duration = Duration::from_secs(10);

fn options() -> ChannelOptions<u64> {
    Channel::options().domain("d").capacity(4096)
}

fn create() -> Channel<u64> {
    options().create("c").unwrap()
}

pub fn open() -> Channel<u64> {
    options().open("c").unwrap()
}

/// Both ends, in one process: the guest's, and the host's.
pub fn pair() -> (Channel<u64>, Channel<u64>) {
    let host = create();
    (open(), host)
}

/// The next message, whatever is told before it of those who held the other end.
fn next(channel: &mut Channel<u64>) -> u64 {
    loop {
        match channel.recv() {
            Ok(message) => return message,
            Err(RecvError::PeerDied { .. } | RecvError::PeerRestarted { .. }) => {}
            Err(e) => panic!("{e:?}"),
        }
    }
}

/// Whatever came of a call, the channel is whole.
pub fn talk(guest: &mut Channel<u64>, host: &mut Channel<u64>) {
    host.send(100).unwrap();
    assert_eq!(next(guest), 100);
    guest.send(101).unwrap();
    assert_eq!(next(host), 101);
}

/// Whatever came of the call that takes an end, the next one has it, and the channel is whole.
fn take_and_talk(
    taken: Option<Channel<u64>>,
    outcome: &Result<()>,
    again: fn() -> Channel<u64>,
    other: Option<Channel<u64>>,
) {
    let mut taken = match outcome {
        Ok(()) => taken.unwrap(),
        Err(_) => again(),
    };
    let mut other = other.unwrap_or_else(open);
    talk(&mut taken, &mut other);
}

pub fn scenes(bench: &mut Bench) {
    making(bench);
    let _keeper = options().create("keeper").unwrap();
    making_beside_others(bench);
    after_deaths(bench);
    talking(bench);
    waiting(bench);
    closing(bench);
    listeners::listening(bench);
    listeners::inspecting(bench);
}

fn making(bench: &mut Bench) {
    bench.scene(
        "create, the first of its domain",
        || None,
        |host| {
            *host = Some(options().create("c")?);
            Ok(())
        },
        |host, outcome| take_and_talk(host, outcome, create, None),
    );
    bench.scene(
        "open, where there is nothing",
        || (),
        |()| match options().open("c") {
            Err(ringlane::Error::NotFound { .. }) => Ok(()),
            other => other.map(drop),
        },
        |(), _| (),
    );
    bench.scene(
        "drop, the last of its domain",
        create_some,
        leave,
        |_, _| {
            drop(create());
        },
    );
}

fn create_some() -> Option<Channel<u64>> {
    Some(create())
}

fn leave(held: &mut Option<Channel<u64>>) -> Result<()> {
    *held = None;
    Ok(())
}

fn making_beside_others(bench: &mut Bench) {
    bench.scene(
        "create",
        || None,
        |host| {
            *host = Some(options().create("c")?);
            Ok(())
        },
        |host, outcome| take_and_talk(host, outcome, create, None),
    );
    bench.scene(
        "open",
        || (None, create()),
        |(guest, _)| {
            *guest = Some(options().open("c")?);
            Ok(())
        },
        |(guest, host), outcome| take_and_talk(guest, outcome, open, Some(host)),
    );
    bench.scene(
        "open_timeout",
        || (None, create()),
        |(guest, _)| {
            *guest = Some(options().open_timeout("c", LONG)?);
            Ok(())
        },
        |(guest, host), outcome| take_and_talk(guest, outcome, open, Some(host)),
    );
    bench.scene(
        "open_timeout, in vain",
        || (),
        |()| match options().open_timeout("c", SHORT) {
            Err(ringlane::Error::NotFound { .. }) => Ok(()),
            other => other.map(drop),
        },
        |(), _| (),
    );
}

/// A channel "c" whose host and guest were killed, with 7 on its way to the guest and 8 to the
/// host.
fn abandoned() -> Left {
    let mut host = actor::host("d", "c");
    let mut guest = actor::guest("d", "c");
    assert_eq!(host.ask("send 7"), "Ok(())");
    assert_eq!(guest.ask("send 8"), "Ok(())");
    host.kill();
    guest.kill();
    Left::of("c.channel")
}

fn after_deaths(bench: &mut Bench) {
    let left = abandoned();
    // Whoever cannot be proved dead counts as alive.
    bench.also = |e| {
        use ringlane::Error::*;
        matches!(
            e,
            AlreadyExists { .. } | EndTaken { .. } | TypeMismatch { .. }
        )
    };
    bench.scene(
        "create, after a killed host",
        || {
            left.put_back();
            None
        },
        |host| {
            *host = Some(options().create("c")?);
            Ok(())
        },
        |host, outcome| {
            let mut host = match outcome {
                Ok(()) => host.unwrap(),
                Err(_) => create(),
            };
            let mut guest = open();
            assert_eq!((next(&mut host), next(&mut guest)), (8, 7));
            talk(&mut guest, &mut host);
        },
    );
    bench.scene(
        "open, after a killed guest",
        || {
            left.put_back();
            (None, create())
        },
        |(guest, _)| {
            *guest = Some(options().open("c")?);
            Ok(())
        },
        |(guest, mut host), outcome| {
            let mut guest = match outcome {
                Ok(()) => guest.unwrap(),
                Err(_) => open(),
            };
            assert_eq!((next(&mut host), next(&mut guest)), (8, 7));
            talk(&mut guest, &mut host);
        },
    );
    bench.scene(
        "create, of another type",
        || {
            left.put_back();
            None
        },
        |host| {
            *host = Some(Channel::<str>::options().domain("d").create("c")?);
            Ok(())
        },
        |host, outcome| {
            let again = || Channel::<str>::options().domain("d").create("c").unwrap();
            let mut host = match outcome {
                Ok(()) => host.unwrap(),
                Err(_) => again(),
            };
            host.send("whole").unwrap();
            let guest = Channel::<str>::options().domain("d").open("c");
            assert_eq!(guest.unwrap().recv().unwrap(), "whole");
        },
    );
    let bereaved = || {
        left.put_back();
        let mut host = create();
        assert_eq!(host.recv(), Ok(8));
        host
    };
    bench.scene(
        "recv_timeout, from a killed guest",
        || (bereaved(), false),
        |(host, told)| match host.recv_timeout(SHORT) {
            Err(TryRecvError::Recv(RecvError::PeerDied { .. })) => {
                *told = true;
                Ok(())
            }
            Err(TryRecvError::Empty) => Ok(()),
            other => Err(other.unwrap_err().into()),
        },
        |(mut host, told), _| {
            if !told {
                let told = host.recv();
                assert!(matches!(told, Err(RecvError::PeerDied { .. })), "{told:?}");
            }
            assert_eq!(open().recv(), Ok(7));
        },
    );
    bench.scene(
        "try_send, full, to a killed guest",
        || {
            let mut host = bereaved();
            while host.try_send(9).is_ok() {}
            host
        },
        |host| match host.try_send(9) {
            Err(TrySendError::Full(_)) => Ok(()),
            other => match other.unwrap_err().into() {
                ringlane::Error::PeerDied { .. } => Ok(()),
                e => Err(e),
            },
        },
        |_host, _| assert_eq!(open().recv(), Ok(7)),
    );
    bench.also = |_| false;
    drop(left);
    // Nothing is left for whoever creates it again.
    let (mut guest, _host) = pair();
    guest.try_iter().for_each(drop);
}

fn talking(bench: &mut Bench) {
    bench.scene(
        "send and recv, each in each way",
        pair,
        |(guest, host)| {
            host.send(1)?;
            host.try_send(2).map_err(ringlane::Error::from)?;
            host.send_timeout(3, LONG).map_err(ringlane::Error::from)?;
            host.send_all([4, 5])?;
            assert_eq!(guest.recv()?, 1);
            assert_eq!(guest.try_recv()?, 2);
            assert_eq!(guest.recv_timeout(LONG)?, 3);
            assert_eq!(guest.recv_ref()?.get()?, 4);
            let mut more = Vec::new();
            assert_eq!(guest.recv_many(&mut more, 9)?, 1);
            host.send(6)?;
            assert_eq!(guest.try_recv_ref()?.get()?, 6);
            assert_eq!(host.stats().sent, 6);
            Ok(())
        },
        |(mut guest, mut host), outcome| {
            assert!(outcome.is_ok(), "{outcome:?}");
            talk(&mut guest, &mut host);
        },
    );
    let bytes = || Channel::<[u8]>::options().domain("d").capacity(4096);
    bench.scene(
        "loan",
        || {
            let host = bytes().create("c").unwrap();
            (bytes().open("c").unwrap(), host)
        },
        |(_, host)| {
            let mut loan = host.loan(3)?;
            loan.put(0, &[1, 2, 3])?;
            loan.commit(3)
        },
        |(mut guest, _host), outcome| {
            assert!(outcome.is_ok(), "{outcome:?}");
            assert_eq!(guest.recv().unwrap(), [1, 2, 3]);
        },
    );
    bench.scene(
        "try_recv, from an empty ring",
        pair,
        |(guest, _)| match guest.try_recv() {
            Err(TryRecvError::Empty) => Ok(()),
            other => Err(other.unwrap_err().into()),
        },
        |(mut guest, mut host), _| talk(&mut guest, &mut host),
    );
    bench.scene(
        "try_send, to a full ring",
        || {
            let (guest, mut host) = pair();
            while host.try_send(9).is_ok() {}
            (guest, host)
        },
        |(_, host)| match host.try_send(9) {
            Err(TrySendError::Full(_)) => Ok(()),
            other => Err(other.unwrap_err().into()),
        },
        |(mut guest, mut host), _| {
            assert!(guest.try_iter().all(|message| message == 9));
            talk(&mut guest, &mut host);
        },
    );
    bench.scene(
        "peer",
        pair,
        |(guest, host)| {
            let alive = PeerState::Alive {
                pid: std::process::id(),
            };
            assert_eq!((guest.peer(), host.peer()), (alive, alive));
            host.wait_peer(LONG)
        },
        |(mut guest, mut host), _| talk(&mut guest, &mut host),
    );
}

/// A guest that sleeps in `recv_timeout`, in a thread of its own.
fn sleeper(mut guest: Channel<u64>) -> JoinHandle<(Channel<u64>, u64)> {
    std::thread::spawn(move || {
        let got = guest.recv_timeout(LONG).unwrap();
        (guest, got)
    })
}

fn waiting(bench: &mut Bench) {
    bench.scene(
        "recv_timeout, with nobody there",
        create,
        |host| match host.recv_timeout(SHORT) {
            Err(TryRecvError::Empty) => Ok(()),
            other => Err(other.unwrap_err().into()),
        },
        |mut host, _| talk(&mut open(), &mut host),
    );
    bench.scene(
        "recv_timeout, in vain",
        pair,
        |(guest, _)| match guest.recv_timeout(SHORT) {
            Err(TryRecvError::Empty) => Ok(()),
            other => Err(other.unwrap_err().into()),
        },
        |(mut guest, mut host), _| talk(&mut guest, &mut host),
    );
    bench.scene(
        "wait_peer, in vain",
        create,
        |host| match host.wait_peer(SHORT) {
            Err(ringlane::Error::Timeout) => Ok(()),
            other => other,
        },
        |mut host, _| talk(&mut open(), &mut host),
    );
    let full = |mut host: Channel<u64>| {
        while host.try_send(9).is_ok() {}
        host
    };
    bench.scene(
        "send_timeout, to a full ring with nobody there",
        || full(create()),
        |host| match host.send_timeout(10, SHORT) {
            Err(TrySendError::Full(10)) => Ok(()),
            other => Err(other.unwrap_err().into()),
        },
        |mut host, _| {
            let mut guest = open();
            assert!(guest.try_iter().all(|message| message == 9));
            talk(&mut guest, &mut host);
        },
    );
    bench.scene(
        "send, to one who sleeps",
        || {
            let (guest, host) = pair();
            let sleeping = sleeper(guest);
            until(|| host.stats().sleeps > 0);
            (host, Some(sleeping))
        },
        |(host, _)| Ok(host.send(6)?),
        |(mut host, sleeping), outcome| {
            assert!(outcome.is_ok(), "{outcome:?}");
            let (mut guest, got) = sleeping.unwrap().join().unwrap();
            assert_eq!(got, 6);
            talk(&mut guest, &mut host);
        },
    );
}

fn closing(bench: &mut Bench) {
    bench.scene(
        "drop of a guest",
        || {
            let (guest, host) = pair();
            (Some(guest), host)
        },
        |(guest, _)| leave(guest),
        |(_, mut host), _| talk(&mut open(), &mut host),
    );
    bench.scene(
        "drop of a host, with a message on its way",
        || {
            let mut host = create();
            host.send(5).unwrap();
            Some(host)
        },
        leave,
        |_, _| assert_eq!(open().recv(), Ok(5)),
    );
    bench.scene(
        "drop of the guest that drained it",
        || {
            let mut host = create();
            host.send(5).unwrap();
            drop(host);
            let mut guest = open();
            assert_eq!(guest.recv(), Ok(5));
            Some(guest)
        },
        leave,
        |_, _| drop(create()),
    );
    bench.scene(
        "drop of the halves",
        || {
            let (guest, host) = pair();
            (Some(guest.split()), host)
        },
        |(halves, _)| {
            let (sender, receiver) = halves.take().unwrap();
            drop(sender);
            drop(receiver);
            Ok(())
        },
        |(_, mut host), _| {
            let mut guest = open();
            guest.send(101).unwrap();
            assert_eq!(next(&mut host), 101);
        },
    );
}
