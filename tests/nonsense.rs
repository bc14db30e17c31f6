//! Nonsense in a ring ends a call, also one that passes over what does not decode; and a receiver
//! that met it stays `Corrupt`, whoever uses it.

mod common;

use common::actor::{self, act};
use common::{Domain, Watchdog, play};
use ringlane::{Error, RecvError, TryRecvError};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::Duration;

#[test]
#[ignore = "what the processes of these tests run"]
fn process() {
    play(|_, arguments| act(arguments));
}

/// Bytes of each ring.
const RING: u64 = 4096;
/// Where the records to the guest begin.
const RECORDS: u64 = 4096;
/// Of a record of the first host, as `src/ring` has it: kind and epoch, less the length.
const DATA: u64 = 1 << 32 | 1 << 40;

fn write(domain: &Domain, at: u64, word: u64) {
    let file = File::options().write(true).open(domain.file("c")).unwrap();
    file.write_all_at(&word.to_ne_bytes(), at).unwrap();
}

fn patience() -> Watchdog {
    Watchdog::new("what must end", Duration::from_secs(10))
}

/// Records all around the ring, none of which is a `u64`: there is always one more to pass over.
#[test]
fn iterators_end_though_there_is_always_more_that_does_not_decode() {
    let domain = Domain::new("undecodable");
    let host = actor::host(domain.name(), "c");
    let mut guest = domain.of::<u64>().open("c").unwrap();
    for at in [0, RING / 2] {
        write(&domain, RECORDS + at, DATA | (RING / 2 - 8));
    }
    let _watchdog = patience();
    assert_eq!(guest.try_iter().next(), None);
    assert_eq!(guest.iter().next(), None);
    host.finish();
}

/// The same of a `[u8]`, which is whatever lies there: a value each time.
#[test]
fn what_is_there_now_is_not_without_an_end() {
    let domain = Domain::new("endless");
    let mut host = domain
        .of::<[u8]>()
        .capacity(RING as usize)
        .create("c")
        .unwrap();
    let mut guest = domain.of::<[u8]>().open("c").unwrap();
    // As much as there can be at a time comes all the same.
    while host.try_send([]).is_ok() {}
    assert_eq!(guest.try_iter().count() as u64, RING / 8 - 1);
    // Where it goes on there may be a header that leads back to it.
    for at in (0..RING).step_by(8) {
        write(&domain, RECORDS + at, DATA);
    }
    let _watchdog = patience();
    let _ = guest.try_iter().count();
    drop(host);
}

#[test]
fn a_listener_is_told_that_its_receiver_is_corrupt() {
    let domain = Domain::new("stays-corrupt");
    let host = actor::host(domain.name(), "c");
    let mut guest = domain.of::<u64>().open("c").unwrap();
    // Longer than any record.
    write(&domain, RECORDS, DATA | RING);
    let corrupt = guest.try_recv();
    assert!(
        matches!(corrupt, Err(TryRecvError::Recv(RecvError::Corrupt { .. }))),
        "{corrupt:?}"
    );
    // Who found nonsense believes nothing that lies there later.
    write(&domain, RECORDS, 0);
    host.finish();
    let (_sender, receiver) = guest.split();
    let ended = receiver.on_receive(|_| ()).unwrap().join();
    assert!(matches!(ended, Err(Error::Corrupt { .. })), "{ended:?}");
}
