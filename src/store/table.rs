//! The hash table: linear hashing over 64-byte buckets. Where a key lies, and the changes that the
//! holder of the lock makes.
//!
//! A table of *n* buckets is one of 2^k that is being doubled one bucket at a time: the next split
//! takes half of bucket n - 2^k into the new bucket n (Litwin 1980; buckets of a line and a link:
//! MICA, Lim et al. 2014). Growing so never stops for more than one bucket. The bits of the hash by
//! which a split divides a bucket lie in the slots' tags, so a split touches no block.
//!
//! A bucket that is full goes on in overflow buckets. An entry never moves but by a split, and
//! right after one, from an overflow bucket into its home.

use super::blocks::{self, Class, FREE, MOST_WORDS};
use super::journal::Batch;
use super::memory::{Memory, NoRoom};
use crate::layout::{EVEN_BITS, FIRST_BITS, MOST_BITS, store_word};
use crate::sync::{AtomicU64, Ordering::*, Step, fence_of, store};
use crate::words;
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
/// More entries than 9 for 2 buckets, and the next bucket is split. With 4.5 of 7 slots in use, one
/// bucket in ten overflows.
const FULL: (u64, u64) = (9, 2);
const MOST_BUCKETS: u64 = 1 << MOST_BITS;

const BUCKETS: u64 = store_word!(buckets);
const SEQUENCE: u64 = store_word!(sequence);
const KEYS: u64 = store_word!(keys);
const TYPES: u64 = store_word!(types);
const LIVE: u64 = store_word!(live_bytes);
const PENDING: u64 = store_word!(split_pending);
const PIECES: u64 = store_word!(pieces);

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
    pub(crate) fn buckets_there(&self) -> u64 {
        self.buckets().unwrap_or(0).min(self.memory.len() / 8)
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

/// What is to be stored.
#[derive(Clone, Copy)]
pub(crate) struct Value<'a> {
    pub(crate) type_hash: u64,
    pub(crate) bytes: &'a [u8],
    /// Who stores it: see [`Sizes::writer`].
    pub(crate) writer: u16,
}

/// Changes. The caller holds the lock, and has [settled](Table::settle).
impl Table {
    /// Finishes what the last holder left half done; `true` if there was anything. `wake` is what
    /// that holder still owed to watchers.
    #[inline]
    pub(crate) fn settle(&self, wake: impl FnOnce()) -> Result<bool, Flaw> {
        let poison = self.memory.header(store_word!(poison)).load(Relaxed);
        if poison != 0 {
            return Err(Flaw { at: poison });
        }
        let open = super::journal::is_open(&self.memory);
        if !open && self.memory.header(PENDING).load(Relaxed) == 0 {
            return Ok(false);
        }
        self.finish(open, wake)?;
        Ok(true)
    }

    #[cold]
    fn finish(&self, open: bool, wake: impl FnOnce()) -> Result<(), Flaw> {
        if open {
            super::journal::recover(&self.memory, wake)?;
            self.count(store_word!(recoveries));
        }
        if self.memory.header(PENDING).load(Relaxed) != 0 {
            self.finish_split()?;
        }
        Ok(())
    }

    /// Writes are over for this store: something in it is not as any writer leaves it.
    #[cold]
    pub(crate) fn poison(&self, flaw: Flaw) {
        store(
            self.memory.header(store_word!(poison)),
            flaw.at.max(1),
            Release,
        );
    }

    /// Counts something, for pictures.
    pub(crate) fn count(&self, at: u64) {
        let word = self.memory.header(at);
        word.store(word.load(Relaxed).wrapping_add(1), Relaxed);
    }

    /// Stores `value` under `key`, which was found at `found` or is not there. Gives the stamp.
    /// `wake` runs inside the commit.
    pub(crate) fn put(
        &self,
        key: &Key<'_>,
        found: Option<&Entry<'_>>,
        value: Value<'_>,
        wake: impl FnOnce(),
    ) -> Result<u64, Refusal> {
        let sizes = Sizes::new(
            key.bytes.len(),
            value.bytes.len(),
            key.internal,
            value.writer,
        );
        let words = BLOCK_HEADER + words_for(key.bytes.len()) + words_for(value.bytes.len());
        if words > MOST_WORDS {
            return Err(Refusal::TooLarge);
        }
        let mut batch = Batch::new(&self.memory);
        let class = Class::of(words);
        let block = blocks::take(&mut batch, class)?;
        let stamp = batch.header(SEQUENCE).wrapping_add(1);
        if stamp == 0 || stamp & FREE != 0 {
            return Err(Flaw { at: SEQUENCE }.into());
        }
        self.fill(block, sizes, key.bytes, value)?;
        batch.first(block, stamp)?;
        let slot = slot_of(key.tag(), block);
        let mut freed = 0;
        match found {
            Some(entry) => {
                batch.first(entry.slot_at, slot)?;
                freed = self.free(&mut batch, entry)?;
            }
            None => {
                self.place(&mut batch, key.hash, slot)?;
                batch.add(KEYS, 1)?;
                batch.add(TYPES, u64::from(key.internal))?;
            }
        }
        batch.add(LIVE, (8 * class.words()).wrapping_sub(freed))?;
        batch.first(SEQUENCE, stamp)?;
        batch.commit(wake);
        if found.is_none() {
            // What was to be stored is, whatever this meets.
            self.grow_if_due().unwrap_or_else(|flaw| self.poison(flaw));
        }
        Ok(stamp)
    }

    /// Takes an entry away.
    pub(crate) fn remove(&self, entry: &Entry<'_>, wake: impl FnOnce()) -> Result<(), Refusal> {
        let mut batch = Batch::new(&self.memory);
        batch.first(entry.slot_at, 0)?;
        let freed = self.free(&mut batch, entry)?;
        batch.add(LIVE, freed.wrapping_neg())?;
        batch.add(KEYS, u64::MAX)?;
        batch.add(SEQUENCE, 1)?;
        batch.commit(wake);
        Ok(())
    }

    /// Frees the entry's block, and gives its bytes.
    #[inline]
    fn free(&self, batch: &mut Batch<'_>, entry: &Entry<'_>) -> Result<u64, Refusal> {
        let words = entry.sizes.words();
        if words > MOST_WORDS {
            return Err(Flaw { at: entry.at + 1 }.into());
        }
        let class = Class::of(words);
        blocks::give(batch, class, entry.at)?;
        Ok(8 * class.words())
    }

    /// Writes all of a free block but its first word.
    #[inline]
    fn fill(&self, at: u64, sizes: Sizes, key: &[u8], value: Value<'_>) -> Result<(), Flaw> {
        let block = self.memory.heap(at, sizes.words()).ok_or(Flaw { at })?;
        // A reader that sees any of what follows, and then passes its own fence, sees that this
        // block was freed before; partner: `lookup::is_still`.
        fence_of(Step::FreeBeforeFill, Release);
        store(&block[1], sizes.0, Relaxed);
        store(&block[2], value.type_hash, Relaxed);
        let (key_words, value_words) =
            block[BLOCK_HEADER as usize..].split_at(words_for(key.len()) as usize);
        words::copy_in_words(key, key_words);
        words::copy_in_words(value.bytes, value_words);
        Ok(())
    }

    /// Puts a new slot into the first hole of its chain, or into an overflow bucket more.
    fn place(&self, batch: &mut Batch<'_>, hash: u64, slot: u64) -> Result<(), Refusal> {
        let buckets = self.buckets().ok_or(Flaw { at: BUCKETS })?;
        let home = home_of(hash, buckets);
        let mut at = self.bucket_at(home).ok_or(Flaw {
            at: PIECES + piece_of(home).0,
        })?;
        for _ in 0..=MOST_LINKS {
            let bucket = self.bucket(at).ok_or(Flaw { at })?;
            let hole = bucket[1..].iter().position(|word| word.load(Relaxed) == 0);
            if let Some(hole) = hole {
                batch.write(at + 1 + hole as u64, slot)?;
                return Ok(());
            }
            let link = bucket[0].load(Relaxed);
            if link & IN_POOL != 0 {
                return Err(Flaw { at }.into());
            }
            if link == 0 {
                let more = self.take_overflow(batch)?;
                batch.write(more, 0)?;
                batch.write(more + 1, slot)?;
                batch.write(at, more)?;
                return Ok(());
            }
            at = link;
        }
        Err(Refusal::Collisions)
    }

    /// An overflow bucket with empty slots.
    fn take_overflow(&self, batch: &mut Batch<'_>) -> Result<u64, Refusal> {
        let at = blocks::take(batch, Class::OVERFLOW)?;
        let bucket = self.bucket(at).ok_or(Flaw { at })?;
        // A new one may hold what a killed writer began; one from the pool is empty.
        for slot in &bucket[1..] {
            if slot.load(Relaxed) != 0 {
                store(slot, 0, Relaxed);
            }
        }
        Ok(at)
    }

    /// Splits a bucket if there are more entries than the buckets are to hold.
    fn grow_if_due(&self) -> Result<(), Flaw> {
        let keys = self.memory.header(KEYS).load(Relaxed);
        let buckets = self.buckets().ok_or(Flaw { at: BUCKETS })?;
        if keys.saturating_mul(FULL.1) <= buckets * FULL.0 || buckets == MOST_BUCKETS {
            return Ok(());
        }
        match self.split() {
            Ok(()) => Ok(()),
            Err(Refusal::Flaw(flaw)) => Err(flaw),
            // No room for a bucket: chains get longer instead.
            Err(_) => Ok(()),
        }
    }

    /// Makes the next bucket, and divides the one that it is split from.
    #[inline(never)]
    pub(crate) fn split(&self) -> Result<(), Refusal> {
        let most = |buckets: &u64| *buckets < MOST_BUCKETS;
        let buckets = self.buckets().filter(most);
        let buckets = buckets.ok_or(Flaw { at: BUCKETS })?;
        let mut batch = Batch::new(&self.memory);
        let (piece, within) = piece_of(buckets);
        let new = if within == 0 {
            let start = blocks::take_space(&mut batch, 8 * piece_len(buckets))?;
            batch.write(PIECES + piece, start)?;
            start
        } else {
            let flaw = Flaw { at: PIECES + piece };
            self.bucket_at(buckets).ok_or(flaw)?
        };
        let divided = Divided::by(buckets);
        let old = self.bucket_at(divided.from).ok_or(Flaw { at: PIECES })?;
        // The new bucket is out of reach until the commit, so this is not journaled.
        let chained = self.fill_new_bucket(&mut batch, &divided, old, new)?;
        batch.write(BUCKETS, buckets + 1)?;
        if chained {
            // There is more to clear than one commit may hold.
            batch.write(PENDING, 1)?;
        } else {
            for at in old + 1..=old + SLOTS as u64 {
                if divided.moves(batch.read(at)?) {
                    batch.write(at, 0)?;
                }
            }
        }
        batch.commit(|| ());
        self.count(store_word!(splits));
        if chained {
            self.finish_split()?;
        }
        Ok(())
    }

    /// Writes the new bucket, and overflow buckets to it. `true` if the old one has any.
    fn fill_new_bucket(
        &self,
        batch: &mut Batch<'_>,
        divided: &Divided,
        old: u64,
        new: u64,
    ) -> Result<bool, Refusal> {
        let mut chained = false;
        let mut target = self.bucket(new).ok_or(Flaw { at: new })?;
        let mut filled = 0;
        self.walk(old, |at, bucket| {
            chained |= at != old;
            for slot in &bucket[1..] {
                let slot = slot.load(Relaxed);
                if !divided.moves(slot) {
                    continue;
                }
                if filled == SLOTS {
                    let more = blocks::take_new(batch, Class::OVERFLOW)?;
                    store(&target[0], more, Relaxed);
                    target = self.bucket(more).ok_or(Flaw { at: more })?;
                    filled = 0;
                }
                filled += 1;
                store(&target[filled], slot, Relaxed);
            }
            Ok::<(), Refusal>(())
        })?;
        store(&target[0], 0, Relaxed);
        for slot in &target[1 + filled..] {
            store(slot, 0, Relaxed);
        }
        Ok(chained)
    }

    /// Clears the chain that the last split took from: drops what moved, draws the rest together in
    /// the home bucket, and gives empty buckets at the end of the chain back. Any number of commits;
    /// repeated from the start if it was cut short.
    fn finish_split(&self) -> Result<(), Flaw> {
        let buckets = self.buckets().ok_or(Flaw { at: BUCKETS })?;
        if buckets == 1 << FIRST_BITS {
            // There was no split yet.
            return Err(Flaw { at: PENDING });
        }
        let divided = Divided::by(buckets - 1);
        let home = self.bucket_at(divided.from).ok_or(Flaw { at: PIECES })?;
        // Each round but the last clears, moves or unlinks something.
        for _ in 0..(MOST_LINKS + 1) * 8 {
            let mut batch = Batch::new(&self.memory);
            let done = self.clear_some(&mut batch, &divided, home)?;
            if done {
                batch.write(PENDING, 0)?;
            }
            batch.commit(|| ());
            if done {
                return Ok(());
            }
        }
        Err(Flaw { at: PENDING })
    }

    /// Puts into the batch as much of the clearing as it holds; `true` if that is the rest.
    fn clear_some(
        &self,
        batch: &mut Batch<'_>,
        divided: &Divided,
        home: u64,
    ) -> Result<bool, Flaw> {
        /// What one step may write, and the end of all.
        const STEP: usize = 4;
        let mut chain = Vec::new();
        self.walk(home, |at, _| {
            chain.push(at);
            Ok::<(), Flaw>(())
        })?;
        for bucket in &chain {
            for at in bucket + 1..=bucket + SLOTS as u64 {
                if batch.room() < STEP {
                    return Ok(false);
                }
                let slot = batch.read(at)?;
                if divided.moves(slot) {
                    batch.write(at, 0)?;
                } else if slot != 0 && *bucket != home {
                    let mut holes = home + 1..=home + SLOTS as u64;
                    if let Some(hole) = holes.find(|hole| batch.read(*hole) == Ok(0)) {
                        // First there, then here no more: a reader finds it in one or both.
                        batch.write(hole, slot)?;
                        batch.write(at, 0)?;
                    }
                }
            }
        }
        while let [.., before, last] = chain[..] {
            let mut slots = last + 1..=last + SLOTS as u64;
            if !slots.all(|at| batch.read(at) == Ok(0)) {
                break;
            }
            if batch.room() < STEP {
                return Ok(false);
            }
            batch.write(before, 0)?;
            let pool = batch.read(Class::OVERFLOW.free())?;
            batch.write(last, IN_POOL | pool)?;
            batch.write(Class::OVERFLOW.free(), last)?;
            chain.pop();
        }
        Ok(true)
    }

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

/// A split: which bucket it divides, and by which bit.
struct Divided {
    from: u64,
    /// The bit, in a tag.
    bit: u32,
}

impl Divided {
    /// The split that makes bucket `new`.
    fn by(new: u64) -> Divided {
        let doubling = new.ilog2();
        Divided {
            from: new - (1 << doubling),
            bit: doubling - FIRST_BITS,
        }
    }

    /// Whether an entry goes to the new bucket.
    fn moves(&self, slot: u64) -> bool {
        block_of(slot) != 0 && slot >> 36 >> self.bit & 1 != 0
    }
}
