//! What a call costs that a clock does not tell: allocations are counted by the allocator of the test
//! binary, system calls by `strace`. A test that wants it includes this file beside `common`.

use crate::common::{Process, skip};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::process::Command;

/// Counts what the present thread allocates.
struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: all is left to the system's allocator; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: as the caller vouches.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: as the caller vouches.
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: as the caller vouches.
        unsafe { System.realloc(at, layout, size) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// How often this thread allocates in `f`.
pub fn allocations(f: impl FnOnce()) -> u64 {
    let before = ALLOCATIONS.get();
    f();
    ALLOCATIONS.get() - before
}

/// System calls by name, and how often each was made.
pub type Calls = BTreeMap<String, u64>;

pub fn total(calls: &Calls) -> u64 {
    calls.values().sum()
}

/// Runs a role under `strace`, with a domain and a count as its arguments.
pub fn calls_of(role: &str, domain: &str, count: usize) -> Calls {
    let table = std::env::temp_dir().join(format!("ringlane-strace-{}", std::process::id()));
    let mut strace = Command::new("strace");
    strace.args(["-f", "-c", "-o"]).arg(&table);
    strace.arg(std::env::current_exe().unwrap());
    // It cannot look for leaks while it is traced.
    strace.env("ASAN_OPTIONS", "detect_leaks=0");
    Process::start_by(strace, role, &[domain, &count.to_string()]).finish();
    let text = std::fs::read_to_string(&table).unwrap();
    std::fs::remove_file(&table).unwrap();
    // % time, seconds, usecs/call, calls, errors (may be missing), name.
    let lines = text.lines().filter_map(|line| {
        let words: Vec<_> = line.split_ascii_whitespace().collect();
        let calls = words.get(3)?.parse().ok()?;
        Some((words.last()?.to_string(), calls))
    });
    let calls: Calls = lines.filter(|(name, _)| name != "total").collect();
    assert!(calls.contains_key("mmap"), "{text}");
    calls
}

pub fn strace_works() -> bool {
    let output = Command::new("strace").args(["-c", "true"]).output();
    let works = output.is_ok_and(|output| output.status.success());
    if !works {
        skip("wakeup", "there is no `strace`, or it may not trace here");
    }
    works
}
