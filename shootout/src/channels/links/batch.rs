//! Contestant: this library with its calls for many messages, where there are many.

use ::ringlane::{Channel, Message, Owned};

use super::ringlane::{create, open};
use crate::channels::link::{Between, Link, Waiting};
use crate::channels::load::{Load, Payload};
use crate::channels::peer::Address;

pub struct Batch<T: Message> {
    channel: Channel<T>,
    /// What was received together.
    messages: Vec<Owned<T>>,
    load: Load,
}

impl<T: Message> Batch<T> {
    fn new(channel: Channel<T>, load: Load) -> Self {
        Self {
            channel,
            messages: Vec::new(),
            load,
        }
    }
}

impl<T> Batch<T>
where
    T: Message + Payload,
    Owned<T>: Payload,
{
    fn message(load: Load, stamp: u64) -> T {
        let mut message = T::sized(load.bytes);
        load.write(message.bytes_mut(), stamp);
        message
    }
}

impl<T> Link for Batch<T>
where
    T: Message + Payload,
    Owned<T>: Payload,
{
    #[inline(always)]
    fn send(&mut self, stamp: u64) {
        let message = Self::message(self.load, stamp);
        assert!(self.channel.send(message).is_ok(), "send");
    }

    #[inline(always)]
    fn recv(&mut self) -> u64 {
        let message = self.channel.recv().expect("recv");
        self.load.read(message.bytes())
    }

    fn send_many(&mut self, first: u64, count: u64) {
        let load = self.load;
        let messages = (0..count).map(|i| Self::message(load, first.wrapping_add(i)));
        assert!(self.channel.send_all(messages).is_ok(), "send_all");
    }

    fn recv_many(&mut self, load: Load, first: u64, count: u64) {
        /// Bytes that are worth having at once: few enough to stay in the nearest cache.
        const TOGETHER: usize = 8192;
        let most = (TOGETHER / load.bytes).max(1) as u64;
        let mut done = 0;
        while done < count {
            let max = most.min(count - done) as usize;
            self.messages.clear();
            let received = self.channel.recv_many(&mut self.messages, max);
            received.expect("recv_many");
            for message in &self.messages {
                let stamp = self.load.read(message.bytes());
                load.check(stamp, first.wrapping_add(done));
                done += 1;
            }
        }
    }
}

impl<T> Between for Batch<T>
where
    T: Message + Payload,
    Owned<T>: Payload,
{
    fn create(load: Load, waiting: Waiting) -> (Self, Address) {
        let (channel, address) = create(load, waiting);
        (Self::new(channel, load), address)
    }

    fn open(address: &str, load: Load, waiting: Waiting) -> Self {
        Self::new(open(address, load, waiting), load)
    }
}
