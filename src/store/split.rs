//! Growth by one bucket: the next one is made, and takes half of another.

use super::blocks::{self, Class};
use super::journal::Batch;
use super::table::{
    BUCKETS, Flaw, IN_POOL, MOST_BUCKETS, MOST_LINKS, PIECES, Refusal, SLOTS, Table, block_of,
    piece_len, piece_of,
};
use crate::layout::{FIRST_BITS, store_word};
use crate::sync::{Ordering::*, store};

const KEYS: u64 = store_word!(keys);
pub(super) const PENDING: u64 = store_word!(split_pending);
/// More entries than 9 for 2 buckets, and the next bucket is split. With 4.5 of 7 slots in use, one
/// bucket in ten overflows.
const FULL: (u64, u64) = (9, 2);

/// The caller holds the lock.
impl Table {
    /// Splits a bucket if there are more entries than the buckets are to hold.
    pub(super) fn grow_if_due(&self) -> Result<(), Flaw> {
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
    pub(super) fn finish_split(&self) -> Result<(), Flaw> {
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
