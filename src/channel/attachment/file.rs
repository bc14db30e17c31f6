//! The file of a channel: checked, stamped with a message type, removed.

use crate::codec::{Message, type_hash, type_name};
use crate::error::{Error, Result};
use crate::layout::{ChannelHeader, Kind, LEAST_CAPACITY, MOST_CAPACITY, PAGE, Prologue};
use crate::ring::Ring;
use crate::role::{self, Claimed, Denied, Role, State};
use crate::roster::Roster;
use crate::segment::Segment;
use crate::sync::Ordering::*;
use std::sync::Arc;

/// The message type of a handle; channels that the runtime makes have none at first.
#[derive(Clone, Debug)]
pub(crate) struct TypeStamp {
    hash: u64,
    name: String,
}

impl TypeStamp {
    pub(crate) fn of<T: Message + ?Sized>() -> Self {
        TypeStamp {
            hash: type_hash::<T>(),
            name: type_name::<T>(),
        }
    }
}

/// Opens a channel's file and checks all of its header. Gives its capacity too.
pub(super) fn open_checked(roster: &Roster, file: &str) -> Result<(Segment, u64)> {
    let segment = Segment::open(roster.directory(), file, Some(Kind::Channel))?;
    if segment.header::<Prologue>().roster.load(Relaxed) != roster.id() {
        return Err(Error::ForeignRoster {
            path: segment.path().to_string(),
        });
    }
    let capacity = checked_capacity(&segment)?;
    Ok((segment, capacity))
}

/// The capacity that the header states, if the file has just the size for it.
pub(crate) fn checked_capacity(segment: &Segment) -> Result<u64> {
    let capacity = segment.header::<ChannelHeader>().capacity.load(Relaxed);
    let plausible = capacity.is_power_of_two()
        && (LEAST_CAPACITY as u64..=MOST_CAPACITY as u64).contains(&capacity)
        && segment.size() == PAGE as u64 + 2 * capacity;
    if plausible {
        Ok(capacity)
    } else {
        let offset = core::mem::offset_of!(ChannelHeader, capacity) as u64;
        Err(Error::Corrupt {
            path: segment.path().to_string(),
            offset,
        })
    }
}

pub(super) fn check_stamp(segment: &Segment, name: &str, stamp: Option<&TypeStamp>) -> Result<()> {
    let header = segment.header::<ChannelHeader>();
    let found = header.type_hash.load(Acquire);
    match stamp {
        Some(stamp) if found != 0 && found != stamp.hash => Err(Error::TypeMismatch {
            name: name.to_string(),
            expected: stamp.name.clone(),
            found: header.type_name.read(),
        }),
        _ => Ok(()),
    }
}

/// Stamps the channel, once for all: by one compare-exchange of the hash. The name follows, for
/// errors and pictures.
pub(super) fn write_stamp(segment: &Segment, name: &str, stamp: &TypeStamp) -> Result<()> {
    let header = segment.header::<ChannelHeader>();
    if header
        .type_hash
        .compare_exchange(0, stamp.hash, AcqRel, Relaxed)
        .is_ok()
    {
        header.type_name.write(&stamp.name);
    }
    check_stamp(segment, name, Some(stamp))
}

/// Whether there is a message in the ring that nobody received.
pub(super) fn has_undelivered(ring: &Ring) -> bool {
    ring.walk()
        .is_ok_and(|mut walk| walk.any(|record| record.is_ok_and(|r| r.is_message())))
}

/// Claims the host's end of a channel that its host closed before everything it sent was received.
/// Meanwhile the guest's is ours as well: whoever has it receives what is left, until it is told
/// `Closed`, and may be about to remove the file; so may whoever sweeps.
pub(super) fn claim_closed(
    segment: &Arc<Segment>,
    capacity: u64,
    roster: &Roster,
) -> Result<Claimed, Denied> {
    let prologue = segment.header::<Prologue>();
    let guest = role::claim_to_sweep(&prologue.guest, roster).map_err(|_| Denied::Gone)?;
    let host = if has_undelivered(&Ring::of_channel(segment, capacity, true)) {
        role::claim_closed(&prologue.host, roster)
    } else {
        Err(Denied::Gone)
    };
    role::restore(&prologue.guest, guest);
    host
}

/// Removes a channel that no living process holds. `false` if one does.
pub(crate) fn sweep(segment: &Segment, roster: &Roster) -> Result<bool> {
    let prologue = segment.header::<Prologue>();
    if prologue.roster.load(Relaxed) != roster.id() {
        return Ok(false);
    }
    // Before we claim anything: should we be killed before we restored it, a guest that lives would
    // never hear that its host died.
    let guest = Role::load(&prologue.guest);
    if guest.is_held() && roster.is_alive(guest.holder) {
        return Ok(false);
    }
    // What is CLOSED need not be claimed: only `claim_closed` does, with the guest's role in hand.
    let closed = |word| Role::load(word).state == State::Closed;
    let host = match role::claim_to_sweep(&prologue.host, roster) {
        Ok(claimed) => Some(claimed),
        Err(_) if closed(&prologue.host) => None,
        Err(_) => return Ok(false),
    };
    let guest = role::claim_to_sweep(&prologue.guest, roster).ok();
    let is_nobodys =
        (guest.is_some() || closed(&prologue.guest)) && (host.is_some() || closed(&prologue.host));
    let swept = if is_nobodys {
        segment.unlink(roster.directory()).map(|()| true)
    } else {
        Ok(false)
    };
    if !matches!(swept, Ok(true)) {
        for (word, claimed) in [(&prologue.guest, guest), (&prologue.host, host)] {
            if let Some(claimed) = claimed {
                role::restore(word, claimed);
            }
        }
    }
    swept
}
