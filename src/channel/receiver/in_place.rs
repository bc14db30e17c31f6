//! A message where it lies, until it is done with.

use super::Receiver;
use super::source::Received;
use crate::codec::{Codec, Message, Owned};
use crate::error::{Error, Result};
use crate::ring::Record;
use core::fmt;

/// A message in place, in the ring. It counts as received when this is dropped, unless by a panic.
/// See [`Receiver::recv_ref`].
pub struct RecvRef<'a, T: Message + ?Sized> {
    pub(super) receiver: &'a mut Receiver<T>,
    pub(super) record: Record,
    pub(super) redelivered: bool,
    pub(super) keep: bool,
}

impl<T: Message + ?Sized> RecvRef<'_, T> {
    /// Bytes of the message, as its codec made them.
    pub fn len(&self) -> usize {
        self.record.len()
    }

    /// Whether it has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Copies the message out and makes a value of it.
    ///
    /// # Errors
    /// `Decode`. The message is still here, to be looked at as bytes, and counts as received only
    /// when this is dropped.
    pub fn get(&self) -> Result<Owned<T>> {
        let received = Received::new(&self.receiver.consumer, self.record);
        T::Codec::decode(received, &mut Vec::new())
    }

    /// Fills `out` from position `at` of the message on.
    ///
    /// # Errors
    /// `TooLarge` if the message ends before `out` is full.
    pub fn copy_to(&self, at: usize, out: &mut [u8]) -> Result<()> {
        let end = at.saturating_add(out.len());
        if end > self.len() {
            return Err(Error::TooLarge {
                len: end as u64,
                max: self.len() as u64,
            });
        }
        self.receiver.consumer.copy(&self.record, at, out);
        Ok(())
    }

    /// Where the message lies in the stream of this direction, in bytes since the channel was made.
    /// No two messages have one position, and a message that comes again has the same one.
    pub fn position(&self) -> u64 {
        self.record.position()
    }

    /// Whether an earlier holder of this end had been handed this message, in place, and died or
    /// left without being done with it, so that it *may* have been dealt with.
    pub fn redelivered(&self) -> bool {
        self.redelivered
    }

    /// Leaves the message in the ring: the next call hands it out again.
    pub fn keep(mut self) {
        self.keep = true;
    }

    /// The message where it lies, 8-aligned.
    ///
    /// # Safety
    /// Nobody may write to these bytes while the slice lives. No honest process does; a process of
    /// the same user that scribbles over the segment would make it undefined behaviour.
    #[allow(unsafe_code)]
    pub unsafe fn as_bytes(&self) -> &[u8] {
        let at = self.receiver.consumer.payload(&self.record, 0).as_ptr();
        // SAFETY: a record was checked to end within the ring, and is not reused before the guard
        // goes; the caller vouches for the rest.
        unsafe { core::slice::from_raw_parts(at.cast(), self.len()) }
    }
}

impl<T: Message + ?Sized> Drop for RecvRef<'_, T> {
    fn drop(&mut self) {
        if !self.keep && !std::thread::panicking() && !self.receiver.canary.forked() {
            self.receiver.consumer.release(self.record);
            self.receiver.ring();
        }
    }
}

impl<T: Message + ?Sized> fmt::Debug for RecvRef<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RecvRef({} bytes at {})", self.len(), self.position())
    }
}
