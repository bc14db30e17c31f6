//! A book beside the library, kept in shared memory by senders and receivers that are killed at any
//! moment: what was acknowledged, and what was received. Each message says which it is, and each
//! receiver checks it against the book. A test that wants it includes this file beside `common`.

use crate::common::{Domain, Random, Shared, Word};
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};

/// How a receiver takes its messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    Recv,
    RecvMany,
    RecvRef,
    Listener,
    ListenerAtLeastOnce,
}

impl How {
    pub const ALL: [How; 5] = [
        How::Recv,
        How::RecvMany,
        How::RecvRef,
        How::Listener,
        How::ListenerAtLeastOnce,
    ];

    /// The most messages that a receiver has in work, which are lost if it is killed.
    fn in_work(self) -> u64 {
        match self {
            How::Recv | How::Listener => 1,
            How::RecvMany => MANY as u64,
            How::RecvRef | How::ListenerAtLeastOnce => 0,
        }
    }

    fn is_at_least_once(self) -> bool {
        self.in_work() == 0
    }
}

/// The most that is taken by one `recv_many`.
pub const MANY: usize = 8;

/// The largest message.
pub const LARGEST: u64 = 3000;

// ---- Messages.

/// Which message it is: the incarnation of its sender, and how many that sent before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Id {
    pub sender: u64,
    pub number: u64,
}

const NUMBER_BITS: u32 = 24;
const NUMBER_MASK: u64 = (1 << NUMBER_BITS) - 1;

/// Bytes of a message that are too few to say which it is, if it is such a one. Rare enough that
/// two of a length are never lost together.
fn short_len(number: u64) -> Option<usize> {
    (number % 64)
        .checked_sub(32)
        .filter(|len| *len < 8)
        .map(|len| len as usize)
}

/// Makes a message: its number, and what else its number makes of it.
pub fn message(id: Id) -> Vec<u8> {
    let word = id.sender << NUMBER_BITS | id.number;
    let mut random = Random::of(word);
    let long = match random.below(8) {
        0 => 8 + random.below(LARGEST - 7),
        1..4 => 8 + random.below(300),
        _ => 8 + random.below(30),
    };
    let len = short_len(id.number).unwrap_or(long as usize);
    let mut bytes = Vec::with_capacity(len + 8);
    if len >= 8 {
        bytes.extend_from_slice(&word.to_le_bytes());
    }
    while bytes.len() < len {
        bytes.extend_from_slice(&random.next().to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

// ---- The book.

/// The message expected next if nothing is lost, and which receiver noted that. In one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Done {
    pub next: Id,
    pub by: u64,
}

const BY_BITS: u32 = 20;

impl Done {
    fn of(word: u64) -> Done {
        let id = word >> BY_BITS;
        Done {
            next: Id {
                sender: id >> NUMBER_BITS,
                number: id & NUMBER_MASK,
            },
            by: word & ((1 << BY_BITS) - 1),
        }
    }

    fn word(self) -> u64 {
        let Id { sender, number } = self.next;
        assert!(number <= NUMBER_MASK && sender < 1 << (64 - BY_BITS - NUMBER_BITS));
        assert!(self.by < 1 << BY_BITS);
        (sender << NUMBER_BITS | number) << BY_BITS | self.by
    }
}

const WRONG: usize = 0;
const DONE: usize = 1;
const RECEIVED: usize = 2;
const LOST: usize = 3;
const AGAIN: usize = 4;
const RECEIVERS: usize = 5;
/// For a test's own use.
const OWN: usize = 6;
/// How many of its messages each sender was told to be sent.
const ACKNOWLEDGED: usize = 24;

pub struct Ledger(pub Shared);

impl Ledger {
    /// A new book for so many senders, one after the other.
    pub fn new(domain: &Domain, senders: usize) -> Ledger {
        Ledger(Shared::new(domain, ACKNOWLEDGED + senders))
    }

    pub fn open(path: &str) -> Ledger {
        Ledger(Shared::open(path))
    }

    /// A word for a test's own use, of eighteen.
    pub fn own(&self, at: usize) -> &Word {
        assert!(OWN + at < ACKNOWLEDGED);
        self.0.word(OWN + at)
    }

    pub fn acknowledged(&self, sender: u64) -> u64 {
        self.0.word(ACKNOWLEDGED + sender as usize).load(Acquire)
    }

    /// Notes that the send of a message returned `Ok`.
    pub fn acknowledge(&self, id: Id) {
        let word = self.0.word(ACKNOWLEDGED + id.sender as usize);
        word.store(id.number + 1, Release);
    }

    pub fn done(&self) -> Done {
        Done::of(self.0.word(DONE).load(Acquire))
    }

    pub fn received(&self) -> u64 {
        self.0.word(RECEIVED).load(Acquire)
    }

    pub fn lost(&self) -> u64 {
        self.0.word(LOST).load(Acquire)
    }

    /// How many came again.
    pub fn again(&self) -> u64 {
        self.0.word(AGAIN).load(Acquire)
    }

    /// Whether anybody found something wrong, which it printed.
    pub fn is_wrong(&self) -> bool {
        self.0.word(WRONG).load(Acquire) != 0
    }

    /// In a victim: says what is wrong, and ends the process.
    pub fn fail(&self, what: &str) -> ! {
        self.0.word(WRONG).store(1, Release);
        eprintln!("{what}");
        std::process::exit(101);
    }

    /// Notes that a process has the receiver's end, and says how many had it before. One that is
    /// killed before that had nothing in work.
    pub fn begin_receiver(&self) -> u64 {
        // There is one at a time.
        self.0.word(RECEIVERS).fetch_add(1, AcqRel)
    }

    fn count(&self, at: usize, more: u64) {
        // There is one receiver at a time.
        let word = self.0.word(at);
        word.store(word.load(Relaxed) + more, Release);
    }

    /// Checks a message that the receiver `me` was handed, and notes it. `redelivered` is what its
    /// guard says, if it has one.
    pub fn receive(
        &self,
        me: u64,
        how: How,
        bytes: &[u8],
        redelivered: Option<bool>,
    ) -> Result<(), String> {
        let done = self.done();
        // Whoever noted it may have been killed before it gave the message back.
        let may_come_again = how.is_at_least_once() && done.by != me && done.next.number > 0;
        let id = which(bytes, done.next, may_come_again);
        let told = format!("receiver {me}, {how:?}: {id:?} where {done:?}");
        if bytes != message(id) {
            return Err(format!(
                "{told}: {} bytes are not it: {bytes:?}",
                bytes.len()
            ));
        }
        // Its sender noted all that it sent before.
        if id.number > self.acknowledged(id.sender) {
            return Err(format!("{told}: it was not sent yet"));
        }
        if may_come_again && id.sender == done.next.sender && id.number + 1 == done.next.number {
            if redelivered == Some(false) {
                return Err(format!("{told}: again, and does not say so"));
            }
            self.count(AGAIN, 1);
        } else {
            let Some(lost) = self.between(done.next, id) else {
                return Err(format!("{told}: it was received before"));
            };
            // Each receiver from the one that noted this to our predecessor may have been killed
            // with something in work.
            let allowed = (me - done.by) * how.in_work();
            if lost > allowed {
                return Err(format!("{told}: {lost} are lost, {allowed} were in work"));
            }
            self.count(LOST, lost);
            self.count(RECEIVED, 1);
        }
        let Id { sender, number } = id;
        let next = Id {
            sender,
            number: number + 1,
        };
        let word = Done { next, by: me }.word();
        self.0.word(DONE).store(word, Release);
        Ok(())
    }

    /// How many acknowledged messages there are from `from` up to `to`; `None` if `to` is earlier.
    fn between(&self, from: Id, to: Id) -> Option<u64> {
        if to.sender == from.sender {
            return to.number.checked_sub(from.number);
        }
        // Those in between were killed before there was another sender.
        let whole: u64 = (from.sender + 1..to.sender)
            .map(|sender| self.acknowledged(sender))
            .sum();
        let rest = self.acknowledged(from.sender).saturating_sub(from.number);
        (to.sender > from.sender).then_some(rest + whole + to.number)
    }

    /// When the receiver `me` found nothing more in the channel: nothing more is lost than what those
    /// before it had in work. Gives how many were sent.
    pub fn close(&self, how: How, senders: u64, me: u64) -> u64 {
        let done = self.done();
        let end = Id {
            sender: senders,
            number: 0,
        };
        let lost = self.between(done.next, end).unwrap();
        let allowed = (me - done.by) * how.in_work();
        assert!(
            lost <= allowed,
            "{lost} are lost after {done:?}, {allowed} were in work"
        );
        self.count(LOST, lost);
        (0..senders).map(|sender| self.acknowledged(sender)).sum()
    }
}

/// Which message that is, if `next` is expected.
fn which(bytes: &[u8], next: Id, may_come_again: bool) -> Id {
    if let Some(word) = bytes.first_chunk() {
        let word = u64::from_le_bytes(*word);
        return Id {
            sender: word >> NUMBER_BITS,
            number: word & NUMBER_MASK,
        };
    }
    let first = next.number - u64::from(may_come_again);
    let mut candidates = first..first + 128;
    let number = candidates.find(|number| short_len(*number) == Some(bytes.len()));
    Id {
        sender: next.sender,
        number: number.expect("two of a length are 64 apart"),
    }
}
