//! A domain in which nobody lives, taken for its removal.

use super::{is_of_this_boot, open_again, open_roster, retire};
use crate::domain::{self, Directory};
use crate::error::{Error, Result};
use crate::identity::{self, Proof};
use crate::layout::{Prologue, RosterHeader, SLOTS, Slot};
use crate::segment::{Access, Segment};
use crate::sync::Ordering::Relaxed;
use crate::sys;
use rustix::fd::{AsFd, OwnedFd};

/// A domain in which nobody lives, and which nobody can join while this is held.
pub(crate) struct Abandoned {
    directory: Directory,
    segment: Segment,
    token: OwnedFd,
}

impl Abandoned {
    /// `DomainInUse` if somebody lives in it, or is just coming or going.
    pub(crate) fn take(directory: Directory) -> Result<Abandoned> {
        // Looked at before it is opened for writing, which makes its times new.
        let (seen, file) = open_roster(&directory, Access::Read)?;
        if is_new(&seen, &file) {
            return Err(Error::DomainInUse {
                domain: directory.name().to_string(),
                pid: 0,
            });
        }
        let (segment, file) = open_roster(&directory, Access::Write)?;
        let token = open_again(&file).map_err(|e| Error::io(segment.path(), e))?;
        sys::close_in_forks(&token, segment.inode().1);
        let is_the_same = seen.inode() == segment.inode();
        // From here on it gives back what it took.
        let taken = Abandoned {
            directory,
            segment,
            token,
        };
        let locked = sys::lock_all(taken.token.as_fd(), SLOTS as u64)
            .map_err(|e| Error::of_call("fcntl(F_OFD_SETLK)", taken.segment.path(), e))?;
        let inhabitant = inhabitant(&taken.segment, identity::pid_namespace());
        let is_free = locked && inhabitant.is_none() && is_the_same;
        if is_free && taken.segment.is_linked(&taken.directory)? {
            return Ok(taken);
        }
        Err(Error::DomainInUse {
            domain: taken.directory.name().to_string(),
            pid: inhabitant.unwrap_or(0),
        })
    }

    pub(crate) fn directory(&self) -> &Directory {
        &self.directory
    }

    pub(crate) fn id(&self) -> u64 {
        self.segment.header::<Prologue>().roster.load(Relaxed)
    }

    /// Removes roster and directory, where nothing else is left.
    pub(crate) fn retire(&self) -> Result<()> {
        retire(&self.directory, &self.segment)
    }
}

impl Drop for Abandoned {
    fn drop(&mut self) {
        let _ = sys::unlock_range(self.token.as_fd(), 0, SLOTS as u64);
        sys::keep_in_forks(&self.token);
    }
}

/// Whether the roster was just made and nobody took a slot yet, so that whoever made it is about to.
/// Else he might lose to one who removes it again and again.
pub(super) fn is_new(roster: &Segment, file: &OwnedFd) -> bool {
    let nobody_came = |slot: &Slot| {
        [&slot.pid, &slot.pid_namespace, &slot.start_time].map(|word| word.load(Relaxed)) == [0; 3]
    };
    // It got its name then.
    let made = rustix::fs::fstat(file).map_or(0, |stat| stat.st_ctime as u64);
    domain::is_recent(made)
        && roster
            .header::<RosterHeader>()
            .slots
            .iter()
            .all(nobody_came)
}

/// A process with a slot that its pid proves to be alive: one may have lost its token.
pub(super) fn inhabitant(roster: &Segment, pid_namespace: u64) -> Option<u32> {
    let header = roster.header::<RosterHeader>();
    let lives = |slot: &&Slot| {
        identity::proof(slot, pid_namespace) == Proof::Alive && !identity::has_exec_ed(slot, roster)
    };
    let slot = header.slots.iter().find(lives);
    slot.filter(|_| is_of_this_boot(header))
        .map(|slot| slot.pid.load(Relaxed) as u32)
}
