//! No content of a store's file makes a call panic or hang: it gets an error, or goes on with data
//! that is as good as what was written.

use super::damages::sound;
use super::{LOCK, Yard};
use crate::common::random::Random;
use crate::common::tally::{scale, tally};
use crate::error::{Error, Result};
use crate::layout::{HEAP, store_word};
use crate::store::{CasError, Store};
use core::fmt::Debug;
use std::fs::File;
use std::os::unix::fs::FileExt;

/// Changes a word of the file, a header's more often than another.
fn patch(file: &File, random: &mut Random) {
    let size = file.metadata().unwrap().len();
    let at = 8 * match random.below(20) {
        0 => random.below(256 / 8),
        1 => store_word!(buckets),
        2..6 => store_word!(sequence) + random.below(12),
        6..9 => store_word!(runs) + random.below(3 * 97),
        9 => store_word!(journal_len) + random.below(33),
        10 => store_word!(pieces) + random.below(3),
        11 if random.below(4) == 0 => LOCK / 8,
        12..17 => HEAP as u64 / 8 + random.below(40_000 / 8),
        _ => random.below(size / 8),
    };
    let read = |at: u64| {
        let mut bytes = [0; 8];
        file.read_exact_at(&mut bytes, at).unwrap();
        u64::from_ne_bytes(bytes)
    };
    let old = read(at);
    let new = match random.below(8) {
        0 => random.next(),
        1 => 0,
        2 => old ^ 1 << random.below(64),
        3 => old.wrapping_add([1, 8, 4, u64::MAX, 1 << 36][random.below(5) as usize]),
        // What is right elsewhere.
        4..6 => read(8 * random.below(size / 8)),
        6 => HEAP as u64 / 8 + 4 * random.below(size / 32),
        _ => [1, 2, 7, 1 << 28, 1 << 31, 1 << 47, 1 << 63, u64::MAX][random.below(8) as usize],
    };
    file.write_all_at(&new.to_ne_bytes(), at).unwrap();
}

/// `false` if there is no use in going on: somebody who lives seems to have the lock.
pub(super) fn fine<T: Debug>(outcome: Result<T>) -> bool {
    match outcome {
        Ok(_)
        | Err(
            Error::Corrupt { .. }
            | Error::Damaged { .. }
            | Error::Contended
            | Error::Decode(_)
            | Error::TypeMismatch { .. }
            | Error::TooManyCollisions { .. }
            | Error::NoSpace { .. }
            | Error::ReadOnly,
        ) => true,
        Err(Error::LockTimeout { .. }) => false,
        Err(e) => panic!("{e:?}"),
    }
}

/// Does something with the store; `false` as [`fine`].
fn act(store: &Store, random: &mut Random) -> bool {
    let key = match random.below(4) {
        0 => "alone".to_string(),
        1 => format!("number {}", random.below(200)),
        2 => format!("text {}", random.below(200)),
        _ => format!("k{}", random.below(3000)),
    };
    let len = random.below(4000) as usize >> random.below(10);
    let value = vec![7; len];
    let number = random.next();
    match random.below(30) {
        0..6 => fine(store.set::<[u8]>(key, &value)),
        6 => fine(store.set(key, &number)),
        7 => fine(store.insert_new::<[u8]>(key, &value)),
        8 => fine(store.swap::<[u8]>(key, &value)),
        9 => fine(store.fetch_add(key, 1)),
        10 => match store.compare_and_set::<[u8]>(key, random.below(2000), &value) {
            Ok(_) | Err(CasError::Changed { .. }) => true,
            Err(CasError::Other(e)) => fine::<()>(Err(e)),
        },
        11 => fine(store.update::<[u8]>(key, |old| old.map(|old| [old, vec![1; 9]].concat()))),
        12 => {
            let some = (0..random.below(40)).map(|i| (format!("new {i}"), &value[..]));
            fine(store.extend::<[u8], _, _>(some))
        }
        13..16 => fine(store.delete(key)),
        16 if random.below(10) == 0 => fine(store.clear()),
        17 => fine(store.verify()),
        18 => fine(store.get_all::<[u8]>()),
        19 => store.iter::<str>().count() < 1_000_000,
        20 => store.keys().count() < 1_000_000,
        21 => store.stats().free_blocks.len() < 100,
        22 => fine(store.type_of(key)),
        23 => fine(store.contains(key)),
        24 => fine(store.get::<u64>(key)),
        25 => fine(store.get_into(key, &mut Vec::new())),
        26 => fine(store.watch::<u64>(key).map(|watch| watch.key().len())),
        _ => fine(store.get::<[u8]>(key)),
    }
}

#[test]
fn a_store_that_was_scribbled_over_gives_typed_errors() {
    let yard = Yard::new("store-scribbled");
    let image = yard.image(sound);
    let mut random = yard.random.clone();
    let cases = scale(800, 40_000);
    for case in 0..cases {
        let (before, during) = (random.below(4), random.below(4));
        let name = yard.put(&image);
        let path = yard.file(&name);
        let file = File::options().read(true).write(true).open(path).unwrap();
        // Some hold it open, others come then.
        let early = yard.brief().open(&name).unwrap();
        (0..before).for_each(|_| patch(&file, &mut random));
        let late = yard.brief().open(&name);
        let reader = yard.brief().read_only().open(&name);
        for outcome in [&late, &reader] {
            match outcome {
                Ok(_)
                | Err(
                    Error::Refused { .. }
                    | Error::Layout { .. }
                    | Error::Corrupt { .. }
                    | Error::Damaged { .. }
                    | Error::ForeignRoster { .. }
                    | Error::LockTimeout { .. },
                ) => {}
                Err(e) => panic!("case {case}: {e:?}"),
            }
        }
        let stores = [Some(early), late.ok(), reader.ok()];
        let stores: Vec<_> = stores.into_iter().flatten().collect();
        for part in 0..=during {
            for _ in 0..12 {
                let store = &stores[random.below(stores.len() as u64) as usize];
                if !act(store, &mut random) {
                    break;
                }
            }
            if part < during {
                patch(&file, &mut random);
            }
        }
        drop(stores);
        yard.take(&name);
    }
    tally("corrupt", "store files patched", cases as u64);
}

/// The same at no agreed moment: two threads use it meanwhile.
#[test]
fn a_store_that_is_scribbled_over_all_the_time_gives_typed_errors() {
    let yard = Yard::new("store-scribbling");
    let image = yard.image(sound);
    let mut random = yard.random.clone();
    let rounds = scale(80, 1_500);
    for _ in 0..rounds {
        let name = yard.put(&image);
        let path = yard.file(&name);
        let file = File::options().read(true).write(true).open(path).unwrap();
        let stores = [0, 1].map(|_| yard.brief().open(&name).unwrap());
        let seeds = [random.next(), random.next()];
        std::thread::scope(|scope| {
            for (store, seed) in stores.iter().zip(seeds) {
                scope.spawn(move || {
                    let mut random = Random::of(seed);
                    for _ in 0..200 {
                        if !act(store, &mut random) {
                            break;
                        }
                    }
                });
            }
            for _ in 0..30 {
                patch(&file, &mut random);
                std::thread::yield_now();
            }
        });
        drop(stores);
        yard.take(&name);
    }
    tally("hostile", "patches of a store in use", 30 * rounds as u64);
}
