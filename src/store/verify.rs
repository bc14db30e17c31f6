//! A walk through all of a store: is it as its writers leave it?
//!
//! Every slot names a live block whose key belongs there; every word of the heap belongs to one
//! bucket, block or run, and to one only; the free lists end, and the counters are right.

use super::blocks::{Class, FREE};
use super::journal;
use super::lookup::Moved;
use super::memory::FIRST;
use super::scan::key_of;
use super::table::{
    Flaw, IN_POOL, MOST_LINKS, Table, block_of, home_of, piece_len, piece_of, tag_of,
};
use crate::layout::store_word;
use crate::sync::Ordering::Relaxed;

/// After so many, what is wrong is clear enough.
const MOST_FLAWS: usize = 32;

/// What is wrong, each flaw with the byte where it is. The caller holds the lock, or nobody writes.
pub(crate) fn flaws(table: &Table) -> Vec<String> {
    let mut walk = Walk {
        table,
        used: Vec::new(),
        cursor: 0,
        keys: 0,
        types: 0,
        live: 0,
        flaws: Vec::new(),
    };
    walk.all();
    walk.flaws
}

struct Walk<'a> {
    table: &'a Table,
    /// One bit for each 4 words of the heap: they belong to something.
    used: Vec<u64>,
    cursor: u64,
    keys: u64,
    types: u64,
    live: u64,
    flaws: Vec<String>,
}

impl Walk<'_> {
    fn flaw(&mut self, at: u64, what: impl core::fmt::Display) {
        if self.flaws.len() < MOST_FLAWS {
            let byte = Flaw { at }.byte();
            self.flaws.push(format!("byte {byte}: {what}"));
        }
    }

    fn header(&self, at: u64) -> u64 {
        self.table.counter(at).load(Relaxed)
    }

    fn all(&mut self) {
        if journal::is_open(&self.table.memory) {
            self.flaw(store_word!(journal_len), "a commit is not finished");
        }
        match self.header(store_word!(split_pending)) {
            0 => {}
            1 => self.flaw(store_word!(split_pending), "a split is not finished"),
            _ => self.flaw(store_word!(split_pending), "is neither 0 nor 1"),
        }
        if self.header(store_word!(poison)) != 0 {
            let at = self.header(store_word!(poison));
            self.flaw(at, "a writer found this wrong");
        }
        self.cursor = self.header(store_word!(cursor));
        let end = self.header(store_word!(end));
        if self.cursor > end || self.cursor < FIRST || self.cursor % 8 != 0 {
            return self.flaw(store_word!(cursor), "lies outside of the heap");
        }
        if end > self.table.memory.len() {
            return self.flaw(store_word!(end), "lies behind the end of the file");
        }
        if self.table.memory.lacks_pages(end) {
            // All of them may be more than there is memory, or time to look at them.
            return self.flaw(store_word!(end), "some pages up to there are missing");
        }
        self.used = vec![0; (self.cursor - FIRST).div_ceil(4 * 64) as usize];
        let Some(buckets) = self.table.buckets() else {
            return self.flaw(store_word!(buckets), "no table has so many buckets");
        };
        if !self.pieces(buckets) {
            return;
        }
        if self.header(store_word!(sequence)) >= FREE {
            self.flaw(store_word!(sequence), "more commits than there are stamps");
        }
        for index in 0..buckets {
            self.chain(index, buckets);
        }
        for class in Class::all().chain([Class::OVERFLOW]) {
            self.class(class);
        }
        self.counters();
        self.lost();
    }

    /// Notes that the words belong to something; `false` if they cannot.
    fn claim(&mut self, at: u64, words: u64, what: &str) -> bool {
        if at < FIRST || at > self.cursor || words > self.cursor - at || at % 4 != 0 {
            self.flaw(at, format_args!("{what} lies outside of the heap"));
            return false;
        }
        let first = (at - FIRST) / 4;
        for unit in first..first + words.div_ceil(4) {
            let (word, bit) = ((unit / 64) as usize, 1 << (unit % 64));
            // Not a step further: so all claims together take as long as the heap is.
            if self.used[word] & bit != 0 {
                self.flaw(at, format_args!("{what} lies where something else does"));
                return false;
            }
            self.used[word] |= bit;
        }
        true
    }

    /// Notes the pieces of the table; `false` if some of it is not there.
    fn pieces(&mut self, buckets: u64) -> bool {
        let mut are_there = true;
        let mut next = 0;
        while next < buckets {
            let (piece, _) = piece_of(next);
            let at = self.header(store_word!(pieces) + piece);
            if at % 8 != 0 {
                self.flaw(store_word!(pieces) + piece, "is not the start of a line");
            }
            are_there &= self.claim(at, 8 * piece_len(next), "a piece of the table");
            next += piece_len(next);
        }
        are_there
    }

    fn chain(&mut self, index: u64, buckets: u64) {
        let Some(home) = self.table.bucket_at(index) else {
            return;
        };
        let mut at = home;
        let mut keys: Vec<Vec<u8>> = Vec::new();
        for links in 0..=MOST_LINKS {
            if links > 0 && !self.claim(at, 8, "an overflow bucket") {
                return;
            }
            let Some(bucket) = self.table.bucket(at) else {
                return self.flaw(at, format_args!("bucket {index} is not there"));
            };
            for (i, slot) in bucket.iter().enumerate().skip(1) {
                let word = slot.load(Relaxed);
                if word != 0 {
                    self.entry(index, buckets, (at + i as u64, slot, word), &mut keys);
                }
            }
            let link = bucket[0].load(Relaxed);
            if link == 0 {
                return;
            }
            if link & IN_POOL != 0 {
                return self.flaw(at, format_args!("bucket {index} is in use and in the pool"));
            }
            at = link;
        }
        self.flaw(
            home,
            format_args!("the chain of bucket {index} does not end"),
        );
    }

    fn entry(
        &mut self,
        index: u64,
        buckets: u64,
        slot: (u64, &crate::sync::AtomicU64, u64),
        keys: &mut Vec<Vec<u8>>,
    ) {
        let (at, _, word) = slot;
        let entry = match self.table.examine(slot, None) {
            Ok(Some(entry)) => entry,
            Ok(None) | Err(Moved) => {
                return self.flaw(
                    at,
                    format_args!("bucket {index}: a slot names no live block"),
                );
            }
        };
        if entry.stamp > self.header(store_word!(sequence)) {
            self.flaw(entry.at, "a stamp of a commit that never was");
        }
        let class = Class::of(entry.sizes.words());
        if !self.claim(block_of(word), class.words(), "a block") {
            return;
        }
        let mut key = key_of(&entry);
        let hash = self.table.key(&key).hash;
        if tag_of(hash) != word >> 36 {
            self.flaw(
                at,
                format_args!("bucket {index}: the tag is not of the block's key"),
            );
        } else if home_of(hash, buckets) != index {
            self.flaw(
                at,
                format_args!("bucket {index}: the key belongs elsewhere"),
            );
        }
        // Keys of the store's own and the user's are two kinds.
        key.push(entry.sizes.internal().into());
        if keys.contains(&key) {
            self.flaw(at, format_args!("bucket {index}: the same key twice"));
        }
        keys.push(key);
        self.keys += 1;
        self.types += u64::from(entry.sizes.internal());
        self.live += 8 * class.words();
    }

    fn class(&mut self, class: Class) {
        let is_pool = class == Class::OVERFLOW;
        let what = if is_pool {
            "a bucket in the pool"
        } else {
            "a free block"
        };
        let mut at = self.header(class.free());
        while at != 0 {
            // A list that runs in a circle claims something twice.
            if !self.claim(at, class.words(), what) {
                break;
            }
            let Some(words) = self.table.memory.heap(at, class.words()) else {
                break;
            };
            let first = words[0].load(Relaxed);
            if first & FREE == 0 {
                self.flaw(at, format_args!("{what} is not marked so"));
                break;
            }
            if is_pool && words[1..].iter().any(|slot| slot.load(Relaxed) != 0) {
                self.flaw(at, format_args!("{what} is not empty"));
            }
            at = first & !FREE;
        }
        let (next, end) = (self.header(class.next()), self.header(class.end()));
        if next > end {
            self.flaw(class.next(), "a run ends before it begins");
        } else if next < end {
            self.claim(next, end - next, "a run of new blocks");
        }
    }

    fn counters(&mut self) {
        let counted = [
            (store_word!(keys), "keys", self.keys),
            (store_word!(types), "types", self.types),
            (store_word!(live_bytes), "bytes in use", self.live),
        ];
        for (at, what, counted) in counted {
            let written = self.header(at);
            if written != counted {
                self.flaw(
                    at,
                    format_args!("{written} {what}, and there are {counted}"),
                );
            }
        }
    }

    /// What belongs to nothing will never be used again.
    fn lost(&mut self) {
        let units = (self.cursor - FIRST) / 4;
        let used: u64 = self
            .used
            .iter()
            .map(|word| u64::from(word.count_ones()))
            .sum();
        if used < units {
            self.flaw(
                FIRST,
                format_args!("{} bytes belong to nothing", 32 * (units - used)),
            );
        }
    }
}
