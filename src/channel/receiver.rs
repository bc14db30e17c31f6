//! The receiving half: the next record, and what to say when there is none.

use super::{Held, Mode, OneThread, PeerState, Stats, Wait, deadline_in};
use crate::codec::{Codec, Message, Owned, Source, no_value};
use crate::doorbell::{self, News, SLICE, Slept, Slip, Spinner};
use crate::error::{Error, RecvError, Result, TryRecvError};
use crate::ring::{Consumer, Incarnation, Peek, Record};
use crate::role::State;
use crate::roster::Roster;
use crate::sync::Ordering::*;
use crate::sys::{self, ForkCanary};
use core::fmt;
use core::marker::PhantomData;
use core::time::Duration;
use std::sync::{Arc, Weak};
use std::time::Instant;
use zerocopy::{Immutable, KnownLayout, TryFromBytes};

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
    /// Coarse clock at the last look at the peer.
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
        self.consumer.publish();
        self.ring();
        Ok(count)
    }

    /// Receives until the end: passes over `PeerDied`, `PeerRestarted` and messages that do not
    /// decode, and ends at `Closed`, `Stopping` and whatever else ends all receiving, such as an
    /// end that only allows listening.
    pub fn iter(&mut self) -> Iter<'_, T> {
        Iter(self)
    }

    /// Receives what is there now; otherwise as [`iter`](Self::iter).
    pub fn try_iter(&mut self) -> TryIter<'_, T> {
        TryIter(self)
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
        self.gate = Gate::Open;
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

    /// What `recv` does if there is anything unusual, such as nothing to receive.
    #[cold]
    #[inline(never)]
    fn recv_slowly(&mut self) -> Result<Owned<T>, RecvError> {
        let record = self.next(None).map_err(without_deadline)?;
        self.take(record)
    }

    #[cold]
    #[inline(never)]
    fn try_recv_slowly(&mut self) -> Result<Owned<T>, TryRecvError> {
        let record = self.next_now()?;
        self.take(record)
    }

    /// The next record, waiting for at most `timeout`, or for ever.
    #[cold]
    #[inline(never)]
    fn next(&mut self, timeout: Option<Duration>) -> Result<Record, TryRecvError> {
        match self.ready()? {
            Some(record) => Ok(record),
            None => self.wait_for_record(timeout.and_then(deadline_in)),
        }
    }

    /// The next record; now and then, if there is none, whether somebody is left to send.
    #[inline(never)]
    fn next_now(&mut self) -> Result<Record, TryRecvError> {
        match self.ready()? {
            Some(record) => Ok(record),
            None => self.look_if_due()?.ok_or(TryRecvError::Empty),
        }
    }

    /// The next record if it is there.
    fn ready(&mut self) -> Result<Option<Record>, RecvError> {
        if self.canary.forked() {
            return Err(RecvError::Forked);
        }
        if self.gate != Gate::Open {
            self.pass_gate()?;
        }
        match self.consumer.peek() {
            Peek::Record(record) => Ok(Some(record)),
            Peek::Empty => Ok(None),
            other => self.unusual(other),
        }
    }

    #[cold]
    fn pass_gate(&mut self) -> Result<(), RecvError> {
        if self.gate == Gate::Corrupt {
            return Err(self.corrupt());
        }
        let mode = self.mode();
        if mode == Mode::Passive {
            return Err(RecvError::ModeConflict {
                name: self.name().to_string(),
                mode,
            });
        }
        self.consumer
            .ring()
            .header()
            .consumer
            .mode
            .store(Mode::Active.bits(), Relaxed);
        self.gate = Gate::Open;
        Ok(())
    }

    #[cold]
    fn corrupt(&mut self) -> RecvError {
        self.gate = Gate::Corrupt;
        let path = self.held.attachment.path().to_string();
        RecvError::Corrupt {
            path,
            offset: self.consumer.position(),
        }
    }

    /// A record of another incarnation is next, or nonsense, or there is more room.
    #[cold]
    fn unusual(&mut self, peek: Peek) -> Result<Option<Record>, RecvError> {
        let mut peek = peek;
        loop {
            match peek {
                Peek::Record(record) => return Ok(Some(record)),
                Peek::Empty => return Ok(None),
                Peek::Passed => self.ring(),
                Peek::Corrupt => return Err(self.corrupt()),
                Peek::Other(peer) => self.meet(peer)?,
            }
            peek = self.consumer.peek();
        }
    }

    /// From here on we have to do with `peer`: says so once, and before that that its predecessor
    /// died, unless it is the first one we know of.
    fn meet(&mut self, peer: Incarnation) -> Result<(), RecvError> {
        let first = self.known == 0;
        if !first && peer.is_heir && self.told_dead != self.known {
            return Err(self.tell_death(self.known));
        }
        self.known = peer.epoch;
        self.consumer.expect(peer);
        if first {
            return Ok(());
        }
        let generation = peer.epoch;
        Err(RecvError::PeerRestarted { generation })
    }

    fn tell_death(&mut self, epoch: u32) -> RecvError {
        self.told_dead = epoch;
        // What comes after a death may have been announced with it.
        self.news.forget();
        let pid = self.held.attachment.peer_pid(epoch);
        RecvError::PeerDied { pid }
    }

    /// Looks at the peer if something was announced, or a slice passed since the last look.
    fn look_if_due(&mut self) -> Result<Option<Record>, RecvError> {
        let now = sys::coarse_nanos();
        let due = now.saturating_sub(self.looked) >= SLICE.as_nanos() as u64;
        // Both are asked, so that the news is noted.
        if self.news.arrived(self.consumer.ring().header()) | due {
            self.looked = now;
            return self.look();
        }
        Ok(None)
    }

    /// The ring was empty: what became of the peer? Looks at the role word, then at the ring again;
    /// only if that is still empty is there anything to say.
    #[cold]
    fn look(&mut self) -> Result<Option<Record>, RecvError> {
        let attachment = self.held.attachment.clone();
        let (role, dead) = attachment.peer_role();
        let closed = self.consumer.ring().header().producer.closed.load(Acquire);
        let sender_gone = role.is_held() && closed == u64::from(role.epoch);
        let stopping = attachment.stopping();
        let peek = self.consumer.peek();
        if let Some(record) = self.unusual(peek)? {
            return Ok(Some(record));
        }
        if role.is_held() && role.epoch != self.known {
            self.meet(role.incarnation())?;
        } else if self.told_dead != self.known && attachment.peer_died(self.known) {
            // Its successor came and left, and sent nothing.
            return Err(self.tell_death(self.known));
        }
        if dead && self.told_dead != role.epoch {
            return Err(self.tell_death(role.epoch));
        }
        let end = if role.state == State::Closed || sender_gone {
            RecvError::Closed
        } else if stopping {
            RecvError::Stopping
        } else if (dead || !role.is_held()) && !attachment.is_linked() {
            // Nobody can come any more: the channel has no name.
            RecvError::Closed
        } else {
            return Ok(None);
        };
        // To be found again by the next call.
        self.news.forget();
        Err(end)
    }

    /// Waits for a record; without a deadline, for ever.
    #[cold]
    #[inline(never)]
    fn wait_for_record(&mut self, deadline: Option<Instant>) -> Result<Record, TryRecvError> {
        self.slip.slip(self.consumer.received());
        let mut slept = false;
        loop {
            let consumer = &self.consumer;
            // Whoever slept in vain is not in a hurry.
            if !slept && self.spinner.spin(|| consumer.is_ready()) {
                if let Some(record) = self.ready()? {
                    return Ok(record);
                }
            }
            if let Some(record) = self.look_if_due()? {
                return Ok(record);
            }
            if self.is_interrupted() {
                return Err(TryRecvError::Empty);
            }
            let left = deadline.map_or(SLICE, |d| d.saturating_duration_since(Instant::now()));
            if left.is_zero() {
                // Whatever came at the last moment still counts.
                return self.ready()?.ok_or(TryRecvError::Empty);
            }
            if self.wait == Wait::Spin {
                std::thread::yield_now();
            } else {
                self.sleep(left.min(SLICE));
                slept = true;
            }
            if let Some(record) = self.ready()? {
                return Ok(record);
            }
        }
    }

    fn sleep(&self, timeout: Duration) {
        let header = self.consumer.ring().header();
        let line = &header.consumer;
        line.sleeps
            .store(line.sleeps.load(Relaxed).wrapping_add(1), Relaxed);
        let attachment = &self.held.attachment;
        let slept = doorbell::sleep(
            &header.sleepers.consumer,
            timeout,
            || attachment.peer_is_registered(),
            || self.consumer.is_ready() || self.news.pending(header),
        );
        if slept == Slept::Rescued {
            line.rescues
                .store(line.rescues.load(Relaxed).wrapping_add(1), Relaxed);
        }
    }

    fn is_interrupted(&self) -> bool {
        let interrupted = self.interrupted.as_ref();
        interrupted.is_some_and(|i| i.load(std::sync::atomic::Ordering::Acquire))
    }

    pub(super) fn wait_peer(&self, timeout: Duration) -> Result<()> {
        let attachment = &self.held.attachment;
        let deadline = deadline_in(timeout);
        let header = self.consumer.ring().header();
        loop {
            // Noted before the look, so that what happens after it ends the sleep.
            let mut news = News::none(header);
            news.arrived(header);
            if self.canary.forked() {
                return Err(Error::Forked);
            }
            match attachment.peer() {
                PeerState::Alive { .. } => return Ok(()),
                PeerState::Closed => return Err(Error::Closed),
                PeerState::Absent | PeerState::Dead { .. } => {}
            }
            if attachment.stopping() {
                return Err(Error::Stopping);
            }
            let left = deadline.map_or(SLICE, |d| d.saturating_duration_since(Instant::now()));
            if left.is_zero() {
                return Err(Error::Timeout);
            }
            doorbell::sleep(
                &header.sleepers.consumer,
                left.min(SLICE),
                || attachment.peer_is_registered(),
                || news.pending(header),
            );
        }
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

/// A record of which a value is made, and which stays where it is. Nobody changes it meanwhile.
struct Received<'a, E> {
    consumer: &'a Consumer,
    record: Record,
    error: PhantomData<E>,
}

impl<'a, E> Received<'a, E> {
    fn new(consumer: &'a Consumer, record: Record) -> Self {
        let error = PhantomData;
        Received {
            consumer,
            record,
            error,
        }
    }
}

impl<E: From<RecvError>> Source for Received<'_, E> {
    type Error = E;

    #[inline(always)]
    fn read<T: TryFromBytes + KnownLayout + Immutable>(self) -> Result<T, E> {
        let no_value = || no_value::<Self>(self.record.len(), size_of::<T>());
        self.consumer.read(&self.record, no_value)
    }

    #[inline(always)]
    fn append(self, out: &mut Vec<u8>) -> Result<(), E> {
        self.consumer.append(&self.record, out);
        Ok(())
    }

    fn undecodable(why: String) -> E {
        RecvError::Decode(why).into()
    }
}

/// A record that is released as soon as its bytes are copied.
struct Taken<'a, E> {
    consumer: &'a mut Consumer,
    record: Record,
    fences: bool,
    error: PhantomData<E>,
}

impl<E: From<RecvError>> Source for Taken<'_, E> {
    type Error = E;

    #[inline(always)]
    fn read<T: TryFromBytes + KnownLayout + Immutable>(self) -> Result<T, E> {
        let no_value = || no_value::<Self>(self.record.len(), size_of::<T>());
        let released = |consumer: &Consumer| ring_producer(consumer, self.fences);
        self.consumer.take(self.record, released, no_value)
    }

    #[inline(always)]
    fn append(self, out: &mut Vec<u8>) -> Result<(), E> {
        self.consumer.append(&self.record, out);
        self.consumer.release(self.record);
        ring_producer(self.consumer, self.fences);
        Ok(())
    }

    fn undecodable(why: String) -> E {
        Received::undecodable(why)
    }
}

/// Without a deadline only an interruption ends a wait with nothing, and that says so as a stop.
#[cold]
fn without_deadline(error: TryRecvError) -> RecvError {
    match error {
        TryRecvError::Recv(error) => error,
        TryRecvError::Empty => RecvError::Stopping,
    }
}

/// A message in place, in the ring. It counts as received when this is dropped, unless by a panic.
/// See [`Receiver::recv_ref`].
pub struct RecvRef<'a, T: Message + ?Sized> {
    receiver: &'a mut Receiver<T>,
    record: Record,
    redelivered: bool,
    keep: bool,
}

impl<T: Message + ?Sized> RecvRef<'_, T> {
    /// Bytes of the message, as its codec made them.
    pub fn len(&self) -> usize {
        self.record.len()
    }

    /// Whether it has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Copies the message out and makes a value of it.
    ///
    /// # Errors
    /// `Decode`.
    pub fn get(&self) -> Result<Owned<T>> {
        let received = Received::new(&self.receiver.consumer, self.record);
        T::Codec::decode(received, &mut Vec::new())
    }

    /// Fills `out` from position `at` of the message on.
    ///
    /// # Errors
    /// `TooLarge` if the message ends before `out` is full.
    pub fn copy_to(&self, at: usize, out: &mut [u8]) -> Result<()> {
        let end = at.saturating_add(out.len());
        if end > self.len() {
            return Err(Error::TooLarge {
                len: end as u64,
                max: self.len() as u64,
            });
        }
        self.receiver.consumer.copy(&self.record, at, out);
        Ok(())
    }

    /// Where the message lies in the stream of this direction, in bytes since the channel was made.
    /// No two messages have one position, and a message that comes again has the same one.
    pub fn position(&self) -> u64 {
        self.record.position()
    }

    /// Whether a process that died had been handed this message, so that it *may* have been dealt
    /// with.
    pub fn redelivered(&self) -> bool {
        self.redelivered
    }

    /// Leaves the message in the ring: the next call hands it out again.
    pub fn keep(mut self) {
        self.keep = true;
    }

    /// The message where it lies, 8-aligned.
    ///
    /// # Safety
    /// Nobody may write to these bytes while the slice lives. No honest process does; a process of
    /// the same user that scribbles over the segment would make it undefined behaviour.
    #[allow(unsafe_code)]
    pub unsafe fn as_bytes(&self) -> &[u8] {
        let at = self.receiver.consumer.payload(&self.record, 0).as_ptr();
        // SAFETY: a record was checked to end within the ring, and is not reused before the guard
        // goes; the caller vouches for the rest.
        unsafe { core::slice::from_raw_parts(at.cast(), self.len()) }
    }
}

impl<T: Message + ?Sized> Drop for RecvRef<'_, T> {
    fn drop(&mut self) {
        if !self.keep && !std::thread::panicking() && !self.receiver.canary.forked() {
            self.receiver.consumer.release(self.record);
            self.receiver.ring();
        }
    }
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

/// What [`Receiver::iter`] gives.
#[derive(Debug)]
pub struct Iter<'a, T: Message + ?Sized>(&'a mut Receiver<T>);

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
pub struct TryIter<'a, T: Message + ?Sized>(&'a mut Receiver<T>);

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

impl<T: Message + ?Sized> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Receiver({:?})", self.name())
    }
}

impl<T: Message + ?Sized> fmt::Debug for RecvRef<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RecvRef({} bytes at {})", self.len(), self.position())
    }
}
