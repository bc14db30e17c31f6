//! What the messages carry: words that the sender writes, all of them, and the receiver reads.

use ringlane::zerocopy::{Immutable, IntoBytes, KnownLayout, TryFromBytes};
use ringlane::{Message, Plain};

/// A message: word `i` of the one with the stamp `s` is `s + i`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    /// A multiple of 8.
    pub bytes: usize,
    /// Whether the words are written and read at all; if not, a message is what lay there before.
    pub touched: bool,
}

impl Load {
    /// Writes every word.
    #[inline(always)]
    pub fn write(self, message: &mut [u8], stamp: u64) {
        if !self.touched {
            return;
        }
        for (word, i) in message.chunks_exact_mut(8).zip(0_u64..) {
            word.copy_from_slice(&stamp.wrapping_add(i).to_ne_bytes());
        }
    }

    /// Reads every word, and gives the stamp; 0 if nothing is touched.
    #[inline(always)]
    pub fn read(self, message: &[u8]) -> u64 {
        if !self.touched {
            return 0;
        }
        let words = message
            .chunks_exact(8)
            .map(|word| u64::from_ne_bytes(word.try_into().expect("8 bytes")));
        let stamp = words.clone().next().expect("a word");
        let count = (message.len() / 8) as u64;
        let due = count
            .wrapping_mul(stamp)
            .wrapping_add(count * (count - 1) / 2);
        assert!(
            words.fold(0, u64::wrapping_add) == due,
            "a message is not as it was sent"
        );
        stamp
    }

    /// Makes sure that a received stamp is the right one.
    #[inline(always)]
    pub fn check(self, stamp: u64, due: u64) {
        assert!(
            !self.touched || stamp == due,
            "message {stamp} came in place of {due}"
        );
    }

    /// Bytes that each direction may hold, the same for all who can be told: ringlane's default, and
    /// more only for messages too large for it.
    pub fn capacity(self) -> usize {
        match self.bytes {
            ..=65_536 => 256 << 10,
            _ => 4 << 20,
        }
    }

    /// The same as a number of messages, for those that count so.
    pub fn capacity_in_messages(self) -> usize {
        self.capacity() / self.bytes
    }
}

/// A message in private memory.
pub trait Payload: Send + 'static {
    /// One of so many bytes.
    fn sized(bytes: usize) -> Self;
    fn bytes(&self) -> &[u8];
    fn bytes_mut(&mut self) -> &mut [u8];
}

/// One whose size its type says.
#[derive(Clone, Copy, TryFromBytes, IntoBytes, KnownLayout, Immutable)]
#[zerocopy(crate = "ringlane::zerocopy")]
#[repr(transparent)]
pub struct Words<const N: usize>([u64; N]);

impl<const N: usize> Message for Words<N> {
    const NAME: &'static str = "shootout.Words";
    type Codec = Plain;
}

impl<const N: usize> Payload for Words<N> {
    fn sized(bytes: usize) -> Self {
        assert_eq!(bytes, 8 * N);
        Self([0; N])
    }
    #[inline(always)]
    fn bytes(&self) -> &[u8] {
        self.as_bytes()
    }
    #[inline(always)]
    fn bytes_mut(&mut self) -> &mut [u8] {
        // As a slice of words it needs no more of zerocopy than the array has.
        self.0.as_mut_bytes()
    }
}

impl Payload for Vec<u8> {
    fn sized(bytes: usize) -> Self {
        vec![0; bytes]
    }
    #[inline(always)]
    fn bytes(&self) -> &[u8] {
        self
    }
    #[inline(always)]
    fn bytes_mut(&mut self) -> &mut [u8] {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOAD: Load = Load {
        bytes: 64,
        touched: true,
    };

    #[test]
    fn what_is_read_is_what_was_written() {
        let mut message = vec![0; 64];
        for stamp in [0, 1, u64::MAX - 3] {
            LOAD.write(&mut message, stamp);
            assert_eq!(LOAD.read(&message), stamp);
        }
    }

    #[test]
    #[should_panic(expected = "not as it was sent")]
    fn a_changed_word_is_noticed() {
        let mut message = vec![0; 64];
        LOAD.write(&mut message, 7);
        message[63] ^= 1;
        LOAD.read(&message);
    }

    #[test]
    fn untouched_messages_stay_as_they_are() {
        let load = Load {
            touched: false,
            ..LOAD
        };
        let mut message = vec![3; 64];
        load.write(&mut message, 7);
        assert_eq!(message, [3; 64]);
        assert_eq!(load.read(&message), 0);
    }

    #[test]
    fn every_capacity_holds_four_messages() {
        for bytes in crate::channels::SIZES {
            assert!(Load { bytes, ..LOAD }.capacity_in_messages() >= 4);
        }
    }
}
