//! Contestant: this library without its copies: a message is written where it was loaned, and read
//! where it lies. A loan does not wait, so a full ring is spun upon.

use std::hint;
use std::slice;

use ::ringlane::{Channel, TrySendError};

use super::ringlane::{create, open};
use crate::channels::link::{Between, Link, Waiting};
use crate::channels::load::Load;
use crate::channels::peer::Address;

pub struct InPlace {
    channel: Channel<[u8]>,
    load: Load,
}

impl Link for InPlace {
    #[inline(always)]
    fn send(&mut self, stamp: u64) {
        loop {
            match self.channel.loan(self.load.bytes) {
                Ok(mut loan) => {
                    // SAFETY: the place is good for that many bytes, which have been bytes ever
                    // since the kernel zeroed them, and no other process writes to it before the
                    // commit.
                    let message =
                        unsafe { slice::from_raw_parts_mut(loan.as_mut_ptr(), self.load.bytes) };
                    self.load.write(message, stamp);
                    return loan.commit(self.load.bytes).expect("commit");
                }
                Err(TrySendError::Full(())) => hint::spin_loop(),
                Err(other) => panic!("loan: {other}"),
            }
        }
    }

    #[inline(always)]
    fn recv(&mut self) -> u64 {
        let message = self.channel.recv_ref().expect("recv_ref");
        // SAFETY: both processes are of this program, and the sender keeps off what it has sent.
        self.load.read(unsafe { message.as_bytes() })
    }
}

impl Between for InPlace {
    fn create(load: Load, waiting: Waiting) -> (Self, Address) {
        let (channel, address) = create(load, waiting);
        (Self { channel, load }, address)
    }

    fn open(address: &str, load: Load, waiting: Waiting) -> Self {
        let channel = open(address, load, waiting);
        Self { channel, load }
    }
}
