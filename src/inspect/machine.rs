//! What this machine gives the library, and what is lost where it does not.

use super::{Finding, Severity};
use crate::layout::PAGE;
use crate::sync::AtomicU32;
use crate::sys;
use rustix::fd::AsFd;
use rustix::io::Errno;
use rustix::thread::futex;

/// A feature of the kernel that the library uses.
struct Feature {
    name: &'static str,
    works: bool,
    /// The version of Linux that brought it.
    since: &'static str,
    severity: Severity,
    lost: &'static str,
}

/// What the kernel lacks, or does not let this process do.
pub(super) fn kernel() -> Vec<Finding> {
    let barrier = sys::barrier();
    let own = sys::open_pid(std::process::id());
    let pidfd = own.ok().flatten();
    let features = [
        Feature {
            name: "futex",
            works: futex_works(),
            since: "2.6",
            severity: Severity::Error,
            lost: "nobody can sleep until something happens",
        },
        Feature {
            name: "membarrier",
            works: barrier.registered && barrier.can_issue,
            since: "4.16",
            severity: Severity::Note,
            lost: "every `send` to a process without it costs a fence more",
        },
        Feature {
            name: "MADV_WIPEONFORK",
            works: sys::wipes_on_fork(),
            since: "4.14",
            severity: Severity::Warning,
            lost: "a fork is not noticed: it must not touch the handles of its parent",
        },
        Feature {
            name: "MADV_POPULATE_WRITE",
            works: populate_works(),
            since: "5.14",
            severity: Severity::Note,
            lost: "pages are reserved all the same, but touched first when they are used",
        },
        Feature {
            name: "pidfd_open",
            works: pidfd.is_some(),
            since: "5.3",
            severity: Severity::Warning,
            lost: "a death is told by the lock alone, which a fork keeps for its dead parent, and a \
                   child's end is found by looking now and then",
        },
        Feature {
            name: "pidfs",
            works: pidfd.is_none_or(|fd| sys::pidfd_inode(fd.as_fd()) != 0),
            since: "6.9",
            severity: Severity::Note,
            lost: "a pid used again within a tick of the clock is taken for the process before it",
        },
    ];
    let missing = features.into_iter().filter(|feature| !feature.works);
    missing.map(of_feature).collect()
}

fn of_feature(feature: Feature) -> Finding {
    Finding::new(
        feature.severity,
        "kernel",
        format!("there is no {}: {}", feature.name, feature.lost),
        format!(
            "Linux {} has it; a sandbox may have to be told to allow it",
            feature.since
        ),
    )
}

fn futex_works() -> bool {
    let word = AtomicU32::new(0);
    // Not the value that is there, so it does not sleep.
    futex::wait(&word, futex::Flags::empty(), 1, None) == Err(Errno::AGAIN)
}

fn populate_works() -> bool {
    let Ok(map) = memmap2::MmapOptions::new().len(PAGE).map_anon() else {
        return true;
    };
    let outcome = map.advise(memmap2::Advice::PopulateWrite);
    outcome.is_ok_and(|()| map[0] == 0)
}

/// Whoever may run on one processor only spins in vain.
pub(super) fn processors() -> Option<Finding> {
    let bound = rustix::thread::sched_getaffinity(None).is_ok_and(|set| set.count() == 1);
    let (text, remedy) = match (sys::processors(), bound) {
        (1, _) => (
            "there is one processor, so nobody spins before sleeping",
            "none needed",
        ),
        (_, true) => (
            "this process may run on one processor only: if others are bound to the same, spinning \
             keeps them from it",
            "start them with more of them, or open channels with `Wait::Sleep`",
        ),
        _ => return None,
    };
    Some(Finding::new(Severity::Note, "processors", text, remedy))
}
