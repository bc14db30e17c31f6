//! The lock of a store between processes: whoever holds it and lives keeps it, stopped or forked;
//! writers wait as long as they were told to, and readers not at all.
//!
//! Peers whose lock two processes had at once, or that none got any more:
//! <https://github.com/luizalabs/shared-memory-dict/issues/63>,
//! <https://github.com/ronny-rentner/UltraDict/issues/19>.

mod common;

use common::stores::{self, actor, actor_with, options};
use common::{Domain, LONG, Process, Random, Shared, hear, play, say, scale, tally, until};
use ringlane::{CasError, Error, Store};
use rustix::process::Signal;
#[cfg(feature = "serde")]
use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed};
use std::time::{Duration, Instant};

#[test]
#[ignore = "what the processes of these tests run"]
fn process() {
    play(|role, arguments| match role {
        "store actor" => stores::act(arguments),
        "adder" => add_for_ever(arguments[0], arguments[1]),
        "handles" => fork_with_handles(arguments[0]),
        "in update" => fork_in_update(arguments[0], arguments[1]),
        "own" => open_in_a_fork(arguments[0]),
        other => panic!("{other:?}"),
    });
}

/// Starts a process that has the lock, in the closure of `update`.
#[track_caller]
fn holder(domain: &Domain) -> Process {
    let mut holder = actor_with(domain.name(), "s");
    holder.tell("hold key");
    assert_eq!(holder.line(), "inside");
    holder
}

#[track_caller]
fn is_held_by<T: std::fmt::Debug>(outcome: Result<T, Error>, pid: u32) {
    match outcome {
        Err(Error::LockTimeout { pid: found }) => assert_eq!(found, pid),
        other => panic!("{other:?}"),
    }
}

// ---- A holder that is stopped.

#[test]
fn a_stopped_holder_keeps_the_lock_and_no_reader_waits() {
    let domain = Domain::new("stopped");
    let options = || options(domain.name());
    let store = options().create("s").unwrap();
    store.set("key", &7u64).unwrap();
    store.set("other", "untouched").unwrap();
    let mut reader = actor(domain.name());
    assert_eq!(reader.ask("read_only s"), "Ok(())");
    let stopped = scale(2, 10) as u64;
    for round in 0..stopped {
        let mut holder = holder(&domain);
        holder.signal(Signal::STOP);
        until(|| holder.state() == 'T');
        // Every kind of change, each for as long as it was told.
        for millis in [0, 1, 30, 120] {
            let timeout = Duration::from_millis(millis);
            let store = options().lock_timeout(timeout).open("s").unwrap();
            let tries: [&dyn Fn() -> Result<(), Error>; 10] = [
                &|| store.set("key", &1u64).map(drop),
                &|| store.set("new", &1u64).map(drop),
                &|| store.insert_new("new", &1u64).map(drop),
                &|| store.swap::<u64>("key", &1).map(drop),
                &|| {
                    store
                        .update::<u64>("key", |_| panic!("not our turn"))
                        .map(drop)
                },
                &|| store.fetch_add("sum", 1).map(drop),
                &|| store.delete("key").map(drop),
                &|| store.extend([("new", 1u64)]).map(drop),
                &|| store.clear(),
                &|| store.get_all::<u64>().map(drop),
            ];
            for change in tries {
                let begin = Instant::now();
                is_held_by(change(), holder.pid());
                assert!(begin.elapsed() >= timeout);
            }
            match store.compare_and_set("new", 0, &1u64) {
                Err(CasError::Other(e)) => is_held_by(Err::<(), _>(e), holder.pid()),
                other => panic!("{other:?}"),
            }
            is_held_by(store.verify(), holder.pid());
            // What there is is read as ever, here and elsewhere.
            assert_eq!(store.get::<u64>("key").unwrap(), Some(7 + round));
            assert_eq!(
                store.get::<str>("other").unwrap().as_deref(),
                Some("untouched")
            );
            assert!(!store.contains("new").unwrap());
            assert_eq!(store.keys().count(), 2);
            assert_eq!(store.len(), 2);
            let answer = format!("Ok(Some({}))", 7 + round);
            assert_eq!(reader.ask("get key"), answer);
        }
        // What it was about to do, it does.
        holder.signal(Signal::CONT);
        assert_eq!(holder.ask("go on"), "Ok(())");
        assert_eq!(store.get::<u64>("key").unwrap(), Some(8 + round));
        holder.finish();
    }
    store.verify().unwrap();
    assert_eq!(store.stats().recoveries, 0);
    tally("stopped", "stops of a lock's holder", stopped);
    reader.finish();
    store.remove().unwrap();
}

#[test]
fn who_waits_longer_than_the_holder_gets_the_lock() {
    let domain = Domain::new("patience");
    let store = options(domain.name()).create("s").unwrap();
    let mut random = Random::printed();
    for round in 0..scale(10, 200) as u64 {
        let mut holder = holder(&domain);
        let mut waiters: Vec<_> = (0..3)
            .map(|_| {
                let mut waiter = actor(domain.name());
                waiter.tell("timeout 30000");
                assert_eq!(waiter.line(), "()");
                assert_eq!(waiter.ask("open s"), "Ok(())");
                waiter.tell("add sum 1");
                waiter
            })
            .collect();
        holder.signal(Signal::STOP);
        std::thread::sleep(random.micros(30_000));
        holder.signal(Signal::CONT);
        assert_eq!(holder.ask("go on"), "Ok(())");
        let mut got: Vec<_> = waiters.iter_mut().map(Process::line).collect();
        let mut expected: Vec<_> = (3 * round..3 * round + 3)
            .map(|n| format!("Ok({n})"))
            .collect();
        got.sort();
        expected.sort();
        assert_eq!(got, expected);
        assert_eq!(store.get::<u64>("key").unwrap(), Some(round + 1));
    }
    store.remove().unwrap();
}

const STOP: usize = 0;
const ADDED: usize = 1;
const REFUSED: usize = 2;

/// Adds to a counter, waiting not long for the lock, and notes how often that was done.
fn add_for_ever(domain: &str, path: &str) {
    let shared = Shared::open(path);
    let timeout = Duration::from_millis(3);
    let store = options(domain).lock_timeout(timeout).open("s").unwrap();
    while shared.word(STOP).load(Relaxed) == 0 {
        let begin = Instant::now();
        match store.fetch_add("sum", 1) {
            Ok(_) => shared.word(ADDED).fetch_add(1, AcqRel),
            Err(Error::LockTimeout { pid }) => {
                assert!(begin.elapsed() >= timeout);
                assert_ne!(pid, std::process::id());
                shared.word(REFUSED).fetch_add(1, AcqRel)
            }
            Err(e) => panic!("{e:?}"),
        };
    }
}

/// Wherever a process is stopped, what it holds is not taken from it: no addition is lost, and
/// none is done that was refused.
#[test]
fn processes_stopped_at_any_moment_lose_nothing() {
    let domain = Domain::new("stops");
    let store = options(domain.name()).create("s").unwrap();
    let shared = Shared::new(&domain, 3);
    let adders: Vec<_> = (0..3)
        .map(|_| Process::start("adder", &[domain.name(), shared.path()]))
        .collect();
    until(|| shared.word(ADDED).load(Acquire) > 1000);
    let mut random = Random::printed();
    let stops = scale(60, 1200);
    for _ in 0..stops {
        let adder = &adders[random.below(3) as usize];
        adder.signal(Signal::STOP);
        until(|| adder.state() == 'T');
        std::thread::sleep(random.micros(15_000));
        adder.signal(Signal::CONT);
        std::thread::sleep(random.micros(2000));
    }
    shared.word(STOP).store(1, Relaxed);
    adders.into_iter().for_each(Process::finish);
    let added = shared.word(ADDED).load(Acquire);
    assert_eq!(store.get::<i64>("sum").unwrap(), Some(added as i64));
    let stats = store.stats();
    assert_eq!(stats.recoveries, 0);
    store.verify().unwrap();
    let refused = shared.word(REFUSED).load(Acquire);
    eprintln!("{stops} stops: {added} additions, {refused} refused");
    assert!(refused > 0, "nobody was stopped with the lock");
    tally("stopped", "stops of a store's writer", stops as u64);
    store.remove().unwrap();
}

// ---- One process.

#[test]
fn threads_of_one_process_exclude_each_other() {
    let domain = Domain::new("threads");
    let store = options(domain.name()).create("s").unwrap();
    // With one handle, and with handles of their own.
    let handles = [
        store.clone(),
        store.clone(),
        options(domain.name()).open("s").unwrap(),
    ];
    let rounds = scale(20_000, 1_000_000) as u64;
    std::thread::scope(|scope| {
        for store in &handles {
            scope.spawn(move || {
                for _ in 0..rounds {
                    store
                        .update::<u64>("sum", |old| Some(old.unwrap_or(0) + 1))
                        .unwrap();
                }
            });
        }
    });
    assert_eq!(store.get::<u64>("sum").unwrap(), Some(3 * rounds));
    let timeout = Duration::from_millis(50);
    let hasty = options(domain.name())
        .lock_timeout(timeout)
        .open("s")
        .unwrap();
    let update = store.update::<u64>("sum", |_| {
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let begin = Instant::now();
                is_held_by(hasty.set("sum", &0u64), std::process::id());
                assert!(begin.elapsed() >= timeout);
                assert_eq!(hasty.get::<u64>("sum").unwrap(), Some(3 * rounds));
            });
        });
        Some(1)
    });
    update.unwrap();
    assert_eq!(store.get::<u64>("sum").unwrap(), Some(1));
    store.verify().unwrap();
    store.remove().unwrap();
}

#[cfg(feature = "serde")]
#[test]
fn a_decoder_may_not_change_the_store_that_waits_for_it() {
    thread_local! {
        static STORE: RefCell<Option<Store>> = const { RefCell::new(None) };
        static OUTCOMES: RefCell<Vec<Result<(), Error>>> = const { RefCell::new(Vec::new()) };
    }
    #[derive(serde::Serialize)]
    struct Meddler(u64);
    impl<'de> serde::Deserialize<'de> for Meddler {
        fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
            let value = u64::deserialize(from)?;
            STORE.with_borrow(|store| {
                let outcome = store.as_ref().unwrap().set("other", &value).map(drop);
                OUTCOMES.with_borrow_mut(|all| all.push(outcome));
            });
            Ok(Meddler(value))
        }
    }
    impl ringlane::Message for Meddler {
        const NAME: &str = "test.Meddler";
        type Codec = ringlane::Postcard;
    }

    let domain = Domain::new("meddler");
    let timeout = Duration::from_millis(50);
    let options = options(domain.name()).lock_timeout(timeout);
    let store = options.create("s").unwrap();
    STORE.set(Some(store.clone()));
    store.set("key", &Meddler(1)).unwrap();
    assert_eq!(store.get::<Meddler>("key").unwrap().unwrap().0, 1);
    assert_eq!(store.swap("key", &Meddler(2)).unwrap().unwrap().0, 1);
    store.update::<Meddler>("key", |old| old).unwrap();
    let outcomes = OUTCOMES.take();
    let refused = |outcome: &Result<(), Error>| matches!(outcome, Err(Error::Reentrant));
    // A reader has no lock; the others do.
    let [Ok(()), in_swap, in_update] = &outcomes[..] else {
        panic!("{outcomes:?}");
    };
    assert!(refused(in_swap) && refused(in_update), "{outcomes:?}");
    STORE.take();
    store.remove().unwrap();
}

#[test]
fn a_key_of_extend_may_change_the_store() {
    struct Counted<'a>(&'a Store, String);
    impl AsRef<[u8]> for Counted<'_> {
        fn as_ref(&self) -> &[u8] {
            self.0.fetch_add("asked", 1).unwrap();
            self.1.as_bytes()
        }
    }

    let domain = Domain::new("counted-keys");
    let options = options(domain.name()).lock_timeout(Duration::from_millis(50));
    let store = options.create("s").unwrap();
    let values = (0..300u64).map(|i| (Counted(&store, i.to_string()), i));
    assert_eq!(store.extend::<u64, _, _>(values).unwrap(), 300);
    assert!(store.get::<i64>("asked").unwrap() >= Some(300));
    assert_eq!(store.get::<u64>("299").unwrap(), Some(299));
    store.remove().unwrap();
}

#[test]
fn a_change_inside_of_update_is_refused_and_reading_is_not() {
    let domain = Domain::new("reentrant");
    let store = options(domain.name()).create("s").unwrap();
    let again = options(domain.name()).open("s").unwrap();
    let other = options(domain.name()).create("other").unwrap();
    store.set("key", &1u64).unwrap();
    let update = store.update::<u64>("key", |old| {
        for store in [&store, &again] {
            let tries: [Result<(), Error>; 8] = [
                store.set("key", &2u64).map(drop),
                store.delete("key").map(drop),
                store.fetch_add("sum", 1).map(drop),
                store.update::<u64>("key", |_| None).map(drop),
                store.extend([("key", 2u64)]).map(drop),
                store.clear(),
                store.verify(),
                store.get_all::<u64>().map(drop),
            ];
            for outcome in tries {
                assert!(matches!(outcome, Err(Error::Reentrant)), "{outcome:?}");
            }
            assert_eq!(store.get::<u64>("key").unwrap(), old);
            assert_eq!(store.len(), 1);
        }
        // Another store is another matter.
        other.set("key", &3u64).unwrap();
        other
            .update::<u64>("key", |old| {
                assert!(matches!(store.set("key", &2u64), Err(Error::Reentrant)));
                old.map(|old| old + 1)
            })
            .unwrap();
        Some(5)
    });
    update.unwrap();
    assert_eq!(store.get::<u64>("key").unwrap(), Some(5));
    assert_eq!(other.get::<u64>("key").unwrap(), Some(4));
    // A panic changes nothing, and gives the lock back.
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        store.update::<u64>("key", |_| panic!("on purpose"))
    }));
    assert!(panicked.is_err());
    let mut elsewhere = actor_with(domain.name(), "s");
    assert_eq!(elsewhere.ask("get key"), "Ok(Some(5))");
    assert_eq!(elsewhere.ask("set key 6"), "Ok(())");
    store.set("key", &7u64).unwrap();
    store.verify().unwrap();
    elsewhere.finish();
    store.remove().unwrap();
    other.remove().unwrap();
}

#[test]
fn who_may_not_write_is_told_whether_there_is_anything_or_not() {
    let domain = Domain::new("read-only");
    let store = options(domain.name()).create("s").unwrap();
    let reader = options(domain.name()).read_only().open("s").unwrap();
    for _ in 0..2 {
        let tries = [
            reader.set("key", &1u64).map(drop),
            reader.delete("key").map(drop),
            reader.fetch_add("key", 1).map(drop),
            reader.update::<u64>("key", |_| None).map(drop),
            reader.extend([("key", 1u64)]).map(drop),
            reader.clear(),
            reader.remove(),
        ];
        for outcome in tries {
            assert!(matches!(outcome, Err(Error::ReadOnly)), "{outcome:?}");
        }
        store.set("key", &1i64).unwrap();
    }
    assert_eq!(reader.get::<i64>("key").unwrap(), Some(1));
    reader.verify().unwrap();
    store.remove().unwrap();
}

// ---- Forks.

/// Seconds until a forked child ends in any case.
const PATIENCE: u32 = 60;

/// Forks. The child ends like a test that fails if this does not come through `f` in it.
fn in_a_fork(f: impl FnOnce()) {
    // SAFETY: the child runs `f` on the only thread it has and ends without going back to the test
    // harness; glibc sees to its allocator. The parent waits for it.
    match unsafe { libc::fork() } {
        0 => end_of_fork(f),
        child => wait_for(child),
    }
}

/// Runs `f` in a forked child, and ends it.
fn end_of_fork(f: impl FnOnce()) -> ! {
    // SAFETY: no pointers; no watchdog came along.
    unsafe { libc::alarm(PATIENCE) };
    let well = catch_unwind(AssertUnwindSafe(f)).is_ok();
    // SAFETY: no pointers.
    unsafe { libc::_exit(if well { 0 } else { 101 }) }
}

fn wait_for(child: i32) {
    let mut status = 0;
    assert!(child > 0);
    // SAFETY: the status is ours, and lives until the call returns.
    assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
    assert_eq!(status, 0, "something went wrong in the forked child");
}

/// The file of a store.
fn file(domain: &str, store: &str) -> Vec<u8> {
    let path = common::base().join(domain).join(format!("{store}.store"));
    std::fs::read(path).unwrap()
}

#[track_caller]
fn is_forked<T>(outcome: Result<T, Error>) {
    assert!(matches!(outcome, Err(Error::Forked)));
}

fn a_store_is_forked(store: &Store) {
    is_forked(store.get::<u64>("key"));
    is_forked(store.get_versioned::<u64>("key"));
    is_forked(store.get_into("key", &mut Vec::new()));
    is_forked(store.contains("key"));
    is_forked(store.type_of("key"));
    is_forked(store.set("key", &1u64));
    is_forked(store.insert_new("new", &1u64));
    is_forked(store.swap::<u64>("key", &1));
    is_forked(store.update::<u64>("key", |_| panic!("not ours")));
    is_forked(store.fetch_add("sum", 1));
    is_forked(store.delete("key"));
    is_forked(store.extend([("new", 1u64)]));
    is_forked(store.watch::<u64>("key"));
    is_forked(store.get_all::<u64>());
    is_forked(store.verify());
    is_forked(store.clear());
    is_forked(store.remove());
    assert!(matches!(
        store.compare_and_set("new", 0, &1u64),
        Err(CasError::Other(Error::Forked))
    ));
    assert_eq!(store.keys().count(), 0);
    assert_eq!(store.iter::<u64>().count(), 0);
}

/// Holds handles and watches of all kinds, and forks.
fn fork_with_handles(domain: &str) {
    let store = options(domain).open("s").unwrap();
    let reader = options(domain).read_only().open("s").unwrap();
    let mut watch = store.watch::<u64>("key").unwrap();
    store.set("key", &5u64).unwrap();
    let before = file(domain, "s");
    let copies = [&raw const store, &raw const reader];
    let watched = &raw const watch;
    in_a_fork(|| {
        // SAFETY: a bitwise copy of a handle that the parent keeps and the child never uses again:
        // in the child it is the only one that is dropped.
        let (copies, mut watch) = unsafe { (copies.map(|c| c.read()), watched.read()) };
        is_forked(watch.wait());
        is_forked(watch.wait_timeout(LONG));
        drop(watch);
        copies.iter().for_each(a_store_is_forked);
    });
    assert!(file(domain, "s") == before, "a forked child touched it");
    // A thread that watches is the parent's.
    let watcher = store.watch::<u64>("key").unwrap().on_change(drop).unwrap();
    let watching = &raw const watcher;
    in_a_fork(|| {
        // SAFETY: as above.
        is_forked(unsafe { watching.read() }.stop());
    });
    in_a_fork(|| {
        // SAFETY: as above.
        drop(unsafe { watching.read() });
    });
    watcher.stop().unwrap();
    // The parent goes on.
    assert_eq!(watch.wait().unwrap(), Some(5));
    store.set("key", &6u64).unwrap();
    assert_eq!(watch.wait().unwrap(), Some(6));
    assert_eq!(reader.get::<u64>("key").unwrap(), Some(6));
    say("done");
}

#[test]
fn handles_in_a_fork_answer_forked_and_touch_nothing() {
    let domain = Domain::new("handles");
    let store = options(domain.name()).create("s").unwrap();
    let mut parent = Process::start("handles", &[domain.name()]);
    assert_eq!(parent.line(), "done");
    parent.finish();
    assert_eq!(store.get::<u64>("key").unwrap(), Some(6));
    store.verify().unwrap();
    store.remove().unwrap();
}

/// Forks in the closure of `update`, with the lock in its hands; the child leaves the closure in
/// one of several ways.
fn fork_in_update(domain: &str, how: &str) {
    let store = options(domain).open("s").unwrap();
    let mut child = -1;
    let updated = catch_unwind(AssertUnwindSafe(|| {
        store.update::<u64>("key", |old| {
            let before = file(domain, "s");
            // SAFETY: as in `in_a_fork`; the child ends below.
            child = unsafe { libc::fork() };
            match (child, how) {
                (0, "return") => Some(99),
                (0, "delete") => None,
                (0, "panic") => panic!("on purpose"),
                (0, "exit") => end_of_fork(|| ()),
                _ => {
                    wait_for(child);
                    assert!(file(domain, "s") == before, "a forked child touched it");
                    say("inside");
                    hear();
                    old.map(|old| old + 1)
                }
            }
        })
    }));
    if child == 0 {
        end_of_fork(|| match (how, updated) {
            ("panic", Err(_)) | (_, Ok(Err(Error::Forked))) => {}
            other => panic!("{other:?}"),
        });
    }
    updated.unwrap().unwrap();
    say("done");
}

#[test]
fn a_fork_does_not_have_its_parents_lock() {
    let domain = Domain::new("in-update");
    let store = options(domain.name()).create("s").unwrap();
    store.set("key", &0u64).unwrap();
    let timeout = Duration::from_millis(60);
    let hasty = options(domain.name())
        .lock_timeout(timeout)
        .open("s")
        .unwrap();
    for (n, how) in ["exit", "return", "delete", "panic"].iter().enumerate() {
        let mut parent = Process::start("in update", &[domain.name(), how]);
        assert_eq!(parent.line(), "inside", "{how}");
        // The child is gone, and the lock is still its parent's.
        is_held_by(hasty.set("key", &77u64), parent.pid());
        assert_eq!(parent.ask("go on"), "done", "{how}");
        assert_eq!(store.get::<u64>("key").unwrap(), Some(n as u64 + 1));
        parent.finish();
    }
    store.verify().unwrap();
    store.remove().unwrap();
}

/// Opens the store again in a fork: that handle is the child's own.
fn open_in_a_fork(domain: &str) {
    let store = options(domain).open("s").unwrap();
    store.set("parent", &1u64).unwrap();
    in_a_fork(|| {
        let own = options(domain).open("s").unwrap();
        own.set("child", &2u64).unwrap();
        assert_eq!(own.get::<u64>("parent").unwrap(), Some(1));
        is_forked(store.set("child", &3u64));
        drop(own);
    });
    store.set("parent", &4u64).unwrap();
    say("done");
}

#[test]
fn a_fork_may_open_the_store_itself() {
    let domain = Domain::new("own");
    let store = options(domain.name()).create("s").unwrap();
    let mut parent = Process::start("own", &[domain.name()]);
    assert_eq!(parent.line(), "done");
    parent.finish();
    assert_eq!(store.get::<u64>("parent").unwrap(), Some(4));
    assert_eq!(store.get::<u64>("child").unwrap(), Some(2));
    store.verify().unwrap();
    store.remove().unwrap();
}
