//! The ring against a `VecDeque`, an exhaustive model with a kill between any two stores, and (under
//! `cfg(loom)`) its memory order. Each is also run with one step taken out, and must then fail.

#[cfg(not(loom))]
mod kills;
#[cfg(loom)]
mod models;
#[cfg(not(loom))]
mod twin;

use super::*;
use crate::sync::run_without;

fn first(epoch: u32) -> Incarnation {
    Incarnation {
        epoch,
        is_heir: false,
    }
}

/// A ring on the heap.
struct HeapRing {
    header: RingHeader,
    words: Box<[AtomicU64]>,
}

fn heap_ring(capacity: usize) -> Ring {
    let words = (0..capacity / 8).map(|_| AtomicU64::default()).collect();
    let heap = Arc::new(HeapRing {
        header: RingHeader::default(),
        words,
    });
    let header = NonNull::from(&heap.header);
    let words = NonNull::new(heap.words.as_ptr().cast_mut()).unwrap();
    // SAFETY: both live in `heap`, which the ring keeps, and only atomics refer to them.
    unsafe { Ring::new(header, words, capacity as u64, heap) }
}

/// Bytes that differ from message to message and from place to place.
fn payload(seed: u64, len: usize) -> Vec<u8> {
    (0..len)
        .map(|i| (seed as usize * 31 + i * 7 + 1) as u8)
        .collect()
}

fn send(producer: &mut Producer, bytes: &[u8]) -> Result<(), Refusal> {
    let claim = producer.claim(bytes.len())?;
    producer.write(&claim, 0, bytes);
    producer.commit(claim, bytes.len());
    Ok(())
}

fn recv(consumer: &mut Consumer) -> Option<Vec<u8>> {
    match consumer.peek() {
        Peek::Empty | Peek::Passed => None,
        Peek::Record(record) => {
            let mut bytes = Vec::new();
            consumer.append(&record, &mut bytes);
            consumer.release(record);
            Some(bytes)
        }
        other => panic!("{other:?}"),
    }
}
