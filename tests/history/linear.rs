//! Whether what several processes saw of one key can have been.
//!
//! It can if each call has a moment between its invocation and its return, so that the calls, made
//! one after another in the order of these moments, give what they gave: linearizability (Herlihy
//! and Wing 1990). The search for such moments is that of Wing and Gong, *Testing and Verifying
//! Concurrent Objects* (1993), in the form of Lowe, *Testing for Linearizability* (2017): it goes
//! through invocations and returns in their order, keeps all that may be so by then, each once,
//! and puts off a call until something has to follow on it. What may be so is a value and which
//! of the calls under way have happened. These are few, as many as there are processes, so the
//! time is linear in the length of the history.

use std::collections::HashMap;

/// What is asked of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    Get,
    Set(i64),
    Delete,
    InsertNew(i64),
    /// `swap` and `update`.
    Exchange(Option<i64>),
    CompareAndSet {
        old: Option<i64>,
        new: i64,
    },
    FetchAdd(i64),
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Done,
    /// The value was not as the call needs it, and is what it was.
    Refused,
    Was(Option<i64>),
}

/// A call, and when it was made. No two times of a history are equal.
#[derive(Clone, Copy, Debug)]
pub struct Call {
    pub key: u64,
    pub invoked: u64,
    /// If there is no outcome, the time from which on the call cannot happen any more.
    pub returned: u64,
    pub what: What,
    /// `None`: its process was killed in it, so it happened or not.
    pub outcome: Option<Outcome>,
    /// What the store said to be the version of the value that was stored or found.
    pub version: Option<u64>,
}

impl What {
    /// The value afterwards, and the outcome, if the value is `now`.
    fn apply(self, now: Option<i64>) -> (Option<i64>, Outcome) {
        let done = |value, if_so| match if_so {
            true => (value, Outcome::Done),
            false => (now, Outcome::Refused),
        };
        match self {
            What::Get => (now, Outcome::Was(now)),
            What::Set(new) => (Some(new), Outcome::Done),
            What::Delete => done(None, now.is_some()),
            What::InsertNew(new) => done(Some(new), now.is_none()),
            What::Exchange(new) => (new, Outcome::Was(now)),
            What::CompareAndSet { old, new } => done(Some(new), now == old),
            What::FetchAdd(by) => {
                let old = now.unwrap_or(0);
                (Some(old.wrapping_add(by)), Outcome::Was(Some(old)))
            }
        }
    }
}

impl Call {
    /// The value that there was when the call happened, or that it left.
    fn told(&self) -> Option<i64> {
        match (self.what, self.outcome?) {
            (What::Get, Outcome::Was(value)) => value,
            (What::Set(new) | What::InsertNew(new), Outcome::Done) => Some(new),
            (What::CompareAndSet { new, .. }, Outcome::Done) => Some(new),
            (What::Exchange(new), Outcome::Was(_)) => new,
            _ => None,
        }
    }
}

/// What may be so at some time.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Possible {
    value: Option<i64>,
    /// A bit for each of the calls under way that has happened.
    happened: u32,
}

fn add(all: &mut Vec<Possible>, one: Possible) {
    if !all.contains(&one) {
        all.push(one);
    }
}

/// Invocations and returns in their order: when, of which call.
fn events(calls: &[Call]) -> Vec<(u64, usize)> {
    let of_each = |(i, call): (usize, &Call)| [(call.invoked, i), (call.returned, i)];
    let mut events: Vec<_> = calls.iter().enumerate().flat_map(of_each).collect();
    events.sort_unstable();
    assert!(
        events.windows(2).all(|pair| pair[0].0 < pair[1].0),
        "two events at one time"
    );
    events
}

/// Whether the calls to one key, which had no value before, are linearizable. If not, why.
pub fn check(calls: &[Call]) -> Result<(), String> {
    let mut possible = vec![Possible {
        value: None,
        happened: 0,
    }];
    let mut under_way: [Option<&Call>; 32] = [None; 32];
    for (time, i) in events(calls) {
        let call = &calls[i];
        if time == call.invoked {
            let free = under_way.iter().position(Option::is_none);
            under_way[free.expect("no more than 32 calls at a time")] = Some(call);
            continue;
        }
        let is_it =
            |other: &Option<&Call>| other.is_some_and(|other| other.invoked == call.invoked);
        let place = under_way.iter().position(is_it).unwrap();
        let bit = 1 << place;
        // The call must have happened by now. Where it has not, it does so now, after any of those
        // that are under way; a call that was killed may also never happen.
        let (mut before, mut after) = (possible, Vec::new());
        let mut next = 0;
        while let Some(&now) = before.get(next) {
            next += 1;
            let happened = now.happened & bit != 0;
            if happened || call.outcome.is_none() {
                let happened = now.happened & !bit;
                add(&mut after, Possible { happened, ..now });
            }
            if happened {
                continue;
            }
            for (place, other) in under_way.iter().enumerate() {
                let Some(other) = other.filter(|_| now.happened & 1 << place == 0) else {
                    continue;
                };
                let (value, outcome) = other.what.apply(now.value);
                if other.outcome.is_none_or(|seen| seen == outcome) {
                    let happened = now.happened | 1 << place;
                    add(&mut before, Possible { value, happened });
                }
            }
        }
        if after.is_empty() {
            let others = under_way.iter().flatten();
            let others: Vec<_> = others
                .filter(|other| other.invoked != call.invoked)
                .collect();
            let values: Vec<_> = before.iter().map(|now| now.value).collect();
            return Err(format!(
                "{call:?} cannot be: the value may be any of {values:?}, with {others:?} under way"
            ));
        }
        under_way[place] = None;
        possible = after;
    }
    Ok(())
}

/// Whether the versions of all calls to a store can be: one value has one version, no two changes
/// have the same, and none is lower than what was known before the call. Any versions that were
/// given out in an order are, so this does not stand for `check`.
pub fn check_versions(calls: &[Call]) -> Result<(), String> {
    let mut values = HashMap::new();
    // The highest version told by a call that has returned; of a key, of all.
    let mut known: HashMap<u64, u64> = HashMap::new();
    let mut known_of_all = 0;
    let mut least = vec![0; calls.len()];
    for (time, i) in events(calls) {
        let call = &calls[i];
        let changes = call.what != What::Get;
        if time == call.invoked {
            least[i] = match changes {
                true => known_of_all + 1,
                false => known.get(&call.key).copied().unwrap_or(0),
            };
        } else if let (Some(version), Some(value)) = (call.version, call.told()) {
            let same = values.entry(version).or_insert((call.key, value));
            if *same != (call.key, value) {
                return Err(format!("{call:?}: that version is of {same:?}"));
            }
            if version < least[i] {
                return Err(format!("{call:?}: version {} was known before", least[i]));
            }
            let known = known.entry(call.key).or_default();
            *known = version.max(*known);
            known_of_all = version.max(known_of_all);
        }
    }
    Ok(())
}

// ---- Histories by hand.

use Outcome::{Done, Refused, Was};
use What::{CompareAndSet, Delete, Exchange, FetchAdd, Get, InsertNew, Set};

const KILLED: Option<Outcome> = None;

fn checked(calls: &[(u64, u64, What, Option<Outcome>)]) -> bool {
    let call = |&(invoked, returned, what, outcome)| Call {
        key: 0,
        invoked,
        returned,
        what,
        outcome,
        version: None,
    };
    check(&calls.iter().map(call).collect::<Vec<_>>()).is_ok()
}

#[test]
fn calls_one_after_another_do_what_they_say() {
    let right = [
        (1, 2, Get, Some(Was(None))),
        (3, 4, Set(1), Some(Done)),
        (5, 6, InsertNew(2), Some(Refused)),
        (7, 8, FetchAdd(10), Some(Was(Some(1)))),
        (9, 10, Exchange(Some(3)), Some(Was(Some(11)))),
        (
            11,
            12,
            CompareAndSet {
                old: Some(11),
                new: 4,
            },
            Some(Refused),
        ),
        (
            13,
            14,
            CompareAndSet {
                old: Some(3),
                new: 5,
            },
            Some(Done),
        ),
        (15, 16, Get, Some(Was(Some(5)))),
        (17, 18, Delete, Some(Done)),
        (19, 20, Delete, Some(Refused)),
        (21, 22, FetchAdd(7), Some(Was(Some(0)))),
        (23, 24, Exchange(None), Some(Was(Some(7)))),
        (25, 26, InsertNew(8), Some(Done)),
        (27, 28, Get, Some(Was(Some(8)))),
    ];
    assert!(checked(&right));
    // Each outcome is the only one that can be.
    for i in 0..right.len() {
        for other in [Done, Refused, Was(None), Was(Some(1)), Was(Some(99))] {
            let mut wrong = right;
            wrong[i].3 = Some(other);
            assert_eq!(checked(&wrong), right[i].3 == Some(other), "{:?}", wrong[i]);
        }
    }
}

#[test]
fn calls_at_one_time_happen_in_any_order() {
    for first in [None, Some(1), Some(2)] {
        let calls = [
            (1, 10, Set(1), Some(Done)),
            (2, 9, Set(2), Some(Done)),
            (3, 4, Get, Some(Was(first))),
            (5, 8, Get, Some(Was(Some(2)))),
            (11, 12, Get, Some(Was(Some(1)))),
        ];
        // 1, then 2, leaves 2.
        assert_eq!(checked(&calls), first != Some(1), "{first:?}");
    }
}

#[test]
fn what_was_overwritten_does_not_come_back() {
    for (seen, can_be) in [(1, false), (2, true), (3, false)] {
        let calls = [
            (1, 2, Set(1), Some(Done)),
            (3, 4, Set(2), Some(Done)),
            (5, 6, Get, Some(Was(Some(seen)))),
        ];
        assert_eq!(checked(&calls), can_be, "{seen}");
    }
}

#[test]
fn two_readers_agree_on_the_order() {
    let seen = |first: [i64; 2], second: [i64; 2]| {
        checked(&[
            (1, 20, Set(1), Some(Done)),
            (2, 19, Set(2), Some(Done)),
            (3, 5, Get, Some(Was(Some(first[0])))),
            (7, 9, Get, Some(Was(Some(first[1])))),
            (4, 6, Get, Some(Was(Some(second[0])))),
            (8, 10, Get, Some(Was(Some(second[1])))),
        ])
    };
    assert!(seen([1, 2], [1, 2]));
    assert!(seen([1, 2], [2, 2]));
    assert!(!seen([1, 2], [2, 1]));
}

#[test]
fn a_value_is_not_seen_before_it_is_set() {
    assert!(checked(&[
        (1, 3, Get, Some(Was(Some(1)))),
        (2, 4, Set(1), Some(Done)),
    ]));
    assert!(!checked(&[
        (1, 2, Get, Some(Was(Some(1)))),
        (3, 4, Set(1), Some(Done)),
    ]));
}

#[test]
fn no_addition_is_lost_and_one_of_two_replaces() {
    let adds = |second: i64, sum: i64| {
        checked(&[
            (1, 4, FetchAdd(10), Some(Was(Some(0)))),
            (2, 3, FetchAdd(5), Some(Was(Some(second)))),
            (5, 6, Get, Some(Was(Some(sum)))),
        ])
    };
    assert!(adds(10, 15));
    assert!(!adds(0, 15));
    assert!(!adds(0, 10));
    let replaces = |second: Outcome| {
        checked(&[
            (1, 4, CompareAndSet { old: None, new: 1 }, Some(Done)),
            (2, 3, CompareAndSet { old: None, new: 2 }, Some(second)),
        ])
    };
    assert!(replaces(Refused));
    assert!(!replaces(Done));
}

#[test]
fn a_killed_call_happens_once_in_its_time_or_never() {
    let seen = |values: [Option<i64>; 4]| {
        checked(&[
            (1, 2, Set(1), Some(Done)),
            (3, 8, Set(2), KILLED),
            (4, 5, Get, Some(Was(values[0]))),
            (6, 7, Get, Some(Was(values[1]))),
            (9, 10, Get, Some(Was(values[2]))),
            (11, 12, Get, Some(Was(values[3]))),
        ])
    };
    let (old, new) = (Some(1), Some(2));
    assert!(seen([old, old, old, old]));
    assert!(seen([old, old, new, new]));
    assert!(seen([old, new, new, new]));
    assert!(seen([new, new, new, new]));
    // Not twice, nor taken back, nor after its time.
    assert!(!seen([old, new, old, new]));
    assert!(!seen([new, old, old, old]));
    assert!(!seen([old, old, old, new]));
    // What needs another value finds it or does nothing.
    let replaced = |value: Option<i64>| {
        checked(&[
            (1, 2, Set(1), Some(Done)),
            (
                3,
                6,
                CompareAndSet {
                    old: Some(5),
                    new: 2,
                },
                KILLED,
            ),
            (7, 8, Get, Some(Was(value))),
        ])
    };
    assert!(replaced(Some(1)));
    assert!(!replaced(Some(2)));
}

#[test]
fn versions_rise() {
    let call = |invoked, what, outcome, version| Call {
        key: 7,
        invoked,
        returned: invoked + 1,
        what,
        outcome: Some(outcome),
        version: Some(version),
    };
    let told = |calls: &[Call]| check_versions(calls).is_ok();
    let set = [call(1, Set(1), Done, 5), call(3, Set(2), Done, 6)];
    let then = |value, version| [set[0], set[1], call(5, Get, Was(Some(value)), version)];
    assert!(told(&then(2, 6)));
    assert!(!told(&then(2, 5)), "of another value");
    assert!(!told(&then(1, 5)), "an older one");
    assert!(
        !told(&[set[0], call(3, Set(2), Done, 5)]),
        "given out twice"
    );
    let elsewhere = |version| Call {
        key: 8,
        ..call(5, Set(3), Done, version)
    };
    assert!(told(&[set[0], set[1], elsewhere(7)]));
    assert!(
        !told(&[set[0], set[1], elsewhere(4)]),
        "lower, at another key"
    );
}
