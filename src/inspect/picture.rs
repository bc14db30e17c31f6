//! What a picture is made of.

use super::Finding;
use crate::channel::{End, Mode};
use core::fmt;

/// All domains of this user, or the one that was asked for.
#[derive(Clone, Debug)]
#[non_exhaustive]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Snapshot {
    /// Version of the library that took it.
    pub library: &'static str,
    /// The layout version that it reads.
    pub layout: u32,
    /// The directory in which the domains lie.
    pub directory: String,
    /// The file system of that directory.
    pub space: Space,
    /// Sorted by name.
    pub domains: Vec<DomainInfo>,
    /// What was found beside the domains. What was found in one stands there.
    pub findings: Vec<Finding>,
}

/// A file system, in bytes. Both are 0 if that cannot be told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Space {
    /// All of it.
    pub size: u64,
    /// What this user can still have.
    pub free: u64,
}

/// One domain.
#[derive(Clone, Debug)]
#[non_exhaustive]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct DomainInfo {
    /// Its name.
    pub name: String,
    /// Its directory.
    pub path: String,
    /// Bytes that its files take.
    pub bytes: u64,
    /// Its main process, if a runtime was started in it.
    pub main: Option<MainInfo>,
    /// The main process's children.
    pub children: Vec<ChildInfo>,
    /// Sorted by name.
    pub channels: Vec<ChannelInfo>,
    /// Sorted by name. Stores at a path of their own are not found.
    pub stores: Vec<StoreInfo>,
    /// How many channels and stores lie in it besides, which could not be read: a finding tells why.
    pub unread: usize,
    /// Whether no process is attached to it any more, so that [`remove_domain`] may remove it.
    /// Without a sound roster it counts as inhabited, unless nothing is in it and it was not made just
    /// now.
    ///
    /// [`remove_domain`]: crate::remove_domain
    pub abandoned: bool,
    /// What was found in it.
    pub findings: Vec<Finding>,
}

/// The main process of a domain.
#[derive(Clone, Debug)]
#[non_exhaustive]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct MainInfo {
    /// Its pid, in its own pid namespace.
    pub pid: u32,
    /// Whether it lives; a stopped process does.
    pub alive: bool,
    /// Whether it is shutting down.
    pub stopping: bool,
    /// Seconds since its runtime was started; `None` if it is dead.
    pub uptime: Option<u64>,
}

/// A child, as its main process last wrote it down.
#[derive(Clone, Debug)]
#[non_exhaustive]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct ChildInfo {
    /// Its name.
    pub name: String,
    /// The pid of its process, if it has one.
    pub pid: Option<u32>,
    /// How often it was started.
    pub generation: u32,
    /// What it is doing.
    pub state: ChildState,
    /// How often it was started again.
    pub restarts: u64,
    /// How its last process ended, if one did.
    pub last_exit: Option<String>,
}

/// What a child is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "lowercase"))]
pub enum ChildState {
    /// Its process was started and is not attached yet.
    Starting,
    /// It runs.
    Running,
    /// It was told to stop.
    Stopping,
    /// It ended, and will be started again after a pause.
    Waiting,
    /// It ended for good.
    Ended,
    /// It failed, or could not be started, and is not started again.
    Failed,
    /// Something that this version does not know.
    Unknown,
}

/// One channel.
#[derive(Clone, Debug)]
#[non_exhaustive]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct ChannelInfo {
    /// Its name.
    pub name: String,
    /// The name of its message type; empty if no typed handle came yet.
    #[cfg_attr(feature = "serde", serde(rename = "type"))]
    pub type_name: String,
    /// How messages become bytes: `plain`, `raw` or `postcard`; empty if no typed handle came yet.
    pub codec: String,
    /// The mode that it was made with: that of the ends if they have one, or of the end that has
    /// a restriction.
    #[cfg_attr(feature = "serde", serde(serialize_with = "as_text"))]
    pub mode: Mode,
    /// Bytes of each direction.
    pub capacity: u64,
    /// The end of whoever created it.
    pub host: EndInfo,
    /// The end of whoever opened it.
    pub guest: EndInfo,
    /// From host to guest, then from guest to host.
    pub directions: Vec<DirectionInfo>,
}

/// Who holds an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct EndInfo {
    /// Whether somebody does.
    pub state: EndState,
    /// Pid of the holder, dead or alive, in its own pid namespace.
    pub pid: Option<u32>,
    /// Whether the holder is stopped, by a signal or a debugger. `false` if that cannot be told,
    /// because it runs in another pid namespace.
    pub stopped: bool,
    /// Generation of the end: it rises with each holder.
    pub generation: u32,
}

/// Whether somebody holds an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "lowercase"))]
pub enum EndState {
    /// Nobody, yet or any more.
    Absent,
    /// A living process; a stopped one is alive.
    Alive,
    /// A process that died and has no successor yet.
    Dead,
    /// Nobody ever again.
    Closed,
    /// Somebody, and the roster that would tell whether he lives is not there.
    Unknown,
}

/// One direction of a channel. The counters count from the channel's birth on.
#[derive(Clone, Debug)]
#[non_exhaustive]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct DirectionInfo {
    /// The end that sends.
    #[cfg_attr(feature = "serde", serde(serialize_with = "end_as_text"))]
    pub from: End,
    /// The end that receives.
    #[cfg_attr(feature = "serde", serde(serialize_with = "end_as_text"))]
    pub to: End,
    /// Messages sent.
    pub sent: u64,
    /// Messages received.
    pub received: u64,
    /// Messages that wait to be received. About, while they flow.
    pub undelivered: u64,
    /// Bytes in use, headers and padding included. About, while messages flow.
    pub used: u64,
    /// Bytes in all.
    pub capacity: u64,
    /// Most bytes that the sender found in use when it looked.
    pub peak: u64,
    /// Times a sender found no room.
    pub full: u64,
    /// Milliseconds for which there has been no room; `None` if no sender found so, or something was
    /// received since.
    pub full_ms: Option<u64>,
    /// Times one of the two ends slept.
    pub sleeps: u64,
    /// Times one of the two was woken by the other.
    pub wakes: u64,
    /// Sleeps that ended by the clock although there was something to do.
    pub rescues: u64,
    /// Whether the sender sleeps until there is room.
    pub sender_waits: bool,
    /// Whether the receiver sleeps until there is a message.
    pub receiver_waits: bool,
    /// Whether the sender gave up sending, or the receiver receiving.
    pub closed: bool,
    /// How the receiver receives.
    pub mode: ModeInUse,
    /// How it may receive.
    #[cfg_attr(feature = "serde", serde(serialize_with = "as_text"))]
    pub allowed: Mode,
    /// The oldest of the undelivered messages, if
    /// [`payload_bytes`](super::SnapshotOptions::payload_bytes) asked for them; none while they flow.
    pub messages: Vec<MessageInfo>,
}

/// How an end receives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "lowercase"))]
pub enum ModeInUse {
    /// Not yet, or not at the moment.
    Unset,
    /// By `recv` and its like.
    Recv,
    /// By a listener.
    Listener,
}

/// A message that was not delivered yet.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct MessageInfo {
    /// Where in the stream of its direction.
    pub position: u64,
    /// Its bytes, all of them.
    pub len: u64,
    /// The first of them. Serialized as text: two hexadecimal digits for each.
    #[cfg_attr(feature = "serde", serde(serialize_with = "as_hex"))]
    pub bytes: Vec<u8>,
}

/// One store.
#[derive(Clone, Debug)]
#[non_exhaustive]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct StoreInfo {
    /// Its name.
    pub name: String,
    /// Values in it.
    pub keys: u64,
    /// Changes ever made.
    pub changes: u64,
    /// Bytes of the blocks in which values lie.
    pub live_bytes: u64,
    /// Bytes of its file.
    pub file_bytes: u64,
    /// Bytes that its file may grow to.
    pub max_size: u64,
    /// Buckets of the table.
    pub buckets: u64,
    /// Changes that a killed process left half done and another finished.
    pub recoveries: u64,
    /// Reads that lost so many races against writers that they took the lock.
    pub locked_reads: u64,
    /// Whether a writer found it damaged: then it takes no more changes.
    pub damaged: bool,
    /// Who holds its lock at the moment.
    pub holder: Option<StoreHolder>,
    /// Some of the entries, at most
    /// [`max_entries`](super::SnapshotOptions::max_entries), sorted by key.
    pub entries: Vec<StoreEntry>,
}

/// Who holds the lock of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct StoreHolder {
    /// Its pid, in its own pid namespace, if it is known.
    pub pid: Option<u32>,
    /// Whether it lives; a stopped process does.
    pub alive: bool,
    /// Whether it is stopped, by a signal or a debugger. `false` if that cannot be told, because it
    /// runs in another pid namespace.
    pub stopped: bool,
}

/// A value in a store.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct StoreEntry {
    /// Its key. Serialized as text; what is no UTF-8 is replaced.
    #[cfg_attr(feature = "serde", serde(serialize_with = "lossy"))]
    pub key: Vec<u8>,
    /// The name of its type.
    #[cfg_attr(feature = "serde", serde(rename = "type"))]
    pub type_name: String,
    /// How it became bytes: `plain`, `raw` or `postcard`.
    pub codec: String,
    /// Its version.
    pub version: u64,
    /// Pid of the process that stored it, if that is still attached.
    pub writer: Option<u32>,
    /// Its bytes, all of them.
    pub len: u64,
    /// The value, if it is short and of one of the types that are messages by themselves.
    pub text: Option<String>,
    /// The first bytes, if [`payload_bytes`](super::SnapshotOptions::payload_bytes) asked for them.
    /// Serialized as text: two hexadecimal digits for each.
    #[cfg_attr(feature = "serde", serde(serialize_with = "as_hex"))]
    pub bytes: Vec<u8>,
}

impl DomainInfo {
    /// Whether it is abandoned and was not meant to be: somebody was killed in it, or there is
    /// neither a channel nor a store in it.
    pub fn is_left_behind(&self) -> bool {
        let lost = |end: EndInfo| end.state == EndState::Dead;
        let somebody_died = self.main.is_some()
            || self
                .channels
                .iter()
                .any(|channel| lost(channel.host) || lost(channel.guest));
        let is_empty = self.channels.len() + self.stores.len() + self.unread == 0;
        self.abandoned && (somebody_died || is_empty)
    }
}

impl fmt::Display for ChildState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            ChildState::Starting => "starting",
            ChildState::Running => "running",
            ChildState::Stopping => "stopping",
            ChildState::Waiting => "waiting",
            ChildState::Ended => "ended",
            ChildState::Failed => "failed",
            ChildState::Unknown => "unknown",
        })
    }
}

impl fmt::Display for EndState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            EndState::Absent => "absent",
            EndState::Alive => "alive",
            EndState::Dead => "dead",
            EndState::Closed => "closed",
            EndState::Unknown => "unknown",
        })
    }
}

impl fmt::Display for ModeInUse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            ModeInUse::Unset => "unset",
            ModeInUse::Recv => "recv",
            ModeInUse::Listener => "listener",
        })
    }
}

pub(super) fn end_name(end: End) -> &'static str {
    match end {
        End::Host => "host",
        End::Guest => "guest",
    }
}

#[cfg(feature = "serde")]
fn as_text<T: fmt::Display, S: serde::Serializer>(
    value: &T,
    serializer: S,
) -> core::result::Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

#[cfg(feature = "serde")]
fn end_as_text<S: serde::Serializer>(
    end: &End,
    serializer: S,
) -> core::result::Result<S::Ok, S::Error> {
    serializer.serialize_str(end_name(*end))
}

#[cfg(feature = "serde")]
fn lossy<S: serde::Serializer>(
    bytes: &[u8],
    serializer: S,
) -> core::result::Result<S::Ok, S::Error> {
    serializer.serialize_str(&String::from_utf8_lossy(bytes))
}

#[cfg(feature = "serde")]
fn as_hex<S: serde::Serializer>(
    bytes: &[u8],
    serializer: S,
) -> core::result::Result<S::Ok, S::Error> {
    let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    serializer.serialize_str(&digits)
}
