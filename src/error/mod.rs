//! What can go wrong: [`Error`] for setting up, and one error for each kind of operation that gives
//! the value back. Each of those converts into [`Error`], so that `?` works.

mod calls;

pub use calls::{RecvError, SendError, TryRecvError, TrySendError};

use crate::Mode;
use core::fmt;
use std::io;
use std::path::Path;

/// The result of everything that is not sending or receiving.
pub type Result<T, E = Error> = core::result::Result<T, E>;

/// Everything that can go wrong, each case naming what it is about.
///
/// ```
/// use ringlane::{Channel, Error};
///
/// match Channel::<u64>::open("../etc/passwd") {
///     Err(Error::BadName { name }) => assert_eq!(name, "../etc/passwd"),
///     other => panic!("{other:?}"),
/// }
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// Not a name: `[A-Za-z0-9][A-Za-z0-9._-]{0,99}`.
    BadName {
        /// What was given.
        name: String,
    },
    /// The file belongs to another incarnation of its domain, so who holds it cannot be told.
    /// It stays until someone removes it by hand.
    ForeignRoster {
        /// The file.
        path: String,
    },
    /// No such channel, store, child or domain.
    NotFound {
        /// What was looked for.
        name: String,
    },
    /// The channel is there, and its host lives; or the store is there.
    AlreadyExists {
        /// The channel or store.
        name: String,
    },
    /// A living process holds that end of the channel.
    EndTaken {
        /// The channel.
        name: String,
        /// Its holder; one's own if the end was taken here before, 0 if it is not known.
        pid: u32,
    },
    /// Another main process runs this domain.
    DomainTaken {
        /// The domain.
        domain: String,
        /// Its main process; 0 if it is not known.
        pid: u32,
    },
    /// A process of the domain lives, or is just coming or going.
    DomainInUse {
        /// The domain.
        domain: String,
        /// One of them; 0 if none is known by pid.
        pid: u32,
    },
    /// The domain has no room for another process.
    TooManyProcesses {
        /// How many it holds.
        max: u32,
    },
    /// This process was not started by a [`Runtime`](crate::Runtime), or its place was taken.
    NotAChild,
    /// The channel carries another type, or the value under that key is of another.
    TypeMismatch {
        /// The channel or key.
        name: String,
        /// The type that the caller named.
        expected: String,
        /// The type that is there.
        found: String,
    },
    /// The end does not allow this way of receiving.
    ModeConflict {
        /// The channel.
        name: String,
        /// What it allows.
        mode: Mode,
    },
    /// The file was made by a build with another layout.
    Layout {
        /// The file.
        path: String,
        /// This build's layout version.
        expected: u32,
        /// The file's.
        found: u32,
    },
    /// A file or directory that we do not touch.
    Refused {
        /// It.
        path: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The bytes cannot have been written by this library.
    Corrupt {
        /// The file.
        path: String,
        /// Where in it; for a channel's messages, where in the stream of that direction.
        offset: u64,
    },
    /// The file system has no room, or the store is as large as it may become.
    NoSpace {
        /// The directory.
        path: String,
        /// Bytes asked for.
        needed: u64,
        /// Bytes free; 0 if there may be no more files.
        free: u64,
    },
    /// The message is larger than the channel ever takes, or the value than a store does.
    TooLarge {
        /// Bytes of the message or value.
        len: u64,
        /// Bytes that fit.
        max: u64,
    },
    /// The key is too long.
    KeyTooLong {
        /// Its bytes.
        len: usize,
        /// Bytes that a key may have.
        max: usize,
    },
    /// The store cannot take this key: too many others hash to the same place.
    TooManyCollisions {
        /// The store's file.
        path: String,
    },
    /// A walk through the whole store found what no writer leaves.
    Damaged {
        /// The store's file.
        path: String,
        /// What is wrong, and where.
        flaws: Vec<String>,
    },
    /// Another process held the store's lock all the time.
    LockTimeout {
        /// It; it lives, or it would have lost the lock. 0 if it is not known.
        pid: u32,
    },
    /// The store was opened for reading only.
    ReadOnly,
    /// The value changed each time it was read, and this handle may not lock the store.
    Contended,
    /// The ring is full.
    Full,
    /// The time ran out.
    Timeout,
    /// Nothing there.
    Empty,
    /// The other end was closed for good.
    Closed,
    /// The process at the other end died.
    PeerDied {
        /// It; 0 if it was never known.
        pid: u32,
    },
    /// Another process took the other end over.
    PeerRestarted {
        /// Generation of the end: it rises with each holder.
        generation: u32,
    },
    /// The runtime asked this process to stop, and nothing is left to receive.
    Stopping,
    /// The handle was made before a `fork`, by the parent.
    Forked,
    /// The value could not be encoded.
    Encode(String),
    /// A message could not be decoded; it is consumed.
    Decode(String),
    /// A handler panicked. A listener goes on; the thread of a store's
    /// [`Watcher`](crate::Watcher) ended.
    HandlerPanicked {
        /// The channel or store.
        name: String,
        /// What it panicked with.
        message: String,
    },
    /// Called from inside a handler or an update that it would have to wait for.
    Reentrant,
    /// A system call failed.
    Io {
        /// What it was about.
        path: String,
        /// The call, if it is one that old kernels lack or sandboxes forbid; else empty.
        call: &'static str,
        /// How it failed.
        source: io::Error,
    },
}

impl Error {
    pub(crate) fn io(path: impl AsRef<Path>, source: impl Into<io::Error>) -> Self {
        Error::of_call("", path, source)
    }

    /// Of a call that this machine may not have.
    pub(crate) fn of_call(
        call: &'static str,
        path: impl AsRef<Path>,
        source: impl Into<io::Error>,
    ) -> Self {
        Error::Io {
            path: display(path),
            call,
            source: source.into(),
        }
    }

    pub(crate) fn refused(path: impl AsRef<Path>, why: &'static str) -> Self {
        Error::Refused {
            path: display(path),
            why,
        }
    }
}

/// A process as an error names it.
struct Process(u32);

impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => write!(f, "a process of unknown pid"),
            pid => write!(f, "process {pid}"),
        }
    }
}

pub(crate) fn display(path: impl AsRef<Path>) -> String {
    path.as_ref().display().to_string()
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::BadName { name } => write!(
                f,
                "{name:?} is not a name: 1 to 100 of A-Z a-z 0-9 . _ - and a letter or digit first"
            ),
            Error::ForeignRoster { path } => {
                write!(
                    f,
                    "{path} belongs to another incarnation of its domain; remove it by hand"
                )
            }
            Error::NotFound { name } => write!(f, "{name:?} not found"),
            Error::AlreadyExists { name } => {
                write!(f, "{name:?} exists and is in use")
            }
            Error::EndTaken { name, pid } => {
                let holder = Process(*pid);
                write!(f, "this end of channel {name:?} is held by {holder}")
            }
            Error::DomainTaken { domain, pid } => {
                write!(f, "domain {domain:?} is run by {}", Process(*pid))
            }
            Error::DomainInUse { domain, pid: 0 } => write!(f, "domain {domain:?} is in use"),
            Error::DomainInUse { domain, pid } => {
                write!(f, "domain {domain:?} is in use by process {pid}")
            }
            Error::TooManyProcesses { max } => {
                write!(f, "the domain holds {max} processes already")
            }
            Error::NotAChild => write!(f, "this process is not a runtime's child"),
            Error::TypeMismatch {
                name,
                expected,
                found,
            } => {
                write!(f, "{name:?} is of type {found}, not {expected}")
            }
            Error::ModeConflict { name, mode } => {
                write!(
                    f,
                    "this end of channel {name:?} only allows {mode} receiving"
                )
            }
            Error::Layout {
                path,
                expected,
                found,
            } => {
                write!(
                    f,
                    "{path} has layout version {found}, this build has {expected}"
                )
            }
            Error::Refused { path, why } => write!(f, "{path} refused: {why}"),
            Error::Corrupt { path, offset } => write!(f, "{path} is corrupt at byte {offset}"),
            Error::NoSpace { path, needed, free } => {
                write!(f, "no space in {path}: {needed} bytes needed, {free} free")
            }
            Error::TooLarge { len, max } => {
                write!(f, "{len} bytes are too many: up to {max} fit")
            }
            Error::KeyTooLong { len, max } => {
                write!(f, "a key of {len} bytes; keys may have up to {max}")
            }
            Error::TooManyCollisions { path } => {
                write!(f, "{path}: too many keys hash to the same place")
            }
            Error::Damaged { path, flaws } => {
                write!(f, "{path} is damaged: {}", flaws.join("; "))
            }
            Error::LockTimeout { pid } => {
                let holder = Process(*pid);
                write!(f, "{holder} held the lock of the store all the time")
            }
            Error::ReadOnly => write!(f, "the store was opened for reading only"),
            Error::Contended => write!(f, "the value changed each time it was read"),
            Error::Full => write!(f, "the ring is full"),
            Error::Timeout => write!(f, "timed out"),
            Error::Empty => write!(f, "no message"),
            Error::Closed => write!(f, "the other end is closed"),
            Error::PeerDied { pid } => write!(f, "{} at the other end died", Process(*pid)),
            Error::PeerRestarted { generation } => {
                write!(f, "the other end was taken over, generation {generation}")
            }
            Error::Stopping => write!(f, "this process is to stop"),
            Error::Forked => write!(f, "the handle belongs to the process that forked"),
            Error::Encode(why) => write!(f, "cannot encode: {why}"),
            Error::Decode(why) => write!(f, "cannot decode: {why}"),
            Error::HandlerPanicked { name, message } => {
                write!(f, "a handler of {name:?} panicked: {message}")
            }
            Error::Reentrant => write!(f, "called from inside what it would wait for"),
            Error::Io {
                path,
                call: "",
                source,
            } => write!(f, "{path}: {source}"),
            Error::Io { path, call, source } => write!(f, "{path}: {call}: {source}"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Error::Io { source, .. } => Some(source),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pid_that_is_not_known_is_not_told() {
        let name = || "n".to_string();
        let errors = |pid| {
            let domain = name();
            [
                Error::EndTaken { name: name(), pid }.to_string(),
                Error::DomainTaken { domain, pid }.to_string(),
                Error::LockTimeout { pid }.to_string(),
                Error::PeerDied { pid }.to_string(),
                SendError::PeerDied { pid, value: () }.to_string(),
            ]
        };
        for text in errors(0) {
            assert!(text.contains("a process of unknown pid"), "{text}");
        }
        for text in errors(7) {
            assert!(text.contains("process 7"), "{text}");
        }
    }
}
