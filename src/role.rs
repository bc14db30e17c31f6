//! Who holds what: the role word, by which one process at a time claims an end of a channel, or a
//! domain as its main process.
//!
//! ```text
//! role word   slot:8 | slot generation:24 | epoch:24 | state:8         0 = never held
//! ```
//!
//! | state | meaning | who may claim it |
//! |---|---|---|
//! | `FREE` | nobody holds it; the last holder left in order | anyone |
//! | `HELD` | held | anyone once the holder is dead |
//! | `SUCCEEDED` | held by one whose predecessor died | as `HELD` |
//! | `SWEPT` | about to be removed by the holder | anyone once the holder is dead |
//! | `CLOSED` | given up for good | who creates a channel again in which messages were left |
//!
//! The epoch counts claims: it is the generation of an end that users see. A claim is one
//! compare-exchange of the exact word that was judged, so of two takers one loses, and a taker
//! killed at any point leaves a word that the death rule can judge.

use crate::layout::Holder;
use crate::ring::{EPOCH_MASK, Incarnation};
use crate::roster::Roster;
use crate::sync::{AtomicU64, Ordering::*, fence};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Free,
    Held,
    Succeeded,
    Swept,
    Closed,
}

const STATES: [State; 5] = [
    State::Free,
    State::Held,
    State::Succeeded,
    State::Swept,
    State::Closed,
];

/// In the state byte: the holder's process is registered for the asymmetric fence.
const REGISTERED: u64 = 0x80;

/// A role word, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Role {
    pub(crate) holder: Holder,
    pub(crate) epoch: u32,
    pub(crate) state: State,
    pub(crate) registered: bool,
}

impl Role {
    /// Any word is a role; a state that we do not know is as good as `CLOSED`.
    pub(crate) fn from_word(word: u64) -> Role {
        let state = STATES
            .get((word & 0x7f) as usize)
            .copied()
            .unwrap_or(State::Closed);
        Role {
            holder: Holder {
                slot: (word >> 56) as u8,
                generation: (word >> 32) as u32 & 0xff_ffff,
            },
            epoch: (word >> 8) as u32 & EPOCH_MASK,
            state,
            registered: word & REGISTERED != 0,
        }
    }

    fn word(self) -> u64 {
        u64::from(self.holder.slot) << 56
            | u64::from(self.holder.generation) << 32
            | u64::from(self.epoch) << 8
            | self.state as u64
            | if self.registered { REGISTERED } else { 0 }
    }

    pub(crate) fn load(word: &AtomicU64) -> Role {
        // Acquire: who sees a holder sees what it took over; partner: `claim`.
        Role::from_word(word.load(Acquire))
    }

    /// As the records of its holder name it.
    pub(crate) fn incarnation(self) -> Incarnation {
        Incarnation {
            epoch: self.epoch,
            is_heir: self.state == State::Succeeded,
        }
    }

    /// Whether somebody holds it, dead or alive.
    pub(crate) fn is_held(self) -> bool {
        matches!(self.state, State::Held | State::Succeeded)
    }
}

/// A role that this process holds, and who held it before.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Claimed {
    pub(crate) role: Role,
    pub(crate) before: Role,
}

/// Why a role was not to be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Denied {
    /// A living process holds it.
    Held(Holder),
    /// It is closed, or being removed: look again by name.
    Gone,
}

/// Claims the role for this process, in `HELD` or `SUCCEEDED`.
pub(crate) fn claim(word: &AtomicU64, roster: &Roster) -> Result<Claimed, Denied> {
    claim_as(word, roster, |before| {
        if before.is_held() {
            State::Succeeded
        } else {
            State::Held
        }
    })
}

/// Claims it in order to remove the file.
pub(crate) fn claim_to_sweep(word: &AtomicU64, roster: &Roster) -> Result<Claimed, Denied> {
    claim_as(word, roster, |_| State::Swept)
}

/// Claims a role that was closed, for one who knows that nobody needs to see it so any more.
pub(crate) fn claim_closed(word: &AtomicU64, roster: &Roster) -> Result<Claimed, Denied> {
    let seen = word.load(Acquire);
    let before = Role::from_word(seen);
    if before.state != State::Closed {
        return Err(Denied::Gone);
    }
    exchange(word, seen, State::Held, roster).ok_or(Denied::Gone)
}

fn claim_as(
    word: &AtomicU64,
    roster: &Roster,
    state: impl Fn(Role) -> State,
) -> Result<Claimed, Denied> {
    // Each round lost was lost to another claimer, or to somebody who scribbles.
    for _ in 0..100 {
        let seen = word.load(Acquire);
        let before = Role::from_word(seen);
        match before.state {
            State::Free => {}
            State::Held | State::Succeeded if roster.is_alive(before.holder) => {
                return Err(Denied::Held(before.holder));
            }
            State::Swept if roster.is_alive(before.holder) => return Err(Denied::Gone),
            State::Held | State::Succeeded | State::Swept => {}
            State::Closed => return Err(Denied::Gone),
        }
        if let Some(claimed) = exchange(word, seen, state(before), roster) {
            return Ok(claimed);
        }
    }
    Err(Denied::Gone)
}

/// Claims the role if it still is as it was `seen`.
fn exchange(word: &AtomicU64, seen: u64, state: State, roster: &Roster) -> Option<Claimed> {
    let before = Role::from_word(seen);
    let epoch = (before.epoch + 1) & EPOCH_MASK;
    let role = Role {
        holder: roster.me(),
        // 0 is the epoch of an end that nobody ever held.
        epoch: epoch.max(1),
        state,
        registered: crate::sys::barrier().registered,
    };
    // AcqRel: we take over what the last holder stored, and hand on that we did.
    word.compare_exchange(seen, role.word(), AcqRel, Relaxed)
        .ok()?;
    // A sleeper that did not see this claim passed its fence before ours, so our first look at its
    // parked word sees it: `doorbell`.
    fence(SeqCst);
    Some(Claimed { role, before })
}

/// Gives up a role that this process holds as `role`: `Free` for a successor, `Closed` for good.
/// Does nothing if another took it over, thinking us dead.
pub(crate) fn give_up(word: &AtomicU64, role: Role, state: State) {
    let left = Role {
        state,
        registered: false,
        ..role
    };
    let _ = word.compare_exchange(role.word(), left.word(), AcqRel, Relaxed);
}

/// Puts back what a claim to sweep found, since the other role was not to be had.
pub(crate) fn restore(word: &AtomicU64, claimed: Claimed) {
    let _ = word.compare_exchange(claimed.role.word(), claimed.before.word(), AcqRel, Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::common::random::config;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(config(256))]

        #[test]
        fn every_word_is_a_role_and_valid_roles_round_trip(word: u64) {
            let role = Role::from_word(word);
            prop_assert!(role.epoch <= EPOCH_MASK);
            if word & 0x7f < STATES.len() as u64 {
                prop_assert_eq!(role.word(), word);
            }
        }
    }
}
