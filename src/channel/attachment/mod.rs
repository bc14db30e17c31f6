//! One end of a channel, held by this process: how it is made, found, taken over and given up.
//!
//! # Coming and going
//! - A new channel is linked with the host's role already claimed, so nobody sees it unheld.
//! - Who opens a channel claims the guest's role; who creates one that is there takes the host's
//!   role over if its holder is dead. After the claim the file must still be linked, else it was
//!   being removed, and the search starts again by name.
//! - An orderly host unlinks while it still holds its role, then publishes CLOSED, which is final
//!   for all who are there. While undelivered messages remain and no living guest holds the channel,
//!   the file stays for a guest to drain; the guest that drained it removes it. Who creates it again
//!   before that takes it over with what is left, if no guest is there: it claims the guest's role,
//!   then the host's, and puts the first back.
//! - An orderly guest gives its role back as FREE: nobody there *yet*. Whichever end gave up its role
//!   last removes the file if there is nothing left in it.
//! - Whoever else removes a file claims both roles first, the host's before the guest's, and puts
//!   the first back if the second is not to be had.

mod file;

pub(crate) use file::{TypeStamp, checked_capacity, sweep};

use super::{End, Mode, PeerState};
use crate::domain::CHANNEL;
use crate::doorbell;
use crate::error::{Error, Result};
use crate::layout::{ChannelHeader, EndNote, Kind, PAGE, Prologue};
use crate::ring::{Consumer, EPOCH_MASK, Incarnation, Producer, Ring};
use crate::role::{self, Claimed, Denied, Role, State};
use crate::roster::Roster;
use crate::segment::{Segment, Size};
use crate::sync::{AtomicU64, Ordering::*, fence};
use crate::sys;
use core::time::Duration;
use file::{check_stamp, claim_closed, has_undelivered, open_checked, write_stamp};
use std::sync::Arc;

/// What a channel is made with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    /// Bytes of each ring: a power of two.
    pub(crate) capacity: u64,
    pub(crate) host_mode: Mode,
    pub(crate) guest_mode: Mode,
    /// Whether a taker-over keeps what was not delivered.
    pub(crate) keep_undelivered: bool,
}

/// Says whether this process is to stop.
pub(crate) type Stopping = Arc<dyn Fn() -> bool + Send + Sync>;

/// A held end. Dropping it gives the role up.
pub(crate) struct Attachment {
    name: String,
    segment: Arc<Segment>,
    roster: Arc<Roster>,
    capacity: u64,
    end: End,
    claimed: Claimed,
    stopping: Option<Stopping>,
}

impl Attachment {
    /// Makes the channel and holds its host's end, or takes it over from a dead host.
    pub(crate) fn create(
        roster: &Arc<Roster>,
        name: &str,
        plan: Plan,
        stamp: Option<&TypeStamp>,
    ) -> Result<Attachment> {
        crate::domain::check_name(name)?;
        let file = format!("{name}{CHANNEL}");
        let directory = roster.directory();
        let already_exists = || Error::AlreadyExists {
            name: name.to_string(),
        };
        // Each round lost was lost to another process that made or removed the file.
        for _ in 0..100 {
            let (segment, capacity) = match open_checked(roster, &file) {
                Ok(found) => found,
                Err(Error::NotFound { .. }) => match make(roster, name, &file, plan, stamp)? {
                    Some(attachment) => return Ok(attachment),
                    None => continue,
                },
                // What is there is of no use. If nobody alive holds it, it goes.
                Err(e @ (Error::Layout { .. } | Error::Corrupt { .. })) => {
                    match Segment::open(directory, &file, None) {
                        Ok(old) if sweep(&old, roster)? => continue,
                        _ => return Err(e),
                    }
                }
                Err(e) => return Err(e),
            };
            let segment = Arc::new(segment);
            if let Err(e) = check_stamp(&segment, name, stamp) {
                // Another type: replaced if nobody alive holds it.
                if sweep(&segment, roster)? {
                    continue;
                }
                return Err(e);
            }
            let host = &segment.header::<Prologue>().host;
            let claimed = match role::claim(host, roster) {
                Err(Denied::Gone) if plan.keep_undelivered => {
                    claim_closed(&segment, capacity, roster)
                }
                other => other,
            };
            let claimed = match claimed {
                Ok(claimed) => claimed,
                Err(Denied::Held(_)) => return Err(already_exists()),
                Err(Denied::Gone) => {
                    // Closed, or just being removed; a living guest may still be draining it.
                    if !sweep(&segment, roster)? {
                        std::thread::sleep(Duration::from_millis(1));
                    }
                    continue;
                }
            };
            match segment.is_linked(directory) {
                Ok(true) => {}
                Ok(false) => {
                    role::give_up(host, claimed.role, State::Closed);
                    continue;
                }
                Err(e) => {
                    role::restore(host, claimed);
                    return Err(e);
                }
            }
            if let Err(e) = stamp.map_or(Ok(()), |stamp| write_stamp(&segment, name, stamp)) {
                role::restore(host, claimed);
                return Err(e);
            }
            let attachment = Attachment::new(roster, name, segment, capacity, End::Host, claimed);
            attachment.arrive(plan.keep_undelivered)?;
            return Ok(attachment);
        }
        Err(already_exists())
    }

    /// Finds the channel and holds its guest's end, taking it over from a dead guest.
    pub(crate) fn open(
        roster: &Arc<Roster>,
        name: &str,
        stamp: Option<&TypeStamp>,
        keep_undelivered: bool,
    ) -> Result<Attachment> {
        crate::domain::check_name(name)?;
        let file = format!("{name}{CHANNEL}");
        let not_found = || Error::NotFound {
            name: name.to_string(),
        };
        for _ in 0..100 {
            let (segment, capacity) = match open_checked(roster, &file) {
                Err(Error::NotFound { .. }) => return Err(not_found()),
                other => other?,
            };
            check_stamp(&segment, name, stamp)?;
            let guest = &segment.header::<Prologue>().guest;
            let claimed = match role::claim(guest, roster) {
                Ok(claimed) => claimed,
                Err(Denied::Held(holder)) => {
                    let pid = roster.pid_of(holder);
                    return Err(Error::EndTaken {
                        name: name.to_string(),
                        pid,
                    });
                }
                Err(Denied::Gone) => {
                    if segment.is_linked(roster.directory())? {
                        if Role::load(guest).state == State::Closed {
                            return Err(not_found());
                        }
                        // Whoever has it for a moment may put it back; one that is stopped just
                        // then does not within our rounds.
                        std::thread::sleep(Duration::from_millis(1));
                    }
                    continue;
                }
            };
            let linked = segment.is_linked(roster.directory());
            if !matches!(linked, Ok(true)) {
                role::restore(guest, claimed);
                linked?;
                continue;
            }
            if let Err(e) = stamp.map_or(Ok(()), |stamp| write_stamp(&segment, name, stamp)) {
                // Another stamped it first. What we found stays to be told, such as a death.
                role::restore(guest, claimed);
                return Err(e);
            }
            let segment = Arc::new(segment);
            let attachment = Attachment::new(roster, name, segment, capacity, End::Guest, claimed);
            attachment.arrive(keep_undelivered)?;
            return Ok(attachment);
        }
        Err(not_found())
    }

    fn new(
        roster: &Arc<Roster>,
        name: &str,
        segment: Arc<Segment>,
        capacity: u64,
        end: End,
        claimed: Claimed,
    ) -> Attachment {
        Attachment {
            name: name.to_string(),
            segment,
            roster: roster.clone(),
            capacity,
            end,
            claimed,
            stopping: None,
        }
    }

    /// After a claim: leaves notes, clears what our predecessor left, and rings.
    fn arrive(&self, keep_undelivered: bool) -> Result<()> {
        let Claimed { role, before } = self.claimed;
        let note = self.note(self.end);
        if role.state == State::Succeeded {
            failpoint!(TakingOver);
            note_death(note, before);
        } else {
            failpoint!(Attaching);
        }
        note.holder.store(
            u64::from(role.epoch) << 32 | u64::from(std::process::id()),
            Relaxed,
        );
        let fence_bit = if sys::barrier().can_issue {
            0
        } else {
            crate::layout::NEEDS_FENCE
        };
        let (outgoing, incoming) = (self.outgoing(), self.incoming());
        for bell in [
            &outgoing.header().sleepers.producer,
            &incoming.header().sleepers.consumer,
        ] {
            bell.parked.store(fence_bit, SeqCst);
        }
        if role.state == State::Succeeded && !keep_undelivered {
            self.producer()
                .and_then(|p| p.discard_undelivered().map_err(|_| self.corrupt(0)))?;
            self.consumer(role.incarnation())
                .and_then(|mut c| c.discard_undelivered().map_err(|_| self.corrupt(0)))?;
        }
        self.announce();
        Ok(())
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn end(&self) -> End {
        self.end
    }

    pub(crate) fn path(&self) -> &str {
        self.segment.path()
    }

    pub(crate) fn roster(&self) -> &Arc<Roster> {
        &self.roster
    }

    pub(crate) fn epoch(&self) -> u32 {
        self.claimed.role.epoch
    }

    pub(crate) fn set_stopping(&mut self, stopping: Stopping) {
        self.stopping = Some(stopping);
    }

    /// Whether a runtime gave this end out.
    pub(crate) fn belongs_to_runtime(&self) -> bool {
        self.stopping.is_some()
    }

    /// Whether the runtime asked this process to stop.
    pub(crate) fn stopping(&self) -> bool {
        self.stopping.as_ref().is_some_and(|stopping| stopping())
    }

    pub(crate) fn corrupt(&self, offset: u64) -> Error {
        Error::Corrupt {
            path: self.path().to_string(),
            offset,
        }
    }

    fn header(&self) -> &ChannelHeader {
        self.segment.header()
    }

    fn role_word(&self, end: End) -> &AtomicU64 {
        role_word(&self.segment, end)
    }

    fn note(&self, end: End) -> &EndNote {
        match end {
            End::Host => &self.header().host_note,
            End::Guest => &self.header().guest_note,
        }
    }

    /// The receive mode that this end allows.
    pub(crate) fn mode(&self) -> Mode {
        let modes = self.header().modes.load(Relaxed);
        let bits = if self.end == End::Host {
            modes
        } else {
            modes >> 8
        };
        Mode::from_bits(bits & 0xff)
    }

    /// The ring that this end sends on.
    pub(crate) fn outgoing(&self) -> Ring {
        self.ring(self.end)
    }

    /// The ring that this end receives from.
    pub(crate) fn incoming(&self) -> Ring {
        self.ring(self.end.other())
    }

    /// The ring on which `end` sends.
    fn ring(&self, end: End) -> Ring {
        Ring::of_channel(&self.segment, self.capacity, end == End::Host)
    }

    pub(crate) fn producer(&self) -> Result<Producer> {
        Producer::attach(self.outgoing(), self.claimed.role.incarnation())
            .map_err(|_| self.corrupt(0))
    }

    pub(crate) fn consumer(&self, expected: Incarnation) -> Result<Consumer> {
        Consumer::attach(self.incoming(), expected).map_err(|_| self.corrupt(0))
    }

    /// Makes `stamp` the channel's type, or fails if it has another.
    pub(crate) fn stamp(&self, stamp: &TypeStamp) -> Result<()> {
        write_stamp(&self.segment, &self.name, stamp)
    }

    /// The other end's role, and whether its holder is dead.
    pub(crate) fn peer_role(&self) -> (Role, bool) {
        let word = self.role_word(self.end.other());
        let mut role = Role::load(word);
        for _ in 0..100 {
            if !role.is_held() || self.roster.is_alive(role.holder) {
                return (role, false);
            }
            // Whoever leaves in order gives up its role before it leaves the roster. So it counts
            // as dead only if it holds the role still.
            let now = Role::load(word);
            if now == role {
                return (role, true);
            }
            role = now;
        }
        (role, false)
    }

    /// Whether nobody could find the channel by its name any more.
    pub(crate) fn is_unlinked(&self) -> bool {
        matches!(self.segment.is_linked(self.roster.directory()), Ok(false))
    }

    /// Whether a barrier of ours reaches whoever holds the other end.
    pub(crate) fn peer_is_registered(&self) -> bool {
        Role::from_word(self.role_word(self.end.other()).load(Relaxed)).registered
    }

    /// Pid of whoever held the other end at `epoch`; 0 if it is not known any more.
    pub(crate) fn peer_pid(&self, epoch: u32) -> u32 {
        let note = self.note(self.end.other());
        let words = [note.holder.load(Relaxed), note.died.load(Relaxed)];
        words
            .iter()
            .find(|w| (*w >> 32) as u32 == epoch)
            .map_or(0, |w| *w as u32)
    }

    /// Whether whoever held the other end at the epoch `from`, or after it and before `until`, died
    /// and had its end taken or closed since. `false` if `from` is 0, which is nobody's.
    pub(crate) fn peer_died(&self, from: u32, until: u32) -> bool {
        let died = (self.note(self.end.other()).died.load(Relaxed) >> 32) as u32;
        let since = |epoch: u32| epoch.wrapping_sub(from) & EPOCH_MASK;
        from != 0 && died != 0 && since(died) < since(until)
    }

    pub(crate) fn peer(&self) -> PeerState {
        let (role, dead) = self.peer_role();
        let pid = self.peer_pid(role.epoch);
        match role.state {
            State::Closed => PeerState::Closed,
            State::Free | State::Swept => PeerState::Absent,
            State::Held | State::Succeeded if dead => PeerState::Dead { pid },
            State::Held | State::Succeeded => PeerState::Alive { pid },
        }
    }

    /// Has all four sleepers of the channel look around.
    pub(crate) fn announce(&self) {
        doorbell::announce(&self.header().to_guest);
        doorbell::announce(&self.header().to_host);
    }

    /// Takes back what halves of this end said when they were dropped: it will be used again.
    pub(crate) fn reopen(&self) {
        self.outgoing().header().producer.closed.store(0, Release);
        self.incoming().header().consumer.closed.store(0, Release);
        self.incoming().header().consumer.mode.store(0, Relaxed);
    }

    /// Removes the channel's name; those who hold its ends go on. Should it stay, whoever creates
    /// the channel again removes it.
    pub(crate) fn unlink(&self) {
        let _ = self.segment.unlink(self.roster.directory());
    }

    /// Closes the guest's end of a channel whose guest will not come again.
    pub(crate) fn close_guest(&self) {
        // Not as a guest of our own, whom our receiver could see.
        if let Ok(claimed) = role::claim_to_sweep(self.role_word(End::Guest), &self.roster) {
            if claimed.before.is_held() {
                note_death(self.note(End::Guest), claimed.before);
            }
            role::give_up(self.role_word(End::Guest), claimed.role, State::Closed);
            self.announce();
        }
    }

    /// Forgets the message type of a channel that was taken over empty and without a guest: the
    /// program may have another one by now.
    pub(crate) fn forget_type(&self) {
        let guest = self.role_word(End::Guest);
        // A guest that comes just now waits, and stamps it again.
        let Ok(claimed) = role::claim_to_sweep(guest, &self.roster) else {
            return;
        };
        let is_empty = |ring: Ring| ring.walk().is_ok_and(|mut walk| walk.next().is_none());
        if is_empty(self.outgoing()) && is_empty(self.incoming()) {
            self.header().type_hash.store(0, Release);
        }
        role::restore(guest, claimed);
    }

    /// Opens it again.
    pub(crate) fn reopen_guest(&self) {
        let word = self.role_word(End::Guest);
        let role = Role::load(word);
        if role.state == State::Closed {
            role::give_up(word, role, State::Free);
        }
    }
}

impl Drop for Attachment {
    fn drop(&mut self) {
        let mine = self.role_word(self.end);
        let role = self.claimed.role;
        // A fork leaves its parent's end alone; and if others thought us dead, it is theirs now.
        if self.roster.forked() || Role::load(mine) != role {
            return;
        }
        let undelivered = has_undelivered(&self.ring(End::Host));
        let (peer, peer_is_dead) = self.peer_role();
        let (is_last, state) = match self.end {
            End::Host => {
                let is_last = !undelivered || (peer.is_held() && !peer_is_dead);
                (is_last, State::Closed)
            }
            End::Guest if peer.state == State::Closed && !undelivered => (true, State::Closed),
            End::Guest => (false, State::Free),
        };
        if is_last {
            self.unlink();
        }
        failpoint!(Closing);
        role::give_up(mine, role, state);
        // Whoever left while we did may have thought that the file is ours to remove. Of two that
        // gave up their ends, behind these fences one at least sees both.
        fence(SeqCst);
        let host = Role::load(self.role_word(End::Host));
        if !is_last && host.state == State::Closed && !has_undelivered(&self.ring(End::Host)) {
            let _ = sweep(&self.segment, &self.roster);
        }
        self.announce();
    }
}

/// Notes that whoever held an end before died, for the other one to tell.
fn note_death(note: &EndNote, before: Role) {
    // A holder killed before it left a note of its own is not known by pid.
    let noted = note.holder.load(Relaxed);
    let pid = if (noted >> 32) as u32 == before.epoch {
        noted as u32
    } else {
        0
    };
    note.died
        .store(u64::from(before.epoch) << 32 | u64::from(pid), Relaxed);
}

fn role_word(segment: &Segment, end: End) -> &AtomicU64 {
    let prologue = segment.header::<Prologue>();
    match end {
        End::Host => &prologue.host,
        End::Guest => &prologue.guest,
    }
}

/// Makes the file, with the host's role claimed. `None` if another was faster.
fn make(
    roster: &Arc<Roster>,
    name: &str,
    file: &str,
    plan: Plan,
    stamp: Option<&TypeStamp>,
) -> Result<Option<Attachment>> {
    let size = Size::fixed(PAGE as u64 + 2 * plan.capacity);
    let mut claimed = None;
    let made = Segment::create(
        roster.directory(),
        file,
        Kind::Channel,
        size,
        roster.id(),
        |segment| {
            let header = segment.header::<ChannelHeader>();
            header.capacity.store(plan.capacity, Relaxed);
            header
                .modes
                .store(plan.host_mode.bits() | plan.guest_mode.bits() << 8, Relaxed);
            if let Some(stamp) = stamp {
                let _ = write_stamp(segment, name, stamp);
            }
            claimed = role::claim(&header.prologue.host, roster).ok();
            failpoint!(Creating);
        },
    )?;
    let (Ok(segment), Some(claimed)) = (made, claimed) else {
        return Ok(None);
    };
    let segment = Arc::new(segment);
    let attachment = Attachment::new(roster, name, segment, plan.capacity, End::Host, claimed);
    attachment.arrive(true)?;
    Ok(Some(attachment))
}
