//! Contestant: two pipes, one a direction. A read sleeps until there is something.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;

use rustix::pipe::{PipeFlags, fcntl_setpipe_size, pipe_with};

use crate::channels::link::{Between, Link, Waiting};
use crate::channels::load::Load;
use crate::channels::peer::{Address, inherited, number};

pub struct Pipe {
    from_peer: File,
    to_peer: File,
    buffer: Vec<u8>,
    load: Load,
}

impl Pipe {
    fn new(from_peer: OwnedFd, to_peer: OwnedFd, load: Load) -> Self {
        Self {
            from_peer: from_peer.into(),
            to_peer: to_peer.into(),
            buffer: vec![0; load.bytes],
            load,
        }
    }
}

impl Link for Pipe {
    fn send(&mut self, stamp: u64) {
        self.load.write(&mut self.buffer, stamp);
        self.to_peer.write_all(&self.buffer).expect("write");
    }

    fn recv(&mut self) -> u64 {
        self.from_peer.read_exact(&mut self.buffer).expect("read");
        self.load.read(&self.buffer)
    }
}

impl Between for Pipe {
    fn create(load: Load, _: Waiting) -> (Self, Address) {
        let (theirs_from, to_peer) = pipe_with(PipeFlags::CLOEXEC).expect("a pipe");
        let (from_peer, theirs_to) = pipe_with(PipeFlags::CLOEXEC).expect("a pipe");
        for pipe in [&to_peer, &theirs_to] {
            // A user's limit may be lower; then it stays as it is.
            let _ = fcntl_setpipe_size(pipe, load.capacity());
        }
        let word = format!("{} {}", number(&theirs_from), number(&theirs_to));
        let link = Self::new(from_peer, to_peer, load);
        let inherited = vec![theirs_from, theirs_to];
        (link, Address { word, inherited })
    }

    fn open(address: &str, load: Load, _: Waiting) -> Self {
        let (from_peer, to_peer) = address.split_once(' ').expect("two descriptors");
        Self::new(inherited(from_peer), inherited(to_peer), load)
    }
}
