//! What a store does not take: bad calls, bad files. Each gets an error that names what is wrong,
//! and nothing is changed.

mod common;

use common::Domain;
use common::seen::{Seen, gave_away, tally_refusals};
use common::stores::options;
use ringlane::zerocopy::{Immutable, IntoBytes, KnownLayout, TryFromBytes};
use ringlane::{CasError, Error, Message, Plain, Result, Store, StoreOptions};
use rustix::fs::{CWD, FileType, Mode};
use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

fn file(domain: &Domain) -> PathBuf {
    domain.path().join("s.store")
}

fn create(domain: &Domain) -> Store {
    options(domain.name()).create("s").unwrap()
}

/// All that a store holds.
fn content(store: &Store) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let all = store.keys().map(|key| {
        let mut value = Vec::new();
        assert!(store.get_into(&key, &mut value).unwrap());
        (key, value)
    });
    all.collect()
}

/// All calls that write, each for itself, and what came of it.
fn write_all(store: &Store, key: &[u8]) -> Vec<(&'static str, Result<()>)> {
    fn nothing<T>(outcome: Result<T>) -> Result<()> {
        outcome.map(|_| ())
    }
    let cas = |outcome: std::result::Result<u64, CasError>| match outcome {
        Ok(_) => Ok(()),
        Err(CasError::Other(e)) => Err(e),
        Err(e) => panic!("{e:?}"),
    };
    let mut all = vec![
        ("set", nothing(store.set(key, &1u64))),
        ("insert_new", nothing(store.insert_new(key, &1u64))),
        ("swap", nothing(store.swap(key, &1u64))),
        ("update", nothing(store.update::<u64>(key, |_| Some(1)))),
    ];
    let found = store.get_versioned::<u64>(key).ok().flatten();
    let version = found.map_or(0, |(_, version)| version);
    all.extend([
        (
            "compare_and_set",
            cas(store.compare_and_set(key, version, &1u64)),
        ),
        ("fetch_add", nothing(store.fetch_add(key, 1))),
        ("delete", nothing(store.delete(key))),
        ("extend", nothing(store.extend::<u64, _, _>([(key, 1)]))),
    ]);
    all
}

// ---- Keys and values.

#[test]
fn a_key_that_is_too_long_is_refused() {
    let domain = Domain::new("store-long-keys");
    let store = create(&domain);
    let too_long = vec![7; 65_536];
    let mut all = write_all(&store, &too_long);
    all.push(("get", store.get::<u64>(&too_long).map(|_| ())));
    all.push((
        "get_into",
        store.get_into(&too_long, &mut Vec::new()).map(|_| ()),
    ));
    all.push(("contains", store.contains(&too_long).map(|_| ())));
    all.push(("type_of", store.type_of(&too_long).map(|_| ())));
    all.push(("watch", store.watch::<u64>(&too_long).map(|_| ())));
    for (call, outcome) in all {
        match outcome {
            Err(Error::KeyTooLong { len, max }) => assert_eq!((len, max), (65_536, 65_535)),
            other => panic!("{call}: {other:?}"),
        }
    }
    assert_eq!(store.stats().changes, 0);
    // One byte less is a key.
    store.set(&too_long[1..], &1u64).unwrap();
    assert_eq!(store.get::<u64>(&too_long[1..]).unwrap(), Some(1));
    store.remove().unwrap();
}

#[test]
fn a_value_that_is_too_large_is_refused() {
    let domain = Domain::new("store-large");
    let store = options(domain.name())
        .max_size(1 << 20)
        .create("s")
        .unwrap();
    store.set::<[u8]>("k", b"small").unwrap();
    // Nobody looks at these zeros, so there is no memory behind them.
    let value = vec![0; (1 << 30) + 1];
    let most = (1 << 30) - 8 * (3 + 1);
    for len in [most + 1, 1 << 30, value.len()] {
        match store.set::<[u8]>("k", &value[..len]) {
            Err(Error::TooLarge { len: told, max }) => {
                assert_eq!((told, max), (len as u64, most as u64));
            }
            other => panic!("{len}: {other:?}"),
        }
    }
    match store.set::<[u8]>("k", &value[..most]) {
        Err(Error::NoSpace { needed, .. }) => assert!(needed > most as u64 / 2, "{needed}"),
        other => panic!("{other:?}"),
    }
    assert_eq!(
        store.get::<[u8]>("k").unwrap().as_deref(),
        Some(&b"small"[..])
    );
    store.verify().unwrap();
    store.remove().unwrap();
}

#[test]
fn a_full_store_says_so_and_stays_as_it_is() {
    let domain = Domain::new("store-full");
    for (len, step) in [(8, 1), (1000, 7), (50_000, 2)] {
        let store = options(domain.name())
            .max_size(1 << 20)
            .create("s")
            .unwrap();
        let value = vec![3; len];
        // Another key may still fit, where this one's bucket is full and there is none to add.
        let (new, error) = (0u32..)
            .map(u32::to_ne_bytes)
            .find_map(|key| Some((key, store.set::<[u8]>(key, &value).err()?)))
            .unwrap();
        match error {
            Error::NoSpace { path, needed, free } => {
                assert_eq!(path, domain.path().display().to_string());
                assert!(needed > 0 && needed > free, "{needed} of {free}");
            }
            other => panic!("{other:?}"),
        }
        let before = (content(&store), store.stats().changes);
        assert!(before.0.len() * (len + 48) > 500_000, "{}", before.0.len());
        for (call, outcome) in [
            ("set", store.set::<[u8]>(new, &value).map(|_| ())),
            (
                "insert_new",
                store.insert_new::<[u8]>(new, &value).map(|_| ()),
            ),
            ("swap", store.swap::<[u8]>(new, &value).map(|_| ())),
            (
                "update",
                store
                    .update::<[u8]>(new, |_| Some(value.clone()))
                    .map(|_| ()),
            ),
            (
                "extend",
                store.extend::<[u8], _, _>([(new, &value[..])]).map(|_| ()),
            ),
        ] {
            assert!(
                matches!(outcome, Err(Error::NoSpace { .. })),
                "{call}: {outcome:?}"
            );
        }
        assert_eq!((content(&store), store.stats().changes), before);
        store.verify().unwrap();
        // What is deleted makes room, and as much as was there.
        let keys: Vec<_> = before.0.keys().step_by(step).collect();
        keys.iter()
            .for_each(|key| assert!(store.delete(key).unwrap()));
        for key in keys {
            store.set::<[u8]>(key, &value).unwrap();
        }
        assert_eq!(content(&store), before.0);
        store.verify().unwrap();
        store.remove().unwrap();
    }
}

/// Same name, same codec, another shape.
#[derive(TryFromBytes, IntoBytes, KnownLayout, Immutable)]
#[zerocopy(crate = "ringlane::zerocopy")]
#[repr(C)]
struct Wide(u64);

impl Message for Wide {
    const NAME: &str = "u32";
    type Codec = Plain;
}

#[test]
fn another_type_is_a_mismatch_that_names_both() {
    let domain = Domain::new("store-types");
    let store = create(&domain);
    store.set("k", &1u32).unwrap();
    let shape = [
        "u32 (plain, 4 bytes, align 4)",
        "u32 (plain, 8 bytes, align 8)",
    ];
    match store.get::<Wide>("k").map(|_| ()) {
        Err(Error::TypeMismatch {
            name,
            expected,
            found,
        }) => {
            assert_eq!([&name, &*found, &*expected], ["k", shape[0], shape[1]]);
        }
        other => panic!("{other:?}"),
    }
    let mismatch = store
        .update::<str>("k", |_| panic!("there is no str"))
        .unwrap_err();
    let text = mismatch.to_string();
    assert!(
        text.contains("\"k\"") && text.contains("u32") && text.contains("str"),
        "{text}"
    );
    assert!(matches!(
        store.fetch_add("k", 1),
        Err(Error::TypeMismatch { .. })
    ));
    assert!(matches!(
        store.swap("k", "text"),
        Err(Error::TypeMismatch { .. })
    ));
    assert_eq!(store.get::<u32>("k").unwrap(), Some(1));
    store.remove().unwrap();
}

// ---- Handles.

#[test]
fn a_handle_for_reading_writes_nothing() {
    let domain = Domain::new("store-read-only");
    let store = create(&domain);
    store.set("k", &7u64).unwrap();
    let reader = options(domain.name()).read_only().open("s").unwrap();
    let bytes = fs::read(file(&domain)).unwrap();
    let mut all = write_all(&reader, b"k");
    all.extend(write_all(&reader, b"new"));
    all.push(("clear", reader.clear()));
    all.push(("remove", reader.remove()));
    // It takes the lock, to be of one moment.
    all.push(("get_all", reader.get_all::<u64>().map(|_| ())));
    let creates = options(domain.name()).read_only().create("other");
    all.push(("create", creates.map(|_| ())));
    for (call, outcome) in all {
        assert!(
            matches!(outcome, Err(Error::ReadOnly)),
            "{call}: {outcome:?}"
        );
    }
    reader.verify().unwrap();
    reader.sync().unwrap();
    assert_eq!(reader.get::<u64>("k").unwrap(), Some(7));
    assert_eq!(reader.watch::<u64>("k").unwrap().key(), b"k");
    assert!(fs::read(file(&domain)).unwrap() == bytes);
    store.clear().unwrap();
    assert!(matches!(reader.clear(), Err(Error::ReadOnly)));
    store.remove().unwrap();
}

#[test]
fn a_panic_in_an_update_changes_nothing_and_gives_the_lock_back() {
    let domain = Domain::new("store-panic");
    let store = create(&domain);
    let other = options(domain.name()).open("s").unwrap();
    store.set("k", &7u64).unwrap();
    for key in ["k", "new"] {
        let before = (content(&store), store.stats().changes);
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            store.update::<u64>(key, |_| panic!("on purpose"))
        }));
        assert!(outcome.is_err());
        assert_eq!((content(&store), store.stats().changes), before);
        other.set("other", &1u64).unwrap();
        store.set("another", &1u64).unwrap();
        assert_eq!(
            store.update::<u64>("k", |old| old).unwrap(),
            store.stats().changes
        );
    }
    store.verify().unwrap();
    store.remove().unwrap();
}

#[cfg(feature = "serde")]
mod drops {
    use super::*;
    use ringlane::Postcard;
    use serde::{Deserialize, Serialize};
    use std::cell::RefCell;
    use std::time::Duration;

    /// Writes to a store when it is dropped.
    #[derive(Serialize, Deserialize)]
    struct Writer(u32, Vec<u8>);

    impl Message for Writer {
        const NAME: &str = "test.Writer";
        type Codec = Postcard;
    }

    thread_local! {
        static STORE: RefCell<Option<Store>> = const { RefCell::new(None) };
        static OUTCOMES: RefCell<Vec<Result<u64>>> = const { RefCell::new(Vec::new()) };
    }

    impl Drop for Writer {
        fn drop(&mut self) {
            let outcome = STORE.with_borrow(|store| store.as_ref().map(|s| s.set("other", &1u64)));
            OUTCOMES.with_borrow_mut(|all| all.extend(outcome));
        }
    }

    fn create(domain: &Domain) -> Store {
        let small = options(domain.name()).max_size(1 << 20);
        let brief = small.lock_timeout(Duration::from_millis(50));
        brief.create("s").unwrap()
    }

    /// What came of the writes of values that were dropped during a call.
    fn outcomes(store: &Store, call: impl FnOnce()) -> Vec<Result<u64>> {
        STORE.set(Some(store.clone()));
        call();
        STORE.set(None);
        OUTCOMES.take()
    }

    #[test]
    fn a_value_that_a_swap_read_in_vain_goes_without_the_lock() {
        let domain = Domain::new("store-swap-drops");
        let store = create(&domain);
        store.set("k", &Writer(1, vec![])).unwrap();
        let large = Writer(2, vec![0; 2 << 20]);
        let outcomes = outcomes(&store, || {
            let outcome = store.swap("k", &large).map(drop);
            assert!(matches!(outcome, Err(Error::NoSpace { .. })), "{outcome:?}");
        });
        assert!(matches!(outcomes[..], [Ok(_)]), "{outcomes:?}");
        store.remove().unwrap();
    }

    #[test]
    fn a_function_that_is_not_called_goes_without_the_lock() {
        let domain = Domain::new("store-function-drops");
        let store = create(&domain);
        store.set("k", "text").unwrap();
        let owned = Writer(1, vec![]);
        let outcomes = outcomes(&store, || {
            let update = move |old: Option<u64>| {
                // The whole of it, not its one field.
                let owned = &owned;
                old.map(|old| old + u64::from(owned.0))
            };
            let outcome = store.update::<u64>("k", update);
            assert!(matches!(outcome, Err(Error::TypeMismatch { .. })));
        });
        assert!(matches!(outcomes[..], [Ok(_)]), "{outcomes:?}");
        store.remove().unwrap();
    }

    /// As it goes, its thread's buffers and lists are gone.
    #[test]
    fn a_value_of_a_thread_that_ends_may_write() {
        #[derive(Serialize, Deserialize)]
        struct Note(Vec<u8>);
        impl Message for Note {
            const NAME: &str = "test.Note";
            type Codec = Postcard;
        }
        struct Last(Store);
        impl Drop for Last {
            fn drop(&mut self) {
                self.0.set("bye", &Note(vec![7])).unwrap();
                let bye = self.0.get::<Note>("bye").unwrap().unwrap();
                assert_eq!(bye.0, [7]);
                self.0.update::<u64>("byes", |n| n.map(|n| n + 1)).unwrap();
            }
        }
        thread_local! {
            static LAST: RefCell<Option<Last>> = const { RefCell::new(None) };
        }
        let domain = Domain::new("store-last-words");
        let store = create(&domain);
        store.set("byes", &0u64).unwrap();
        let own = store.clone();
        let thread = std::thread::spawn(move || {
            LAST.set(Some(Last(own.clone())));
            own.set("k", &Note(vec![])).unwrap();
            own.update::<u64>("byes", |n| n.map(|n| n + 1)).unwrap();
        });
        thread.join().unwrap();
        assert_eq!(store.get::<u64>("byes").unwrap(), Some(2));
        store.remove().unwrap();
    }

    #[test]
    fn a_value_that_writes_as_it_goes_is_reentrant() {
        let domain = Domain::new("store-drops");
        let store = create(&domain);
        // What went in, and what came out.
        for dropped in [1, 2] {
            let outcomes = outcomes(&store, || {
                let next = |old: Writer| old.0 + 1;
                let update = |old: Option<Writer>| Some(Writer(old.map_or(0, next), vec![]));
                store.update::<Writer>("k", update).unwrap();
            });
            assert_eq!(outcomes.len(), dropped);
            let reentrant = |outcome: &Result<u64>| matches!(outcome, Err(Error::Reentrant));
            assert!(outcomes.iter().all(reentrant), "{outcomes:?}");
        }
        store.remove().unwrap();
    }
}

#[test]
fn a_write_from_inside_an_update_is_reentrant() {
    let domain = Domain::new("store-reentrant");
    let store = create(&domain);
    let same = options(domain.name()).open("s").unwrap();
    let other = options(domain.name()).create("other").unwrap();
    store.set("k", &7u64).unwrap();
    let reentrant = |all: Vec<(&str, Result<()>)>| {
        for (call, outcome) in all {
            assert!(
                matches!(outcome, Err(Error::Reentrant)),
                "{call}: {outcome:?}"
            );
        }
    };
    let inside = || {
        for handle in [&store, &same] {
            reentrant(write_all(handle, b"k"));
            reentrant(write_all(handle, b"new"));
            reentrant(vec![
                ("clear", handle.clear()),
                ("get_all", handle.get_all::<u64>().map(|_| ())),
                ("verify", handle.verify()),
            ]);
            // Reading is no harm.
            assert_eq!(handle.get::<u64>("k").unwrap(), Some(7));
            assert!(!handle.contains("new").unwrap());
            assert_eq!(handle.iter::<u64>().count(), handle.len());
            assert_eq!(handle.stats().keys, 1);
        }
    };
    let version = store.update::<u64>("k", |old| {
        inside();
        // Another store is another lock; inside of both, both are held.
        for (call, outcome) in write_all(&other, b"k") {
            if call == "fetch_add" {
                // An u64 is there.
                assert!(matches!(outcome, Err(Error::TypeMismatch { .. })));
                continue;
            }
            outcome.unwrap_or_else(|e| panic!("{call}: {e}"));
        }
        other
            .update::<u64>("n", |_| {
                inside();
                reentrant(write_all(&other, b"n"));
                None
            })
            .unwrap();
        old.map(|old| old + 1)
    });
    assert_eq!(
        store.get_versioned::<u64>("k").unwrap(),
        Some((8, version.unwrap()))
    );
    store.set("k", &9u64).unwrap();
    // It is the thread that must not wait for itself, not the process.
    std::thread::scope(|scope| {
        store
            .update::<u64>("k", |_| {
                let waits =
                    options(domain.name()).lock_timeout(std::time::Duration::from_millis(20));
                let waits = waits.open("s").unwrap();
                let outcome = scope.spawn(move || waits.set("k", &1u64)).join().unwrap();
                assert!(
                    matches!(outcome, Err(Error::LockTimeout { pid }) if pid == std::process::id())
                );
                None
            })
            .unwrap();
    });
    store.verify().unwrap();
    other.remove().unwrap();
    store.remove().unwrap();
}

// ---- Files.

/// Opens it for reading and for writing, and as one that would make it.
fn open_all(how: impl Fn() -> StoreOptions) -> [Result<Store>; 3] {
    [
        how().open("s"),
        how().open_or_create("s"),
        how().read_only().open("s"),
    ]
}

#[track_caller]
fn refused(domain: &Domain, why: &str) {
    let before = Seen::of(&file(domain));
    for outcome in open_all(|| options(domain.name())) {
        match outcome {
            Err(Error::Refused { path, why: told }) => {
                assert_eq!(path, file(domain).display().to_string());
                assert!(told.contains(why), "{told}");
            }
            other => panic!("{why}: {other:?}"),
        }
    }
    let created = options(domain.name()).create("s");
    assert!(
        matches!(created, Err(Error::AlreadyExists { .. })),
        "{created:?}"
    );
    before.is_untouched();
    tally_refusals(why, 4);
}

fn put(path: &Path, bytes: &[u8]) {
    let _ = fs::remove_file(path);
    fs::write(path, bytes).unwrap();
    fs::set_permissions(path, Permissions::from_mode(0o600)).unwrap();
}

/// A store that grew, as bytes, and something that keeps its roster there.
fn grown(domain: &Domain) -> (Vec<u8>, Store) {
    let keeper = options(domain.name()).create("keeper").unwrap();
    let store = options(domain.name())
        .max_size(1 << 20)
        .create("s")
        .unwrap();
    let values = (0..5_000u64).map(|i| (i.to_ne_bytes(), i));
    store.extend::<u64, _, _>(values).unwrap();
    let bytes = fs::read(file(domain)).unwrap();
    assert!(bytes.len() > 300 << 10);
    (bytes, keeper)
}

#[test]
fn a_file_of_another_size_is_refused() {
    let domain = Domain::new("store-truncated");
    let (bytes, keeper) = grown(&domain);
    for pages in 0..bytes.len() / 4096 {
        put(&file(&domain), &bytes[..4096 * pages]);
        for outcome in open_all(|| options(domain.name())) {
            match outcome {
                Err(Error::Refused { .. }) if 4096 * pages < 256 << 10 => {}
                Err(Error::Corrupt { .. }) if 4096 * pages >= 256 << 10 => {}
                other => panic!("{pages} pages: {other:?}"),
            }
        }
    }
    put(&file(&domain), &bytes[..bytes.len() - 8]);
    refused(&domain, "truncated");
    // As a process leaves it that was killed while the file grew.
    let more = [&bytes[..], &[0; 8192]].concat();
    put(&file(&domain), &more);
    let store = options(domain.name()).open("s").unwrap();
    store.verify().unwrap();
    let values = (5_000..9_000u64).map(|i| (i.to_ne_bytes(), i));
    store.extend::<u64, _, _>(values).unwrap();
    store.verify().unwrap();
    drop(store);
    // Beyond what it may ever have.
    put(&file(&domain), &[&bytes[..], &vec![0; 1 << 20]].concat());
    refused(&domain, "size");
    fs::remove_file(file(&domain)).unwrap();
    keeper.remove().unwrap();
}

/// Offsets of the prologue, as `src/layout.rs` has them.
const MAGIC: usize = 0;
const VERSION: usize = 8;
const KIND: usize = 12;
const ROSTER: usize = 24;

#[test]
fn a_file_of_another_kind_is_refused() {
    let domain = Domain::new("store-kinds");
    let (bytes, keeper) = grown(&domain);
    let changed = |at: usize| {
        let mut bytes = bytes.clone();
        bytes[at] ^= 0x40;
        put(&file(&domain), &bytes);
    };
    put(&file(&domain), &vec![0; bytes.len()]);
    refused(&domain, "no segment");
    changed(MAGIC);
    refused(&domain, "no segment");
    changed(KIND);
    refused(&domain, "kind");
    changed(VERSION);
    let ours = u32::from_ne_bytes(bytes[VERSION..][..4].try_into().unwrap());
    let before = Seen::of(&file(&domain));
    for outcome in open_all(|| options(domain.name())) {
        match outcome {
            Err(Error::Layout {
                path,
                expected,
                found,
            }) => {
                assert_eq!(path, file(&domain).display().to_string());
                assert_eq!((expected, found), (ours, ours ^ 0x40));
            }
            other => panic!("{other:?}"),
        }
    }
    before.is_untouched();
    tally_refusals("layout", 3);
    // Who holds its lock cannot be told any more; reading needs no lock.
    changed(ROSTER);
    let [open, open_or_create, read_only] = open_all(|| options(domain.name()));
    for outcome in [open, open_or_create] {
        match outcome {
            Err(Error::ForeignRoster { path }) => {
                assert_eq!(path, file(&domain).display().to_string());
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(read_only.unwrap().len(), 5_000);
    fs::remove_file(file(&domain)).unwrap();
    keeper.remove().unwrap();
}

#[test]
fn a_store_copied_without_its_roster_is_read_only() {
    let domain = Domain::new("store-copied");
    let (bytes, keeper) = grown(&domain);
    let elsewhere = std::env::temp_dir().join(domain.name());
    fs::create_dir(&elsewhere).unwrap();
    put(&elsewhere.join("s.store"), &bytes);
    let foreign = |with_roster: bool| {
        let [open, open_or_create, read_only] = open_all(|| Store::options().path(&elsewhere));
        for outcome in [open, open_or_create] {
            match outcome {
                Ok(store) => assert!(with_roster && store.verify().is_ok()),
                Err(Error::ForeignRoster { path }) => {
                    assert!(!with_roster);
                    assert_eq!(path, elsewhere.join("s.store").display().to_string());
                }
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(read_only.unwrap().len(), 5_000);
    };
    foreign(false);
    // A roster of its own is another one.
    let beside = Store::options().path(&elsewhere).create("beside").unwrap();
    foreign(false);
    beside.remove().unwrap();
    drop(beside);
    fs::remove_dir_all(&elsewhere).unwrap();
    fs::remove_file(file(&domain)).unwrap();
    keeper.remove().unwrap();
}

#[test]
fn what_is_no_file_of_ours_is_refused() {
    let domain = Domain::new("store-files");
    let (bytes, keeper) = grown(&domain);
    let path = file(&domain);
    let beside = domain.path().join("beside");
    fs::remove_file(&path).unwrap();

    let mode = Mode::RUSR | Mode::WUSR;
    rustix::fs::mknodat(CWD, &path, FileType::Fifo, mode, 0).unwrap();
    refused(&domain, "not a regular file");
    fs::remove_file(&path).unwrap();

    put(&beside, &bytes);
    symlink(&beside, &path).unwrap();
    let target = Seen::of(&beside);
    refused(&domain, "symbolic link");
    target.is_untouched();
    fs::remove_file(&path).unwrap();

    fs::hard_link(&beside, &path).unwrap();
    refused(&domain, "several names");
    fs::remove_file(&path).unwrap();
    fs::remove_file(&beside).unwrap();

    fs::create_dir(&path).unwrap();
    refused(&domain, "directory");
    fs::remove_dir(&path).unwrap();

    for mode in [0o644, 0o640, 0o602] {
        put(&path, &bytes);
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        refused(&domain, "others may access it");
    }
    fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    if gave_away(&path) {
        refused(&domain, "another user");
        let me = rustix::process::geteuid().as_raw();
        chown(&path, Some(me), None).unwrap();
    }
    // After all that it is as good as ever.
    options(domain.name()).open("s").unwrap().verify().unwrap();
    fs::remove_file(&path).unwrap();
    keeper.remove().unwrap();
}
