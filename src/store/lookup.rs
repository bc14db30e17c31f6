//! Reading without the lock: no store, no read-modify-write, no system call.
//!
//! # Memory ordering
//! A writer that replaces a value fills a free block, stores its new stamp, lets the slot point at
//! it, and marks the old block free, in this order, each store Release. Three things can go wrong
//! for a reader, and each has its check.
//!
//! - *The block is freed and used again while it is read.* Before a block is written again its
//!   stamp was FREE, and then there is a Release fence (`Table::fill`). So a reader that saw any
//!   word of what came later, and then passes its Acquire fence, sees another stamp than at first;
//!   stamps are never used twice (the seqlock of Boehm, *Can seqlocks get along with programming
//!   language memory models?*, 2012). This is asked whether the key matched or not: the mismatch
//!   may be with what came later, and the key that is looked for have been moved meanwhile.
//! - *The slot is stale, and the block used again for the same key.* Then the stamps agree, and yet
//!   the new value is not committed in this place. So the slot is looked at again, between the two
//!   looks at the stamp.
//! - *The entry moves while its chain is scanned.* It goes from an overflow bucket to the home
//!   bucket of the same chain, so the home is scanned again at the end of a chain, and the link of
//!   a bucket read before its slots: where a chain ends, what was behind has come home. Or it goes
//!   to a new bucket by a split, so a miss counts only if the key's home is still the same.
//!
//! Since the mapping may be read-only, all loads are Relaxed, and fences stand where Acquire is
//! meant: more than Relaxed is not promised there.
//!
//! A hit takes effect at the second look at its slot, a miss at a moment when the key was not there.

use super::blocks::{FREE, MOST_WORDS};
use super::table::{
    BLOCK_HEADER, Entry, IN_POOL, Key, MOST_LINKS, SLOTS, Sizes, Table, block_of, home_of,
};
use crate::sync::{AtomicU64, Ordering::*, Step, fence_of, without};

/// Tries before a reader takes the lock.
pub(crate) const TRIES: usize = 16;
/// Fewer for values of more than [`LARGE`] bytes.
pub(crate) const FEW_TRIES: usize = 3;
pub(crate) const LARGE: usize = 64 << 10;

/// What one look at the table found.
pub(crate) enum Probe<'a> {
    /// The key's entry. What is read through it counts only if it [is still](Entry::is_still) that.
    Hit(Entry<'a>),
    Miss,
    /// Something moved meanwhile: look again. Under the lock: the table is damaged.
    Moved,
}

/// Whether the slot still names the block, and the block is what it was.
#[inline(always)]
pub(crate) fn is_still(
    slot: &AtomicU64,
    slot_word: u64,
    stamp_word: &AtomicU64,
    stamp: u64,
) -> bool {
    if slot.load(Relaxed) != slot_word && !without(Step::SlotAgain) {
        return false;
    }
    // Orders this look, and all that was read of the block, before the last one; partner: the
    // fence in `Table::fill`.
    fence_of(Step::StampLast, Acquire);
    stamp_word.load(Relaxed) == stamp || without(Step::StampAgain)
}

impl Table {
    /// Looks for `key`, once.
    #[inline(always)]
    pub(crate) fn find(&self, key: &Key<'_>) -> Probe<'_> {
        let Some(buckets) = self.buckets() else {
            return Probe::Moved;
        };
        let home = home_of(key.hash, buckets);
        let Some(home_at) = self.bucket_at(home) else {
            return Probe::Moved;
        };
        match self.find_in(home_at, key) {
            Scan::Hit(entry) => return Probe::Hit(entry),
            Scan::Moved => return Probe::Moved,
            Scan::End(0) => {}
            Scan::End(link) => match self.find_in_chain(home_at, link, key) {
                Probe::Miss => {}
                other => return other,
            },
        }
        match self.buckets() {
            Some(now) if home_of(key.hash, now) == home || without(Step::HomeAgain) => Probe::Miss,
            _ => Probe::Moved,
        }
    }

    #[inline(never)]
    fn find_in_chain(&self, home_at: u64, link: u64, key: &Key<'_>) -> Probe<'_> {
        let mut link = link;
        let mut links = 0;
        // A bucket that went back to the pool ends its chain.
        while link != 0 && link & IN_POOL == 0 {
            links += 1;
            if links > MOST_LINKS {
                return Probe::Moved;
            }
            match self.find_in(link, key) {
                Scan::Hit(entry) => return Probe::Hit(entry),
                Scan::Moved => return Probe::Moved,
                Scan::End(next) => link = next,
            }
        }
        if without(Step::ScanAgain) {
            return Probe::Miss;
        }
        match self.find_in(home_at, key) {
            Scan::Hit(entry) => Probe::Hit(entry),
            Scan::Moved => Probe::Moved,
            Scan::End(_) => Probe::Miss,
        }
    }

    /// Looks for `key` in one bucket.
    #[inline(always)]
    fn find_in(&self, at: u64, key: &Key<'_>) -> Scan<'_> {
        let Some(bucket) = self.bucket(at) else {
            return Scan::Moved;
        };
        let words = look(bucket);
        let tag = key.tag();
        let mut matches = 0u32;
        for (i, word) in words.iter().enumerate().skip(1) {
            matches |= u32::from(word >> 36 == tag) << i;
        }
        while matches != 0 {
            let i = matches.trailing_zeros() as usize;
            matches &= matches - 1;
            // From the bucket once more: by a number that is not known before, that is quicker than
            // from what was read of it.
            let slot = &bucket[i & SLOTS];
            let slot_word = slot.load(Relaxed);
            fence_of(Step::SlotsFirst, Acquire);
            if slot_word >> 36 != tag {
                return Scan::Moved;
            }
            if block_of(slot_word) == 0 {
                continue;
            }
            let slot = (at + i as u64, slot, slot_word);
            match self.examine(slot, Some(key)) {
                Ok(Some(entry)) => return Scan::Hit(entry),
                Ok(None) => {}
                Err(Moved) => return Scan::Moved,
            }
        }
        Scan::End(words[0])
    }

    /// The entry that a slot names; `None` if its key is not `key`.
    #[inline(always)]
    pub(crate) fn examine<'a>(
        &'a self,
        (slot_at, slot, slot_word): (u64, &'a AtomicU64, u64),
        key: Option<&Key<'_>>,
    ) -> Result<Option<Entry<'a>>, Moved> {
        let at = block_of(slot_word);
        let header = self.memory.heap(at, BLOCK_HEADER).ok_or(Moved)?;
        let stamp = header[0].load(Relaxed);
        // Orders the stamp before the rest of the block; partner: the commit's store of the stamp.
        fence_of(Step::StampFirst, Acquire);
        if stamp == 0 || stamp & FREE != 0 {
            return Err(Moved);
        }
        let sizes = Sizes(header[1].load(Relaxed));
        let type_hash = header[2].load(Relaxed);
        let is_key = |block: &[AtomicU64], key: &Key<'_>| {
            let expected = key.bytes.len() as u64 | u64::from(key.internal) << 47;
            sizes.0 & Sizes::KEY == expected && key_is(&block[BLOCK_HEADER as usize..], key.bytes)
        };
        if sizes.words() > MOST_WORDS {
            return Err(Moved);
        }
        let block = self.memory.heap(at, sizes.words()).ok_or(Moved)?;
        if key.is_some_and(|key| !is_key(block, key)) {
            return if is_still(slot, slot_word, &block[0], stamp) || without(Step::MismatchAgain) {
                Ok(None)
            } else {
                Err(Moved)
            };
        }
        Ok(Some(Entry {
            slot_at,
            slot,
            slot_word,
            at,
            block,
            stamp,
            sizes,
            type_hash,
        }))
    }
}

/// The words of a bucket, as a reader without the lock may rely on them.
#[inline(always)]
pub(crate) fn look(bucket: &[AtomicU64; 8]) -> [u64; 8] {
    let link = bucket[0].load(Relaxed);
    // Orders the link before the slots: at the end of a chain, what the chain had has come home.
    fence_of(Step::LinkFirst, Acquire);
    let words = core::array::from_fn(|i| match i {
        0 => link,
        _ => bucket[i].load(Relaxed),
    });
    // Orders the slots before what they name, and before the number of buckets if the key is not
    // here; partner: the Release stores of a commit.
    fence_of(Step::SlotsFirst, Acquire);
    words
}

/// What was looked at was not what it had been.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Moved;

/// What was read is a mixture, or no longer in the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Torn;

enum Scan<'a> {
    Hit(Entry<'a>),
    /// Not in this bucket, which links to that one.
    End(u64),
    Moved,
}

/// Whether the words begin with `key`. What is behind it in its last word does not count.
#[inline(always)]
fn key_is(words: &[AtomicU64], key: &[u8]) -> bool {
    let chunks = key.chunks_exact(8);
    let rest = chunks.remainder();
    let mut at = 0;
    for chunk in chunks {
        let mut word = [0; 8];
        word.copy_from_slice(chunk);
        if words[at].load(Relaxed) != u64::from_ne_bytes(word) {
            return false;
        }
        at += 1;
    }
    rest.is_empty() || words[at].load(Relaxed).to_ne_bytes()[..rest.len()] == *rest
}
