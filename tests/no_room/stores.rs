//! The calls of a store, with their system calls failing.

use super::Left;
use super::faults::Bench;
use crate::common::stores::actor_with;
use ringlane::{CasError, Error, Result, Store, StoreOptions};
use std::sync::mpsc;
use std::time::Duration;

const SHORT: Duration = Duration::from_millis(2);
const LONG: Duration = Duration::from_secs(10);
/// More than a file grows by at once.
const LARGE: usize = 100 << 10;

fn options() -> StoreOptions {
    Store::options().domain("d").max_size(16 << 20)
}

fn create() -> Store {
    let store = options().create("s").unwrap();
    store.set("old", &1u64).unwrap();
    store
}

/// Whatever came of a call, what was there is there, and the store can be used.
fn is_whole(store: &Store) {
    assert_eq!(store.get::<u64>("old").unwrap(), Some(1));
    store.set("new", &2u64).unwrap();
    assert_eq!(store.get::<u64>("new").unwrap(), Some(2));
    store.verify().unwrap();
}

fn end(store: Store) {
    is_whole(&store);
    store.remove().unwrap();
}

/// What a call of a store must not have failed at.
fn went_well(outcome: &Result<()>) {
    assert!(outcome.is_ok(), "{outcome:?}");
}

pub fn scenes(bench: &mut Bench) {
    making(bench);
    {
        let keeper = options().create("keeper").unwrap();
        opening(bench);
        in_a_directory(bench);
        keeper.remove().unwrap();
    }
    changing(bench);
    growing(bench);
    reading(bench);
    watching(bench);
    after_a_death(bench);
}

fn making(bench: &mut Bench) {
    let used = |store: Option<Store>, outcome: &Result<()>| {
        let store = match outcome {
            Ok(()) => store.unwrap(),
            Err(_) => options().open_or_create("s").unwrap(),
        };
        store.set("old", &1u64).unwrap();
        end(store);
    };
    bench.scene(
        "open_or_create, the first of its domain",
        || None,
        |store| {
            *store = Some(options().open_or_create("s")?);
            Ok(())
        },
        used,
    );
    bench.scene(
        "create of a store",
        || None,
        |store| {
            *store = Some(options().create("s")?);
            Ok(())
        },
        used,
    );
    bench.scene(
        "drop of a store, and open of it",
        || Some(create()),
        |store| {
            *store = None;
            *store = Some(options().open("s")?);
            Ok(())
        },
        |store, outcome| {
            end(match outcome {
                Ok(()) => store.unwrap(),
                Err(_) => options().open("s").unwrap(),
            });
        },
    );
}

fn opening(bench: &mut Bench) {
    let of = |read_only: bool| match read_only {
        true => options().read_only(),
        false => options(),
    };
    for (name, read_only) in [("open of a store", false), ("open, to read only", true)] {
        bench.scene(
            name,
            || (None, create()),
            |(store, _)| {
                *store = Some(of(read_only).open("s")?);
                Ok(())
            },
            |(store, maker), outcome| {
                let store = match outcome {
                    Ok(()) => store.unwrap(),
                    Err(_) => of(read_only).open("s").unwrap(),
                };
                assert_eq!(store.get::<u64>("old").unwrap(), Some(1));
                end(maker);
            },
        );
    }
    bench.scene(
        "open_or_create, where it is",
        || (None, create()),
        |(store, _)| {
            *store = Some(options().open_or_create("s")?);
            Ok(())
        },
        |(_, maker), _| end(maker),
    );
    bench.scene(
        "open of a store, where there is none",
        || (),
        |()| match options().open("s") {
            Err(Error::NotFound { .. }) => Ok(()),
            other => other.map(drop),
        },
        |(), _| (),
    );
    bench.scene(
        "remove of a store that is held",
        create,
        |store| store.remove(),
        |store, outcome| {
            let is_there = options().open("s").is_ok();
            assert_eq!(is_there, outcome.is_err());
            end(store);
        },
    );
    bench.scene(
        "remove of a store",
        || drop(create()),
        |()| options().remove("s"),
        |(), outcome| {
            let is_there = options().open("s").is_ok();
            assert_eq!(is_there, outcome.is_err());
            if is_there {
                options().remove("s").unwrap();
            }
        },
    );
}

fn in_a_directory(bench: &mut Bench) {
    let directory = crate::common::base().parent().unwrap().join("here");
    std::fs::create_dir(&directory).unwrap();
    let options = || Store::options().path(&directory).max_size(16 << 20);
    bench.scene(
        "open_or_create, in a directory",
        || None,
        |store| {
            *store = Some(options().open_or_create("s")?);
            Ok(())
        },
        |store, outcome| {
            let store = match outcome {
                Ok(()) => store.unwrap(),
                Err(_) => options().open_or_create("s").unwrap(),
            };
            store.set("old", &1u64).unwrap();
            end(store);
        },
    );
    std::fs::remove_dir(&directory).unwrap();
}

fn changing(bench: &mut Bench) {
    type Change = fn(&Store) -> Result<()>;
    let changes: [(&str, Change); 11] = [
        ("set", |store| store.set("k", &3u64).map(drop)),
        ("set, of a new type", |store| {
            store.set("k", "text").map(drop)
        }),
        ("delete", |store| store.delete("k").map(drop)),
        ("update", |store| {
            let add = |old: Option<u64>| Some(old.unwrap_or(0) + 1);
            store.update::<u64>("k", add).map(drop)
        }),
        ("fetch_add", |store| store.fetch_add("n", 5).map(drop)),
        ("insert_new", |store| store.insert_new("l", &3u64).map(drop)),
        ("swap", |store| store.swap("k", &3u64).map(drop)),
        ("compare_and_set", |store| {
            let set = store.compare_and_set("m", 0, &3u64).map(drop);
            set.map_err(|e| match e {
                CasError::Other(e) => e,
                changed => panic!("{changed}"),
            })
        }),
        ("extend", |store| {
            let some = (0..300u64).map(|n| (n.to_ne_bytes(), n));
            store.extend::<u64, _, _>(some).map(drop)
        }),
        ("clear", |store| {
            store.clear()?;
            store.set("old", &1u64).map(drop)
        }),
        ("sync", Store::sync),
    ];
    for (name, change) in changes {
        bench.scene(
            name,
            || {
                let store = create();
                store.set("k", &2u64).unwrap();
                store
            },
            |store| change(store),
            |store, _| end(store),
        );
    }
}

fn growing(bench: &mut Bench) {
    bench.scene(
        "set, of what the file must grow for",
        create,
        |store| store.set("large", &vec![7u8; LARGE][..]).map(drop),
        |store, outcome| {
            let large = store.get::<[u8]>("large").unwrap();
            assert_eq!(large.is_some(), outcome.is_ok());
            assert!(large.is_none_or(|value| value == [7; LARGE]));
            is_whole(&store);
            store.set("large", &vec![8u8; LARGE][..]).unwrap();
            end(store);
        },
    );
    bench.scene(
        "get, of what another grew the file for",
        || {
            let (store, other) = (create(), options().open("s").unwrap());
            other.set("large", &vec![7u8; LARGE][..]).unwrap();
            store
        },
        |store| {
            let large = store.get::<[u8]>("large")?;
            assert_eq!(large.unwrap(), [7; LARGE]);
            Ok(())
        },
        |store, _| {
            assert_eq!(store.get::<[u8]>("large").unwrap().unwrap(), [7; LARGE]);
            end(store);
        },
    );
    bench.scene(
        "set, beyond what another grew the file for",
        || {
            let (store, other) = (create(), options().open("s").unwrap());
            other.set("large", &vec![7u8; LARGE][..]).unwrap();
            store
        },
        |store| store.set("larger", &vec![8u8; LARGE][..]).map(drop),
        |store, _| {
            assert_eq!(store.get::<[u8]>("large").unwrap().unwrap(), [7; LARGE]);
            end(store);
        },
    );
}

fn reading(bench: &mut Bench) {
    bench.scene(
        "get, iter and the other reads",
        create,
        |store| {
            assert_eq!(store.get::<u64>("old")?, Some(1));
            assert!(store.contains("old")? && !store.contains("nothing")?);
            assert_eq!(store.iter::<u64>().count(), 1);
            assert_eq!(store.keys().count(), 1);
            assert_eq!(store.get_all::<u64>()?.len(), 1);
            assert!(store.type_of("old")?.unwrap().starts_with("u64"));
            assert_eq!(store.len(), 1);
            assert_eq!(store.stats().keys, 1);
            store.verify()
        },
        |store, _| end(store),
    );
}

fn watching(bench: &mut Bench) {
    bench.scene(
        "watch and wait_timeout, in vain",
        create,
        |store| match store.watch::<u64>("old")?.wait_timeout(SHORT) {
            Err(Error::Timeout) => Ok(()),
            other => other.map(drop),
        },
        |store, _| end(store),
    );
    bench.scene(
        "wait, for what another thread sets",
        || {
            let store = create();
            let watch = store.watch::<u64>("k").unwrap();
            let setting = store.clone();
            let thread = std::thread::spawn(move || {
                std::thread::sleep(SHORT);
                setting.set("k", &3u64).unwrap();
            });
            (store, Some(watch), thread)
        },
        |(_, watch, _)| {
            let mut watch = watch.take().unwrap();
            assert_eq!(watch.wait_timeout(LONG)?, Some(3));
            Ok(())
        },
        |(store, _, thread), outcome| {
            went_well(outcome);
            thread.join().unwrap();
            end(store);
        },
    );
    bench.scene(
        "on_change, a change, and stop",
        || {
            let (to, told) = mpsc::channel();
            (create(), to, told)
        },
        |(store, to, told)| {
            let to = to.clone();
            let watcher = store.watch::<u64>("k")?.on_change(move |value| {
                to.send(value.unwrap()).unwrap();
            })?;
            store.set("k", &3u64)?;
            assert_eq!(told.recv_timeout(LONG), Ok(Some(3)));
            watcher.stop()
        },
        |(store, ..), _| end(store),
    );
}

/// The store "s" whose lock is held by a process that was killed.
fn locked_by_the_dead() -> Left {
    drop(create());
    let mut holder = actor_with("d", "s");
    assert_eq!(holder.ask("hold old"), "inside");
    holder.kill();
    Left::of("s.store")
}

fn after_a_death(bench: &mut Bench) {
    let keeper = options().create("keeper").unwrap();
    let left = locked_by_the_dead();
    // Whoever cannot be proved dead counts as alive.
    bench.also = |e| matches!(e, Error::LockTimeout { .. });
    bench.scene(
        "set, with the lock held by the dead",
        || {
            left.put_back();
            let options = options().lock_timeout(Duration::from_millis(30));
            options.open("s").unwrap()
        },
        |store| store.set("k", &3u64).map(drop),
        |store, outcome| {
            let value = store.get::<u64>("k").unwrap();
            assert_eq!(value.is_some(), outcome.is_ok());
            end(store);
        },
    );
    bench.also = |_| false;
    keeper.remove().unwrap();
}
