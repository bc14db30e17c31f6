//! The sending half.

mod loan;

pub use loan::Loan;

use super::receiver::spins;
use super::{Held, OneThread, Stats, Wait, deadline_in};
use crate::codec::{Codec, Message};
use crate::doorbell::{self, News, SLICE, Slept, Slip, Spinner};
use crate::error::{SendError, TrySendError};
use crate::ring::{Producer, Progress, Refusal};
use crate::role::{Role, State};
use crate::sync::Ordering::*;
use crate::sys::{self, ForkCanary};
use core::borrow::Borrow;
use core::fmt;
use core::time::Duration;
use std::sync::Arc;
use std::time::Instant;

/// The sending half of one end of a channel.
///
/// A message is sent once `send` returned `Ok`: it will be offered to this or the next holder of
/// the other end, and survives the sender's death. While the other end is awake and there is room,
/// sending makes no system call and no allocation.
///
/// ```
/// # let domain = format!("doc-sender-{}", std::process::id());
/// use ringlane::Channel;
///
/// let (mut sender, _receiver) = Channel::<u64>::options().domain(&domain).create("ticks")?.split();
/// let mut guest = Channel::<u64>::options().domain(&domain).open("ticks")?;
/// sender.send_all([1, 2, 3])?;
/// assert_eq!(guest.try_iter().sum::<u64>(), 6);
/// # Ok::<(), ringlane::Error>(())
/// ```
pub struct Sender<T: Message + ?Sized> {
    producer: Producer,
    canary: ForkCanary,
    /// This process is not registered for the asymmetric fence.
    fences: bool,
    /// The ring said something impossible; it is not believed again.
    corrupt: bool,
    news: News,
    /// When a try that finds the ring full is to look at the peer again.
    look_again: Option<Instant>,
    wait: Wait,
    spinner: Spinner,
    slip: Slip,
    /// For codecs that put the bytes together first.
    scratch: Vec<u8>,
    pub(super) held: Arc<Held>,
    message: OneThread<T>,
}

/// Between two looks at the peer by tries that find the ring full, each of which costs some 3 µs.
const LOOKS_APART: Duration = Duration::from_micros(100);

/// Why nothing was sent, before the value is put back into it.
enum Failure {
    Full,
    Closed,
    PeerDied(u32),
    Stopping,
    Forked,
    Corrupt,
    TooLarge(usize),
    Encode(String),
}

impl<T: Message + ?Sized> Sender<T> {
    pub(super) fn new(held: Arc<Held>, wait: Wait) -> crate::Result<Self> {
        let producer = held.attachment.producer()?;
        let news = News::none(producer.ring().header());
        let slip = Slip::new(spins(wait), producer.ring().capacity());
        Ok(Sender {
            producer,
            canary: held.attachment.roster().canary(),
            fences: !sys::barrier().registered,
            corrupt: false,
            news,
            look_again: None,
            wait,
            spinner: Spinner::new(spins(wait)),
            slip,
            scratch: Vec::new(),
            held,
            message: OneThread::default(),
        })
    }

    /// Sends a message, waiting for room if the ring is full.
    ///
    /// A `T` or a `&T` is sent alike. With nobody at the other end, or a dead process, messages
    /// queue while there is room. With a full ring and nobody there *yet*, it waits for somebody to
    /// come.
    ///
    /// # Errors
    /// `Closed` once the other end is closed or dropped its receiver; `TooLarge` and `Encode`
    /// before anything is written; with a full ring `PeerDied` if the other end's process is dead,
    /// and `Stopping`; `Forked`, `Corrupt`. The value comes back in each.
    #[inline(always)]
    pub fn send<V: Borrow<T>>(&mut self, value: V) -> Result<(), SendError<V>> {
        if self
            .send_usual(self.producer.progress(), value.borrow())
            .is_some()
        {
            return Ok(());
        }
        self.send_or_wait(value)
    }

    /// Sends a message if there is room for it now.
    ///
    /// # Errors
    /// `Full`, or as [`send`](Self::send). A peer's death is looked for when the ring is full, at
    /// most every 100 µs.
    #[inline]
    pub fn try_send<V: Borrow<T>>(&mut self, value: V) -> Result<(), TrySendError<V>> {
        if self
            .send_usual(self.producer.progress(), value.borrow())
            .is_some()
        {
            return Ok(());
        }
        self.try_send_slowly(value)
    }

    /// Sends a message, waiting for room for at most `timeout`, and never less.
    ///
    /// # Errors
    /// `Full` if there still was no room then, or as [`send`](Self::send).
    pub fn send_timeout<V: Borrow<T>>(
        &mut self,
        value: V,
        timeout: Duration,
    ) -> Result<(), TrySendError<V>> {
        if self
            .send_usual(self.producer.progress(), value.borrow())
            .is_some()
        {
            return Ok(());
        }
        self.send_slowly(value, deadline_in(timeout))
    }

    /// Sends all that `values` yields, in order, waiting for room where need be. Says how many
    /// that were. Each is offered at once, however slow `values` is, and a receiver that sleeps is
    /// woken for the first.
    ///
    /// # Errors
    /// As [`send`](Self::send), with the value that was not sent; those before it were.
    pub fn send_all<V: Borrow<T>>(
        &mut self,
        values: impl IntoIterator<Item = V>,
    ) -> Result<usize, SendError<V>> {
        let mut count = 0;
        let mut progress = self.producer.progress();
        for value in values {
            match self.send_usual(progress, value.borrow()) {
                Some(to) => progress = to,
                None => {
                    self.send_or_wait(value)?;
                    progress = self.producer.progress();
                }
            }
            count += 1;
        }
        Ok(count)
    }

    /// Counters of this direction.
    pub fn stats(&self) -> Stats {
        let ring = self.producer.ring();
        Stats::of(ring.header(), ring.capacity())
    }

    /// Sends a message if nothing stands in the way, and says how far we are then. `None` does not
    /// say what does. `from` is how far we are: the producer's own, or a copy of it at hand.
    #[inline(always)]
    fn send_usual(&mut self, from: Progress, value: &T) -> Option<Progress> {
        let header = self.producer.ring().header();
        if self.canary.forked() || self.news.pending(header) {
            return None;
        }
        let producer = &self.producer;
        let put = |bytes: &[u8]| producer.put(from, bytes);
        let to = T::Codec::encode(value, &mut self.scratch, put).ok()??;
        self.producer.advance(to);
        self.ring();
        Some(to)
    }

    #[cold]
    #[inline(never)]
    fn send_now(&mut self, value: &T) -> Result<(), Failure> {
        self.check()?;
        let producer = &mut self.producer;
        let put = T::Codec::encode(value, &mut self.scratch, |bytes| {
            let claim = producer.claim(bytes.len()).map_err(|r| (r, bytes.len()))?;
            producer.fill(&claim, bytes);
            producer.commit(claim, bytes.len());
            Ok(())
        });
        match put {
            Ok(Ok(())) => {
                self.ring();
                Ok(())
            }
            Ok(Err((refusal, len))) => Err(self.refused(refusal, len)),
            Err(why) => Err(Failure::Encode(why)),
        }
    }

    /// What stands in the way of every operation.
    fn check(&mut self) -> Result<(), Failure> {
        if self.canary.forked() {
            return Err(Failure::Forked);
        }
        if self.news.arrived(self.producer.ring().header()) {
            self.look_again = None;
            self.look_for_close()?;
        }
        Ok(())
    }

    #[inline(always)]
    fn ring(&mut self) {
        let header = self.producer.ring().header();
        if doorbell::ring(&header.sleepers.consumer, header, self.fences) {
            // A moment to see how full the ring is; what is wrong with it shows when it matters.
            let _ = self.producer.refresh();
        }
    }

    #[cold]
    fn refused(&mut self, refusal: Refusal, len: usize) -> Failure {
        match refusal {
            Refusal::Full => Failure::Full,
            Refusal::TooLarge => Failure::TooLarge(len),
            Refusal::Corrupt => {
                self.corrupt = true;
                Failure::Corrupt
            }
        }
    }

    /// The other end may have been closed, or its receiver dropped. Else gives its role, and whether
    /// its holder is dead.
    #[cold]
    fn look_for_close(&mut self) -> Result<(Role, bool), Failure> {
        if self.corrupt {
            self.news.forget();
            return Err(Failure::Corrupt);
        }
        let (role, dead) = self.held.attachment.peer_role();
        let closed = self.producer.ring().header().consumer.closed.load(Acquire);
        if role.state == State::Closed || (role.is_held() && closed == u64::from(role.epoch)) {
            // To be found again by the next call.
            self.news.forget();
            return Err(Failure::Closed);
        }
        Ok((role, dead))
    }

    /// The ring is full: is anybody left to make room, and are we to wait?
    fn look(&mut self) -> Result<(), Failure> {
        let (role, dead) = self.look_for_close()?;
        let attachment = &self.held.attachment;
        if dead {
            return Err(Failure::PeerDied(attachment.peer_pid(role.epoch)));
        }
        if !role.is_held() && attachment.is_unlinked() {
            // Nobody can come any more: the channel has no name.
            return Err(Failure::Closed);
        }
        if attachment.stopping() {
            Err(Failure::Stopping)
        } else {
            Ok(())
        }
    }

    /// Counts that the ring was full, and gives a reason beyond that if there is one.
    fn why_full(&mut self) -> Failure {
        self.count_full();
        let now = Instant::now();
        if self.look_again.is_some_and(|at| now < at) {
            return Failure::Full;
        }
        // What was found is found again by the next try.
        self.look_again = None;
        if let Err(reason) = self.look() {
            return reason;
        }
        self.look_again = now.checked_add(LOOKS_APART);
        Failure::Full
    }

    fn count_full(&mut self) {
        let full = &self.producer.ring().header().producer.full;
        full.store(full.load(Relaxed).wrapping_add(1), Relaxed);
        self.note_full();
    }

    /// Notes since when nothing has been received, for pictures. A predecessor's note holds on.
    fn note_full(&self) {
        let line = &self.producer.ring().header().producer;
        let head = self.producer.head();
        if line.full_at.load(Relaxed) == head && line.full_since.load(Relaxed) != 0 {
            return;
        }
        line.full_since.store(sys::boot_millis(), Relaxed);
        // Release: whoever sees this place sees its time, or a later one; partner: the inspector's
        // `full_ms`.
        line.full_at.store(head, Release);
    }

    #[cold]
    #[inline(never)]
    fn send_or_wait<V: Borrow<T>>(&mut self, value: V) -> Result<(), SendError<V>> {
        self.send_slowly(value, None).map_err(|e| match e {
            TrySendError::Send(e) => e,
            TrySendError::Full(_) => unreachable!("without a deadline, full is waited for"),
        })
    }

    /// Without a deadline it never fails with `Full`.
    #[cold]
    #[inline(never)]
    fn send_slowly<V: Borrow<T>>(
        &mut self,
        value: V,
        deadline: Option<Instant>,
    ) -> Result<(), TrySendError<V>> {
        let mut failure = match self.send_now(value.borrow()) {
            Ok(()) => return Ok(()),
            Err(failure) => failure,
        };
        if matches!(failure, Failure::Full) {
            self.count_full();
        }
        loop {
            if !matches!(failure, Failure::Full) {
                return Err(self.failed(failure, value));
            }
            let waited = self.wait_for_room(deadline);
            // Whatever ended the wait, room counts first.
            match self.send_now(value.borrow()) {
                Ok(()) => return Ok(()),
                Err(Failure::Full) => self.note_full(),
                Err(other) => return Err(self.failed(other, value)),
            }
            match waited {
                Ok(true) => failure = Failure::Full,
                Ok(false) => return Err(TrySendError::Full(value)),
                Err(other) => failure = other,
            }
        }
    }

    #[cold]
    #[inline(never)]
    fn try_send_slowly<V: Borrow<T>>(&mut self, value: V) -> Result<(), TrySendError<V>> {
        let failure = match self.send_now(value.borrow()) {
            Ok(()) => return Ok(()),
            Err(Failure::Full) => self.why_full(),
            Err(failure) => failure,
        };
        Err(self.failed(failure, value))
    }

    /// Waits until `head` moved, something happened, or a slice passed. `Ok(false)` at the deadline.
    fn wait_for_room(&mut self, deadline: Option<Instant>) -> Result<bool, Failure> {
        self.slip.slip(self.producer.sent());
        let producer = &self.producer;
        let moved = self.spinner.spin(|| producer.head_moved());
        let left = deadline.map_or(SLICE, |d| d.saturating_duration_since(Instant::now()));
        if left.is_zero() {
            self.look()?;
            return Ok(false);
        }
        if moved {
            return Ok(true);
        }
        self.look()?;
        if self.wait == Wait::Spin {
            std::thread::yield_now();
            return Ok(true);
        }
        let header = self.producer.ring().header();
        let line = &header.producer;
        line.sleeps
            .store(line.sleeps.load(Relaxed).wrapping_add(1), Relaxed);
        let attachment = &self.held.attachment;
        let slept = doorbell::sleep(
            &header.sleepers.producer,
            left.min(SLICE),
            || attachment.peer_is_registered(),
            || self.producer.head_moved() || self.news.pending(header),
        );
        if slept == Slept::Rescued {
            line.rescues
                .store(line.rescues.load(Relaxed).wrapping_add(1), Relaxed);
        }
        Ok(true)
    }

    #[cold]
    fn failed<V>(&mut self, failure: Failure, value: V) -> TrySendError<V> {
        let error = match failure {
            Failure::Full => return TrySendError::Full(value),
            Failure::Closed => SendError::Closed(value),
            Failure::PeerDied(pid) => SendError::PeerDied { pid, value },
            Failure::Stopping => SendError::Stopping(value),
            Failure::Forked => SendError::Forked(value),
            Failure::Corrupt => {
                self.news.forget();
                let path = self.held.attachment.path().to_string();
                SendError::Corrupt {
                    path,
                    offset: self.producer.position(),
                    value,
                }
            }
            Failure::TooLarge(len) => SendError::TooLarge {
                len,
                max: self.producer.ring().max_len(),
                value,
            },
            Failure::Encode(why) => SendError::Encode { why, value },
        };
        TrySendError::Send(error)
    }
}

impl<T: Message + ?Sized> Drop for Sender<T> {
    fn drop(&mut self) {
        let attachment = &self.held.attachment;
        if attachment.roster().forked() {
            return;
        }
        if self.held.closes_direction() {
            let line = &self.producer.ring().header().producer;
            line.closed.store(u64::from(attachment.epoch()), Release);
            attachment.announce();
        }
    }
}

impl<T: Message + ?Sized> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sender({:?})", self.held.attachment.name())
    }
}
