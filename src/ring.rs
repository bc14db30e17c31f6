//! One direction of a channel: a single-producer, single-consumer ring of variable-length records
//! over shared words. It makes no system call and wakes nobody: it says what it found, and the
//! caller waits or wakes. So it runs on the heap too, under loom and proptest.
//!
//! # Records
//! `head` (the consumer's position) and the producer's position count bytes and never wrap; a
//! record's position is its identity. A record is a header word, then the payload padded to 8:
//!
//! ```text
//! header  len:32 | kind:8 | epoch:24       0 = nothing here yet
//! kind    DATA, HEIR (DATA by a producer whose predecessor died),
//!         PADDING (fills the rest of the ring, so that no record wraps),
//!         DISCARDED (was a message; a successor of its producer took it back)
//! epoch   which incarnation of the producer's end committed it
//! ```
//!
//! **The header is the commit word**: the consumer polls the header at its own position, so one
//! cache line tells it both that a record is there and, if it is small, what it says. To commit, a
//! producer writes the payload, zeroes the *next* header, and stores the header. A record that
//! does not fit before the end of the ring is written at the start, and committed by the header of
//! the padding before it. Thus a producer killed anywhere leaves nothing to repair: its successor
//! walks the headers from `head` to the first zero.
//!
//! Room means: padding, record **and the next header** lie below `head + capacity`, so zeroing
//! never touches what is not yet read. The largest record is half the ring, so that it fits an
//! empty ring wherever its end lies.
//!
//! # Memory ordering
//! Two edges carry everything.
//! - *Commit*: the producer stores the header (Release) after the payload and the next header's
//!   zero; the consumer loads the header (Acquire) before it reads the payload. So a header that
//!   is seen brings its payload and a clean header behind it.
//! - *Room*: the consumer stores `head` (Release) after it read the payload; the producer loads
//!   `head` (Acquire) before it writes there again. So nothing is overwritten while it is read.
//!
//! All else is Relaxed: own positions are private, payload words are ordered by these edges, the
//! mirrors (`tail`, counters) are never an input to a decision. Walks use Relaxed loads and one
//! Acquire fence, since they also run on read-only mappings, where no more than Relaxed is promised.
//!
//! The obligation of the `unsafe` here: an index into the words is always masked by the capacity,
//! and a span is checked to end within the ring before it is copied.
#![allow(unsafe_code)]

use crate::layout::RingHeader;
use crate::sync::{AtomicU64, Ordering::*, Step, fence, ordered, store, without};
use crate::words;
use core::ptr::NonNull;
use std::sync::Arc;
use zerocopy::{Immutable, KnownLayout, TryFromBytes};

const HEADER: u64 = 8;
const DATA: u64 = 1;
const PADDING: u64 = 2;
const DISCARDED: u64 = 3;
const HEIR: u64 = 4;
/// Positions grow from 0; one beyond this was not reached by counting.
const MAX_POSITION: u64 = 1 << 62;
/// Epochs have 24 bits.
pub(crate) const EPOCH_MASK: u32 = 0xff_ffff;

/// What was read cannot have been written by an honest peer. Nothing was touched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Corrupt;

/// Where a ring lies. Cheap to clone; keeps its memory alive.
#[derive(Clone)]
pub(crate) struct Ring {
    header: NonNull<RingHeader>,
    words: NonNull<AtomicU64>,
    capacity: u64,
    _owner: Arc<dyn Send + Sync>,
}

// SAFETY: a ring is two pointers to atomics, which any thread may use, and an owner that is Send
// and Sync.
unsafe impl Send for Ring {}
// SAFETY: as above; all methods of a shared `Ring` are atomic accesses.
unsafe impl Sync for Ring {}

impl Ring {
    /// # Safety
    /// `header`, and `capacity` bytes of words at `words`, stay mapped as long as `owner` lives,
    /// and all other references to them are to atomics. `capacity` is a power of two, at least 32.
    pub(crate) unsafe fn new(
        header: NonNull<RingHeader>,
        words: NonNull<AtomicU64>,
        capacity: u64,
        owner: Arc<dyn Send + Sync>,
    ) -> Self {
        debug_assert!(capacity.is_power_of_two() && capacity >= 32);
        Ring {
            header,
            words,
            capacity,
            _owner: owner,
        }
    }

    /// The ring to the guest, or to the host, of a channel whose capacity was checked.
    #[cfg(not(loom))]
    pub(crate) fn of_channel(
        segment: &Arc<crate::segment::Segment>,
        capacity: u64,
        to_guest: bool,
    ) -> Self {
        let header = segment.header::<crate::layout::ChannelHeader>();
        let ring = if to_guest {
            &header.to_guest
        } else {
            &header.to_host
        };
        let before = if to_guest { 0 } else { capacity };
        let words = segment.words(crate::layout::PAGE as u64 + before, capacity);
        // SAFETY: header and words lie in the segment, which the ring keeps mapped, and are only
        // ever referred to as atomics.
        unsafe { Ring::new(NonNull::from(ring), words, capacity, segment.clone()) }
    }

    #[inline(always)]
    pub(crate) fn header(&self) -> &RingHeader {
        // SAFETY: the header stays mapped as long as the owner lives, and we hold the owner.
        unsafe { self.header.as_ref() }
    }

    pub(crate) fn capacity(&self) -> u64 {
        self.capacity
    }

    /// Largest payload: with its header it is half the ring.
    #[inline(always)]
    pub(crate) fn max_len(&self) -> usize {
        (self.capacity / 2 - HEADER) as usize
    }

    #[inline(always)]
    fn word(&self, position: u64) -> NonNull<AtomicU64> {
        let index = (position & (self.capacity - 1)) / 8;
        // SAFETY: the index is below capacity / 8, the number of words.
        unsafe { self.words.add(index as usize) }
    }

    #[inline(always)]
    fn record_header(&self, position: u64) -> &AtomicU64 {
        // SAFETY: the word stays mapped as long as the owner lives, and we hold the owner.
        unsafe { self.word(position).as_ref() }
    }

    /// Bytes from `position` to the end of the ring.
    #[inline(always)]
    fn to_end(&self, position: u64) -> u64 {
        self.capacity - (position & (self.capacity - 1))
    }

    fn load_head(&self) -> Result<u64, Corrupt> {
        let head = self
            .header()
            .consumer
            .head
            .load(ordered(Step::HeadAcquire, Acquire));
        if head % 8 == 0 && head <= MAX_POSITION {
            Ok(head)
        } else {
            Err(Corrupt)
        }
    }

    /// The committed records from `head` on, oldest first; ends at the first zero header, or with
    /// one `Err` at a header that cannot be. At most capacity / 8 steps.
    pub(crate) fn walk(&self) -> Result<Walk<'_>, Corrupt> {
        let start = self.header().consumer.head.load(Relaxed);
        fence(Acquire);
        if start % 8 != 0 || start > MAX_POSITION {
            return Err(Corrupt);
        }
        Ok(Walk {
            ring: self,
            start,
            position: start,
            failed: false,
        })
    }

    /// Copies up to `max` bytes of the payload of a walked record; for pictures. What comes out is
    /// a mixture if the record is overwritten meanwhile.
    pub(crate) fn copy_payload(&self, record: &Walked, max: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        // SAFETY: a walked record was checked to end within the ring.
        unsafe {
            words::append(
                self.word(record.position + HEADER),
                record.len.min(max),
                &mut bytes,
            )
        };
        bytes
    }
}

/// Bytes of a record with a payload of `len`.
#[inline(always)]
fn record_size(len: u64) -> u64 {
    HEADER + len.next_multiple_of(8)
}

fn kind_of(header: u64) -> u64 {
    (header >> 32) & 0xff
}

fn is_message(header: u64) -> bool {
    matches!(kind_of(header), DATA | HEIR)
}

/// One holder of the producer's end, as its records name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Incarnation {
    pub(crate) epoch: u32,
    /// Its predecessor died.
    pub(crate) is_heir: bool,
}

impl Incarnation {
    fn of(header: u64) -> Self {
        Incarnation {
            epoch: (header >> 40) as u32,
            is_heir: kind_of(header) == HEIR,
        }
    }

    /// High half of the headers that it commits.
    fn tag(self) -> u64 {
        let kind = if self.is_heir { HEIR } else { DATA };
        let kind = if without(Step::KindInHeader) { 0 } else { kind };
        u64::from(self.epoch & EPOCH_MASK) << 8 | kind
    }
}

/// A record found by [`Ring::walk`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Walked {
    pub(crate) position: u64,
    pub(crate) len: usize,
    header: u64,
}

impl Walked {
    /// Whether it is a message still to be delivered.
    pub(crate) fn is_message(&self) -> bool {
        is_message(self.header)
    }

    pub(crate) fn incarnation(&self) -> Incarnation {
        Incarnation::of(self.header)
    }

    /// Where the next record begins.
    pub(crate) fn end(&self) -> u64 {
        self.position + record_size(self.len as u64)
    }
}

pub(crate) struct Walk<'a> {
    ring: &'a Ring,
    start: u64,
    position: u64,
    failed: bool,
}

impl Iterator for Walk<'_> {
    type Item = Result<Walked, Corrupt>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        if self.position - self.start >= self.ring.capacity {
            // A full lap without a zero header: no honest producer leaves that.
            self.failed = true;
            return Some(Err(Corrupt));
        }
        let header = self.ring.record_header(self.position).load(Relaxed);
        fence(Acquire);
        if header == 0 {
            return None;
        }
        match self.ring.checked_size(self.position, header) {
            Some(size) => {
                let position = self.position;
                self.position += size;
                Some(Ok(Walked {
                    position,
                    len: header as u32 as usize,
                    header,
                }))
            }
            None => {
                self.failed = true;
                Some(Err(Corrupt))
            }
        }
    }
}

impl Ring {
    /// The size of the record whose header was read at `position`, if it can be one.
    fn checked_size(&self, position: u64, header: u64) -> Option<u64> {
        let size = record_size(u64::from(header as u32));
        let to_end = self.to_end(position);
        let fits = match kind_of(header) {
            DATA | HEIR | DISCARDED => size <= to_end && size <= self.capacity / 2,
            PADDING => size == to_end && size < self.capacity / 2,
            _ => false,
        };
        fits.then_some(size)
    }
}

/// The sending side. One per ring at a time, which its holder's role word guarantees.
pub(crate) struct Producer {
    ring: Ring,
    /// Where the next record goes. Ours alone.
    position: u64,
    /// `head` as last seen: may be stale, is never too large.
    head: u64,
    sent: u64,
    tag: u64,
}

/// Room for one record. Nothing is visible until it is committed; forgetting it is free.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Claim {
    start: u64,
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
        let head = ring.load_head()?;
        let mut position = head;
        if without(Step::Walk) {
            position = ring.header().producer.tail.load(Relaxed);
        } else {
            for record in ring.walk()? {
                position = record?.end();
            }
        }
        let sent = ring.header().producer.sent.load(Relaxed);
        Ok(Producer {
            ring,
            position,
            head,
            sent,
            tag: me.tag(),
        })
    }

    pub(crate) fn ring(&self) -> &Ring {
        &self.ring
    }

    /// Where the next record goes.
    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    /// Whether `head` moved since we last looked, so that there may be room now.
    pub(crate) fn head_moved(&self) -> bool {
        self.ring.header().consumer.head.load(Relaxed) != self.head
    }

    /// Room for a payload of `len` bytes.
    #[inline(always)]
    pub(crate) fn claim(&mut self, len: usize) -> Result<Claim, Refusal> {
        if len > self.ring.max_len() {
            return Err(Refusal::TooLarge);
        }
        let size = record_size(len as u64);
        let to_end = self.ring.to_end(self.position);
        let start = if size > to_end {
            self.position + to_end
        } else {
            self.position
        };
        let next = if without(Step::RoomForNext) {
            0
        } else {
            HEADER
        };
        let end = start + size + next;
        // *Possibly* full: our view of `head` may be old.
        if end > self.head + self.ring.capacity {
            self.look_for_room(end)?;
        }
        Ok(Claim { start, len })
    }

    #[cold]
    #[inline(never)]
    fn look_for_room(&mut self, end: u64) -> Result<(), Refusal> {
        self.refresh().map_err(|Corrupt| Refusal::Corrupt)?;
        // *Really* full.
        if end > self.head + self.ring.capacity {
            Err(Refusal::Full)
        } else {
            Ok(())
        }
    }

    /// Looks at `head`, and notes how full the ring is.
    pub(crate) fn refresh(&mut self) -> Result<(), Corrupt> {
        // Acquire: the room edge; partner: `Consumer::publish`.
        let head = self.ring.load_head()?;
        // It never goes back, and never passes us.
        if head < self.head || head > self.position {
            return Err(Corrupt);
        }
        self.head = head;
        let line = &self.ring.header().producer;
        let used = self.position - head;
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
        let header = self.tag << 32 | len as u64;
        if !without(Step::ZeroNext) {
            store(self.ring.record_header(end), 0, Relaxed);
        }
        // Release: the commit edge; partner: `Consumer::peek`.
        let release = ordered(Step::CommitRelease, Release);
        if claim.start == self.position {
            store(self.ring.record_header(self.position), header, release);
        } else {
            // The padding's header commits the record behind it, too.
            let padding = claim.start - self.position - HEADER;
            store(self.ring.record_header(claim.start), header, Relaxed);
            store(
                self.ring.record_header(self.position),
                PADDING << 32 | padding,
                release,
            );
        }
        self.position = end;
        // It began as what lay in the segment, so any number.
        self.sent = self.sent.wrapping_add(1);
        let line = &self.ring.header().producer;
        store(&line.tail, end, Relaxed);
        store(&line.sent, self.sent, Relaxed);
    }

    /// Takes back what former producers committed and nobody received yet. The consumer may
    /// receive some of it meanwhile.
    pub(crate) fn discard_undelivered(&self) -> Result<(), Corrupt> {
        for record in self.ring.walk()? {
            let record = record?;
            if record.is_message() {
                let header = record.header & !(0xff << 32) | DISCARDED << 32;
                // Release: for our predecessor, whose own store of this header was one.
                store(self.ring.record_header(record.position), header, Release);
            }
        }
        Ok(())
    }
}

/// The receiving side. One per ring at a time, which its holder's role word guarantees.
pub(crate) struct Consumer {
    ring: Ring,
    /// Where the next record begins. Ours alone.
    position: u64,
    received: u64,
    /// High half of the headers that the known incarnation of the producer commits.
    tag: u64,
    /// Records that end at or below it had been handed out by a consumer before us.
    seen: u64,
}

/// A committed record, checked to lie within the ring.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Record {
    position: u64,
    len: usize,
}

impl Record {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    fn end(&self) -> u64 {
        self.position + record_size(self.len as u64)
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

impl Consumer {
    /// Begins at `head`, expecting records of `peer`.
    pub(crate) fn attach(ring: Ring, peer: Incarnation) -> Result<Self, Corrupt> {
        let position = ring.load_head()?;
        let line = &ring.header().consumer;
        let (seen, received) = (line.seen.load(Relaxed), line.received.load(Relaxed));
        Ok(Consumer {
            ring,
            position,
            received,
            tag: peer.tag(),
            seen,
        })
    }

    pub(crate) fn ring(&self) -> &Ring {
        &self.ring
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
    }

    /// The next record, without taking it.
    #[inline(always)]
    pub(crate) fn peek(&mut self) -> Peek {
        // Acquire: the commit edge; partner: `Producer::commit`.
        let header = self
            .ring
            .record_header(self.position)
            .load(ordered(Step::PeekAcquire, Acquire));
        if header == 0 {
            return Peek::Empty;
        }
        if header >> 32 != self.tag {
            return self.peek_unexpected();
        }
        self.checked(header)
    }

    #[inline(always)]
    fn checked(&self, header: u64) -> Peek {
        let len = u64::from(header as u32);
        let size = record_size(len);
        if size <= self.ring.to_end(self.position) && size <= self.ring.capacity / 2 {
            Peek::Record(Record {
                position: self.position,
                len: len as usize,
            })
        } else {
            Peek::Corrupt
        }
    }

    /// Whether there is something to `peek` at.
    #[inline(always)]
    pub(crate) fn is_ready(&self) -> bool {
        self.ring.record_header(self.position).load(Relaxed) != 0
    }

    /// Padding, discarded records, another incarnation, or nonsense.
    #[cold]
    #[inline(never)]
    fn peek_unexpected(&mut self) -> Peek {
        let from = self.position;
        // Each step passes at least one word, and a lap without an end is nonsense.
        for _ in 0..self.ring.capacity / 8 {
            let header = self.ring.record_header(self.position).load(Acquire);
            if header == 0 && self.position != from {
                self.publish();
                return Peek::Passed;
            }
            if header == 0 {
                return Peek::Empty;
            }
            let Some(size) = self.ring.checked_size(self.position, header) else {
                return Peek::Corrupt;
            };
            if is_message(header) {
                if header >> 32 == self.tag {
                    return self.checked(header);
                }
                return Peek::Other(Incarnation::of(header));
            }
            self.position += size;
        }
        Peek::Corrupt
    }

    /// Whether a dead consumer had been handed this record.
    pub(crate) fn redelivered(&self, record: &Record) -> bool {
        record.end() <= self.seen
    }

    /// Notes that `record` is being handed out in place, before it is.
    pub(crate) fn mark_seen(&self, record: &Record) {
        store(&self.ring.header().consumer.seen, record.end(), Relaxed);
    }

    /// Reads the payload as a `T`, which it is long enough for; `None` if the bytes are no `T`.
    #[inline(always)]
    pub(crate) fn read<T>(&self, record: &Record) -> Option<T>
    where
        T: TryFromBytes + KnownLayout + Immutable,
    {
        if record.len != size_of::<T>() {
            return None;
        }
        // SAFETY: a record was checked to end within the ring, and has the length of `T`.
        unsafe { words::read(self.payload(record, 0)) }
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
        self.position
    }

    /// Where byte `at` (a multiple of 8) of the payload lies.
    #[inline(always)]
    pub(crate) fn payload(&self, record: &Record, at: usize) -> NonNull<AtomicU64> {
        self.ring.word(record.position + HEADER + at as u64)
    }

    /// Gives the record's room back: it is received.
    #[inline(always)]
    pub(crate) fn release(&mut self, record: Record) {
        self.pass(record);
        self.publish();
    }

    /// Counts the record as received, without telling the producer yet.
    #[inline(always)]
    pub(crate) fn pass(&mut self, record: Record) {
        debug_assert_eq!(record.position, self.position);
        self.position = record.end();
        // It began as what lay in the segment, so any number.
        self.received = self.received.wrapping_add(1);
    }

    /// Tells the producer how far we are.
    #[inline(always)]
    pub(crate) fn publish(&self) {
        let line = &self.ring.header().consumer;
        // Release: the room edge; partner: `Producer::refresh`.
        store(
            &line.head,
            self.position,
            ordered(Step::HeadRelease, Release),
        );
        store(&line.received, self.received, Relaxed);
    }

    /// Drops all that is there now.
    pub(crate) fn discard_undelivered(&mut self) -> Result<(), Corrupt> {
        for record in self.ring.walk()? {
            self.position = record?.end();
        }
        self.publish();
        Ok(())
    }
}

#[cfg(test)]
#[path = "ring_tests.rs"]
mod tests;
