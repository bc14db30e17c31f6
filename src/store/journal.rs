//! Commit and recovery: a redo journal of absolute words.
//!
//! Every change of a store is a batch of *to this word, this value*. It is written to the journal,
//! committed by one store of the journal's length, applied in its order, and closed by setting the
//! length to 0. A writer killed before the commit has changed nothing that counts; one killed after
//! it leaves a journal that whoever takes the lock next applies once more, from the beginning.
//! Applying it twice does no harm, so being killed in a recovery is the same case again.
//!
//! # Memory ordering
//! The journal is read by whoever holds the lock. After a kill that is ordered by nothing but the
//! program's order of the stores, so every store here is Release: none may move before an earlier
//! one. For readers, which look without the lock, see `lookup`.

use super::memory::Memory;
use super::table::Flaw;
use crate::layout::{JOURNAL, PIECES, RUNS, store_word};
use crate::sync::{Ordering::*, Step, ordered, store};

const LEN: u64 = store_word!(journal_len);
const ENTRIES: u64 = store_word!(journal);

/// A change that is being put together, under the lock.
pub(crate) struct Batch<'a> {
    memory: &'a Memory,
    entries: [(u64, u64); JOURNAL],
    len: usize,
}

impl<'a> Batch<'a> {
    pub(crate) fn new(memory: &'a Memory) -> Self {
        Batch {
            memory,
            entries: [(0, 0); JOURNAL],
            len: 0,
        }
    }

    pub(crate) fn memory(&self) -> &'a Memory {
        self.memory
    }

    /// How many more words it may write.
    pub(crate) fn room(&self) -> usize {
        JOURNAL - self.len
    }

    /// A word of the header that this batch does not write.
    #[inline(always)]
    pub(crate) fn header(&self, at: u64) -> u64 {
        debug_assert!(!self.entries[..self.len].iter().any(|entry| entry.0 == at));
        self.memory.header(at).load(Relaxed)
    }

    /// The word as it will be.
    #[inline]
    pub(crate) fn read(&self, at: u64) -> Result<u64, Flaw> {
        match self.entries[..self.len].iter().find(|entry| entry.0 == at) {
            Some(entry) => Ok(entry.1),
            None => Ok(self.memory.word(at).ok_or(Flaw { at })?.load(Relaxed)),
        }
    }

    /// What the word will be. Words are stored in the order of their first mention.
    #[inline]
    pub(crate) fn write(&mut self, at: u64, value: u64) -> Result<(), Flaw> {
        let written = &mut self.entries[..self.len];
        if let Some(entry) = written.iter_mut().find(|entry| entry.0 == at) {
            entry.1 = value;
            return Ok(());
        }
        self.first(at, value)
    }

    /// What a word will be that an honest store did not make this batch mention yet.
    #[inline(always)]
    pub(crate) fn first(&mut self, at: u64, value: u64) -> Result<(), Flaw> {
        if !may_be_journaled(self.memory, at) || self.len == JOURNAL {
            return Err(Flaw { at });
        }
        self.entries[self.len] = (at, value);
        self.len += 1;
        Ok(())
    }

    /// Adds to a counter of the header that this batch did not mention yet.
    #[inline(always)]
    pub(crate) fn add(&mut self, at: u64, by: u64) -> Result<(), Flaw> {
        if by == 0 {
            return Ok(());
        }
        let now = self.header(at);
        self.first(at, now.wrapping_add(by))
    }

    /// Makes it so, and calls `then` before the change is over: what a killed writer owes is done
    /// by its successor.
    #[inline]
    pub(crate) fn commit(&self, then: impl FnOnce()) {
        let memory = self.memory;
        let entries = &self.entries[..self.len];
        let mut next = ENTRIES;
        for (at, value) in entries {
            store(memory.header(next), *at, Release);
            store(memory.header(next + 1), *value, Release);
            next += 2;
        }
        failpoint!(StoreJournalWritten);
        // The commit.
        store(memory.header(LEN), entries.len() as u64, Release);
        failpoint!(StoreCommitted);
        for (at, value) in entries {
            if let Some(word) = memory.word(*at) {
                store(word, *value, ordered(Step::CommitInOrder, Release));
            }
        }
        then();
        store(memory.header(LEN), 0, Release);
    }
}

/// Whether a commit was left half done.
#[inline]
pub(crate) fn is_open(memory: &Memory) -> bool {
    memory.header(LEN).load(Relaxed) != 0
}

/// Finishes what the last holder of the lock committed; under the lock. Calls `then` as its
/// [`Batch::commit`] would have.
#[cold]
pub(crate) fn recover(memory: &Memory, then: impl FnOnce()) -> Result<(), Flaw> {
    let len = memory.header(LEN).load(Acquire);
    if len > JOURNAL as u64 {
        return Err(Flaw { at: LEN });
    }
    let entries = (0..len).map(|i| {
        let at = ENTRIES + 2 * i;
        (
            memory.header(at).load(Relaxed),
            memory.header(at + 1).load(Relaxed),
        )
    });
    let entries: Vec<_> = entries.collect();
    if let Some(i) = entries
        .iter()
        .position(|entry| !may_be_journaled(memory, entry.0))
    {
        return Err(Flaw {
            at: ENTRIES + 2 * i as u64,
        });
    }
    failpoint!(StoreRecovering);
    for (at, value) in entries {
        if let Some(word) = memory.word(at) {
            store(word, value, Release);
        }
    }
    then();
    store(memory.header(LEN), 0, Release);
    Ok(())
}

/// Whether a commit may change that word: not what was written once, and not the journal.
#[inline(always)]
fn may_be_journaled(memory: &Memory, at: u64) -> bool {
    const COUNTERS: core::ops::RangeInclusive<u64> =
        store_word!(sequence)..=store_word!(split_pending);
    const RUN_WORDS: core::ops::Range<u64> = store_word!(runs)..store_word!(runs) + 3 * RUNS as u64;
    const PIECE_WORDS: core::ops::Range<u64> =
        store_word!(pieces)..store_word!(pieces) + PIECES as u64;
    at == store_word!(buckets)
        || COUNTERS.contains(&at)
        || RUN_WORDS.contains(&at)
        || PIECE_WORDS.contains(&at)
        || memory.heap(at, 1).is_some()
}
