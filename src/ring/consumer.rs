//! The receiving side: `super` has the format and the order of memory.
#![allow(unsafe_code)]

use super::*;

/// The receiving side. One per ring at a time, which its holder's role word guarantees.
pub(crate) struct Consumer {
    ring: Ring,
    progress: Progress,
    /// High half of the headers that the known incarnation of the producer commits.
    tag: u64,
    /// Records that end at or below it had been handed out by a consumer before us.
    seen: u64,
    /// The last header that was good, and the size of its record: larger than any ring while there
    /// is none, so that whatever lies there takes the way through all checks.
    usual: u64,
    usual_size: u64,
}

/// A committed record, checked to lie within the ring.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Record {
    position: u64,
    len: usize,
    end: u64,
}

impl Record {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn position(&self) -> u64 {
        self.position
    }
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Peek {
    Empty,
    Record(Record),
    /// Nothing, but records that were discarded are passed over: the producer has more room.
    Passed,
    /// The next record is of another incarnation of the producer: tell the user, then `expect` it.
    Other(Incarnation),
    Corrupt,
}

const NO_SIZE: u64 = u64::MAX;

impl Consumer {
    /// Begins at `head`, expecting records of `peer`.
    pub(crate) fn attach(ring: Ring, peer: Incarnation) -> Result<Self, Corrupt> {
        let position = ring.load_head()?;
        let line = &ring.header().consumer;
        let seen = line.seen.load(Relaxed);
        let progress = Progress {
            position,
            messages: line.received.load(Relaxed),
        };
        Ok(Consumer {
            ring,
            progress,
            tag: peer.tag(),
            seen,
            usual: 0,
            usual_size: NO_SIZE,
        })
    }

    pub(crate) fn ring(&self) -> &Ring {
        &self.ring
    }

    /// How far we are.
    #[inline(always)]
    pub(crate) fn progress(&self) -> Progress {
        self.progress
    }

    /// Messages received.
    pub(crate) fn received(&self) -> u64 {
        self.progress.messages
    }

    /// Who sent the oldest message that is still there.
    pub(crate) fn oldest(&self) -> Option<Incarnation> {
        let mut records = self.ring.walk().ok()?.map_while(Result::ok);
        records
            .find(Walked::is_message)
            .map(|record| record.incarnation())
    }

    /// From here on, records of `peer` are what is expected.
    pub(crate) fn expect(&mut self, peer: Incarnation) {
        self.tag = peer.tag();
        self.usual_size = NO_SIZE;
    }

    /// The next record if it is of the same size as the last, without taking it; `None` says
    /// nothing. How far we are is told, since the caller may have it at hand.
    ///
    /// Where it ends then follows from what the consumer knows itself: from the header only whether
    /// the guess was right. So a processor that bets on it works on the records behind this one
    /// before this one's header has come from the producer's cache, and several lines are on their
    /// way at a time.
    #[inline(always)]
    pub(crate) fn peek_usual(&self, Progress { position, .. }: Progress) -> Option<Record> {
        // Acquire: the commit edge; partner: `Producer::store_header`.
        let header = self
            .ring
            .record_header(position)
            .load(ordered(Step::UsualAcquire, Acquire));
        let fits = self.usual_size <= self.ring.to_end(position);
        (header == self.usual && fits).then(|| Record {
            position,
            len: self.usual as u32 as usize,
            end: position + self.usual_size,
        })
    }

    /// The next record, without taking it.
    #[inline(always)]
    pub(crate) fn peek(&mut self) -> Peek {
        match self.peek_usual(self.progress) {
            Some(record) => Peek::Record(record),
            None => self.peek_unusual(),
        }
    }

    #[inline(never)]
    fn peek_unusual(&mut self) -> Peek {
        // Acquire: as in `peek_usual`.
        let header = self
            .ring
            .record_header(self.progress.position)
            .load(ordered(Step::PeekAcquire, Acquire));
        if header == 0 {
            return Peek::Empty;
        }
        if header >> 32 != self.tag {
            return self.peek_unexpected();
        }
        self.checked(header)
    }

    fn checked(&mut self, header: u64) -> Peek {
        let len = u64::from(header as u32);
        let size = record_size(len);
        if size <= self.ring.to_end(self.progress.position) && size <= self.ring.capacity / 2 {
            (self.usual, self.usual_size) = (header, size);
            Peek::Record(Record {
                position: self.progress.position,
                len: len as usize,
                end: self.progress.position + size,
            })
        } else {
            Peek::Corrupt
        }
    }

    /// Whether there is something to `peek` at.
    #[inline(always)]
    pub(crate) fn is_ready(&self) -> bool {
        self.ring
            .record_header(self.progress.position)
            .load(Relaxed)
            != 0
    }

    /// Padding, discarded records, another incarnation, or nonsense.
    #[cold]
    #[inline(never)]
    fn peek_unexpected(&mut self) -> Peek {
        let from = self.progress.position;
        // Each step passes at least one word, and a lap without an end is nonsense.
        for _ in 0..self.ring.capacity / 8 {
            let header = self
                .ring
                .record_header(self.progress.position)
                .load(ordered(Step::PassAcquire, Acquire));
            if header == 0 && self.progress.position != from {
                self.publish();
                return Peek::Passed;
            }
            if header == 0 {
                return Peek::Empty;
            }
            let Some(size) = self.ring.checked_size(self.progress.position, header) else {
                return Peek::Corrupt;
            };
            if is_message(header) {
                if header >> 32 == self.tag {
                    return self.checked(header);
                }
                return Peek::Other(Incarnation::of(header));
            }
            self.progress.position += size;
        }
        Peek::Corrupt
    }

    /// Whether a dead consumer had been handed this record.
    pub(crate) fn redelivered(&self, record: &Record) -> bool {
        record.end <= self.seen
    }

    /// Notes that `record` is being handed out in place, before it is.
    pub(crate) fn mark_seen(&self, record: &Record) {
        store(&self.ring.header().consumer.seen, record.end, Relaxed);
    }

    /// Reads the payload as a `T`; what `otherwise` gives if it is none.
    #[inline(always)]
    pub(crate) fn read<T, E>(&self, record: &Record, otherwise: impl FnOnce() -> E) -> Result<T, E>
    where
        T: TryFromBytes + KnownLayout + Immutable,
    {
        if record.len != size_of::<T>() {
            return Err(otherwise());
        }
        // SAFETY: a record was checked to end within the ring, and has the length of `T`.
        unsafe { words::read(self.payload(record, 0), || (), otherwise) }
    }

    /// The same, and releases the record, then calls `released`, as soon as the payload is copied.
    /// After that nothing is left but to return the value, which so need not be moved.
    #[inline(always)]
    pub(crate) fn take<T, E>(
        &mut self,
        record: Record,
        released: impl FnOnce(&Self),
        otherwise: impl FnOnce() -> E,
    ) -> Result<T, E>
    where
        T: TryFromBytes + KnownLayout + Immutable,
    {
        let payload = self.payload(&record, 0);
        if without(Step::CopyFirst) {
            self.release(record);
        }
        let copied = || {
            if !without(Step::CopyFirst) {
                self.release(record);
            }
            released(self);
        };
        if record.len != size_of::<T>() {
            copied();
            return Err(otherwise());
        }
        // SAFETY: as in `read`; the copy is made before `copied` gives the record back.
        unsafe { words::read(payload, copied, otherwise) }
    }

    /// Appends the payload to `out`.
    #[inline]
    pub(crate) fn append(&self, record: &Record, out: &mut Vec<u8>) {
        // SAFETY: a record was checked to end within the ring.
        unsafe { words::append(self.payload(record, 0), record.len, out) };
    }

    /// Fills `out` from any byte `at` of the payload. The caller checked that it lies within the
    /// record.
    pub(crate) fn copy(&self, record: &Record, at: usize, out: &mut [u8]) {
        assert!(
            at.checked_add(out.len())
                .is_some_and(|end| end <= record.len)
        );
        // SAFETY: a record was checked to end within the ring, and the span to lie within it.
        unsafe { words::fill(self.payload(record, at & !7), at % 8, out) };
    }

    /// Where the next record begins.
    pub(crate) fn position(&self) -> u64 {
        self.progress.position
    }

    /// Where byte `at` (a multiple of 8) of the payload lies.
    #[inline(always)]
    pub(crate) fn payload(&self, record: &Record, at: usize) -> NonNull<AtomicU64> {
        self.ring.word(record.position + HEADER + at as u64)
    }

    /// Gives the record's room back: it is received.
    #[inline(always)]
    pub(crate) fn release(&mut self, record: Record) {
        self.pass(self.progress, record);
        self.publish_received();
    }

    /// Tells the producer how far we are, with what was received.
    #[inline(always)]
    pub(crate) fn publish_received(&self) {
        failpoint!(BeforeRelease);
        self.publish();
        failpoint!(AfterRelease);
    }

    /// Counts the record as received, without telling the producer yet. `from` is how far we are;
    /// gives how far we are now.
    #[inline(always)]
    pub(crate) fn pass(&mut self, from: Progress, record: Record) -> Progress {
        debug_assert_eq!(record.position, self.progress.position);
        self.progress = from.after(record.end);
        self.progress
    }

    /// Whether `record` may follow on `start` without the producer having been told of what is
    /// between: an honest one is at most a ring further on.
    #[inline(always)]
    pub(crate) fn is_within_a_lap(&self, start: Progress, record: &Record) -> bool {
        record.end - start.position <= self.ring.capacity
    }

    /// Tells the producer how far we are.
    #[inline(always)]
    fn publish(&self) {
        let line = &self.ring.header().consumer;
        // Release: the room edge; partner: `Producer::refresh`.
        store(
            &line.head,
            self.progress.position,
            ordered(Step::HeadRelease, Release),
        );
        store(&line.received, self.progress.messages, Relaxed);
    }

    /// Drops all that is there now.
    pub(crate) fn discard_undelivered(&mut self) -> Result<(), Corrupt> {
        for record in self.ring.walk()? {
            self.progress.position = record?.end();
        }
        self.publish();
        Ok(())
    }
}
