//! A sender and a receiver who sleep when they must, are killed now and then, and have successors:
//! many messages, in orders drawn at random. They see each other's stores in the order in which
//! they were made; what else they may see is shown by `models`, for a few.

use super::*;
use crate::common::tally::{scale, tally};
use crate::doorbell::{self, News, SLICE, Slept};
use crate::layout::Bell;
use crate::sync::kills::killed_after;
use crate::sync::{draw, thread};
use shuttle::rand::{Rng, thread_rng};
use std::collections::BTreeSet;
use std::sync::Mutex;

/// Room for a few records.
const CAPACITY: usize = 128;
const MESSAGES: u64 = 12;
/// Payloads: none, the sizes that have ways of their own, any, and the largest.
const LENS: [usize; 6] = [0, 8, 16, 20, 33, 56];
/// No call stores more often than this.
const STORES: u32 = 6;

fn bytes(number: u64) -> Vec<u8> {
    payload(number, LENS[number as usize % LENS.len()])
}

/// Sleeps until it is rung, unless there is something to do.
fn sleep(bell: &Bell, ready: impl Fn() -> bool) {
    let slept = doorbell::sleep(bell, SLICE, || false, ready);
    assert!(matches!(slept, Slept::Ready | Slept::Rung), "{slept:?}");
}

struct Conversation {
    ring: Ring,
    kills: bool,
    /// What their sender did not send, as its successor found.
    unsent: Mutex<BTreeSet<u64>>,
}

impl Conversation {
    fn header(&self) -> &RingHeader {
        self.ring.header()
    }

    /// Does something, and is killed before one of its stores, or not.
    fn perhaps_killed<T>(&self, f: impl FnOnce() -> T) -> Option<T> {
        if self.kills && thread_rng().gen_ratio(1, 6) {
            killed_after(thread_rng().gen_range(0..STORES), f)
        } else {
            Some(f())
        }
    }

    /// Whether it is killed just before it rings.
    fn is_killed(&self) -> bool {
        self.kills && thread_rng().gen_ratio(1, 12)
    }

    /// The first of the messages from `number` on that was sent, or may be.
    fn next(&self, number: u64) -> u64 {
        let unsent = self.unsent.lock().unwrap();
        (number..).find(|n| !unsent.contains(n)).unwrap()
    }

    fn send_all(&self) {
        let mut me = first(1);
        let mut producer = Producer::attach(self.ring.clone(), me).unwrap();
        let mut news = News::none(self.header());
        let mut number = 0;
        while number < MESSAGES {
            // Noted before the look, for what comes after it.
            news.arrived(self.header());
            let before = producer.position();
            match self.perhaps_killed(|| super::send(&mut producer, &bytes(number))) {
                Some(Ok(_)) if !self.is_killed() => {
                    doorbell::ring(&self.header().sleepers.consumer, self.header(), false);
                    number += 1;
                    continue;
                }
                Some(Err(Refusal::Full)) => {
                    sleep(&self.header().sleepers.producer, || {
                        producer.head_moved() || news.pending(self.header())
                    });
                    continue;
                }
                Some(Err(other)) => panic!("{other:?}"),
                Some(Ok(_)) | None => {}
            }
            me = Incarnation {
                epoch: me.epoch + 1,
                is_heir: true,
            };
            producer = Producer::attach(self.ring.clone(), me).unwrap();
            news = News::none(self.header());
            // It was sent wholly or not at all. What was not is not sent again, so that one that
            // was all the same shows.
            if producer.position() == before {
                self.unsent.lock().unwrap().insert(number);
            }
            number += 1;
            doorbell::announce(self.header());
        }
    }

    fn receive_all(&self) {
        let mut peer = first(1);
        let attach = |peer| Consumer::attach(self.ring.clone(), peer).unwrap();
        let mut consumer = attach(peer);
        let mut news = News::none(self.header());
        let mut number = 0;
        loop {
            news.arrived(self.header());
            if self.next(number) == MESSAGES {
                break;
            }
            match consumer.peek() {
                Peek::Record(record) => {
                    number = self.next(number);
                    let before = record.position();
                    let taken = self.perhaps_killed(|| take(&mut consumer, record));
                    if let Some(taken) = &taken {
                        assert_eq!(*taken, bytes(number));
                    }
                    let is_alive = taken.is_some() && !self.is_killed();
                    if !is_alive {
                        consumer = attach(peer);
                        news = News::none(self.header());
                    }
                    // It was taken wholly, and perhaps lost with who took it, or not at all.
                    number += u64::from(consumer.position() > before);
                    if is_alive {
                        doorbell::ring(&self.header().sleepers.producer, self.header(), false);
                    } else {
                        doorbell::announce(self.header());
                    }
                }
                Peek::Empty => {
                    sleep(&self.header().sleepers.consumer, || {
                        consumer.is_ready() || news.pending(self.header())
                    });
                }
                Peek::Passed => {
                    doorbell::ring(&self.header().sleepers.producer, self.header(), false);
                }
                Peek::Other(next) => {
                    peer = next;
                    consumer.expect(peer);
                }
                Peek::Corrupt => panic!("nobody wrote anything but records"),
            }
        }
        assert!(!consumer.is_ready(), "more came than was sent");
    }
}

fn conversation(kills: bool) {
    let conversation = Arc::new(Conversation {
        ring: heap_ring(CAPACITY),
        kills,
        unsent: Mutex::default(),
    });
    let theirs = conversation.clone();
    let sender = thread::spawn(move || theirs.send_all());
    conversation.receive_all();
    sender.join().unwrap();
}

fn undisturbed() {
    conversation(false);
}

fn with_kills() {
    conversation(true);
}

#[test]
fn all_messages_arrive_in_order() {
    let count = scale(2_000, 15_000);
    let drawn = draw(count, undisturbed);
    tally(
        "model",
        "schedules of a sender and a receiver, drawn",
        drawn,
    );
    let drawn = draw(count, with_kills);
    tally(
        "model",
        "schedules of a sender and a receiver that are killed, drawn",
        drawn,
    );
}

#[test]
fn each_step_is_needed() {
    for (step, scene) in [
        (Step::SecondLook, undisturbed as fn()),
        (Step::BellBeforeWake, undisturbed),
        (Step::CopyFirst, undisturbed),
        (Step::ZeroNext, undisturbed),
        (Step::PutZeroNext, undisturbed),
        (Step::RoomInReach, undisturbed),
        (Step::RoomForNext, undisturbed),
        (Step::KindInHeader, undisturbed),
        (Step::Walk, with_kills),
        (Step::StartOfWalk, with_kills),
    ] {
        assert!(
            run_without(step, move || {
                draw(4_000, scene);
            }),
            "nothing fails without {step:?}"
        );
    }
}
