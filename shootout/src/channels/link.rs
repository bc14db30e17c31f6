//! One side of a connection, and what is done with it.

use std::thread;
use std::time::{Duration, Instant};

use super::load::Load;
use super::peer::{Control, Job, Order, Peer};
use super::system::{Entry, Timed};
use super::work::Work;
use crate::machine::Machine;

/// Messages in a burst.
pub const BURST: u64 = 100;

/// Messages that each contestant must carry rightly before it is timed.
const CHECKED: u64 = 300;

/// How a side waits for its next message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waiting {
    /// Messages follow one another: whatever answers fastest, and that is spinning where it can.
    Awake,
    /// Asleep before each message, whenever it comes.
    Asleep,
    /// Messages come now and then: as one would wait who does not want to burn a processor.
    Seldom,
}

/// One side of a connection; the two are alike. All calls block.
pub trait Link: Sized + 'static {
    /// Writes the message of this stamp, and sends it.
    fn send(&mut self, stamp: u64);
    /// Receives the next message, reads it, and gives its stamp.
    fn recv(&mut self) -> u64;

    /// Sends so many messages whose stamps follow one another.
    fn send_many(&mut self, first: u64, count: u64) {
        for i in 0..count {
            self.send(first.wrapping_add(i));
        }
    }

    /// Receives and checks them.
    fn recv_many(&mut self, load: Load, first: u64, count: u64) {
        for i in 0..count {
            let stamp = self.recv();
            load.check(stamp, first.wrapping_add(i));
        }
    }
}

/// A connection between two processes.
pub trait Between: Link {
    /// Makes the connection and takes this process's side.
    fn create(load: Load, waiting: Waiting) -> (Self, super::peer::Address);
    /// Takes the other process's side.
    fn open(address: &str, load: Load, waiting: Waiting) -> Self;
    /// The other side has been opened.
    fn met(&mut self) {}
}

/// A connection between two threads.
pub trait Within: Link + Send {
    fn pair(load: Load, waiting: Waiting) -> (Self, Self);
}

/// The side that is timed, and its peer. Each message carries the next number, so that a stale one
/// is noticed.
pub struct Seat<L> {
    // Before the link: the peer leaves first, and this side, which made the link, clears it away.
    peer: Peer,
    link: L,
    load: Load,
    next: u64,
}

impl<L: Between> Seat<L> {
    pub fn between(entry: Entry, machine: &Machine) -> Box<dyn Timed> {
        let (mut link, address) = L::create(entry.load, entry.waiting);
        let peer = Peer::process(entry, address, machine.second);
        link.met();
        Self::checked(link, peer, entry)
    }
}

impl<L: Within> Seat<L> {
    pub fn within(entry: Entry, machine: &Machine) -> Box<dyn Timed> {
        let (link, theirs) = L::pair(entry.load, entry.waiting);
        let load = entry.load;
        let peer = Peer::thread(entry, machine.second, move |control| {
            serve(theirs, load, control);
        });
        Self::checked(link, peer, entry)
    }
}

impl<L: Link> Seat<L> {
    fn checked(link: L, peer: Peer, entry: Entry) -> Box<dyn Timed> {
        let mut seat = Self {
            peer,
            link,
            load: entry.load,
            next: 1,
        };
        seat.round_trips(CHECKED);
        if entry.system.does(Work::Stream, entry.load) {
            seat.stream(CHECKED);
        }
        Box::new(seat)
    }

    /// Sets the peer to work; it is awake when this returns. Gives the stamp of the first message.
    fn order(&mut self, job: Job, count: u64) -> u64 {
        let first = self.next;
        self.peer.order(Order { job, count, first });
        first
    }

    #[inline(always)]
    fn round_trip(&mut self) {
        self.link.send(self.next);
        let stamp = self.link.recv();
        self.load.check(stamp, self.next);
        self.next += 1;
    }
}

impl<L: Link> Timed for Seat<L> {
    fn round_trips(&mut self, count: u64) -> Duration {
        self.order(Job::Echo, count);
        let clock = Instant::now();
        for _ in 0..count {
            self.round_trip();
        }
        clock.elapsed()
    }

    fn stream(&mut self, count: u64) -> Duration {
        let first = self.order(Job::Swallow, count);
        let clock = Instant::now();
        self.link.send_many(first, count);
        let stamp = self.link.recv();
        let elapsed = clock.elapsed();
        self.next += count;
        self.load.check(stamp, self.next);
        elapsed
    }

    fn bursts(&mut self, count: u64) -> Duration {
        self.order(Job::Bursts, count);
        let clock = Instant::now();
        for _ in 0..count {
            self.link.send_many(self.next, BURST);
            self.next += BURST;
            let stamp = self.link.recv();
            self.load.check(stamp, self.next);
        }
        clock.elapsed()
    }

    fn paced(&mut self, count: u64, period: Duration) -> Vec<Duration> {
        self.order(Job::Echo, count);
        let start = Instant::now();
        let due = (1..=count as u32).map(|i| start + i * period);
        due.map(|due| {
            thread::sleep(due.saturating_duration_since(Instant::now()));
            let clock = Instant::now();
            self.round_trip();
            clock.elapsed()
        })
        .collect()
    }
}

/// The peer's life: one order after the other, until there is no more.
pub fn serve<L: Link>(mut link: L, load: Load, mut control: Control) {
    control.say_open();
    while let Some(order) = control.next_order() {
        match order.job {
            Job::Echo => {
                for _ in 0..order.count {
                    let stamp = link.recv();
                    link.send(stamp);
                }
            }
            Job::Swallow => {
                link.recv_many(load, order.first, order.count);
                link.send(order.first.wrapping_add(order.count));
            }
            Job::Bursts => {
                let mut next = order.first;
                for _ in 0..order.count {
                    link.recv_many(load, next, BURST);
                    next = next.wrapping_add(BURST);
                    link.send(next);
                }
            }
        }
    }
}
