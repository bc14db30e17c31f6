//! Contestant: the channel that one would write with the crates `shared_memory` and `raw_sync`.
//!
//! One slot a direction, whatever the capacity of the others: a mutex around the bytes, an event
//! that says "full" and one that says "empty". It is written the simple way on purpose and inherits
//! what the two crates lack: a killed holder leaves the mutex locked, and a killed owner leaves the
//! segment, if its name is still there.

use std::ptr;

use ::shared_memory::{Shmem, ShmemConf};
use raw_sync::Timeout;
use raw_sync::events::{Event, EventImpl, EventInit, EventState};
use raw_sync::locks::{LockImpl, LockInit, Mutex};
use rustix::shm;

use crate::channels::link::{Between, Link, Waiting};
use crate::channels::load::Load;
use crate::channels::peer::Address;
use crate::keeper;

/// Room for a slot's mutex and events, before its bytes.
const SYNC: usize = 512;

pub struct SharedMemory {
    to_peer: Slot,
    from_peer: Slot,
    buffer: Vec<u8>,
    load: Load,
    // After the slots, which point into it.
    segment: Shmem,
}

/// One message at a time, in one direction.
struct Slot {
    bytes: Box<dyn LockImpl>,
    full: Box<dyn EventImpl>,
    empty: Box<dyn EventImpl>,
}

impl Slot {
    /// Makes a slot in fresh memory.
    ///
    /// # Safety
    ///
    /// `at` is aligned to 8 and followed by `SYNC` and the payload's bytes, which outlive the slot.
    unsafe fn create(at: *mut u8) -> Self {
        // SAFETY: the caller's promise; each object is placed behind the one before it, and all
        // three fit into `SYNC`.
        unsafe {
            let (bytes, mutex_size) = Mutex::new(at, at.add(SYNC)).expect("a mutex");
            let (full, full_size) = Event::new(at.add(mutex_size), true).expect("an event");
            let (empty, empty_size) =
                Event::new(at.add(mutex_size + full_size), true).expect("an event");
            assert!(mutex_size + full_size + empty_size <= SYNC);
            empty.set(EventState::Signaled).expect("empty at first");
            Self { bytes, full, empty }
        }
    }

    /// Takes up the slot that `create` made.
    ///
    /// # Safety
    ///
    /// As for `create`, which has returned.
    unsafe fn open(at: *mut u8) -> Self {
        // SAFETY: the caller's promise; the objects lie where `create` put them, since both
        // functions are told the same sizes.
        unsafe {
            let (bytes, mutex_size) = Mutex::from_existing(at, at.add(SYNC)).expect("a mutex");
            let (full, full_size) = Event::from_existing(at.add(mutex_size)).expect("an event");
            let (empty, _) =
                Event::from_existing(at.add(mutex_size + full_size)).expect("an event");
            Self { bytes, full, empty }
        }
    }

    fn put(&self, payload: &[u8]) {
        let empty = self.empty.wait(Timeout::Infinite);
        empty.expect("wait until empty");
        let slot = self.bytes.lock().expect("lock");
        // SAFETY: the slot has room for the payload, and whoever else touches it holds the mutex.
        unsafe { ptr::copy_nonoverlapping(payload.as_ptr(), *slot, payload.len()) };
        drop(slot);
        self.full.set(EventState::Signaled).expect("say full");
    }

    fn take(&self, payload: &mut [u8]) {
        self.full.wait(Timeout::Infinite).expect("wait until full");
        let slot = self.bytes.lock().expect("lock");
        // SAFETY: the slot has as many bytes as the payload, and whoever else touches it holds the
        // mutex.
        unsafe { ptr::copy_nonoverlapping(*slot, payload.as_mut_ptr(), payload.len()) };
        drop(slot);
        self.empty.set(EventState::Signaled).expect("say empty");
    }
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
