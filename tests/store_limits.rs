//! A process with little address space uses a store that may grow to more than it can map.

mod common;

use common::{Domain, Process, hear, play, say};
use ringlane::{Error, Store};
use rustix::process::{Resource, Rlimit, setrlimit};
use std::os::unix::fs::FileExt;
use std::process::Command;

#[test]
#[ignore = "what the processes of these tests run"]
fn process() {
    play(|role, arguments| match role {
        "limited" => limited(arguments[0]),
        other => panic!("{other:?}"),
    });
}

const VALUE: usize = 1 << 20;
const VALUES: u32 = 256;

/// Has no more than 64 MiB of address space to give away.
fn limited(domain: &str) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let size = status.lines().find_map(|line| line.strip_prefix("VmSize:"));
    let size = size.unwrap().trim().trim_end_matches(" kB");
    let limit = size.parse::<u64>().unwrap() * 1024 + (64 << 20);
    let limit = Rlimit {
        current: Some(limit),
        maximum: None,
    };
    setrlimit(Resource::As, limit).unwrap();
    let store = Store::options().domain(domain).open("s").unwrap();
    assert_eq!(store.get::<str>("first").unwrap().as_deref(), Some("here"));
    store.set("second", "also here").unwrap();
    say(store.stats().max_size);
    assert_eq!(hear().as_deref(), Some("full"));
    // What lies within reach is read as ever; the rest is refused, and not called corrupt.
    assert_eq!(store.get::<str>("first").unwrap().as_deref(), Some("here"));
    let mut there = 0;
    let mut buffer = Vec::new();
    for key in 0..VALUES {
        match store.get_into(key.to_ne_bytes(), &mut buffer) {
            Ok(found) => there += u32::from(found),
            Err(Error::Refused { why, .. }) => assert!(why.contains("address space")),
            Err(e) => panic!("{e}"),
        }
    }
    assert!((1..VALUES).contains(&there), "{there}");
    // Nor is it for us to say that anything is damaged or not there.
    out_of_reach(store.set("third", &[1u8; 5000][..]));
    out_of_reach(store.clear());
    out_of_reach(store.get_all::<[u8]>());
    out_of_reach(store.verify());
    say("refused");
    assert_eq!(hear().as_deref(), Some("cut off"));
    // A commit that we cannot finish is left to those who can.
    out_of_reach(store.set("first", "not here"));
    say("done");
}

#[track_caller]
fn out_of_reach<T: std::fmt::Debug>(outcome: Result<T, Error>) {
    match outcome {
        Err(Error::Refused { why, .. }) => assert!(why.contains("address space"), "{why}"),
        other => panic!("{other:?}"),
    }
}

/// What a writer leaves that is killed after a commit: here of the last word, to what it is.
fn leave_a_commit(domain: &Domain) {
    /// `layout` asserts it.
    const JOURNAL_LEN: u64 = 2968;
    let mut file = std::fs::File::options();
    let file = file.read(true).write(true);
    let file = file.open(domain.path().join("s.store")).unwrap();
    let at = file.metadata().unwrap().len() / 8 - 1;
    let mut value = [0; 8];
    file.read_exact_at(&mut value, 8 * at).unwrap();
    let write = |bytes: [u8; 8], at| file.write_all_at(&bytes, at).unwrap();
    write(at.to_ne_bytes(), JOURNAL_LEN + 8);
    write(value, JOURNAL_LEN + 16);
    write(1u64.to_ne_bytes(), JOURNAL_LEN);
}

#[test]
fn what_cannot_be_mapped_is_refused_and_the_rest_is_read() {
    let domain = Domain::new("store-limits");
    let store = Store::options().domain(domain.name()).create("s").unwrap();
    store.set("first", "here").unwrap();
    let mut program = Command::new("/proc/self/exe");
    // The allocator reserves 64 MiB for a thread that allocates: perhaps after the limit was set.
    program.env("MALLOC_ARENA_MAX", "1");
    let mut other = Process::start_by(program, "limited", &[domain.name()]);
    let reach: u64 = other.line().parse().unwrap();
    // The process may have given some of its own back meanwhile.
    let all = u64::from(VALUES) * VALUE as u64;
    assert!(reach < all, "{reach} bytes mapped");
    assert_eq!(
        store.get::<str>("second").unwrap().as_deref(),
        Some("also here")
    );
    for key in 0..VALUES {
        store.set(key.to_ne_bytes(), &vec![7u8; VALUE][..]).unwrap();
    }
    assert_eq!(other.ask("full"), "refused");
    store.set("fourth", "still here").unwrap();
    store.verify().unwrap();
    leave_a_commit(&domain);
    assert_eq!(other.ask("cut off"), "done");
    other.finish();
    store.set("fifth", "still here").unwrap();
    assert_eq!(store.stats().recoveries, 1);
    store.verify().unwrap();
    store.remove().unwrap();
}
