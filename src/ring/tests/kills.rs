//! Every sequence of sends, receives and kills up to a length, on the real code: a kill is an
//! unwind out of the k-th store, after which a successor attaches.

use super::*;
use crate::common::tally::{scale, tally};
use crate::sync::kills::{count, killed_after};
use std::collections::VecDeque;

#[derive(Clone, Copy, Debug)]
enum Act {
    Send(usize),
    Recv,
    RecvMany,
    KilledSend(usize, u32),
    KilledRecv(u32),
    KilledRecvMany(u32),
}

/// All that may be done; kills before each store. A kill before the first is the same whatever was
/// begun, and all but the last stores of a batch are those of its first message, and of one.
fn acts() -> Vec<Act> {
    let mut acts = vec![
        Act::Send(0),
        Act::Send(8),
        Act::Send(24),
        Act::Recv,
        Act::RecvMany,
        Act::KilledSend(0, 0),
        Act::KilledRecv(0),
    ];
    for len in [0, 24] {
        acts.extend((1..stores_of_send(len)).map(|stores| Act::KilledSend(len, stores)));
    }
    let (one, many) = stores_of_recv();
    acts.extend((1..one).map(Act::KilledRecv));
    acts.extend((one..many).map(Act::KilledRecvMany));
    acts
}

/// Of the most stores, over all places in the ring: some need padding, some no further look.
fn stores_of_send(len: usize) -> u32 {
    let stores = (0..8).flat_map(|place| {
        let mut world = World::new();
        for _ in 0..place {
            world.act(Act::Send(0));
            world.act(Act::Recv);
        }
        // The first of the two looks for room, the second finds it within reach if it can be.
        [(); 2].map(|()| {
            let (sent, stores) = count(|| send(&mut world.producer, &payload(1, len)));
            recv_many(&mut world.consumer);
            sent.unwrap();
            stores
        })
    });
    stores.max().unwrap()
}

/// Of a single message, and of a batch.
fn stores_of_recv() -> (u32, u32) {
    let mut world = World::new();
    (0..3).for_each(|_| world.act(Act::Send(8)));
    let ((), one) = count(|| drop(recv(&mut world.consumer)));
    let ((), many) = count(|| drop(recv_many(&mut world.consumer)));
    (one, many)
}

struct World {
    ring: Ring,
    producer: Producer,
    consumer: Consumer,
    twin: VecDeque<Vec<u8>>,
    serial: u64,
    done: Done,
}

/// What was done to all worlds.
#[derive(Clone, Copy, Debug, Default)]
struct Done {
    sequences: u64,
    /// Sends that needed no further look, and others.
    short: u64,
    long: u64,
    /// Kills of a send that needed no further look, and of another; of a receive.
    killed_short: u64,
    killed_long: u64,
    killed_recv: u64,
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
            done: Done::default(),
        }
    }

    fn act(&mut self, act: Act) {
        self.serial += 1;
        match act {
            Act::Send(len) => {
                let bytes = payload(self.serial, len);
                match send(&mut self.producer, &bytes) {
                    Ok(way) => {
                        match way {
                            Way::Short => self.done.short += 1,
                            Way::Long => self.done.long += 1,
                        }
                        self.twin.push_back(bytes);
                    }
                    Err(refusal) => {
                        assert_eq!(refusal, Refusal::Full);
                        assert!(!self.twin.is_empty(), "an empty ring takes any record");
                    }
                }
            }
            Act::Recv => assert_eq!(recv(&mut self.consumer), self.twin.pop_front()),
            Act::RecvMany => assert_eq!(recv_many(&mut self.consumer), self.drain()),
            Act::KilledSend(len, stores) => {
                let bytes = payload(self.serial, len);
                let is_short = fits(&self.producer, len);
                let sent = killed_after(stores, || send(&mut self.producer, &bytes));
                self.producer = Producer::attach(self.ring.clone(), first(1)).unwrap();
                // Acknowledged is delivered; not acknowledged is there whole or not at all.
                let there = self.producer.position() != self.expected_position();
                match sent {
                    Some(Ok(_)) => assert!(there),
                    Some(Err(_)) => assert!(!there),
                    None if is_short => self.done.killed_short += 1,
                    None => self.done.killed_long += 1,
                }
                if there {
                    self.twin.push_back(bytes);
                }
            }
            Act::KilledRecv(stores) => {
                let got = killed_after(stores, || recv(&mut self.consumer));
                match got {
                    Some(got) => assert_eq!(got, self.twin.pop_front()),
                    None => self.killed(1),
                }
                self.consumer = Consumer::attach(self.ring.clone(), first(1)).unwrap();
            }
            Act::KilledRecvMany(stores) => {
                let got = killed_after(stores, || recv_many(&mut self.consumer));
                match got {
                    Some(got) => assert_eq!(got, self.drain()),
                    None => self.killed(self.twin.len()),
                }
                self.consumer = Consumer::attach(self.ring.clone(), first(1)).unwrap();
            }
        }
        self.check();
    }

    fn drain(&mut self) -> Vec<Vec<u8>> {
        self.twin.drain(..).collect()
    }

    /// A receiver was killed. What it had taken is lost with it: at most `most` messages.
    fn killed(&mut self, most: usize) {
        self.done.killed_recv += 1;
        let left = self.ring.walk().unwrap().map(Result::unwrap);
        let left = left.filter(Walked::is_message).count();
        assert!(left <= self.twin.len() && self.twin.len() - left <= most);
        self.twin.drain(..self.twin.len() - left);
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

/// Whether a message of `len` bytes needs no further look.
fn fits(producer: &Producer, len: usize) -> bool {
    producer.position() + record_size(len as u64) <= producer.reach
}

/// Replays every sequence of so many of the acts.
fn all_sequences(acts: &[Act], depth: u32) -> Done {
    let count = acts.len() as u64;
    let mut done = Done::default();
    for sequence in 0..count.pow(depth) {
        let mut world = World::new();
        world.done = done;
        let mut rest = sequence;
        for _ in 0..depth {
            world.act(acts[(rest % count) as usize]);
            rest /= count;
        }
        // Whatever happened, the ring still takes and gives.
        while let Some(bytes) = recv(&mut world.consumer) {
            assert_eq!(Some(bytes), world.twin.pop_front());
        }
        assert!(world.twin.is_empty());
        done = world.done;
        done.sequences += 1;
    }
    done
}

#[test]
fn a_kill_between_any_two_stores_loses_nothing_acknowledged() {
    let done = all_sequences(&acts(), scale(4, 5) as u32);
    assert!(done.sequences >= 17u64.pow(4));
    assert!(done.short > 0 && done.long > 0, "{done:?}");
    assert!(done.killed_short > 0 && done.killed_long > 0, "{done:?}");
    let kills = done.killed_short + done.killed_long;
    tally(
        "model",
        "sequences of sends, receives and kills",
        done.sequences,
    );
    tally("model", "kills of a sender between two stores", kills);
    tally(
        "model",
        "kills of a receiver between two stores",
        done.killed_recv,
    );
}

#[test]
fn each_rule_is_needed() {
    let acts = acts();
    for step in [
        Step::ZeroNext,
        Step::PutZeroNext,
        Step::RoomForNext,
        Step::RoomInReach,
        Step::KindInHeader,
        Step::Walk,
    ] {
        let noticed = run_without(step, || {
            all_sequences(&acts, 4);
        });
        assert!(noticed, "no sequence notices the lack of {step:?}");
    }
}
