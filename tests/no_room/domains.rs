//! What is done to domains as a whole, with its system calls failing.

use super::faults::Bench;
use crate::common::base;
use ringlane::inspect::{Severity, doctor};
use ringlane::{Channel, Error, Store, remove_domain};
use std::fs::File;
use std::time::SystemTime;

/// With a store, and a channel that a message waits in.
fn fill() -> (Store, Channel<u64>) {
    let store = Store::options().domain("d").create("s").unwrap();
    store.set("key", &7u64).unwrap();
    let mut host = Channel::options().domain("d").create("c").unwrap();
    host.send(7).unwrap();
    (store, host)
}

pub fn scenes(bench: &mut Bench) {
    // A lock that could not be asked for counts as taken.
    bench.also = |e| matches!(e, Error::DomainInUse { .. });
    bench.scene(
        "remove_domain",
        || drop(fill()),
        |()| remove_domain("d"),
        |(), outcome| {
            let path = base().join("d");
            assert!(outcome.is_err() || !path.exists());
            // Whoever emptied it just now might be somebody who is about to join.
            if path.exists() && std::fs::read_dir(&path).unwrap().next().is_none() {
                let directory = File::open(&path).unwrap();
                directory.set_modified(SystemTime::UNIX_EPOCH).unwrap();
            }
            let again = remove_domain("d");
            match outcome {
                Ok(()) => assert!(matches!(again, Err(Error::NotFound { .. })), "{again:?}"),
                Err(_) => again.unwrap(),
            }
            assert!(!path.exists());
        },
    );
    bench.also = |_| false;
    bench.scene(
        "doctor",
        fill,
        // What it could not look at is among what it found.
        |_| doctor().map(drop),
        |(store, host), outcome| {
            assert!(outcome.is_ok(), "{outcome:?}");
            let of_domain = |about: &str| about.starts_with("d/");
            let found = doctor().unwrap();
            let mut bad = found.iter().filter(|f| f.severity > Severity::Note);
            assert!(!bad.any(|found| of_domain(&found.about)), "{found:#?}");
            store.remove().unwrap();
            let mut guest = Channel::<u64>::options().domain("d").open("c").unwrap();
            assert_eq!(guest.recv(), Ok(7));
            drop((guest, host));
        },
    );
}
