//! What the messages carry: words that are all written by the sender and all read by the receiver.

use zerocopy::{Immutable, IntoBytes, KnownLayout, TryFromBytes};

/// A message as rows of `u64`: word `i` of the message with sequence number `s` is `s + i`.
pub trait Payload: PartialEq + 'static {
    /// An empty payload of this many bytes, a multiple of 8.
    fn sized(bytes: usize) -> Self;
    /// Writes every word.
    fn stamp(&mut self, sequence: u64);
    /// Reads every word.
    fn sum(&self) -> u64;
    /// How many words there are.
    fn words(&self) -> u64;

    /// The sum of the sums of this many payloads, stamped with consecutive numbers from `first`.
    fn sum_of_stamped(&self, first: u64, payloads: u64) -> u64 {
        let sequences = payloads.wrapping_mul(first).wrapping_add(below(payloads));
        let words = self.words();
        words
            .wrapping_mul(sequences)
            .wrapping_add(payloads.wrapping_mul(below(words)))
    }
}

/// `0 + 1 + ... + (n - 1)`, modulo 2^64.
fn below(n: u64) -> u64 {
    let n = u128::from(n);
    (n * n.saturating_sub(1) / 2) as u64
}

/// 8 bytes.
impl Payload for u64 {
    fn sized(bytes: usize) -> Self {
        assert_eq!(bytes, 8);
        0
    }
    fn stamp(&mut self, sequence: u64) {
        *self = sequence;
    }
    fn sum(&self) -> u64 {
        *self
    }
    fn words(&self) -> u64 {
        1
    }
}

/// 56 bytes: with a header word of 8, one cache line.
#[derive(Clone, Copy, Debug, PartialEq, TryFromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Seven([u64; 7]);

impl Payload for Seven {
    fn sized(bytes: usize) -> Self {
        assert_eq!(bytes, size_of::<Self>());
        Self([0; 7])
    }
    fn stamp(&mut self, sequence: u64) {
        self.0 = std::array::from_fn(|i| sequence.wrapping_add(i as u64));
    }
    fn sum(&self) -> u64 {
        self.0.into_iter().fold(0, u64::wrapping_add)
    }
    fn words(&self) -> u64 {
        7
    }
}

/// Bytes of any length.
impl Payload for Vec<u8> {
    fn sized(bytes: usize) -> Self {
        vec![0; bytes]
    }
    fn stamp(&mut self, sequence: u64) {
        for (word, i) in self.chunks_exact_mut(8).zip(0_u64..) {
            word.copy_from_slice(&sequence.wrapping_add(i).to_ne_bytes());
        }
    }
    fn sum(&self) -> u64 {
        let words = self
            .chunks_exact(8)
            .map(|word| u64::from_ne_bytes(word.try_into().expect("8 bytes")));
        words.fold(0, u64::wrapping_add)
    }
    fn words(&self) -> u64 {
        self.len() as u64 / 8
    }
}
