//! Contestant: no channel at all. A message is written, copied once and read, by one thread: what
//! a copy costs when nothing has to cross. Untouched, it is the copy and nothing else.

use std::hint::black_box;
use std::time::{Duration, Instant};

use crate::channels::load::Load;
use crate::channels::system::Timed;

pub struct Memcpy {
    from: Vec<u8>,
    to: Vec<u8>,
    load: Load,
}

impl Memcpy {
    pub fn start(load: Load) -> Box<dyn Timed> {
        // Written to, so that no page is the kernel's one page of zeros.
        Box::new(Self {
            from: vec![1; load.bytes],
            to: vec![2; load.bytes],
            load,
        })
    }
}

impl Timed for Memcpy {
    fn stream(&mut self, count: u64) -> Duration {
        let clock = Instant::now();
        for stamp in 0..count {
            self.load.write(&mut self.from, stamp);
            self.to.copy_from_slice(black_box(&self.from));
            let found = self.load.read(black_box(&self.to));
            self.load.check(found, stamp);
        }
        clock.elapsed()
    }
}
