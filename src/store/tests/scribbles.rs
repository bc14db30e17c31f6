//! No content of a store's file makes a call panic or hang: it gets an error, or goes on with data
//! that is as good as what was written.

use super::damages::sound;
use super::{LOCK, Yard};
use crate::common::cases::{Cases, in_time};
use crate::common::random::Random;
use crate::common::tally::{scale, tally};
use crate::error::{Error, Result};
use crate::layout::{HEAP, store_word};
use crate::store::{CasError, Store};
use core::fmt::Debug;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

/// Changes a word of the file, a header's more often than another, and says whether it is another
/// now.
fn patch(file: &File, random: &mut Random) -> bool {
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
    new != old
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
    let cases = Cases::new("scribbled stores");
    let mut patched = 0;
    while cases.count() < scale(800, 45_000) {
        cases.begin();
        let mut is_patched = false;
        let (before, during) = (random.below(4), random.below(4));
        let name = yard.put(&image);
        let path = yard.file(&name);
        let file = File::options().read(true).write(true).open(path).unwrap();
        // Some hold it open, others come then.
        let early = yard.brief().open(&name).unwrap();
        (0..before).for_each(|_| is_patched |= patch(&file, &mut random));
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
                Err(e) => panic!("{e:?}"),
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
                is_patched |= patch(&file, &mut random);
            }
        }
        drop(stores);
        yard.take(&name);
        patched += u64::from(is_patched);
    }
    tally("corrupt", "store files patched", patched);
}

/// How often a store in use is patched, and how much is done with it between two patches.
const PATCHES: usize = 30;
const PACE: usize = 10;

/// The same at no agreed moment: two threads use it meanwhile.
#[test]
fn a_store_that_is_scribbled_over_all_the_time_gives_typed_errors() {
    let yard = Yard::new("store-scribbling");
    let image = yard.image(sound);
    let mut random = yard.random.clone();
    let cases = Cases::new("stores scribbled over all the time");
    let (mut patched, mut to_the_end) = (0, 0);
    let rounds = scale(80, 1_800);
    for _ in 0..rounds {
        cases.begin();
        let name = yard.put(&image);
        let path = yard.file(&name);
        let file = File::options().read(true).write(true).open(path).unwrap();
        let stores = [0, 1].map(|_| yard.brief().open(&name).unwrap());
        let (acts, goes_on) = (AtomicUsize::new(0), AtomicBool::new(true));
        let traffic = |store: &Store, mut random: Random| {
            // So that it goes on behind the last patch, too.
            let mut left = 2 * PACE;
            while left > 0 && in_time("a call", || act(store, &mut random)) {
                left -= usize::from(!goes_on.load(Relaxed));
                acts.fetch_add(1, Relaxed);
            }
        };
        std::thread::scope(|scope| {
            let all = stores.each_ref().map(|store| {
                let (random, traffic) = (Random::of(random.next()), &traffic);
                scope.spawn(move || traffic(store, random))
            });
            // Nobody goes on where a patch gave the lock to somebody who lives.
            let is_over = || all.iter().all(|thread| thread.is_finished());
            for patches in 1..=PATCHES {
                while acts.load(Relaxed) < PACE * patches && !is_over() {
                    std::thread::sleep(Duration::from_micros(20));
                }
                if !is_over() {
                    patched += u64::from(patch(&file, &mut random));
                }
            }
            to_the_end += usize::from(!is_over());
            goes_on.store(false, Relaxed);
        });
        drop(stores);
        yard.take(&name);
    }
    println!("{to_the_end} of {rounds} rounds went on behind the last patch");
    assert!(2 * to_the_end > rounds);
    tally("hostile", "patches of a store in use", patched);
}
