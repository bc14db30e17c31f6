//! Two sides at once, in every order of their steps, and with all that each may see of the other's
//! stores.

use super::*;
use crate::sync::kills::killed_after;
use loom::thread;

/// One cell for each word of the ring. Loom does not let a load see a later store, so it would
/// miss payload that is read after its room was given back; a cell that is touched where the
/// payload is must be ordered by the two edges, else loom reports the race.
struct Shadow(Vec<loom::cell::UnsafeCell<()>>);

// SAFETY: loom checks every access to the cells.
unsafe impl Sync for Shadow {}
// SAFETY: as above.
unsafe impl Send for Shadow {}

impl Shadow {
    fn of(ring: &Ring) -> Arc<Shadow> {
        let words = ring.capacity() / 8;
        Arc::new(Shadow((0..words).map(|_| Default::default()).collect()))
    }

    fn at(&self, position: u64) -> &loom::cell::UnsafeCell<()> {
        let words = self.0.len();
        &self.0[(position + HEADER) as usize / 8 % words]
    }
}

/// Both sides of a ring with nothing in it, whose next record begins at `position`.
fn sides(capacity: usize, position: u64) -> (Ring, Producer, Consumer) {
    let ring = heap_ring(capacity);
    ring.header().consumer.head.store(position, Relaxed);
    let producer = Producer::attach(ring.clone(), first(1)).unwrap();
    let consumer = Consumer::attach(ring.clone(), first(1)).unwrap();
    (ring, producer, consumer)
}

/// As `Sender` sends, waiting for room.
fn send(producer: &mut Producer, shadow: &Shadow, bytes: &[u8]) {
    loop {
        let position = producer.position();
        if position + record_size(bytes.len() as u64) <= producer.reach {
            shadow.at(position).with_mut(|_| ());
            let to = producer.put(producer.progress(), bytes).unwrap();
            return producer.advance(to);
        }
        match producer.claim(bytes.len()) {
            Ok(claim) => {
                shadow.at(claim.start).with_mut(|_| ());
                producer.fill(&claim, bytes);
                return producer.commit(claim, bytes.len());
            }
            Err(refusal) => assert_eq!(refusal, Refusal::Full),
        }
        thread::yield_now();
    }
}

/// Where there is room, and nobody reads what is overwritten.
fn send_now(producer: &mut Producer, bytes: &[u8]) {
    super::send(producer, bytes).unwrap();
}

/// As `Receiver` receives, if there is a message.
fn try_recv(consumer: &mut Consumer, shadow: &Shadow) -> Option<Vec<u8>> {
    match consumer.peek() {
        Peek::Record(record) => {
            shadow.at(record.position()).with(|_| ());
            Some(take(consumer, record))
        }
        Peek::Empty | Peek::Passed => None,
        other => panic!("{other:?}"),
    }
}

/// Waiting for one.
fn recv(consumer: &mut Consumer, shadow: &Shadow) -> Vec<u8> {
    loop {
        match try_recv(consumer, shadow) {
            Some(bytes) => return bytes,
            None => thread::yield_now(),
        }
    }
}

fn number(i: u64) -> [u8; 8] {
    i.to_ne_bytes()
}

/// Two laps of a ring that holds one small record: every commit and every overwrite races.
fn wrap() {
    loom::model(|| {
        let (ring, mut producer, mut consumer) = sides(32, 0);
        let shadow = Shadow::of(&ring);
        let written = shadow.clone();
        let sender = thread::spawn(move || {
            (1..=3).for_each(|i| send(&mut producer, &written, &number(i)));
        });
        for i in 1..=3 {
            assert_eq!(recv(&mut consumer, &shadow), number(i));
        }
        sender.join().unwrap();
        assert!(matches!(consumer.peek(), Peek::Empty));
    });
}

/// A lap of a ring with two records in it. The last is written over the first; if both were taken
/// when the sender last looked, without a further look.
fn lap() {
    loom::model(|| {
        let (ring, mut producer, mut consumer) = sides(64, 32);
        let shadow = Shadow::of(&ring);
        (1..=2).for_each(|i| send(&mut producer, &shadow, &number(i)));
        let written = shadow.clone();
        let sender = thread::spawn(move || {
            (3..=5).for_each(|i| send(&mut producer, &written, &number(i)));
        });
        for i in 1..=5 {
            assert_eq!(recv(&mut consumer, &shadow), number(i));
        }
        sender.join().unwrap();
        assert!(matches!(consumer.peek(), Peek::Empty));
    });
}

/// A record whose room, once it is given back, is at once that of another's payload.
fn take_beside_overwriting() {
    loom::model(|| {
        let (ring, mut producer, mut consumer) = sides(64, 8);
        let shadow = Shadow::of(&ring);
        (1..=2).for_each(|i| send(&mut producer, &shadow, &[i; 16]));
        // Behind padding.
        let sender = thread::spawn(move || send(&mut producer, &shadow, &[3; 16]));
        let Peek::Record(record) = consumer.peek() else {
            panic!("it is there");
        };
        assert_eq!(take(&mut consumer, record), [1; 16]);
        sender.join().unwrap();
    });
}

/// A successor begins while what its predecessor sent is received, and sends.
fn succeed() {
    loom::model(|| {
        let (ring, mut producer, mut consumer) = sides(64, 0);
        let shadow = Shadow::of(&ring);
        send(&mut producer, &shadow, &number(1));
        let written = shadow.clone();
        let sender = thread::spawn(move || {
            let mut successor = Producer::attach(ring, first(1)).unwrap();
            send(&mut successor, &written, &number(2));
        });
        let mut got: Vec<_> = (0..2)
            .filter_map(|_| try_recv(&mut consumer, &shadow))
            .collect();
        sender.join().unwrap();
        got.extend((0..2).filter_map(|_| try_recv(&mut consumer, &shadow)));
        assert_eq!(got, [number(1), number(2)]);
    });
}

/// A sender is killed before one of its stores; its successor sends. The receiver stores nothing,
/// since it would count with the sender.
fn killed_sender() {
    // The next header, the header, and two mirrors.
    const STORES: u32 = 4;
    for stores in 0..=STORES {
        loom::model(move || {
            let (ring, mut producer, mut consumer) = sides(64, 0);
            send_now(&mut producer, &number(1));
            let committed = thread::spawn(move || {
                let before = producer.position();
                let sent = killed_after(stores, || send_now(&mut producer, &number(2)));
                assert_eq!(sent.is_some(), stores == STORES);
                let mut successor = Producer::attach(ring, first(1)).unwrap();
                let committed = successor.position() != before;
                send_now(&mut successor, &number(3));
                committed
            });
            let mut got = Vec::new();
            let mut look = || {
                if let Peek::Record(record) = consumer.peek() {
                    consumer.append(&record, &mut got);
                    consumer.pass(consumer.progress(), record);
                }
            };
            (0..2).for_each(|_| look());
            let committed = committed.join().unwrap();
            (0..3).for_each(|_| look());
            let sent = if committed { &[1, 2, 3][..] } else { &[1, 3] };
            assert_eq!(
                got,
                sent.iter().copied().flat_map(number).collect::<Vec<_>>()
            );
        });
    }
}

/// A successor takes back what its predecessor sent, and sends. Behind that lies what was there a
/// lap before.
fn discard() {
    loom::model(|| {
        let (ring, mut producer, mut consumer) = sides(64, 0);
        ring.record_header(16).store(1 << 40 | DATA << 32, Relaxed);
        let shadow = Shadow::of(&ring);
        let written = shadow.clone();
        let senders = thread::spawn(move || {
            send(&mut producer, &written, &number(1));
            let mut successor = Producer::attach(ring, first(1)).unwrap();
            successor.discard_undelivered().unwrap();
            send(&mut successor, &written, &number(2));
        });
        // A few tries, since one that waits would have loom try for ever.
        let mut got: Vec<_> = (0..3)
            .filter_map(|_| try_recv(&mut consumer, &shadow))
            .collect();
        senders.join().unwrap();
        got.extend((0..2).filter_map(|_| try_recv(&mut consumer, &shadow)));
        assert!(
            got == [number(2)] || got == [number(1), number(2)],
            "{got:?}"
        );
    });
}

/// Somebody takes a picture while a message comes and goes. Behind it lies what was there a lap
/// before.
fn picture() {
    loom::model(|| {
        let (ring, mut producer, mut consumer) = sides(64, 0);
        ring.record_header(16).store(1 << 40 | DATA << 32, Relaxed);
        let shadow = Shadow::of(&ring);
        let theirs = ring.clone();
        let others = thread::spawn(move || {
            send(&mut producer, &shadow, &number(1));
            assert_eq!(recv(&mut consumer, &shadow), number(1));
        });
        for record in ring.walk().unwrap() {
            assert_eq!(theirs.copy_payload(&record.unwrap(), 8), number(1));
        }
        others.join().unwrap();
    });
}

#[test]
fn records_arrive_whole_and_in_order() {
    wrap();
    lap();
}

#[test]
fn a_record_is_copied_before_its_room_is_written() {
    take_beside_overwriting();
}

#[test]
fn a_successor_goes_on_where_its_predecessor_stopped() {
    succeed();
}

#[test]
fn a_killed_sender_leaves_a_whole_message_or_none() {
    killed_sender();
}

#[test]
fn what_a_successor_takes_back_is_passed_over_or_arrives_whole() {
    discard();
}

#[test]
fn a_picture_shows_what_was_committed() {
    picture();
}

#[test]
fn each_ordering_is_needed() {
    for (step, model) in [
        (Step::CommitRelease, wrap as fn()),
        (Step::CommitRelease, lap),
        (Step::PutRelease, lap),
        (Step::PutRelease, killed_sender),
        (Step::Walk, killed_sender),
        (Step::PeekAcquire, wrap),
        (Step::PeekAcquire, lap),
        (Step::UsualAcquire, wrap),
        (Step::UsualAcquire, lap),
        (Step::PassAcquire, discard),
        (Step::HeadRelease, wrap),
        (Step::HeadRelease, lap),
        (Step::HeadAcquire, wrap),
        (Step::HeadAcquire, lap),
        (Step::ZeroNext, wrap),
        (Step::PutZeroNext, lap),
        (Step::CopyFirst, take_beside_overwriting),
        (Step::StartOfWalk, succeed),
        (Step::DiscardRelease, discard),
        (Step::WalkHeadFirst, picture),
        (Step::WalkHeaderFirst, picture),
    ] {
        assert!(
            run_without(step, model),
            "the model does not notice the lack of {step:?}"
        );
    }
}
