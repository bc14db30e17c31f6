//! Receiving as an iterator.
//!
//! What does not decode is passed over, but not for ever: a damaged ring may lead back to itself,
//! with one more such record each time.

use super::Receiver;
use crate::codec::{Message, Owned};
use crate::error::{RecvError, TryRecvError};

/// What [`Receiver::iter`] gives.
#[derive(Debug)]
pub struct Iter<'a, T: Message + ?Sized>(pub(super) &'a mut Receiver<T>);

impl<T: Message + ?Sized> Iterator for Iter<'_, T> {
    type Item = Owned<T>;

    fn next(&mut self) -> Option<Owned<T>> {
        // In a row, without the ring being empty in between. News do not count: there are no more
        // of them than there are peers, who may come and go for years.
        let mut undecodable = 0;
        loop {
            match self.0.recv() {
                Ok(value) => return Some(value),
                Err(RecvError::Decode(_)) if self.0.consumer.is_ready() => {
                    undecodable += 1;
                    if undecodable > most_records(self.0) {
                        return None;
                    }
                }
                Err(RecvError::Decode(_)) => undecodable = 0,
                Err(error) if is_passed_over(&error) => {}
                Err(_) => return None,
            }
        }
    }
}

/// What [`Receiver::try_iter`] gives.
#[derive(Debug)]
pub struct TryIter<'a, T: Message + ?Sized> {
    receiver: &'a mut Receiver<T>,
    /// Calls that may yet be made: one for each record that fits into the ring, and two for a death
    /// and a successor before it. So it ends beside whoever sends without a pause, too.
    left: u64,
}

impl<'a, T: Message + ?Sized> TryIter<'a, T> {
    pub(super) fn new(receiver: &'a mut Receiver<T>) -> Self {
        let left = 3 * most_records(receiver);
        TryIter { receiver, left }
    }
}

impl<T: Message + ?Sized> Iterator for TryIter<'_, T> {
    type Item = Owned<T>;

    fn next(&mut self) -> Option<Owned<T>> {
        while self.left > 0 {
            self.left -= 1;
            match self.receiver.try_recv() {
                Ok(value) => return Some(value),
                Err(TryRecvError::Recv(error)) if is_passed_over(&error) => {}
                Err(_) => return None,
            }
        }
        None
    }
}

/// As many as a ring holds at a time.
fn most_records<T: Message + ?Sized>(receiver: &Receiver<T>) -> u64 {
    receiver.consumer.ring().capacity() / 8
}

/// What does not end an iterator or a listener.
pub(crate) fn is_passed_over(error: &RecvError) -> bool {
    matches!(
        error,
        RecvError::PeerDied { .. } | RecvError::PeerRestarted { .. } | RecvError::Decode(_)
    )
}
