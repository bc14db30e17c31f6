//! Listeners and the inspector, with their system calls failing.

use super::channels::{LONG, open, pair, talk};
use super::faults::Bench;
use ringlane::{Channel, Listener, Receiver, inspect};
use std::sync::mpsc;

type Listening = (Channel<u64>, Option<Receiver<u64>>, Option<Listener<u64>>);

pub fn listening(bench: &mut Bench) {
    let hear = |receiver: Receiver<u64>, to: mpsc::Sender<u64>| {
        receiver.on_receive(move |message| to.send(message).unwrap())
    };
    bench.scene(
        "on_receive",
        || {
            let (guest, host) = pair();
            let (to, heard) = mpsc::channel();
            ((host, Some(guest.split().1), None), to, heard)
        },
        |((_, receiver, listener), to, _): &mut (Listening, _, _)| {
            *listener = Some(hear(receiver.take().unwrap(), to.clone())?);
            Ok(())
        },
        |((mut host, _, listener), to, heard), outcome| {
            let listener = match outcome {
                Ok(()) => listener.unwrap(),
                Err(_) => hear(open().split().1, to).unwrap(),
            };
            host.send(1).unwrap();
            assert_eq!(heard.recv_timeout(LONG), Ok(1));
            let mut receiver = listener.stop().unwrap();
            host.send(2).unwrap();
            assert_eq!(receiver.recv(), Ok(2));
        },
    );
    let listening = || {
        let (guest, host) = pair();
        let listener = guest.split().1.on_receive(|_| ()).unwrap();
        (host, None, Some(listener))
    };
    bench.scene(
        "stop of a listener",
        listening,
        |(_, receiver, listener): &mut Listening| {
            *receiver = Some(listener.take().unwrap().stop()?);
            Ok(())
        },
        |(mut host, receiver, _), outcome| {
            assert!(outcome.is_ok(), "{outcome:?}");
            host.send(2).unwrap();
            assert_eq!(receiver.unwrap().recv(), Ok(2));
        },
    );
    bench.scene(
        "join of a listener",
        || {
            let (host, _, listener) = listening();
            (Some(host), listener)
        },
        |(host, listener)| {
            drop(host.take());
            listener.take().unwrap().join()
        },
        |_, outcome| assert!(outcome.is_ok(), "{outcome:?}"),
    );
}

pub fn inspecting(bench: &mut Bench) {
    let (mut guest, mut host) = pair();
    host.send(1).unwrap();
    bench.scene(
        "snapshot_domain",
        || (),
        |()| {
            let picture = inspect::snapshot_domain("d")?;
            let names: Vec<_> = picture.channels.iter().map(|c| &c.name[..]).collect();
            let is_whole = names == ["c", "keeper"];
            assert!(is_whole || !picture.findings.is_empty(), "{names:?}");
            Ok(())
        },
        |(), _| (),
    );
    bench.scene(
        "snapshot",
        || (),
        |()| {
            let picture = inspect::snapshot()?;
            let domains = picture.domains.len();
            assert!(domains == 1 || !picture.findings.is_empty(), "{domains}");
            Ok(())
        },
        |(), _| (),
    );
    assert_eq!(guest.recv(), Ok(1));
    talk(&mut guest, &mut host);
}
