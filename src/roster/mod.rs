//! Who is attached to a domain, and who of them is alive.
//!
//! Each attached process holds a *slot* of the domain's `roster` file: a generation, an identity,
//! and an OFD lock on the byte of that number, its *token*. The kernel gives the token back when
//! the process is gone, whatever killed it, and only then; no clock ever declares a death.
//!
//! # The death rule
//! A holder named by {slot, generation} is dead if
//! - the slot has another generation by now, or the machine was booted since, or
//! - its token is free and no proof by its pid says that it lives, or
//! - the proof by its pid says that it is dead.
//!
//! The proof by pid works within one pid namespace: the pid has no process, or an ended one (a
//! zombie is ended), or one of another identity (the pidfd's inode, or the start time). The two
//! proofs cover each other: a fork keeps its parent's token, and `closefrom` drops a live one.
//! A token that is free while its process lives was dropped by hand, or by `execve`, which keeps
//! the pid and its start time; whoever did not exec still maps the roster.
//! A proof that cannot be made, say for want of descriptors, means alive.
//!
//! # Coming and going
//! A free byte is not enough to take a slot: the identity written there must be dead by its pid
//! too, else the slot of a living process that lost its token would be taken. The generation is
//! raised before the new identity is written. Who takes one gives up the others of its pid, which a
//! program that exec'ed into it had. Whoever leaves last removes the roster and the
//! directory: it takes all 256 bytes, marks the roster RETIRED and unlinks it; who took a byte looks
//! for that mark, and starts again by name.

mod abandoned;

pub(crate) use abandoned::Abandoned;
use abandoned::{inhabitant, is_new};

use crate::domain::{Directory, Place, ROSTER};
use crate::error::{Error, Result};
use crate::identity::{self, Proof, boot_id};
use crate::layout::{Holder, Kind, PAGE, Prologue, RETIRED, RosterHeader, SLOTS, Slot};
use crate::segment::{Access, Segment, Size};
use crate::sync::Ordering::{Acquire, Relaxed, Release};
use crate::sys::{self, ForkCanary};
use rustix::fd::{AsFd, AsRawFd, OwnedFd};
use rustix::fs::{Mode, OFlags};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

/// Slot generations have 23 bits, so that they fit every word that names a holder.
const GENERATION_MASK: u64 = 0x7f_ffff;

/// How long a joiner waits for one that has all slots to itself.
const PATIENCE: Duration = Duration::from_secs(10);

/// This process's place in a domain. One for all its handles; the last one leaves.
#[derive(Debug)]
pub(crate) struct Roster {
    directory: Directory,
    segment: Segment,
    /// The open file description that holds the token. Taken out when it must not be closed.
    token: Option<OwnedFd>,
    holder: Holder,
    id: u64,
    canary: ForkCanary,
    /// Of this process.
    pid_namespace: u64,
}

/// All rosters of this process: a second handle must not take a second slot, for its own token
/// would look taken by somebody else.
static ROSTERS: Mutex<Vec<(PathBuf, Weak<Roster>)>> = Mutex::new(Vec::new());

/// Joins `domain`, which is made if there is none and `create`.
pub(crate) fn join(domain: &str, create: bool) -> Result<Arc<Roster>> {
    join_at(&Place::Domain(domain.to_string()), create)
}

/// Joins those who use the files at `place`.
pub(crate) fn join_at(place: &Place, create: bool) -> Result<Arc<Roster>> {
    let path = place.path()?;
    let mut rosters = ROSTERS.lock().unwrap_or_else(|e| e.into_inner());
    rosters.retain(|(_, roster)| roster.strong_count() > 0);
    let mine = rosters
        .iter()
        .find(|(p, _)| *p == path)
        .and_then(|(_, roster)| roster.upgrade());
    // A fork inherits the table, but nothing in it is its own. A roster whose file was removed by
    // hand is of no use to newcomers.
    let is_gone = |r: &Roster| matches!(r.segment.is_linked(&r.directory), Ok(false));
    if let Some(roster) = mine.filter(|r| !r.forked() && !is_gone(r)) {
        return Ok(roster);
    }
    let roster = Arc::new(Roster::attach(place, create)?);
    rosters.retain(|(p, _)| *p != path);
    rosters.push((path, Arc::downgrade(&roster)));
    Ok(roster)
}

impl Roster {
    fn attach(place: &Place, create: bool) -> Result<Roster> {
        // Each round lost was lost to somebody who left or came; a hundred are not coincidence.
        for _ in 0..100 {
            let directory = Directory::at(place, create)?;
            let (segment, file) = match open_roster(&directory, Access::Write) {
                Err(Error::NotFound { .. }) if create => {
                    match found(&directory) {
                        Err(e) if !directory.was_removed() => {
                            // We made it, perhaps, and nobody will come to remove it.
                            let _ = directory.remove_if_empty();
                            return Err(e);
                        }
                        _ => continue,
                    }
                }
                Err(Error::NotFound { .. }) => {
                    return Err(Error::NotFound {
                        name: directory.name().to_string(),
                    });
                }
                other => other?,
            };
            let token = open_again(&file).map_err(|e| Error::io(segment.path(), e))?;
            let id = segment.header::<Prologue>().roster.load(Relaxed);
            let canary = ForkCanary::new().map_err(|e| Error::io(segment.path(), e))?;
            // Before it holds anything: a slot may be waited for, and a fork happen meanwhile.
            sys::close_in_forks(&token, segment.inode().1);
            let taken = take_slot(&directory, &segment, &token);
            if !matches!(taken, Ok(Some(_))) {
                sys::keep_in_forks(&token);
            }
            if let Some(holder) = taken? {
                let token = Some(token);
                return Ok(Roster {
                    directory,
                    segment,
                    token,
                    holder,
                    id,
                    canary,
                    pid_namespace: identity::pid_namespace(),
                });
            }
        }
        Err(Error::io(place.path()?, rustix::io::Errno::AGAIN))
    }

    pub(crate) fn directory(&self) -> &Directory {
        &self.directory
    }

    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    pub(crate) fn canary(&self) -> ForkCanary {
        self.canary
    }

    pub(crate) fn forked(&self) -> bool {
        self.canary.forked()
    }

    /// This process.
    pub(crate) fn me(&self) -> Holder {
        self.holder
    }

    /// Whether `holder` lives, by the death rule: five system calls.
    pub(crate) fn is_alive(&self, holder: Holder) -> bool {
        if holder == self.holder {
            return true;
        }
        let Some(token) = &self.token else {
            return true;
        };
        is_alive(&self.segment, token, self.pid_namespace, holder)
    }

    /// The pid of `holder`, 0 if another has its slot by now.
    pub(crate) fn pid_of(&self, holder: Holder) -> u32 {
        pid_of(&self.segment, holder)
    }
}

/// Who attached to a domain, seen from outside: for pictures.
pub(crate) struct RosterView {
    segment: Segment,
    file: OwnedFd,
    /// Of this process.
    pid_namespace: u64,
}

impl RosterView {
    pub(crate) fn open(directory: &Directory) -> Result<RosterView> {
        let (segment, file) = open_roster(directory, Access::Read)?;
        Ok(RosterView {
            segment,
            file,
            pid_namespace: identity::pid_namespace(),
        })
    }

    pub(crate) fn id(&self) -> u64 {
        self.segment.header::<Prologue>().roster.load(Relaxed)
    }

    pub(crate) fn is_alive(&self, holder: Holder) -> bool {
        is_alive(&self.segment, &self.file, self.pid_namespace, holder)
    }

    pub(crate) fn pid_of(&self, holder: Holder) -> u32 {
        pid_of(&self.segment, holder)
    }

    /// Whether `holder` is stopped, as far as can be told: within our pid namespace.
    pub(crate) fn is_stopped(&self, holder: Holder) -> bool {
        let slot = &self.segment.header::<RosterHeader>().slots[usize::from(holder.slot)];
        let is_near = slot.pid_namespace.load(Relaxed) == self.pid_namespace;
        // Then it was this holder's process that was looked at.
        is_near && identity::is_stopped(self.pid_of(holder)) && self.is_alive(holder)
    }

    /// Whether nobody is attached: what [`Abandoned::take`] asks, without taking anything.
    pub(crate) fn is_abandoned(&self) -> bool {
        let locked = sys::range_is_locked(self.file.as_fd(), 0, SLOTS as u64);
        matches!(locked, Ok(false))
            && inhabitant(&self.segment, self.pid_namespace).is_none()
            && !is_new(&self.segment, &self.file)
    }

    /// The pid of whoever wrote a value, if he still has his slot: a value names the slot and 8 bits
    /// of its generation.
    pub(crate) fn pid_of_writer(&self, writer: u16) -> Option<u32> {
        let slot = &self.segment.header::<RosterHeader>().slots[usize::from(writer as u8)];
        let same = slot.generation.load(Relaxed) as u8 == (writer >> 8) as u8;
        let pid = slot.pid.load(Relaxed) as u32;
        (same && pid != 0).then_some(pid)
    }
}

impl Drop for Roster {
    fn drop(&mut self) {
        let Some(token) = self.token.take() else {
            return;
        };
        if self.forked() {
            // The copy of our parent's token was closed when we forked; its number may be
            // somebody else's by now.
            std::mem::forget(token);
            return;
        }
        // While the token is ours still: the slot is nobody's from here on. Else our own next
        // attachment would take it for that of a living process that lost its token.
        let slot = &self.segment.header::<RosterHeader>().slots[usize::from(self.holder.slot)];
        // Who sees that we left sees what we gave up before; partner: the first fence in `is_alive`.
        crate::sync::fence(Release);
        slot.pid.store(0, Relaxed);
        raise_generation(slot);
        // Before we look who else is there: of two that leave at once, each would see the other's
        // byte, and the roster stay. Whoever gives up the last byte sees none.
        let _ = sys::unlock_range(token.as_fd(), u64::from(self.holder.slot), 1);
        self.retire_if_last(&token);
        // All that we have by now, which a fork between the next line and the close would keep.
        let _ = sys::unlock_range(token.as_fd(), 0, SLOTS as u64);
        sys::keep_in_forks(&token);
    }
}

impl Roster {
    /// Removes roster and directory if nobody else is attached and nothing else is left.
    fn retire_if_last(&self, token: &OwnedFd) {
        let only_the_roster = || self.directory.is_unused();
        if !only_the_roster() || !matches!(sys::lock_all(token.as_fd(), SLOTS as u64), Ok(true)) {
            return;
        }
        // Now nobody is attached, so nobody makes files.
        if only_the_roster() && matches!(self.segment.is_linked(&self.directory), Ok(true)) {
            // Should it stay, the next one who comes finishes this.
            let _ = retire(&self.directory, &self.segment);
        }
    }
}

/// Removes a roster of which the caller has all bytes, and its directory, where nothing else is.
fn retire(directory: &Directory, roster: &Segment) -> Result<()> {
    directory.remove_temporaries();
    let header = roster.header::<RosterHeader>();
    // Release: whoever gets a byte after we let go sees the mark; partner: `take_slot`.
    header.state.store(RETIRED, Release);
    roster.unlink(directory)?;
    directory.remove_if_empty()
}

fn open_roster(directory: &Directory, access: Access) -> Result<(Segment, OwnedFd)> {
    let opened = Segment::open_with_file(directory, ROSTER, Some(Kind::Roster), access)?;
    if opened.0.size() < size_of::<RosterHeader>() as u64 {
        let path = opened.0.path();
        return Err(Error::refused(path, "it is too small for a roster"));
    }
    Ok(opened)
}

/// A second open file description of `file`, for the token. The mapping keeps the first one, and
/// with it what it has locked: in every fork, and although its descriptor is closed.
fn open_again(file: &OwnedFd) -> rustix::io::Result<OwnedFd> {
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    rustix::fs::open(path, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
}

/// Makes the roster. Whether ours or another's came first does not matter.
fn found(directory: &Directory) -> Result<()> {
    let io = |e: std::io::Error| Error::of_call("getrandom", directory.path(), e);
    let id = sys::random_nonzero().map_err(io)?;
    let generations = sys::random_nonzero().map_err(io)?;
    let size = Size::fixed(size_of::<RosterHeader>().next_multiple_of(PAGE) as u64);
    // Unknown reads as zeros, which match any boot.
    let boot = boot_id().unwrap_or([0, 0]);
    let made = Segment::create(directory, ROSTER, Kind::Roster, size, id, |segment| {
        let header = segment.header::<RosterHeader>();
        header.boot_id[0].store(boot[0], Relaxed);
        header.boot_id[1].store(boot[1], Relaxed);
        for (i, slot) in header.slots.iter().enumerate() {
            // Random, so that a word which names a holder of an earlier roster names nobody here.
            let generation = rapidhash::v3::rapidhash_v3(&(generations ^ i as u64).to_ne_bytes());
            slot.generation.store(generation & GENERATION_MASK, Relaxed);
        }
    })?;
    drop(made);
    Ok(())
}

/// Takes a slot; `None` if the roster was retired meanwhile.
fn take_slot(directory: &Directory, segment: &Segment, token: &OwnedFd) -> Result<Option<Holder>> {
    let header = segment.header::<RosterHeader>();
    let io = |e: std::io::Error| Error::of_call("fcntl(F_OFD_SETLK)", segment.path(), e);
    let pid_namespace = identity::pid_namespace();
    // All bytes may be taken by one process: that retires the roster, or renews it after a reboot.
    // It is waited for, unless it is stopped.
    let deadline = Instant::now() + PATIENCE;
    let mut round = 0;
    while Instant::now() < deadline {
        round += 1;
        for (k, slot) in header.slots.iter().enumerate() {
            if !sys::lock_byte(token.as_fd(), k as u64).map_err(io)? {
                continue;
            }
            // Acquire: partner is the store of the mark, before its locks were given back.
            if header.state.load(Acquire) == RETIRED {
                finish_retirement(directory, segment, token);
                return Ok(None);
            }
            if !is_of_this_boot(header) && !renew_boot(header, token, k).map_err(io)? {
                // Another joiner has a byte, too. One of us has to go first.
                sys::unlock_range(token.as_fd(), k as u64, 1).map_err(io)?;
                let unlike_the_other = u64::from(std::process::id()) % 8;
                std::thread::sleep(Duration::from_micros(300 * (unlike_the_other + round % 3)));
                break;
            }
            if may_be_taken(slot, segment, pid_namespace) {
                let holder = occupy(slot, k);
                leave_what_we_were(header, token, pid_namespace, k);
                return Ok(Some(holder));
            }
            sys::unlock_range(token.as_fd(), k as u64, 1).map_err(io)?;
        }
        if header.state.load(Acquire) == RETIRED && !segment.is_linked(directory)? {
            return Ok(None);
        }
        let is_taken = |slot| is_of_somebody(slot, pid_namespace);
        if header.slots.iter().all(is_taken) {
            break;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Err(Error::TooManyProcesses { max: SLOTS as u32 })
}

/// Whether the slot is one process's own, as far as can be told.
fn is_of_somebody(slot: &Slot, pid_namespace: u64) -> bool {
    slot.pid.load(Relaxed) != 0 && identity::proof(slot, pid_namespace) != Proof::Dead
}

/// Whether the slot of a free byte is nobody's: not that of a living process that lost its token.
/// One that is our own we may have: it is of a program that exec'ed into this one.
fn may_be_taken(slot: &Slot, roster: &Segment, pid_namespace: u64) -> bool {
    identity::proof(slot, pid_namespace) != Proof::Alive
        || slot.pid.load(Relaxed) == u64::from(std::process::id())
        || identity::has_exec_ed(slot, roster)
}

/// A program that exec'ed into this one is dead, but from now on its pid is that of one that maps
/// the roster: its slots are given up. Every slot of our pid with a free byte is such a one, but for
/// `mine`; a byte that is not free is another handle's of this process, which came by another path.
fn leave_what_we_were(header: &RosterHeader, token: &OwnedFd, pid_namespace: u64, mine: usize) {
    let ours = u64::from(std::process::id());
    let is_ours = |slot: &Slot| {
        slot.pid.load(Relaxed) == ours
            && pid_namespace != 0
            && slot.pid_namespace.load(Relaxed) == pid_namespace
    };
    for (k, slot) in header.slots.iter().enumerate() {
        let byte = k as u64;
        if k == mine || !is_ours(slot) || !matches!(sys::lock_byte(token.as_fd(), byte), Ok(true)) {
            continue;
        }
        // Whose it was may have left meanwhile, and another have come and gone.
        if is_ours(slot) {
            slot.pid.store(0, Relaxed);
            raise_generation(slot);
        }
        let _ = sys::unlock_range(token.as_fd(), byte, 1);
    }
}

/// Whoever retired the roster was killed before it could unlink it.
fn finish_retirement(directory: &Directory, segment: &Segment, token: &OwnedFd) {
    if matches!(sys::lock_all(token.as_fd(), SLOTS as u64), Ok(true)) {
        let _ = segment.unlink(directory);
    } else {
        // Another joiner has a byte for the same reason, perhaps without a processor at the moment.
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// What cannot be told counts as this boot: a token or a pid still says who is dead.
fn is_of_this_boot(header: &RosterHeader) -> bool {
    let written = [0, 1].map(|i| header.boot_id[i].load(Relaxed));
    boot_id().is_none_or(|ours| written == ours || written == [0, 0])
}

/// After a reboot nobody of the roster lives: their generations are passed, the boot id is ours.
/// Needs all bytes, and keeps byte `k`; `false` if somebody else has one.
fn renew_boot(header: &RosterHeader, token: &OwnedFd, k: usize) -> std::io::Result<bool> {
    if !sys::lock_all(token.as_fd(), SLOTS as u64)? {
        return Ok(false);
    }
    for slot in &header.slots {
        slot.pid.store(0, Relaxed);
        raise_generation(slot);
    }
    for (word, value) in header.boot_id.iter().zip(boot_id().unwrap_or([0, 0])) {
        word.store(value, Release);
    }
    let behind = k as u64 + 1;
    sys::unlock_range(token.as_fd(), behind, SLOTS as u64 - behind)?;
    if k > 0 {
        sys::unlock_range(token.as_fd(), 0, k as u64)?;
    }
    Ok(true)
}

/// From here on whoever held the slot is dead to everyone.
fn raise_generation(slot: &Slot) -> u64 {
    // Whatever lay there: 23 bits of it count.
    let generation = slot.generation.load(Relaxed).wrapping_add(1) & GENERATION_MASK;
    // Never 0, so that no word that names a holder is 0.
    let generation = generation.max(1);
    slot.generation.store(generation, Relaxed);
    // Before what is written next, so that nobody takes a new identity for the old holder's;
    // partner: the second fence in `is_alive`.
    crate::sync::fence(Release);
    generation
}

/// Writes our identity into a slot whose byte we hold.
fn occupy(slot: &Slot, k: usize) -> Holder {
    let generation = raise_generation(slot);
    identity::write(slot);
    Holder {
        slot: k as u8,
        generation: generation as u32,
    }
}

fn is_alive(segment: &Segment, token: &OwnedFd, pid_namespace: u64, holder: Holder) -> bool {
    let header = segment.header::<RosterHeader>();
    let slot = &header.slots[usize::from(holder.slot)];
    // The mapping may be read-only: Relaxed loads, and fences.
    let same = || slot.generation.load(Relaxed) & GENERATION_MASK == u64::from(holder.generation);
    let was_same = same();
    // Before any verdict, also the quick one: who was told that a holder is gone looks again at what
    // it held; partner: the fence in the drop of a `Roster`.
    crate::sync::fence(Acquire);
    if !was_same || !is_of_this_boot(header) {
        return false;
    }
    let Ok(locked) = sys::range_is_locked(token.as_fd(), u64::from(holder.slot), 1) else {
        return true;
    };
    let alive = match identity::proof(slot, pid_namespace) {
        Proof::Dead => false,
        Proof::Alive => locked || !identity::has_exec_ed(slot, segment),
        Proof::Unknown => locked,
    };
    // What was judged must have been this holder's; partner: the fence in `raise_generation`.
    crate::sync::fence(Acquire);
    alive && same()
}

fn pid_of(segment: &Segment, holder: Holder) -> u32 {
    let slot = &segment.header::<RosterHeader>().slots[usize::from(holder.slot)];
    if slot.generation.load(Relaxed) & GENERATION_MASK == u64::from(holder.generation) {
        slot.pid.load(Relaxed) as u32
    } else {
        0
    }
}
