//! Memory that two processes share, for the contestants that are no more than that: in each
//! direction a word, which says that there is a message, and room for one message.
//!
//! A message of 8 bytes is the word itself: its stamp, which differs from that of the one before and
//! from 0, which is none. For a larger one the word counts, and the message lies behind it, one of
//! 56 bytes in the same line: so the fewest lines cross that can.

#![expect(
    clippy::disallowed_types,
    reason = "none of this is the library's, nor its model checker's"
)]

use std::fs::File;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU32, AtomicU64};

use memmap2::{MmapOptions, MmapRaw};
use rustix::fs::{MemfdFlags, memfd_create};

use crate::channels::load::Load;
use crate::channels::peer::{Address, inherited, number};

/// Two lines, since processors fetch them in pairs.
const APART: usize = 128;

pub struct Shared {
    map: MmapRaw,
    load: Load,
    own: usize,
    peer: usize,
    sent: u64,
}

impl Shared {
    pub fn create(load: Load) -> (Self, Address) {
        let fd = memfd_create("shootout", MemfdFlags::CLOEXEC).expect("a memory file");
        let file = File::from(fd);
        let half = Self::half(load);
        file.set_len(2 * half as u64).expect("room");
        let shared = Self::map(&file, load, 0, half);
        let fd = OwnedFd::from(file);
        let word = number(&fd);
        let inherited = vec![fd];
        (shared, Address { word, inherited })
    }

    pub fn open(address: &str, load: Load) -> Self {
        let file = File::from(inherited(address));
        Self::map(&file, load, Self::half(load), 0)
    }

    fn half(load: Load) -> usize {
        (8 + load.bytes).next_multiple_of(APART)
    }

    fn map(file: &File, load: Load, own: usize, peer: usize) -> Self {
        let len = 2 * Self::half(load);
        let map = MmapOptions::new().len(len).map_raw(file);
        Self {
            map: map.expect("map the file"),
            load,
            own,
            peer,
            sent: 0,
        }
    }

    fn at(&self, offset: usize) -> *mut u8 {
        assert!(offset + 8 + self.load.bytes <= self.map.len());
        // SAFETY: inside the mapping, as was just asserted.
        unsafe { self.map.as_mut_ptr().add(offset) }
    }

    /// The word that the other side waits for.
    #[inline(always)]
    pub fn own_word(&self) -> &AtomicU64 {
        // SAFETY: aligned, inside the mapping, which lives as long as `self`; both processes touch
        // it only as an atomic.
        unsafe { AtomicU64::from_ptr(self.at(self.own).cast()) }
    }

    /// The word that the other side sets.
    #[inline(always)]
    pub fn peer_word(&self) -> &AtomicU64 {
        // SAFETY: as in `own_word`.
        unsafe { AtomicU64::from_ptr(self.at(self.peer).cast()) }
    }

    /// The half of a word in which a low stamp shows, as the kernel looks at it.
    pub fn half_word(word: &AtomicU64) -> &AtomicU32 {
        const LOW: usize = if cfg!(target_endian = "big") { 4 } else { 0 };
        // SAFETY: inside the word, aligned to 4; the kernel only compares it, and this process only
        // hands it to the kernel.
        unsafe { AtomicU32::from_ptr(word.as_ptr().cast::<u8>().add(LOW).cast()) }
    }

    /// Writes a message, and gives the word that announces it.
    #[inline(always)]
    pub fn write(&mut self, stamp: u64) -> u64 {
        if self.load.bytes == 8 {
            return stamp;
        }
        // SAFETY: inside the mapping, behind the word. The peer reads it only between the
        // announcement of this message and that of its own answer; the one to the message before
        // has been seen.
        let message =
            unsafe { std::slice::from_raw_parts_mut(self.at(self.own).add(8), self.load.bytes) };
        self.load.write(message, stamp);
        self.sent += 1;
        self.sent
    }

    /// Reads the message that this word has just announced.
    #[inline(always)]
    pub fn read(&self, word: u64) -> u64 {
        if self.load.bytes == 8 {
            return word;
        }
        // SAFETY: as in `write`: the peer writes it again only after our answer.
        let message =
            unsafe { std::slice::from_raw_parts(self.at(self.peer).add(8), self.load.bytes) };
        self.load.read(message)
    }
}
