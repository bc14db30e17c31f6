//! Every sequence of sends, receives and kills up to a length, on the real code: a kill is an
//! unwind out of the k-th store, after which a successor attaches.

use super::*;
use crate::common::tally::scale;
use crate::sync::kills::killed_after;
use std::collections::VecDeque;

#[derive(Clone, Copy, Debug)]
enum Act {
    Send(usize),
    Recv,
    KilledSend(usize, u32),
    KilledRecv(u32),
}

const ACTS: &[Act] = &[
    Act::Send(0),
    Act::Send(8),
    Act::Send(24),
    Act::Recv,
    Act::KilledSend(0, 0),
    Act::KilledSend(0, 1),
    Act::KilledSend(0, 2),
    Act::KilledSend(0, 3),
    Act::KilledSend(24, 1),
    Act::KilledSend(24, 2),
    Act::KilledSend(24, 3),
    Act::KilledSend(24, 4),
    Act::KilledRecv(0),
    Act::KilledRecv(1),
];

struct World {
    ring: Ring,
    producer: Producer,
    consumer: Consumer,
    twin: VecDeque<Vec<u8>>,
    serial: u64,
}

impl World {
    fn new() -> Self {
        let ring = heap_ring(64);
        World {
            producer: Producer::attach(ring.clone(), first(1)).unwrap(),
            consumer: Consumer::attach(ring.clone(), first(1)).unwrap(),
            ring,
            twin: VecDeque::new(),
            serial: 0,
        }
    }

    fn act(&mut self, act: Act) {
        self.serial += 1;
        match act {
            Act::Send(len) => {
                let bytes = payload(self.serial, len);
                match send(&mut self.producer, &bytes) {
                    Ok(()) => self.twin.push_back(bytes),
                    Err(refusal) => {
                        assert_eq!(refusal, Refusal::Full);
                        assert!(!self.twin.is_empty(), "an empty ring takes any record");
                    }
                }
            }
            Act::Recv => assert_eq!(recv(&mut self.consumer), self.twin.pop_front()),
            Act::KilledSend(len, stores) => {
                let bytes = payload(self.serial, len);
                let sent = killed_after(stores, || send(&mut self.producer, &bytes));
                self.producer = Producer::attach(self.ring.clone(), first(1)).unwrap();
                // Acknowledged is delivered; not acknowledged is there whole or not at all.
                let there = self.producer.position() != self.expected_position();
                match sent {
                    Some(Ok(())) => assert!(there),
                    Some(Err(_)) => assert!(!there),
                    None => {}
                }
                if there {
                    self.twin.push_back(bytes);
                }
            }
            Act::KilledRecv(stores) => {
                let got = killed_after(stores, || recv(&mut self.consumer));
                let position = self.consumer.position();
                self.consumer = Consumer::attach(self.ring.clone(), first(1)).unwrap();
                match got {
                    Some(got) => assert_eq!(got, self.twin.pop_front()),
                    // Taken, and lost with its receiver: at most one.
                    None if self.consumer.position() == position => {
                        self.twin.pop_front();
                    }
                    None => {}
                }
            }
        }
        self.check();
    }

    /// Where a producer stands that committed just what the twin holds.
    fn expected_position(&self) -> u64 {
        let mut walk = self.ring.walk().unwrap();
        let mut position = walk.start;
        for _ in &self.twin {
            loop {
                let record = walk.next().unwrap().unwrap();
                position = record.end();
                if record.is_message() {
                    break;
                }
            }
        }
        position
    }

    /// What lies in the ring is what the twin holds.
    fn check(&self) {
        let records = self.ring.walk().unwrap().map(Result::unwrap);
        let messages = records.filter(Walked::is_message);
        let bytes: Vec<_> = messages.map(|r| self.ring.copy_payload(&r, 64)).collect();
        assert!(
            bytes.iter().eq(self.twin.iter()),
            "{bytes:?} is not {:?}",
            self.twin
        );
    }
}

/// Replays every sequence of `depth` acts.
fn all_sequences(depth: u32) -> u64 {
    let count = (ACTS.len() as u64).pow(depth);
    for sequence in 0..count {
        let mut world = World::new();
        let mut rest = sequence;
        for _ in 0..depth {
            world.act(ACTS[(rest % ACTS.len() as u64) as usize]);
            rest /= ACTS.len() as u64;
        }
        // Whatever happened, the ring still takes and gives.
        while let Some(bytes) = recv(&mut world.consumer) {
            assert_eq!(Some(bytes), world.twin.pop_front());
        }
        assert!(world.twin.is_empty());
    }
    count
}

#[test]
fn a_kill_between_any_two_stores_loses_nothing_acknowledged() {
    let depth = scale(5, 6, 7) as u32;
    assert!(all_sequences(depth) >= 14u64.pow(5));
}

#[test]
fn each_rule_is_needed() {
    for step in [
        Step::ZeroNext,
        Step::RoomForNext,
        Step::KindInHeader,
        Step::Walk,
    ] {
        let noticed = run_without(step, || {
            all_sequences(5);
        });
        assert!(noticed, "no sequence notices the lack of {step:?}");
    }
}
