//! Processes that call a store, and write down when and what came of it.

use super::common::{Word, scale, stores, tally};
use super::linear::{self, Call, Outcome, What};
use super::*;
use ringlane::{CasError, Store};
use std::collections::BTreeMap;
use std::time::Instant;

const CALLERS: usize = 4;
const KEYS: usize = 5;
/// New keys that a caller makes the table grow by, in each of its lives.
const FILLERS: u64 = 500;

// What is written down beside the store:
const STOP: usize = 0;
/// a count of all events, which is their time;
const CLOCK: usize = 1;
/// of each caller, how many calls it began,
const BEGUN: usize = 2;
/// and the calls themselves:
const CALLS: usize = BEGUN + CALLERS;
/// when it was invoked, 0 if it was not; when it returned, 0 if not yet,
const INVOKED: usize = 0;
const RETURNED: usize = 1;
/// what was asked, in three words,
const ASKED: usize = 2;
/// what came of it, in two, and the version.
const GOT: usize = 5;
const VERSION: usize = 7;
const WORDS: usize = 8;

/// How a caller lives: it is killed, or, for tests of the checker, does not do what it writes down.
const KILLED: &str = "killed";
const ADDS_IN_TWO_STEPS: &str = "adds in two steps";
const READS_OLD_VALUES: &str = "reads old values";

fn encode(key: usize, what: What) -> [u64; 3] {
    let (kind, old, new) = match what {
        What::Get => (0, None, None),
        What::Set(new) => (1, None, Some(new)),
        What::Delete => (2, None, None),
        What::InsertNew(new) => (3, None, Some(new)),
        What::Exchange(new) => (4, None, new),
        What::CompareAndSet { old, new } => (5, old, Some(new)),
        What::FetchAdd(by) => (6, None, Some(by)),
    };
    let some = u64::from(old.is_some()) << 8 | u64::from(new.is_some()) << 9;
    let word = |value: Option<i64>| value.unwrap_or(0) as u64;
    [kind | some | (key as u64) << 16, word(old), word(new)]
}

fn decode([first, old, new]: [u64; 3]) -> (u64, What) {
    let old = (first >> 8 & 1 == 1).then_some(old as i64);
    let some_new = (first >> 9 & 1 == 1).then_some(new as i64);
    let new = new as i64;
    let what = match first & 0xff {
        0 => What::Get,
        1 => What::Set(new),
        2 => What::Delete,
        3 => What::InsertNew(new),
        4 => What::Exchange(some_new),
        5 => What::CompareAndSet { old, new },
        6 => What::FetchAdd(new),
        other => panic!("{other}"),
    };
    (first >> 16, what)
}

struct Caller {
    store: Store,
    shared: Shared,
    me: usize,
    /// Most calls that there is room for.
    most: usize,
    how: String,
    /// What each key was found to hold last, with its version.
    last: [(Option<i64>, u64); KEYS],
}

pub fn act(arguments: &[&str]) {
    let [domain, shared, me, most, how] = arguments else {
        panic!("{arguments:?}");
    };
    let caller = Caller {
        store: stores::options(domain).open("s").unwrap(),
        shared: Shared::open(shared),
        me: me.parse().unwrap(),
        most: most.parse().unwrap(),
        how: how.to_string(),
        last: [(None, 0); KEYS],
    };
    caller.run();
}

/// Where call number `n` of a caller is written down.
fn place(most: usize, caller: usize, n: usize) -> usize {
    CALLS + (caller * most + n) * WORDS
}

impl Caller {
    fn time(&self) -> u64 {
        self.shared.word(CLOCK).fetch_add(1, AcqRel) + 1
    }

    fn is_over(&self) -> bool {
        self.shared.word(STOP).load(Relaxed) != 0
    }

    fn word(&self, n: usize, at: usize) -> &Word {
        self.shared.word(place(self.most, self.me, n) + at)
    }

    fn run(mut self) {
        let mut random = Random::of(self.time() << 2 | self.me as u64);
        if self.how == KILLED && !self.is_over() {
            be_killed_in(life(&mut random));
        }
        let begun = self.shared.word(BEGUN + self.me).load(Acquire) as usize;
        // Whoever has the lock has finished what was committed: from now on what our predecessor
        // was killed in has happened, or never will.
        self.store.fetch_add("starts", 1).unwrap();
        if begun > 0 && self.word(begun - 1, RETURNED).load(Acquire) == 0 {
            self.word(begun - 1, RETURNED).store(self.time(), Release);
        }
        for n in begun..self.most {
            if self.is_over() {
                return;
            }
            if random.below(16) == 0 && (n - begun) as u64 / 16 < FILLERS {
                // Buckets are split, and entries move.
                let filler = format!("filler-{}-{n}", self.me);
                self.store.set(filler, &0i64).unwrap();
            }
            let key = random.below(KEYS as u64) as usize;
            let what = self.choose(key, &mut random);
            for (at, word) in encode(key, what).into_iter().enumerate() {
                self.word(n, ASKED + at).store(word, Relaxed);
            }
            self.shared
                .word(BEGUN + self.me)
                .store(n as u64 + 1, Release);
            self.word(n, INVOKED).store(self.time(), Release);
            let (outcome, version) = self.call(key, what, &mut random);
            let (kind, value) = match outcome {
                Outcome::Done => (1, 0),
                Outcome::Refused => (2, 0),
                Outcome::Was(None) => (3, 0),
                Outcome::Was(Some(value)) => (4, value as u64),
            };
            let returned = self.time();
            self.word(n, GOT + 1).store(value, Relaxed);
            self.word(n, VERSION).store(version.unwrap_or(0), Relaxed);
            self.word(n, RETURNED).store(returned, Release);
            // Without it the call counts as killed, though its end is known.
            self.word(n, GOT).store(kind, Release);
        }
        until(|| self.is_over());
    }

    fn choose(&self, key: usize, random: &mut Random) -> What {
        // Of 64 bits, so no two are equal.
        let new = random.next() as i64;
        match random.below(20) {
            0..8 => What::Get,
            8..11 => What::Set(new),
            11 => What::Delete,
            12 => What::InsertNew(new),
            13 | 14 => What::Exchange((random.below(4) > 0).then_some(new)),
            15..18 => What::CompareAndSet {
                old: self.last[key].0,
                new,
            },
            _ => What::FetchAdd(new),
        }
    }

    fn call(&mut self, key: usize, what: What, random: &mut Random) -> (Outcome, Option<u64>) {
        let Caller { store, last, .. } = self;
        let name = key_name(key);
        let last = &mut last[key];
        match what {
            What::Get if self.how == READS_OLD_VALUES && random.below(8) == 0 => {
                (Outcome::Was(last.0), None)
            }
            What::Get => {
                let found = store.get_versioned::<i64>(name).unwrap();
                *last = (found.map(|found| found.0), found.map_or(0, |found| found.1));
                (Outcome::Was(last.0), found.map(|found| found.1))
            }
            What::Set(new) => {
                let version = store.set(name, &new).unwrap();
                *last = (Some(new), version);
                (Outcome::Done, Some(version))
            }
            What::Delete => match store.delete(name).unwrap() {
                true => (Outcome::Done, None),
                false => (Outcome::Refused, None),
            },
            What::InsertNew(new) => match store.insert_new(name, &new).unwrap() {
                Some(version) => (Outcome::Done, Some(version)),
                None => (Outcome::Refused, None),
            },
            What::Exchange(Some(new)) if random.below(2) == 0 => {
                (Outcome::Was(store.swap(name, &new).unwrap()), None)
            }
            What::Exchange(new) => {
                let mut was = None;
                let version = store.update::<i64>(name, |old| {
                    was = old;
                    new
                });
                (Outcome::Was(was), Some(version.unwrap()))
            }
            What::CompareAndSet { new, .. } => match store.compare_and_set(name, last.1, &new) {
                Ok(version) => (Outcome::Done, Some(version)),
                Err(CasError::Changed { .. }) => (Outcome::Refused, None),
                Err(e) => panic!("{e:?}"),
            },
            What::FetchAdd(by) if self.how == ADDS_IN_TWO_STEPS => {
                let old = store.get::<i64>(&name).unwrap().unwrap_or(0);
                store.set(name, &old.wrapping_add(by)).unwrap();
                (Outcome::Was(Some(old)), None)
            }
            What::FetchAdd(by) => {
                let old = store.fetch_add(name, by).unwrap();
                (Outcome::Was(Some(old)), None)
            }
        }
    }
}

fn key_name(key: usize) -> String {
    format!("key-{key}")
}

/// What callers wrote down.
struct History {
    calls: Vec<Call>,
    kills: u64,
    splits: u64,
    recoveries: u64,
}

/// Has callers make `wanted` calls.
fn record(name: &str, wanted: usize, how: &str) -> History {
    let domain = Domain::new(name);
    let store = stores::options(domain.name()).create("s").unwrap();
    let shared = Shared::new(&domain, place(wanted, CALLERS, 0));
    let start = |caller: usize| {
        let [caller, most] = [caller, wanted].map(|n| n.to_string());
        Process::start(
            "caller",
            &[domain.name(), shared.path(), &caller, &most, how],
        )
    };
    let begun = || {
        (0..CALLERS)
            .map(|i| shared.word(BEGUN + i).load(Acquire))
            .sum::<u64>()
    };
    let kills = std::thread::scope(|scope| {
        let start = &start;
        let callers = (0..CALLERS).map(|i| scope.spawn(move || revive(|| start(i))));
        let callers: Vec<_> = callers.collect();
        while begun() < wanted as u64 && !callers.iter().any(|caller| caller.is_finished()) {
            std::thread::sleep(Duration::from_millis(1));
        }
        shared.word(STOP).store(1, Release);
        callers
            .into_iter()
            .map(|caller| caller.join().unwrap())
            .sum()
    });
    store.verify().unwrap();
    let stats = store.stats();
    store.remove().unwrap();
    History {
        calls: read_all(&shared, wanted),
        kills,
        splits: stats.splits,
        recoveries: stats.recoveries,
    }
}

fn read_all(shared: &Shared, most: usize) -> Vec<Call> {
    let mut calls = Vec::new();
    for caller in 0..CALLERS {
        for n in 0..shared.word(BEGUN + caller).load(Acquire) as usize {
            let at = place(most, caller, n);
            let word = |which: usize| shared.word(at + which).load(Acquire);
            if word(INVOKED) == 0 {
                continue;
            }
            let (key, what) = decode([0, 1, 2].map(|i| word(ASKED + i)));
            let outcome = match word(GOT) {
                0 => None,
                1 => Some(Outcome::Done),
                2 => Some(Outcome::Refused),
                3 => Some(Outcome::Was(None)),
                _ => Some(Outcome::Was(Some(word(GOT + 1) as i64))),
            };
            calls.push(Call {
                key,
                invoked: word(INVOKED),
                returned: word(RETURNED),
                what,
                outcome,
                version: Some(word(VERSION)).filter(|version| *version != 0),
            });
        }
    }
    calls
}

fn by_key(calls: &[Call]) -> BTreeMap<u64, Vec<Call>> {
    let mut keys: BTreeMap<u64, Vec<Call>> = BTreeMap::new();
    for call in calls {
        keys.entry(call.key).or_default().push(*call);
    }
    keys
}

fn check_all(calls: &[Call]) -> Result<(), String> {
    for calls in by_key(calls).values() {
        linear::check(calls)?;
    }
    linear::check_versions(calls)
}

#[test]
fn a_store_whose_writers_are_killed_is_linearizable() {
    for round in 0..scale(1, 20) {
        let history = record("history", 250_000, KILLED);
        let start = Instant::now();
        if let Err(e) = check_all(&history.calls) {
            panic!("round {round}: {e}");
        }
        let checked = start.elapsed();
        let calls = &history.calls;
        let killed = calls.iter().filter(|call| call.outcome.is_none()).count();
        let mut keys = by_key(calls);
        let overlapping = keys
            .values_mut()
            .map(|calls| overlapping(calls))
            .sum::<usize>();
        eprintln!(
            "{} calls, {overlapping} of them while another was made to that key, {} kills, {killed} \
             of them in a call, {} recoveries, {} splits; checked in {checked:?}",
            calls.len(),
            history.kills,
            history.recoveries,
            history.splits,
        );
        assert!(
            overlapping > 0 && history.kills > 0,
            "nothing was put to the test"
        );
        let rejected = keys.values().map(|calls| reject_changed(calls)).sum();
        tally(
            "history",
            "calls to a store, checked as linearizable",
            calls.len() as u64,
        );
        tally("history", "kills of its callers", history.kills);
        tally("history", "calls that a kill cut off", killed as u64);
        let what = "changes that a killed caller left half done, and another finished";
        tally("history", what, history.recoveries);
        tally("history", "falsified histories, each rejected", rejected);
    }
}

/// How many calls began while another was under way.
fn overlapping(calls: &mut [Call]) -> usize {
    calls.sort_unstable_by_key(|call| call.invoked);
    let mut end = 0;
    let of_others = calls.iter().filter(|call| {
        let overlaps = call.invoked < end;
        end = end.max(call.returned);
        overlaps
    });
    of_others.count()
}

/// Changes what was seen so that it cannot have been, in several ways. Gives how many there were.
fn reject_changed(calls: &[Call]) -> u64 {
    // All that was known at a time; what was under way then may have happened.
    let end = calls[calls.len().min(3000) - 1].invoked;
    let mut calls: Vec<_> = calls
        .iter()
        .filter(|call| call.invoked <= end)
        .copied()
        .collect();
    for call in &mut calls {
        if call.returned > end {
            call.outcome = None;
            call.returned += 10;
        }
    }
    linear::check(&calls).unwrap();
    let value_of = |call: &Call| match (call.what, call.outcome) {
        (What::Get, Some(Outcome::Was(value))) => value,
        _ => None,
    };
    let gets: Vec<_> = (0..calls.len())
        .filter(|i| value_of(&calls[*i]).is_some())
        .collect();
    let mut rejected = 0;
    let mut reject = |why: &str, change: &dyn Fn(&mut Vec<Call>)| {
        let mut changed = calls.clone();
        change(&mut changed);
        assert!(linear::check(&changed).is_err(), "{why} was not found");
        rejected += 1;
    };
    for some in gets.windows(40).step_by(40) {
        let [first, .., last] = some else { continue };
        let (old, new) = (calls[*first], calls[*last]);
        reject("a value from nowhere", &|calls| {
            calls[*last].outcome = Some(Outcome::Was(Some(1)));
        });
        if value_of(&old) != value_of(&new) && old.returned < new.invoked {
            reject("a value that came back", &|calls| {
                let again = Call {
                    invoked: end + 1,
                    returned: end + 2,
                    ..old
                };
                calls.push(again);
            });
        }
        let setter =
            |call: &&Call| matches!(call.what, What::Set(value) if Some(value) == value_of(&new));
        if let Some(set) = calls.iter().find(setter) {
            if old.returned < set.invoked {
                reject("a value from the future", &|calls| {
                    calls[*first].outcome = new.outcome;
                });
            }
            reject("a change that is missing", &|calls| {
                calls.retain(|call| call.invoked != set.invoked);
            });
        }
    }
    rejected
}

/// The whole of it, with callers that do not do what they write down.
#[test]
fn what_is_not_linearizable_is_found() {
    for how in [ADDS_IN_TWO_STEPS, READS_OLD_VALUES] {
        // It takes two callers in between each other.
        let found = || {
            (0..100).find(|_| {
                let history = record("dishonest", 10_000, how);
                by_key(&history.calls)
                    .values()
                    .any(|calls| linear::check(calls).is_err())
            })
        };
        assert!(found().is_some(), "{how} was not found");
    }
}
