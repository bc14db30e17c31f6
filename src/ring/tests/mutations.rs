//! Rings of which up to four words are not what they were, before the two sides attach or while
//! they work: a side that attaches and goes on gets records that lie within the ring, or `Corrupt`.

use super::*;
use crate::common::cases::{Cases, mutated};
use crate::common::random::Random;
use crate::common::tally::{scale, tally};
use std::collections::VecDeque;

const LEAST: usize = 64;
const MOST: usize = 8192;
/// Words before and behind a ring that nobody may touch.
const FENCE: usize = 16;
const FENCE_WORD: u64 = 0xfe0c_efe0_cefe_0cef;

/// A ring between two fences.
struct Fenced {
    header: RingHeader,
    words: Box<[AtomicU64]>,
}

impl Fenced {
    fn new() -> Arc<Fenced> {
        let words = MOST / 8 + 2 * FENCE;
        Arc::new(Fenced {
            header: RingHeader::default(),
            words: (0..words).map(|_| FENCE_WORD.into()).collect(),
        })
    }

    /// A ring of so many bytes, anew.
    fn ring(self: &Arc<Fenced>, capacity: usize) -> Ring {
        for word in self.header_words() {
            word.store(0, Relaxed);
        }
        for (at, word) in self.words.iter().enumerate() {
            let inside = (FENCE..FENCE + capacity / 8).contains(&at);
            word.store(if inside { 0 } else { FENCE_WORD }, Relaxed);
        }
        let header = NonNull::from(&self.header);
        let words = NonNull::new(self.words[FENCE..].as_ptr().cast_mut()).unwrap();
        // SAFETY: both live in `self`, which the ring keeps, and only atomics refer to them.
        unsafe { Ring::new(header, words, capacity as u64, self.clone()) }
    }

    /// All that sides load, and what is only for pictures.
    fn header_words(&self) -> [&AtomicU64; 11] {
        let RingHeader {
            producer, consumer, ..
        } = &self.header;
        [
            &consumer.head,
            &consumer.seen,
            &consumer.received,
            &consumer.mode,
            &consumer.closed,
            &producer.tail,
            &producer.sent,
            &producer.peak,
            &producer.full,
            &producer.closed,
            &producer.sleeps,
        ]
    }

    fn check(&self, capacity: usize) {
        let (before, rest) = self.words.split_at(FENCE);
        for word in before.iter().chain(&rest[capacity / 8..][..FENCE]) {
            assert_eq!(word.load(Relaxed), FENCE_WORD, "outside of the ring");
        }
    }
}

/// A sound ring, as some traffic leaves it.
struct Image {
    ring: Ring,
    header: [u64; 11],
    words: Vec<u64>,
    head: u64,
    /// Where the next record goes.
    tail: u64,
    /// Where records begin, and what they hold.
    messages: VecDeque<(u64, Vec<u8>)>,
}

impl Image {
    fn new(fenced: &Arc<Fenced>, random: &mut Random) -> Image {
        // Seldom one whose records are large enough to be copied by `memcpy`.
        let capacity = match random.below(32) {
            0 => MOST,
            _ => LEAST << random.below(5),
        };
        let ring = fenced.ring(capacity);
        // Positions have any distance from the first one.
        let start = match random.below(4) {
            0 => 0,
            1 => 8 * random.below(1 << 20),
            2 => MAX_POSITION - (1 << 15) - 8 * random.below(200),
            _ => (1 << 32) - 8 * random.below(200),
        };
        ring.header().consumer.head.store(start, Relaxed);
        let mut producer = Producer::attach(ring.clone(), first(1)).unwrap();
        let mut consumer = Consumer::attach(ring.clone(), first(1)).unwrap();
        let mut messages = VecDeque::new();
        for serial in 0..random.below(24) {
            let len = random.below(capacity as u64) as usize >> random.below(6);
            let bytes = payload(serial, len);
            if send(&mut producer, &bytes).is_ok() {
                messages.push_back((0, bytes));
            } else if random.below(2) == 0 {
                let got = recv(&mut consumer);
                assert_eq!(got, messages.pop_front().map(|message| message.1));
            }
            if random.below(12) == 0 {
                producer.discard_undelivered().unwrap();
                messages.clear();
            }
        }
        let walk = ring.walk().unwrap().map(Result::unwrap);
        let positions = walk.filter(Walked::is_message).map(|r| r.position);
        for (message, position) in messages.iter_mut().zip(positions) {
            message.0 = position;
        }
        Image {
            header: fenced.header_words().map(|word| word.load(Relaxed)),
            words: (0..capacity as u64 / 8)
                .map(|i| ring.record_header(8 * i).load(Relaxed))
                .collect(),
            head: consumer.position(),
            tail: producer.position(),
            messages,
            ring,
        }
    }

    fn restore(&self, fenced: &Fenced) {
        for (word, value) in fenced.header_words().iter().zip(self.header) {
            word.store(value, Relaxed);
        }
        for (word, value) in fenced.words[FENCE..].iter().zip(&self.words) {
            word.store(*value, Relaxed);
        }
    }

    /// A position near one that means something.
    fn position(&self, random: &mut Random) -> u64 {
        let capacity = self.ring.capacity;
        let near = match random.below(7) {
            0 => self.head,
            1 => self.tail,
            2 => self.head.wrapping_add(capacity),
            3 => self.tail.wrapping_sub(capacity),
            4 => capacity,
            5 => MAX_POSITION,
            _ => 0,
        };
        near.wrapping_add(8 * random.below(9)).wrapping_sub(32)
    }

    /// A header that may be one, of a length near a limit, for a record at `position`.
    fn record_header(&self, random: &mut Random, position: u64) -> u64 {
        let ring = &self.ring;
        let near = match random.below(5) {
            0 => 0,
            1 => ring.max_len() as u64,
            2 => ring.to_end(position) - HEADER,
            3 => ring.capacity,
            _ => u64::from(u32::MAX) - 8,
        };
        let len = near.wrapping_add(random.below(18)).saturating_sub(8) as u32;
        let epoch = random.below(3);
        epoch << 40 | random.below(6) << 32 | u64::from(len)
    }

    /// Changes one word, and says whether it is another now.
    fn mutate(&self, fenced: &Fenced, random: &mut Random) -> bool {
        let other = self.words[random.below(self.words.len() as u64) as usize];
        if random.below(3) == 0 {
            let words = fenced.header_words();
            let at = random.below(2 * words.len() as u64) as usize;
            // The head is what matters most.
            let word = words[if at < words.len() { at } else { 0 }];
            let old = word.load(Relaxed);
            let value = match random.below(2) {
                0 => self.position(random),
                _ => mutated(random, old, other),
            };
            word.store(value, Relaxed);
            return value != old;
        }
        let position = match random.below(6) {
            0 => self.head,
            1 => self.tail,
            2..5 if !self.messages.is_empty() => {
                let at = random.below(self.messages.len() as u64) as usize;
                self.messages[at].0
            }
            // As often the last one as any.
            5 => self.ring.capacity - 8,
            _ => 8 * random.below(self.ring.capacity / 8),
        };
        let word = self.ring.record_header(position);
        let old = word.load(Relaxed);
        let value = match random.below(4) {
            0..2 => self.record_header(random, position),
            2 => self.position(random),
            _ => mutated(random, old, other),
        };
        word.store(value, Relaxed);
        value != old
    }
}

/// Does something as the producer.
fn produce(producer: &mut Producer, random: &mut Random) {
    let max = producer.ring().max_len();
    let len = match random.below(3) {
        0 => random.below(17) as usize,
        1 => random.below(max as u64 + 1) as usize,
        _ => max + random.below(3) as usize - 1,
    };
    static BYTES: [u8; MOST] = [7; MOST];
    match random.below(8) {
        0..3 => match producer.put(producer.progress(), &BYTES[..len]) {
            Some(to) => producer.advance(to),
            None => drop(send(producer, &BYTES[..len])),
        },
        3 => {
            if let Ok(claim) = producer.claim(len) {
                let kept = random.below(len as u64 + 1) as usize;
                producer.overwrite(&claim, len - kept, &BYTES[..kept]);
                producer.commit(claim, kept);
            }
        }
        4 => drop(producer.claim(len)),
        5 => drop(producer.refresh()),
        6 => drop(producer.discard_undelivered()),
        _ => drop((producer.head_moved(), producer.position(), producer.sent())),
    }
}

/// Does something as the consumer; `false` if it is over for it.
fn consume(consumer: &mut Consumer, random: &mut Random, out: &mut Vec<u8>) -> bool {
    match random.below(16) {
        0 => drop(consumer.oldest()),
        1 => return consumer.discard_undelivered().is_ok(),
        2 => drop((consumer.is_ready(), consumer.received())),
        _ => {}
    }
    let record = match consumer.peek() {
        Peek::Record(record) => record,
        Peek::Other(peer) => {
            consumer.expect(peer);
            return true;
        }
        Peek::Empty | Peek::Passed => return true,
        Peek::Corrupt => return false,
    };
    let len = record.len();
    assert!(record_size(len as u64) <= consumer.ring().to_end(record.position()));
    assert!(len <= consumer.ring().max_len());
    match random.below(8) {
        0 => {
            let value = consumer.take::<bool, _>(record, |_| (), || ());
            assert!(value.is_err() || len == 1);
            return true;
        }
        1 => {
            let value = consumer.take::<[u64; 2], _>(record, |_| (), || ());
            assert_eq!(value.is_ok(), len == 16);
            return true;
        }
        2 => drop(consumer.read::<char, _>(&record, || ())),
        3 => {
            let at = random.below(len as u64 + 1) as usize;
            out.resize(len - at, 0);
            consumer.copy(&record, at, out);
        }
        4 => {
            consumer.mark_seen(&record);
            let _ = consumer.redelivered(&record);
        }
        _ => {
            out.clear();
            consumer.append(&record, out);
            assert_eq!(out.len(), len);
        }
    }
    match random.below(8) {
        // It is kept.
        0 => {}
        // As `recv_many` does.
        1 => {
            let start = consumer.progress();
            let mut progress = consumer.pass(start, record);
            let mut count = 1;
            while let Some(record) = consumer.peek_usual(progress) {
                if !consumer.is_within_a_lap(start, &record) {
                    break;
                }
                progress = consumer.pass(progress, record);
                count += 1;
            }
            assert!(count <= consumer.ring().capacity / HEADER);
            consumer.publish_received();
        }
        _ => consumer.release(record),
    }
    true
}

/// What the inspector does.
fn walk(ring: &Ring, out: &mut Vec<u8>) {
    let Ok(records) = ring.walk() else {
        return;
    };
    let mut count = 0;
    for record in records {
        count += 1;
        if let Ok(record) = record {
            *out = ring.copy_payload(&record, 24);
            assert!(out.len() == record.len.min(24));
        }
    }
    assert!(count <= ring.capacity / HEADER + 1);
}

/// What was sent is received: the ring is sound, and this test would notice if it were not.
fn receive_all(image: &Image) {
    let mut consumer = Consumer::attach(image.ring.clone(), first(1)).unwrap();
    for (_, bytes) in &image.messages {
        assert_eq!(recv(&mut consumer).as_ref(), Some(bytes));
    }
    assert_eq!(recv(&mut consumer), None);
    let mut producer = Producer::attach(image.ring.clone(), first(1)).unwrap();
    assert_eq!(producer.position(), image.tail);
    send(&mut producer, b"more").unwrap();
    assert_eq!(recv(&mut consumer).as_deref(), Some(&b"more"[..]));
}

#[test]
fn mutated_rings_give_records_or_corrupt() {
    const CASES_OF_AN_IMAGE: usize = 500;
    let mut random = Random::printed();
    let fenced = Fenced::new();
    let cases = Cases::new("mutated rings");
    let (mut attached, mut at_rest, mut live) = (0, 0, 0);
    let mut out = Vec::new();
    while cases.count() < scale(600_000, 45_000_000) {
        let image = Image::new(&fenced, &mut random);
        receive_all(&image);
        for _ in 0..CASES_OF_AN_IMAGE {
            cases.begin();
            image.restore(&fenced);
            let mut left = 1 + random.below(4);
            let is_live = random.below(3) == 0;
            let mut is_mutated = false;
            while left > 0 && (!is_live || random.below(2) == 0) {
                left -= 1;
                is_mutated |= image.mutate(&fenced, &mut random);
            }
            let ring = &image.ring;
            let peer = first(random.below(8) as u32 / 7 + 1);
            let mut producer = Producer::attach(ring.clone(), peer).ok();
            let mut consumer = Consumer::attach(ring.clone(), peer).ok();
            attached += u64::from(producer.is_some() || consumer.is_some());
            for _ in 0..6 {
                if is_live && left > 0 {
                    left -= 1;
                    is_mutated |= image.mutate(&fenced, &mut random);
                }
                let goes_on = match (&mut producer, &mut consumer) {
                    (Some(producer), _) if random.below(2) == 0 => {
                        produce(producer, &mut random);
                        true
                    }
                    (_, Some(consumer)) => consume(consumer, &mut random, &mut out),
                    _ => true,
                };
                if !goes_on {
                    consumer = None;
                }
            }
            if random.below(8) == 0 {
                walk(ring, &mut out);
            }
            fenced.check(ring.capacity as usize);
            *if is_live { &mut live } else { &mut at_rest } += u64::from(is_mutated);
        }
    }
    let count = cases.count() as u64;
    assert!(2 * attached > count, "{attached} of {count} attached");
    tally("corrupt", "mutated rings", at_rest);
    tally("hostile", "rings mutated while both sides work", live);
    println!("{attached} of {count} attached");
}
