//! The sending side: `super` has the format and the order of memory.
#![allow(unsafe_code)]

use super::*;

/// The sending side. One per ring at a time, which its holder's role word guarantees.
pub(crate) struct Producer {
    ring: Ring,
    progress: Progress,
    /// `head` as last seen: may be stale, is never too large.
    head: u64,
    /// What begins at `position` and ends at or before this needs no further look: it fits, does not
    /// wrap, and is not too large. May lie below `position`.
    pub(super) reach: u64,
    /// The headers that we commit, but for the length.
    tag: u64,
}

/// So far ahead of what is written lines are asked for. Stores wait in order for their lines, in a
/// queue that a few records fill; so without it only as many lines are on their way as that holds.
/// Sixteen lines take about as long to come from another processor as to fill.
const AHEAD: u64 = 1024;

/// A payload of so many bytes is worth a thought about which of its lines is written when.
const MANY_LINES: usize = 256;
const LINE: u64 = 64;

/// Room for one record. Nothing is visible until it is committed; forgetting it is free.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Claim {
    pub(super) start: u64,
    len: usize,
}

impl Claim {
    pub(crate) fn len(&self) -> usize {
        self.len
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    Full,
    TooLarge,
    Corrupt,
}

impl Producer {
    /// Begins where the last producer stopped: at the first zero header.
    pub(crate) fn attach(ring: Ring, me: Incarnation) -> Result<Self, Corrupt> {
        let early = without(Step::StartOfWalk).then(|| ring.load_head());
        let walk = ring.walk()?;
        // The walk's own: the consumer may move it meanwhile, and a second look find nothing behind.
        let head = early.transpose()?.unwrap_or(walk.start);
        let mut position = head;
        if without(Step::Walk) {
            position = ring.header().producer.tail.load(Relaxed);
        } else {
            for record in walk {
                position = record?.end();
            }
        }
        let sent = ring.header().producer.sent.load(Relaxed);
        let progress = Progress {
            position,
            messages: sent,
        };
        Ok(Producer {
            ring,
            progress,
            head,
            reach: position,
            tag: me.tag() << 32,
        })
    }

    pub(crate) fn ring(&self) -> &Ring {
        &self.ring
    }

    /// Where the next record goes.
    pub(crate) fn position(&self) -> u64 {
        self.progress.position
    }

    /// How far we are.
    #[inline(always)]
    pub(crate) fn progress(&self) -> Progress {
        self.progress
    }

    /// Messages committed.
    pub(crate) fn sent(&self) -> u64 {
        self.progress.messages
    }

    /// `head` as last seen.
    pub(crate) fn head(&self) -> u64 {
        self.head
    }

    /// Whether `head` moved since we last looked, so that there may be room now.
    pub(crate) fn head_moved(&self) -> bool {
        self.ring.header().consumer.head.load(Relaxed) != self.head
    }

    /// Commits a message if it needs no further look. `from` is how far we are, and what it gives is
    /// for [`advance`](Self::advance).
    #[inline(always)]
    pub(crate) fn put(&self, from: Progress, bytes: &[u8]) -> Option<Progress> {
        let (start, len) = (from.position, bytes.len());
        let end = start + record_size(len as u64);
        if end > self.reach {
            return None;
        }
        self.end_at(end, Step::PutZeroNext);
        failpoint!(AfterClaim);
        self.fill(&Claim { start, len }, bytes);
        failpoint!(BeforeCommit);
        self.store_header(start, self.tag | len as u64, Step::PutRelease);
        failpoint!(AfterCommit);
        let to = from.after(end);
        self.mirror(to);
        Some(to)
    }

    #[inline(always)]
    pub(crate) fn advance(&mut self, to: Progress) {
        self.progress = to;
    }

    /// Room for a payload of `len` bytes.
    #[inline(always)]
    pub(crate) fn claim(&mut self, len: usize) -> Result<Claim, Refusal> {
        let size = record_size(len as u64);
        let start = match self.progress.position + size <= self.reach {
            true => self.progress.position,
            false => self.look_for_room(len)?,
        };
        self.end_at(start + size, Step::ZeroNext);
        failpoint!(AfterClaim);
        Ok(Claim { start, len })
    }

    /// Where a record with a payload of `len` bytes may begin.
    #[cold]
    #[inline(never)]
    fn look_for_room(&mut self, len: usize) -> Result<u64, Refusal> {
        if len > self.ring.max_len() {
            return Err(Refusal::TooLarge);
        }
        let size = record_size(len as u64);
        let end_of_lap = self.progress.position + self.ring.to_end(self.progress.position);
        let start = match self.progress.position + size > end_of_lap {
            true => end_of_lap,
            false => self.progress.position,
        };
        let next = if without(Step::RoomForNext) {
            0
        } else {
            HEADER
        };
        let capacity = self.ring.capacity;
        // *Possibly* full: our view of `head` may be old.
        if start + size + next > self.head + capacity {
            self.refresh().map_err(|Corrupt| Refusal::Corrupt)?;
        }
        let largest = self.progress.position + capacity / 2;
        let room = match without(Step::RoomInReach) {
            true => u64::MAX,
            false => self.head + capacity - next,
        };
        self.reach = end_of_lap.min(largest).min(room);
        // *Really* full.
        if start + size + next > self.head + capacity {
            return Err(Refusal::Full);
        }
        Ok(start)
    }

    /// Zeroes the header behind a record that is to end at `end`. This comes before the payload, so
    /// that payload and header are written to lines that are here by then, without another's between
    /// them. Asks for the line that is to be written a little later.
    #[inline(always)]
    fn end_at(&self, end: u64, step: Step) {
        if !without(step) {
            store(self.ring.record_header(end), 0, Relaxed);
        }
        if end + AHEAD <= self.reach {
            words::prefetch_for_write(self.ring.word(end + AHEAD));
        }
    }

    /// Looks at `head`, and notes how full the ring is.
    pub(crate) fn refresh(&mut self) -> Result<(), Corrupt> {
        // Acquire: the room edge; partner: `Consumer::publish`.
        let head = self.ring.load_head()?;
        // It never goes back, and never passes us.
        if head < self.head || head > self.progress.position {
            return Err(Corrupt);
        }
        self.head = head;
        let line = &self.ring.header().producer;
        let used = self.progress.position - head;
        if used > line.peak.load(Relaxed) {
            line.peak.store(used, Relaxed);
        }
        Ok(())
    }

    /// Writes `bytes` at `at` (a multiple of 8) of the claimed payload. The caller checked that
    /// they lie within the claim.
    #[inline(always)]
    pub(crate) fn write(&self, claim: &Claim, at: usize, bytes: &[u8]) {
        debug_assert!(at % 8 == 0 && at + bytes.len() <= claim.len);
        // SAFETY: a claim lies within the ring from its start to its end.
        unsafe { words::copy_in(bytes, self.payload(claim, at)) };
    }

    /// Writes all of the claimed payload.
    #[inline(always)]
    pub(crate) fn fill(&self, claim: &Claim, bytes: &[u8]) {
        if bytes.len() < MANY_LINES {
            return self.write(claim, 0, bytes);
        }
        // The consumer keeps looking at the header, and with each look takes its line away. So what
        // lies in that line comes last.
        let first = (LINE - (claim.start + HEADER) % LINE) % LINE;
        let (first, rest) = bytes.split_at(first as usize);
        self.write(claim, first.len(), rest);
        self.write(claim, 0, first);
    }

    /// Writes `bytes` at any `at` of the claimed payload, and leaves all else as it is. The caller
    /// checked that they lie within the claim.
    pub(crate) fn overwrite(&self, claim: &Claim, at: usize, bytes: &[u8]) {
        assert!(
            at.checked_add(bytes.len())
                .is_some_and(|end| end <= claim.len)
        );
        // SAFETY: a claim lies within the ring from its start to its end.
        unsafe { words::overwrite(bytes, self.payload(claim, at & !7), at % 8) };
    }

    /// Where byte `at` (a multiple of 8) of the claimed payload lies.
    #[inline(always)]
    pub(crate) fn payload(&self, claim: &Claim, at: usize) -> NonNull<AtomicU64> {
        self.ring.word(claim.start + HEADER + at as u64)
    }

    /// Makes the first `len` bytes of the claim a message, by one store.
    #[inline(always)]
    pub(crate) fn commit(&mut self, claim: Claim, len: usize) {
        debug_assert!(len <= claim.len);
        let end = claim.start + record_size(len as u64);
        let header = self.tag | len as u64;
        if len != claim.len {
            self.end_at(end, Step::ZeroNext);
        }
        failpoint!(BeforeCommit);
        if claim.start == self.progress.position {
            self.store_header(claim.start, header, Step::CommitRelease);
        } else {
            // The padding's header commits the record behind it, too.
            let padding = claim.start - self.progress.position - HEADER;
            store(self.ring.record_header(claim.start), header, Relaxed);
            let header = PADDING << 32 | padding;
            self.store_header(self.progress.position, header, Step::CommitRelease);
        }
        failpoint!(AfterCommit);
        self.progress = self.progress.after(end);
        self.mirror(self.progress);
    }

    #[inline(always)]
    fn store_header(&self, position: u64, header: u64, step: Step) {
        // Release: the commit edge; partner: `Consumer::peek_usual`.
        let release = ordered(step, Release);
        store(self.ring.record_header(position), header, release);
    }

    /// For pictures.
    #[inline(always)]
    fn mirror(&self, progress: Progress) {
        let line = &self.ring.header().producer;
        store(&line.tail, progress.position, Relaxed);
        store(&line.sent, progress.messages, Relaxed);
    }

    /// Takes back what former producers committed and nobody received yet. The consumer may
    /// receive some of it meanwhile.
    pub(crate) fn discard_undelivered(&self) -> Result<(), Corrupt> {
        for record in self.ring.walk()? {
            let record = record?;
            if record.is_message() {
                let header = record.header & !(0xff << 32) | DISCARDED << 32;
                // Release: for our predecessor, whose own store of this header was one.
                let release = ordered(Step::DiscardRelease, Release);
                store(self.ring.record_header(record.position), header, release);
            }
        }
        Ok(())
    }
}
