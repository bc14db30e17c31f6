//! The hash table: linear hashing over 64-byte buckets. What a word of it means, and where a key
//! lies. `change` makes the changes, `split` the growth, `lookup` reads.
//!
//! A table of *n* buckets is one of 2^k that is being doubled one bucket at a time: the next split
//! takes half of bucket n - 2^k into the new bucket n (Litwin 1980; buckets of a line and a link:
//! MICA, Lim et al. 2014). Growing so never stops for more than one bucket. The bits of the hash by
//! which a split divides a bucket lie in the slots' tags, so a split touches no block.
//!
//! A bucket that is full goes on in overflow buckets. An entry never moves but by a split, and
//! right after one, from an overflow bucket into its home.

use super::blocks::FREE;
use super::memory::{Memory, NoRoom};
use crate::layout::{EVEN_BITS, FIRST_BITS, MOST_BITS, store_word};
use crate::sync::{AtomicU64, Ordering::*, Step, fence_of};
use rapidhash::v3::{RapidSecrets, rapidhash_v3_seeded};

/// Slots of a bucket; its first word is the link.
pub(crate) const SLOTS: usize = 7;
/// Overflow buckets that may hang on one.
pub(crate) const MOST_LINKS: usize = 64;
/// In a link: this overflow bucket is in the pool.
pub(crate) const IN_POOL: u64 = FREE;
/// Words of a block before its key.
pub(crate) const BLOCK_HEADER: u64 = 3;
pub(crate) const MOST_KEY: usize = 0xffff;
pub(crate) const MOST_BUCKETS: u64 = 1 << MOST_BITS;

pub(crate) const BUCKETS: u64 = store_word!(buckets);
pub(crate) const PIECES: u64 = store_word!(pieces);

/// What was read cannot have been written by an honest writer. Nothing was touched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Flaw {
    /// Index of the word.
    pub(crate) at: u64,
}

impl Flaw {
    /// The byte where the word lies. What names it may be any number.
    pub(crate) fn byte(self) -> u64 {
        self.at.saturating_mul(8)
    }
}

/// Why a change was not made. Nothing was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    NoRoom(NoRoom),
    TooLarge,
    Collisions,
    Flaw(Flaw),
}

impl From<Flaw> for Refusal {
    fn from(flaw: Flaw) -> Self {
        Refusal::Flaw(flaw)
    }
}

/// A key and its hash in one store.
#[derive(Clone, Copy)]
pub(crate) struct Key<'a> {
    pub(crate) bytes: &'a [u8],
    pub(crate) hash: u64,
    /// One of the store's own.
    pub(crate) internal: bool,
}

impl Key<'_> {
    pub(crate) fn tag(&self) -> u64 {
        tag_of(self.hash)
    }
}

/// The `sizes` word of a block.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sizes(pub(crate) u64);

impl Sizes {
    /// The key's length, and whether it is internal: what a lookup compares.
    pub(crate) const KEY: u64 = 0xffff | 1 << 47;

    pub(crate) fn new(key: usize, value: usize, internal: bool, writer: u16) -> Self {
        Sizes(
            key as u64 | (value as u64) << 16 | u64::from(internal) << 47 | u64::from(writer) << 48,
        )
    }

    #[inline(always)]
    pub(crate) fn key(self) -> usize {
        (self.0 & 0xffff) as usize
    }

    #[inline(always)]
    pub(crate) fn value(self) -> usize {
        (self.0 >> 16 & 0x7fff_ffff) as usize
    }

    pub(crate) fn internal(self) -> bool {
        self.0 >> 47 & 1 != 0
    }

    /// Roster slot of whoever wrote it, and 8 bits of its generation.
    pub(crate) fn writer(self) -> u16 {
        (self.0 >> 48) as u16
    }

    /// Words of the block.
    #[inline(always)]
    pub(crate) fn words(self) -> u64 {
        BLOCK_HEADER + words_for(self.key()) + words_for(self.value())
    }
}

#[inline(always)]
pub(crate) fn words_for(bytes: usize) -> u64 {
    (bytes as u64).div_ceil(8)
}

/// 28 bits of the hash, from the first that may divide a bucket.
#[inline(always)]
pub(crate) fn tag_of(hash: u64) -> u64 {
    (hash >> FIRST_BITS) & 0xfff_ffff
}

/// A slot that names `block`.
#[inline(always)]
pub(crate) fn slot_of(tag: u64, block: u64) -> u64 {
    (tag << 36) | (block / 4)
}

/// Index of the block that a slot names; 0 if it is empty.
#[inline(always)]
pub(crate) fn block_of(slot: u64) -> u64 {
    (slot & 0xf_ffff_ffff) * 4
}

/// The bucket in which a key of that hash begins to be looked for.
#[inline(always)]
pub(crate) fn home_of(hash: u64, buckets: u64) -> u64 {
    let mask = u64::MAX >> (buckets - 1).leading_zeros();
    let index = hash & mask;
    if index < buckets {
        index
    } else {
        index & (mask >> 1)
    }
}

/// The table over one store's words.
pub(crate) struct Table {
    pub(crate) memory: Memory,
    secrets: RapidSecrets,
}

impl Table {
    pub(crate) fn new(memory: Memory) -> Self {
        let seeds = store_word!(seeds);
        let seed = |i: u64| memory.header(seeds + i).load(Relaxed);
        let secrets = RapidSecrets {
            seed: seed(0),
            secrets: RapidSecrets::seed(seed(1)).secrets,
        };
        Table { memory, secrets }
    }

    #[inline(always)]
    pub(crate) fn key<'a>(&self, bytes: &'a [u8]) -> Key<'a> {
        Key {
            bytes,
            hash: rapidhash_v3_seeded(bytes, &self.secrets),
            internal: false,
        }
    }

    /// How many buckets there are; `None` if it cannot be.
    #[inline(always)]
    pub(crate) fn buckets(&self) -> Option<u64> {
        // Relaxed and a fence, here and in `lookup`: the mapping may be read-only.
        let buckets = self.memory.header(BUCKETS).load(Relaxed);
        fence_of(Step::BucketsFirst, Acquire);
        (1 << FIRST_BITS..=MOST_BUCKETS)
            .contains(&buckets)
            .then_some(buckets)
    }

    /// How many buckets there are, or can be: for those who go through all of them.
    pub(crate) fn buckets_there(&self) -> Option<u64> {
        let buckets = self.buckets()?;
        Some(buckets.min(self.memory.len_for(8 * buckets) / 8))
    }

    /// Index of the first word of bucket `index`, if it is there.
    pub(crate) fn home(&self, index: u64) -> Option<u64> {
        self.bucket_at(index)
            .filter(|at| self.bucket(*at).is_some())
    }

    /// Index of the first word of bucket `index`.
    #[inline(always)]
    pub(crate) fn bucket_at(&self, index: u64) -> Option<u64> {
        let (piece, within) = piece_of(index);
        let start = self.memory.header(PIECES + piece).load(Relaxed);
        (start % 8 == 0).then(|| start.wrapping_add(8 * within))
    }

    /// The words of the bucket at `at`.
    #[inline(always)]
    pub(crate) fn bucket(&self, at: u64) -> Option<&[AtomicU64; 8]> {
        if at % 8 != 0 {
            return None;
        }
        self.memory.heap(at, 8)?.try_into().ok()
    }

    pub(crate) fn counter(&self, at: u64) -> &AtomicU64 {
        self.memory.header(at)
    }
}

/// In which piece a bucket lies, and which one of it.
#[inline(always)]
pub(crate) fn piece_of(index: u64) -> (u64, u64) {
    if index < 1 << EVEN_BITS {
        return (index >> FIRST_BITS, index & ((1 << FIRST_BITS) - 1));
    }
    const EVEN: u64 = 1 << (EVEN_BITS - FIRST_BITS);
    let doubling = index.ilog2();
    let shift = doubling - (EVEN_BITS - FIRST_BITS - 1);
    let before = EVEN + u64::from(doubling - EVEN_BITS) * (EVEN / 2);
    let inside = index - (1 << doubling);
    (before + (inside >> shift), inside & ((1 << shift) - 1))
}

/// Buckets of the piece in which bucket `index` lies.
pub(crate) fn piece_len(index: u64) -> u64 {
    if index < 1 << EVEN_BITS {
        1 << FIRST_BITS
    } else {
        1 << (index.ilog2() - (EVEN_BITS - FIRST_BITS - 1))
    }
}

/// A place in the table that holds an entry, found under the lock or without it.
#[derive(Clone, Copy)]
pub(crate) struct Entry<'a> {
    /// Index of the slot's word.
    pub(crate) slot_at: u64,
    pub(crate) slot: &'a AtomicU64,
    /// What the slot said.
    pub(crate) slot_word: u64,
    /// Index of the block's first word.
    pub(crate) at: u64,
    /// All words of the block, as many as its sizes say.
    pub(crate) block: &'a [AtomicU64],
    pub(crate) stamp: u64,
    pub(crate) sizes: Sizes,
    pub(crate) type_hash: u64,
}

impl<'a> Entry<'a> {
    /// Whether all that was read through this entry was what its stamp stands for: the slot named
    /// this block between two looks at the same stamp.
    #[inline(always)]
    pub(crate) fn is_still(&self) -> bool {
        super::lookup::is_still(self.slot, self.slot_word, &self.block[0], self.stamp)
    }

    pub(crate) fn key_words(&self) -> &'a [AtomicU64] {
        &self.block[BLOCK_HEADER as usize..][..words_for(self.sizes.key()) as usize]
    }

    #[inline(always)]
    pub(crate) fn value_words(&self) -> &'a [AtomicU64] {
        &self.block[(BLOCK_HEADER + words_for(self.sizes.key())) as usize..]
    }
}

/// Walks under the lock.
impl Table {
    /// Calls `f` for each bucket of a chain.
    pub(crate) fn walk<E: From<Flaw>>(
        &self,
        home: u64,
        mut f: impl FnMut(u64, &[AtomicU64; 8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut at = home;
        for _ in 0..=MOST_LINKS {
            let bucket = self.bucket(at).ok_or(Flaw { at })?;
            let link = bucket[0].load(Relaxed);
            f(at, bucket)?;
            if link == 0 {
                return Ok(());
            }
            at = link;
        }
        Err(Flaw { at }.into())
    }
}
