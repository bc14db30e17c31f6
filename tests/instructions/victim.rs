//! The process that is killed: it does what it is told, with a mark before and behind each call.

use super::witness::bytes;
use crate::common::{hear, trace};
use ringlane::{Channel, ChannelOptions, Message, Store, StoreOptions};

/// The channel and the store of all scenes.
pub const NAME: &str = "it";

pub fn channel<T: Message + ?Sized>(domain: &str) -> ChannelOptions<T> {
    Channel::options().domain(domain).capacity(4096)
}

pub fn store(domain: &str) -> StoreOptions {
    Store::options().domain(domain).max_size(16 << 20)
}

struct Victim<'a> {
    domain: &'a str,
    traced: bool,
    channel: Option<Channel<[u8]>>,
    store: Option<Store>,
    keeper: Option<Channel<u64>>,
}

/// Does first what the arguments say, and then, once it is traced, what it hears.
pub fn act(arguments: &[&str]) {
    let mut victim = Victim {
        domain: arguments[0],
        traced: false,
        channel: None,
        store: None,
        keeper: None,
    };
    arguments[1..].iter().for_each(|order| victim.obey(order));
    trace::consent();
    victim.traced = true;
    trace::mark();
    while let Some(order) = hear() {
        victim.obey(&order);
    }
}

impl Victim<'_> {
    fn mark(&self) {
        if self.traced {
            trace::mark();
        }
    }

    /// A call with a mark on either side.
    fn marked<T>(&self, call: impl FnOnce() -> T) -> T {
        self.mark();
        let outcome = call();
        self.mark();
        outcome
    }

    fn obey(&mut self, order: &str) {
        let words: Vec<_> = order.split(' ').collect();
        let number = |at: usize| words[at].parse::<usize>().unwrap();
        let value = |at: usize| bytes(number(at), number(at + 1) as u8);
        match words[0] {
            // Only to be in the domain.
            "join" => self.keeper = Some(channel(self.domain).create("keeper").unwrap()),
            "create" => {
                let options = channel(self.domain);
                self.channel = Some(self.marked(|| options.create(NAME).unwrap()));
            }
            "open" => {
                let options = channel(self.domain);
                self.channel = Some(self.marked(|| options.open(NAME).unwrap()));
            }
            "leave" => {
                let channel = self.channel.take().unwrap();
                self.marked(|| drop(channel));
            }
            "send" => {
                let value = value(1);
                let mut channel = self.channel.take().unwrap();
                self.marked(|| channel.send(&value[..])).unwrap();
                self.channel = Some(channel);
            }
            "loan" => {
                let value = value(1);
                let mut channel = self.channel.take().unwrap();
                self.mark();
                let mut loan = channel.loan(value.len()).unwrap();
                loan.put(0, &value).unwrap();
                self.mark();
                loan.commit(value.len()).unwrap();
                self.mark();
                self.channel = Some(channel);
            }
            "recv" => {
                let mut channel = self.channel.take().unwrap();
                self.marked(|| channel.recv()).unwrap();
                self.channel = Some(channel);
            }
            "recv_ref" => {
                let mut channel = self.channel.take().unwrap();
                self.mark();
                let message = channel.recv_ref().unwrap();
                self.mark();
                drop(message);
                self.mark();
                self.channel = Some(channel);
            }
            "create_store" => {
                let options = store(self.domain);
                self.store = Some(self.marked(|| options.create(NAME).unwrap()));
            }
            "open_store" => {
                let options = store(self.domain);
                self.store = Some(self.marked(|| options.open(NAME).unwrap()));
            }
            "close_store" => {
                let store = self.store.take().unwrap();
                self.marked(|| drop(store));
            }
            "set" => {
                let value = value(2);
                let store = self.store.as_ref().unwrap();
                self.marked(|| store.set::<[u8]>(words[1], &value).unwrap());
            }
            "update" => {
                let value = value(2);
                let store = self.store.as_ref().unwrap();
                let change = || store.update::<[u8]>(words[1], |_| Some(value));
                self.marked(|| change().unwrap());
            }
            "delete" => {
                let store = self.store.as_ref().unwrap();
                assert!(self.marked(|| store.delete(words[1]).unwrap()));
            }
            other => panic!("{other:?} is not something that a victim does"),
        }
    }
}
