//! Both sides at once, each in a thread. Of large payloads ThreadSanitizer sees every copy, and so
//! whether what orders them is there.

use super::*;
use crate::common::random::Random;
use crate::common::tally::{scale, tally};
use std::thread::{spawn, yield_now};

/// So large that some payloads are copied by `memcpy`.
const CAPACITY: usize = 8192;

fn message(i: u64) -> Vec<u8> {
    let any = Random::of(i).next();
    let lens = [0, 8, 16, 504, any % 100, any % 3000, 2048 + any % 1000];
    payload(i, lens[(any >> 32) as usize % lens.len()] as usize)
}

#[test]
fn two_threads_send_and_receive() {
    let count = scale(20_000, 200_000) as u64;
    let ring = heap_ring(CAPACITY);
    let mut producer = Producer::attach(ring.clone(), first(1)).unwrap();
    let mut consumer = Consumer::attach(ring, first(1)).unwrap();
    let sender = spawn(move || {
        for i in 0..count {
            let bytes = message(i);
            while let Err(refusal) = send(&mut producer, &bytes) {
                assert_eq!(refusal, Refusal::Full);
                yield_now();
            }
        }
    });
    let mut i = 0;
    while i < count {
        let got = match i % 64 {
            0 => recv_many(&mut consumer),
            _ => recv(&mut consumer).into_iter().collect(),
        };
        if got.is_empty() {
            // Else a sender that failed would be waited for in vain.
            assert!(!sender.is_finished() || consumer.is_ready());
            yield_now();
        }
        for bytes in got {
            assert!(bytes == message(i), "message {i} is not it");
            i += 1;
        }
    }
    sender.join().unwrap();
    // Without it, nothing is shown here but that it works on this processor.
    if std::env::var("RINGLANE_SANITIZER").as_deref() == Ok("thread") {
        let what = "messages from thread to thread, under ThreadSanitizer";
        tally("model", what, count);
    }
}
