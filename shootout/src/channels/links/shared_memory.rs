//! Contestant: the channel that one would write with the crates `shared_memory` and `raw_sync`.
//!
//! One slot a direction, whatever the capacity of the others. It is written the simple way on
//! purpose and inherits what the two crates lack: a killed holder leaves the mutex locked, and a
//! killed owner leaves the segment, if its name is still there.

use ::shared_memory::{Shmem, ShmemConf};
use rustix::shm;

use super::slot::{SYNC, Slot};
use crate::channels::link::{Between, Link, Waiting};
use crate::channels::load::Load;
use crate::channels::peer::Address;
use crate::keeper;

pub struct SharedMemory {
    to_peer: Slot,
    from_peer: Slot,
    buffer: Vec<u8>,
    load: Load,
    // After the slots, which point into it.
    segment: Shmem,
}

impl Link for SharedMemory {
    fn send(&mut self, stamp: u64) {
        self.load.write(&mut self.buffer, stamp);
        self.to_peer.put(&self.buffer);
    }

    fn recv(&mut self) -> u64 {
        self.from_peer.take(&mut self.buffer);
        self.load.read(&self.buffer)
    }
}

impl Between for SharedMemory {
    fn create(load: Load, _: Waiting) -> (Self, Address) {
        let word = format!("/{}-{}", keeper::prefix(), keeper::unique("slots"));
        let size = SYNC + load.bytes;
        let segment = ShmemConf::new().os_id(&word).size(2 * size).create();
        let segment = segment.expect("a segment");
        let base = segment.as_ptr();
        // SAFETY: the mapping is page-aligned, `size` is a multiple of 8, there is room for two
        // slots, and they are dropped before the segment.
        let (to_peer, from_peer) = unsafe { (Slot::create(base), Slot::create(base.add(size))) };
        let link = Self {
            to_peer,
            from_peer,
            buffer: vec![0; load.bytes],
            load,
            segment,
        };
        let inherited = Vec::new();
        (link, Address { word, inherited })
    }

    fn open(address: &str, load: Load, _: Waiting) -> Self {
        let segment = ShmemConf::new().os_id(address).open();
        let segment = segment.expect("the parent's segment");
        let base = segment.as_ptr();
        // SAFETY: as in `create`, which the parent has finished before it started this process.
        let (from_peer, to_peer) =
            unsafe { (Slot::open(base), Slot::open(base.add(SYNC + load.bytes))) };
        Self {
            to_peer,
            from_peer,
            buffer: vec![0; load.bytes],
            load,
            segment,
        }
    }

    /// Whoever is killed from here on leaves no name behind.
    fn met(&mut self) {
        self.segment.set_owner(false);
        let _ = shm::unlink(self.segment.get_os_id());
    }
}
