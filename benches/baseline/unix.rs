//! Contestant: a pair of connected Unix stream sockets.

use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

use super::process::{inherited, number};
use super::{Address, Link};

pub struct Unix(UnixStream);

impl Link for Unix {
    type Payload = Vec<u8>;

    fn create(_bytes: usize) -> (Self, Address) {
        let (ours, theirs) = UnixStream::pair().expect("a pair of sockets");
        let fd = OwnedFd::from(theirs);
        (
            Self(ours),
            Address {
                word: number(&fd),
                inherited: vec![fd],
            },
        )
    }

    fn open(address: &str, _bytes: usize) -> Self {
        Self(inherited(address).into())
    }

    fn send(&mut self, payload: &Vec<u8>) {
        self.0.write_all(payload).expect("write to the socket");
    }

    fn recv(&mut self, payload: &mut Vec<u8>) {
        self.0.read_exact(payload).expect("read from the socket");
    }
}
