//! What a child is to be, and what became of it.

use super::{Child, ChildResult, Entry};
use crate::channel::DEFAULT_CAPACITY;
use core::time::Duration;
use std::ffi::OsString;
use std::process::{Command, ExitStatus};

/// When a child that ended is started again. A stop always wins over a restart that is due.
///
/// The default is `OnFailure { max: 5, backoff: 100 ms }`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Restart {
    /// Not at all.
    Never,
    /// After an exit other than 0, a signal, or a failure to start: up to `max` times in a row,
    /// after `backoff`, which doubles each time up to 10 s, or is always the same if it is more. A
    /// child that lived for 60 s starts counting anew.
    OnFailure {
        /// Restarts in a row before it is given up.
        max: u32,
        /// Pause before the first.
        backoff: Duration,
    },
    /// After every end, after a pause.
    Always {
        /// The pause.
        backoff: Duration,
    },
}

impl Default for Restart {
    fn default() -> Self {
        Restart::OnFailure {
            max: 5,
            backoff: Duration::from_millis(100),
        }
    }
}

/// What became of a child.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ChildStatus {
    /// Its name.
    pub name: String,
    /// Its pid while it runs.
    pub pid: Option<u32>,
    /// How often it was started.
    pub generation: u32,
    /// How often it was started again: after a failure or by request.
    pub restarts: u32,
    /// How its last process ended. `None` if none did, or if its end could not be learned because
    /// this program ignores `SIGCHLD`.
    pub last_exit: Option<ExitStatus>,
    /// Why it could not be started, if that is what happened last.
    pub last_error: Option<String>,
    /// Whether it will run again without being asked: it runs, or a restart is due.
    pub running: bool,
}

/// One child, in detail. See [`RuntimeBuilder::spec`](super::RuntimeBuilder::spec).
///
/// ```
/// use ringlane::{ChildSpec, Restart};
/// use std::process::Command;
/// use std::time::Duration;
///
/// let spec = ChildSpec::command("clock", Command::new("/usr/bin/clock"))
///     .restart(Restart::Always { backoff: Duration::from_secs(1) })
///     .stop_grace(Duration::from_secs(3));
/// # let _ = spec;
/// ```
#[derive(Debug)]
pub struct ChildSpec {
    pub(super) name: String,
    pub(super) program: Program,
    pub(super) restart: Restart,
    pub(super) stop_grace: Duration,
    pub(super) capacity: usize,
    pub(super) args: Option<Vec<OsString>>,
}

#[derive(Debug)]
pub(super) enum Program {
    Entry(Entry),
    Command(Box<Command>),
}

impl ChildSpec {
    fn new(name: &str, program: Program) -> Self {
        ChildSpec {
            name: name.to_string(),
            program,
            restart: Restart::default(),
            stop_grace: Duration::from_secs(10),
            capacity: DEFAULT_CAPACITY,
            args: None,
        }
    }

    /// A child that runs `f` in a process of its own: this program, started again.
    pub fn entry(name: &str, f: fn(Child) -> ChildResult) -> Self {
        Self::new(name, Program::Entry(f))
    }

    /// A child that is any program. Its standard input will be null, and it gets a process group of
    /// its own; all else is as `command` says.
    pub fn command(name: &str, command: Command) -> Self {
        Self::new(name, Program::Command(Box::new(command)))
    }

    /// When it is started again.
    pub fn restart(mut self, restart: Restart) -> Self {
        self.restart = restart;
        self
    }

    /// How long it may take to stop before it is killed; 10 s if nothing is said. After half of it
    /// SIGTERM is sent; to a command that never attached at once.
    pub fn stop_grace(mut self, grace: Duration) -> Self {
        self.stop_grace = grace;
        self
    }

    /// Bytes of each direction of its two channels; 256 KiB if nothing is said.
    pub fn capacity(mut self, bytes: usize) -> Self {
        self.capacity = bytes;
        self
    }

    /// The arguments that an entry's process is started with; main's own if nothing is said. Not
    /// for a command, which has its own.
    pub fn args<I, S>(mut self, args: I) -> Self
    where
        I: IntoIterator<Item = S>,
        S: Into<OsString>,
    {
        self.args = Some(args.into_iter().map(Into::into).collect());
        self
    }
}
