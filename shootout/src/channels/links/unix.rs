//! Contestant: a pair of connected Unix stream sockets. A read sleeps until there is something.

use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

use rustix::net::sockopt::{set_socket_send_buffer_size, set_socket_send_buffer_size_force};

use crate::channels::link::{Between, Link, Waiting};
use crate::channels::load::Load;
use crate::channels::peer::{Address, inherited, number};

pub struct Unix {
    stream: UnixStream,
    buffer: Vec<u8>,
    load: Load,
}

impl Unix {
    fn new(stream: UnixStream, load: Load) -> Self {
        // What lies in the socket is counted at the sender. A user's limit may be lower than this;
        // then it stays as it is.
        let _ = set_socket_send_buffer_size_force(&stream, load.capacity())
            .or_else(|_| set_socket_send_buffer_size(&stream, load.capacity()));
        Self {
            stream,
            buffer: vec![0; load.bytes],
            load,
        }
    }
}

impl Link for Unix {
    fn send(&mut self, stamp: u64) {
        self.load.write(&mut self.buffer, stamp);
        self.stream.write_all(&self.buffer).expect("write");
    }

    fn recv(&mut self) -> u64 {
        self.stream.read_exact(&mut self.buffer).expect("read");
        self.load.read(&self.buffer)
    }
}

impl Between for Unix {
    fn create(load: Load, _: Waiting) -> (Self, Address) {
        let (ours, theirs) = UnixStream::pair().expect("a pair of sockets");
        let fd = OwnedFd::from(theirs);
        let word = number(&fd);
        let inherited = vec![fd];
        (Self::new(ours, load), Address { word, inherited })
    }

    fn open(address: &str, load: Load, _: Waiting) -> Self {
        Self::new(inherited(address).into(), load)
    }
}
