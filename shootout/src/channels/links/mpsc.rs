//! Contestant: a bounded channel of the standard library between two threads.

use std::hint;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use crate::channels::link::{Link, Waiting, Within};
use crate::channels::load::{Load, Payload};

pub struct Mpsc<T> {
    to_peer: SyncSender<T>,
    from_peer: Receiver<T>,
    load: Load,
    waiting: Waiting,
}

impl<T: Payload> Link for Mpsc<T> {
    #[inline(always)]
    fn send(&mut self, stamp: u64) {
        let mut message = T::sized(self.load.bytes);
        self.load.write(message.bytes_mut(), stamp);
        assert!(self.to_peer.send(message).is_ok(), "send");
    }

    #[inline(always)]
    fn recv(&mut self) -> u64 {
        if self.waiting != Waiting::Awake {
            let message = self.from_peer.recv().expect("receive");
            return self.load.read(message.bytes());
        }
        loop {
            match self.from_peer.try_recv() {
                Ok(message) => return self.load.read(message.bytes()),
                Err(_) => hint::spin_loop(),
            }
        }
    }
}

impl<T: Payload> Within for Mpsc<T> {
    fn pair(load: Load, waiting: Waiting) -> (Self, Self) {
        let channel = || sync_channel(load.capacity_in_messages());
        let (there, back) = (channel(), channel());
        let side = |to_peer, from_peer| Self {
            to_peer,
            from_peer,
            load,
            waiting,
        };
        (side(there.0, back.1), side(back.0, there.1))
    }
}
