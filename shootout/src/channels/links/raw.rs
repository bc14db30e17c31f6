//! Contestant: nothing but memory, a word in each direction spun upon, and the message beside it,
//! written and read in place. Nothing that crosses between two cores can answer sooner; what a
//! channel adds to this is its own cost.
//!
//! It has no room for a second message, so it has no stream: with room, and a word that says how
//! much of it is left, it would be a queue, such as `rtrb` is.

use std::hint;
use std::sync::atomic::Ordering::{Acquire, Release};

use super::shared::Shared;
use crate::channels::link::{Between, Link, Waiting};
use crate::channels::load::Load;
use crate::channels::peer::Address;

pub struct Raw {
    shared: Shared,
    /// The last word of the other side.
    seen: u64,
}

impl Raw {
    fn new(shared: Shared) -> Self {
        Self { shared, seen: 0 }
    }
}

impl Link for Raw {
    // Release pairs with the Acquire in the other side's `recv`.
    #[inline(always)]
    fn send(&mut self, stamp: u64) {
        let word = self.shared.write(stamp);
        self.shared.own_word().store(word, Release);
    }

    #[inline(always)]
    fn recv(&mut self) -> u64 {
        let word = self.shared.peer_word();
        let mut found = word.load(Acquire);
        while found == self.seen {
            hint::spin_loop();
            found = word.load(Acquire);
        }
        self.seen = found;
        self.shared.read(found)
    }
}

impl Between for Raw {
    fn create(load: Load, _: Waiting) -> (Self, Address) {
        let (shared, address) = Shared::create(load);
        (Self::new(shared), address)
    }

    fn open(address: &str, load: Load, _: Waiting) -> Self {
        Self::new(Shared::open(address, load))
    }
}
