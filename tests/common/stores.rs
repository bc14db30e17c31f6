//! Stores for tests: values that show whether they are whole, and a process that does with a store
//! what it is told, one line at a time, and answers each line with what came of it.

use super::{Process, hear, say};
use ringlane::{Error, Store, StoreOptions};
use std::fmt::Debug;
use std::time::Duration;

/// Options for a store in a domain, or in a directory if `place` is a path.
pub fn options(place: &str) -> StoreOptions {
    match place.starts_with('/') {
        true => Store::options().path(place),
        false => Store::options().domain(place),
    }
}

// ---- Values that show whether they are whole.

/// Shortest value that [`fill`] makes.
pub const LEAST: usize = 24;

/// The words behind the first three of a value.
fn pattern(key: u64, version: u64) -> impl Iterator<Item = u64> {
    let first = (key << 40 ^ version).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (1u64..).map(move |i| first.wrapping_add(i.wrapping_mul(0xbf58_476d_1ce4_e5b9)))
}

/// Makes the value of that key, version and length: each of its words tells all three.
pub fn fill(out: &mut Vec<u8>, key: u64, version: u64, len: usize) {
    assert!(len >= LEAST);
    out.clear();
    for word in [key, version, len as u64] {
        out.extend_from_slice(&word.to_le_bytes());
    }
    for word in pattern(key, version).take((len - LEAST).div_ceil(8)) {
        out.extend_from_slice(&word.to_le_bytes());
    }
    out.truncate(len);
}

/// The version of a value of that key, all of which must be of it.
#[track_caller]
pub fn version_of(bytes: &[u8], key: u64) -> u64 {
    let word = |at: usize| u64::from_le_bytes(bytes[8 * at..8 * at + 8].try_into().unwrap());
    assert!(bytes.len() >= LEAST, "{} bytes of key {key}", bytes.len());
    let version = word(1);
    let of = [word(0), word(2)];
    assert_eq!(of, [key, bytes.len() as u64], "version {version}");
    let words = bytes[LEAST..].chunks_exact(8);
    let rest = words.remainder();
    let mut expected = pattern(key, version);
    for (i, found) in words.enumerate() {
        let found = u64::from_le_bytes(found.try_into().unwrap());
        let whole = found == expected.next().unwrap();
        assert!(whole, "key {key}, version {version}: torn at word {i}");
    }
    let last = expected.next().unwrap().to_le_bytes();
    assert_eq!(rest, &last[..rest.len()], "torn in the last word");
    version
}

// ---- A process that does what it is told.

/// Starts one. The file's test `process` must hand the role `store actor` to [`act`].
pub fn actor(place: &str) -> Process {
    Process::start("store actor", &[place])
}

/// Starts one that has a store open.
#[track_caller]
pub fn actor_with(place: &str, store: &str) -> Process {
    let mut actor = actor(place);
    assert_eq!(actor.ask(&format!("open {store}")), "Ok(())");
    actor
}

fn shown<T>(outcome: Result<T, Error>, show: impl FnOnce(T) -> String) -> String {
    match outcome {
        Ok(value) => format!("Ok({})", show(value)),
        Err(e) => format!("Err({e:?})"),
    }
}

fn plain(value: impl Debug) -> String {
    format!("{value:?}")
}

fn nothing<T>(_: T) -> String {
    plain(())
}

/// What `process` does in the role `store actor`.
pub fn act(arguments: &[&str]) {
    let place = arguments[0];
    let mut timeout = None;
    let mut held: Option<Store> = None;
    while let Some(line) = hear() {
        let words: Vec<_> = line.split(' ').collect();
        let number = |at: usize| words[at].parse::<u64>().unwrap();
        let key = words.get(1).copied().unwrap_or_default();
        let store = || held.as_ref().unwrap();
        let answer = match words[0] {
            "timeout" => {
                timeout = Some(Duration::from_millis(number(1)));
                plain(())
            }
            "create" | "open" | "open_or_create" | "read_only" => {
                let mut options = options(place);
                if let Some(timeout) = timeout {
                    options = options.lock_timeout(timeout);
                }
                let opened = match words[0] {
                    "create" => options.create(key),
                    "open" => options.open(key),
                    "open_or_create" => options.open_or_create(key),
                    _ => options.read_only().open(key),
                };
                shown(opened.map(|store| held = Some(store)), plain)
            }
            "close" => {
                held = None;
                plain(())
            }
            "remove" => shown(store().remove(), plain),
            "set" => shown(store().set(key, &number(2)), nothing),
            "get" => shown(store().get::<u64>(key), plain),
            "add" => shown(store().fetch_add(key, number(2) as i64), plain),
            "delete" => shown(store().delete(key), plain),
            "len" => plain(store().len()),
            "verify" => shown(store().verify(), plain),
            "sync" => shown(store().sync(), plain),
            // Stays in the closure of `update`, with the lock, until it is told to go on.
            "hold" => {
                let held = store().update::<u64>(key, |old| {
                    say("inside");
                    hear();
                    Some(old.unwrap_or(0) + 1)
                });
                shown(held, nothing)
            }
            other => panic!("{other:?} is not something that a store actor does"),
        };
        say(answer);
    }
}
