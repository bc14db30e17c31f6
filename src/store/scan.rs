//! Going through all entries, without the lock or with it.
//!
//! Each bucket of the table as it was at the start is read together with those that were split
//! off it since, so an entry that stays is seen once, however much the table grows meanwhile.

use super::Torn;
use super::lookup::{Moved, TRIES, look};
use super::table::{Entry, IN_POOL, MOST_LINKS, Table};
use crate::sync::{Ordering::*, fence};
use crate::words;

/// Tries to read a group of buckets before it is read as well as it can be.
const MOST_TRIES: usize = 64 * TRIES;

/// What was found under a key.
pub(crate) struct Found<R> {
    pub(crate) key: Vec<u8>,
    pub(crate) value: R,
}

/// The groups of a table, each once.
pub(crate) struct Groups {
    /// Buckets at the start.
    buckets: u64,
    next: u64,
}

impl Groups {
    pub(crate) fn of(table: &Table) -> Groups {
        let buckets = table.buckets().unwrap_or(0);
        Groups { buckets, next: 0 }
    }

    /// Reads the entries of the next group. `read` says what of an entry is wanted, if it is.
    pub(crate) fn next<R>(
        &mut self,
        table: &Table,
        mut read: impl FnMut(&Entry<'_>) -> Result<Option<R>, Torn>,
    ) -> Option<Vec<Found<R>>> {
        if self.next >= self.buckets {
            return None;
        }
        let first = self.next;
        self.next += 1;
        let doubling = 1 << self.buckets.ilog2();
        // A bucket that was split already holds half as many of all hashes.
        let is_split = first >= doubling || first + doubling < self.buckets;
        let step = if is_split { 2 * doubling } else { doubling };
        let mut found = Vec::new();
        for _ in 0..MOST_TRIES {
            found.clear();
            if read_group(table, first, step, &mut read, &mut found).is_ok() {
                break;
            }
        }
        Some(found)
    }
}

fn read_group<R>(
    table: &Table,
    first: u64,
    step: u64,
    read: &mut impl FnMut(&Entry<'_>) -> Result<Option<R>, Torn>,
    found: &mut Vec<Found<R>>,
) -> Result<(), Torn> {
    let buckets = table.buckets().ok_or(Torn)?;
    let mut index = first;
    while index < buckets {
        let home = table.bucket_at(index).ok_or(Torn)?;
        let chained = read_chain(table, home, true, read, found)?;
        if chained {
            // What moved from the chain to its home meanwhile.
            read_chain(table, home, false, read, found)?;
        }
        index += step;
    }
    fence(Acquire);
    // `index` is the next bucket that would be of the group.
    let now = table.buckets().ok_or(Torn)?;
    if index < now { Err(Torn) } else { Ok(()) }
}

/// Reads a chain, or only its home. `true` if there was more than the home.
fn read_chain<R>(
    table: &Table,
    home: u64,
    whole: bool,
    read: &mut impl FnMut(&Entry<'_>) -> Result<Option<R>, Torn>,
    found: &mut Vec<Found<R>>,
) -> Result<bool, Torn> {
    let mut at = home;
    for links in 0..=MOST_LINKS {
        let bucket = table.bucket(at).ok_or(Torn)?;
        let words = look(bucket);
        for (i, word) in words.iter().enumerate().skip(1) {
            if *word == 0 {
                continue;
            }
            let slot = (at + i as u64, &bucket[i], *word);
            let entry = table.examine(slot, None).map_err(|Moved| Torn)?;
            let entry = entry.ok_or(Torn)?;
            if entry.sizes.internal() {
                if entry.is_still() {
                    continue;
                }
                return Err(Torn);
            }
            let key = key_of(&entry);
            let value = read(&entry)?;
            if !entry.is_still() {
                return Err(Torn);
            }
            if let Some(value) = value {
                match found.iter_mut().find(|other| other.key == key) {
                    Some(other) => other.value = value,
                    None => found.push(Found { key, value }),
                }
            }
        }
        let link = words[0];
        if !whole || link == 0 || link & IN_POOL != 0 {
            return Ok(links > 0);
        }
        at = link;
    }
    Err(Torn)
}

/// The key of an entry, which counts if the entry is still that.
pub(crate) fn key_of(entry: &Entry<'_>) -> Vec<u8> {
    let mut key = Vec::new();
    words::append_words(entry.key_words(), entry.sizes.key(), &mut key);
    key
}

/// The bytes of its value.
pub(crate) fn value_of(entry: &Entry<'_>) -> Result<Vec<u8>, Torn> {
    let mut bytes = Vec::new();
    append_value(entry, &mut bytes)?;
    Ok(bytes)
}

/// Appends the bytes of its value to `out`; nothing if they changed meanwhile.
#[inline]
pub(crate) fn append_value(entry: &Entry<'_>, out: &mut Vec<u8>) -> Result<(), Torn> {
    /// From this length on, it is made sure that the length is one before there is room for it.
    const LONG: usize = 4096;
    let len = entry.sizes.value();
    if len >= LONG && !entry.is_still() {
        return Err(Torn);
    }
    let before = out.len();
    words::append_words(entry.value_words(), len, out);
    if entry.is_still() {
        return Ok(());
    }
    out.truncate(before);
    Err(Torn)
}
