//! A small table, and what writers and readers of it do.

use crate::layout::store_word;
use crate::store::blocks::Class;
use crate::store::change::Value;
use crate::store::lookup::{Probe, Torn};
use crate::store::memory::{FIRST, OnHeap};
use crate::store::scan;
use crate::store::table::{Entry, Key, Refusal, Sizes, Table, slot_of};

/// Bytes of a value: two words, both of which hold the same number, so that a torn one shows.
pub(super) const VALUE: usize = 16;
/// Words of the block that it needs.
pub(super) const BLOCK: u64 = 8;
pub(super) const BUCKET: u64 = 8;
/// Where the two buckets of a new table lie.
pub(super) const BUCKETS: [u64; 2] = [FIRST, FIRST + BUCKET];
/// Two keys, whose hashes end in 00 and in 10, as a scan finds out.
pub(super) const A: &str = "D";
pub(super) const B: &str = "E";

pub(super) fn key(name: &'static str, hash: u64) -> Key<'static> {
    Key {
        bytes: name.as_bytes(),
        hash,
        internal: false,
    }
}

/// The words of a store as a model begins.
pub(super) struct Start(Vec<u64>);

impl Start {
    /// Two empty buckets, and a run of `blocks` new blocks.
    pub(super) fn new(blocks: u64) -> Start {
        let mut start = Start(vec![0; FIRST as usize]);
        start.set(store_word!(buckets), 2);
        let buckets = start.add(2 * BUCKET);
        assert_eq!(buckets, BUCKETS[0]);
        start.set(store_word!(pieces), buckets);
        let class = Class::of(BLOCK);
        let run = start.add(blocks * BLOCK);
        start.set(class.next(), run);
        start.set(class.end(), run + blocks * BLOCK);
        start
    }

    pub(super) fn set(&mut self, at: u64, value: u64) {
        self.0[at as usize] = value;
    }

    /// Words more.
    pub(super) fn add(&mut self, words: u64) -> u64 {
        let at = self.0.len() as u64;
        self.0.resize((at + words) as usize, 0);
        at
    }

    /// An entry in the slot at `slot`. Its value is its stamp.
    pub(super) fn entry(&mut self, slot: u64, key: &Key<'_>) {
        let stamp = self.0[store_word!(sequence) as usize] + 1;
        self.set(store_word!(sequence), stamp);
        let block = self.add(BLOCK);
        let sizes = Sizes::new(key.bytes.len(), VALUE, key.internal, 0);
        assert_eq!(sizes.words(), 6);
        let mut name = [0; 8];
        name[..key.bytes.len()].copy_from_slice(key.bytes);
        let words = [stamp, sizes.0, 0, u64::from_ne_bytes(name), stamp, stamp];
        for (at, word) in (block..).zip(words) {
            self.set(at, word);
        }
        self.set(slot, slot_of(key.tag(), block));
    }

    /// Entries of hash `hash` in the slots at `slots`, which nobody looks at more closely.
    pub(super) fn fill(&mut self, slots: impl IntoIterator<Item = u64>, hash: u64) {
        for slot in slots {
            self.set(slot, slot_of(key("", hash).tag(), BUCKETS[0]));
        }
    }

    /// An overflow bucket behind the bucket at `bucket`.
    pub(super) fn more(&mut self, bucket: u64) -> u64 {
        let more = self.add(BUCKET);
        self.set(bucket, more);
        more
    }

    /// The table, with room for so many buckets more.
    pub(super) fn table(mut self, buckets: u64) -> Table {
        let end = self.add(buckets * BUCKET);
        self.set(store_word!(cursor), end);
        self.set(store_word!(end), end + buckets * BUCKET);
        Table::new(OnHeap::memory(self.0.into_iter()))
    }
}

/// What a reader got.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Got {
    Value(u64),
    Missing,
    /// So much was going on that a reader would now take the lock.
    Contended,
}
pub(super) use Got::{Contended, Missing, Value as Is};

/// One try of a reader.
pub(super) fn try_get(table: &Table, key: &Key<'_>) -> Got {
    match table.find(key) {
        Probe::Hit(entry) => match scan::value_of(&entry) {
            Ok(bytes) => Is(number(&bytes)),
            Err(Torn) => Contended,
        },
        Probe::Miss => Missing,
        Probe::Moved => Contended,
    }
}

pub(super) fn get(table: &Table, key: &Key<'_>) -> Got {
    // One that fails, and one that finds what is new.
    match try_get(table, key) {
        Contended => try_get(table, key),
        got => got,
    }
}

pub(super) fn number(bytes: &[u8]) -> u64 {
    let (first, second) = bytes.split_at(8);
    assert_eq!(first, second, "a torn value");
    u64::from_ne_bytes(first.try_into().unwrap())
}

/// What the holder of the lock finds, who is alone.
pub(super) fn find<'a>(table: &'a Table, key: &Key<'_>) -> Option<Entry<'a>> {
    match table.find(key) {
        Probe::Hit(entry) => Some(entry),
        Probe::Miss => None,
        Probe::Moved => panic!("nobody else moves anything"),
    }
}

pub(super) fn set(table: &Table, key: &Key<'_>, number: u64) {
    try_set(table, key, number).unwrap();
}

pub(super) fn try_set(table: &Table, key: &Key<'_>, number: u64) -> Result<u64, Refusal> {
    set_and(table, key, number, || ())
}

/// Sets it, and does that before the change is over.
pub(super) fn set_and(
    table: &Table,
    key: &Key<'_>,
    number: u64,
    wake: impl FnOnce(),
) -> Result<u64, Refusal> {
    let bytes = [number.to_ne_bytes(); 2];
    let value = Value {
        type_hash: 0,
        bytes: bytes.as_flattened(),
        writer: 0,
    };
    let found = find(table, key);
    table.put(key, found.as_ref(), value, wake)
}

pub(super) fn remove(table: &Table, key: &Key<'_>) {
    let found = find(table, key).unwrap();
    table.remove(&found, || ()).unwrap();
}
