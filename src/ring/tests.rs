//! The ring against a `VecDeque`, an exhaustive model with a kill between any two stores, and (under
//! `cfg(loom)`) its memory order. Each is also run with one step taken out, and must then fail.

#[cfg(not(loom))]
mod kills;
#[cfg(all(loom, not(shuttle)))]
mod models;
#[cfg(not(loom))]
mod mutations;
#[cfg(shuttle)]
mod schedules;
#[cfg(not(loom))]
mod threads;
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

/// How a message got into the ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// It needed no further look.
    Short,
    Long,
}

/// As `Sender` does it.
fn send(producer: &mut Producer, bytes: &[u8]) -> Result<Way, Refusal> {
    if let Some(to) = producer.put(producer.progress(), bytes) {
        producer.advance(to);
        return Ok(Way::Short);
    }
    let claim = producer.claim(bytes.len())?;
    producer.fill(&claim, bytes);
    producer.commit(claim, bytes.len());
    Ok(Way::Long)
}

/// As `Receiver` does it: what has a fixed size is taken as a value, the rest is appended.
fn take(consumer: &mut Consumer, record: Record) -> Vec<u8> {
    fn value<const N: usize>(consumer: &mut Consumer, record: Record) -> Vec<u8> {
        let value = consumer.take::<[u8; N], ()>(record, |_| (), || ());
        value.unwrap().into()
    }
    match record.len() {
        0 => value::<0>(consumer, record),
        8 => value::<8>(consumer, record),
        16 => value::<16>(consumer, record),
        504 => value::<504>(consumer, record),
        _ => {
            let mut bytes = Vec::new();
            consumer.append(&record, &mut bytes);
            consumer.release(record);
            bytes
        }
    }
}

fn recv(consumer: &mut Consumer) -> Option<Vec<u8>> {
    match consumer.peek() {
        Peek::Empty | Peek::Passed => None,
        Peek::Record(record) => Some(take(consumer, record)),
        other => panic!("{other:?}"),
    }
}

/// All that is there, as `Receiver::recv_many` does it: the first by itself, the rest together.
fn recv_many(consumer: &mut Consumer) -> Vec<Vec<u8>> {
    let mut all: Vec<_> = recv(consumer).into_iter().collect();
    let start = consumer.progress();
    let mut progress = start;
    while !all.is_empty() {
        let record = match consumer.peek_usual(progress) {
            Some(record) => record,
            None => match consumer.peek() {
                Peek::Record(record) => record,
                _ => break,
            },
        };
        if !consumer.is_within_a_lap(start, &record) {
            break;
        }
        let mut bytes = Vec::new();
        consumer.append(&record, &mut bytes);
        all.push(bytes);
        progress = consumer.pass(progress, record);
    }
    consumer.publish_received();
    all
}
