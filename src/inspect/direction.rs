//! Reads one direction of a channel: its counters, and what waits in it to be received. With Relaxed
//! loads only, as everything here.

use super::{DirectionInfo, EndInfo, EndState, MessageInfo, ModeInUse, SnapshotOptions};
use crate::channel::{End, Mode, Stats};
use crate::layout::{Bell, PARKED, RingHeader};
use crate::ring::{Corrupt, Ring, Walked};
use crate::sync::{AtomicU64, Ordering::Acquire, Ordering::Relaxed, fence};
use crate::sys;

/// All of a direction but its ends' names and the allowed mode, and whether its records are sound.
pub(super) fn read_direction(
    ring: &Ring,
    options: &SnapshotOptions,
    sender: EndInfo,
    receiver: EndInfo,
) -> (DirectionInfo, core::result::Result<(), Corrupt>) {
    let header = ring.header();
    let stats = Stats::of(header, ring.capacity());
    let (pending, outcome) =
        look(ring, options).unwrap_or_else(|Moving| (Pending::of(&stats), Ok(())));
    let closed = |epoch: &AtomicU64, end: EndInfo| {
        let epoch = epoch.load(Relaxed);
        epoch != 0 && epoch == u64::from(end.generation)
    };
    let waits = |bell: &Bell, end: EndInfo| {
        end.state == EndState::Alive && bell.parked.load(Relaxed) & PARKED != 0
    };
    let info = DirectionInfo {
        from: End::Host,
        to: End::Guest,
        sent: stats.sent,
        received: stats.received,
        undelivered: pending.undelivered,
        used: pending.used,
        capacity: stats.capacity,
        peak: stats.peak,
        full: stats.full,
        full_ms: full_ms(header),
        sleeps: stats.sleeps,
        wakes: stats.wakes,
        rescues: stats.rescues,
        sender_waits: waits(&header.sleepers.producer, sender),
        receiver_waits: waits(&header.sleepers.consumer, receiver),
        closed: closed(&header.producer.closed, sender)
            || closed(&header.consumer.closed, receiver),
        mode: match Mode::from_bits(header.consumer.mode.load(Relaxed)) {
            Mode::Any => ModeInUse::Unset,
            Mode::Active => ModeInUse::Recv,
            Mode::Passive => ModeInUse::Listener,
        },
        allowed: Mode::Any,
        messages: pending.messages,
    };
    (info, outcome)
}

/// How long the ring has been as full as it is, if its sender found it full and nothing was received
/// since.
fn full_ms(header: &RingHeader) -> Option<u64> {
    let full_at = header.producer.full_at.load(Relaxed);
    // Acquire: partner is the sender's `note_full`.
    fence(Acquire);
    let since = header.producer.full_since.load(Relaxed);
    if since == 0 || header.consumer.head.load(Relaxed) != full_at {
        return None;
    }
    // What lies ahead of our clock is nonsense, or of an earlier boot.
    sys::boot_millis().checked_sub(since)
}

/// What lies in a ring.
#[derive(Default)]
struct Pending {
    undelivered: u64,
    used: u64,
    messages: Vec<MessageInfo>,
}

/// The consumer moves on too fast to look at what it has not got yet.
struct Moving;

impl Pending {
    /// What the counters say.
    fn of(stats: &Stats) -> Pending {
        Pending {
            // A message takes at least its header.
            undelivered: stats
                .sent
                .saturating_sub(stats.received)
                .min(stats.capacity / 8),
            used: stats.used,
            messages: Vec::new(),
        }
    }
}

/// Walks what was not delivered. A record may be overwritten as soon as `head` passed it, so what
/// was seen counts only if `head` stood still.
fn look(
    ring: &Ring,
    options: &SnapshotOptions,
) -> core::result::Result<(Pending, core::result::Result<(), Corrupt>), Moving> {
    for _ in 0..3 {
        let head = ring.header().consumer.head.load(Relaxed);
        let mut pending = Pending::default();
        let outcome = walk(ring, options, &mut pending);
        fence(Acquire);
        if ring.header().consumer.head.load(Relaxed) == head {
            return Ok((pending, outcome));
        }
    }
    Err(Moving)
}

fn walk(
    ring: &Ring,
    options: &SnapshotOptions,
    pending: &mut Pending,
) -> core::result::Result<(), Corrupt> {
    let mut start = None;
    for record in ring.walk()? {
        let record = record?;
        let start = *start.get_or_insert(record.position);
        pending.used = record.end() - start;
        if !record.is_message() {
            continue;
        }
        pending.undelivered += 1;
        if options.payload_bytes > 0 && pending.messages.len() < options.max_messages {
            pending
                .messages
                .push(message(ring, &record, options.payload_bytes));
        }
    }
    Ok(())
}

fn message(ring: &Ring, record: &Walked, bytes: usize) -> MessageInfo {
    MessageInfo {
        position: record.position,
        len: record.len as u64,
        bytes: ring.copy_payload(record, bytes),
    }
}
