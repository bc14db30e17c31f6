//! What the holder of the lock changes: an entry is put or taken away.

use super::blocks::{self, Class, FREE, MOST_WORDS};
use super::journal::Batch;
use super::split::PENDING;
use super::table::{
    BLOCK_HEADER, BUCKETS, Entry, Flaw, IN_POOL, Key, MOST_LINKS, PIECES, Refusal, Sizes, Table,
    home_of, piece_of, slot_of, words_for,
};
use crate::layout::store_word;
use crate::sync::{Ordering::*, Step, fence_of, store};
use crate::words;

const SEQUENCE: u64 = store_word!(sequence);
const KEYS: u64 = store_word!(keys);
const TYPES: u64 = store_word!(types);
const LIVE: u64 = store_word!(live_bytes);

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

    /// Writes are over for this store: something in it is not as any writer leaves it. Unless we
    /// could not look.
    #[cold]
    pub(crate) fn poison(&self, flaw: Flaw) {
        if self.memory.is_unsure() {
            return;
        }
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
        for links in 0..=MOST_LINKS {
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
                if links == MOST_LINKS {
                    break;
                }
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
}
