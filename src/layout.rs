//! The bytes: every header that lies in a segment, as one `repr(C)` struct of atomics, its
//! drawing above it and the asserts below.
//!
//! A segment is `AtomicU64` words, but for the [`Futex`] words, which are `u32` and never touched
//! as `u64`. All words are in the machine's byte order: a segment never leaves its host. Whoever
//! changes what a byte means raises [`VERSION`].

use crate::sync::{AtomicU32, AtomicU64, Ordering::*, fence};
use crate::sys::Futex;

/// The first word of every segment: `ringlane` in ASCII.
pub(crate) const MAGIC: u64 = u64::from_le_bytes(*b"ringlane");
/// The layout of everything after the [`Prologue`].
pub(crate) const VERSION: u32 = 4;
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
    Store = 4,
}

#[cfg(not(loom))]
impl Kind {
    /// The largest that a file of this kind can be.
    pub(crate) fn most_bytes(self) -> u64 {
        (match self {
            Kind::Roster => size_of::<RosterHeader>().next_multiple_of(PAGE),
            Kind::Channel => PAGE + 2 * MOST_CAPACITY,
            Kind::Runtime => size_of::<RuntimeHeader>().next_multiple_of(PAGE),
            Kind::Store => MOST_STORE,
        }) as u64
    }
}

/// How every segment begins, in every layout version: these words never move.
///
/// ```text
///   0  magic          "ringlane"
///   8  version        layout:32 | kind:32
///  16  size           of the file, bytes; a store's grows from there
///  24  roster         id of the roster that its role words speak of
///  32  host           role word: who made it and holds that end
///  40  guest          role word: who opened it
///  48  reach          bytes that a store's file may grow to; 0 for what does not grow
///  56  reserved
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
    pub(crate) reach: AtomicU64,
    reserved: [AtomicU64; 9],
}

/// A name that another process may be writing: its length is stored after its bytes.
#[repr(C)]
#[derive(Debug, Default)]
pub(crate) struct SharedName {
    pub(crate) len: AtomicU64,
    pub(crate) bytes: [AtomicU64; NAME_BYTES / 8],
}

impl SharedName {
    /// Stores a name, cut to what fits, its length last.
    pub(crate) fn write(&self, name: &str) {
        let mut end = name.len().min(NAME_BYTES);
        while !name.is_char_boundary(end) {
            end -= 1;
        }
        for (word, chunk) in self.bytes.iter().zip(name.as_bytes()[..end].chunks(8)) {
            let mut bytes = [0; 8];
            bytes[..chunk.len()].copy_from_slice(chunk);
            word.store(u64::from_ne_bytes(bytes), Relaxed);
        }
        self.len.store(end as u64, Release);
    }

    /// Reads a name, whatever lies there.
    pub(crate) fn read(&self) -> String {
        let len = (self.len.load(Relaxed) as usize).min(NAME_BYTES);
        fence(Acquire);
        let words = self.bytes.iter();
        let bytes: Vec<u8> = words.flat_map(|w| w.load(Relaxed).to_ne_bytes()).collect();
        String::from_utf8_lossy(&bytes[..len]).into_owned()
    }
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
///    0  producer:  tail, sent, peak, full, sleeps, rescues, closed, full_at, full_since
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
    /// `head` when the producer last found the ring full. While it stands there, nothing was received.
    pub(crate) full_at: AtomicU64,
    /// Milliseconds of the system's boot clock when the producer first found it full with that `head`;
    /// 0 if it never was. For pictures only.
    pub(crate) full_since: AtomicU64,
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
/// The sleeper cannot make others pass a barrier: so wakers never find 0, and always come to take
/// [`PARKED`] away.
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

/// A slot at a generation: who holds something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Holder {
    pub(crate) slot: u8,
    pub(crate) generation: u32,
}

/// The `runtime` file: what a main and its children tell each other outside of the channels.
/// The prologue's host role is the main process.
///
/// ```text
///     0  prologue
///   128  bell, stopping, children, started
///   256  records [255]
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

/// As many as there are slots beside main's.
pub(crate) const CHILDREN: usize = SLOTS - 1;

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

/// The `.store` file: this header, then at [`HEAP`] the buckets and blocks of the table. All words
/// that a commit changes are `u64`, and are named by their index in the file: [`store_word!`].
///
/// ```text
///      0  prologue                    (no role words: a store has no ends)
///    128  hash, seeds[2], boot_id[2]                cold: written once, the boot id at each boot
///    256  buckets                                   how many; alone, since every lookup reads it
///    384  counters: sequence, keys, types, live_bytes, cursor, end, split_pending, ...
///    640  runs [97]: free, next, end                one for each block class, and overflow buckets
///   2968  journal_len, journal [16]: at, value
///         pieces [6144]                             where the buckets lie
/// -----
///  53248  door: lock, watch words                   the only u32 words
///  57344  heap: buckets and blocks, in the order in which they were needed
///
/// bucket, 64 bytes     link, slot [7]
///   link               0: none; bit 63: this bucket is in the pool; else index of the next one
///   slot               tag:28 | block:36            0 = empty; the block in units of 32 bytes
///   tag                bits 8 to 35 of the key's hash
///
/// block                stamp, sizes, type_hash, key padded to 8, value padded to 8
///   stamp              the commit that wrote it; bit 63: FREE | the next free one
///   sizes              key:16 | value:31 | internal:1 | writer's slot:8 | its generation:8
/// ```
#[repr(C)]
#[derive(Debug)]
pub(crate) struct StoreHeader {
    pub(crate) prologue: Prologue,
    /// Which hash: [`HASH_RAPID_V3`].
    pub(crate) hash: AtomicU64,
    pub(crate) seeds: [AtomicU64; 2],
    /// Boot during which the store was last opened for writing.
    pub(crate) boot_id: [AtomicU64; 2],
    reserved: [AtomicU64; 11],
    pub(crate) buckets: AtomicU64,
    reserved_buckets: [AtomicU64; 15],
    /// Commits, and so the newest stamp.
    pub(crate) sequence: AtomicU64,
    /// Entries, those of `types` included.
    pub(crate) keys: AtomicU64,
    /// Internal entries: each names a type.
    pub(crate) types: AtomicU64,
    /// Bytes of the blocks in use.
    pub(crate) live_bytes: AtomicU64,
    /// Where the next run or piece goes.
    pub(crate) cursor: AtomicU64,
    /// The file has all its pages up to here.
    pub(crate) end: AtomicU64,
    /// 1: the last split has still to clear the bucket that it took from.
    pub(crate) split_pending: AtomicU64,
    /// 1 once somebody watches: from then on, writers wake.
    pub(crate) watched: AtomicU64,
    /// Offset of what no writer of ours left there; 0 if none was found. No more writes then.
    pub(crate) poison: AtomicU64,
    /// For pictures: splits, takeovers that found a commit to finish, reads that took the lock.
    pub(crate) splits: AtomicU64,
    pub(crate) recoveries: AtomicU64,
    pub(crate) locked_reads: AtomicU64,
    reserved_counters: [AtomicU64; 20],
    pub(crate) runs: [Run; RUNS],
    pub(crate) journal_len: AtomicU64,
    pub(crate) journal: [JournalEntry; JOURNAL],
    pub(crate) pieces: [AtomicU64; PIECES],
}

/// Where blocks of one class come from: the newest free one, else the next of a run.
#[repr(C)]
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) free: AtomicU64,
    pub(crate) next: AtomicU64,
    pub(crate) end: AtomicU64,
}

/// One store of a commit: to the word of this index, this value.
#[repr(C)]
#[derive(Debug)]
pub(crate) struct JournalEntry {
    pub(crate) at: AtomicU64,
    pub(crate) value: AtomicU64,
}

/// The words of a store that are no `u64`: what is slept on.
#[repr(C)]
#[derive(Debug)]
#[cfg(not(loom))]
pub(crate) struct StoreDoor {
    /// The mutex of all writers: [`crate::lock`].
    pub(crate) lock: Futex,
    reserved: [AtomicU32; 31],
    /// What watchers sleep on; a key's is chosen by its hash.
    pub(crate) watch: [Futex; WATCHES],
}

/// The hash of keys: rapidhash v3, with seeds.
pub(crate) const HASH_RAPID_V3: u64 = 1;
/// Block classes, and behind them the pool of overflow buckets.
pub(crate) const CLASSES: usize = if cfg!(loom) { 8 } else { 96 };
pub(crate) const RUNS: usize = CLASSES + 1;
pub(crate) const WATCHES: usize = 64;
/// Entries of a commit: more than the largest needs.
pub(crate) const JOURNAL: usize = 16;
/// A table begins with 2 to the power of this many buckets.
pub(crate) const FIRST_BITS: u32 = if cfg!(loom) { 1 } else { 8 };
/// Below 2 to the power of this many buckets, pieces are as large as the first table; above, 512
/// (under loom, 4) pieces make a doubling.
pub(crate) const EVEN_BITS: u32 = if cfg!(loom) { 4 } else { 18 };
/// No table has more than 2 to the power of this many buckets.
pub(crate) const MOST_BITS: u32 = if cfg!(loom) { 5 } else { 28 };
pub(crate) const PIECES: usize = (1 << (EVEN_BITS - FIRST_BITS))
    + (MOST_BITS - EVEN_BITS) as usize * (1 << (EVEN_BITS - FIRST_BITS - 1));
/// Largest file of a store: what 36 bits of 32 bytes can name.
pub(crate) const MOST_STORE: usize = 2 << 40;
/// Where the door lies.
#[cfg(not(loom))]
pub(crate) const DOOR: usize = size_of::<StoreHeader>().next_multiple_of(PAGE);
/// Where buckets and blocks begin.
#[cfg(not(loom))]
pub(crate) const HEAP: usize = (DOOR + size_of::<StoreDoor>()).next_multiple_of(PAGE);
#[cfg(loom)]
pub(crate) const HEAP: usize =
    size_of::<StoreHeader>().next_multiple_of(8 * size_of::<AtomicU64>());

/// The index of a word of a [`StoreHeader`], by its field.
macro_rules! store_word {
    ($($field:tt)+) => {
        (core::mem::offset_of!($crate::layout::StoreHeader, $($field)+)
            / size_of::<$crate::sync::AtomicU64>()) as u64
    };
}
pub(crate) use store_word;

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
    assert!(offset_of!(StoreHeader, hash) == 128);
    assert!(offset_of!(StoreHeader, buckets) == 256);
    assert!(offset_of!(StoreHeader, sequence) == 384);
    assert!(offset_of!(StoreHeader, runs) == 640);
    assert!(offset_of!(StoreHeader, journal_len) == 2968);
    assert!(offset_of!(StoreDoor, watch) == 128);
    assert!(DOOR == 53_248 && HEAP == 57_344);
    assert!(PIECES == 6144);
};
