//! Processes at both ends of a channel that are killed at any moment, and write down what they sent
//! and what they were handed.

use super::common::{scale, tally};
use super::fifo::{self, Flaw, History, Id, MANY, Received, Sent, Way};
use super::forkserver::ForkServer;
use super::*;
use ringlane::{
    Channel, ChannelOptions, End, Receiver, RecvError, SendError, Sender, TryRecvError,
};
use std::time::Instant;

// What is written down beside the channel: how many lives each end had, of those that got so far,
const SENDERS: usize = 0;
const RECEIVERS: usize = 1;
/// how many messages were received,
const RECEIVED: usize = 2;
/// of each life of the sender, how many it began to send, and how many were acknowledged,
const SENT: usize = 3;
const LIVES: usize = 1 << 16;
/// and of each message that was received: the sender's life and the number, the receiver's life
/// and what else there is to say, and how many had been begun.
const MESSAGES: usize = SENT + 2 * LIVES;
const WORDS: usize = 3;
const WHOLE: u64 = 1;
const IN_PLACE: u64 = 2;
const REDELIVERED: u64 = 4;

/// Room for about two hundred messages.
const CAPACITY: usize = 1 << 14;
/// The least size of a message.
const LEAST: u64 = 16;

/// A message, all bytes of which follow from which it is.
fn message(Id { life, number }: Id) -> Vec<u8> {
    let mut random = Random::of(life << 32 | number);
    let most = if random.below(16) == 0 { 3000 } else { 80 };
    let len = (LEAST + random.below(most)) as usize;
    let mut bytes = Vec::with_capacity(len + 8);
    bytes.extend_from_slice(&life.to_le_bytes());
    bytes.extend_from_slice(&number.to_le_bytes());
    while bytes.len() < len {
        bytes.extend_from_slice(&random.next().to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

/// Which message says it is.
fn id_of(bytes: &[u8]) -> Option<Id> {
    let (life, rest) = bytes.split_first_chunk()?;
    Some(Id {
        life: u64::from_le_bytes(*life),
        number: u64::from_le_bytes(*rest.first_chunk()?),
    })
}

fn options(domain: &str) -> ChannelOptions<[u8]> {
    Channel::options().domain(domain).capacity(CAPACITY)
}

struct Book {
    shared: Shared,
    /// How many messages there is room for.
    most: usize,
}

impl Book {
    fn word(&self, at: usize) -> u64 {
        self.shared.word(at).load(Acquire)
    }

    fn write(&self, at: usize, word: u64) {
        self.shared.word(at).store(word, Release);
    }

    fn begin_life(&self, which: usize) -> u64 {
        let life = self.shared.word(which).fetch_add(1, AcqRel);
        assert!(life < LIVES as u64, "too many lives");
        life
    }

    /// Notes a message that was handed to the receiver's life `by`.
    fn note(&self, by: u64, bytes: &[u8], redelivered: Option<bool>) {
        let Some(id) = id_of(bytes).filter(|id| id.life < LIVES as u64) else {
            panic!("of no sender: {bytes:?}");
        };
        let begun = self.word(SENT + 2 * id.life as usize);
        let n = self.word(RECEIVED);
        assert!((n as usize) < self.most);
        let mut what = u64::from(message(id) == bytes);
        if let Some(redelivered) = redelivered {
            what |= IN_PLACE;
            what |= if redelivered { REDELIVERED } else { 0 };
        }
        let words = [id.life << 32 | id.number, by << 8 | what, begun];
        for (i, word) in words.into_iter().enumerate() {
            self.write(MESSAGES + WORDS * n as usize + i, word);
        }
        self.write(RECEIVED, n + 1);
    }

    fn history(&self) -> History {
        let sent = (0..self.word(SENDERS) as usize).map(|life| Sent {
            begun: self.word(SENT + 2 * life),
            acknowledged: self.word(SENT + 2 * life + 1),
        });
        let received = (0..self.word(RECEIVED) as usize).map(|n| {
            let [which, by, begun] = [0, 1, 2].map(|i| self.word(MESSAGES + WORDS * n + i));
            Received {
                by: by >> 8,
                id: Id {
                    life: which >> 32,
                    number: which & 0xffff_ffff,
                },
                is_whole: by & WHOLE != 0,
                redelivered: (by & IN_PLACE != 0).then_some(by & REDELIVERED != 0),
                begun,
            }
        });
        History {
            sent: sent.collect(),
            received: received.collect(),
            receivers: self.word(RECEIVERS),
        }
    }
}

/// In a fork: holds an end until it is killed, which is soon.
pub fn act(line: &str) {
    let words: Vec<_> = line.split(' ').collect();
    let [role, domain, path, wanted, seed, end, fork] = words[..] else {
        panic!("{line:?}");
    };
    let wanted: usize = wanted.parse().unwrap();
    let book = Book {
        shared: Shared::open(path),
        most: wanted + MANY,
    };
    let which = if role == "sender" { SENDERS } else { RECEIVERS };
    let [seed, fork]: [u64; 2] = [seed, fork].map(|number| number.parse().unwrap());
    let mut random = Random::of(seed ^ (fork << 1 | which as u64));
    // Some are killed while they attach, most in the middle of their work.
    let most = if random.below(4) == 0 { 300 } else { 4_000 };
    be_killed_in(random.micros(most));
    let channel = match end {
        "Host" => options(domain).create("c"),
        _ => options(domain).open_timeout("c", common::LONG),
    };
    let (sender, receiver) = channel.unwrap().split();
    let me = book.begin_life(which);
    match which {
        SENDERS => send(&book, me, sender),
        _ => Victim { book, me, random }.receive(wanted as u64, receiver),
    }
}

fn send(book: &Book, me: u64, mut sender: Sender<[u8]>) -> ! {
    let place = SENT + 2 * me as usize;
    let mut number = 0;
    loop {
        let count = if number % 16 == 0 { 4 } else { 1 };
        let mut rest = number..number + count;
        book.write(place, rest.end);
        if number % 16 == 7 {
            rest.start += u64::from(sent_in_place(&mut sender, Id { life: me, number }));
        }
        while !rest.is_empty() {
            let values = rest.clone().map(|number| message(Id { life: me, number }));
            match sender.send_all(values) {
                Ok(_) => break,
                Err(SendError::PeerDied { value, .. }) => {
                    rest.start = id_of(&value).unwrap().number;
                    // Nobody there; the next one is on its way.
                    std::thread::sleep(Duration::from_micros(100));
                }
                Err(e) => panic!("{e:?}"),
            }
        }
        number += count;
        book.write(place + 1, number);
    }
}

fn sent_in_place(sender: &mut Sender<[u8]>, id: Id) -> bool {
    let bytes = message(id);
    let Ok(mut loan) = sender.loan(bytes.len()) else {
        return false;
    };
    loan.put(0, &bytes).unwrap();
    loan.commit(bytes.len()).unwrap();
    true
}

/// A receiver that is killed.
struct Victim {
    book: Book,
    me: u64,
    random: Random,
}

impl Victim {
    fn receive(mut self, wanted: u64, mut receiver: Receiver<[u8]>) -> ! {
        let mut many = Vec::new();
        while self.book.word(RECEIVED) < wanted {
            let outcome = match Way::of(self.me) {
                Way::Recv => receiver.recv().map(|message| self.note(&message, None)),
                Way::RecvMany => receiver.recv_many(&mut many, MANY).map(|_| {
                    many.drain(..).for_each(|message| self.note(&message, None));
                }),
                Way::RecvRef => receiver.recv_ref().map(|message| {
                    self.note(&message.get().unwrap(), Some(message.redelivered()));
                }),
            };
            match outcome {
                Ok(()) | Err(RecvError::PeerDied { .. } | RecvError::PeerRestarted { .. }) => {}
                Err(e) => panic!("{e:?}"),
            }
        }
        loop {
            std::thread::park();
        }
    }

    /// Notes a message, and has it in its hands for a while now and then.
    fn note(&mut self, bytes: &[u8], redelivered: Option<bool>) {
        let is_slow = self.random.below(32) == 0;
        let [before, after] = [0, 1].map(|_| self.random.micros(if is_slow { 50 } else { 1 }));
        spin(before);
        self.book.note(self.me, bytes, redelivered);
        spin(after);
    }
}

fn spin(time: Duration) {
    let start = Instant::now();
    while start.elapsed() < time {}
}

/// Has `wanted` messages sent and received. Gives the kills too.
fn record(ends: [End; 2], wanted: usize) -> (History, u64) {
    let domain = Domain::new("fifo");
    let seed = Random::printed().next();
    // What is left in the channel comes on top.
    let most = wanted + MANY + CAPACITY / LEAST as usize;
    let book = Book {
        shared: Shared::new(&domain, MESSAGES + WORDS * most),
        most,
    };
    let path = book.shared.path();
    let is_over = || book.word(RECEIVED) >= wanted as u64;
    let live = |role, end: End| {
        let line = format!("{role} {} {path} {wanted} {seed} {end:?}", domain.name());
        let mut server = ForkServer::start();
        let mut kills = 0;
        while !is_over() {
            let fork = server.fork(&format!("{line} {kills}"));
            server.wait_for_kill(fork);
            kills += 1;
        }
        server.finish();
        kills
    };
    let kills = std::thread::scope(|scope| {
        let senders = scope.spawn(|| live("sender", ends[0]));
        let receivers = live("receiver", ends[1]);
        receivers + senders.join().unwrap()
    });
    let host = options(domain.name()).create("c").unwrap();
    let guest = options(domain.name()).open("c").unwrap();
    let (mut last, other) = match ends[1] {
        End::Host => (host, guest),
        End::Guest => (guest, host),
    };
    // The last receiver, which is not killed.
    let me = book.begin_life(RECEIVERS);
    loop {
        let outcome = match Way::of(me) {
            Way::RecvRef => last.try_recv_ref().map(|message| {
                book.note(me, &message.get().unwrap(), Some(message.redelivered()));
            }),
            _ => last.try_recv().map(|message| book.note(me, &message, None)),
        };
        match outcome {
            Ok(()) => {}
            Err(TryRecvError::Empty) => break,
            Err(TryRecvError::Recv(
                RecvError::PeerDied { .. } | RecvError::PeerRestarted { .. },
            )) => {}
            Err(e) => panic!("{e:?}"),
        }
    }
    drop((last, other));
    (book.history(), kills)
}

#[test]
fn a_channel_whose_ends_are_killed_keeps_order_and_loses_nothing() {
    for round in 0..scale(2, 25) {
        let ends = match round % 2 {
            0 => [End::Host, End::Guest],
            _ => [End::Guest, End::Host],
        };
        let (history, kills) = record(ends, 30_000);
        let in_work = fifo::check(&history).unwrap_or_else(|(at, flaw)| {
            let around =
                &history.received[at.saturating_sub(3)..history.received.len().min(at + 3)];
            panic!("round {round}: {flaw:?} at {at}: {around:?}")
        });
        let received = history.received.len();
        eprintln!("{received} messages, {kills} kills, {in_work:?}");
        let rejected = reject_changed(&history);
        tally(
            "history",
            "messages of a channel, checked to be in order and complete",
            received as u64,
        );
        tally("history", "kills of its ends", kills);
        tally("history", "falsified histories, each rejected", rejected);
    }
}

/// Changes what was received so that it cannot have been, in several ways. Gives how many.
fn reject_changed(history: &History) -> u64 {
    let received = &history.received;
    // In the middle of what one receiver was handed of one sender.
    let is_inside = |i: &usize| {
        let [before, after] = [received[i - 1], received[i + 2]];
        before.by == after.by
            && before.id.life == after.id.life
            && before.id.number + 3 == after.id.number
    };
    let inside: Vec<_> = (1..received.len() - 2).filter(is_inside).collect();
    let mut rejected = 0;
    let mut reject = |flaw: Flaw, change: &dyn Fn(&mut Vec<Received>)| {
        let mut changed = history.clone();
        change(&mut changed.received);
        let found = fifo::check(&changed).map_err(|(_, flaw)| flaw);
        assert_eq!(found, Err(flaw));
        rejected += 1;
    };
    for i in inside.iter().copied().step_by(inside.len() / 4) {
        reject(Flaw::Lost, &|all| _ = all.remove(i));
        reject(Flaw::Again, &|all| all.insert(i, all[i]));
        reject(Flaw::OutOfOrder, &|all| all.swap(i, i + 1));
        reject(Flaw::Broken, &|all| all[i].is_whole = false);
        reject(Flaw::NotSentYet, &|all| all[i].begun = all[i].id.number);
        reject(Flaw::Marked, &|all| all[i].redelivered = Some(true));
    }
    let came_again = |i: &usize| received[*i].id == received[i - 1].id;
    let says_so = |i: &usize| received[*i].redelivered == Some(true);
    let again = (1..received.len()).filter(|i| came_again(i) && says_so(i));
    for i in again.take(4) {
        reject(Flaw::NotMarked, &|all| all[i].redelivered = Some(false));
    }
    rejected
}
