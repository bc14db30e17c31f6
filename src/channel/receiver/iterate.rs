//! Receiving as an iterator.

use super::Receiver;
use crate::codec::{Message, Owned};
use crate::error::{RecvError, TryRecvError};

/// What [`Receiver::iter`] gives.
#[derive(Debug)]
pub struct Iter<'a, T: Message + ?Sized>(pub(super) &'a mut Receiver<T>);

impl<T: Message + ?Sized> Iterator for Iter<'_, T> {
    type Item = Owned<T>;

    fn next(&mut self) -> Option<Owned<T>> {
        loop {
            match self.0.recv() {
                Ok(value) => return Some(value),
                Err(error) if is_passed_over(&error) => {}
                Err(_) => return None,
            }
        }
    }
}

/// What [`Receiver::try_iter`] gives.
#[derive(Debug)]
pub struct TryIter<'a, T: Message + ?Sized>(pub(super) &'a mut Receiver<T>);

impl<T: Message + ?Sized> Iterator for TryIter<'_, T> {
    type Item = Owned<T>;

    fn next(&mut self) -> Option<Owned<T>> {
        loop {
            match self.0.try_recv() {
                Ok(value) => return Some(value),
                Err(TryRecvError::Recv(error)) if is_passed_over(&error) => {}
                Err(_) => return None,
            }
        }
    }
}

/// What does not end an iterator or a listener.
pub(crate) fn is_passed_over(error: &RecvError) -> bool {
    matches!(
        error,
        RecvError::PeerDied { .. } | RecvError::PeerRestarted { .. } | RecvError::Decode(_)
    )
}
