//! Contestant: this library, through its public typed API and with its default options.

use std::borrow::Borrow;
use std::process;
use std::time::Duration;

use ::ringlane::{Channel, Message, Owned, Plain};

use super::payload::{Payload, Seven};
use super::process::unique_name;
use super::{Address, Link};

impl Message for Seven {
    const NAME: &'static str = "bench.Seven";
    type Codec = Plain;
}

/// A channel's end. Numbers and structs travel as `T`; bytes are sent as `[u8]` and received as
/// the `Vec` that `recv` makes.
pub struct Ringlane<T: Message + ?Sized>(Channel<T>);

impl<T> Link for Ringlane<T>
where
    T: Message + ?Sized + 'static,
    Owned<T>: Payload,
{
    type Payload = Owned<T>;

    fn create(_bytes: usize) -> (Self, Address) {
        // One domain for the run, so that runs have nothing in common; a name for each channel.
        let (domain, name) = (format!("bench-{}", process::id()), unique_name());
        let options = Channel::options().domain(&domain);
        let channel = options.create(&name).expect("create the channel");
        let word = format!("{domain} {name}");
        (
            Self(channel),
            Address {
                word,
                inherited: Vec::new(),
            },
        )
    }

    fn open(address: &str, _bytes: usize) -> Self {
        let (domain, name) = address.split_once(' ').expect("domain and name");
        let options = Channel::options().domain(domain);
        let channel = options.open_timeout(name, Duration::from_secs(10));
        Self(channel.expect("open the channel"))
    }

    fn send(&mut self, payload: &Owned<T>) {
        let message: &T = payload.borrow();
        assert!(self.0.send(message).is_ok(), "send");
    }

    fn recv(&mut self, payload: &mut Owned<T>) {
        *payload = self.0.recv().expect("recv");
    }
}
