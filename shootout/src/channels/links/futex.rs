//! Contestant: the same memory as `raw`, but each side sleeps in the kernel until its word has
//! changed, and is woken by who changed it. The least that two sleeping processes can do.

use std::sync::atomic::Ordering::{Acquire, SeqCst};

use rustix::thread::futex::{self, Flags};

use super::shared::Shared;
use crate::channels::link::{Between, Link, Waiting};
use crate::channels::load::Load;
use crate::channels::peer::Address;

pub struct Futex {
    shared: Shared,
    seen: u64,
}

impl Link for Futex {
    fn send(&mut self, stamp: u64) {
        let word = self.shared.write(stamp);
        self.shared.own_word().store(word, SeqCst);
        let half = Shared::half_word(self.shared.own_word());
        futex::wake(half, Flags::empty(), 1).expect("wake");
    }

    fn recv(&mut self) -> u64 {
        let word = self.shared.peer_word();
        let mut found = word.load(Acquire);
        while found == self.seen {
            // Fails if the word is another by now, which is as good.
            let _ = futex::wait(
                Shared::half_word(word),
                Flags::empty(),
                self.seen as u32,
                None,
            );
            found = word.load(Acquire);
        }
        self.seen = found;
        self.shared.read(found)
    }
}

impl Between for Futex {
    fn create(load: Load, _: Waiting) -> (Self, Address) {
        let (shared, address) = Shared::create(load);
        (Self { shared, seen: 0 }, address)
    }

    fn open(address: &str, load: Load, _: Waiting) -> Self {
        let shared = Shared::open(address, load);
        Self { shared, seen: 0 }
    }
}
