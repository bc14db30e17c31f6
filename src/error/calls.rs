//! The errors of calls that send or receive, which give the message back.

use super::{Error, Process};
use crate::Mode;
use core::fmt;

/// A message that was not sent, and why. [`into_inner`](SendError::into_inner) gives it back.
///
/// ```
/// # let domain = format!("doc-send-error-{}", std::process::id());
/// use ringlane::{Channel, SendError};
///
/// let mut host = Channel::<str>::options().domain(&domain).create("notes")?;
/// let guest = Channel::<str>::options().domain(&domain).open("notes")?;
/// drop(host);
/// let (mut sender, _receiver) = guest.split();
/// match sender.send("too late") {
///     Err(e @ SendError::Closed(_)) => assert_eq!(e.into_inner(), "too late"),
///     other => panic!("{other:?}"),
/// }
/// # Ok::<(), ringlane::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum SendError<V> {
    /// The other end was closed for good, or gave up receiving.
    Closed(V),
    /// The ring is full and the process at the other end is dead.
    PeerDied {
        /// It; 0 if it was never known.
        pid: u32,
        /// The message.
        value: V,
    },
    /// The ring is full and the runtime asked this process to stop.
    Stopping(V),
    /// The handle was made before a `fork`, by the parent.
    Forked(V),
    /// The channel's bytes cannot have been written by this library. It is of no more use.
    Corrupt {
        /// The channel's file.
        path: String,
        /// Where in the stream of this direction.
        offset: u64,
        /// The message.
        value: V,
    },
    /// The message is larger than the channel ever takes.
    TooLarge {
        /// Bytes of the message.
        len: usize,
        /// Bytes that fit.
        max: usize,
        /// The message.
        value: V,
    },
    /// The message could not be encoded.
    Encode {
        /// What the encoder says.
        why: String,
        /// The message.
        value: V,
    },
}

impl<V> SendError<V> {
    /// The message that was not sent.
    pub fn into_inner(self) -> V {
        match self {
            SendError::Closed(value)
            | SendError::PeerDied { value, .. }
            | SendError::Stopping(value)
            | SendError::Forked(value)
            | SendError::Corrupt { value, .. }
            | SendError::TooLarge { value, .. }
            | SendError::Encode { value, .. } => value,
        }
    }

    /// The same error without the message.
    fn split(self) -> (Error, V) {
        match self {
            SendError::Closed(value) => (Error::Closed, value),
            SendError::PeerDied { pid, value } => (Error::PeerDied { pid }, value),
            SendError::Stopping(value) => (Error::Stopping, value),
            SendError::Forked(value) => (Error::Forked, value),
            SendError::Corrupt {
                path,
                offset,
                value,
            } => (Error::Corrupt { path, offset }, value),
            SendError::TooLarge { len, max, value } => (
                Error::TooLarge {
                    len: len as u64,
                    max: max as u64,
                },
                value,
            ),
            SendError::Encode { why, value } => (Error::Encode(why), value),
        }
    }
}

/// A message that was not sent at once, or not in time.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum TrySendError<V> {
    /// No room: now, or still at the deadline.
    Full(V),
    /// It cannot be sent, however long one waits.
    Send(SendError<V>),
}

impl<V> TrySendError<V> {
    /// The message that was not sent.
    pub fn into_inner(self) -> V {
        match self {
            TrySendError::Full(value) => value,
            TrySendError::Send(error) => error.into_inner(),
        }
    }
}

/// Why there is no message to receive.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RecvError {
    /// The other end was closed, or gave up sending. Final, unless the channel's runtime starts
    /// that child again after all.
    Closed,
    /// The process at the other end died. Reported once; the next call waits for a successor.
    PeerDied {
        /// It; 0 if it was never known.
        pid: u32,
    },
    /// Another process took the other end over; what is received from now on is from it. Reported
    /// once.
    PeerRestarted {
        /// Generation of the other end: it rises with each holder, and so is not always the
        /// [`Child::generation`](crate::Child::generation) of the process there.
        generation: u32,
    },
    /// The runtime asked this process to stop.
    Stopping,
    /// The handle was made before a `fork`, by the parent.
    Forked,
    /// The channel's bytes cannot have been written by this library. It is of no more use.
    Corrupt {
        /// The channel's file.
        path: String,
        /// Where in the stream of this direction.
        offset: u64,
    },
    /// The message is no value of the channel's type. It is consumed.
    Decode(String),
    /// This end only allows the other way of receiving.
    ModeConflict {
        /// The channel.
        name: String,
        /// What it allows.
        mode: Mode,
    },
}

/// Why there is no message now, or in time.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TryRecvError {
    /// None now, or still none at the deadline.
    Empty,
    /// None, and a reason beyond that.
    Recv(RecvError),
}

impl<V> From<SendError<V>> for TrySendError<V> {
    fn from(error: SendError<V>) -> Self {
        TrySendError::Send(error)
    }
}

impl From<RecvError> for TryRecvError {
    fn from(error: RecvError) -> Self {
        TryRecvError::Recv(error)
    }
}

impl<V> From<SendError<V>> for Error {
    fn from(error: SendError<V>) -> Self {
        error.split().0
    }
}

impl<V> From<TrySendError<V>> for Error {
    fn from(error: TrySendError<V>) -> Self {
        match error {
            TrySendError::Full(_) => Error::Full,
            TrySendError::Send(error) => error.into(),
        }
    }
}

impl From<RecvError> for Error {
    fn from(error: RecvError) -> Self {
        match error {
            RecvError::Closed => Error::Closed,
            RecvError::PeerDied { pid } => Error::PeerDied { pid },
            RecvError::PeerRestarted { generation } => Error::PeerRestarted { generation },
            RecvError::Stopping => Error::Stopping,
            RecvError::Forked => Error::Forked,
            RecvError::Corrupt { path, offset } => Error::Corrupt { path, offset },
            RecvError::Decode(why) => Error::Decode(why),
            RecvError::ModeConflict { name, mode } => Error::ModeConflict { name, mode },
        }
    }
}

impl From<TryRecvError> for Error {
    fn from(error: TryRecvError) -> Self {
        match error {
            TryRecvError::Empty => Error::Empty,
            TryRecvError::Recv(error) => error.into(),
        }
    }
}

// The messages need not be `Debug` for the errors to be: what did not go is not shown.
impl<V> fmt::Debug for SendError<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SendError::Closed(_) => write!(f, "Closed(..)"),
            SendError::PeerDied { pid, .. } => write!(f, "PeerDied {{ pid: {pid}, .. }}"),
            SendError::Stopping(_) => write!(f, "Stopping(..)"),
            SendError::Forked(_) => write!(f, "Forked(..)"),
            SendError::Corrupt { path, offset, .. } => {
                write!(f, "Corrupt {{ path: {path:?}, offset: {offset}, .. }}")
            }
            SendError::TooLarge { len, max, .. } => {
                write!(f, "TooLarge {{ len: {len}, max: {max}, .. }}")
            }
            SendError::Encode { why, .. } => write!(f, "Encode {{ why: {why:?}, .. }}"),
        }
    }
}

impl<V> fmt::Debug for TrySendError<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TrySendError::Full(_) => write!(f, "Full(..)"),
            TrySendError::Send(error) => fmt::Debug::fmt(error, f),
        }
    }
}

impl<V> fmt::Display for SendError<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SendError::Closed(_) => write!(f, "not sent: the other end is closed"),
            SendError::PeerDied { pid, .. } => {
                write!(
                    f,
                    "not sent: the ring is full and {} at the other end is dead",
                    Process(*pid)
                )
            }
            SendError::Stopping(_) => {
                write!(f, "not sent: the ring is full and this process is to stop")
            }
            SendError::Forked(_) => {
                write!(f, "not sent: the handle belongs to the process that forked")
            }
            SendError::Corrupt { path, offset, .. } => {
                write!(
                    f,
                    "not sent: {path} is corrupt at byte {offset} of the stream"
                )
            }
            SendError::TooLarge { len, max, .. } => {
                write!(
                    f,
                    "not sent: {len} bytes, and the channel takes up to {max}"
                )
            }
            SendError::Encode { why, .. } => write!(f, "not sent: cannot encode: {why}"),
        }
    }
}

impl<V> fmt::Display for TrySendError<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TrySendError::Full(_) => write!(f, "not sent: the ring is full"),
            TrySendError::Send(error) => fmt::Display::fmt(error, f),
        }
    }
}

impl fmt::Display for RecvError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&Error::from(self.clone()), f)
    }
}

impl fmt::Display for TryRecvError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&Error::from(self.clone()), f)
    }
}

impl<V> std::error::Error for SendError<V> {}
impl<V> std::error::Error for TrySendError<V> {}
impl std::error::Error for RecvError {}
impl std::error::Error for TryRecvError {}
