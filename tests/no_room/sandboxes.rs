//! A process without one of the calls that the library makes, as in a sandbox or on an old kernel:
//! it does without, or the first call that cannot says what is missing.

use crate::common::seccomp::{Rule, Then, apply};
use crate::common::{Domain, Process, actor, say, skip, tally, until};
use ringlane::{Channel, ChildSpec, Error, RecvError, Result, Runtime, Store};
use rustix::io::Errno;
use std::process::Command;
use std::time::Duration;

/// What becomes of a process that lacks a call.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Outcome {
    /// All works.
    Works,
    /// The call and the errno are told.
    Says,
}
use Outcome::{Says, Works};

const ALL: u32 = u32::MAX;
const NAMELESS: u32 = libc::O_TMPFILE as u32 & !(libc::O_DIRECTORY as u32);
const LINK: i64 = libc::SYS_linkat;

/// Calls that a process may lack: a name, what is refused, by which errno, and what comes of it.
/// All that the library makes and that are younger than Linux 3.0, or that sandboxes refuse.
/// `futex_waitv`, `openat2`, `memfd_create` and `statx` it never makes.
const LACKS: &[(&str, &[Refused], Errno, Outcome)] = {
    use Errno as E;
    &[
        ("membarrier", &[all(libc::SYS_membarrier)], E::NOSYS, Works),
        ("membarrier", &[all(libc::SYS_membarrier)], E::PERM, Works),
        ("pidfd_open", &[all(libc::SYS_pidfd_open)], E::NOSYS, Works),
        ("pidfd_open", &[all(libc::SYS_pidfd_open)], E::PERM, Works),
        ("MADV_POPULATE_WRITE", &[POPULATE], E::INVAL, Works),
        ("MADV_POPULATE_WRITE", &[POPULATE], E::NOSYS, Says),
        ("MADV_POPULATE_WRITE", &[POPULATE], E::PERM, Says),
        ("MADV_DONTDUMP", &[DONT_DUMP], E::INVAL, Works),
        ("MADV_WIPEONFORK", &[WIPE], E::INVAL, Works),
        (
            "fallocate",
            &[all(libc::SYS_fallocate)],
            E::OPNOTSUPP,
            Works,
        ),
        // As where a timer's signal comes sooner than so much is reserved.
        ("long fallocate", LONG_RESERVATIONS, E::INTR, Works),
        ("fallocate", &[all(libc::SYS_fallocate)], E::NOSYS, Says),
        ("fallocate", &[all(libc::SYS_fallocate)], E::PERM, Says),
        ("F_OFD_SETLK", &[SET_LOCK, GET_LOCK], E::INVAL, Says),
        ("F_OFD_SETLK", &[SET_LOCK, GET_LOCK], E::PERM, Says),
        ("O_TMPFILE", &[NAMELESS_FILE], E::OPNOTSUPP, Works),
        ("O_TMPFILE", &[NAMELESS_FILE], E::PERM, Says),
        ("linkat", &[all(LINK)], E::PERM, Says),
        ("linkat", &[all(LINK)], E::NOSYS, Says),
        ("renameat2", &[all(libc::SYS_renameat2)], E::NOSYS, Works),
        (
            "O_TMPFILE and renameat2",
            &[NAMELESS_FILE, RENAME],
            E::OPNOTSUPP,
            Says,
        ),
        ("getrandom", &[RANDOM], E::NOSYS, Says),
        ("fstatfs", &[all(libc::SYS_fstatfs)], E::NOSYS, Works),
        ("eventfd2", &[all(libc::SYS_eventfd2)], E::NOSYS, Says),
    ]
};

/// A call, and an argument that makes it one of those that are refused.
type Refused = (i64, Option<(usize, u32, u32)>);

const fn all(call: i64) -> Refused {
    (call, None)
}

const POPULATE: Refused = advice(libc::MADV_POPULATE_WRITE);
const DONT_DUMP: Refused = advice(libc::MADV_DONTDUMP);
const WIPE: Refused = advice(libc::MADV_WIPEONFORK);
const SET_LOCK: Refused = (libc::SYS_fcntl, Some((1, ALL, libc::F_OFD_SETLK as u32)));
const GET_LOCK: Refused = (libc::SYS_fcntl, Some((1, ALL, libc::F_OFD_GETLK as u32)));
const NAMELESS_FILE: Refused = (libc::SYS_openat, Some((2, NAMELESS, NAMELESS)));
const RENAME: Refused = all(libc::SYS_renameat2);
/// Not those of std, which panics without.
const RANDOM: Refused = (libc::SYS_getrandom, Some((1, ALL, 8)));

/// Of 32 KiB or more.
const LONG_RESERVATIONS: &[Refused] = &[
    of_length(15),
    of_length(16),
    of_length(17),
    of_length(18),
    of_length(19),
];

const fn of_length(bit: u32) -> Refused {
    (libc::SYS_fallocate, Some((3, 1 << bit, 1 << bit)))
}

const fn advice(advice: i32) -> Refused {
    (libc::SYS_madvise, Some((2, ALL, advice as u32)))
}

/// Lacks the calls of that number, and says what comes of it.
pub fn lack(arguments: &[&str]) {
    let [number, domain] = arguments else {
        panic!("{arguments:?}");
    };
    let (name, refused, errno, _) = LACKS[number.parse::<usize>().unwrap()];
    let rules: Vec<_> = refused
        .iter()
        .map(|(call, when)| Rule {
            call: *call,
            when: *when,
            then: Then::Fail(errno.raw_os_error()),
        })
        .collect();
    if let Err(e) = apply(&rules) {
        return say(format!("no: {e}"));
    }
    // Of two, what comes in the place of the first.
    let missing = name.rsplit(' ').next().unwrap();
    let is_of_it = |source: &std::io::Error| source.raw_os_error() == Some(errno.raw_os_error());
    say(match use_all(domain) {
        Ok(()) => format!("{Works:?}"),
        Err(e @ Error::Io { .. }) if !e.to_string().contains(missing) => format!("{e}"),
        Err(Error::Io { source, .. }) if is_of_it(&source) => format!("{Says:?}"),
        Err(e) => format!("{e:?}"),
    });
}

fn use_all(domain: &str) -> Result<()> {
    talk(domain)?;
    let store = Store::options().domain(domain).create("s")?;
    for key in 0..100u64 {
        store.set(key.to_ne_bytes(), &vec![7u8; 10_000][..])?;
    }
    assert_eq!(store.get::<[u8]>(9u64.to_ne_bytes())?.unwrap(), [7; 10_000]);
    assert_eq!(
        store.watch::<u64>("k")?.wait_timeout(Duration::ZERO).ok(),
        None
    );
    store.remove()?;
    supervise(domain)
}

/// With a process that lacks the same, until it is killed.
fn talk(domain: &str) -> Result<()> {
    let mut host = Channel::<u64>::options().domain(domain).create("c")?;
    let mut guest = actor::guest(domain, "c");
    for number in 0..20 {
        host.send(number)?;
        assert_eq!(guest.ask("recv"), format!("Ok({number})"));
        guest.tell("recv");
        host.send(number + 100)?;
        assert_eq!(guest.line(), format!("Ok({})", number + 100));
        assert_eq!(guest.ask(&format!("send {number}")), "Ok(())");
        assert_eq!(host.recv()?, number);
    }
    guest.kill();
    match host.recv() {
        Err(RecvError::PeerDied { .. }) => Ok(()),
        other => panic!("{other:?}"),
    }
}

fn supervise(domain: &str) -> Result<()> {
    let mut sleep = Command::new("sleep");
    sleep.arg("1000");
    let runtime = Runtime::builder(domain)
        .spec(ChildSpec::command("a", sleep))
        .start()?;
    if let Some(why) = runtime.children()[0].last_error.clone() {
        return Err(Error::Encode(why));
    }
    let first = runtime.children()[0].pid;
    runtime.restart("a")?;
    until(|| {
        runtime.children()[0]
            .pid
            .is_some_and(|pid| Some(pid) != first)
    });
    runtime.stop("a")?;
    assert!(runtime.children()[0].pid.is_none());
    runtime.shutdown()
}

#[test]
fn a_process_may_lack_calls() {
    let domain = Domain::new("lacks");
    for (number, (name, _, errno, outcome)) in LACKS.iter().enumerate() {
        let number = number.to_string();
        let mut process = Process::start("lack", &[&number, domain.name()]);
        let said = process.line();
        process.finish();
        if said.starts_with("no: ") {
            return skip("no-room", &format!("a filter of system calls: {said}"));
        }
        assert_eq!(said, format!("{outcome:?}"), "{name}, which is {errno:?}");
        // Who cannot lock cannot know that nobody else has the roster, and leaves it.
        assert!(!domain.path().exists() || *outcome == Says, "{name}");
        drop(domain.of::<u64>().create("c").unwrap());
        assert!(!domain.path().exists(), "{name}");
    }
    tally(
        "no-room",
        "calls that a process lacked for good",
        LACKS.len() as u64,
    );
}
