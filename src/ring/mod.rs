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
//! producer zeroes the *next* header, writes the payload, and stores the header. A record that
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

mod consumer;
mod producer;
#[cfg(test)]
mod tests;

pub(crate) use consumer::{Consumer, Peek, Record};
pub(crate) use producer::{Claim, Producer, Refusal};

use crate::layout::RingHeader;
use crate::sync::{AtomicU64, Ordering::*, Step, fence_of, ordered, store, without};
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
    /// Takes a position to the offset of its word, whatever the position.
    mask: u64,
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
            mask: capacity - 8,
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
        let offset = (position & self.mask) as usize;
        // SAFETY: the offset is a multiple of 8 below the capacity.
        #[cfg(not(loom))]
        return unsafe { self.words.byte_add(offset) };
        // A model checker's words have a size of their own.
        // SAFETY: as above.
        #[cfg(loom)]
        return unsafe { self.words.add(offset / 8) };
    }

    #[inline(always)]
    fn record_header(&self, position: u64) -> &AtomicU64 {
        // SAFETY: the word stays mapped as long as the owner lives, and we hold the owner.
        unsafe { self.word(position).as_ref() }
    }

    /// Bytes from `position` to the end of the ring.
    #[inline(always)]
    fn to_end(&self, position: u64) -> u64 {
        self.capacity - (position & self.mask)
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
        fence_of(Step::WalkHeadFirst, Acquire);
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

/// How far one side has come.
///
/// A side keeps it in its own memory, and a processor that reads back what it just wrote there waits
/// some 8 cycles. So who sends or receives many messages keeps a copy in hand, and only writes the
/// other.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Progress {
    /// Where the next record begins.
    position: u64,
    /// Messages so far. It began as what lay in the segment, so any number.
    messages: u64,
}

impl Progress {
    /// After one more message, which ends at `end`.
    #[inline(always)]
    fn after(self, end: u64) -> Self {
        Progress {
            position: end,
            messages: self.messages.wrapping_add(1),
        }
    }
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
        fence_of(Step::WalkHeaderFirst, Acquire);
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
