//! Where blocks come from: size classes, each a list of free blocks and a run of new ones.
//!
//! Memory is type-stable: what was once a block of a class stays one, at the same place, so a stale
//! slot always points at the head of a block, and its stamp tells whether it is still the one. So
//! freed memory serves values of the same class only, and is never given back; `stats` says how
//! much it is.
//!
//! Sizes are in words. A class is a multiple of 4 words up to 32, and then a quarter of a
//! doubling: at most 25 % of a block is left over.

use super::journal::Batch;
use super::memory::NoRoom;
use super::table::{Flaw, Refusal};
use crate::layout::{CLASSES, store_word};
use crate::sync::Ordering::Relaxed;

/// In a block's stamp: it is free, and the rest is the index of the next free one.
pub(crate) const FREE: u64 = 1 << 63;
/// The largest block: 1 GiB.
pub(crate) const MOST_WORDS: u64 = 1 << 27;
/// New blocks are cut from runs of this many words, or come one by one if they are larger.
const RUN: u64 = 2048;
/// A file grows by this much, or by what is needed if that is more.
const STEP: u64 = 8192;
const PAGE: u64 = 512;
/// Pieces and runs begin at a multiple of this: a cache line.
const LINE: u64 = 8;

const CURSOR: u64 = store_word!(cursor);
const END: u64 = store_word!(end);

/// A class of blocks, or the pool of overflow buckets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Class(u64);

impl Class {
    /// The buckets that hang on others. They never become blocks.
    pub(crate) const OVERFLOW: Class = Class(CLASSES as u64);

    /// The smallest class for so many words, of 1 to [`MOST_WORDS`].
    #[inline]
    pub(crate) fn of(words: u64) -> Class {
        debug_assert!((1..=MOST_WORDS).contains(&words));
        let last = words - 1;
        if last < 32 {
            return Class(last / 4);
        }
        let doubling = u64::from(last.ilog2());
        let quarter = (last >> (doubling - 2)) & 3;
        Class(8 + (doubling - 5) * 4 + quarter)
    }

    /// All classes of blocks.
    pub(crate) fn all() -> impl Iterator<Item = Class> {
        (0..CLASSES as u64).map(Class)
    }

    /// Words of a block.
    #[inline]
    pub(crate) fn words(self) -> u64 {
        match self.0 {
            i if i < 8 => 4 * (i + 1),
            i if i < CLASSES as u64 => {
                let (doubling, quarter) = ((i - 8) / 4 + 5, (i - 8) % 4);
                (1 << doubling) + ((quarter + 1) << (doubling - 2))
            }
            _ => 8,
        }
    }

    /// Words of a run of it.
    fn run(self) -> u64 {
        match self.words() {
            // An even number of them, so that runs are whole lines.
            words if words <= RUN / 4 => ((RUN / words) & !1) * words,
            words => words,
        }
    }

    /// Where the header has the newest free one.
    pub(crate) fn free(self) -> u64 {
        store_word!(runs) + 3 * self.0
    }

    /// Where it has the next new one.
    pub(crate) fn next(self) -> u64 {
        self.free() + 1
    }

    /// Where it has the end of the run.
    pub(crate) fn end(self) -> u64 {
        self.free() + 2
    }
}

/// Takes a block: the one that was freed last, whose lines are the warmest, else a new one. Until
/// the commit it is free as before, and all of it but its first word may be written.
#[inline]
pub(crate) fn take(batch: &mut Batch<'_>, class: Class) -> Result<u64, Refusal> {
    let free = batch.header(class.free());
    if free == 0 {
        return take_new(batch, class);
    }
    // The pool's free ones have the mark, too: a reader that stands on one sees that it is none.
    let flaw = Flaw { at: class.free() };
    let block = batch.memory().heap(free, class.words()).ok_or(flaw)?;
    let first = block[0].load(Relaxed);
    if free % 4 != 0 || first & FREE == 0 {
        return Err(flaw.into());
    }
    batch.first(class.free(), first & !FREE)?;
    Ok(free)
}

/// Takes a new one, which nobody ever saw: all of it may be written.
#[cold]
pub(crate) fn take_new(batch: &mut Batch<'_>, class: Class) -> Result<u64, Refusal> {
    let (next, end) = (batch.read(class.next())?, batch.read(class.end())?);
    let words = class.words();
    let (next, end) = if next < end && end - next >= words {
        (next, end)
    } else {
        let run = class.run();
        let start = take_space(batch, run)?;
        (start, start + run)
    };
    if next % 4 != 0 || batch.memory().heap(next, words).is_none() {
        return Err(Flaw { at: class.next() }.into());
    }
    batch.write(class.next(), next + words)?;
    batch.write(class.end(), end)?;
    Ok(next)
}

/// Gives a block back.
#[inline]
pub(crate) fn give(batch: &mut Batch<'_>, class: Class, at: u64) -> Result<(), Refusal> {
    let next = batch.read(class.free())?;
    batch.first(at, FREE | next)?;
    batch.write(class.free(), at)?;
    Ok(())
}

/// Takes space that was nothing yet, growing the file if there is too little.
pub(crate) fn take_space(batch: &mut Batch<'_>, words: u64) -> Result<u64, Refusal> {
    let (cursor, end) = (batch.read(CURSOR)?, batch.read(END)?);
    let len = batch.memory().len();
    if cursor > end || cursor % LINE != 0 || end > len {
        return Err(Flaw { at: CURSOR }.into());
    }
    let after = cursor + words.next_multiple_of(LINE);
    if after > end {
        let least = (after - end).next_multiple_of(PAGE);
        // As much as usual, but near the end of all space as little as will do.
        let grown = [STEP.max(least), least]
            .into_iter()
            .find(|more| batch.memory().grow(end, end + more).is_ok());
        let grown = grown.ok_or(Refusal::NoRoom(NoRoom { words: least }))?;
        batch.write(END, end + grown)?;
    }
    batch.write(CURSOR, after)?;
    Ok(cursor)
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn classes_are_tight_and_in_order() {
        let mut before = 0;
        for class in Class::all() {
            let words = class.words();
            assert_eq!(words % 4, 0);
            assert_eq!(Class::of(words), class);
            assert_eq!(Class::of(before + 1), class);
            assert!(before < 32 || words * 4 <= before * 5, "{class:?}");
            before = words;
        }
        assert_eq!(before, MOST_WORDS);
    }
}
