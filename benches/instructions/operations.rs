//! What is counted: one function for each operation, never inlined, whose name begins with
//! [`PREFIX`]. It is counted with its call and its return.
//!
//! Both ends of the channels are in one process and one thread, so nobody ever waits. Lengths of byte
//! strings are hidden from the compiler, as they are from that of most programs.

use std::hint::black_box;

use ringlane::zerocopy::{Immutable, IntoBytes, KnownLayout, TryFromBytes};
use ringlane::{Channel, Message, Plain, Receiver, Sender, Store};

/// By which callgrind knows them.
pub const PREFIX: &str = "counted_";

/// Operations that are made by turns, as many times as is said.
pub struct Group {
    pub names: &'static [&'static str],
    pub run: fn(&mut Setting, u64),
    /// Messages that one call handles.
    pub messages: u64,
    /// The part of a count that may change without notice.
    pub tolerance: f64,
}

impl Group {
    const fn new(names: &'static [&'static str], run: fn(&mut Setting, u64)) -> Self {
        Self {
            names,
            run,
            messages: 1,
            tolerance: 0.01,
        }
    }

    /// Each store hashes by two seeds of its own, so that its chains differ a little.
    const fn of_store(name: &'static [&'static str], run: fn(&mut Setting, u64)) -> Self {
        Self {
            tolerance: 0.05,
            ..Self::new(name, run)
        }
    }
}

/// So many are sent before as many are received.
const BATCH: u64 = 64;

/// In the order of the report.
pub const GROUPS: &[Group] = &[
    Group::new(&["send_8", "recv_8"], |s, times| {
        s.numbers.send_and_receive(times)
    }),
    Group::new(&["send_56", "recv_56"], |s, times| {
        s.quotes.send_and_receive(times)
    }),
    Group::new(&["send_bytes_1k", "recv_bytes_1k"], |s, times| {
        s.bytes.send_and_receive(times)
    }),
    Group {
        messages: BATCH,
        ..Group::new(&["send_all_8", "recv_many_8"], |s, times| {
            s.numbers.batches(times)
        })
    },
    Group::new(&["loan_commit_1k", "recv_ref_1k"], |s, times| {
        s.bytes.in_place(times)
    }),
    // Sizes that change from one message to the next, beside one that does not.
    Group::new(&["send_bytes_16", "recv_ref_16"], |s, times| {
        s.bytes.of_16(times)
    }),
    Group::new(&["send_bytes_16_or_40", "recv_ref_16_or_40"], |s, times| {
        s.bytes.of_16_or_40(times)
    }),
    Group::new(&["try_recv_empty"], |s, times| {
        s.numbers.look_in_vain(times)
    }),
    Group::of_store(&["store_get_hit"], Setting::get_hits),
    Group::of_store(&["store_get_miss"], Setting::get_misses),
    Group::of_store(&["store_set_overwrite"], Setting::overwrite),
];

#[derive(Clone, Copy, PartialEq, Eq, TryFromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Quote([u64; 7]);

impl Message for Quote {
    const NAME: &str = "bench.Quote";
    type Codec = Plain;
}

const KIB: usize = 1024;
/// Of the store; all in its first table.
const KEYS: u64 = 1000;

pub struct Setting {
    numbers: Ends<u64>,
    quotes: Ends<Quote>,
    bytes: Ends<[u8]>,
    store: Store,
    keys: Vec<[u8; 16]>,
}

/// A channel with both its ends: what one sends, the other receives.
struct Ends<T: Message + ?Sized> {
    sender: Sender<T>,
    receiver: Receiver<T>,
    _other_halves: (Receiver<T>, Sender<T>),
}

impl<T: Message + ?Sized> Ends<T> {
    fn new(domain: &str, name: &str) -> Self {
        let options = || Channel::<T>::options().domain(domain);
        let (sender, others_receiver) = options().create(name).expect("a channel").split();
        let (others_sender, receiver) = options().open(name).expect("its other end").split();
        Self {
            sender,
            receiver,
            _other_halves: (others_receiver, others_sender),
        }
    }
}

impl Setting {
    pub fn new() -> Self {
        let domain = format!("bench-instructions-{}", std::process::id());
        // Small: valgrind has no address space for the usual one.
        let options = Store::options().domain(&domain).max_size(16 << 20);
        let store = options.create("s").expect("a store");
        let setting = Self {
            numbers: Ends::new(&domain, "numbers"),
            quotes: Ends::new(&domain, "quotes"),
            bytes: Ends::new(&domain, "bytes"),
            store,
            keys: (0..KEYS).map(key).collect(),
        };
        for (value, key) in (0u64..).zip(&setting.keys) {
            setting.store.set(key, &value).expect("room");
        }
        setting
    }

    fn get_hits(&mut self, times: u64) {
        for n in 0..times {
            let value = counted_store_get_hit(&self.store, &self.keys[(n % KEYS) as usize]);
            assert_eq!(value, Some(n % KEYS));
        }
    }

    fn get_misses(&mut self, times: u64) {
        for n in 0..times {
            let missed = counted_store_get_miss(&self.store, &key(KEYS + n));
            assert!(missed);
        }
    }

    fn overwrite(&mut self, times: u64) {
        for n in 0..times {
            let key = &self.keys[(n % KEYS) as usize];
            assert!(counted_store_set_overwrite(&self.store, key, n));
        }
    }
}

fn key(n: u64) -> [u8; 16] {
    u128::from(n).to_ne_bytes()
}

impl Drop for Setting {
    fn drop(&mut self) {
        self.store.remove().expect("to remove the store");
    }
}

impl Ends<u64> {
    fn send_and_receive(&mut self, times: u64) {
        for first in (0..times).step_by(BATCH as usize) {
            for n in first..first + BATCH {
                assert!(counted_send_8(&mut self.sender, n));
            }
            for n in first..first + BATCH {
                assert_eq!(counted_recv_8(&mut self.receiver), Some(n));
            }
        }
    }

    fn batches(&mut self, times: u64) {
        let numbers: Vec<u64> = (0..BATCH).collect();
        let mut received = Vec::with_capacity(numbers.len());
        for _ in 0..times {
            assert!(counted_send_all_8(&mut self.sender, &numbers));
            assert!(counted_recv_many_8(&mut self.receiver, &mut received));
            assert_eq!(received, numbers);
            received.clear();
        }
    }

    fn look_in_vain(&mut self, times: u64) {
        for _ in 0..times {
            assert!(counted_try_recv_empty(&mut self.receiver));
        }
    }
}

impl Ends<Quote> {
    fn send_and_receive(&mut self, times: u64) {
        let quote = |n| Quote([n; 7]);
        for first in (0..times).step_by(BATCH as usize) {
            for n in first..first + BATCH {
                assert!(counted_send_56(&mut self.sender, &quote(n)));
            }
            for n in first..first + BATCH {
                assert!(counted_recv_56(&mut self.receiver) == Some(quote(n)));
            }
        }
    }
}

impl Ends<[u8]> {
    fn send_and_receive(&mut self, times: u64) {
        for first in (0..times).step_by(BATCH as usize) {
            for n in first..first + BATCH {
                assert!(counted_send_bytes_1k(&mut self.sender, &[n as u8; KIB]));
            }
            for n in first..first + BATCH {
                let bytes = counted_recv_bytes_1k(&mut self.receiver);
                assert_eq!(bytes.as_deref(), Some(&[n as u8; KIB][..]));
            }
        }
    }

    fn in_place(&mut self, times: u64) {
        let mut bytes = [0; KIB];
        for n in 0..times {
            assert!(counted_loan_commit_1k(&mut self.sender, &[n as u8; KIB]));
            assert!(counted_recv_ref_1k(&mut self.receiver, &mut bytes));
            assert_eq!(bytes, [n as u8; KIB]);
        }
    }
}

impl Ends<[u8]> {
    fn of_16(&mut self, times: u64) {
        let (bytes, mut into) = ([7; 16], [0; 16]);
        for _ in 0..times {
            assert!(counted_send_bytes_16(&mut self.sender, &bytes));
            assert!(counted_recv_ref_16(&mut self.receiver, &mut into));
            assert_eq!(into, bytes);
        }
    }

    fn of_16_or_40(&mut self, times: u64) {
        let (bytes, mut into) = ([7; 40], [0; 40]);
        for n in 0..times {
            let len = if n % 2 == 0 { 16 } else { 40 };
            assert!(counted_send_bytes_16_or_40(&mut self.sender, &bytes[..len]));
            let received = counted_recv_ref_16_or_40(&mut self.receiver, &mut into);
            assert_eq!(received, Some(len));
            assert_eq!(into[..len], bytes[..len]);
        }
    }
}

#[inline(never)]
fn counted_send_8(to: &mut Sender<u64>, number: u64) -> bool {
    to.send(number).is_ok()
}

#[inline(never)]
fn counted_recv_8(from: &mut Receiver<u64>) -> Option<u64> {
    from.recv().ok()
}

#[inline(never)]
fn counted_send_56(to: &mut Sender<Quote>, quote: &Quote) -> bool {
    to.send(quote).is_ok()
}

#[inline(never)]
fn counted_recv_56(from: &mut Receiver<Quote>) -> Option<Quote> {
    from.recv().ok()
}

#[inline(never)]
fn counted_send_bytes_1k(to: &mut Sender<[u8]>, bytes: &[u8]) -> bool {
    to.send(&bytes[..black_box(KIB)]).is_ok()
}

/// With the allocation of what it gives.
#[inline(never)]
fn counted_recv_bytes_1k(from: &mut Receiver<[u8]>) -> Option<Vec<u8>> {
    from.recv().ok()
}

#[inline(never)]
fn counted_send_all_8(to: &mut Sender<u64>, numbers: &[u64]) -> bool {
    to.send_all(numbers).is_ok()
}

#[inline(never)]
fn counted_recv_many_8(from: &mut Receiver<u64>, numbers: &mut Vec<u64>) -> bool {
    from.recv_many(numbers, BATCH as usize).is_ok()
}

#[inline(never)]
fn counted_loan_commit_1k(to: &mut Sender<[u8]>, bytes: &[u8]) -> bool {
    let len = black_box(KIB);
    let Ok(mut loan) = to.loan(len) else {
        return false;
    };
    loan.put(0, &bytes[..len]).is_ok() && loan.commit(len).is_ok()
}

#[inline(never)]
fn counted_recv_ref_1k(from: &mut Receiver<[u8]>, bytes: &mut [u8]) -> bool {
    let Ok(message) = from.recv_ref() else {
        return false;
    };
    message.copy_to(0, &mut bytes[..black_box(KIB)]).is_ok()
}

#[inline(never)]
fn counted_send_bytes_16(to: &mut Sender<[u8]>, bytes: &[u8]) -> bool {
    to.send(&bytes[..black_box(16)]).is_ok()
}

#[inline(never)]
fn counted_recv_ref_16(from: &mut Receiver<[u8]>, bytes: &mut [u8]) -> bool {
    let Ok(message) = from.recv_ref() else {
        return false;
    };
    message.copy_to(0, &mut bytes[..black_box(16)]).is_ok()
}

#[inline(never)]
fn counted_send_bytes_16_or_40(to: &mut Sender<[u8]>, bytes: &[u8]) -> bool {
    to.send(bytes).is_ok()
}

#[inline(never)]
fn counted_recv_ref_16_or_40(from: &mut Receiver<[u8]>, into: &mut [u8]) -> Option<usize> {
    let message = from.recv_ref().ok()?;
    let len = message.len();
    message.copy_to(0, &mut into[..len]).ok()?;
    Some(len)
}

#[inline(never)]
fn counted_try_recv_empty(from: &mut Receiver<u64>) -> bool {
    from.try_recv().is_err()
}

#[inline(never)]
fn counted_store_get_hit(store: &Store, key: &[u8; 16]) -> Option<u64> {
    store.get::<u64>(key).ok().flatten()
}

#[inline(never)]
fn counted_store_get_miss(store: &Store, key: &[u8; 16]) -> bool {
    matches!(store.get::<u64>(key), Ok(None))
}

#[inline(never)]
fn counted_store_set_overwrite(store: &Store, key: &[u8; 16], value: u64) -> bool {
    store.set(key, &value).is_ok()
}
