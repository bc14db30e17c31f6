//! How long something took, many times over: told, and never asserted, since how soon a process
//! runs is the machine's affair.

use super::tally::tally;
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

    /// Prints all of them in a line, and records how many fell between each two powers of two:
    /// `docs/robustness.md` has a table of that.
    pub fn tell(&mut self, what: &str) {
        if self.0.is_empty() {
            return println!("{what}: never");
        }
        self.0.sort_unstable();
        let [p50, p90, p99, max] = [500, 900, 990, 1000].map(|part| self.of_thousand(part));
        let count = self.0.len();
        println!(
            "# {what}: {count} times, p50 {p50:.1?}, p90 {p90:.1?}, p99 {p99:.1?}, max {max:.1?}"
        );
        let class = |nanos: &u64| nanos.max(&1).ilog2() + 1;
        for equal in self.0.chunk_by(|a, b| class(a) == class(b)) {
            tell_class(what, 1 << class(&equal[0]), equal.len() as u64);
        }
    }
}

/// Records that something took less than so long so many times, and no less than half of it.
pub fn tell_class(what: &str, nanos: u64, count: u64) {
    tally("time", &format!("{what} < {nanos}"), count);
}
