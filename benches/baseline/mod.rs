//! What the benches race: contestants that carry the same payloads between two real processes.
//!
//! The bench binary is the parent. For each contestant it executes itself again as a child
//! (`process`), which opens the other side of the same connection (`Link`) and serves one kind of
//! work: it echoes, or it swallows a stream and answers once. Both sides write and read every
//! word of every payload, and the parent compares what came back with what should have come.

mod payload;
mod pipe;
mod process;
mod raw;
mod ringlane;
mod shared_memory;
mod slot;
mod unix;

use std::fmt;
use std::os::fd::OwnedFd;
use std::str::FromStr;
use std::time::{Duration, Instant};

use payload::{Payload, Seven};
pub use process::Machine;
use process::{Child, Control};

/// Messages that each contestant must carry rightly before it is timed.
const CHECKED: u64 = 300;

/// One side of a connection. The two sides are alike; `send` and `recv` block.
trait Link: Sized + 'static {
    type Payload: Payload;
    /// Makes the connection and takes the parent's side.
    fn create(bytes: usize) -> (Self, Address);
    /// Takes the child's side.
    fn open(address: &str, bytes: usize) -> Self;
    fn send(&mut self, payload: &Self::Payload);
    fn recv(&mut self, payload: &mut Self::Payload);
}

/// Where the child finds its side: a word for `Link::open`, and the descriptors it inherits.
struct Address {
    word: String,
    inherited: Vec<OwnedFd>,
}

/// Who carries the messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Contestant {
    /// The library, through its public typed API.
    Ringlane,
    /// Two cache lines handed to and fro: what the hardware allows. 8-byte round trips only.
    Raw,
    /// Two pipes.
    Pipe,
    /// A pair of Unix stream sockets.
    Unix,
    /// The channel that one would write with the crates `shared_memory` and `raw_sync`.
    SharedMemory,
}

/// What is done with the messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// The child sends each message back before the next one is sent.
    RoundTrip,
    /// The parent sends all messages; the child answers once when it has them all.
    Stream,
}

/// One contestant at one kind of work with one size of payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    pub contestant: Contestant,
    pub work: Work,
    pub bytes: usize,
}

impl Contestant {
    const ALL: [Self; 5] = [
        Self::Ringlane,
        Self::Raw,
        Self::Pipe,
        Self::Unix,
        Self::SharedMemory,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Ringlane => "ringlane",
            Self::Raw => "raw",
            Self::Pipe => "pipe",
            Self::Unix => "unix",
            Self::SharedMemory => "shared_memory",
        }
    }
}

impl FromStr for Contestant {
    type Err = ();
    fn from_str(name: &str) -> Result<Self, ()> {
        Self::ALL
            .into_iter()
            .find(|contestant| contestant.name() == name)
            .ok_or(())
    }
}

impl Work {
    pub const ALL: [Self; 2] = [Self::RoundTrip, Self::Stream];

    pub fn name(self) -> &'static str {
        match self {
            Self::RoundTrip => "round_trip",
            Self::Stream => "stream",
        }
    }

    /// The payload sizes at which this work is measured.
    pub fn sizes(self) -> [usize; 4] {
        match self {
            Self::RoundTrip => [8, 56, 1024, 8192],
            Self::Stream => [8, 64, 1024, 65536],
        }
    }
}

impl FromStr for Work {
    type Err = ();
    fn from_str(name: &str) -> Result<Self, ()> {
        Self::ALL
            .into_iter()
            .find(|work| work.name() == name)
            .ok_or(())
    }
}

impl Entry {
    /// The hardware's limit, which everything else is set against.
    pub const RAW: Self = Self {
        contestant: Contestant::Raw,
        work: Work::RoundTrip,
        bytes: 8,
    };

    /// Everyone who takes part in this work at this size.
    pub fn all(work: Work, bytes: usize) -> impl Iterator<Item = Self> {
        let entries = Contestant::ALL.map(|contestant| Self {
            contestant,
            work,
            bytes,
        });
        entries
            .into_iter()
            .filter(|entry| entry.contestant != Contestant::Raw || *entry == Self::RAW)
    }

    fn sides(self) -> Sides {
        match (self.contestant, self.bytes) {
            (Contestant::Ringlane, 8) => Sides::of::<ringlane::Ringlane<u64>>(),
            (Contestant::Ringlane, 56) => Sides::of::<ringlane::Ringlane<Seven>>(),
            (Contestant::Ringlane, _) => Sides::of::<ringlane::Ringlane<[u8]>>(),
            (Contestant::Raw, _) => Sides::of::<raw::Raw>(),
            (Contestant::Pipe, _) => Sides::of::<pipe::Pipe>(),
            (Contestant::Unix, _) => Sides::of::<unix::Unix>(),
            (Contestant::SharedMemory, _) => Sides::of::<shared_memory::SharedMemory>(),
        }
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} {} {}",
            self.contestant.name(),
            self.work.name(),
            self.bytes
        )
    }
}

impl FromStr for Entry {
    type Err = ();
    /// Reads what `Display` wrote.
    fn from_str(text: &str) -> Result<Self, ()> {
        let mut words = text.split(' ');
        let mut word = || words.next().ok_or(());
        Ok(Self {
            contestant: word()?.parse()?,
            work: word()?.parse()?,
            bytes: word()?.parse().map_err(|_| ())?,
        })
    }
}

/// What a process does for an entry, one function for each side. The type of the link is settled
/// here, once, so that no message pays for a dynamic call.
struct Sides {
    start: fn(Entry) -> (Box<dyn Timed>, Address),
    serve: fn(Entry, &str, Control),
}

impl Sides {
    fn of<L: Link>() -> Self {
        Self {
            start: Parent::<L>::start,
            serve: serve::<L>,
        }
    }
}

/// A contestant ready to be timed: the parent's side of the link, and the child at its other side.
pub struct Pair {
    // Before the link: the child leaves first, and the parent, who made the link, clears it away.
    child: Child,
    parent: Box<dyn Timed>,
    work: Work,
}

impl Pair {
    /// Starts the child and makes sure that messages arrive whole.
    pub fn start(entry: Entry, machine: &Machine) -> Self {
        let (parent, address) = (entry.sides().start)(entry);
        let child = Child::spawn(entry, address, machine);
        let mut pair = Self {
            child,
            parent,
            work: entry.work,
        };
        pair.time(CHECKED);
        pair
    }

    /// How long this many messages take. The child is awake and waiting when the clock starts.
    pub fn time(&mut self, messages: u64) -> Duration {
        self.child.order(messages);
        match self.work {
            Work::RoundTrip => self.parent.round_trips(messages),
            Work::Stream => self.parent.stream(messages),
        }
    }
}

trait Timed {
    fn round_trips(&mut self, messages: u64) -> Duration;
    fn stream(&mut self, messages: u64) -> Duration;
}

/// The parent's side. Every message carries the next sequence number, so a stale one is noticed.
struct Parent<L: Link> {
    link: L,
    out: L::Payload,
    back: L::Payload,
    sequence: u64,
}

impl<L: Link> Parent<L> {
    fn start(entry: Entry) -> (Box<dyn Timed>, Address) {
        let (link, address) = L::create(entry.bytes);
        let (out, back) = (
            L::Payload::sized(entry.bytes),
            L::Payload::sized(entry.bytes),
        );
        (
            Box::new(Self {
                link,
                out,
                back,
                sequence: 0,
            }),
            address,
        )
    }

    fn stamp_next(&mut self) {
        self.sequence += 1;
        self.out.stamp(self.sequence);
    }
}

impl<L: Link> Timed for Parent<L> {
    fn round_trips(&mut self, messages: u64) -> Duration {
        let clock = Instant::now();
        for _ in 0..messages {
            self.stamp_next();
            self.link.send(&self.out);
            self.link.recv(&mut self.back);
            assert!(self.back == self.out, "the echo differs");
        }
        clock.elapsed()
    }

    fn stream(&mut self, messages: u64) -> Duration {
        let first = self.sequence + 1;
        let clock = Instant::now();
        for _ in 0..messages {
            self.stamp_next();
            self.link.send(&self.out);
        }
        self.link.recv(&mut self.back);
        let elapsed = clock.elapsed();
        self.out.stamp(self.out.sum_of_stamped(first, messages));
        assert!(self.back == self.out, "the stream's sum differs");
        elapsed
    }
}

/// The child's life: serve one order after the other until the parent ends the work.
fn serve<L: Link>(entry: Entry, address: &str, mut control: Control) {
    let mut link = L::open(address, entry.bytes);
    let mut payload = L::Payload::sized(entry.bytes);
    while let Some(messages) = control.next_order() {
        match entry.work {
            Work::RoundTrip => echo(&mut link, &mut payload, messages),
            Work::Stream => swallow(&mut link, &mut payload, messages),
        }
    }
}

fn echo<L: Link>(link: &mut L, payload: &mut L::Payload, messages: u64) {
    for _ in 0..messages {
        link.recv(payload);
        link.send(payload);
    }
}

fn swallow<L: Link>(link: &mut L, payload: &mut L::Payload, messages: u64) {
    let mut sum = 0_u64;
    for _ in 0..messages {
        link.recv(payload);
        sum = sum.wrapping_add(payload.sum());
    }
    payload.stamp(sum);
    link.send(payload);
}

/// Turns this process into a child if it was started as one; must come first in `main`.
pub fn serve_if_child() {
    if let Some((entry, address, control)) = process::enter_child() {
        (entry.sides().serve)(entry, &address, control);
        std::process::exit(0);
    }
}
