//! Contestant: this library, through its public typed interface and with its default options: the
//! capacity is told for the largest messages only, the way of waiting only when all are to sleep.

use std::borrow::Borrow;
use std::time::Duration;

use ::ringlane::{Channel, ChannelOptions, Message, Owned, Wait};

use crate::channels::link::{Between, Link, Waiting};
use crate::channels::load::{Load, Payload};
use crate::channels::peer::Address;
use crate::keeper;

/// An end of a channel. Plain structs are sent and received as they are; bytes are sent as `[u8]`
/// and received as the `Vec` that `recv` makes.
pub struct Ringlane<T: Message + ?Sized> {
    channel: Channel<T>,
    out: Owned<T>,
    load: Load,
}

fn options<T: Message + ?Sized>(load: Load, waiting: Waiting) -> ChannelOptions<T> {
    let options = Channel::options()
        .domain("shootout")
        .capacity(load.capacity());
    match waiting {
        Waiting::Asleep => options.wait(Wait::Sleep),
        Waiting::Awake | Waiting::Seldom => options,
    }
}

/// Makes a channel that was not there before.
pub fn create<T: Message + ?Sized>(load: Load, waiting: Waiting) -> (Channel<T>, Address) {
    let word = keeper::unique("channel");
    let channel = options(load, waiting).create(&word);
    let inherited = Vec::new();
    (
        channel.expect("create the channel"),
        Address { word, inherited },
    )
}

pub fn open<T: Message + ?Sized>(address: &str, load: Load, waiting: Waiting) -> Channel<T> {
    let channel = options(load, waiting).open_timeout(address, Duration::from_secs(10));
    channel.expect("open the channel")
}

impl<T> Ringlane<T>
where
    T: Message + ?Sized,
    Owned<T>: Payload,
{
    fn new(channel: Channel<T>, load: Load) -> Self {
        Self {
            channel,
            out: Owned::<T>::sized(load.bytes),
            load,
        }
    }
}

impl<T> Link for Ringlane<T>
where
    T: Message + ?Sized + 'static,
    Owned<T>: Payload,
{
    #[inline(always)]
    fn send(&mut self, stamp: u64) {
        self.load.write(self.out.bytes_mut(), stamp);
        let message: &T = self.out.borrow();
        assert!(self.channel.send(message).is_ok(), "send");
    }

    #[inline(always)]
    fn recv(&mut self) -> u64 {
        let message = self.channel.recv().expect("recv");
        self.load.read(message.bytes())
    }
}

impl<T> Between for Ringlane<T>
where
    T: Message + ?Sized + 'static,
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
