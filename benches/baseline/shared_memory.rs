//! Contestant: the channel that one would write with the crates `shared_memory` and `raw_sync`.
//!
//! One slot a direction. It is written the simple way on purpose and inherits what the two crates
//! lack: a killed holder leaves the mutex locked, and a killed owner leaves the segment in
//! `/dev/shm`.

use ::shared_memory::{Shmem, ShmemConf};

use super::process::unique_name;
use super::slot::{SYNC, Slot};
use super::{Address, Link};

pub struct SharedMemory {
    to_peer: Slot,
    from_peer: Slot,
    // After the slots, which point into it.
    _segment: Shmem,
}

impl Link for SharedMemory {
    type Payload = Vec<u8>;

    fn create(bytes: usize) -> (Self, Address) {
        let word = format!("/ringlane-{}", unique_name());
        let size = SYNC + bytes;
        let segment = ShmemConf::new()
            .os_id(&word)
            .size(2 * size)
            .create()
            .expect("a segment");
        let base = segment.as_ptr();
        // SAFETY: the mapping is page-aligned, `size` is a multiple of 8, there is room for two
        // slots, and they are dropped before the segment.
        let (to_peer, from_peer) = unsafe { (Slot::create(base), Slot::create(base.add(size))) };
        (
            Self {
                to_peer,
                from_peer,
                _segment: segment,
            },
            Address {
                word,
                inherited: Vec::new(),
            },
        )
    }

    fn open(address: &str, bytes: usize) -> Self {
        let segment = ShmemConf::new()
            .os_id(address)
            .open()
            .expect("the parent's segment");
        let base = segment.as_ptr();
        // SAFETY: as in `create`, which the parent has finished before it started this process.
        let (from_peer, to_peer) =
            unsafe { (Slot::open(base), Slot::open(base.add(SYNC + bytes))) };
        Self {
            to_peer,
            from_peer,
            _segment: segment,
        }
    }

    fn send(&mut self, payload: &Vec<u8>) {
        self.to_peer.put(payload);
    }

    fn recv(&mut self, payload: &mut Vec<u8>) {
        self.from_peer.take(payload);
    }
}
