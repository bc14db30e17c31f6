//! How long something took, many times over: printed, and never asserted, since how soon a process
//! runs is the machine's affair. A test that wants it includes this file beside `common`.
#![allow(dead_code)]

use std::time::Duration;

/// Nanoseconds of a clock that all processes share.
pub fn now() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

#[derive(Default)]
pub struct Times(Vec<u64>);

impl Times {
    pub fn note(&mut self, nanos: u64) {
        self.0.push(nanos);
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The time that so much of a thousand of them do not exceed.
    fn of_thousand(&self, part: usize) -> Duration {
        Duration::from_nanos(self.0[(self.0.len() - 1) * part / 1000])
    }

    /// All of them, in a line, and how many fell between each two powers of two.
    pub fn told(&mut self, what: &str) -> String {
        if self.0.is_empty() {
            return format!("{what}: never");
        }
        self.0.sort_unstable();
        let [p50, p90, p99, max] = [500, 900, 990, 1000].map(|part| self.of_thousand(part));
        let count = self.0.len();
        let mut line = format!(
            "{what}: {count} times, p50 {p50:.1?}, p90 {p90:.1?}, p99 {p99:.1?}, max {max:.1?};"
        );
        for class in self
            .0
            .chunk_by(|a, b| a.max(&1).ilog2() == b.max(&1).ilog2())
        {
            let from = Duration::from_nanos(1 << class[0].max(1).ilog2());
            line += &format!(" {} from {from:.0?},", class.len());
        }
        line.trim_end_matches(',').to_string()
    }
}
