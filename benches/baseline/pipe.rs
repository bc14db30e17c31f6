//! Contestant: two pipes, one a direction.

use std::fs::File;
use std::io::{Read, Write};

use rustix::pipe::{PipeFlags, pipe_with};

use super::process::{inherited, number};
use super::{Address, Link};

pub struct Pipe {
    from_peer: File,
    to_peer: File,
}

impl Link for Pipe {
    type Payload = Vec<u8>;

    fn create(_bytes: usize) -> (Self, Address) {
        let (child_from, to_child) = pipe_with(PipeFlags::CLOEXEC).expect("a pipe");
        let (from_child, child_to) = pipe_with(PipeFlags::CLOEXEC).expect("a pipe");
        let word = format!("{} {}", number(&child_from), number(&child_to));
        let link = Self {
            from_peer: from_child.into(),
            to_peer: to_child.into(),
        };
        (
            link,
            Address {
                word,
                inherited: vec![child_from, child_to],
            },
        )
    }

    fn open(address: &str, _bytes: usize) -> Self {
        let (from_peer, to_peer) = address.split_once(' ').expect("two descriptors");
        Self {
            from_peer: inherited(from_peer).into(),
            to_peer: inherited(to_peer).into(),
        }
    }

    fn send(&mut self, payload: &Vec<u8>) {
        self.to_peer.write_all(payload).expect("write to the pipe");
    }

    fn recv(&mut self, payload: &mut Vec<u8>) {
        self.from_peer
            .read_exact(payload)
            .expect("read from the pipe");
    }
}
