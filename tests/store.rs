//! A store does what a map in memory does: each operation, each kind of key, each size of value,
//! through several handles, while it grows, and while what is in it comes and goes.

mod common;
mod store_twin;

use common::stores::options;
use common::{Domain, Random, Word, config, scale};
use proptest::test_runner::TestRunner;
use std::sync::atomic::Ordering::{Acquire, Release};
use store_twin::{Twin, key, op};

fn twins(test: &str, keys: usize, cases: usize, ops: usize) {
    let domain = Domain::new(test);
    let some = proptest::collection::vec((0..keys, 0..6usize, op(keys)), 1..ops);
    let outcome = TestRunner::new(config(cases)).run(&some, |ops| {
        let mut twin = Twin::of(&domain);
        for (i, by, op) in &ops {
            twin.take(op, &key(*i), *by);
        }
        for (key, (value, version)) in &twin.entries {
            let found = value.kind().calls().get_versioned(&twin.reader, key);
            assert_eq!(found.unwrap(), Some((value.clone(), *version)));
        }
        twin.writers[0].verify().unwrap();
        Ok(())
    });
    outcome.unwrap_or_else(|e| panic!("{e}"));
}

#[test]
fn a_few_keys_are_as_in_a_map() {
    twins("store-few", 12, scale(60, 1_000), 200);
}

#[test]
fn many_keys_are_as_in_a_map() {
    twins("store-many", 3_000, scale(15, 300), 600);
}

// ---- Sizes.

/// Values of each size class up to several megabytes, at its edges.
#[test]
fn values_of_any_size_come_back() {
    let domain = Domain::new("store-sizes");
    let store = options(domain.name()).create("s").unwrap();
    let most = scale(4 << 20, 40 << 20);
    // Block header and a key of one word.
    let rest = 32;
    let mut edges: Vec<usize> = (1..8).map(|i| 32 * i).collect();
    let doublings = (8..).map(|i| 1usize << i).take_while(|size| *size < most);
    edges.extend(doublings.flat_map(|size| (0..4).map(move |i| size + i * size / 4)));
    let mut random = Random::printed();
    for edge in edges {
        for len in [edge - 9, edge - 8, edge - 1, edge, edge + 1] {
            let Some(len) = len.checked_sub(rest) else {
                continue;
            };
            let value = vec![random.next() as u8; len];
            let version = store.set::<[u8]>("k", &value).unwrap();
            let got = store.get_versioned::<[u8]>("k").unwrap();
            assert!(got == Some((value, version)), "{len}");
        }
    }
    // An overwrite of its own class takes a second block of it, and no more.
    let stats = store.stats();
    assert_eq!(stats.keys, 1);
    assert!(
        stats
            .free_blocks
            .iter()
            .filter(|(size, _)| *size > 16384)
            .all(|(_, count)| *count <= 2)
    );
    store.verify().unwrap();
    store.remove().unwrap();
}

// ---- Growth.

/// The table grows by doublings, one bucket at a time, and nobody misses a key meanwhile.
#[test]
fn a_growing_table_loses_nothing() {
    let domain = Domain::new("store-growth");
    let count = scale(150_000, 4_750_000) as u64;
    let store = options(domain.name()).create("s").unwrap();
    let reader = options(domain.name()).read_only().open("s").unwrap();
    let there = Word::new(0);
    let mut random = Random::printed();
    let mut theirs = Random::of(random.next());
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut reads = 0;
            while there.load(Acquire) < count {
                let known = there.load(Acquire);
                // Neither all the time, lest this be about two threads on one processor.
                for _ in 0..100 {
                    let key = theirs.below(known.max(1));
                    let found = reader.get::<u64>(key.to_ne_bytes()).unwrap();
                    assert!(
                        found == Some(!key) || known == 0,
                        "{key} of {known}: {found:?}"
                    );
                    let none = reader.get::<u64>((count + key).to_ne_bytes()).unwrap();
                    assert_eq!(none, None);
                    reads += 1;
                }
                std::thread::yield_now();
            }
            eprintln!("{reads} reads meanwhile");
        });
        let mut next = 0;
        while next < count {
            let more = (next..count.min(next + 5_000)).map(|i| (i.to_ne_bytes(), !i));
            next += store.extend::<u64, _, _>(more).unwrap() as u64;
            there.store(next, Release);
        }
    });
    let stats = store.stats();
    let doublings = (stats.buckets / 256).ilog2();
    eprintln!("{doublings} doublings: {stats:?}");
    assert!(doublings >= scale(7, 12) as u32);
    assert_eq!((stats.keys, stats.buckets), (count, stats.splits + 256));
    // As full as it should be, and no fuller.
    assert!(2 * (count + 1) <= 9 * stats.buckets && 2 * (count + 1) > 9 * (stats.buckets - 1));
    let mut seen = vec![false; count as usize];
    for (key, value) in store.iter::<u64>() {
        let key = u64::from_ne_bytes(key.try_into().unwrap());
        assert_eq!(value, !key);
        assert!(
            !std::mem::replace(&mut seen[key as usize], true),
            "{key} twice"
        );
    }
    assert!(seen.iter().all(|seen| *seen));
    for key in 0..count {
        assert_eq!(store.get::<u64>(key.to_ne_bytes()).unwrap(), Some(!key));
    }
    store.verify().unwrap();
    store.clear().unwrap();
    assert!(store.is_empty());
    store.verify().unwrap();
    store.remove().unwrap();
}

/// No call pays for the growth of all.
#[test]
fn a_store_grows_by_little_at_a_time() {
    const STEP: u64 = 64 << 10;
    let domain = Domain::new("store-steps");
    let store = options(domain.name()).create("s").unwrap();
    let size = || (store.stats().buckets, store.stats().file_bytes);
    let (mut steps, mut before) = (0, size());
    for key in 0..8_000u64 {
        store.set(key.to_ne_bytes(), &key).unwrap();
        let now = size();
        assert!(now.0 <= before.0 + 1, "{key}: {before:?} became {now:?}");
        assert!(now.1 <= before.1 + STEP, "{key}: {before:?} became {now:?}");
        steps += u64::from(now.1 > before.1);
        before = now;
    }
    assert!(before.0 > 1_500 && steps > 5, "{steps} steps to {before:?}");
    // A block is larger than what lies in it by a quarter at most.
    for len in [STEP, 5 * STEP, 16 * STEP] {
        store.set::<[u8]>("large", &vec![7; len as usize]).unwrap();
        let now = size();
        let most = before.1 + len + len / 4 + STEP;
        assert!(now.1 <= most, "{len}: {before:?} became {now:?}");
        before = now;
    }
    store.remove().unwrap();
}

/// A store that was made for so many entries is as one that grew to it.
#[test]
fn a_store_made_for_many_needs_no_split() {
    let domain = Domain::new("store-capacity");
    for capacity in [0, 1_152, 1_153, 20_000, 1_200_000] {
        let made = options(domain.name()).capacity(capacity).create("s");
        let store = made.unwrap();
        let buckets = store.stats().buckets;
        assert!(2 * capacity <= 9 * buckets, "{capacity}: {buckets}");
        let count = capacity.clamp(1, 20_000) - 1;
        let all = (0..count).map(|i| (i.to_ne_bytes(), i));
        store.extend::<u64, _, _>(all).unwrap();
        assert_eq!(store.stats().splits, 0, "{capacity}");
        // And on it goes from there.
        let more = (count..count + 3_000).map(|i| (i.to_ne_bytes(), i));
        store.extend::<u64, _, _>(more).unwrap();
        assert!((0..count + 3_000).all(|i| store.get::<u64>(i.to_ne_bytes()).unwrap() == Some(i)));
        store.verify().unwrap();
        store.remove().unwrap();
    }
}

// ---- Churn.

/// Values come and go and change their sizes: what is freed is used again.
#[test]
fn a_store_that_only_changes_stops_growing() {
    let domain = Domain::new("store-churn");
    let store = options(domain.name()).create("s").unwrap();
    let mut random = Random::printed();
    let keys = 2_000;
    let len = |random: &mut Random| random.below(3_000) as usize >> random.below(8);
    let mut lens: Vec<_> = (0..keys).map(|_| len(&mut random)).collect();
    let set = |key: usize, len: usize| {
        store
            .set::<[u8]>(key.to_ne_bytes(), &vec![key as u8; len])
            .unwrap();
    };
    (0..keys).for_each(|key| set(key, lens[key]));
    let mut bytes = Vec::new();
    for round in 0..scale(40, 1_000) {
        // The same sizes under other keys: no class is in greater demand than before.
        let some: Vec<_> = (0..keys).filter(|_| random.below(3) == 0).collect();
        for key in &some {
            assert!(store.delete(key.to_ne_bytes()).unwrap());
        }
        for pair in some.chunks_exact(2) {
            lens.swap(pair[0], pair[1]);
        }
        some.iter().for_each(|key| set(*key, lens[*key]));
        bytes.push(store.stats().file_bytes);
        assert_eq!(bytes[0], bytes[round]);
    }
    for (key, len) in lens.iter().enumerate() {
        let value = store.get::<[u8]>(key.to_ne_bytes()).unwrap().unwrap();
        assert!(value == vec![key as u8; *len], "{key}");
    }
    store.verify().unwrap();
    // Any size under any key, in place: each class comes to its greatest demand.
    let rounds = scale(60, 1_000);
    for round in 0..2 * rounds {
        for key in 0..keys {
            if random.below(4) == 0 {
                set(key, len(&mut random));
            }
        }
        if round == rounds {
            bytes.push(store.stats().file_bytes);
        }
    }
    let (then, now) = (bytes.last().unwrap(), store.stats().file_bytes);
    assert!(now <= then + then / 10, "{then}, then {now} bytes");
    store.verify().unwrap();
    store.remove().unwrap();
}
