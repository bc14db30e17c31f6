//! Watches between processes: who waits is told that the value changed and what it is now, however
//! the writer ended; it is never told too early, and costs nothing while nothing happens.

mod common;

use common::stores::{self, actor, actor_with, options};
use common::{Domain, LONG, Process, Random, Shared, Watchdog, hear, play, say, scale, until};
use ringlane::{Error, Store, Watcher};
use rustix::process::Signal;
use std::os::unix::process::ExitStatusExt;
use std::sync::atomic::Ordering::{AcqRel, Acquire};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

#[test]
#[ignore = "what the processes of these tests run"]
fn process() {
    play(|role, arguments| match role {
        "store actor" => stores::act(arguments),
        "idler" => idle(arguments[0], arguments[1]),
        "counter" => count_for_ever(arguments[0], arguments[1]),
        other => panic!("{other:?}"),
    });
}

const SHORT: Duration = Duration::from_millis(60);

/// What is in a change that a handler was told.
type Told = Result<Option<u64>, String>;

/// Watches a key with a handler that passes on what it is told.
fn heard(store: &Store, key: &str) -> (Watcher, Receiver<Told>) {
    let (tell, heard) = channel();
    let watch = store.watch::<u64>(key).unwrap();
    let watcher = watch.on_change(move |value| {
        let _ = tell.send(value.map_err(|e| format!("{e:?}")));
    });
    (watcher.unwrap(), heard)
}

/// What https://github.com/ronny-rentner/UltraDict/issues/32 asks for.
#[test]
fn a_change_in_another_process_is_told() {
    let domain = Domain::new("told");
    let store = options(domain.name()).create("s").unwrap();
    let reader = options(domain.name()).read_only().open("s").unwrap();
    let mut other = actor_with(domain.name(), "s");
    for store in [&store, &reader] {
        // Watched before it is there.
        let mut watch = store.watch::<u64>("key").unwrap();
        assert_eq!(watch.key(), b"key");
        let begin = Instant::now();
        assert!(matches!(watch.wait_timeout(SHORT), Err(Error::Timeout)));
        assert!(begin.elapsed() >= SHORT);
        assert!(matches!(
            watch.wait_timeout(Duration::ZERO),
            Err(Error::Timeout)
        ));
        assert_eq!(other.ask("set key 1"), "Ok(())");
        assert_eq!(watch.wait().unwrap(), Some(1));
        // Several changes are one, and one to the same value is one, too.
        for i in 2..10 {
            assert_eq!(other.ask(&format!("set key {i}")), "Ok(())");
        }
        assert_eq!(watch.wait_timeout(LONG).unwrap(), Some(9));
        assert!(matches!(watch.wait_timeout(SHORT), Err(Error::Timeout)));
        assert_eq!(other.ask("set key 9"), "Ok(())");
        assert_eq!(watch.wait().unwrap(), Some(9));
        // Another key is none of its business.
        assert_eq!(other.ask("set other 1"), "Ok(())");
        assert!(matches!(watch.wait_timeout(SHORT), Err(Error::Timeout)));
        // Asleep when it happens.
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| watch.wait().unwrap());
            std::thread::sleep(SHORT);
            assert!(!waiting.is_finished());
            assert_eq!(other.ask("delete key"), "Ok(true)");
            assert_eq!(waiting.join().unwrap(), None);
        });
        // Deleted and there again, with the value that it had.
        assert_eq!(other.ask("set key 9"), "Ok(())");
        assert_eq!(watch.wait().unwrap(), Some(9));
        assert_eq!(other.ask("delete key"), "Ok(true)");
        assert_eq!(watch.wait().unwrap(), None);
    }
    other.finish();
    store.remove().unwrap();
}

#[test]
fn waiting_ends_no_earlier_than_it_is_to() {
    let domain = Domain::new("early");
    let store = options(domain.name()).create("s").unwrap();
    let reader = options(domain.name()).read_only().open("s").unwrap();
    let mut random = Random::printed();
    for _ in 0..scale(30, 500) {
        for store in [&store, &reader] {
            let mut watch = store.watch::<u64>("key").unwrap();
            let timeout = random.micros(20_000);
            let begin = Instant::now();
            assert!(matches!(watch.wait_timeout(timeout), Err(Error::Timeout)));
            assert!(begin.elapsed() >= timeout);
        }
    }
    store.remove().unwrap();
}

#[test]
fn a_handler_is_called_for_changes_elsewhere() {
    let domain = Domain::new("handler");
    let store = options(domain.name()).create("s").unwrap();
    let reader = options(domain.name()).read_only().open("s").unwrap();
    let mut other = actor_with(domain.name(), "s");
    let (first, first_heard) = heard(&store, "key");
    let (second, second_heard) = heard(&store, "key");
    let (polling, polled) = heard(&reader, "key");
    let all = [&first_heard, &second_heard, &polled];
    for i in 0..scale(20, 1000) as u64 {
        assert_eq!(other.ask(&format!("set key {i}")), "Ok(())");
        for heard in all {
            assert_eq!(heard.recv_timeout(LONG), Ok(Ok(Some(i))));
        }
    }
    assert_eq!(other.ask("delete key"), "Ok(true)");
    for heard in all {
        assert_eq!(heard.recv_timeout(LONG), Ok(Ok(None)));
    }
    // Another type is said once, and then it goes on.
    store.set("key", "a text").unwrap();
    for heard in all {
        let told = heard.recv_timeout(LONG).unwrap().unwrap_err();
        assert!(told.contains("TypeMismatch") && told.contains("key"));
    }
    assert_eq!(other.ask("set key 5"), "Ok(())");
    for heard in all {
        assert_eq!(heard.recv_timeout(LONG), Ok(Ok(Some(5))));
        assert!(heard.recv_timeout(SHORT).is_err());
    }
    // One that is stopped is told nothing more, and the others are.
    first.stop().unwrap();
    assert!(first_heard.recv().is_err());
    assert_eq!(other.ask("set key 6"), "Ok(())");
    for heard in [&second_heard, &polled] {
        assert_eq!(heard.recv_timeout(LONG), Ok(Ok(Some(6))));
    }
    // Dropped is stopped.
    drop(second);
    assert!(second_heard.recv().is_err());
    drop(polling);
    assert!(polled.recv().is_err());
    other.finish();
    store.remove().unwrap();
}

/// The last value is told, also if it comes while an error is being told.
#[test]
fn a_value_that_follows_one_of_another_type_at_once_is_told() {
    let domain = Domain::new("follows");
    let store = options(domain.name()).create("s").unwrap();
    let reader = options(domain.name()).read_only().open("s").unwrap();
    // A watcher that polls is met anywhere between two polls.
    for (watching, longest) in [(&store, 40), (&reader, 6000)] {
        let (watcher, heard) = heard(watching, "key");
        let mut random = Random::printed();
        for i in 0..scale(100, 1500) as u64 {
            store.set("key", "of another type").unwrap();
            let begin = Instant::now();
            let pause = random.micros(longest);
            while begin.elapsed() < pause {
                core::hint::spin_loop();
            }
            store.set("key", &i).unwrap();
            loop {
                match heard.recv_timeout(LONG) {
                    Ok(Ok(value)) if value == Some(i) => break,
                    Ok(Err(told)) => assert!(told.contains("TypeMismatch"), "{told}"),
                    other => panic!("{other:?}: {i} was never told"),
                }
            }
        }
        watcher.stop().unwrap();
    }
    store.remove().unwrap();
}

/// There are 64 words to sleep on, so of these some sleep on the same.
#[test]
fn of_many_keys_only_the_one_that_changed_is_told() {
    let domain = Domain::new("many");
    let store = options(domain.name()).create("s").unwrap();
    let mut other = actor_with(domain.name(), "s");
    let keys: Vec<_> = (0..130).map(|i| format!("key-{i}")).collect();
    let watchers: Vec<_> = keys.iter().map(|key| heard(&store, key)).collect();
    for (i, key) in keys.iter().enumerate() {
        assert_eq!(other.ask(&format!("set {key} {i}")), "Ok(())");
        let told = watchers[i].1.recv_timeout(LONG);
        assert_eq!(told, Ok(Ok(Some(i as u64))));
    }
    std::thread::sleep(SHORT);
    for (watcher, heard) in watchers {
        assert!(heard.try_recv().is_err());
        watcher.stop().unwrap();
    }
    // All at once, from here.
    let watchers: Vec<_> = keys.iter().map(|key| heard(&store, key)).collect();
    let values = keys.iter().map(|key| (key, 7u64));
    store.extend::<u64, _, _>(values).unwrap();
    for (watcher, heard) in watchers {
        assert_eq!(heard.recv_timeout(LONG), Ok(Ok(Some(7))));
        watcher.stop().unwrap();
    }
    other.finish();
    store.remove().unwrap();
}

/// One change wakes all who sleep, and none of them is left to its slice of 100 ms: those would
/// be 40 s here.
#[test]
fn all_who_watch_a_key_are_woken() {
    let domain = Domain::new("all");
    let store = options(domain.name()).create("s").unwrap();
    let watchers: Vec<_> = (0..4).map(|_| heard(&store, "key")).collect();
    let _watchdog = Watchdog::new("waking all", Duration::from_secs(20));
    for i in 0..400 {
        store.set("key", &i).unwrap();
        for (_, heard) in &watchers {
            assert_eq!(heard.recv_timeout(LONG), Ok(Ok(Some(i))));
        }
    }
    for (watcher, _) in watchers {
        watcher.stop().unwrap();
    }
    store.remove().unwrap();
}

#[test]
fn a_handler_may_stop_its_own_watcher() {
    let domain = Domain::new("itself");
    let store = options(domain.name()).create("s").unwrap();
    for stop in [true, false] {
        let own: Arc<Mutex<Option<Watcher>>> = Arc::default();
        let (tell, heard) = channel();
        let theirs = own.clone();
        let watcher = store.watch::<u64>("key").unwrap().on_change(move |value| {
            let watcher = theirs.lock().unwrap().take().unwrap();
            let reentrant = match stop {
                true => matches!(watcher.stop(), Err(Error::Reentrant)),
                false => {
                    drop(watcher);
                    true
                }
            };
            tell.send((value.unwrap(), reentrant)).unwrap();
        });
        let mut held = own.lock().unwrap();
        store.set("key", &1u64).unwrap();
        *held = Some(watcher.unwrap());
        drop(held);
        assert_eq!(heard.recv_timeout(LONG), Ok((Some(1), true)));
        // It ends after that.
        store.set("key", &2u64).unwrap();
        assert!(heard.recv_timeout(LONG).is_err());
        until(|| Arc::strong_count(&own) == 1);
    }
    store.remove().unwrap();
}

#[test]
fn a_handler_may_use_its_store_and_others_wait_for_it() {
    let domain = Domain::new("uses");
    let store = options(domain.name()).create("s").unwrap();
    let mut other = actor_with(domain.name(), "s");
    let same = store.clone();
    let watch = store.watch::<u64>("question").unwrap();
    let watcher = watch.on_change(move |value| {
        if let Ok(Some(value)) = value {
            same.set("answer", &(2 * value)).unwrap();
        }
    });
    let mut answers = store.watch::<u64>("answer").unwrap();
    for i in 0..100 {
        assert_eq!(other.ask(&format!("set question {i}")), "Ok(())");
        assert_eq!(answers.wait().unwrap(), Some(2 * i));
    }
    watcher.unwrap().stop().unwrap();
    other.finish();
    store.remove().unwrap();
}

#[test]
fn a_handler_that_panics_ends_its_watcher() {
    let domain = Domain::new("panics");
    let store = options(domain.name()).create("s").unwrap();
    let (going, goes) = channel::<()>();
    let watch = store.watch::<u64>("key").unwrap();
    let watcher = watch.on_change(move |_| {
        let _going = &going;
        panic!("on purpose");
    });
    store.set("key", &1u64).unwrap();
    // The handler is dropped, and with it the sender.
    assert!(goes.recv_timeout(LONG).is_err());
    match watcher.unwrap().stop() {
        Err(Error::HandlerPanicked { message, .. }) => assert_eq!(message, "on purpose"),
        other => panic!("{other:?}"),
    }
    // Nobody else is the worse for it.
    let mut watch = store.watch::<u64>("key").unwrap();
    store.set("key", &2u64).unwrap();
    assert_eq!(watch.wait().unwrap(), Some(2));
    store.remove().unwrap();
}

/// Watches, says what a second of it costs, and ends when it is told of a change.
fn idle(domain: &str, access: &str) {
    let options = options(domain);
    let store = match access {
        "writable" => options.open("s").unwrap(),
        _ => options.read_only().open("s").unwrap(),
    };
    let mut watch = store.watch::<u64>("key").unwrap();
    let spent = || {
        let spent = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
        Duration::new(spent.tv_sec as u64, spent.tv_nsec as u32)
    };
    let (watcher, _heard) = heard(&store, "other");
    let before = spent();
    let waited = watch.wait_timeout(Duration::from_secs(1));
    assert!(matches!(waited, Err(Error::Timeout)));
    say((spent() - before).as_micros());
    assert_eq!(watch.wait().unwrap(), Some(1));
    watcher.stop().unwrap();
    say("told");
    hear();
}

/// In https://github.com/eclipse-iceoryx/iceoryx2/issues/1680 it takes all of one after the
/// first event.
#[test]
fn waiting_costs_no_processor() {
    let domain = Domain::new("idle");
    let store = options(domain.name()).create("s").unwrap();
    let mut idlers =
        ["writable", "read only"].map(|access| Process::start("idler", &[domain.name(), access]));
    let spent: Vec<u64> = idlers
        .iter_mut()
        .map(|i| i.line().parse().unwrap())
        .collect();
    eprintln!("a second of waiting took {spent:?} µs of a processor");
    assert!(spent.iter().all(|spent| *spent < 100_000), "{spent:?}");
    store.set("key", &1u64).unwrap();
    for mut idler in idlers {
        assert_eq!(idler.line(), "told");
        idler.finish();
    }
    store.remove().unwrap();
}

#[test]
fn a_watch_outlives_its_store_and_a_new_one_is_not_it() {
    let domain = Domain::new("gone");
    let store = options(domain.name()).create("s").unwrap();
    let mut watch = store.watch::<u64>("key").unwrap();
    store.remove().unwrap();
    let mut other = actor(domain.name());
    assert_eq!(other.ask("create s"), "Ok(())");
    assert_eq!(other.ask("set key 1"), "Ok(())");
    assert!(matches!(watch.wait_timeout(SHORT), Err(Error::Timeout)));
    store.set("key", &2u64).unwrap();
    assert_eq!(watch.wait().unwrap(), Some(2));
    assert_eq!(other.ask("get key"), "Ok(Some(1))");
    assert_eq!(other.ask("remove"), "Ok(())");
    other.finish();
}

// ---- Writers that are killed.

const ACKNOWLEDGED: usize = 0;

/// Stores one number after another, and notes which are acknowledged.
fn count_for_ever(domain: &str, path: &str) {
    let store = options(domain).open("s").unwrap();
    let shared = Shared::open(path);
    let mut n = store.get::<u64>("key").unwrap().unwrap_or(0);
    say("counting");
    loop {
        n += 1;
        store.set("key", &n).unwrap();
        shared.word(ACKNOWLEDGED).fetch_max(n, AcqRel);
    }
}

/// Notes the newest number; one that could not be read comes again.
fn note(last: &Mutex<u64>, value: Result<Option<u64>, Error>) {
    let value = match value {
        Err(Error::Contended) => return,
        value => value.unwrap().unwrap(),
    };
    let mut last = last.lock().unwrap();
    assert!(value >= *last, "{value} after {last}");
    *last = value;
}

/// Who may not take the lock loses races against a writer that never rests, and hears of it; it is
/// told the last value all the same.
#[test]
fn a_polling_watcher_outlasts_a_writer_that_never_rests() {
    let domain = Domain::new("rests");
    let shared = Shared::new(&domain, 1);
    let store = options(domain.name()).create("s").unwrap();
    let reader = options(domain.name()).read_only().open("s").unwrap();
    let mut told = 0;
    let mut contended = 0;
    for _ in 0..scale(5, 100) {
        let last = Arc::new(Mutex::new(0));
        let counts = Arc::new(Mutex::new((0, 0)));
        let (their_last, their_counts) = (last.clone(), counts.clone());
        let watch = reader.watch::<u64>("key").unwrap();
        let watcher = watch.on_change(move |value| {
            let mut counts = their_counts.lock().unwrap();
            counts.0 += 1;
            counts.1 += u64::from(matches!(value, Err(Error::Contended)));
            note(&their_last, value);
        });
        let mut writer = Process::start("counter", &[domain.name(), shared.path()]);
        assert_eq!(writer.line(), "counting");
        std::thread::sleep(Duration::from_millis(100));
        writer.signal(Signal::KILL);
        writer.wait();
        store.fetch_add("other", 1).unwrap();
        let found = store.get::<u64>("key").unwrap().unwrap();
        until(|| *last.lock().unwrap() == found);
        watcher.unwrap().stop().unwrap();
        let counts = counts.lock().unwrap();
        told += counts.0;
        contended += counts.1;
    }
    eprintln!("told {told} times, {contended} of them that it was contended");
    store.remove().unwrap();
}

/// Nobody takes the lock but the writers, one at a time, and the watcher.
#[test]
fn a_writer_killed_at_any_moment_owes_no_wake() {
    let domain = Domain::new("owed");
    let shared = Shared::new(&domain, 1);
    let store = options(domain.name()).create("s").unwrap();
    let reader = options(domain.name()).read_only().open("s").unwrap();
    let last = [(); 2].map(|()| Arc::new(Mutex::new(0)));
    let watchers: Vec<_> = [&store, &reader]
        .into_iter()
        .zip(&last)
        .map(|(store, last)| {
            let last = last.clone();
            let watch = store.watch::<u64>("key").unwrap();
            watch.on_change(move |value| note(&last, value))
        })
        .collect();
    let mut random = Random::printed();
    let kills = scale(100, 2000);
    for _ in 0..kills {
        let mut writer = Process::start("counter", &[domain.name(), shared.path()]);
        assert_eq!(writer.line(), "counting");
        std::thread::sleep(random.micros(2000));
        writer.signal(Signal::KILL);
        assert_eq!(writer.wait().signal(), Some(9));
        let acknowledged = shared.word(ACKNOWLEDGED).load(Acquire);
        for last in &last {
            until(|| *last.lock().unwrap() >= acknowledged);
        }
    }
    // What was not acknowledged may have been done; then that is told.
    let found = store.get::<u64>("key").unwrap().unwrap();
    for last in &last {
        until(|| *last.lock().unwrap() == found);
    }
    eprintln!(
        "{kills} kills, {found} changes, {} recoveries",
        store.stats().recoveries
    );
    for watcher in watchers {
        watcher.unwrap().stop().unwrap();
    }
    store.verify().unwrap();
    store.remove().unwrap();
}
