//! What a store's calls do not do: reading stores nothing into shared memory, allocates nothing but
//! what is handed out, and like an uncontended write makes no system call.

mod common;
#[path = "common/counting.rs"]
mod counting;

use common::{play, scale};
use counting::{allocations, calls_of, strace_works, total};
use ringlane::Store;

#[test]
#[ignore = "what the processes of these tests run"]
fn process() {
    play(|role, arguments| {
        let count = arguments[1].parse().unwrap();
        match role {
            "read" => read(arguments[0], count),
            "write" => write(arguments[0], count),
            other => panic!("{other:?}"),
        }
    });
}

/// A store in a domain of its own, removed in the end.
struct Own {
    store: Store,
    domain: String,
}

impl Own {
    fn new(test: &str) -> Own {
        let domain = format!("test-store-costs-{test}-{}", std::process::id());
        let store = Store::options().domain(&domain).create("s").unwrap();
        Own { store, domain }
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        self.store.remove().unwrap();
    }
}

/// Keys enough for a table that has grown and has chains.
const KEYS: u64 = 3_000;

fn fill(store: &Store) {
    for key in 0..KEYS {
        store.set(key.to_ne_bytes(), &key).unwrap();
    }
    store.set("text", "a text of some length").unwrap();
}

/// A mapping without write permission faults at any store and at any read-modify-write, so that
/// these calls return proves that they make none. A handle that may write looks things up by the
/// same code.
#[test]
fn reading_stores_nothing() {
    let own = Own::new("stores-nothing");
    fill(&own.store);
    let options = Store::options().domain(&own.domain).read_only();
    let reader = options.open("s").unwrap();
    let mut buffer = Vec::new();
    for key in 0..KEYS {
        let name = key.to_ne_bytes();
        assert_eq!(reader.get::<u64>(name).unwrap(), Some(key));
        assert!(reader.contains(name).unwrap());
        assert!(reader.get_into(name, &mut buffer).unwrap());
        assert_eq!(reader.get::<u64>((key + KEYS).to_ne_bytes()).unwrap(), None);
    }
    assert_eq!(reader.get::<str>("text").unwrap().unwrap().len(), 21);
    assert_eq!(reader.iter::<u64>().count(), KEYS as usize);
    assert_eq!(reader.keys().count(), KEYS as usize + 1);
    assert_eq!(reader.stats().keys, KEYS + 1);
    assert_eq!(reader.len(), KEYS as usize + 1);
    reader.verify().unwrap();
}

#[test]
fn numbers_allocate_nothing() {
    let own = Own::new("allocations");
    let store = &own.store;
    fill(store);
    let key = 7u64.to_ne_bytes();
    let mut buffer = Vec::with_capacity(64);
    let count = allocations(|| {
        for round in 0..10_000u64 {
            store.set(key, &round).unwrap();
            assert_eq!(store.get::<u64>(key).unwrap(), Some(round));
            assert!(store.get_into(key, &mut buffer).unwrap());
            assert!(store.delete(key).unwrap());
            store.set("text", "a text of some length").unwrap();
        }
    });
    assert_eq!(count, 0);
    let count = allocations(|| {
        for _ in 0..10_000 {
            store.get::<str>("text").unwrap();
        }
    });
    // The text that is handed out.
    assert_eq!(count, 10_000);
}

fn read(domain: &str, count: u64) {
    let store = Store::options().domain(domain).open("s").unwrap();
    for round in 0..count {
        let key = round % KEYS;
        assert_eq!(store.get::<u64>(key.to_ne_bytes()).unwrap(), Some(key));
    }
}

fn write(domain: &str, count: u64) {
    let store = Store::options().domain(domain).open("s").unwrap();
    for round in 0..count {
        let key = round % KEYS;
        store.set(key.to_ne_bytes(), &key).unwrap();
    }
}

#[test]
fn neither_reading_nor_replacing_makes_a_system_call() {
    let own = Own::new("calls");
    if !strace_works() {
        return;
    }
    fill(&own.store);
    let many = scale(200_000, 1_000_000);
    for role in ["read", "write"] {
        let [few, many] = [1_000, many].map(|count| total(&calls_of(role, &own.domain, count)));
        eprintln!("{role}: {few} calls, then {many}");
        // A process starts and ends with some; how many may differ by a few.
        assert!(many <= few + 20, "{role}: {few} became {many}");
    }
}
