//! One word of a sound store is damaged: `verify` names what is wrong, and all other calls give
//! what is right or an error, and end.

use super::Yard;
use super::damages::{Damage, Harm, damages, entry, put, sound, word};
use super::scenes::chain;
use crate::common::tally::tally;
use crate::error::{Error, Result};
use crate::layout::{DOOR, FIRST_BITS, PIECES, store_word};
use crate::store::Store;
use crate::store::blocks::{Class, FREE};
use crate::store::scan::Groups;
use crate::store::table::{Entry, MOST_BUCKETS, block_of, slot_of};
use crate::sync::Ordering::Relaxed;
use crate::sync::kills::{count, killed_after};
use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

type Content = BTreeMap<Vec<u8>, Vec<u8>>;

fn content_of(store: &Store) -> Content {
    let all = store.keys().map(|key| {
        let mut value = Vec::new();
        assert!(store.get_into(&key, &mut value).unwrap());
        (key, value)
    });
    all.collect()
}

#[test]
fn one_damaged_word_is_found_and_named() {
    let yard = Yard::new("store-damage");
    let image = yard.image(sound);
    let damages = damages();
    for damage in &damages {
        let why = damage.what;
        let name = yard.put(&image);
        let store = yard.options().open(&name).unwrap();
        let content = content_of(&store);
        let reader = yard.options().read_only().open(&name).unwrap();
        (damage.make)(&store);
        let damaged = fs::read(yard.file(&name)).unwrap();
        // Those who have it open find the flaw, and so do those who come now.
        must_name(damage, reader.verify());
        use_read_only(damage, &reader, &content);
        use_all(damage, &store, &content);
        drop((store, reader));
        yard.take(&name);

        let name = yard.put(&damaged);
        let reader = yard.options().read_only().open(&name);
        let store = yard.options().open(&name);
        assert_eq!(reader.is_err(), damage.refused, "{why}: {reader:?}");
        match (reader, store) {
            (Ok(reader), Ok(store)) => {
                must_name(damage, reader.verify());
                // What a killed writer may leave is finished before it is looked at.
                fine(why, store.verify());
                use_read_only(damage, &reader, &content);
                use_all(damage, &store, &content);
            }
            (Err(Error::Corrupt { .. }), Err(Error::Corrupt { .. })) => {}
            other => panic!("{why}: {other:?}"),
        }
        yard.take(&name);
    }
    tally(
        "corrupt",
        "kinds of damage to a store",
        damages.len() as u64,
    );
}

fn must_name(damage: &Damage, outcome: Result<()>) {
    match outcome {
        Err(Error::Damaged { flaws, .. }) => {
            let named = flaws.iter().any(|flaw| flaw.contains(damage.flaw));
            assert!(named, "{}: {flaws:#?}", damage.what);
        }
        other => panic!("{}: {other:?}", damage.what),
    }
}

/// What a call may say of a damaged store.
#[track_caller]
fn fine<T: std::fmt::Debug>(why: &str, outcome: Result<T>) -> Option<T> {
    match outcome {
        Ok(value) => Some(value),
        Err(
            Error::Corrupt { .. }
            | Error::Damaged { .. }
            | Error::Contended
            | Error::TypeMismatch { .. }
            | Error::TooManyCollisions { .. }
            | Error::NoSpace { .. },
        ) => None,
        Err(e) => panic!("{why}: {e:?}"),
    }
}

/// Reads all that there should be.
fn use_read_only(damage: &Damage, store: &Store, content: &Content) {
    let why = damage.what;
    let mut out = Vec::new();
    for (key, value) in content {
        let name = String::from_utf8_lossy(key);
        match fine(why, store.get_into(key, &mut out)) {
            Some(true) => assert!(out == *value || damage.harm == Harm::Wrong, "{why}: {name}"),
            Some(false) => assert_ne!(damage.harm, Harm::None, "{why}: {name} is gone"),
            None => {}
        }
        fine(why, store.contains(key));
        fine(why, store.type_of(key));
    }
    assert!(store.keys().count() <= 2 * content.len(), "{why}");
    for (key, value) in store.iter::<[u8]>() {
        let right = content.get(&key) == Some(&value);
        assert!(right || damage.harm == Harm::Wrong, "{why}: {key:?}");
    }
    let _ = (store.stats(), store.len());
}

/// Does everything else.
fn use_all(damage: &Damage, store: &Store, content: &Content) {
    let why = damage.what;
    if let Some(all) = fine(why, store.get_all::<[u8]>()) {
        let is_other = |key: &[u8]| key.starts_with(b"number ") || key.starts_with(b"text ");
        let mut wanted = content.clone();
        wanted.retain(|key, _| !is_other(key));
        let right = all == wanted || damage.harm != Harm::None;
        assert!(right, "{why}: {} of {}", all.len(), wanted.len());
    }
    use_read_only(damage, store, content);
    for (key, value) in content {
        let new = vec![9; value.len()];
        if fine(why, store.set::<[u8]>(key, &new)).is_some() && damage.harm == Harm::None {
            let now = fine(why, store.get::<[u8]>(key));
            assert!(now.is_none() || now == Some(Some(new)), "{why}");
        }
    }
    let add = |old: Option<Vec<u8>>| old.map(|old| [old, vec![1; 70]].concat());
    for key in content.keys() {
        fine(why, store.update::<[u8]>(key, add));
    }
    let more = (0..300u32).map(|i| (format!("more {i}"), vec![i as u8; i as usize]));
    fine(why, store.extend::<[u8], _, _>(more));
    for key in content.keys().step_by(2) {
        fine(why, store.delete(key));
    }
    fine(why, store.clear());
    fine(why, store.verify());
    let _ = (store.stats(), store.keys().count());
}

/// A store that never split has nothing to finish.
#[test]
fn a_split_that_never_was_takes_nothing_away() {
    let yard = Yard::new("store-no-split");
    let image = yard.image(|store| chain(store, 3, 3));
    let name = yard.put(&image);
    let store = yard.options().open(&name).unwrap();
    assert_eq!(store.stats().buckets, 1 << FIRST_BITS);
    let content = content_of(&store);
    put(&store, store_word!(split_pending), 1);
    let at = 8 * store_word!(split_pending);
    match store.set("new", &1u8) {
        Err(Error::Corrupt { offset, .. }) => assert_eq!(offset, at),
        other => panic!("{other:?}"),
    }
    assert_eq!(content_of(&store), content);
    drop(store);
    yard.take(&name);
}

/// Lists without an end in a file that says it is huge: numbers about it are given all the same,
/// before the watchdog bites.
#[test]
fn endless_lists_of_a_huge_store_are_left() {
    let yard = Yard::new("store-huge");
    let huge = 1u64 << 40;
    let store = yard.options().max_size(huge).create("huge").unwrap();
    sound(&store);
    let class = Class::all().find(|class| word(&store, class.free()) != 0);
    let first = word(&store, class.unwrap().free());
    for class in Class::all() {
        put(&store, class.free(), first);
    }
    put(&store, first, FREE | first);
    let file = fs::File::options().write(true).open(yard.file("huge"));
    file.unwrap().set_len(huge).unwrap();
    let stats = store.stats();
    assert_eq!(stats.file_bytes, huge);
    assert!(stats.free_bytes <= huge, "{stats:?}");
    yard.take("huge");
}

/// A file that is cut down to its header while it is open: numbers about it count nothing more.
#[test]
fn a_store_without_a_heap_has_numbers() {
    let yard = Yard::new("store-no-heap");
    let store = yard.options().create("s").unwrap();
    store.set("one", &1u8).unwrap();
    let file = fs::File::options().write(true).open(yard.file("s"));
    file.unwrap().set_len(DOOR as u64).unwrap();
    assert_eq!(store.stats().index_bytes, 0);
    store.remove().unwrap();
}

/// In a file that has room for it, a value larger than any.
#[test]
fn a_block_larger_than_any_is_none() {
    let yard = Yard::new("store-large");
    let store = yard.options().max_size(4 << 30).create("s").unwrap();
    store.set("one", &1u8).unwrap();
    let file = fs::File::options().write(true).open(yard.file("s"));
    file.unwrap().set_len(4 << 30).unwrap();
    let at = entry(&store, "one").at + 1;
    put(&store, at, word(&store, at) | 0x7fff_ffff << 16);
    let outcome = store.contains("one");
    assert!(matches!(outcome, Err(Error::Corrupt { .. })), "{outcome:?}");
    store.remove().unwrap();
}

/// A key that cannot be read without the lock, which somebody else has: a watch of it goes on.
#[test]
fn a_watch_outlasts_a_lock_that_is_held() {
    let yard = Yard::new("store-watch-lock");
    let store = yard.brief().create("s").unwrap();
    store.set("one", &1u8).unwrap();
    let mut watch = store.watch::<u8>("one").unwrap();
    let holder = yard.options().open("s").unwrap();
    let locked = holder.attachment.lock().unwrap();
    let stamp = entry(&store, "one").at;
    let before = word(&store, stamp);
    put(&store, stamp, FREE);
    let outcome = watch.wait_timeout(Duration::from_millis(100));
    assert!(matches!(outcome, Err(Error::Timeout)), "{outcome:?}");
    put(&store, stamp, before);
    drop(locked);
    store.set("one", &2u8).unwrap();
    assert_eq!(watch.wait().unwrap(), Some(2));
    store.remove().unwrap();
}

/// Where each bucket of a store begins.
fn homes(store: &Store) -> impl Iterator<Item = u64> {
    let table = &store.attachment.table;
    (0..store.stats().buckets).map(|index| table.bucket_at(index).unwrap())
}

/// Whoever has the lock cannot wait for it.
#[test]
fn the_name_of_another_type_is_not_waited_for() {
    let yard = Yard::new("store-type-name");
    let store = yard.options().lock_timeout(Duration::MAX);
    let store = store.create("s").unwrap();
    store.set("k", "text").unwrap();
    let name = store.attachment.table.find(
        &store
            .attachment
            .internal(&crate::codec::type_hash::<str>().to_ne_bytes()),
    );
    let crate::store::lookup::Probe::Hit(name) = name else {
        panic!("it has no name");
    };
    put(&store, block_of(name.slot_word), 0);
    let outcome = store.fetch_add("k", 1);
    assert!(
        matches!(outcome, Err(Error::TypeMismatch { .. })),
        "{outcome:?}"
    );
    store.remove().unwrap();
}

/// Three hundred thousand slots name one large block, which is gone through once.
#[test]
fn a_block_that_all_slots_name_is_walked_once() {
    let yard = Yard::new("store-one-block");
    let store = yard.options().max_size(1 << 28).capacity(200_000);
    let store = store.create("s").unwrap();
    store.set::<[u8]>("large", &vec![1; 60 << 20]).unwrap();
    let slot = entry(&store, "large").slot_word;
    for home in homes(&store) {
        (1..=7).for_each(|i| put(&store, home + i, slot));
    }
    let outcome = store.verify();
    assert!(matches!(outcome, Err(Error::Damaged { .. })), "{outcome:?}");
    // Its key belongs to one of the buckets, whose seven slots are more than there can be.
    assert_eq!(store.iter::<[u8]>().count(), 1);
    let outcome = store.get_all::<[u8]>();
    assert!(matches!(outcome, Err(Error::Corrupt { .. })), "{outcome:?}");
    store.remove().unwrap();
}

/// A file says that it has 64 GiB in use, and has not.
#[test]
fn a_store_without_its_pages_is_not_walked() {
    let yard = Yard::new("store-no-pages");
    let huge = 1u64 << 36;
    let store = yard.options().max_size(huge).create("s").unwrap();
    sound(&store);
    let file = fs::File::options().write(true).open(yard.file("s"));
    file.unwrap().set_len(huge).unwrap();
    let first = word(&store, store_word!(cursor));
    put(&store, store_word!(end), huge / 8);
    put(&store, store_word!(cursor), huge / 8);
    for class in Class::all() {
        put(&store, class.next(), first);
        put(&store, class.end(), huge / 8);
    }
    match store.verify() {
        Err(Error::Damaged { flaws, .. }) => {
            assert!(flaws[0].contains("pages"), "{flaws:?}");
        }
        other => panic!("{other:?}"),
    }
    store.remove().unwrap();
}

/// A quarter of a million chains without an end: whoever goes through all of them does so in the
/// end, and under the lock looks at each but once.
#[test]
fn chains_in_a_circle_do_not_hold_a_scan_up() {
    let yard = Yard::new("store-circles");
    let store = yard.options().capacity(1_200_000).create("s").unwrap();
    store.set("one", &1u8).unwrap();
    homes(&store).for_each(|home| put(&store, home, home));
    assert_eq!(store.keys().collect::<Vec<_>>(), [b"one"]);
    assert_eq!(store.iter::<u8>().count(), 1);
    let outcome = store.get_all::<u8>();
    assert!(matches!(outcome, Err(Error::Corrupt { .. })), "{outcome:?}");
    store.remove().unwrap();
}

/// All pieces of the table lie in one place, and there are said to be more than a file of this size
/// has: no more buckets are gone through than there can be.
#[test]
fn buckets_that_cannot_be_are_not_read() {
    let yard = Yard::new("store-overlap");
    let store = yard.options().create("s").unwrap();
    store.set("one", &1u8).unwrap();
    let block = block_of(entry(&store, "one").slot_word);
    let first = word(&store, store_word!(pieces));
    (0..PIECES as u64).for_each(|piece| put(&store, store_word!(pieces) + piece, first));
    for home in homes(&store) {
        (1..=7).for_each(|i| put(&store, home + i, slot_of(i, block)));
    }
    put(&store, store_word!(buckets), MOST_BUCKETS);
    let table = &store.attachment.table;
    let buckets = table.memory.len() / 8;
    for mut groups in [Groups::of(table), Groups::under_lock(table)] {
        let all = std::iter::from_fn(|| groups.next(table, |_: &Entry<'_>| Ok(Some(()))));
        let read = all.count() as u64;
        assert!((1..=buckets).contains(&read), "{read} of {buckets}");
    }
    store.remove().unwrap();
}

/// After a boot, and so perhaps a power cut, a store is looked at before it is used.
#[test]
fn a_store_of_another_boot_is_looked_at_first() {
    let yard = Yard::new("store-boot");
    let another_boot = |store: &Store| put(store, store_word!(boot_id), 1);
    let sound = yard.image(|store| {
        sound(store);
        another_boot(store);
    });
    let of_boot = |name: &str| {
        let at = 8 * store_word!(boot_id) as usize;
        fs::read(yard.file(name)).unwrap()[at..][..8].to_vec()
    };
    let name = yard.put(&sound);
    drop(yard.options().read_only().open(&name).unwrap());
    assert_eq!(of_boot(&name), 1u64.to_ne_bytes());
    drop(yard.options().open(&name).unwrap());
    assert_eq!(of_boot(&name), of_boot("keeper"));
    yard.take(&name);

    // What is damaged is refused, each time.
    let damage = &damages()[0];
    let name = yard.put(&sound);
    let store = yard.options().open(&name).unwrap();
    (damage.make)(&store);
    another_boot(&store);
    drop(store);
    for _ in 0..2 {
        must_name(damage, yard.options().open(&name).map(drop));
        let reader = yard.options().read_only().open(&name);
        must_name(damage, reader.map(drop));
    }
    yard.take(&name);

    // What was cut short is finished.
    let name = yard.put(&sound);
    let store = yard.options().open(&name).unwrap();
    let points = count(|| store.set::<[u8]>("alone", &[1; 100]).unwrap()).1;
    let cut = killed_after(points - 3, || {
        store.set::<[u8]>("alone", &[2; 100]).unwrap()
    });
    assert!(cut.is_none());
    store.attachment.door().lock.word().store(0, Relaxed);
    another_boot(&store);
    drop(store);
    let reader = yard.options().read_only().open(&name);
    assert!(matches!(reader, Err(Error::Damaged { .. })), "{reader:?}");
    let store = yard.options().open(&name).unwrap();
    assert_eq!(store.get::<[u8]>("alone").unwrap(), Some(vec![2; 100]));
    assert_eq!(store.stats().recoveries, 1);
    drop(store);
    yard.take(&name);
}
