//! The receiving half: the next record, and what to say when there is none.

mod in_place;
mod iterate;
mod slow;
mod source;

pub use in_place::RecvRef;
pub(crate) use iterate::is_passed_over;
pub use iterate::{Iter, TryIter};

use super::{Held, Mode, OneThread, Stats, Wait};
use crate::codec::{Codec, Message, Owned};
use crate::doorbell::{self, News, Slip, Spinner};
use crate::error::{RecvError, Result, TryRecvError};
use crate::ring::{Consumer, Peek, Record};
use crate::roster::Roster;
use crate::sync::Ordering::*;
use crate::sys::{self, ForkCanary};
use core::fmt;
use core::marker::PhantomData;
use core::time::Duration;
use slow::without_deadline;
use source::{Received, Taken};
use std::sync::{Arc, Weak};

/// The receiving half of one end of a channel, in the active way: `recv` and its like. For the
/// passive way, see [`on_receive`](Receiver::on_receive).
///
/// # When the other end goes
/// What was sent is received first, whatever became of the sender. Then
/// - `PeerDied` is reported once for each death, and the next call waits for a successor;
/// - `PeerRestarted` is reported once for each successor, before its first message;
/// - `Closed` is final: the host closed the channel, nobody can find it by its name any more, or
///   the runtime will not start that child again. So it is if the other end dropped its
///   [`Sender`](super::Sender) half, until another process takes that end over;
/// - a guest that left in order is nobody there *yet*: the call goes on waiting.
///
/// ```
/// # let domain = format!("doc-receiver-{}", std::process::id());
/// use ringlane::{Channel, TryRecvError};
///
/// let mut host = Channel::<str>::options().domain(&domain).create("log")?;
/// let (_, mut receiver) = Channel::<str>::options().domain(&domain).open("log")?.split();
/// assert_eq!(receiver.try_recv(), Err(TryRecvError::Empty));
/// host.send("first")?;
/// host.send("last")?;
/// drop(host);
/// assert_eq!(receiver.iter().collect::<Vec<_>>(), ["first", "last"]);
/// # Ok::<(), ringlane::Error>(())
/// ```
pub struct Receiver<T: Message + ?Sized> {
    consumer: Consumer,
    canary: ForkCanary,
    fences: bool,
    gate: Gate,
    wait: Wait,
    spinner: Spinner,
    slip: Slip,
    scratch: Vec<u8>,
    /// Epoch of the peer whose messages we expect; 0 while we know of none.
    known: u32,
    /// Epoch of the peer whose death was told.
    told_dead: u32,
    news: News,
    /// Coarse clock at the last look at the peer; 0 if the next one is due.
    looked: u64,
    /// Ends a wait: the listener that owns us is to stop.
    interrupted: Option<Arc<std::sync::atomic::AtomicBool>>,
    pub(super) held: Arc<Held>,
    message: OneThread<T>,
}

/// What a receiving call meets first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Gate {
    /// Not used yet, so its mode is neither checked nor noted.
    Fresh,
    Open,
    Corrupt,
}

/// Whether to spin. On a machine with a single processor spinning only keeps the other side from
/// running. That we may use only one ourselves says nothing: the peer has its own.
pub(super) fn spins(wait: Wait) -> bool {
    sys::several_processors() && wait != Wait::Sleep
}

impl<T: Message + ?Sized> Receiver<T> {
    pub(super) fn new(held: Arc<Held>, wait: Wait) -> Result<Self> {
        let attachment = &held.attachment;
        let (role, _) = attachment.peer_role();
        let mut known = if role.is_held() { role.epoch } else { 0 };
        let mut consumer = attachment.consumer(role.incarnation())?;
        // What an earlier peer left comes first, and the present one is its successor.
        if let Some(earlier) = consumer.oldest() {
            known = earlier.epoch;
            consumer.expect(earlier);
        }
        let news = News::none(consumer.ring().header());
        let slip = Slip::new(spins(wait), consumer.ring().capacity());
        Ok(Receiver {
            consumer,
            canary: attachment.roster().canary(),
            fences: !sys::barrier().registered,
            gate: Gate::Fresh,
            wait,
            spinner: Spinner::new(spins(wait)),
            slip,
            scratch: Vec::new(),
            known,
            told_dead: 0,
            news,
            looked: 0,
            interrupted: None,
            held,
            message: OneThread::default(),
        })
    }

    /// Receives the next message, waiting for one.
    ///
    /// The message is taken before it is returned: a process killed while it works on a message
    /// loses that one. See [`recv_ref`](Self::recv_ref) for the other way.
    ///
    /// # Errors
    /// As the type's documentation says; `Stopping` once nothing is left and the runtime asked this
    /// process to stop; `Decode` for a message that is no `T`, which is consumed; `ModeConflict` at
    /// an end that only allows listening; `Forked`, `Corrupt`.
    #[inline(always)]
    pub fn recv(&mut self) -> Result<Owned<T>, RecvError> {
        match self.usual() {
            Some(record) => self.take(record),
            None => self.recv_slowly(),
        }
    }

    /// Receives the next message if there is one now.
    ///
    /// # Errors
    /// `Empty`, or as [`recv`](Self::recv). A peer's death is looked for when the call finds
    /// nothing, at most ten times a second.
    #[inline]
    pub fn try_recv(&mut self) -> Result<Owned<T>, TryRecvError> {
        match self.usual() {
            Some(record) => self.take(record),
            None => self.try_recv_slowly(),
        }
    }

    /// Receives the next message, waiting for at most `timeout`, and never less.
    ///
    /// # Errors
    /// `Empty` if there still was none then, or as [`recv`](Self::recv).
    pub fn recv_timeout(&mut self, timeout: Duration) -> Result<Owned<T>, TryRecvError> {
        let record = self.next(Some(timeout))?;
        self.take(record)
    }

    /// Appends up to `max` messages to `out`: waits for the first, and takes what else is there.
    /// Says how many they are. They are taken together: a process killed before it returns loses
    /// them all.
    ///
    /// # Errors
    /// As [`recv`](Self::recv), if there was no message before the error. A message that does not
    /// decode ends the batch and is reported by the next call.
    pub fn recv_many(&mut self, out: &mut Vec<Owned<T>>, max: usize) -> Result<usize, RecvError> {
        if max == 0 {
            return Ok(0);
        }
        let first = self.recv()?;
        out.push(first);
        let mut count = 1;
        let start = self.consumer.progress();
        let mut progress = start;
        while count < max {
            let record = match self.consumer.peek_usual(progress) {
                Some(record) => record,
                None => match self.consumer.peek() {
                    Peek::Record(record) => record,
                    // What is unusual is told by the next call.
                    _ => break,
                },
            };
            if !self.consumer.is_within_a_lap(start, &record) {
                break;
            }
            let received = Received::<RecvError>::new(&self.consumer, record);
            match T::Codec::decode(received, &mut self.scratch) {
                Ok(value) => out.push(value),
                Err(_) => break,
            }
            progress = self.consumer.pass(progress, record);
            count += 1;
        }
        self.consumer.publish_received();
        self.ring();
        Ok(count)
    }

    /// Receives until the end: passes over `PeerDied`, `PeerRestarted` and messages that do not
    /// decode, and ends at `Closed`, `Stopping` and whatever else ends all receiving, such as an
    /// end that only allows listening. So does a whole ring of messages, one behind the other, that
    /// do not decode: it may be damaged, and have no end.
    pub fn iter(&mut self) -> Iter<'_, T> {
        Iter(self)
    }

    /// Receives what is there now; otherwise as [`iter`](Self::iter). What comes meanwhile may be
    /// among it, but it ends, also beside one who never ceases to send.
    pub fn try_iter(&mut self) -> TryIter<'_, T> {
        TryIter::new(self)
    }

    /// The next message in place, waiting for one. It counts as received when the guard is
    /// dropped: a process killed before that leaves it to its successor, marked
    /// [`redelivered`](RecvRef::redelivered).
    ///
    /// ```
    /// # let domain = format!("doc-recv-ref-{}", std::process::id());
    /// use ringlane::Channel;
    ///
    /// let mut host = Channel::<[u8]>::options().domain(&domain).create("orders")?;
    /// let mut guest = Channel::<[u8]>::options().domain(&domain).open("orders")?;
    /// host.send(*b"42 apples")?;
    ///
    /// let order = guest.recv_ref()?;
    /// let mut number = [0; 2];
    /// order.copy_to(0, &mut number)?;
    /// assert_eq!(&number, b"42");
    /// order.keep(); // Not dealt with: it is still there.
    ///
    /// assert_eq!(guest.recv_ref()?.get()?, b"42 apples");
    /// assert!(guest.try_recv().is_err());
    /// # Ok::<(), ringlane::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`recv`](Self::recv), but for `Decode`.
    #[inline]
    pub fn recv_ref(&mut self) -> Result<RecvRef<'_, T>, RecvError> {
        let record = match self.usual() {
            Some(record) => record,
            None => self.next(None).map_err(without_deadline)?,
        };
        Ok(self.lend(record))
    }

    /// As [`recv_ref`](Self::recv_ref), if there is a message now.
    ///
    /// # Errors
    /// `Empty`, or as `recv_ref`.
    #[inline]
    pub fn try_recv_ref(&mut self) -> Result<RecvRef<'_, T>, TryRecvError> {
        let record = match self.usual() {
            Some(record) => record,
            None => self.next_now()?,
        };
        Ok(self.lend(record))
    }

    /// Counters of this direction.
    pub fn stats(&self) -> Stats {
        let ring = self.consumer.ring();
        Stats::of(ring.header(), ring.capacity())
    }

    /// The channel's name.
    pub(crate) fn name(&self) -> &str {
        self.held.attachment.name()
    }

    /// The mode that this end allows.
    pub(crate) fn mode(&self) -> Mode {
        self.held.attachment.mode()
    }

    /// The roster of the runtime that gave this end out.
    pub(crate) fn roster_of_runtime(&self) -> Option<Weak<Roster>> {
        let attachment = &self.held.attachment;
        let given_out = attachment.belongs_to_runtime();
        given_out.then(|| Arc::downgrade(attachment.roster()))
    }

    /// From now on this is a listener's, which may be interrupted by `stop`.
    pub(crate) fn enter_passive(&mut self, stop: Arc<std::sync::atomic::AtomicBool>) {
        let line = &self.consumer.ring().header().consumer;
        line.mode.store(Mode::Passive.bits(), Relaxed);
        // A ring that was found corrupt stays so.
        if self.gate == Gate::Fresh {
            self.gate = Gate::Open;
        }
        self.interrupted = Some(stop);
    }

    /// It is not any more.
    pub(crate) fn leave_passive(&mut self) {
        self.consumer
            .ring()
            .header()
            .consumer
            .mode
            .store(0, Relaxed);
        if self.gate == Gate::Open {
            self.gate = Gate::Fresh;
        }
        self.interrupted = None;
    }

    /// Wakes whoever waits in this receiver, from another thread.
    pub(crate) fn waker(&self) -> impl Fn() + Send + Sync + 'static {
        let ring = self.consumer.ring().clone();
        move || doorbell::announce(ring.header())
    }

    /// The next record if there is nothing unusual about it or about us. What every call begins
    /// with; `None` says nothing.
    #[inline(always)]
    fn usual(&self) -> Option<Record> {
        if self.canary.forked() || self.gate != Gate::Open {
            return None;
        }
        self.consumer.peek_usual(self.consumer.progress())
    }

    /// Takes the record and makes a value of it.
    #[inline(always)]
    fn take<E: From<RecvError>>(&mut self, record: Record) -> Result<Owned<T>, E> {
        let taken = Taken {
            consumer: &mut self.consumer,
            record,
            fences: self.fences,
            error: PhantomData,
        };
        T::Codec::decode(taken, &mut self.scratch)
    }

    /// Rings for a producer that waits for room.
    fn ring(&self) {
        ring_producer(&self.consumer, self.fences);
    }

    fn lend(&mut self, record: Record) -> RecvRef<'_, T> {
        let redelivered = self.consumer.redelivered(&record);
        self.consumer.mark_seen(&record);
        RecvRef {
            receiver: self,
            record,
            redelivered,
            keep: false,
        }
    }
}

/// Rings for a producer that waits for room.
#[inline(always)]
fn ring_producer(consumer: &Consumer, fences: bool) {
    let header = consumer.ring().header();
    doorbell::ring(&header.sleepers.producer, header, fences);
}

impl<T: Message + ?Sized> Drop for Receiver<T> {
    fn drop(&mut self) {
        let attachment = &self.held.attachment;
        if attachment.roster().forked() {
            return;
        }
        if self.held.closes_direction() {
            let line = &self.consumer.ring().header().consumer;
            line.closed.store(u64::from(attachment.epoch()), Release);
            attachment.announce();
        }
    }
}

impl<T: Message + ?Sized> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Receiver({:?})", self.name())
    }
}
