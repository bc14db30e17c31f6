//! What a receiver does when there is no usual record: news of the peer, and waiting.

use super::{Gate, Receiver};
use crate::channel::{Mode, PeerState, Wait, deadline_in};
use crate::codec::{Message, Owned};
use crate::doorbell::{self, News, SLICE, Slept};
use crate::error::{Error, RecvError, Result, TryRecvError};
use crate::ring::{Incarnation, Peek, Record};
use crate::role::State;
use crate::sync::Ordering::*;
use crate::sys;
use core::time::Duration;
use std::time::Instant;

impl<T: Message + ?Sized> Receiver<T> {
    /// What `recv` does if there is anything unusual, such as nothing to receive.
    #[cold]
    #[inline(never)]
    pub(super) fn recv_slowly(&mut self) -> Result<Owned<T>, RecvError> {
        let record = self.next(None).map_err(without_deadline)?;
        self.take(record)
    }

    #[cold]
    #[inline(never)]
    pub(super) fn try_recv_slowly(&mut self) -> Result<Owned<T>, TryRecvError> {
        let record = self.next_now()?;
        self.take(record)
    }

    /// The next record, waiting for at most `timeout`, or for ever.
    #[cold]
    #[inline(never)]
    pub(super) fn next(&mut self, timeout: Option<Duration>) -> Result<Record, TryRecvError> {
        match self.ready()? {
            Some(record) => Ok(record),
            None => self.wait_for_record(timeout.and_then(deadline_in)),
        }
    }

    /// The next record; now and then, if there is none, whether somebody is left to send.
    #[inline(never)]
    pub(super) fn next_now(&mut self) -> Result<Record, TryRecvError> {
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
        // Each round passes over what was discarded, or is the first to meet anybody. Only one who
        // scribbles makes so many, and then there is nothing here for now.
        for _ in 0..100 {
            match peek {
                Peek::Record(record) => return Ok(Some(record)),
                Peek::Empty => return Ok(None),
                Peek::Passed => self.ring(),
                Peek::Corrupt => return Err(self.corrupt()),
                Peek::Other(peer) => self.meet(peer)?,
            }
            peek = self.consumer.peek();
        }
        Ok(None)
    }

    /// From here on we have to do with `peer`: says so once, and before that that its predecessor
    /// died, unless it is the first one we know of.
    fn meet(&mut self, peer: Incarnation) -> Result<(), RecvError> {
        let first = self.known == 0;
        // One who sent nothing, or a runtime, may have been there between the two.
        let died = |known| peer.is_heir || self.held.attachment.peer_died(known, peer.epoch);
        if !first && self.told_dead != self.known && died(self.known) {
            return Err(self.tell_death(self.known));
        }
        self.known = peer.epoch;
        self.consumer.expect(peer);
        if first {
            return Ok(());
        }
        // What became of it since may have been announced with it.
        self.news.forget();
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
        } else if self.told_dead != self.known && attachment.peer_died(self.known, role.epoch) {
            // Who came after it left, and sent nothing.
            return Err(self.tell_death(self.known));
        }
        if dead && self.told_dead != role.epoch {
            return Err(self.tell_death(role.epoch));
        }
        let end = if role.state == State::Closed || sender_gone {
            RecvError::Closed
        } else if stopping {
            RecvError::Stopping
        } else if (dead || !role.is_held()) && attachment.is_unlinked() {
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

    fn sleep(&mut self, timeout: Duration) {
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
        match slept {
            Slept::Rescued => line
                .rescues
                .store(line.rescues.load(Relaxed).wrapping_add(1), Relaxed),
            // The coarse clock may say that a slice is not over: a look is due in any case.
            Slept::TimedOut => self.looked = 0,
            Slept::Ready | Slept::Rung => {}
        }
    }

    fn is_interrupted(&self) -> bool {
        let interrupted = self.interrupted.as_ref();
        interrupted.is_some_and(|i| i.load(std::sync::atomic::Ordering::Acquire))
    }

    pub(in crate::channel) fn wait_peer(&self, timeout: Duration) -> Result<()> {
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
            if attachment.is_unlinked() {
                // Nobody can come any more: the channel has no name.
                return Err(Error::Closed);
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
}

/// Without a deadline only an interruption ends a wait with nothing, and that says so as a stop.
#[cold]
pub(super) fn without_deadline(error: TryRecvError) -> RecvError {
    match error {
        TryRecvError::Recv(error) => error,
        TryRecvError::Empty => RecvError::Stopping,
    }
}
