use super::*;
use crate::common::random::config;
use proptest::prelude::*;
use std::collections::VecDeque;

#[derive(Clone, Debug)]
enum Act {
    Send(usize),
    Truncated(usize, usize),
    Recv,
    RecvMany,
    Forget(usize),
    Handover,
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let len = || prop_oneof![0..=9usize, 0..=505usize, Just(504usize)];
    let act = prop_oneof![
        4 => len().prop_map(Act::Send),
        1 => (len(), len()).prop_map(|(a, b)| Act::Truncated(a.max(b), a.min(b))),
        5 => Just(Act::Recv),
        1 => Just(Act::RecvMany),
        1 => len().prop_map(Act::Forget),
        1 => Just(Act::Handover),
    ];
    prop::collection::vec(act, 1..400)
}

proptest! {
    #![proptest_config(config(256))]

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
                        Ok(_) => twin.push_back(bytes),
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
                Act::RecvMany => {
                    let all: Vec<_> = twin.drain(..).collect();
                    prop_assert_eq!(recv_many(&mut consumer), all);
                }
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
    #![proptest_config(config(256))]

    /// No content of header and words makes either side panic, hang or leave the ring; nor do
    /// words that change under them.
    #[test]
    fn any_words_are_survived(
        words in prop::collection::vec(any_word(), 16),
        changes in prop::collection::vec((0..16u64, any_word()), 0..8),
        head in any_head(),
        later_head in any_head(),
    ) {
        let ring = heap_ring(128);
        let write = |at: u64, word: u64| ring.record_header(at * 8).store(word, Relaxed);
        for (at, word) in words.iter().enumerate() {
            write(at as u64, *word);
        }
        ring.header().consumer.head.store(head, Relaxed);
        let producer = Producer::attach(ring.clone(), first(1));
        let consumer = Consumer::attach(ring.clone(), first(1));
        if let Ok(mut producer) = producer {
            for len in [0, 8, 8, 56, 57] {
                let _ = send(&mut producer, &payload(1, len));
            }
            ring.header().consumer.head.store(later_head, Relaxed);
            for len in [8, 8, 0, 56, 8] {
                let _ = send(&mut producer, &payload(1, len));
            }
            let _ = producer.discard_undelivered();
        }
        if let Ok(mut consumer) = consumer {
            for step in 0..64 {
                match consumer.peek() {
                    Peek::Record(record) => {
                        prop_assert!(record.len() <= ring.max_len());
                        let _ = consumer.read::<u64, ()>(&record, || ());
                        match step % 3 {
                            0 => drop(consumer.take::<u64, ()>(record, |_| (), || ())),
                            1 => drop(take(&mut consumer, record)),
                            _ => batch(&mut consumer, record),
                        }
                    }
                    Peek::Other(peer) => consumer.expect(peer),
                    Peek::Empty | Peek::Passed | Peek::Corrupt => {}
                }
                if let Some((at, word)) = changes.get(step / 4) {
                    write(*at, *word);
                }
            }
            let _ = consumer.discard_undelivered();
        }
    }
}

/// A header that is near one, or anything.
fn any_word() -> impl Strategy<Value = u64> {
    prop_oneof![
        any::<u64>(),
        Just(u64::MAX),
        0..64u64,
        (0..64u64).prop_map(|len| 1 << 40 | DATA << 32 | len),
        (0..64u64).prop_map(|len| PADDING << 32 | len),
    ]
}

fn any_head() -> impl Strategy<Value = u64> {
    prop_oneof![any::<u64>(), (0..40u64).prop_map(|h| h * 8)]
}

/// What follows `record` in a batch.
fn batch(consumer: &mut Consumer, record: Record) {
    let start = consumer.progress();
    let mut progress = consumer.pass(start, record);
    let mut count = 1;
    while let Some(record) = consumer.peek_usual(progress) {
        if !consumer.is_within_a_lap(start, &record) {
            break;
        }
        consumer.append(&record, &mut Vec::new());
        progress = consumer.pass(progress, record);
        count += 1;
    }
    assert!(count <= 16, "more records than the ring has words");
    consumer.publish_received();
}
