//! Contestant: two cache lines, one word in each, spun upon. Nothing that crosses between two cores
//! can answer sooner; what a channel adds to this is its own cost.

#![expect(
    clippy::disallowed_types,
    reason = "the hardware's limit has none of the library in it"
)]

use std::fs::File;
use std::hint;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};

use memmap2::{MmapOptions, MmapRaw};
use rustix::fs::{MemfdFlags, memfd_create};

use super::process::{inherited, number};
use super::{Address, Link};

/// Two lines, since processors fetch them in pairs.
const APART: usize = 128;

/// A word changes with every message that it carries; it begins as 0, which is none.
pub struct Raw {
    map: MmapRaw,
    own: usize,
    peer: usize,
    seen: u64,
}

impl Raw {
    fn new(file: &File, own: usize, peer: usize) -> Self {
        let map = MmapOptions::new()
            .len(2 * APART)
            .map_raw(file)
            .expect("map two lines");
        Self {
            map,
            own,
            peer,
            seen: 0,
        }
    }

    fn word(&self, at: usize) -> &AtomicU64 {
        // SAFETY: `at` is 0 or `APART`, so the word is aligned and inside the mapping, which lives
        // as long as `self`; both processes touch it only as an atomic.
        unsafe { AtomicU64::from_ptr(self.map.as_mut_ptr().add(at).cast()) }
    }
}

impl Link for Raw {
    type Payload = u64;

    fn create(_bytes: usize) -> (Self, Address) {
        let fd = memfd_create("ringlane-bench-raw", MemfdFlags::CLOEXEC).expect("a memory file");
        let file = File::from(fd);
        file.set_len(2 * APART as u64).expect("room for two lines");
        let link = Self::new(&file, 0, APART);
        let fd = OwnedFd::from(file);
        (
            link,
            Address {
                word: number(&fd),
                inherited: vec![fd],
            },
        )
    }

    fn open(address: &str, _bytes: usize) -> Self {
        Self::new(&File::from(inherited(address)), APART, 0)
    }

    // Release pairs with the Acquire in the other side's `recv`.
    fn send(&mut self, payload: &u64) {
        self.word(self.own).store(*payload, Ordering::Release);
    }

    fn recv(&mut self, payload: &mut u64) {
        let word = self.word(self.peer);
        let mut found = word.load(Ordering::Acquire);
        while found == self.seen {
            hint::spin_loop();
            found = word.load(Ordering::Acquire);
        }
        self.seen = found;
        *payload = found;
    }
}
