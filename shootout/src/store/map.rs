//! What all contestants are made to look like: a map from 16-byte keys to values.

use std::hint;
use std::ops::Range;

use ringlane::zerocopy::IntoBytes;

pub type Key = [u8; 16];

/// A value, in private memory.
pub trait Payload: Clone + Default + PartialEq + Send + Sync + 'static {
    /// A value of so many bytes that no other stamp gives.
    fn stamped(bytes: usize, stamp: u64) -> Self;
    /// Makes it that of another stamp.
    fn stamp(&mut self, stamp: u64);
    /// Its stamp.
    fn read(&self) -> u64;
    fn bytes(&self) -> &[u8];
    /// Copies all of a value of the same size here.
    fn copy(&mut self, bytes: &[u8]);
}

/// A map as one thread uses it.
pub trait Map<P: Payload>: Send + 'static {
    /// Copies the value out, all of it; `false` if there is none.
    fn get(&mut self, key: &Key, out: &mut P) -> bool;
    fn set(&mut self, key: &Key, value: &P);

    /// Sets many, untimed, in whatever way is quick.
    fn fill(&mut self, entries: &mut dyn Iterator<Item = (Key, P)>) {
        for (key, value) in entries {
            self.set(&key, &value);
        }
    }

    /// Another handle, for another thread; `None` if only one can use it.
    fn another(&self) -> Option<Self>
    where
        Self: Sized,
    {
        None
    }

    /// Called before a stretch of timed calls, and after it.
    fn enter(&mut self) {}
    fn leave(&mut self) {}
}

impl Payload for u64 {
    fn stamped(bytes: usize, stamp: u64) -> Self {
        assert_eq!(bytes, 8);
        stamp
    }
    fn stamp(&mut self, stamp: u64) {
        *self = stamp;
    }
    fn read(&self) -> u64 {
        *self
    }
    fn bytes(&self) -> &[u8] {
        self.as_bytes()
    }
    fn copy(&mut self, bytes: &[u8]) {
        *self = u64::from_ne_bytes(bytes.try_into().expect("8 bytes"));
    }
}

/// The stamp lies at both ends.
impl Payload for Vec<u8> {
    fn stamped(bytes: usize, stamp: u64) -> Self {
        let mut value = vec![0x5a; bytes];
        value.stamp(stamp);
        value
    }
    fn stamp(&mut self, stamp: u64) {
        let stamp = stamp.to_ne_bytes();
        let end = self.len() - stamp.len();
        self[..stamp.len()].copy_from_slice(&stamp);
        self[end..].copy_from_slice(&stamp);
    }
    fn read(&self) -> u64 {
        // Nobody may find out that the middle is not looked at.
        let value = hint::black_box(self);
        let word = |at: usize| u64::from_ne_bytes(value[at..at + 8].try_into().expect("8 bytes"));
        let (first, last) = (word(0), word(value.len() - 8));
        assert!(first == last, "a torn value");
        first
    }
    fn bytes(&self) -> &[u8] {
        self
    }
    fn copy(&mut self, bytes: &[u8]) {
        self.clear();
        self.extend_from_slice(bytes);
    }
}

/// The stamp of the value that a key has throughout.
pub fn stamp_of(key: &Key) -> u64 {
    u64::from_ne_bytes(key[..8].try_into().expect("8 bytes"))
}

/// The number of a key.
pub fn number_of(key: &Key) -> usize {
    u64::from_ne_bytes(key[8..].try_into().expect("8 bytes")) as usize
}

/// The keys of these numbers, shuffled.
pub fn keys(numbers: Range<u64>, seed: u64) -> Vec<Key> {
    let mut keys: Vec<Key> = numbers.map(key).collect();
    let mut random = seed;
    for i in (1..keys.len()).rev() {
        random = random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        keys.swap(
            i,
            ((u128::from(mix(random)) * (i as u128 + 1)) >> 64) as usize,
        );
    }
    keys
}

fn key(number: u64) -> Key {
    let mut key = [0; 16];
    key[..8].copy_from_slice(&mix(number).to_ne_bytes());
    key[8..].copy_from_slice(&number.to_ne_bytes());
    key
}

/// The finisher of `splitmix64`.
fn mix(number: u64) -> u64 {
    let number = (number ^ number >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ number >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ number >> 31
}
