//! What calls may come to where somebody changes words of the segment. Anything else is a bug, a panic
//! first of all.

use ringlane::{Error, RecvError, SendError, TryRecvError, TrySendError};
use std::fmt::Debug;

/// How a call went.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Went {
    Well,
    /// There was no room, no message, no lock, no end, nobody else, or no time.
    Idly,
    /// It said that what lies there is not what it should be.
    Damaged,
}

pub fn sent<V: Debug>(outcome: Result<(), TrySendError<V>>) -> Went {
    match outcome {
        Ok(()) => Went::Well,
        Err(TrySendError::Full(_)) => Went::Idly,
        Err(TrySendError::Send(SendError::Closed(_) | SendError::PeerDied { .. })) => Went::Idly,
        Err(TrySendError::Send(SendError::Corrupt { .. })) => Went::Damaged,
        Err(e) => panic!("{e:?}"),
    }
}

pub fn received<V: Debug>(outcome: Result<V, TryRecvError>) -> Went {
    match outcome {
        Ok(_) => Went::Well,
        Err(TryRecvError::Empty) => Went::Idly,
        Err(TryRecvError::Recv(
            RecvError::Closed | RecvError::PeerDied { .. } | RecvError::PeerRestarted { .. },
        )) => Went::Idly,
        Err(TryRecvError::Recv(
            RecvError::Corrupt { .. } | RecvError::Decode(_) | RecvError::ModeConflict { .. },
        )) => Went::Damaged,
        Err(e) => panic!("{e:?}"),
    }
}

/// Of a channel.
pub fn attached<T>(outcome: Result<T, Error>) -> Result<T, Went> {
    outcome.map_err(|e| match e {
        Error::AlreadyExists { .. } | Error::EndTaken { .. } | Error::NotFound { .. } => Went::Idly,
        Error::Refused { .. }
        | Error::Corrupt { .. }
        | Error::Layout { .. }
        | Error::ForeignRoster { .. }
        | Error::TypeMismatch { .. } => Went::Damaged,
        e => panic!("{e:?}"),
    })
}

/// Of a store.
pub fn opened<T>(outcome: Result<T, Error>) -> Result<T, Went> {
    outcome.map_err(|e| match e {
        Error::NotFound { .. } | Error::LockTimeout { .. } => Went::Idly,
        Error::Refused { .. }
        | Error::Corrupt { .. }
        | Error::Layout { .. }
        | Error::Damaged { .. }
        | Error::ForeignRoster { .. } => Went::Damaged,
        e => panic!("{e:?}"),
    })
}

/// A call of a store.
pub fn done<T>(outcome: Result<T, Error>) -> Went {
    match outcome {
        Ok(_) => Went::Well,
        Err(Error::LockTimeout { .. } | Error::Contended | Error::NoSpace { .. }) => Went::Idly,
        Err(
            Error::Corrupt { .. }
            | Error::Damaged { .. }
            | Error::Decode(_)
            | Error::TypeMismatch { .. }
            | Error::TooManyCollisions { .. }
            | Error::ReadOnly,
        ) => Went::Damaged,
        Err(e) => panic!("{e:?}"),
    }
}
