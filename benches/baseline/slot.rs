//! One message at a time through memory that two processes share, by `raw_sync`: a mutex around the
//! bytes, an event that says "full" and one that says "empty". The shootout uses this file too.

use std::ptr;

use raw_sync::Timeout;
use raw_sync::events::{Event, EventImpl, EventInit, EventState};
use raw_sync::locks::{LockImpl, LockInit, Mutex};

/// Room for a slot's mutex and events, before its bytes.
pub const SYNC: usize = 512;

/// One direction.
pub struct Slot {
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
    pub unsafe fn create(at: *mut u8) -> Self {
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
    pub unsafe fn open(at: *mut u8) -> Self {
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

    pub fn put(&self, payload: &[u8]) {
        let empty = self.empty.wait(Timeout::Infinite);
        empty.expect("wait until empty");
        let slot = self.bytes.lock().expect("lock");
        // SAFETY: the slot has room for the payload, and whoever else touches it holds the mutex.
        unsafe { ptr::copy_nonoverlapping(payload.as_ptr(), *slot, payload.len()) };
        drop(slot);
        self.full.set(EventState::Signaled).expect("say full");
    }

    pub fn take(&self, payload: &mut [u8]) {
        self.full.wait(Timeout::Infinite).expect("wait until full");
        let slot = self.bytes.lock().expect("lock");
        // SAFETY: the slot has as many bytes as the payload, and whoever else touches it holds the
        // mutex.
        unsafe { ptr::copy_nonoverlapping(*slot, payload.as_mut_ptr(), payload.len()) };
        drop(slot);
        self.empty.set(EventState::Signaled).expect("say empty");
    }
}
