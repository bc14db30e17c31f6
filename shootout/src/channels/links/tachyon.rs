//! Contestant: Tachyon, a ring in each direction. A message is put together in private memory and
//! copied into the ring, as its `send` does, and read where it lies: it has no receive that copies.
//!
//! Awake, both sides are told that nobody ever sleeps, its fastest mode. To sleep, it spins not at
//! all; seldom, as often as its example does.

use std::hint;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tachyon_ipc::{Bus, TachyonError};

use crate::channels::link::{Between, Link, Waiting};
use crate::channels::load::Load;
use crate::channels::peer::Address;
use crate::keeper;

pub struct Tachyon {
    ends: Ends,
    waiting: Waiting,
    buffer: Vec<u8>,
    load: Load,
}

/// The receiver tells of that many released messages at once, so that a ring which holds fewer would
/// stay full for ever.
const RELEASED_TOGETHER: usize = 32;

/// The largest messages for which that is bearable.
pub const MOST: usize = 64 << 10;

/// Bytes of a ring: as many as the others', or else twice as many as it cannot do without.
fn capacity(load: Load) -> usize {
    let least = 2 * RELEASED_TOGETHER * load.bytes;
    load.capacity().max(least.next_power_of_two())
}

/// To the peer, and from it. Whoever makes a bus waits there until the other one has come.
enum Ends {
    Awaited(Option<[JoinHandle<Bus>; 2]>),
    Here(Bus, Bus),
}

impl Tachyon {
    fn new(ends: Ends, load: Load, waiting: Waiting) -> Self {
        Self {
            ends,
            waiting,
            buffer: vec![0; load.bytes],
            load,
        }
    }

    fn here(to_peer: Bus, from_peer: Bus, waiting: Waiting) -> Ends {
        if waiting == Waiting::Awake {
            to_peer.set_polling_mode(1);
            from_peer.set_polling_mode(1);
        }
        Ends::Here(to_peer, from_peer)
    }

    fn ends(&self) -> (&Bus, &Bus) {
        match &self.ends {
            Ends::Here(to_peer, from_peer) => (to_peer, from_peer),
            Ends::Awaited(_) => unreachable!("the peer has come"),
        }
    }
}

impl Link for Tachyon {
    #[inline(always)]
    fn send(&mut self, stamp: u64) {
        self.load.write(&mut self.buffer, stamp);
        let (to_peer, _) = self.ends();
        loop {
            match to_peer.send(&self.buffer, 1) {
                Ok(()) => return,
                Err(TachyonError::BufferFull) => hint::spin_loop(),
                Err(other) => panic!("send: {other}"),
            }
        }
    }

    #[inline(always)]
    fn recv(&mut self) -> u64 {
        let spins = match self.waiting {
            Waiting::Awake => u32::MAX,
            Waiting::Asleep => 0,
            Waiting::Seldom => 10_000,
        };
        let (_, from_peer) = self.ends();
        let message = from_peer.acquire_rx(spins).expect("receive");
        let stamp = self.load.read(message.data());
        message.commit().expect("release");
        stamp
    }
}

impl Between for Tachyon {
    fn create(load: Load, waiting: Waiting) -> (Self, Address) {
        let path = keeper::directory().join(keeper::unique("tachyon"));
        let word = path.to_str().expect("a path of plain letters").to_owned();
        let listen = |direction: &str| {
            let path = format!("{word}-{direction}");
            thread::spawn(move || Bus::listen(&path, capacity(load)).expect("a bus"))
        };
        let ends = Ends::Awaited(Some([listen("there"), listen("back")]));
        let inherited = Vec::new();
        let address = Address { word, inherited };
        (Self::new(ends, load, waiting), address)
    }

    fn open(address: &str, load: Load, waiting: Waiting) -> Self {
        let connect = |direction: &str| {
            let path = format!("{address}-{direction}");
            let deadline = Instant::now() + Duration::from_secs(10);
            loop {
                match Bus::connect(&path) {
                    Ok(bus) => return bus,
                    Err(e) => assert!(Instant::now() < deadline, "{path}: {e}"),
                }
                thread::sleep(Duration::from_millis(1));
            }
        };
        let (from_peer, to_peer) = (connect("there"), connect("back"));
        Self::new(Self::here(to_peer, from_peer, waiting), load, waiting)
    }

    fn met(&mut self) {
        if let Ends::Awaited(threads) = &mut self.ends {
            let threads = threads.take().expect("once");
            let [to_peer, from_peer] = threads.map(|thread| thread.join().expect("a bus"));
            self.ends = Self::here(to_peer, from_peer, self.waiting);
        }
    }
}
