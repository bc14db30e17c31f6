//! What is carried: numbers, or byte strings of some length that begin with a number.

use ringlane::{Channel, Message};

/// A way to carry numbers.
pub trait Load {
    type Message: Message + ?Sized;

    fn send(&mut self, to: &mut Channel<Self::Message>, number: u64);

    fn receive(&mut self, from: &mut Channel<Self::Message>) -> u64;
}

pub struct Numbers;

impl Load for Numbers {
    type Message = u64;

    fn send(&mut self, to: &mut Channel<u64>, number: u64) {
        to.send(number).expect("to send");
    }

    fn receive(&mut self, from: &mut Channel<u64>) -> u64 {
        from.recv().expect("to receive")
    }
}

/// All bytes are copied in and out.
pub struct Bytes {
    out: Vec<u8>,
    into: Vec<u8>,
}

impl Bytes {
    pub fn new(size: usize) -> Self {
        Self {
            out: vec![7; size],
            into: vec![0; size],
        }
    }
}

impl Load for Bytes {
    type Message = [u8];

    fn send(&mut self, to: &mut Channel<[u8]>, number: u64) {
        self.out[..8].copy_from_slice(&number.to_ne_bytes());
        to.send(&self.out[..]).expect("to send");
    }

    fn receive(&mut self, from: &mut Channel<[u8]>) -> u64 {
        let message = from.recv_ref().expect("to receive");
        message.copy_to(0, &mut self.into).expect("all of it");
        u64::from_ne_bytes(self.into[..8].try_into().expect("8 bytes"))
    }
}
