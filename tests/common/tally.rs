//! How much a test does, and the record of how much it did: `docs/robustness.md` is made of it.
//! The library's own tests use this file too.
#![allow(dead_code)]

use std::io::Write;

/// A count, by `RINGLANE_SCALE`: `test` if it says nothing.
pub fn scale(test: usize, ci: usize) -> usize {
    match std::env::var("RINGLANE_SCALE").as_deref() {
        Ok("ci") => ci,
        _ => test,
    }
}

/// Records that so much of something was done against a fault, one of those that
/// `docs/robustness.md` names; what is recorded twice is added up. Call it when it was seen to go
/// well. Goes to the file that `RINGLANE_COUNTS` names, if it does.
pub fn tally(fault: &str, what: &str, count: u64) {
    println!("{fault}: {count} {what}");
    let Some(path) = std::env::var_os("RINGLANE_COUNTS").filter(|path| !path.is_empty()) else {
        return;
    };
    let mut file = std::fs::File::options()
        .append(true)
        .create(true)
        .open(path)
        .unwrap();
    // One write, since other processes append too.
    let line = format!("{fault}\t{what}\t{count}\n");
    file.write_all(line.as_bytes()).unwrap();
}

/// Records that this machine does not allow what a test needs, and says what that is.
pub fn skip(fault: &str, why: &str) {
    eprintln!("skipped: {why}");
    tally(fault, &format!("skipped: {why}"), 1);
}
