//! Going through all entries, without the lock or with it.
//!
//! Each bucket of the table as it was at the start is read together with those that were split
//! off it since, so an entry that stays is seen once, however much the table grows meanwhile.

use super::Torn;
use super::lookup::{Moved, TRIES, look};
use super::table::{Entry, IN_POOL, MOST_LINKS, Table, piece_len, piece_of};
use crate::layout::{FIRST_BITS, store_word};
use crate::sync::{AtomicU64, Step, without};
use crate::words;

/// Tries to read a group of buckets with all that is in it. After that, what changes all the time
/// is left out, lest it hide the rest.
const WHOLE_TRIES: usize = if cfg!(loom) { 2 } else { 32 * TRIES };
const MOST_TRIES: usize = 2 * WHOLE_TRIES;
/// Tries of a scan in all, beyond one of each group and one more of it in parts. Writers make a scan
/// lose some; what no writer left so is lost each time, and may be everywhere.
const MOST_REPEATS: usize = if cfg!(loom) {
    usize::MAX
} else {
    64 * MOST_TRIES
};

/// Values of so many bytes are copied with more care.
const LONG: usize = 4096;

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
    /// Tries left, or `None` under the lock, where each is as the first.
    repeats: Option<usize>,
    /// Where something was left out; under the lock that is damage.
    pub(crate) left_out: Option<u64>,
}

impl Groups {
    pub(crate) fn of(table: &Table) -> Groups {
        Groups {
            buckets: table.buckets_there().unwrap_or(0),
            next: 0,
            repeats: Some(MOST_REPEATS),
            left_out: None,
        }
    }

    /// The same for the holder of the lock.
    #[cfg(not(loom))]
    pub(crate) fn under_lock(table: &Table) -> Groups {
        Groups {
            repeats: None,
            ..Groups::of(table)
        }
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
        let mut group = Group {
            first,
            step,
            whole: true,
        };
        let mut found = Vec::new();
        let Some(home) = table.home(first) else {
            // What is not there by now will not come, nor will the rest of its piece.
            let (piece, within) = piece_of(first);
            self.left_out.get_or_insert(store_word!(pieces) + piece);
            self.next = first - within + piece_len(first);
            return Some(found);
        };
        for tries in 0..MOST_TRIES {
            found.clear();
            let repeats = self.repeats.unwrap_or(0);
            group.whole = tries == 0 || tries < WHOLE_TRIES && repeats > 0;
            if let Ok(is_there) = read_group(table, &group, &mut read, &mut found) {
                if !is_there || !group.whole {
                    self.left_out.get_or_insert(home);
                }
                return Some(found);
            }
            if self.repeats.is_none() || !group.whole && repeats == 0 {
                break;
            }
            self.repeats = Some(repeats.saturating_sub(1));
        }
        self.left_out.get_or_insert(home);
        Some(found)
    }
}

/// The bucket `first`, and each `step` further.
struct Group {
    first: u64,
    /// A power of two.
    step: u64,
    /// Entries that change meanwhile are not left out.
    whole: bool,
}

impl Group {
    /// Whether what a slot in one of them names is this group's: not what the last split moved out
    /// of it, and did not clear yet.
    fn has(&self, slot: u64) -> bool {
        let (tag, other) = (slot >> 36, self.first >> FIRST_BITS);
        (tag ^ other) & ((self.step - 1) >> FIRST_BITS) == 0
    }
}

/// Reads all buckets of a group; `false` if one is not there.
fn read_group<R>(
    table: &Table,
    group: &Group,
    read: &mut impl FnMut(&Entry<'_>) -> Result<Option<R>, Torn>,
    found: &mut Vec<Found<R>>,
) -> Result<bool, Torn> {
    let buckets = table.buckets_there().ok_or(Torn)?;
    let mut index = group.first;
    while index < buckets {
        let Some(home) = table.home(index) else {
            return Ok(false);
        };
        let chained = read_chain(table, group, home, true, read, found)?;
        if chained && !without(Step::ScanAgain) {
            // What moved from the chain to its home meanwhile.
            read_chain(table, group, home, false, read, found)?;
        }
        index += group.step;
    }
    // `index` is the next bucket that would be of the group.
    let now = table.buckets_there().ok_or(Torn)?;
    if index < now && !without(Step::HomeAgain) {
        return Err(Torn);
    }
    Ok(true)
}

/// Reads a chain, or only its home. `true` if there was more than the home.
fn read_chain<R>(
    table: &Table,
    group: &Group,
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
            if *word == 0 || !group.has(*word) {
                continue;
            }
            let slot = (at + i as u64, &bucket[i], *word);
            let (key, value) = match read_entry(table, group, slot, links == 0, read) {
                Ok(Some(entry)) => entry,
                Ok(None) => continue,
                Err(Torn) if group.whole => return Err(Torn),
                Err(Torn) => continue,
            };
            match found.iter_mut().find(|other| other.key == key) {
                Some(other) => other.value = value,
                None => found.push(Found { key, value }),
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

/// The key of the entry that a slot names, and what is wanted of it. `None` if nothing is.
fn read_entry<R>(
    table: &Table,
    group: &Group,
    slot: (u64, &AtomicU64, u64),
    is_home: bool,
    read: &mut impl FnMut(&Entry<'_>) -> Result<Option<R>, Torn>,
) -> Result<Option<(Vec<u8>, R)>, Torn> {
    let entry = table.examine(slot, None).map_err(|Moved| Torn)?;
    let entry = entry.ok_or(Torn)?;
    let key = key_of(&entry);
    // An overflow bucket may be another group's by now. A home never is; but what is long is not
    // copied for each damaged slot that names it.
    let is_sure = is_home && entry.sizes.value() < LONG;
    let is_here = || (table.key(&key).hash ^ group.first) & (group.step - 1) == 0;
    let wanted = if !entry.sizes.internal() && (is_sure || is_here()) {
        read(&entry)?.map(|value| (key, value))
    } else {
        None
    };
    entry.is_still().then_some(wanted).ok_or(Torn)
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

/// The first `len` of the bytes of its value, or all.
pub(crate) fn start_of(entry: &Entry<'_>, len: usize) -> Result<Vec<u8>, Torn> {
    let mut bytes = Vec::new();
    let len = len.min(entry.sizes.value());
    words::append_words(entry.value_words(), len, &mut bytes);
    entry.is_still().then_some(bytes).ok_or(Torn)
}

/// Appends the bytes of its value to `out`; nothing if they changed meanwhile.
#[inline]
pub(crate) fn append_value(entry: &Entry<'_>, out: &mut Vec<u8>) -> Result<(), Torn> {
    // Of what is long, it is made sure that the length is one before there is room for it.
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
