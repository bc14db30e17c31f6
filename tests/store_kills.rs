//! Writers of a store that are killed at any moment lose nothing that was acknowledged, and stop
//! nobody.
//!
//! Each writer notes beside the store what it is about to do to a key and what came of it. So at
//! most what it had in its hands is unknown, and that must be done or not done.

mod common;

use common::stores::{self, fill, version_of};
use common::{
    Domain, Process, Random, Shared, Times, Word, be_killed_in, play, say, scale, tally, until,
};
use ringlane::Store;
use ringlane::inspect::SnapshotOptions;
use rustix::process::Signal;
use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use std::time::{Duration, Instant};

#[test]
#[ignore = "what the processes of these tests run"]
fn process() {
    play(|role, arguments| match role {
        "store actor" => stores::act(arguments),
        "writer" => write_until_killed(arguments),
        "reader" => Killed::of(arguments).read(arguments[2]),
        "watcher" => watch(arguments[0]),
        other => panic!("{other:?}"),
    });
}

const WRITERS: usize = 3;
/// Keys of each writer. The first half of them is never deleted.
const KEYS: usize = 64;
const LASTING: usize = KEYS / 2;
/// Counters to which all writers add.
const COUNTERS: usize = 4;
/// New keys that a writer inserts before it is killed, at most.
const NEW: u64 = 32;

// What is noted beside the store. What a key is said to hold is an operation's number, doubled,
// and one more if the key has a value then.
const STOP: usize = 0;
const READS: usize = 1;
const CONTENDED: usize = 2;
/// For each writer:
const EACH: usize = 8;
/// how many of its kind were ready,
const READY: usize = 0;
/// how many operations it began,
const BEGUN: usize = 1;
/// how often it has added to a counter,
const ADDED: usize = 2;
/// how many new keys it has inserted,
const GROWN: usize = 3;
/// how many calls were acknowledged,
const ACKNOWLEDGED: usize = 4;
/// what it is at,
const AT: usize = 5;
/// how often it will have added when it is done with what it began,
const ADDING: usize = 6;
/// what its keys hold,
const DONE: usize = 8;
/// and what they may hold soon.
const PENDING: usize = DONE + KEYS;
const OF_WRITER: usize = PENDING + KEYS;

/// What a writer is at: nothing yet; opening the store; finding out what its predecessor did; on its
/// own; or in a call that changes the store.
const STARTING: u64 = 0;
const OPENING: u64 = 1;
const SETTLING: u64 = 2;
const OUTSIDE: u64 = 3;
const IN_CALL: u64 = 4;

/// Instead of the microseconds that a writer lives: until somebody else kills it.
const FOR_LONG: &str = "long";

/// Where a word of a writer stands.
fn place(writer: usize, at: usize) -> usize {
    EACH + writer * OF_WRITER + at
}

/// Writes for ever, or is killed so many microseconds after it began to open the store.
fn write_until_killed(arguments: &[&str]) {
    let (me, life) = (arguments[2].parse().unwrap(), arguments[3]);
    let shared = Shared::open(arguments[1]);
    if life != FOR_LONG {
        be_killed_in(Duration::from_micros(life.parse().unwrap()));
    }
    shared.word(place(me, AT)).store(OPENING, Release);
    Killed::of(arguments).write(me);
}

struct Killed {
    store: Store,
    shared: Shared,
}

fn grown(writer: usize, n: u64) -> String {
    format!("grown-{writer}-{n}")
}

fn counter(i: usize) -> String {
    format!("counter-{i}")
}

/// The length of the value that an operation stores.
fn len_of(operation: u64) -> usize {
    let most = match operation % 64 {
        0 => 70_000,
        1..4 => 5000,
        4..16 => 600,
        _ => 100,
    };
    stores::LEAST + (operation.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as usize % most
}

fn id_of(writer: usize, key: usize) -> u64 {
    (1000 * writer + key) as u64
}

impl Killed {
    fn of(arguments: &[&str]) -> Killed {
        let options = stores::options(arguments[0]);
        let store = match arguments.get(2) {
            Some(&"read only") => options.read_only().open("s"),
            _ => options.open("s"),
        };
        let shared = Shared::open(arguments[1]);
        let store = store.unwrap();
        Killed { store, shared }
    }

    fn word(&self, writer: usize, at: usize) -> &Word {
        self.shared.word(place(writer, at))
    }

    fn stopped(&self) -> bool {
        self.shared.word(STOP).load(Relaxed) != 0
    }

    fn name(writer: usize, key: usize) -> String {
        format!("of-{writer}-{key}")
    }

    /// What the key holds: the operation, doubled, and one more; 0 if nothing.
    fn state(&self, writer: usize, key: usize) -> u64 {
        let found = self.store.get::<[u8]>(Killed::name(writer, key)).unwrap();
        found.map_or(0, |value| state_of(&value, writer, key))
    }

    /// Finds out what the last writer of these keys did with what it had in its hands.
    fn settle(&self, me: usize) {
        // Whoever has the lock has finished what was committed.
        self.store.fetch_add("starts", 1).unwrap();
        for key in 0..KEYS {
            let done = self.word(me, DONE + key).load(Acquire);
            let pending = self.word(me, PENDING + key).load(Acquire);
            let found = self.state(me, key);
            let holds = |noted: u64| if noted & 1 == 1 { noted } else { 0 };
            if found == holds(pending) {
                self.word(me, DONE + key).store(pending, Release);
            } else {
                assert_eq!(
                    found,
                    holds(done),
                    "{} was to hold {done}, perhaps {pending}",
                    Killed::name(me, key)
                );
                self.word(me, PENDING + key).store(done, Release);
            }
        }
        for n in 0..self.word(me, GROWN).load(Acquire) {
            // Those that were there before the last round were looked at by others like us.
            let n = self.word(me, GROWN).load(Acquire) - 1 - n;
            let found = self.store.get::<u64>(grown(me, n)).unwrap();
            assert_eq!(found, Some(n), "new key {n}");
            if n % (4 * NEW) == 0 {
                break;
            }
        }
    }

    fn is_at(&self, me: usize, what: u64) {
        self.word(me, AT).store(what, Release);
    }

    /// Makes a call, and notes that it is in one.
    fn call<T>(&self, me: usize, call: impl FnOnce(&Store) -> T) -> T {
        self.is_at(me, IN_CALL);
        let outcome = call(&self.store);
        self.is_at(me, OUTSIDE);
        outcome
    }

    fn write(&self, me: usize) {
        let mut random = Random::of(self.word(me, BEGUN).load(Acquire) << 2 | me as u64);
        self.is_at(me, SETTLING);
        self.settle(me);
        self.is_at(me, OUTSIDE);
        self.word(me, READY).fetch_add(1, Release);
        // Made before, so that most of the time is spent in the store.
        let names: Vec<_> = (0..KEYS).map(|key| Killed::name(me, key)).collect();
        let counters: Vec<_> = (0..COUNTERS).map(counter).collect();
        let mut value = Vec::new();
        let mut new = 0;
        while !self.stopped() {
            let operation = self.word(me, BEGUN).fetch_add(1, AcqRel) + 1;
            let key = random.below(KEYS as u64) as usize;
            let name = &names[key];
            let begin = |key: usize, state: u64| {
                self.word(me, PENDING + key).store(state, Release);
                state
            };
            let end = |key: usize, state| self.word(me, DONE + key).store(state, Release);
            let id = id_of(me, key);
            match random.below(16) {
                0..6 => {
                    let state = begin(key, operation << 1 | 1);
                    fill(&mut value, id, operation, len_of(operation));
                    let set = self.call(me, |store| store.set::<[u8]>(name, &value));
                    set.unwrap();
                    end(key, state);
                }
                6 | 7 if key >= LASTING => {
                    let state = begin(key, operation << 1);
                    let was = self.word(me, DONE + key).load(Relaxed) & 1 == 1;
                    let deleted = self.call(me, |store| store.delete(name));
                    assert_eq!(deleted.unwrap(), was);
                    end(key, state);
                }
                6..9 => {
                    let done = self.word(me, DONE + key).load(Relaxed);
                    let state = begin(key, operation << 1 | 1);
                    let change = |old: Option<Vec<u8>>| {
                        let old = old.map_or(0, |old| state_of(&old, me, key));
                        assert_eq!(old, if done & 1 == 1 { done } else { 0 });
                        fill(&mut value, id, operation, len_of(operation));
                        Some(value.clone())
                    };
                    let changed = self.call(me, |store| store.update::<[u8]>(name, change));
                    changed.unwrap();
                    end(key, state);
                }
                9 | 10 => {
                    let keys = random.below((KEYS - 20) as u64) as usize;
                    let keys: Vec<_> = (keys..keys + 20).collect();
                    let values = keys.iter().map(|key| {
                        begin(*key, operation << 1 | 1);
                        let mut value = Vec::new();
                        fill(&mut value, id_of(me, *key), operation, 30);
                        (&names[*key], value)
                    });
                    let set = self.call(me, |store| store.extend::<[u8], _, _>(values));
                    assert_eq!(set.unwrap(), 20);
                    keys.iter().for_each(|key| end(*key, operation << 1 | 1));
                }
                11..14 => {
                    let i = random.below(COUNTERS as u64) as usize;
                    let added = self.word(me, ADDED).load(Relaxed) + 1;
                    self.word(me, ADDING).store(added, Release);
                    let add = self.call(me, |store| store.fetch_add(&counters[i], 1));
                    add.unwrap();
                    self.word(me, ADDED).store(added, Release);
                }
                _ if new < NEW => {
                    new += 1;
                    let n = self.word(me, GROWN).load(Relaxed);
                    let set = self.call(me, |store| store.set(grown(me, n), &n));
                    set.unwrap();
                    self.word(me, GROWN).store(n + 1, Release);
                }
                _ => {}
            }
            self.word(me, ACKNOWLEDGED).fetch_add(1, Release);
        }
    }

    fn read(&self, access: &str) {
        let mut random = Random::printed();
        let (mut reads, mut contended) = (0, 0);
        let mut last = vec![0; WRITERS * KEYS];
        while !self.stopped() {
            // A processor is left to those who are to be killed.
            if reads % 64 == 0 {
                self.shared.word(READS).fetch_add(64, AcqRel);
                std::thread::sleep(Duration::from_micros(200));
            }
            let writer = random.below(WRITERS as u64) as usize;
            let key = random.below(KEYS as u64) as usize;
            let done = self.word(writer, DONE + key).load(Acquire);
            let found = self.store.get::<[u8]>(Killed::name(writer, key));
            let pending = self.word(writer, PENDING + key).load(Acquire);
            reads += 1;
            let found = match found {
                Ok(found) => found,
                Err(ringlane::Error::Contended) if access == "read only" => {
                    contended += 1;
                    continue;
                }
                Err(e) => panic!("{e:?}"),
            };
            let found = found.map(|value| state_of(&value, writer, key));
            let what = format!("{found:?} between {done} and {pending}");
            match found {
                Some(state) => {
                    assert!((done..=pending).contains(&state), "{what}");
                    let last = &mut last[writer * KEYS + key];
                    assert!(state >= *last, "{what} after {last}");
                    *last = state;
                }
                None if key < LASTING => assert_eq!(done, 0, "{what}"),
                None => assert!(done & 1 == 0 || pending != done, "{what}"),
            }
        }
        self.shared.word(CONTENDED).fetch_add(contended, AcqRel);
    }

    /// Looks at all there is, when nobody writes any more. So many additions were cut off.
    fn look_at_all(&self, cut_off: u64) {
        self.store.verify().unwrap();
        let mut count = 1;
        for writer in 0..WRITERS {
            self.settle(writer);
            for key in 0..KEYS {
                count += (self.word(writer, DONE + key).load(Acquire) & 1) as usize;
            }
            let grew = self.word(writer, GROWN).load(Acquire);
            for n in 0..grew {
                let found = self.store.get::<u64>(grown(writer, n)).unwrap();
                assert_eq!(found, Some(n));
            }
            // One may be there that was not acknowledged.
            count += grew as usize;
            count += usize::from(self.store.contains(grown(writer, grew)).unwrap());
        }
        let added = (0..WRITERS).map(|writer| self.word(writer, ADDED).load(Acquire));
        let added = added.sum::<u64>() as i64;
        let mut counted = 0;
        for i in 0..COUNTERS {
            let value = self.store.get::<i64>(counter(i)).unwrap();
            counted += value.unwrap_or(0);
            count += usize::from(value.is_some());
        }
        assert!(
            (added..=added + cut_off as i64).contains(&counted),
            "{counted} counted, {added} acknowledged, {cut_off} cut off"
        );
        assert_eq!(self.store.len(), count);
        assert_eq!(self.store.keys().count(), count);
    }
}

fn state_of(value: &[u8], writer: usize, key: usize) -> u64 {
    version_of(value, id_of(writer, key)) << 1 | 1
}

/// A process that must not end before it is killed.
struct Victim {
    process: Process,
    start: Box<dyn Fn() -> Process>,
    /// How many of its kind were ready before it.
    ready: u64,
}

impl Victim {
    fn new(start: impl Fn() -> Process + 'static) -> Victim {
        Victim {
            process: start(),
            start: Box::new(start),
            ready: 0,
        }
    }

    fn kill(&mut self) {
        kill(&mut self.process);
    }

    fn start(&mut self) {
        self.process = (self.start)();
    }
}

/// Whether a writer had the lock when it was killed.
#[derive(Clone, Copy)]
enum Lock {
    Had,
    HadNot,
    Unknown,
}

impl Killed {
    /// Stops a writer, and looks whether it has the lock. What it dies in then is known.
    fn stop(&self, domain: &str, victim: &Victim) -> Lock {
        victim.process.stop();
        let picture = SnapshotOptions::new().domain(domain).max_entries(0).take();
        let store = &picture.unwrap().domains[0].stores[0];
        let holder = store.holder.as_ref().and_then(|holder| holder.pid);
        match holder == Some(victim.process.pid()) {
            true => Lock::Had,
            false => Lock::HadNot,
        }
    }
}

/// What writers were at when they were killed.
#[derive(Default)]
struct KilledWriters {
    kills: BTreeMap<(&'static str, &'static str), u64>,
    /// Additions that were begun and never acknowledged.
    additions: u64,
}

impl KilledWriters {
    /// Counts a writer that is dead, so what it said last is what it was at.
    fn count(&mut self, test: &Killed, writer: usize, lock: Lock) {
        let added = test.word(writer, ADDED).load(Acquire);
        let adding = test.word(writer, ADDING).swap(added, AcqRel);
        self.additions += u64::from(adding > added);
        let what = match (test.word(writer, AT).swap(STARTING, AcqRel), lock) {
            // It had nothing to do with the store yet.
            (STARTING, _) => return,
            (OPENING, _) => ("double", "as it opened the store"),
            (SETTLING, _) => ("double", "as it took up what its predecessor left"),
            (IN_CALL, Lock::Had) => ("kill-store", "with the lock in its hands"),
            (IN_CALL, Lock::HadNot) => ("kill-store", "in a call, without the lock"),
            (IN_CALL, Lock::Unknown) => ("kill-store", "in a call"),
            (_, Lock::Had) => panic!("it had the lock outside of a call"),
            _ => ("kill-store", "between two calls"),
        };
        *self.kills.entry(what).or_default() += 1;
    }

    fn tally(&self) {
        for ((fault, what), count) in &self.kills {
            tally(fault, &format!("kills of a writer {what}"), *count);
        }
    }
}

/// Kills a process, which must not have ended by itself.
#[track_caller]
fn kill(process: &mut Process) {
    process.signal(Signal::KILL);
    let status = process.wait();
    assert_eq!(status.signal(), Some(9), "it ended before: {status}");
}

#[test]
fn writers_killed_at_any_moment_lose_nothing() {
    for round in 0..scale(1, 4) {
        eprintln!("round {round}");
        kill_writers(scale(300, 2500) as u64);
    }
}

fn kill_writers(wanted: u64) {
    let domain = Domain::new("kills");
    let store = stores::options(domain.name()).create("s").unwrap();
    let shared = Shared::new(&domain, EACH + WRITERS * OF_WRITER);
    let arguments = [domain.name().to_string(), shared.path().to_string()];
    let start = |role: &'static str, which: String, life: &str| {
        let [domain, shared] = arguments.clone();
        let life = life.to_string();
        move || Process::start(role, &[&domain, &shared, &which, &life])
    };
    let mut writers: Vec<_> = (0..WRITERS)
        .map(|i| Victim::new(start("writer", i.to_string(), FOR_LONG)))
        .collect();
    let mut readers: Vec<_> = ["writable", "read only"]
        .map(|access| Victim::new(start("reader", access.to_string(), FOR_LONG)))
        .into();
    let test = Killed {
        store,
        shared: Shared::open(shared.path()),
    };
    let mut random = Random::printed();
    let begin = Instant::now();
    let (mut kills, mut reader_kills, mut stops, mut next_look) = (0, 0, 0, 50);
    let mut killed = KilledWriters::default();
    // From then on each writer follows one that was killed.
    until(|| (0..WRITERS).all(|i| test.word(i, READY).load(Acquire) > 0));
    while kills < wanted {
        let first = random.below(WRITERS as u64) as usize;
        let is_ready = |i: &usize| test.word(*i, READY).load(Acquire) > writers[*i].ready;
        let all = || (0..WRITERS).map(|i| (first + i) % WRITERS);
        let chosen = match random.below(20) {
            // Whatever it is at.
            0 => first,
            1 => {
                let reader = &mut readers[random.below(2) as usize];
                reader.kill();
                reader.start();
                reader_kills += 1;
                continue;
            }
            2 => {
                let process = &writers[first].process;
                process.signal(Signal::STOP);
                std::thread::sleep(random.micros(20_000));
                process.signal(Signal::CONT);
                stops += 1;
                continue;
            }
            _ => {
                until(|| all().any(|i| is_ready(&i)));
                std::thread::sleep(random.micros(2000));
                all().find(is_ready).unwrap()
            }
        };
        let victim = &mut writers[chosen];
        let has_lock = match random.below(2) {
            0 => Lock::Unknown,
            _ => test.stop(domain.name(), victim),
        };
        victim.kill();
        killed.count(&test, chosen, has_lock);
        kills += 1;
        // Some successors get no further than to what it left.
        while random.below(4) == 0 {
            // Who has to wait for the lock waits for 10 ms.
            let most = if random.below(4) == 0 { 15_000 } else { 600 };
            let life = (1 + random.below(most)).to_string();
            let mut doomed = start("writer", chosen.to_string(), &life)();
            let status = doomed.wait();
            assert_eq!(status.signal(), Some(9), "it ended before: {status}");
            killed.count(&test, chosen, Lock::Unknown);
        }
        victim.ready = test.word(chosen, READY).load(Acquire);
        victim.start();
        if kills >= next_look {
            next_look += 50;
            test.store.verify().unwrap();
        }
    }
    shared.word(STOP).store(1, Release);
    for victim in writers.into_iter().chain(readers) {
        victim.process.finish();
    }
    test.look_at_all(killed.additions);
    let stats = test.store.stats();
    let acknowledged = (0..WRITERS).map(|i| test.word(i, ACKNOWLEDGED).load(Acquire));
    let acknowledged: u64 = acknowledged.sum();
    eprintln!(
        "{kills} kills and {stops} stops in {:?}: {acknowledged} calls, {} additions cut off, {} reads \
         ({} contended, {} with the lock), {} recoveries, {} splits, {} keys",
        begin.elapsed(),
        killed.additions,
        shared.word(READS).load(Acquire),
        shared.word(CONTENDED).load(Acquire),
        stats.locked_reads,
        stats.recoveries,
        stats.splits,
        stats.keys,
    );
    assert!(acknowledged > kills, "the writers did not get to write");
    killed.tally();
    tally("kill-store", "kills of a reader", reader_kills);
    let what = "changes that a killed writer left half done, and another finished";
    tally("kill-store", what, stats.recoveries);
    test.store.remove().unwrap();
}

// ---- Those who wait.

/// Watches a key for ever.
fn watch(domain: &str) {
    let store = stores::options(domain).open("s").unwrap();
    let mut watch = store.watch::<u64>("key").unwrap();
    say("watching");
    loop {
        watch.wait().unwrap();
    }
}

/// A holder that waits for nobody, with the lock in its hands.
#[track_caller]
fn holder(domain: &Domain) -> Process {
    let mut holder = stores::actor_with(domain.name(), "s");
    holder.tell("hold key");
    assert_eq!(holder.line(), "inside");
    holder
}

#[test]
fn who_is_killed_while_it_waits_for_the_lock_takes_nothing_along() {
    let domain = Domain::new("waiters");
    let store = stores::options(domain.name()).create("s").unwrap();
    store.set("key", &0u64).unwrap();
    let mut random = Random::printed();
    let mut held = 0;
    let rounds = scale(20, 300) as u64;
    for _ in 0..rounds {
        let mut holder = holder(&domain);
        let mut waiters: Vec<_> = (0..3)
            .map(|_| stores::actor_with(domain.name(), "s"))
            .collect();
        for waiter in &mut waiters {
            waiter.tell("add other 1");
        }
        // Asleep, about to be, or about to look whether the holder is dead.
        std::thread::sleep(random.micros(25_000));
        let before = store.get::<i64>("other").unwrap().unwrap_or(0);
        kill(&mut waiters[0]);
        kill(&mut waiters[2]);
        assert_eq!(store.get::<u64>("key").unwrap(), Some(held));
        assert_eq!(holder.ask("go on"), "Ok(())");
        held += 1;
        // The one that is left gets it.
        assert_eq!(waiters[1].line(), format!("Ok({before})"));
        assert_eq!(store.fetch_add("other", 1).unwrap(), before + 1);
        assert_eq!(store.get::<u64>("key").unwrap(), Some(held));
        holder.finish();
        waiters.swap_remove(1).finish();
    }
    store.verify().unwrap();
    store.remove().unwrap();
    tally(
        "kill-store",
        "kills of a process that waits for the lock",
        2 * rounds,
    );
}

/// In https://github.com/python/cpython/issues/96062 they wait for ever, in
/// https://github.com/OpenHFT/Chronicle-Map/issues/79 until the lock is reset by hand. The same:
/// https://github.com/boostorg/interprocess/issues/65,
/// https://github.com/python/cpython/issues/87971,
/// https://github.com/OpenHFT/Chronicle-Map/issues/95.
#[test]
fn a_holder_that_is_killed_is_followed_by_all_who_wait() {
    let domain = Domain::new("holder");
    let store = stores::options(domain.name()).create("s").unwrap();
    let reader = stores::options(domain.name())
        .read_only()
        .open("s")
        .unwrap();
    store.set("key", &7u64).unwrap();
    let mut random = Random::printed();
    let mut took = Times::default();
    let rounds = scale(20, 300) as i64;
    for round in 0..rounds {
        let mut holder = holder(&domain);
        let mut waiters: Vec<_> = (0..2)
            .map(|_| stores::actor_with(domain.name(), "s"))
            .collect();
        for waiter in &mut waiters {
            waiter.tell("add other 1");
        }
        std::thread::sleep(random.micros(15_000));
        // Readers never notice.
        assert_eq!(reader.get::<u64>("key").unwrap(), Some(7));
        let killed = Instant::now();
        // Whether anybody has looked after the dead or not.
        if round % 2 == 0 {
            holder.signal(Signal::KILL);
        } else {
            kill(&mut holder);
        }
        store.fetch_add("other", 1).unwrap();
        took.note(killed.elapsed().as_nanos() as u64);
        let mut got: Vec<_> = waiters.iter_mut().map(Process::line).collect();
        got.sort();
        assert_ne!(got[0], got[1]);
        // What it was about to do is not done.
        assert_eq!(store.get::<u64>("key").unwrap(), Some(7));
        assert_eq!(store.get::<i64>("other").unwrap(), Some(3 * (round + 1)));
        waiters.into_iter().for_each(Process::finish);
    }
    store.verify().unwrap();
    assert_eq!(store.stats().recoveries, 0);
    took.tell("the holder of a store's lock, from SIGKILL to the next writer's return");
    store.remove().unwrap();
    tally(
        "kill-store",
        "kills of the holder of the lock",
        rounds as u64,
    );
}

/// The lock says that somebody waits for it, and nobody who would is alive.
#[test]
fn who_comes_after_the_deaths_of_holder_and_waiters_gets_the_lock() {
    let domain = Domain::new("after-all");
    let store = stores::options(domain.name()).create("s").unwrap();
    store.set("key", &7u64).unwrap();
    let mut random = Random::printed();
    let mut took = Times::default();
    let rounds = scale(20, 300) as u64;
    for round in 0..rounds {
        let mut all = vec![holder(&domain)];
        for _ in 0..2 {
            let mut waiter = stores::actor_with(domain.name(), "s");
            waiter.tell("add other 1");
            all.push(waiter);
        }
        let before = store.get::<i64>("other").unwrap().unwrap_or(0);
        std::thread::sleep(random.micros(15_000));
        // In any order: who waits may have taken over the lock of a holder that died before it.
        for _ in 0..3 {
            let one = random.below(all.len() as u64) as usize;
            kill(&mut all.swap_remove(one));
        }
        let killed = Instant::now();
        assert_eq!(store.fetch_add("later", 1).unwrap(), round as i64);
        took.note(killed.elapsed().as_nanos() as u64);
        assert_eq!(store.get::<u64>("key").unwrap(), Some(7));
        let other = store.get::<i64>("other").unwrap().unwrap_or(0);
        assert!((before..=before + 2).contains(&other), "{before}, {other}");
    }
    store.verify().unwrap();
    took.tell("the holder and all who waited, from the last SIGKILL to the next writer's return");
    store.remove().unwrap();
    tally(
        "kill-store",
        "kills of the holder of the lock and all who wait for it",
        3 * rounds,
    );
}

#[test]
fn a_watcher_that_is_killed_takes_nothing_along() {
    let domain = Domain::new("watchers");
    let store = stores::options(domain.name()).create("s").unwrap();
    let mut random = Random::printed();
    let mut staying = store.watch::<u64>("key").unwrap();
    let rounds = scale(30, 500) as u64;
    for i in 1..=rounds {
        let mut watchers = [0, 1].map(|_| Process::start("watcher", &[domain.name()]));
        for watcher in &mut watchers {
            assert_eq!(watcher.line(), "watching");
        }
        std::thread::sleep(random.micros(1000));
        kill(&mut watchers[0]);
        store.set("key", &i).unwrap();
        assert_eq!(staying.wait().unwrap(), Some(i));
        kill(&mut watchers[1]);
    }
    store.verify().unwrap();
    store.remove().unwrap();
    tally("kill-store", "kills of a watcher", 2 * rounds);
}
