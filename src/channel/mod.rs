//! Channels: a named, full-duplex pair of rings between two processes.

pub(crate) mod attachment;
mod options;
mod receiver;
mod sender;

pub use options::ChannelOptions;
pub(crate) use options::{DEFAULT_CAPACITY, checked_capacity};
pub(crate) use receiver::is_passed_over;
pub use receiver::{Iter, Receiver, RecvRef, TryIter};
pub use sender::{Loan, Sender};

use crate::codec::{Message, Owned};
use crate::error::{RecvError, Result, SendError, TryRecvError, TrySendError};
use crate::layout::RingHeader;
use crate::sync::Ordering::Relaxed;
use attachment::Attachment;
use core::borrow::Borrow;
use core::fmt;
use core::marker::PhantomData;
use core::time::Duration;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

/// The two ends of a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Whoever created it, or took it over from a creator that died.
    Host,
    /// Whoever opened it.
    Guest,
}

impl End {
    fn other(self) -> End {
        match self {
            End::Host => End::Guest,
            End::Guest => End::Host,
        }
    }
}

/// Which way of receiving an end of a channel allows; fixed when the channel is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Either.
    Any,
    /// `recv` and its like.
    Active,
    /// `on_receive` and listeners.
    Passive,
}

impl Mode {
    pub(crate) fn bits(self) -> u64 {
        match self {
            Mode::Any => 1,
            Mode::Active => 2,
            Mode::Passive => 3,
        }
    }

    /// What we do not know forbids nothing.
    pub(crate) fn from_bits(bits: u64) -> Mode {
        match bits {
            2 => Mode::Active,
            3 => Mode::Passive,
            _ => Mode::Any,
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Mode::Any => "any",
            Mode::Active => "active",
            Mode::Passive => "passive",
        })
    }
}

/// What is at the other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerState {
    /// Nobody, yet or any more.
    Absent,
    /// A living process; a stopped one is alive.
    Alive {
        /// Its pid, in its own pid namespace.
        pid: u32,
    },
    /// A process that died and has no successor yet.
    Dead {
        /// Its pid; 0 if it was never known.
        pid: u32,
    },
    /// Nobody ever again.
    Closed,
}

/// How a handle waits for a message or for room.
///
/// Who spins first looks away for a microsecond if that lately paid, as it does in a stream without
/// answers: what came meanwhile comes side by side instead of one after another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Spins, giving the processor up now and then. Never sleeps; takes a processor whole.
    Spin,
    /// Spins for as long as that lately paid, at most some 80 µs, then sleeps. The default.
    Adaptive,
    /// Sleeps at once.
    Sleep,
}

/// Counters of one direction of a channel, from its birth on; they outlive the ends.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Messages sent.
    pub sent: u64,
    /// Messages received.
    pub received: u64,
    /// Bytes in the ring now, headers and padding included; about.
    pub used: u64,
    /// Bytes that the ring holds.
    pub capacity: u64,
    /// Most bytes that the sender found in use. It looks when the ring seems full and when it
    /// wakes the receiver, so a short peak between two fast ends may go unseen.
    pub peak: u64,
    /// Times a sender found the ring full.
    pub full: u64,
    /// Times one of the two slept.
    pub sleeps: u64,
    /// Times one of the two woke the other, which slept or was about to.
    pub wakes: u64,
    /// Sleeps that ended by the clock although there was something to do. 0 unless a process was
    /// killed, stopped or starved of the processor in the middle of waking the other.
    pub rescues: u64,
}

impl Stats {
    pub(crate) fn of(header: &RingHeader, capacity: u64) -> Stats {
        let (producer, consumer) = (&header.producer, &header.consumer);
        let used = producer
            .tail
            .load(Relaxed)
            .saturating_sub(consumer.head.load(Relaxed));
        Stats {
            sent: producer.sent.load(Relaxed),
            received: consumer.received.load(Relaxed),
            used: used.min(capacity),
            capacity,
            peak: producer.peak.load(Relaxed),
            full: producer.full.load(Relaxed),
            sleeps: producer
                .sleeps
                .load(Relaxed)
                .wrapping_add(consumer.sleeps.load(Relaxed)),
            wakes: header.sleepers.wakes.load(Relaxed),
            rescues: producer
                .rescues
                .load(Relaxed)
                .wrapping_add(consumer.rescues.load(Relaxed)),
        }
    }
}

/// An attachment that the halves of a channel share. The last one gives it up, or back to the
/// runtime that lent it.
pub(crate) struct Held {
    attachment: Arc<Attachment>,
    /// The halves live apart: dropping one closes its direction.
    split: AtomicBool,
    /// Lent by a runtime, which looks here whether it has it back.
    lent: Option<Arc<AtomicBool>>,
}

impl Held {
    /// Whether a half that is dropped now leaves the other one behind, and so closes its direction.
    ///
    /// Not at an end that a runtime gave out: there the halves of a process that leaves in order
    /// go one after the other, and its successor is to find its peer still waiting. The runtime
    /// says when it is over.
    fn closes_direction(self: &Arc<Self>) -> bool {
        self.split.load(Ordering::Relaxed)
            && !self.attachment.belongs_to_runtime()
            && Arc::strong_count(self) > 1
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let forked = self.attachment.roster().forked();
        if let Some(lent) = self.lent.as_ref().filter(|_| !forked) {
            self.attachment.reopen();
            lent.store(false, Ordering::Release);
        }
    }
}

/// One end of a channel: sends on one ring, receives from the other.
///
/// A channel is a file that two processes map. Whoever creates it holds the [`Host`](End::Host)'s
/// end, whoever opens it the [`Guest`](End::Guest)'s; each end is held by one process at a time,
/// and when that process dies, the next one takes its end over with the messages that were not
/// delivered. A handle is `Send` but neither `Sync` nor `Clone`: one thread at a time uses it.
/// [`split`](Channel::split) makes two handles of it, for two threads.
///
/// Everything of [`Sender`] and [`Receiver`] is also here. Only listening needs a `split` first.
///
/// ```
/// # let domain = format!("doc-channel-{}", std::process::id());
/// use ringlane::Channel;
///
/// let mut host = Channel::<str>::options().domain(&domain).create("greetings")?;
/// // In another process, as a rule:
/// let mut guest = Channel::<str>::options().domain(&domain).open("greetings")?;
///
/// host.send("hello")?;
/// assert_eq!(guest.recv()?, "hello");
/// guest.send("hello yourself")?;
/// assert_eq!(host.recv()?, "hello yourself");
/// # Ok::<(), ringlane::Error>(())
/// ```
///
/// # Deadlock
/// Two ends that both wait in `send` for room wait for ever. Receive in between, or use
/// [`send_timeout`](Channel::send_timeout).
pub struct Channel<T: Message + ?Sized> {
    sender: Sender<T>,
    receiver: Receiver<T>,
}

impl<T: Message + ?Sized> Channel<T> {
    /// Creates the channel in the default domain, with default options.
    ///
    /// # Errors
    /// As [`ChannelOptions::create`].
    pub fn create(name: &str) -> Result<Self> {
        Self::options().create(name)
    }

    /// Opens the channel in the default domain.
    ///
    /// # Errors
    /// As [`ChannelOptions::open`].
    pub fn open(name: &str) -> Result<Self> {
        Self::options().open(name)
    }

    /// Options, to create or open a channel with.
    pub fn options() -> ChannelOptions<T> {
        ChannelOptions::new()
    }

    pub(crate) fn new(
        attachment: Arc<Attachment>,
        lent: Option<Arc<AtomicBool>>,
        wait: Wait,
    ) -> Result<Self> {
        let held = Arc::new(Held {
            attachment,
            split: AtomicBool::new(false),
            lent,
        });
        let sender = Sender::new(held.clone(), wait)?;
        let receiver = Receiver::new(held, wait)?;
        Ok(Channel { sender, receiver })
    }

    /// Makes two handles of it, for two threads. Dropping one of them closes that direction;
    /// dropping both gives the end up. At an end obtained from a [`Runtime`](crate::Runtime) or a
    /// [`Child`](crate::Child), dropping one of them does nothing by itself.
    ///
    /// ```
    /// # let domain = format!("doc-split-{}", std::process::id());
    /// use ringlane::{Channel, RecvError};
    ///
    /// let (mut sender, receiver) = Channel::<u32>::options().domain(&domain).create("numbers")?.split();
    /// let mut guest = Channel::<u32>::options().domain(&domain).open("numbers")?;
    /// sender.send(7)?;
    /// drop(sender);
    /// assert_eq!(guest.recv(), Ok(7));
    /// assert_eq!(guest.recv(), Err(RecvError::Closed));
    /// # drop(receiver);
    /// # Ok::<(), ringlane::Error>(())
    /// ```
    pub fn split(self) -> (Sender<T>, Receiver<T>) {
        self.sender.held.split.store(true, Ordering::Relaxed);
        (self.sender, self.receiver)
    }

    /// The channel's name.
    pub fn name(&self) -> &str {
        self.sender.held.attachment.name()
    }

    /// Which end this is.
    pub fn end(&self) -> End {
        self.sender.held.attachment.end()
    }

    /// What is at the other end now. About a microsecond.
    pub fn peer(&self) -> PeerState {
        self.sender.held.attachment.peer()
    }

    /// Waits until a living process holds the other end.
    ///
    /// # Errors
    /// `Timeout`, `Closed`, `Stopping`, `Forked`.
    pub fn wait_peer(&self, timeout: Duration) -> Result<()> {
        self.receiver.wait_peer(timeout)
    }

    /// As [`Sender::send`].
    ///
    /// # Errors
    /// As there.
    #[inline]
    pub fn send<V: Borrow<T>>(&mut self, value: V) -> Result<(), SendError<V>> {
        self.sender.send(value)
    }

    /// As [`Sender::try_send`].
    ///
    /// # Errors
    /// As there.
    #[inline]
    pub fn try_send<V: Borrow<T>>(&mut self, value: V) -> Result<(), TrySendError<V>> {
        self.sender.try_send(value)
    }

    /// As [`Sender::send_timeout`].
    ///
    /// # Errors
    /// As there.
    pub fn send_timeout<V: Borrow<T>>(
        &mut self,
        value: V,
        timeout: Duration,
    ) -> Result<(), TrySendError<V>> {
        self.sender.send_timeout(value, timeout)
    }

    /// As [`Sender::send_all`].
    ///
    /// # Errors
    /// As there.
    pub fn send_all<V: Borrow<T>>(
        &mut self,
        values: impl IntoIterator<Item = V>,
    ) -> Result<usize, SendError<V>> {
        self.sender.send_all(values)
    }

    /// As [`Receiver::recv`].
    ///
    /// # Errors
    /// As there.
    #[inline]
    pub fn recv(&mut self) -> Result<Owned<T>, RecvError> {
        self.receiver.recv()
    }

    /// As [`Receiver::try_recv`].
    ///
    /// # Errors
    /// As there.
    #[inline]
    pub fn try_recv(&mut self) -> Result<Owned<T>, TryRecvError> {
        self.receiver.try_recv()
    }

    /// As [`Receiver::recv_timeout`].
    ///
    /// # Errors
    /// As there.
    pub fn recv_timeout(&mut self, timeout: Duration) -> Result<Owned<T>, TryRecvError> {
        self.receiver.recv_timeout(timeout)
    }

    /// As [`Receiver::recv_many`].
    ///
    /// # Errors
    /// As there.
    pub fn recv_many(&mut self, out: &mut Vec<Owned<T>>, max: usize) -> Result<usize, RecvError> {
        self.receiver.recv_many(out, max)
    }

    /// As [`Receiver::iter`].
    pub fn iter(&mut self) -> Iter<'_, T> {
        self.receiver.iter()
    }

    /// As [`Receiver::try_iter`].
    pub fn try_iter(&mut self) -> TryIter<'_, T> {
        self.receiver.try_iter()
    }

    /// As [`Receiver::recv_ref`].
    ///
    /// # Errors
    /// As there.
    pub fn recv_ref(&mut self) -> Result<RecvRef<'_, T>, RecvError> {
        self.receiver.recv_ref()
    }

    /// As [`Receiver::try_recv_ref`].
    ///
    /// # Errors
    /// As there.
    pub fn try_recv_ref(&mut self) -> Result<RecvRef<'_, T>, TryRecvError> {
        self.receiver.try_recv_ref()
    }

    /// Counters of the direction that this end sends on. For the other one, see
    /// [`Receiver::stats`].
    pub fn stats(&self) -> Stats {
        self.sender.stats()
    }
}

impl Channel<[u8]> {
    /// As [`Sender::loan`].
    ///
    /// # Errors
    /// As there.
    pub fn loan(&mut self, len: usize) -> Result<Loan<'_>, TrySendError<()>> {
        self.sender.loan(len)
    }
}

impl<T: Message + ?Sized> fmt::Debug for Channel<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Channel({:?}, {:?})", self.name(), self.end())
    }
}

/// Makes a half of a channel `Send`, but not `Sync`, and says what it carries.
type OneThread<T> = PhantomData<(fn(&T), core::cell::Cell<()>)>;

/// A `Duration` from now as a moment; `None` if there is none that late.
fn deadline_in(timeout: Duration) -> Option<Instant> {
    Instant::now().checked_add(timeout)
}
