//! Readers without the lock beside one writer, in every order of their steps, and with all that a
//! reader may see of the writer's stores. Each check of a reader is also left out, and is then
//! missed.

use super::world::{
    A, B, BUCKET, BUCKETS, Contended, Got, Is, Missing, Start, get, key, number, remove, set,
    try_get, try_set,
};
use crate::store::blocks::Class;
use crate::store::lookup::Torn;
use crate::store::scan::{self, Groups};
use crate::store::table::{Entry, IN_POOL, MOST_LINKS, Refusal, Table};
use crate::sync::{Step, kills, run_without, thread};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

/// Explores `write` beside `read`, and gives all that `read` ever got.
fn explore<R: Ord + Send + 'static>(
    start: fn() -> Start,
    write: impl Fn(&Table) + Send + Sync + 'static,
    read: fn(&Table) -> R,
) -> BTreeSet<R> {
    let all = Arc::new(Mutex::new(BTreeSet::new()));
    let seen = all.clone();
    let mut model = loom::model::Builder::new();
    // A split and a walk through all take more steps than loom is ready for.
    model.max_branches = 10_000;
    model.check(move || {
        let table = Arc::new(start().table(2));
        let theirs = table.clone();
        let reader = thread::spawn(move || read(&theirs));
        write(&table);
        let got = reader.join().unwrap();
        seen.lock().unwrap().insert(got);
    });
    Arc::into_inner(all).unwrap().into_inner().unwrap()
}

/// Runs `write`, killed before each of its stores in turn, and after it what a successor does.
fn killed<R: Ord + Send + 'static>(
    start: fn() -> Start,
    write: fn(&Table),
    read: fn(&Table) -> R,
) -> BTreeSet<R> {
    let mut all = BTreeSet::new();
    let survived = Arc::new(AtomicBool::new(false));
    for stores in 0.. {
        let done = survived.clone();
        all.append(&mut explore(
            start,
            move |table| match kills::killed_after(stores, || write(table)) {
                Some(()) => done.store(true, Relaxed),
                None => {
                    table.settle(|| ()).unwrap();
                }
            },
            read,
        ));
        if survived.load(Relaxed) {
            break;
        }
    }
    all
}

/// Gets the entry of key [`A`], which is there all the time.
fn get_a(table: &Table, hash: u64) -> Got {
    let got = get(table, &key(A, hash));
    assert_ne!(got, Missing);
    got
}

/// Twice: it does not become older.
fn get_a_twice(table: &Table, hash: u64) -> [Got; 2] {
    let got = [0; 2].map(|_| get_a(table, hash));
    if let [Is(first), Is(second)] = got {
        assert!(first <= second, "{first}, and then {second}");
    }
    got
}

/// All numbers that were got.
fn numbers(got: &BTreeSet<[Got; 2]>) -> Vec<u64> {
    let all: BTreeSet<_> = got.iter().flatten().copied().collect();
    all.into_iter()
        .filter_map(|got| match got {
            Is(number) => Some(number),
            _ => None,
        })
        .collect()
}

/// One entry.
fn one() -> Start {
    let mut start = Start::new(1);
    start.entry(BUCKETS[0] + 1, &key(A, 0));
    start
}

/// Two that look the same.
fn two() -> Start {
    let mut start = one();
    start.entry(BUCKETS[0] + 2, &key(B, 0));
    start
}

/// A full bucket, one of whose entries goes to a new bucket when it is split.
fn full() -> Start {
    let mut start = Start::new(1);
    let home = BUCKETS[0];
    start.fill(home + 1..=home + 6, 0b100);
    start.fill(home + 7..=home + 7, 0b10);
    start
}

/// And an entry behind it, which then gets that place.
fn chained() -> Start {
    let mut start = full();
    let more = start.more(BUCKETS[0]);
    start.entry(more + 1, &key(A, 0));
    start
}

/// The only entry is stored again, twice: the second time into its first block.
fn overwrites() {
    let got = explore(
        one,
        |table| (2..=3).for_each(|number| set(table, &key(A, 0), number)),
        |table| get_a_twice(table, 0),
    );
    assert_eq!(numbers(&got), [1, 2, 3]);
}

/// Of two entries that look the same, each is stored again: the second one into the block that was
/// the first one's.
fn ping_pong() {
    let got = explore(
        two,
        |table| {
            set(table, &key(A, 0), 3);
            set(table, &key(B, 0), 4);
        },
        |table| get_a_twice(table, 0),
    );
    assert_eq!(numbers(&got), [1, 3]);
}

/// The same, until the first entry is back in its first block.
fn there_and_back() {
    let got = explore(
        two,
        |table| {
            set(table, &key(A, 0), 3);
            set(table, &key(B, 0), 4);
            set(table, &key(B, 0), 5);
            set(table, &key(A, 0), 6);
        },
        |table| {
            let got = try_get(table, &key(A, 0));
            assert_ne!(got, Missing);
            got
        },
    );
    assert_eq!(got, [Is(1), Is(3), Is(6), Contended].into());
}

/// The entry goes to a new bucket, and is stored again there.
fn split() {
    let got = explore(
        || {
            let mut start = Start::new(1);
            start.entry(BUCKETS[0] + 1, &key(A, 0b10));
            start
        },
        |table| {
            table.split().unwrap();
            set(table, &key(A, 0b10), 2);
        },
        |table| get_a_twice(table, 0b10),
    );
    assert_eq!(numbers(&got), [1, 2]);
}

/// A whole chain goes to a new bucket, and so gets an overflow bucket there.
fn split_of_chain() {
    let got = explore(
        || {
            let mut start = Start::new(1);
            let home = BUCKETS[0];
            start.fill(home + 1..=home + 7, 0b10);
            let more = start.more(home);
            start.entry(more + 1, &key(A, 0b10));
            let run = start.add(BUCKET);
            start.set(Class::OVERFLOW.next(), run);
            start.set(Class::OVERFLOW.end(), run + BUCKET);
            start
        },
        |table| table.split().unwrap(),
        |table| {
            let got = try_get(table, &key(A, 0b10));
            assert_ne!(got, Missing);
            got
        },
    );
    assert_eq!(got, [Is(1), Contended].into());
}

/// The entry moves to its home.
fn refill() {
    let got = explore(
        chained,
        |table| table.split().unwrap(),
        |table| get_a(table, 0),
    );
    assert_eq!(got, [Is(1)].into());
}

/// The entry moves to its home, and the overflow bucket to the other chain, where there is then
/// another entry that looks the same.
fn recycle() {
    let got = explore(
        || {
            let mut start = chained();
            let other = BUCKETS[1];
            start.fill(other + 1..=other + 7, 0b101);
            start
        },
        |table| {
            table.split().unwrap();
            set(table, &key(B, 0b1), 2);
        },
        |table| get_a(table, 0),
    );
    assert_eq!(got, [Is(1)].into());
}

/// An entry is stored in an overflow bucket of the pool, and moves to its home.
fn appear() {
    let got = explore(
        || {
            let mut start = full();
            let more = start.add(BUCKET);
            start.set(more, IN_POOL);
            start.set(Class::OVERFLOW.free(), more);
            start
        },
        |table| {
            set(table, &key(A, 0), 1);
            table.split().unwrap();
        },
        |table| {
            let got = [0; 2].map(|_| get(table, &key(A, 0)));
            assert_ne!(got, [Is(1), Missing]);
            got
        },
    );
    assert_eq!(numbers(&got), [1]);
    assert!(got.contains(&[Missing; 2]));
}

/// An entry is taken away, and comes back in another place of its bucket.
fn come_back() {
    let got = explore(
        || {
            let mut start = Start::new(1);
            start.entry(BUCKETS[0] + 2, &key(A, 0));
            start
        },
        |table| {
            remove(table, &key(A, 0));
            set(table, &key(A, 0), 2);
        },
        |table| {
            let got = [0; 2].map(|_| get(table, &key(A, 0)));
            let order = [Is(1), Missing, Is(2)];
            let [first, second] = got.map(|got| order.iter().position(|one| *one == got));
            assert!(
                first.is_none() || second.is_none() || first <= second,
                "{got:?}"
            );
            got
        },
    );
    assert_eq!(numbers(&got), [1, 2]);
    assert!(got.contains(&[Missing; 2]));
}

/// Of two entries, one goes to a new bucket, and the other to its home, while a reader goes through
/// all.
fn walk() {
    explore(
        || {
            let mut start = Start::new(1);
            let home = BUCKETS[0];
            start.entry(home + 1, &key(B, 0b10));
            let more = start.more(home);
            start.entry(more + 1, &key(A, 0));
            start
        },
        |table| table.split().unwrap(),
        |table| assert_eq!(all(table, |_| true), [1, 2]),
    );
}

/// All numbers in the table that are `legible`.
fn all(table: &Table, legible: fn(u64) -> bool) -> Vec<u64> {
    let mut groups = Groups::of(table);
    let mut all = Vec::new();
    let mut read = |entry: &Entry<'_>| {
        let number = number(&scan::value_of(entry)?);
        legible(number).then_some(Some(number)).ok_or(Torn)
    };
    while let Some(found) = groups.next(table, &mut read) {
        all.extend(found.iter().map(|found| found.value));
    }
    all.sort();
    all
}

#[test]
fn a_chain_is_no_longer_than_a_reader_follows_it() {
    explore(
        || {
            let mut start = Start::new(2);
            let mut last = BUCKETS[0];
            start.fill(last + 1..=last + 7, 0b100);
            for _ in 1..MOST_LINKS {
                last = start.more(last);
                start.fill(last + 1..=last + 7, 0b100);
            }
            last = start.more(last);
            start.fill(last + 1..=last + 6, 0b100);
            let run = start.add(BUCKET);
            start.set(Class::OVERFLOW.next(), run);
            start.set(Class::OVERFLOW.end(), run + BUCKET);
            start
        },
        |table| {
            set(table, &key(A, 0), 1);
            assert_eq!(try_set(table, &key(B, 0), 2), Err(Refusal::Collisions));
        },
        |table| assert_ne!(get(table, &key(B, 0)), Contended),
    );
}

#[test]
fn a_value_is_whole_and_never_older_than_the_last() {
    overwrites();
}

#[test]
fn a_block_that_is_used_again_is_not_taken_for_what_it_was() {
    ping_pong();
    there_and_back();
}

#[test]
fn an_entry_that_moves_is_not_missed() {
    split();
    split_of_chain();
    refill();
    recycle();
}

#[test]
fn an_entry_comes_and_goes_once() {
    appear();
    come_back();
}

#[test]
fn a_walk_finds_each_entry_once() {
    walk();
}

#[test]
fn what_changes_all_the_time_hides_nothing_else() {
    explore(
        two,
        |_| {},
        |table| assert_eq!(all(table, |number| number != 1), [2]),
    );
}

#[test]
fn a_killed_writers_value_is_whole_and_never_older_than_the_last() {
    let got = killed(
        one,
        |table| set(table, &key(A, 0), 2),
        |table| get_a_twice(table, 0),
    );
    assert_eq!(numbers(&got), [1, 2]);
}

#[test]
fn an_entry_that_a_killed_writer_moves_is_not_missed() {
    let got = killed(
        chained,
        |table| table.split().unwrap(),
        |table| get_a(table, 0),
    );
    assert_eq!(got, [Is(1)].into());
}

#[test]
fn each_step_is_needed() {
    for (step, model) in [
        (Step::SlotAgain, overwrites as fn()),
        (Step::SlotAgain, ping_pong),
        (Step::SlotAgain, come_back),
        (Step::StampAgain, overwrites),
        (Step::MismatchAgain, ping_pong),
        (Step::ScanAgain, refill),
        (Step::ScanAgain, recycle),
        (Step::ScanAgain, appear),
        (Step::ScanAgain, walk),
        (Step::HomeAgain, split),
        (Step::HomeAgain, walk),
        (Step::BucketsFirst, split_of_chain),
        (Step::LinkFirst, refill),
        (Step::LinkFirst, appear),
        (Step::LinkFirst, walk),
        (Step::SlotsFirst, split),
        (Step::StampFirst, overwrites),
        (Step::StampLast, overwrites),
        (Step::StampLast, there_and_back),
        (Step::FreeBeforeFill, overwrites),
        (Step::CommitInOrder, ping_pong),
        (Step::CommitInOrder, split),
        (Step::CommitInOrder, refill),
    ] {
        assert!(
            run_without(step, model),
            "no model notices the lack of {step:?}"
        );
    }
}
