//! `cargo bench --bench store`: the calls of the shared store, by one process and by two.
//!
//! Criterion's loop does not wait for an answer before it asks again, so a processor works on
//! several short calls at once. What one call takes by itself, and how that compares, is measured
//! by the crate in `shootout/`.
//!
//! A thousand and a million keys; with `RINGLANE_BENCH_10M=1` ten million as well.

#![expect(
    clippy::disallowed_types,
    reason = "the lock's floor is two bare instructions"
)]

mod beside;

use std::hint::black_box;
use std::ops::Range;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use beside::{Beside, Role};
use criterion::{BenchmarkGroup, BenchmarkId, Criterion, Throughput, measurement::WallTime};
use ringlane::{Store, StoreOptions};

type Key = [u8; 16];

const ABSENT: u64 = 1 << 40;

fn main() {
    beside::work_if_second();
    beside::pin(0);
    let mut criterion = quick().configure_from_args();
    for count in counts() {
        calls(&mut criterion, count);
        two_processes(&mut criterion, count);
        walks(&mut criterion, count);
        attach(&mut criterion, count);
        inserts(&mut criterion, count);
    }
    sizes(&mut criterion);
    watch(&mut criterion);
    criterion.final_summary();
    // Not criterion's, so they know nothing of its filters.
    if std::env::args()
        .skip(1)
        .all(|argument| argument.starts_with("--"))
    {
        insert_histograms();
        lock_ratio();
    }
}

/// Short settings, for there are many benchmarks; arguments override them.
fn quick() -> Criterion {
    Criterion::default()
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(800))
        .sample_size(20)
        .nresamples(5_000)
        .without_plots()
}

/// Whether to measure (`cargo bench`) or only to run everything once (`cargo test --benches`,
/// `--test`); the rule is criterion's own.
fn measuring() -> bool {
    let given = |flag: &str| std::env::args().any(|argument| argument == flag);
    given("--bench") && !given("--test")
}

/// How many keys a store has.
fn counts() -> Vec<u64> {
    let mut counts = vec![1000];
    if measuring() {
        counts.push(1_000_000);
        if std::env::var_os("RINGLANE_BENCH_10M").is_some() {
            counts.push(10_000_000);
        }
    }
    counts
}

// ---- Keys, and stores that are made when they are needed and go when they are not.

/// The keys of these numbers, shuffled.
fn keys(numbers: Range<u64>, seed: u64) -> Vec<Key> {
    let key = |number: u64| {
        let mut key = [0; 16];
        key[..8].copy_from_slice(&mix(number).to_ne_bytes());
        key[8..].copy_from_slice(&number.to_ne_bytes());
        key
    };
    let mut keys: Vec<Key> = numbers.map(key).collect();
    for i in (1..keys.len()).rev() {
        let random = u128::from(mix(seed.wrapping_add(i as u64)));
        keys.swap(i, ((random * (i as u128 + 1)) >> 64) as usize);
    }
    keys
}

/// The finisher of `splitmix64`.
fn mix(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

/// A store of this run, which is removed when this is dropped.
struct Own(Store);

impl Own {
    fn options() -> StoreOptions {
        Store::options().domain(&domain())
    }

    fn empty() -> Self {
        static MADE: AtomicUsize = AtomicUsize::new(0);
        let name = format!("store-{}", MADE.fetch_add(1, Ordering::Relaxed));
        Self(Self::options().create(&name).expect("create the store"))
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        self.0.remove().expect("remove the store");
    }
}

fn domain() -> String {
    format!("bench-store-{}", std::process::id())
}

/// A filled store, its keys in another order than they were set in, and others.
struct Filled {
    own: Own,
    present: Round,
    absent: Round,
}

impl Filled {
    fn new(count: u64) -> Self {
        let filled = Self {
            own: Own::empty(),
            present: Round::of(keys(0..count, 2)),
            absent: Round::of(keys(ABSENT..ABSENT + count, 3)),
        };
        for key in keys(0..count, 1) {
            filled.store().set(key, &number_of(&key)).expect("set");
        }
        for key in filled.present.keys.iter().take(1000) {
            let value = filled.store().get::<i64>(key).expect("get");
            assert_eq!(value, Some(number_of(key)));
        }
        for key in filled.absent.keys.iter().take(1000) {
            assert_eq!(filled.store().get::<i64>(key).expect("get"), None);
        }
        filled
    }

    fn store(&self) -> &Store {
        &self.own.0
    }
}

/// The value of a key: its number, as what `fetch_add` counts in.
fn number_of(key: &Key) -> i64 {
    i64::from_ne_bytes(key[8..].try_into().expect("8 bytes"))
}

/// Keys, round and round.
struct Round {
    keys: Vec<Key>,
    at: usize,
}

impl Round {
    fn of(keys: Vec<Key>) -> Self {
        Self { keys, at: 0 }
    }

    #[inline(always)]
    fn next(&mut self) -> &Key {
        self.at = if self.at + 1 < self.keys.len() {
            self.at + 1
        } else {
            0
        };
        &self.keys[self.at]
    }
}

/// Adds a benchmark of single calls at a filled store, which is made once it is needed, so that a
/// benchmark that was filtered out fills none.
fn call<R>(
    group: &mut BenchmarkGroup<'_, WallTime>,
    filled: &mut Option<Filled>,
    (name, count): (&str, u64),
    mut call: impl FnMut(&Store, &mut Round, &mut Round) -> R,
) {
    group.bench_function(BenchmarkId::new(name, count), |bencher| {
        let Filled {
            own,
            present,
            absent,
        } = filled.get_or_insert_with(|| Filled::new(count));
        bencher.iter(|| call(&own.0, present, absent));
    });
}

// ---- What is measured.

/// One process, values of 8 bytes.
fn calls(criterion: &mut Criterion, count: u64) {
    let mut group = criterion.benchmark_group("store");
    group.throughput(Throughput::Elements(1));
    let (group, filled) = (&mut group, &mut None);
    call(group, filled, ("get_hit", count), |store, present, _| {
        store.get::<i64>(present.next()).expect("get")
    });
    call(group, filled, ("get_miss", count), |store, _, absent| {
        store.get::<i64>(absent.next()).expect("get")
    });
    call(group, filled, ("overwrite", count), |store, present, _| {
        let key = present.next();
        store.set(key, &number_of(key)).expect("set")
    });
    call(group, filled, ("update", count), |store, present, _| {
        let update = store.update::<i64>(present.next(), |value| Some(value.unwrap_or(0)));
        update.expect("update")
    });
    call(
        group,
        filled,
        ("get_versioned and compare_and_set", count),
        |store, present, _| {
            let key = present.next();
            let (value, version) = store
                .get_versioned::<i64>(key)
                .expect("get")
                .expect("a value");
            store
                .compare_and_set(key, version, &value)
                .expect("nobody else")
        },
    );
    call(
        group,
        filled,
        ("delete and insert_new", count),
        |store, present, _| {
            let key = present.next();
            assert!(store.delete(key).expect("delete"));
            store.insert_new(key, &number_of(key)).expect("insert")
        },
    );
    call(group, filled, ("fetch_add", count), |store, present, _| {
        store.fetch_add(present.next(), 0).expect("add")
    });
}

/// The same while another process overwrites as fast as it can.
fn two_processes(criterion: &mut Criterion, count: u64) {
    let mut group = criterion.benchmark_group("store beside a writer");
    group.throughput(Throughput::Elements(1));
    let filled = &mut None;
    let mut beside = None;
    for write in [false, true] {
        let name = if write { "overwrite" } else { "get_hit" };
        group.bench_function(BenchmarkId::new(name, count), |bencher| {
            let Filled { own, present, .. } = filled.get_or_insert_with(|| Filled::new(count));
            let start = || Beside::start(Role::Overwrite, &domain(), &own.0, count);
            beside.get_or_insert_with(start);
            bencher.iter(|| {
                let key = present.next();
                if write {
                    own.0.set(key, &number_of(key)).expect("set");
                } else {
                    black_box(own.0.get::<i64>(key).expect("get").expect("a value"));
                }
            });
        });
    }
}

/// All of a store: by the key.
fn walks(criterion: &mut Criterion, count: u64) {
    let mut group = criterion.benchmark_group("store, all keys");
    group
        .throughput(Throughput::Elements(count))
        .sample_size(10);
    let filled = &mut None;
    group.bench_function(BenchmarkId::new("iter", count), |bencher| {
        let filled: &mut Filled = filled.get_or_insert_with(|| Filled::new(count));
        bencher.iter(|| {
            let (all, sum) = filled
                .store()
                .iter::<i64>()
                .fold((0, 0_i64), |(all, sum), entry| {
                    (all + 1, sum.wrapping_add(entry.1))
                });
            assert_eq!(all, count);
            sum
        });
    });
    group.bench_function(BenchmarkId::new("get_all", count), |bencher| {
        let filled = filled.get_or_insert_with(|| Filled::new(count));
        bencher.iter(|| {
            let all = filled.store().get_all::<i64>().expect("all");
            assert_eq!(all.len() as u64, count);
            all
        });
    });
}

/// Opening a store that is there, whatever is in it, with a first get.
fn attach(criterion: &mut Criterion, count: u64) {
    let mut group = criterion.benchmark_group("store");
    let filled = &mut None;
    group.bench_function(BenchmarkId::new("open and get", count), |bencher| {
        let Filled { own, present, .. } = filled.get_or_insert_with(|| Filled::new(count));
        let name = own.0.name().to_owned();
        bencher.iter(|| {
            let store = Own::options().open(&name).expect("open the store");
            store
                .get::<i64>(present.next())
                .expect("get")
                .expect("a value")
        });
    });
}

/// Inserts into a store that grows from nothing to so many keys, and then into another one.
fn inserts(criterion: &mut Criterion, count: u64) {
    let mut group = criterion.benchmark_group("store");
    group.throughput(Throughput::Elements(1));
    let mut keys = None;
    group.bench_function(BenchmarkId::new("insert", count), |bencher| {
        let keys = keys.get_or_insert_with(|| self::keys(0..count, 1));
        bencher.iter_custom(|inserts| {
            let (mut left, mut elapsed) = (inserts as usize, Duration::ZERO);
            while left > 0 {
                let own = Own::empty();
                let some = &keys[..left.min(keys.len())];
                let clock = Instant::now();
                for key in some {
                    own.0.set(key, &number_of(key)).expect("set");
                }
                elapsed += clock.elapsed();
                left -= some.len();
            }
            elapsed
        });
    });
}

/// Values from 8 bytes to 1 MiB, a thousand of them, or as many as make 16 MiB.
fn sizes(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("store, by size");
    for bytes in [8, 64, 1 << 10, 64 << 10, 1 << 20] {
        group.throughput(Throughput::ElementsAndBytes {
            elements: 1,
            bytes: bytes as u64,
        });
        let count = if bytes < 1 << 20 { 1000 } else { 16 };
        let filled = &mut None;
        let fill = || {
            let own = Own::empty();
            let keys = keys(0..count, 2);
            for key in &keys {
                own.0.set::<[u8]>(key, &vec![0x5a; bytes]).expect("set");
            }
            (own, Round::of(keys))
        };
        group.bench_function(BenchmarkId::new("get", bytes), |bencher| {
            let (own, keys) = filled.get_or_insert_with(fill);
            bencher.iter(|| {
                own.0
                    .get::<[u8]>(keys.next())
                    .expect("get")
                    .expect("a value")
            });
        });
        group.bench_function(BenchmarkId::new("get_into", bytes), |bencher| {
            let (own, keys) = filled.get_or_insert_with(fill);
            let mut value = Vec::new();
            bencher.iter(|| {
                assert!(own.0.get_into(keys.next(), &mut value).expect("get"));
                black_box(&value).len()
            });
            assert_eq!(value, vec![0x5a; bytes]);
        });
        group.bench_function(BenchmarkId::new("overwrite", bytes), |bencher| {
            let (own, keys) = filled.get_or_insert_with(fill);
            let value = vec![0x5a; bytes];
            bencher.iter(|| own.0.set::<[u8]>(keys.next(), &value).expect("set"));
        });
    }
}

/// There and back between two processes that sleep between the changes: two wakes.
fn watch(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("store");
    let mut pair = None;
    group.bench_function("watch, there and back", |bencher| {
        let (_, own, number) = pair.get_or_insert_with(|| {
            let own = Own::empty();
            (Beside::start(Role::Echo, &domain(), &own.0, 0), own, 0_u64)
        });
        let mut pong = own.0.watch::<u64>("pong").expect("watch");
        bencher.iter(|| {
            *number += 1;
            own.0.set("ping", number).expect("set");
            while pong.wait().expect("wait") != Some(*number) {}
        });
    });
}

/// How long each of many inserts takes, which a mean does not tell: a store must not stop to grow.
/// By the clock, so the longest may be the scheduler's; `shootout/` tells that apart.
fn insert_histograms() {
    println!("\ninsert, each by itself, ns:    p50      p99    p99.9  longest");
    for count in counts() {
        let (keys, own) = (keys(0..count, 1), Own::empty());
        let mut nanos = Vec::with_capacity(keys.len());
        let mut before = Instant::now();
        for key in &keys {
            own.0.set(key, &number_of(key)).expect("set");
            let now = Instant::now();
            nanos.push((now - before).as_nanos());
            before = now;
        }
        nanos.sort_unstable();
        let at = |share: f64| nanos[((nanos.len() - 1) as f64 * share) as usize];
        println!(
            "{:>14} keys         {:>9}{:>9}{:>9}{:>9}",
            count,
            at(0.5),
            at(0.99),
            at(0.999),
            at(1.0)
        );
    }
}

/// What a write costs by what a lock costs at least: one compare-exchange and one swap. In rounds
/// by turns, since a shared machine changes its speed; the lock itself is not public, and an
/// `update` that changes nothing is a hash, a look and the lock.
fn lock_ratio() {
    /// Odd, so that the median is one of them.
    const ROUNDS: usize = 31;
    let calls = if measuring() { 20_000 } else { 100 };
    let own = Own::empty();
    let word = AtomicU32::new(0);
    let floor = || {
        let word = black_box(&word);
        let taken = word.compare_exchange(0, 1, Ordering::Acquire, Ordering::Relaxed);
        assert!(black_box(taken).is_ok());
        black_box(word.swap(0, Ordering::Release));
    };
    let nothing = || {
        let update = own.0.update::<u64>("absent", |value| value);
        black_box(update.expect("update"));
    };
    let set = || {
        black_box(own.0.set("key", black_box(&1_u64)).expect("set"));
    };
    let (mut nothings, mut sets) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let floor = time(calls, floor);
        nothings.push(time(calls, nothing) / floor);
        sets.push(time(calls, set) / floor);
    }
    println!("\ntimes one compare-exchange and one swap, uncontended:");
    println!("  an update that changes nothing  {:.2}", median(nothings));
    println!("  a set of 8 bytes                {:.2}", median(sets));
}

fn time(calls: u32, call: impl Fn()) -> f64 {
    let clock = Instant::now();
    (0..calls).for_each(|_| call());
    clock.elapsed().as_secs_f64()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
