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
