//! A store between processes that all use it at once: no read is torn, none misses what is there,
//! no value goes back; and of those who make, open and remove it at once each gets what it is told.

mod common;

use common::stores::{self, fill, version_of};
use common::{Domain, Process, Random, Shared, Word, hear, play, say, scale, skip, until};
use ringlane::{Error, Store};
use std::collections::HashMap;
use std::process::Command;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};

#[test]
#[ignore = "what the processes of these tests run"]
fn process() {
    play(|role, arguments| match role {
        "store actor" => stores::act(arguments),
        "writer" => Contest::of(arguments).write(arguments[3].parse().unwrap()),
        "reader" => Contest::of(arguments).read(arguments[3], arguments[4].parse().unwrap()),
        "hammer" => hammer(arguments[0], arguments[1]),
        "racer" => race(arguments[0], arguments[1], arguments[2].parse().unwrap()),
        "neighbour" => live_elsewhere(arguments[0]),
        other => panic!("{other:?}"),
    });
}

// ---- All at once.

/// Processes of each kind, and threads in each that share one handle.
const WRITERS: usize = 2;
const THREADS: usize = 2;
/// Keys that are never deleted; each is written by one thread only.
const STEADY: usize = 8;
/// Keys that all writers delete and store again.
const CHURNED: usize = 8;

// What they tell each other beside the store.
const STOP: usize = 0;
const READS: usize = 1;
const CONTENDED: usize = 2;
/// For each writing thread: how many new keys it has inserted.
const GROWN: usize = 8;
/// For each steady key: the version that was stored last.
const STORED: usize = 16;
const WORDS: usize = 32;

fn steady(key: usize) -> String {
    format!("steady-{key}")
}

fn churned(key: usize) -> String {
    format!("churned-{key}")
}

fn grown(writer: usize, n: u64) -> String {
    format!("grown-{writer}-{n}")
}

/// A number below `end`; 0 half of the time, so that there is one key that all are at.
fn mostly_first(random: &mut Random, end: u64) -> usize {
    match random.below(2) {
        0 => 0,
        _ => random.below(end) as usize,
    }
}

/// What the processes of one contest know.
struct Contest {
    domain: String,
    shared: Shared,
    /// The lengths that values may have, few, so that freed blocks go from key to key.
    lens: &'static [usize],
    /// New keys that each writing thread inserts.
    most_grown: u64,
}

impl Contest {
    fn of(arguments: &[&str]) -> Contest {
        const SMALL: &[usize] = &[24, 25, 40, 100, 500, 1000, 2000, 4000, 4096];
        const LARGE: &[usize] = &[4096, 65_000, 70_000, 300_000, 1 << 20];
        let (lens, most_grown) = match arguments[2] {
            "small" => (SMALL, scale(3000, 100_000) as u64),
            _ => (LARGE, 0),
        };
        Contest {
            domain: arguments[0].to_string(),
            shared: Shared::open(arguments[1]),
            lens,
            most_grown,
        }
    }

    fn word(&self, at: usize) -> &Word {
        self.shared.word(at)
    }

    fn write(&self, process: usize) {
        let store = stores::options(&self.domain).open("s").unwrap();
        let mut random = Random::printed();
        std::thread::scope(|scope| {
            for thread in 0..THREADS {
                let (store, random) = (&store, Random::of(random.next()));
                scope.spawn(move || self.write_keys(store, process * THREADS + thread, random));
            }
        });
    }

    fn write_keys(&self, store: &Store, me: usize, mut random: Random) {
        let mut value = Vec::new();
        let mut version = me as u64;
        let mut grew = 0;
        while self.word(STOP).load(Relaxed) == 0 {
            // No other thread has this version.
            version += (WRITERS * THREADS) as u64;
            let (own, shared) = self.lens.split_last().unwrap();
            let len = shared[random.below(shared.len() as u64) as usize];
            match random.below(10) {
                0..5 => {
                    let turns = (STEADY / WRITERS / THREADS) as u64;
                    let turn = mostly_first(&mut random, turns);
                    let key = turn * WRITERS * THREADS + me;
                    // The one that all are at has a length of its own, so that its old block soon
                    // is its new one.
                    let len = if key == 0 { *own } else { len };
                    fill(&mut value, key as u64, version, len);
                    store.set::<[u8]>(steady(key), &value).unwrap();
                    self.word(STORED + key).store(version, Release);
                    if random.below(4) == 0 {
                        let found = store.get::<[u8]>(steady(key)).unwrap();
                        assert_eq!(version_of(&found.unwrap(), key as u64), version);
                    }
                }
                5 | 6 => {
                    let key = random.below(CHURNED as u64) as usize;
                    fill(&mut value, 1000 + key as u64, version, len);
                    store.set::<[u8]>(churned(key), &value).unwrap();
                }
                7 | 8 => {
                    let key = random.below(CHURNED as u64) as usize;
                    store.delete(churned(key)).unwrap();
                }
                _ if grew < self.most_grown => {
                    let new = store.insert_new(grown(me, grew), &grew).unwrap();
                    assert!(new.is_some());
                    grew += 1;
                    self.word(GROWN + me).store(grew, Release);
                }
                _ => {}
            }
        }
    }

    fn read(&self, access: &str, quota: u64) {
        let options = stores::options(&self.domain);
        let store = match access {
            "writable" => options.open("s").unwrap(),
            _ => options.read_only().open("s").unwrap(),
        };
        let mut random = Random::printed();
        std::thread::scope(|scope| {
            for _ in 0..THREADS {
                let (store, random) = (&store, Random::of(random.next()));
                scope.spawn(move || self.read_keys(store, access == "read only", quota, random));
            }
        });
    }

    fn read_keys(&self, store: &Store, read_only: bool, quota: u64, mut random: Random) {
        until(|| (0..STEADY).all(|key| self.word(STORED + key).load(Acquire) > 0));
        let mut last = [(0, 0); STEADY];
        let mut buffer = Vec::new();
        let mut contended = 0;
        let mut until_all = 0;
        for _ in 0..quota {
            let outcome = match random.below(16) {
                0 | 1 => {
                    let key = random.below(CHURNED as u64) as usize;
                    let found = store.get_into(churned(key), &mut buffer);
                    found.map(|found| {
                        if found {
                            version_of(&buffer, 1000 + key as u64);
                        }
                    })
                }
                2 | 3 if self.most_grown > 0 => {
                    let writer = random.below((WRITERS * THREADS) as u64) as usize;
                    let count = self.word(GROWN + writer).load(Acquire);
                    // Half of the time among the newest, which a split moves next.
                    let among = if random.below(2) == 0 { 16 } else { count };
                    let n = count.saturating_sub(1 + random.below(among.max(1)));
                    let found = store.get::<u64>(grown(writer, n));
                    found.map(|found| assert!(found == Some(n) || count == 0, "{n}: {found:?}"))
                }
                4 => {
                    let key = random.below(STEADY as u64) as usize;
                    let found = store.contains(steady(key));
                    found.map(|found| assert!(found, "{} is missing", steady(key)))
                }
                _ => {
                    let key = mostly_first(&mut random, STEADY as u64);
                    let stored = self.word(STORED + key).load(Acquire);
                    let found = store.get_versioned::<[u8]>(steady(key));
                    found.map(|found| {
                        let (value, stamp) = found.expect("a key that is never deleted");
                        let now = (version_of(&value, key as u64), stamp);
                        assert!(now >= last[key], "{now:?} after {:?}", last[key]);
                        assert!(now.0 >= stored, "{} after {stored} was stored", now.0);
                        last[key] = now;
                    })
                }
            };
            match outcome {
                Ok(()) => {}
                Err(Error::Contended) if read_only => contended += 1,
                Err(e) => panic!("{e:?}"),
            }
            if until_all == 0 {
                self.read_all(store);
                until_all = 20_000 + 10 * store.len();
            }
            until_all -= 1;
        }
        self.word(READS).fetch_add(quota, AcqRel);
        self.word(CONTENDED).fetch_add(contended, AcqRel);
    }

    /// Each key that is there all the time must be seen, and none twice.
    fn read_all(&self, store: &Store) {
        let grew: Vec<_> = (0..WRITERS * THREADS)
            .map(|writer| self.word(GROWN + writer).load(Acquire))
            .collect();
        let mut seen: HashMap<Vec<u8>, u32> = HashMap::new();
        for key in store.keys() {
            *seen.entry(key).or_default() += 1;
        }
        for (key, count) in &seen {
            assert_eq!(*count, 1, "{}", String::from_utf8_lossy(key));
        }
        let old = grew.iter().enumerate();
        let old = old.flat_map(|(writer, count)| (0..*count).map(move |n| grown(writer, n)));
        for key in (0..STEADY).map(steady).chain(old) {
            assert!(seen.contains_key(key.as_bytes()), "{key} was passed over");
        }
    }
}

fn contest(test: &str, size: &str, reads: usize) {
    let domain = Domain::new(test);
    let shared = Shared::new(&domain, WORDS);
    let store = stores::options(domain.name()).create("s").unwrap();
    let mut value = Vec::new();
    for key in 0..STEADY {
        fill(&mut value, key as u64, 0, 100);
        store.set::<[u8]>(steady(key), &value).unwrap();
    }
    let quota = reads.div_ceil(2 * THREADS).to_string();
    let start = |role, rest: &[&str]| {
        let arguments = [&[domain.name(), shared.path(), size], rest].concat();
        Process::start(role, &arguments)
    };
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| start("writer", &[&writer.to_string()]))
        .collect();
    let readers = ["writable", "read only"].map(|access| start("reader", &[access, &quota]));
    readers.into_iter().for_each(Process::finish);
    shared.word(STOP).store(1, Relaxed);
    writers.into_iter().for_each(Process::finish);

    store.verify().unwrap();
    let grew = (0..WRITERS * THREADS).map(|writer| shared.word(GROWN + writer).load(Acquire));
    let churned = (0..CHURNED).filter(|key| store.contains(churned(*key)).unwrap());
    let there = STEADY + grew.sum::<u64>() as usize + churned.count();
    assert_eq!(store.len(), there);
    let stats = store.stats();
    assert_eq!(stats.recoveries, 0);
    eprintln!(
        "{} reads beside {} changes: {} contended, {} with the lock; {} keys, {} splits",
        shared.word(READS).load(Acquire),
        stats.changes,
        shared.word(CONTENDED).load(Acquire),
        stats.locked_reads,
        stats.keys,
        stats.splits,
    );
    store.remove().unwrap();
}

#[test]
fn no_small_value_is_torn_or_missed_or_old() {
    contest("small", "small", scale(1_000_000, 10_000_000));
}

#[test]
fn no_large_value_is_torn_or_missed_or_old() {
    contest("large", "large", scale(2000, 10_000));
}

/// Stores one large value after another under one key.
fn hammer(domain: &str, path: &str) {
    let store = stores::options(domain).open("s").unwrap();
    let shared = Shared::open(path);
    let mut values = [Vec::new(), Vec::new()];
    // Two values that are made only once leave no time between two changes.
    for (value, version) in values.iter_mut().zip(1..) {
        fill(value, 0, version, 1 << 20);
    }
    while shared.word(STOP).load(Relaxed) == 0 {
        for value in &values {
            store.set::<[u8]>("hot", value).unwrap();
        }
    }
}

/// A read that loses every race takes the lock, or says so if it may not.
#[test]
fn a_value_that_changes_all_the_time_is_read_whole_or_not_at_all() {
    let domain = Domain::new("hot");
    let shared = Shared::new(&domain, 1);
    let store = stores::options(domain.name()).create("s").unwrap();
    let reader = stores::options(domain.name()).read_only();
    let reader = reader.open("s").unwrap();
    let mut value = Vec::new();
    fill(&mut value, 0, 1, 1 << 20);
    store.set::<[u8]>("hot", &value).unwrap();
    let hammer = Process::start("hammer", &[domain.name(), shared.path()]);
    until(|| store.stats().changes > 100);
    let (mut reads, mut contended) = (0, 0);
    let most = scale(500, 20_000);
    while reads < most && (reads < most / 10 || contended == 0) {
        reads += 1;
        assert!(store.get_into("hot", &mut value).unwrap());
        version_of(&value, 0);
        match reader.get_into("hot", &mut value) {
            Ok(true) => assert!((1..=2).contains(&version_of(&value, 0))),
            Err(Error::Contended) => contended += 1,
            other => panic!("{other:?}"),
        }
    }
    shared.word(STOP).store(1, Relaxed);
    hammer.finish();
    eprintln!(
        "{reads} reads beside {} changes: {contended} contended, {} with the lock",
        store.stats().changes,
        store.stats().locked_reads,
    );
    store.verify().unwrap();
    store.remove().unwrap();
}

// ---- Making, opening and removing at once.

const RACERS: usize = 8;
const ROUND: usize = 0;
/// For each racer: the last round that it ran.
const RAN: usize = 8;
/// For each racer: what came of it.
const OUTCOME: usize = 16;

const WON: u64 = 1;
const LOST: u64 = 2;

/// Does what it is told at the same time as the others, each round with a new store.
fn race(domain: &str, path: &str, me: usize) {
    let shared = Shared::open(path);
    let options = || stores::options(domain);
    let mut held: Option<Store> = None;
    say("ready");
    while let Some(what) = hear() {
        drop(held.take());
        let round = shared.word(RAN + me).load(Relaxed) + 1;
        let name = format!("s{round}");
        while shared.word(ROUND).load(Acquire) < round {
            core::hint::spin_loop();
        }
        let opened = match (what.as_str(), me % 4) {
            ("create", _) => options().create(&name),
            // One of them removes what others make.
            ("remove", 0) => match options().remove(&name) {
                Ok(()) | Err(Error::NotFound { .. }) => options().open_or_create(&name),
                Err(e) => Err(e),
            },
            ("open_or_create" | "remove", _) => options().open_or_create(&name),
            other => panic!("{other:?}"),
        };
        let outcome = match opened {
            Ok(store) => {
                store.set(format!("racer-{me}"), &(me as u64)).unwrap();
                held = Some(store);
                WON
            }
            Err(Error::AlreadyExists { name: found }) => {
                assert_eq!(found, name);
                LOST
            }
            Err(e) => panic!("{what}: {e:?}"),
        };
        shared.word(OUTCOME + me).store(outcome, Relaxed);
        shared.word(RAN + me).store(round, Release);
    }
}

#[test]
fn of_many_who_make_a_store_at_once_all_get_the_same() {
    let domain = Domain::new("races");
    let shared = Shared::new(&domain, 2 * RACERS + RAN);
    let mut racers: Vec<_> = (0..RACERS)
        .map(|i| Process::start("racer", &[domain.name(), shared.path(), &i.to_string()]))
        .collect();
    for racer in &mut racers {
        assert_eq!(racer.line(), "ready");
    }
    let rounds = scale(30, 600) as u64;
    for round in 1..=rounds {
        let what = ["open_or_create", "create", "remove"][(round % 3) as usize];
        for racer in &mut racers {
            racer.tell(what);
        }
        shared.word(ROUND).store(round, Release);
        until(|| (0..RACERS).all(|i| shared.word(RAN + i).load(Acquire) == round));
        let name = format!("s{round}");
        let wins = (0..RACERS).filter(|i| shared.word(OUTCOME + i).load(Relaxed) == WON);
        let winners: Vec<_> = wins.collect();
        let opened = stores::options(domain.name()).open(&name);
        if what == "remove" {
            // Each had one, and perhaps not the one that is there now.
            assert_eq!(winners.len(), RACERS);
            drop(opened.map(|store| store.remove().unwrap()));
            continue;
        }
        let expected = if what == "create" { 1 } else { RACERS };
        assert_eq!(winners.len(), expected, "{what}");
        let store = opened.unwrap();
        assert_eq!(store.len(), expected);
        for i in winners {
            let found = store.get::<u64>(format!("racer-{i}")).unwrap();
            assert_eq!(found, Some(i as u64));
        }
        store.verify().unwrap();
        store.remove().unwrap();
    }
    racers.into_iter().for_each(Process::finish);
}

#[test]
fn a_store_that_is_not_there_is_not_found() {
    let domain = Domain::new("missing");
    let options = || stores::options(domain.name());
    let is_missing = |outcome: ringlane::Result<()>| match outcome {
        Err(Error::NotFound { name }) => assert_eq!(name, "s"),
        other => panic!("{other:?}"),
    };
    let all_miss = || {
        is_missing(options().open("s").map(drop));
        is_missing(options().read_only().open("s").map(drop));
        is_missing(options().read_only().open_or_create("s").map(drop));
        is_missing(options().remove("s"));
    };
    // Without the domain, and with it.
    all_miss();
    let other = options().create("other").unwrap();
    all_miss();
    other.remove().unwrap();
    let read_only = options().read_only().create("s");
    assert!(matches!(read_only, Err(Error::ReadOnly)));
    for name in ["", ".s", "a/b", "s s"] {
        let bad = options().create(name);
        assert!(matches!(bad, Err(Error::BadName { .. })), "{name:?}");
    }
}

#[test]
fn who_has_a_removed_store_keeps_it_and_others_make_another() {
    let domain = Domain::new("removed");
    let options = || stores::options(domain.name());
    let store = options().create("s").unwrap();
    store.set("key", &1u64).unwrap();
    let reader = options().read_only().open("s").unwrap();
    let mut actor = stores::actor_with(domain.name(), "s");
    assert!(matches!(reader.remove(), Err(Error::ReadOnly)));
    assert_eq!(actor.ask("remove"), "Ok(())");
    assert!(matches!(options().open("s"), Err(Error::NotFound { .. })));
    // They go on with the old one, splits and growth included.
    store.set("key", &2u64).unwrap();
    assert_eq!(actor.ask("get key"), "Ok(Some(2))");
    assert_eq!(actor.ask("set key 3"), "Ok(())");
    assert_eq!(reader.get::<u64>("key").unwrap(), Some(3));
    for i in 0..10_000u64 {
        store.set(format!("more-{i}"), &i).unwrap();
    }
    assert_eq!(actor.ask("get more-9999"), "Ok(Some(9999))");
    assert_eq!(actor.ask("len"), "10001");
    assert_eq!(actor.ask("verify"), "Ok(())");
    // And this is another.
    let mut other = stores::actor(domain.name());
    assert_eq!(other.ask("create s"), "Ok(())");
    assert_eq!(other.ask("get key"), "Ok(None)");
    assert_eq!(other.ask("set key 7"), "Ok(())");
    assert_eq!(reader.get::<u64>("key").unwrap(), Some(3));
    // To remove the old one again does not touch the new one.
    store.remove().unwrap();
    assert_eq!(actor.ask("remove"), "Ok(())");
    let new = options().open("s").unwrap();
    assert_eq!(new.get::<u64>("key").unwrap(), Some(7));
    assert!(matches!(
        options().create("s"),
        Err(Error::AlreadyExists { .. })
    ));
    options().remove("s").unwrap();
    actor.finish();
    other.finish();
}

// ---- At other addresses.

/// Says where the store lies in this process, and does with it what it is told.
fn live_elsewhere(domain: &str) {
    let store = stores::options(domain).open("s").unwrap();
    say(address());
    let mut value = Vec::new();
    while let Some(line) = hear() {
        let n = line.parse().unwrap();
        let found = store.get::<[u8]>(format!("key-{n}")).unwrap().unwrap();
        let version = version_of(&found, n);
        let len = 100 + (n * 97 % 5000) as usize;
        fill(&mut value, n, version + 1, len);
        store.set::<[u8]>(format!("key-{n}"), &value).unwrap();
        store.set(format!("seen-{n}-{version}"), &version).unwrap();
        say(version);
    }
}

/// Where the store is mapped.
fn address() -> String {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let line = maps.lines().find(|line| line.contains("/s.store"));
    line.unwrap().split('-').next().unwrap().to_string()
}

#[test]
fn processes_with_the_store_at_different_addresses_share_it() {
    let domain = Domain::new("addresses");
    let store = stores::options(domain.name()).create("s").unwrap();
    let program = std::env::current_exe().unwrap();
    let mut neighbours = Vec::new();
    // As it comes, without random addresses, and from the bottom up.
    for layout in [None, Some("-R"), Some("-L")] {
        let mut command = Command::new("/proc/self/exe");
        if let Some(layout) = layout {
            let works = Command::new("setarch").args([layout, "true"]).status();
            if !works.is_ok_and(|status| status.success()) {
                skip(
                    "history",
                    &format!("`setarch {layout}` is not possible here"),
                );
                continue;
            }
            command = Command::new("setarch");
            command.arg(layout).arg(&program);
        }
        let arguments = [domain.name()];
        neighbours.push(Process::start_by(command, "neighbour", &arguments));
    }
    let mut addresses: Vec<_> = neighbours.iter_mut().map(Process::line).collect();
    addresses.push(address());
    addresses.sort();
    addresses.dedup();
    eprintln!("the store lies at {addresses:?}");
    assert!(addresses.len() > 1 || neighbours.len() == 1);
    let keys = 50;
    let mut value = Vec::new();
    for n in 0..keys {
        fill(&mut value, n, 0, 100);
        store.set::<[u8]>(format!("key-{n}"), &value).unwrap();
    }
    let mut version = 0;
    for _ in 0..scale(20, 400) {
        for neighbour in &mut neighbours {
            for n in 0..keys {
                assert_eq!(neighbour.ask(&n.to_string()), version.to_string());
            }
            version += 1;
        }
    }
    store.verify().unwrap();
    assert_eq!(store.len() as u64, keys + keys * version);
    for n in 0..keys {
        let found = store.get::<[u8]>(format!("key-{n}")).unwrap().unwrap();
        assert_eq!(version_of(&found, n), version);
    }
    neighbours.into_iter().for_each(Process::finish);
    store.remove().unwrap();
}
