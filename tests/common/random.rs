//! Random numbers that can be had again. The library's own tests use this file too.
#![allow(dead_code)]

use proptest::test_runner::{Config, RngSeed};
use std::cell::RefCell;
use std::process::{Command, Stdio};
use std::time::Duration;

/// Numbers without pattern, the same for the same seed (splitmix64).
#[derive(Clone)]
pub struct Random(u64);

impl Random {
    pub fn of(seed: u64) -> Random {
        Random(seed)
    }

    /// Seeded by `RINGLANE_SEED`, else anew each time. Prints the seed and the commit, which a
    /// failure shows.
    pub fn printed() -> Random {
        let seed = match std::env::var("RINGLANE_SEED") {
            Ok(seed) => seed.parse().unwrap(),
            Err(_) => {
                let now = std::time::UNIX_EPOCH.elapsed().unwrap();
                now.as_nanos() as u64
            }
        };
        let line = format!("RINGLANE_SEED={seed} at commit {}", commit());
        eprintln!("{line}");
        PRINTED.set(line);
        Random(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    pub fn micros(&mut self, end: u64) -> Duration {
        Duration::from_micros(self.below(end))
    }
}

thread_local! {
    static PRINTED: RefCell<String> = const { RefCell::new(String::new()) };
}

/// What [`Random::printed`] printed last in this thread, for those whose last words are not captured.
pub fn printed() -> String {
    PRINTED.with_borrow(String::clone)
}

/// So many cases of proptest, seeded and printed as [`Random::printed`].
pub fn config(cases: usize) -> Config {
    Config {
        cases: cases as u32,
        rng_seed: RngSeed::Fixed(Random::printed().next()),
        failure_persistence: None,
        ..Config::default()
    }
}

/// The commit that these tests are of, as far as git can tell.
fn commit() -> String {
    let args = ["describe", "--always", "--dirty", "--abbrev=12"];
    let said = Command::new("git")
        .args(args)
        .stderr(Stdio::null())
        .output();
    let commit = said.map(|said| String::from_utf8_lossy(&said.stdout).trim().to_string());
    commit.unwrap_or_default()
}
