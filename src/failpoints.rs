//! Named points of this library at which a test of yours can have its own processes die, stop, wait
//! or run a closure. With the feature `failpoints` only; without it there is no trace of them.
//!
//! A kill from outside falls where it happens to fall. A point is where it hurts: between a message's
//! commit and the wake-up of whoever waits for it, with a store's lock in hand, or while a successor
//! takes an end over. What a death leaves there is known, and a test of this library holds each line:
//!
//! | point | the process is | its death leaves |
//! |---|---|---|
//! | `creating` | making a channel, which has no name yet | nothing |
//! | `attaching` | at an end that nobody held: has claimed it and done no more | a dead holder: the other end is told `PeerDied` with pid 0, and the next one takes the end over |
//! | `taking_over` | the same, at the end of a process that died | the same, and the other end is told `PeerRestarted` before; what was not received is still there |
//! | `after_claim` | sending: has room for a message, and wrote nothing into it | nothing of it: the other end receives what was sent before, then `PeerDied` |
//! | `before_commit` | sending: wrote all of the message but its header | the same |
//! | `after_commit` | sending: the message is there, and who waits for it is not woken yet | the message: it is received, by a sleeper within 100 ms, and then `PeerDied` |
//! | `before_release` | receiving: has copied messages, or drops the guard of one, and did not take them yet | them: the successor receives them, marked `redelivered` if they were handed out in place |
//! | `after_release` | receiving: has taken them, and the call did not return yet | them lost, unless they were handed out in place; the successor receives what follows |
//! | `closing` | giving an end up in order; the host's channel has lost its name | the end of a dead process: `PeerDied`, and at a host's channel `Closed` after it |
//! | `holding_store_lock` | writing to a store: has the lock, and did nothing yet | nothing of the change; the next writer takes the lock over after 10 ms, and readers do not notice |
//! | `store_journal_written` | the same: all that is to change is in the journal, not committed | the same |
//! | `store_committed` | the same: the change is committed, and nothing of it is made yet | the change: readers see the old value until the next writer has made it |
//! | `store_recovering` | writing to a store: about to make what a dead one committed | that change as it was, and nothing of its own |
//! | `before_store_unlock` | done with the change, and has the lock | the change; the next writer takes the lock over after 10 ms |
//!
//! `recv_many` passes `before_release` and `after_release` twice: with its first message, and with
//! the others. A channel whose host leaves keeps its name if messages to a guest who is not there
//! lie in it. A new key of a store is a change, and so is each step by which the table grows for it.
//!
//! # Which one, when, and what
//! A child is told by its environment, in the words of the table, the n-th passage counted over all
//! of its threads, the first if nothing is said:
//!
//! ```text
//! RINGLANE_FAILPOINTS=before_commit=kill@3,closing=stop,after_release=delay:50@2
//! ```
//!
//! `kill` is SIGKILL, `stop` is SIGSTOP, `delay` is in milliseconds. What is said of one point more
//! than once is counted each by itself. Children of a process inherit its environment, and each counts
//! for itself. A process that does not understand what stands there says so and aborts when it passes
//! its first point: no test is to pass for a misspelt word.
//!
//! A process tells itself by [`arm`]:
//!
//! ```no_run
//! use ringlane::failpoints::{self, Action, Point};
//! use ringlane::{Child, ChildResult};
//!
//! /// Is killed in its first life, with the third number it was given received and not taken.
//! fn double(child: Child) -> ChildResult {
//!     if child.generation() == 1 {
//!         failpoints::arm(Point::BeforeRelease, 3, Action::Kill);
//!     }
//!     let mut channel = child.active::<u64>()?;
//!     while let Ok(number) = channel.recv() {
//!         channel.send(2 * number)?;
//!     }
//!     Ok(())
//! }
//! ```
//!
//! Have this feature in `[dev-dependencies]`, so that what you ship is built without it.

use std::str::FromStr;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::Duration;

macro_rules! points {
    ($($variant:ident $name:literal)*) => {
        /// A point; the [module](self) says where each is.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[non_exhaustive]
        pub enum Point {
            $(#[doc = concat!("`", $name, "`")] $variant,)*
        }

        impl Point {
            /// All of them.
            pub const ALL: &[Point] = &[$(Point::$variant),*];

            /// Its name in the environment.
            pub fn name(self) -> &'static str {
                match self {
                    $(Point::$variant => $name,)*
                }
            }
        }
    };
}

points! {
    Creating "creating"
    Attaching "attaching"
    TakingOver "taking_over"
    AfterClaim "after_claim"
    BeforeCommit "before_commit"
    AfterCommit "after_commit"
    BeforeRelease "before_release"
    AfterRelease "after_release"
    Closing "closing"
    HoldingStoreLock "holding_store_lock"
    StoreJournalWritten "store_journal_written"
    StoreCommitted "store_committed"
    StoreRecovering "store_recovering"
    BeforeStoreUnlock "before_store_unlock"
}

/// What is done at a point.
#[non_exhaustive]
pub enum Action {
    /// The process is killed, as by SIGKILL from outside.
    Kill,
    /// The process is stopped until somebody sends it SIGCONT.
    Stop,
    /// The thread waits for so long, with all that it holds.
    Delay(Duration),
    /// A closure runs, in the middle of the library's work: if it panics the process is aborted, and
    /// what it wants to change in a store whose lock is held at that point is `LockTimeout`.
    Run(Box<dyn FnOnce() + Send>),
}

impl Action {
    fn take(self) {
        use signal_hook::consts::{SIGKILL, SIGSTOP};
        use signal_hook::low_level::raise;
        match self {
            // This thread's own signals, so that it does not pass before they are obeyed.
            Action::Kill => raise(SIGKILL).expect("one may kill oneself"),
            Action::Stop => raise(SIGSTOP).expect("one may stop oneself"),
            Action::Delay(time) => std::thread::sleep(time),
            Action::Run(f) => {
                let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(f));
                if outcome.is_err() {
                    std::process::abort();
                }
            }
        }
    }
}

struct Armed {
    point: Point,
    /// Passages to come, the one that counts included.
    left: u64,
    action: Action,
}

static ARMED: LazyLock<Mutex<Vec<Armed>>> = LazyLock::new(|| Mutex::new(of_environment()));
/// Nothing is armed, the environment included. Then no lock is taken, so that a fork finds none held.
static IS_QUIET: AtomicBool = AtomicBool::new(false);

/// Does something to the list.
fn with_armed<T>(f: impl FnOnce(&mut Vec<Armed>) -> T) -> T {
    let mut armed = ARMED.lock().unwrap_or_else(PoisonError::into_inner);
    let outcome = f(&mut armed);
    IS_QUIET.store(armed.is_empty(), Relaxed);
    outcome
}

/// Has `action` done when this process passes `point` for the n-th time from now on, once. What was
/// armed at that point before is forgotten. All threads count together.
///
/// # Panics
/// If `passage` is 0: the first is 1.
pub fn arm(point: Point, passage: u64, action: Action) {
    assert!(passage > 0, "the first passage is number 1");
    with_armed(|armed| {
        armed.retain(|other| other.point != point);
        armed.push(Armed {
            point,
            left: passage,
            action,
        });
    });
}

/// Forgets what is armed at `point`.
pub fn disarm(point: Point) {
    with_armed(|armed| armed.retain(|other| other.point != point));
}

/// The library passes `point`.
#[inline]
pub(crate) fn pass(point: Point) {
    if !IS_QUIET.load(Relaxed) {
        pass_slowly(point);
    }
}

#[cold]
fn pass_slowly(point: Point) {
    let mut due = Vec::new();
    with_armed(|armed| {
        // The environment may have several for one point, in the order in which they stand there.
        for mut one in std::mem::take(armed) {
            one.left -= u64::from(one.point == point);
            match one.left {
                0 => due.push(one.action),
                _ => armed.push(one),
            }
        }
    });
    due.into_iter().for_each(Action::take);
}

const VARIABLE: &str = "RINGLANE_FAILPOINTS";

fn of_environment() -> Vec<Armed> {
    let Some(value) = std::env::var_os(VARIABLE) else {
        return Vec::new();
    };
    let value = value.to_string_lossy();
    let words = value.split(',').filter(|word| !word.is_empty());
    let armed: Result<Vec<Armed>, String> = words.map(str::parse).collect();
    armed.unwrap_or_else(|why| {
        // A panic here might leave a lock held, and be caught.
        eprintln!("{VARIABLE}: {why}");
        std::process::abort()
    })
}

impl FromStr for Armed {
    type Err = String;

    fn from_str(word: &str) -> Result<Armed, String> {
        let wrong = |what: &str| format!("{word:?}: {what}");
        let (point, rest) = word.split_once('=').ok_or_else(|| wrong("no action"))?;
        let mut points = Point::ALL.iter().copied();
        let point = points
            .find(|known| known.name() == point)
            .ok_or_else(|| wrong("no such point"))?;
        let (action, left) = match rest.split_once('@') {
            Some((action, passage)) => (action, passage.parse().unwrap_or(0)),
            None => (rest, 1),
        };
        if left == 0 {
            return Err(wrong("a passage is a number from 1 on"));
        }
        let action = match (action, action.strip_prefix("delay:").map(str::parse)) {
            ("kill", _) => Action::Kill,
            ("stop", _) => Action::Stop,
            (_, Some(Ok(millis))) => Action::Delay(Duration::from_millis(millis)),
            _ => return Err(wrong("an action is kill, stop or delay:MILLISECONDS")),
        };
        Ok(Armed {
            point,
            left,
            action,
        })
    }
}
