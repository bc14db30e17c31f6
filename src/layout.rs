//! The bytes: every header that lies in a segment, as one `repr(C)` struct of atomics, its
//! drawing above it and the asserts below.
//!
//! A segment is `AtomicU64` words, but for the [`Futex`] words, which are `u32` and never touched
//! as `u64`. All words are in the machine's byte order: a segment never leaves its host. Whoever
//! changes what a byte means raises [`VERSION`].

use crate::sync::{AtomicU32, AtomicU64};
use crate::sys::Futex;

/// The first word of every segment: `ringlane` in ASCII.
pub(crate) const MAGIC: u64 = u64::from_le_bytes(*b"ringlane");
/// The layout of everything after the [`Prologue`].
pub(crate) const VERSION: u32 = 1;
/// Two cache lines: processors fetch them in pairs, so what two sides write lies this far apart.
pub(crate) const LINE: usize = 128;
/// Data areas begin at a multiple of this.
pub(crate) const PAGE: usize = 4096;
/// Bytes of a ring: a power of two between these.
pub(crate) const LEAST_CAPACITY: usize = 4 << 10;
pub(crate) const MOST_CAPACITY: usize = 1 << 30;
/// Bytes of a name in shared memory, without its length.
pub(crate) const NAME_BYTES: usize = 128;

/// What a segment is; the high half of [`Prologue::version`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Kind {
    Roster = 1,
    Channel = 2,
    Runtime = 3,
}

#[cfg(not(loom))]
impl Kind {
    /// The largest that a file of this kind can be.
    pub(crate) fn most_bytes(self) -> u64 {
        (match self {
            Kind::Roster => size_of::<RosterHeader>().next_multiple_of(PAGE),
            Kind::Channel => PAGE + 2 * MOST_CAPACITY,
            Kind::Runtime => size_of::<RuntimeHeader>().next_multiple_of(PAGE),
        }) as u64
    }
}

/// How every segment begins, in every layout version: these words never move.
///
/// ```text
///   0  magic          "ringlane"
///   8  version        layout:32 | kind:32
///  16  size           of the file, bytes
///  24  roster         id of the roster that its role words speak of
///  32  host           role word: who made it and holds that end
///  40  guest          role word: who opened it
///  48  reserved
/// ```
#[repr(C)]
#[derive(Debug, Default)]
pub(crate) struct Prologue {
    pub(crate) magic: AtomicU64,
    pub(crate) version: AtomicU64,
    pub(crate) size: AtomicU64,
    pub(crate) roster: AtomicU64,
    pub(crate) host: AtomicU64,
    pub(crate) guest: AtomicU64,
    reserved: [AtomicU64; 10],
}

/// A name that another process may be writing: its length is stored after its bytes.
#[repr(C)]
#[derive(Debug, Default)]
pub(crate) struct SharedName {
    pub(crate) len: AtomicU64,
    pub(crate) bytes: [AtomicU64; NAME_BYTES / 8],
}

/// The `.channel` file: this header, then at [`PAGE`] the words of the ring from host to guest,
/// then those of the ring from guest to host.
///
/// ```text
///     0  prologue
///   128  capacity, modes, type_hash, type_name     cold: written once
///   384  host_note, guest_note                      for people: pids
///   512  to_guest: RingHeader     written by the host, read by the guest
///   896  to_host:  RingHeader
///  4096  words of to_guest [capacity], words of to_host [capacity]
/// ```
#[repr(C)]
#[derive(Debug, Default)]
pub(crate) struct ChannelHeader {
    pub(crate) prologue: Prologue,
    /// Bytes of each ring; a power of two.
    pub(crate) capacity: AtomicU64,
    /// Receive modes allowed: host's in the low byte, guest's in the next.
    pub(crate) modes: AtomicU64,
    /// Hash of codec, name and shape of the message type; 0 while no typed handle came.
    pub(crate) type_hash: AtomicU64,
    /// The same for people: `name (codec)`.
    pub(crate) type_name: SharedName,
    reserved: [AtomicU64; 12],
    pub(crate) host_note: EndNote,
    pub(crate) guest_note: EndNote,
    pub(crate) to_guest: RingHeader,
    pub(crate) to_host: RingHeader,
}

/// What is known of an end beside its role word; for errors and pictures, never for decisions.
///
/// ```text
///  0  holder   pid of the present or last holder | epoch << 32
///  8  died     pid of the last holder that died | its epoch << 32
/// ```
#[repr(C)]
#[derive(Debug, Default)]
pub(crate) struct EndNote {
    pub(crate) holder: AtomicU64,
    pub(crate) died: AtomicU64,
    reserved: [AtomicU64; 6],
}

/// One direction. Each line has one writer; `sleepers` is almost never written.
///
/// ```text
///    0  producer:  tail, sent, peak, full, sleeps, rescues, closed
///  128  consumer:  head, seen, received, sleeps, rescues, mode, closed
///  256  sleepers:  consumer's bell, producer's bell, news, wakes
/// ```
#[repr(C, align(128))]
#[derive(Debug, Default)]
pub(crate) struct RingHeader {
    pub(crate) producer: ProducerLine,
    pub(crate) consumer: ConsumerLine,
    pub(crate) sleepers: SleeperLine,
}

#[repr(C, align(128))]
#[derive(Debug, Default)]
pub(crate) struct ProducerLine {
    /// Mirror of the producer's position; may lag behind. For pictures only.
    pub(crate) tail: AtomicU64,
    /// Messages committed.
    pub(crate) sent: AtomicU64,
    /// Most bytes in use that the producer saw when it looked.
    pub(crate) peak: AtomicU64,
    /// Times the producer found the ring full.
    pub(crate) full: AtomicU64,
    /// Times the producer slept for room.
    pub(crate) sleeps: AtomicU64,
    /// Sleeps whose slice ran out although there was room: a lost wake, or a dead waker.
    pub(crate) rescues: AtomicU64,
    /// Epoch of the holder that gave up its sender; 0 if none did.
    pub(crate) closed: AtomicU64,
}

#[repr(C, align(128))]
#[derive(Debug, Default)]
pub(crate) struct ConsumerLine {
    /// The consumer's position: everything below is released.
    pub(crate) head: AtomicU64,
    /// End of the last record handed out in place; a successor calls records below it redelivered.
    pub(crate) seen: AtomicU64,
    /// Messages released.
    pub(crate) received: AtomicU64,
    /// Times the consumer slept for a message.
    pub(crate) sleeps: AtomicU64,
    /// Sleeps whose slice ran out although there was a message.
    pub(crate) rescues: AtomicU64,
    /// The receive mode in use: 0 none yet, else a [`crate::Mode`] in bits.
    pub(crate) mode: AtomicU64,
    /// Epoch of the holder that gave up its receiver; 0 if none did.
    pub(crate) closed: AtomicU64,
}

#[repr(C, align(128))]
#[derive(Debug, Default)]
pub(crate) struct SleeperLine {
    /// What the consumer sleeps on.
    pub(crate) consumer: Bell,
    /// What the producer sleeps on.
    pub(crate) producer: Bell,
    /// Counts what sleepers must look at that is not a message: close, death, restart, stop.
    pub(crate) news: AtomicU32,
    reserved: AtomicU32,
    /// Times a sleeper of this ring was woken for data or room.
    pub(crate) wakes: AtomicU64,
}

/// What one side of one ring sleeps on; `doorbell` has the protocol.
#[repr(C)]
#[derive(Debug, Default)]
pub(crate) struct Bell {
    /// [`PARKED`] and [`NEEDS_FENCE`].
    pub(crate) parked: AtomicU32,
    pub(crate) rings: Futex,
}

/// The sleeper is asleep or about to be. The waker that takes this bit away rings.
pub(crate) const PARKED: u32 = 1;
/// The sleeper cannot make others pass a barrier: senders fence and look again.
pub(crate) const NEEDS_FENCE: u32 = 2;

/// The `roster` file: this header, then [`SLOTS`] slots. Byte *k* of the file is the lock that the
/// holder of slot *k* keeps.
///
/// ```text
///     0  prologue                  (its roster word is this roster's own id)
///   128  boot_id [2], state
///   256  slots [256]
/// ```
#[repr(C)]
#[derive(Debug)]
#[cfg(not(loom))]
pub(crate) struct RosterHeader {
    pub(crate) prologue: Prologue,
    pub(crate) boot_id: [AtomicU64; 2],
    /// 0, or [`RETIRED`] once nobody may attach any more.
    pub(crate) state: AtomicU64,
    reserved: [AtomicU64; 13],
    pub(crate) slots: [Slot; SLOTS],
}

pub(crate) const SLOTS: usize = 256;
pub(crate) const RETIRED: u64 = 1;

/// Who holds a slot. The generation is raised before a new identity is written.
#[repr(C)]
#[derive(Debug, Default)]
pub(crate) struct Slot {
    pub(crate) generation: AtomicU64,
    pub(crate) pid: AtomicU64,
    pub(crate) pid_namespace: AtomicU64,
    /// Clock ticks from boot to the start of the process, as `/proc/PID/stat` has it.
    pub(crate) start_time: AtomicU64,
    /// Inode of its pidfd: unique while the system is up. 0 where the kernel has none.
    pub(crate) pidfd_inode: AtomicU64,
    /// Start times of two processes compare only within one of these.
    pub(crate) time_namespace: AtomicU64,
    reserved: [AtomicU64; 2],
}

/// The `runtime` file: what a main and its children tell each other outside of the channels.
/// The prologue's host role is the main process.
///
/// ```text
///     0  prologue
///   128  bell, stopping, children, started
///   256  records [64]
/// ```
#[repr(C)]
#[derive(Debug)]
#[cfg(not(loom))]
pub(crate) struct RuntimeHeader {
    pub(crate) prologue: Prologue,
    /// Rung by children; main's control thread sleeps on it.
    pub(crate) bell: Futex,
    /// 1 once main shuts down.
    pub(crate) stopping: AtomicU32,
    /// Records in use.
    pub(crate) children: AtomicU64,
    /// Pid of main.
    pub(crate) main_pid: AtomicU64,
    /// Seconds of the system's boot clock when main started.
    pub(crate) started: AtomicU64,
    reserved: [AtomicU64; 12],
    pub(crate) records: [ChildRecord; CHILDREN],
}

pub(crate) const CHILDREN: usize = 64;

/// One child. Main writes all of it but `nonce` (taken by the child) and `request`.
#[repr(C)]
#[derive(Debug, Default)]
pub(crate) struct ChildRecord {
    pub(crate) name: SharedName,
    /// Ticket of the next process that may call itself this child; it takes it by storing 0.
    pub(crate) nonce: AtomicU64,
    pub(crate) generation: AtomicU32,
    /// Highest generation that was told to stop.
    pub(crate) stop: AtomicU32,
    /// The child sleeps on it in `wait_stop`.
    pub(crate) stop_bell: Futex,
    /// Generation that asked to be restarted.
    pub(crate) request: AtomicU32,
    pub(crate) pid: AtomicU64,
    /// [`crate::runtime`]'s state, as a number.
    pub(crate) state: AtomicU64,
    pub(crate) restarts: AtomicU64,
    /// 0: none; else 1 << 32 | wait status; 2 << 32: ended, status unknown.
    pub(crate) last_exit: AtomicU64,
    reserved: [AtomicU64; 8],
}

#[cfg(not(loom))]
const _: () = {
    use core::mem::{offset_of, size_of};
    assert!(size_of::<Prologue>() == 128);
    assert!(offset_of!(Prologue, host) == 32);
    assert!(offset_of!(Prologue, guest) == 40);
    assert!(offset_of!(ChannelHeader, capacity) == 128);
    assert!(offset_of!(ChannelHeader, host_note) == 384);
    assert!(offset_of!(ChannelHeader, to_guest) == 512);
    assert!(offset_of!(ChannelHeader, to_host) == 896);
    assert!(size_of::<ChannelHeader>() <= PAGE);
    assert!(size_of::<RingHeader>() == 3 * LINE);
    assert!(offset_of!(RingHeader, consumer) == LINE);
    assert!(offset_of!(RingHeader, sleepers) == 2 * LINE);
    assert!(size_of::<Slot>() == 64);
    assert!(offset_of!(RosterHeader, slots) == 256);
    assert!(offset_of!(RuntimeHeader, records) == 256);
    assert!(size_of::<ChildRecord>() == 256);
};
