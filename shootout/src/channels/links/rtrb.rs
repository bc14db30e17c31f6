//! Contestant: a ring between two threads, spun upon. It knows no other process, no dead peer and
//! no sleep: what is left is the queue itself.

use std::hint;

use ::rtrb::{Consumer, Producer, RingBuffer};

use crate::channels::link::{Link, Waiting, Within};
use crate::channels::load::{Load, Payload};

pub struct Rtrb<T> {
    to_peer: Producer<T>,
    from_peer: Consumer<T>,
    load: Load,
}

impl<T: Payload> Link for Rtrb<T> {
    #[inline(always)]
    fn send(&mut self, stamp: u64) {
        let mut message = T::sized(self.load.bytes);
        self.load.write(message.bytes_mut(), stamp);
        while let Err(::rtrb::PushError::Full(back)) = self.to_peer.push(message) {
            message = back;
            hint::spin_loop();
        }
    }

    #[inline(always)]
    fn recv(&mut self) -> u64 {
        loop {
            match self.from_peer.pop() {
                Ok(message) => return self.load.read(message.bytes()),
                Err(_) => hint::spin_loop(),
            }
        }
    }
}

impl<T: Payload> Within for Rtrb<T> {
    fn pair(load: Load, _: Waiting) -> (Self, Self) {
        let ring = || RingBuffer::new(load.capacity_in_messages());
        let (there, back) = (ring(), ring());
        let side = |to_peer, from_peer| Self {
            to_peer,
            from_peer,
            load,
        };
        (side(there.0, back.1), side(back.0, there.1))
    }
}
