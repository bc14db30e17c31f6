//! The ring against a `VecDeque`, an exhaustive model with a kill between any two stores, and (under
//! `cfg(loom)`) its memory order. Each is also run with one step taken out, and must then fail.

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

#[cfg(loom)]
mod models {
    use super::*;
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
        fn at(&self, start: u64) -> &loom::cell::UnsafeCell<()> {
            &self.0[((start + HEADER) % 32 / 8) as usize]
        }
    }

    // Two laps of a ring that holds one small record: every commit and every overwrite races.
    fn wrap() {
        loom::model(|| {
            let ring = heap_ring(32);
            let shadow = Arc::new(Shadow((0..4).map(|_| Default::default()).collect()));
            let mut producer = Producer::attach(ring.clone(), first(1)).unwrap();
            let mut consumer = Consumer::attach(ring, first(1)).unwrap();
            let written = shadow.clone();
            let sender = thread::spawn(move || {
                for i in 1..=3u64 {
                    let claim = loop {
                        match producer.claim(8) {
                            Ok(claim) => break claim,
                            Err(refusal) => assert_eq!(refusal, Refusal::Full),
                        }
                        thread::yield_now();
                    };
                    written
                        .at(claim.start)
                        .with_mut(|_| producer.write(&claim, 0, &i.to_ne_bytes()));
                    producer.commit(claim, 8);
                }
            });
            for i in 1..=3u64 {
                let record = loop {
                    match consumer.peek() {
                        Peek::Record(record) => break record,
                        Peek::Empty => thread::yield_now(),
                        other => panic!("{other:?}"),
                    }
                };
                let got: u64 = shadow
                    .at(record.position())
                    .with(|_| consumer.read::<u64, ()>(&record, || ()))
                    .unwrap();
                assert_eq!(got, i);
                consumer.release(record);
            }
            sender.join().unwrap();
        });
    }

    #[test]
    fn records_arrive_whole_and_in_order() {
        wrap();
    }

    #[test]
    fn each_ordering_is_needed() {
        for step in [
            Step::CommitRelease,
            Step::PeekAcquire,
            Step::HeadRelease,
            Step::HeadAcquire,
            Step::ZeroNext,
        ] {
            assert!(
                run_without(step, wrap),
                "the model does not notice the lack of {step:?}"
            );
        }
    }
}

#[cfg(not(loom))]
mod kills {
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
}

#[cfg(not(loom))]
mod twin {
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    #[derive(Clone, Debug)]
    enum Act {
        Send(usize),
        Truncated(usize, usize),
        Recv,
        Forget(usize),
        Handover,
    }

    fn acts() -> impl Strategy<Value = Vec<Act>> {
        let len = || prop_oneof![0..=9usize, 0..=505usize, Just(504usize)];
        let act = prop_oneof![
            4 => len().prop_map(Act::Send),
            1 => (len(), len()).prop_map(|(a, b)| Act::Truncated(a.max(b), a.min(b))),
            5 => Just(Act::Recv),
            1 => len().prop_map(Act::Forget),
            1 => Just(Act::Handover),
        ];
        prop::collection::vec(act, 1..400)
    }

    proptest! {
        #[test]
        fn behaves_as_a_queue(acts in acts()) {
            let ring = heap_ring(1024);
            let mut producer = Producer::attach(ring.clone(), first(7)).unwrap();
            let mut consumer = Consumer::attach(ring.clone(), first(7)).unwrap();
            let mut twin = VecDeque::new();
            for (serial, act) in acts.into_iter().enumerate() {
                match act {
                    Act::Send(len) => {
                        let bytes = payload(serial as u64, len);
                        match send(&mut producer, &bytes) {
                            Ok(()) => twin.push_back(bytes),
                            Err(Refusal::TooLarge) => prop_assert!(len > 504),
                            Err(refusal) => {
                                prop_assert_eq!(refusal, Refusal::Full);
                                prop_assert!(!twin.is_empty());
                            }
                        }
                    }
                    Act::Truncated(len, kept) => {
                        if let Ok(claim) = producer.claim(len) {
                            let bytes = payload(serial as u64, kept);
                            producer.write(&claim, 0, &bytes);
                            producer.commit(claim, kept);
                            twin.push_back(bytes);
                        }
                    }
                    Act::Recv => prop_assert_eq!(recv(&mut consumer), twin.pop_front()),
                    Act::Forget(len) => {
                        let _ = producer.claim(len);
                    }
                    Act::Handover => {
                        producer = Producer::attach(ring.clone(), first(7)).unwrap();
                        consumer = Consumer::attach(ring.clone(), first(7)).unwrap();
                    }
                }
            }
        }
    }

    #[test]
    fn a_full_ring_holds_what_the_arithmetic_says() {
        let ring = heap_ring(64);
        let mut producer = Producer::attach(ring.clone(), first(1)).unwrap();
        // 8-byte messages are 16 bytes; the next header needs 8 more: three fit, not four.
        for i in 0..3u64 {
            send(&mut producer, &i.to_ne_bytes()).unwrap();
        }
        assert_eq!(send(&mut producer, &[0; 8]), Err(Refusal::Full));
        assert_eq!(send(&mut producer, &[0; 25]), Err(Refusal::TooLarge));
        let mut consumer = Consumer::attach(ring, first(1)).unwrap();
        assert_eq!(recv(&mut consumer), Some(0u64.to_ne_bytes().to_vec()));
        send(&mut producer, &[0; 8]).unwrap();
    }

    #[test]
    fn another_incarnation_is_told_before_its_first_record() {
        let ring = heap_ring(256);
        let mut consumer = Consumer::attach(ring.clone(), first(1)).unwrap();
        send(
            &mut Producer::attach(ring.clone(), first(1)).unwrap(),
            b"old",
        )
        .unwrap();
        send(&mut Producer::attach(ring, first(2)).unwrap(), b"new").unwrap();
        assert_eq!(recv(&mut consumer).as_deref(), Some(&b"old"[..]));
        assert!(matches!(
            consumer.peek(),
            Peek::Other(Incarnation { epoch: 2, .. })
        ));
        consumer.expect(first(2));
        assert_eq!(recv(&mut consumer).as_deref(), Some(&b"new"[..]));
    }

    #[test]
    fn discarded_records_are_passed_over_and_their_room_comes_back() {
        let ring = heap_ring(64);
        let mut consumer = Consumer::attach(ring.clone(), first(1)).unwrap();
        let mut old = Producer::attach(ring.clone(), first(1)).unwrap();
        for i in 0..3u64 {
            send(&mut old, &i.to_ne_bytes()).unwrap();
        }
        let mut new = Producer::attach(ring, first(1)).unwrap();
        new.discard_undelivered().unwrap();
        assert_eq!(recv(&mut consumer), None);
        for i in 7..10u64 {
            send(&mut new, &i.to_ne_bytes()).unwrap();
        }
        for i in 7..10u64 {
            assert_eq!(recv(&mut consumer), Some(i.to_ne_bytes().to_vec()));
        }
    }

    #[test]
    fn a_successor_knows_what_its_predecessor_was_handed() {
        let ring = heap_ring(256);
        let mut producer = Producer::attach(ring.clone(), first(1)).unwrap();
        send(&mut producer, b"first").unwrap();
        send(&mut producer, b"second").unwrap();
        let mut consumer = Consumer::attach(ring.clone(), first(1)).unwrap();
        let Peek::Record(record) = consumer.peek() else {
            panic!()
        };
        assert!(!consumer.redelivered(&record));
        consumer.mark_seen(&record);
        let mut successor = Consumer::attach(ring, first(1)).unwrap();
        let Peek::Record(record) = successor.peek() else {
            panic!()
        };
        assert!(successor.redelivered(&record));
        successor.release(record);
        let Peek::Record(record) = successor.peek() else {
            panic!()
        };
        assert!(!successor.redelivered(&record));
    }

    /// Before the first good record, and after another incarnation, there is no usual header.
    #[test]
    fn nothing_is_usual_at_first() {
        for word in [u64::MAX, 1, 8, u64::from(u32::MAX)] {
            let ring = heap_ring(128);
            ring.record_header(0).store(word, Relaxed);
            let mut consumer = Consumer::attach(ring, first(1)).unwrap();
            assert!(matches!(consumer.peek(), Peek::Corrupt), "{word:#x}");
            consumer.expect(first(2));
            assert!(matches!(consumer.peek(), Peek::Corrupt), "{word:#x}");
        }
    }

    proptest! {
        /// No content of header and words makes either side panic, hang or leave the ring.
        #[test]
        fn any_words_are_survived(
            words in prop::collection::vec(prop_oneof![any::<u64>(), Just(u64::MAX), (0..64u64), (0..64u64).prop_map(|len| 1 << 40 | DATA << 32 | len), (0..64u64).prop_map(|len| PADDING << 32 | len)], 16),
            head in prop_oneof![any::<u64>(), (0..40u64).prop_map(|h| h * 8)],
        ) {
            let ring = heap_ring(128);
            for (i, word) in words.iter().enumerate() {
                ring.record_header(i as u64 * 8).store(*word, Relaxed);
            }
            ring.header().consumer.head.store(head, Relaxed);
            if let Ok(mut producer) = Producer::attach(ring.clone(), first(1)) {
                for len in [0, 8, 56, 57] {
                    let _ = send(&mut producer, &payload(1, len));
                }
                let _ = producer.discard_undelivered();
            }
            if let Ok(mut consumer) = Consumer::attach(ring.clone(), first(1)) {
                for _ in 0..64 {
                    match consumer.peek() {
                        Peek::Record(record) => {
                            prop_assert!(record.len() <= ring.max_len());
                            let _ = consumer.read::<u64, ()>(&record, || ());
                            consumer.append(&record, &mut Vec::new());
                            consumer.release(record);
                        }
                        Peek::Other(peer) => consumer.expect(peer),
                        Peek::Empty | Peek::Passed | Peek::Corrupt => break,
                    }
                }
                let _ = consumer.discard_undelivered();
            }
        }
    }
}
