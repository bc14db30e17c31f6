//! Whatever is sent is received, all of it, in order and unchanged: for every codec, of every
//! size, at every place in the ring, and both ways at once.

mod common;

use common::{Domain, Process, Random, Slow, config, hear, play, say, scale, wait_of};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use ringlane::zerocopy::{Immutable, IntoBytes, KnownLayout, TryFromBytes};
use ringlane::{
    Channel, Error, Message, Owned, Plain, Receiver, SendError, Sender, TryRecvError, TrySendError,
};
use std::collections::VecDeque;
use std::fmt::Debug;
use std::time::Duration;

#[test]
#[ignore = "what the processes of these tests run"]
fn process() {
    play(|role, arguments| match role {
        "both ways" => {
            let [domain, wait, seed, count] = arguments else {
                panic!("{arguments:?}")
            };
            let channel = Channel::<[u8]>::options()
                .domain(domain)
                .wait(wait_of(wait))
                .open("both")
                .unwrap();
            let seed: u64 = seed.parse().unwrap();
            both_ways(channel, (seed, seed + 1), count.parse().unwrap(), || {
                say("full");
                assert_eq!(hear().as_deref(), Some("go"));
            });
        }
        other => panic!("{other:?}"),
    });
}

/// The least that a ring can have: wraps come often, and the limits are near.
const CAPACITY: usize = 4096;
/// Half the ring, less a header.
const LIMIT: usize = CAPACITY / 2 - 8;

fn pair<T: Message + ?Sized>(domain: &Domain, name: &str) -> (Channel<T>, Channel<T>) {
    let host = domain.of().capacity(CAPACITY).create(name).unwrap();
    let guest = domain.of().open(name).unwrap();
    (host, guest)
}

/// A size near one of the edges, or any.
fn size() -> impl Strategy<Value = usize> + Clone {
    let edges = vec![
        0, 1, 7, 8, 9, 15, 16, 17, 55, 56, 57, 1015, 1016, 1017, 1023, 1024, 1025, 1031,
    ];
    prop_oneof![
        4 => proptest::sample::select(edges),
        2 => 0..64usize,
        1 => 0..=LIMIT,
        1 => LIMIT - 9..=LIMIT,
    ]
}

fn bytes() -> impl Strategy<Value = Vec<u8>> + Clone {
    (size(), any::<u64>()).prop_map(|(size, seed)| noise(seed, size))
}

/// `size` bytes that tell `seed` apart.
fn noise(seed: u64, size: usize) -> Vec<u8> {
    let mut random = Random::of(seed);
    let mut bytes = Vec::with_capacity(size + 8);
    while bytes.len() < size {
        bytes.extend(random.next().to_le_bytes());
    }
    bytes.truncate(size);
    bytes
}

// ---- Against a queue.

/// One thing done to one direction of a channel.
#[derive(Clone, Debug)]
enum Step<V> {
    Send(V),
    TrySend(V),
    SendTimeout(V),
    SendAll(Vec<V>),
    Recv,
    TryRecv,
    RecvTimeout,
    RecvMany(usize),
    Iter(usize),
    TryIter,
    RecvRef { keep: bool },
    TryRecvRef { keep: bool },
}

fn step<V: Clone + Debug + 'static>(
    value: impl Strategy<Value = V> + Clone + 'static,
) -> impl Strategy<Value = Step<V>> {
    let batch = proptest::collection::vec(value.clone(), 0..6);
    prop_oneof![
        4 => value.clone().prop_map(Step::Send),
        4 => value.clone().prop_map(Step::TrySend),
        1 => value.prop_map(Step::SendTimeout),
        2 => batch.prop_map(Step::SendAll),
        3 => Just(Step::Recv),
        3 => Just(Step::TryRecv),
        1 => Just(Step::RecvTimeout),
        1 => (0..8usize).prop_map(Step::RecvMany),
        1 => (0..4usize).prop_map(Step::Iter),
        1 => Just(Step::TryIter),
        1 => any::<bool>().prop_map(|keep| Step::RecvRef { keep }),
        1 => any::<bool>().prop_map(|keep| Step::TryRecvRef { keep }),
    ]
}

/// What a direction must hold. `tail` and the starts and ends of its messages are positions in the
/// ring, by the layout's rule that a record does not wrap.
struct Twin<V> {
    queue: VecDeque<Sent<V>>,
    tail: usize,
    /// Where the last received message ended.
    head: usize,
    /// Bytes of a value on the channel.
    len: fn(&V) -> usize,
}

struct Sent<V> {
    start: usize,
    end: usize,
    value: V,
}

impl<V: Clone> Twin<V> {
    fn new(len: fn(&V) -> usize) -> Self {
        Twin {
            queue: VecDeque::new(),
            tail: 0,
            head: 0,
            len,
        }
    }

    fn place(&self, value: &V) -> (usize, usize) {
        let len = (self.len)(value);
        let end = after(self.tail, len);
        (end - (8 + len.next_multiple_of(8)), end)
    }

    /// Whether there surely is room. In between the two it depends on whether the receiver has
    /// looked at the padding before its next message yet.
    fn surely_fits(&self, value: &V) -> bool {
        self.place(value).1 + 8 <= self.head + CAPACITY
    }

    fn may_fit(&self, value: &V) -> bool {
        let head = self.queue.front().map_or(self.tail, |sent| sent.start);
        self.place(value).1 + 8 <= head + CAPACITY
    }

    fn push(&mut self, value: V) {
        let (start, end) = self.place(&value);
        self.tail = end;
        self.queue.push_back(Sent { start, end, value });
    }

    fn pop(&mut self) -> Option<V> {
        let sent = self.queue.pop_front()?;
        self.head = sent.end;
        Some(sent.value)
    }
}

impl<V: Clone + PartialEq + Debug> Twin<V> {
    fn tried(&mut self, value: V, outcome: Result<(), TrySendError<V>>) {
        match outcome {
            Ok(()) => {
                assert!(self.may_fit(&value), "sent, though there is no room");
                self.push(value);
            }
            Err(TrySendError::Full(back)) => {
                assert!(!self.surely_fits(&value), "full, though there is room");
                assert_eq!(back, value);
            }
            Err(e) => panic!("{e:?}"),
        }
    }
}

fn do_step<T: Message + ?Sized>(
    step: Step<Owned<T>>,
    from: &mut Channel<T>,
    to: &mut Channel<T>,
    twin: &mut Twin<Owned<T>>,
) where
    Owned<T>: Clone + PartialEq + Debug,
{
    let short = Duration::from_micros(50);
    match step {
        Step::TrySend(value) => twin.tried(value.clone(), from.try_send(value)),
        Step::SendTimeout(value) => twin.tried(value.clone(), from.send_timeout(value, short)),
        Step::Send(value) if twin.surely_fits(&value) => {
            assert_eq!(from.send(value.clone()), Ok(()));
            twin.push(value);
        }
        Step::Send(value) => twin.tried(value.clone(), from.try_send(value)),
        Step::SendAll(values) => {
            let before = twin.queue.len();
            let fitting: Vec<_> = values
                .into_iter()
                .map_while(|value| {
                    twin.surely_fits(&value).then(|| {
                        twin.push(value.clone());
                        value
                    })
                })
                .collect();
            assert_eq!(from.send_all(fitting), Ok(twin.queue.len() - before));
        }
        // With nothing there, what waits would wait for ever.
        Step::Recv | Step::RecvMany(_) | Step::RecvRef { .. } | Step::TryRecv
            if twin.queue.is_empty() =>
        {
            assert_eq!(to.try_recv(), Err(TryRecvError::Empty));
        }
        Step::RecvTimeout | Step::TryRecvRef { .. } if twin.queue.is_empty() => {
            assert_eq!(to.recv_timeout(short), Err(TryRecvError::Empty));
            assert!(matches!(to.try_recv_ref(), Err(TryRecvError::Empty)));
        }
        Step::Recv => assert_eq!(to.recv().ok(), twin.pop()),
        Step::TryRecv => assert_eq!(to.try_recv().ok(), twin.pop()),
        Step::RecvTimeout => assert_eq!(to.recv_timeout(short).ok(), twin.pop()),
        Step::RecvMany(max) => {
            let mut out = Vec::new();
            let count = twin.queue.len().min(max);
            assert_eq!(to.recv_many(&mut out, max), Ok(count));
            let expected: Vec<_> = (0..count).filter_map(|_| twin.pop()).collect();
            assert_eq!(out, expected);
        }
        Step::Iter(count) => {
            for value in to.iter().take(count.min(twin.queue.len())) {
                assert_eq!(Some(value), twin.pop());
            }
        }
        Step::TryIter => {
            for value in to.try_iter() {
                assert_eq!(Some(value), twin.pop());
            }
            assert!(twin.queue.is_empty());
        }
        Step::RecvRef { keep } | Step::TryRecvRef { keep } => {
            let message = match step {
                Step::RecvRef { .. } => to.recv_ref().unwrap(),
                _ => to.try_recv_ref().unwrap(),
            };
            let front = twin.queue.front().unwrap();
            assert_eq!(message.position(), front.start as u64);
            assert_eq!(message.len(), (twin.len)(&front.value));
            assert_eq!(message.is_empty(), (twin.len)(&front.value) == 0);
            assert_eq!(message.get().unwrap(), front.value);
            assert!(!message.redelivered());
            if keep {
                message.keep();
            } else {
                drop(message);
                twin.pop();
            }
        }
    }
}

fn follow<T: Message + ?Sized>(
    name: &str,
    value: impl Strategy<Value = Owned<T>> + Clone + 'static,
    len: fn(&Owned<T>) -> usize,
) where
    Owned<T>: Clone + PartialEq + Debug + 'static,
{
    let domain = Domain::new(name);
    let mut runner = TestRunner::new(config(scale(200, 1_000)));
    // Steps of both directions; before them, so much traffic that they begin anywhere in the ring.
    let steps = proptest::collection::vec((any::<bool>(), step(value.clone())), 1..250);
    let before = proptest::collection::vec(value, 1..4);
    let all = (before, 0..300usize, steps);
    let outcome = runner.run(&all, |(before, rounds, steps)| {
        let (mut host, mut guest) = pair::<T>(&domain, "c");
        let (mut to_guest, mut to_host) = (Twin::new(len), Twin::new(len));
        for value in before.iter().cycle().take(rounds) {
            for step in [Step::Send(value.clone()), Step::Recv] {
                do_step(step.clone(), &mut host, &mut guest, &mut to_guest);
                do_step(step, &mut guest, &mut host, &mut to_host);
            }
        }
        for (way, step) in steps {
            if way {
                do_step(step, &mut host, &mut guest, &mut to_guest);
            } else {
                do_step(step, &mut guest, &mut host, &mut to_host);
            }
        }
        do_step(Step::TryIter, &mut host, &mut guest, &mut to_guest);
        do_step(Step::TryIter, &mut guest, &mut host, &mut to_host);
        for end in [&host, &guest] {
            let stats = end.stats();
            assert_eq!((stats.sent, stats.used), (stats.received, 0));
        }
        Ok(())
    });
    outcome.unwrap_or_else(|e| panic!("{e}"));
}

#[derive(Clone, Debug, PartialEq, TryFromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
struct Quote {
    at: u64,
    prices: [f32; 8],
    symbol: [u8; 12],
    flags: u32,
}

impl Message for Quote {
    const NAME: &str = "test.Quote";
    type Codec = Plain;
}

#[test]
fn u64_follows_a_queue() {
    follow::<u64>("u64", any::<u64>(), |_| 8);
}

#[test]
fn a_plain_struct_follows_a_queue() {
    assert_eq!(size_of::<Quote>(), 56);
    let quotes = any::<u64>().prop_map(|at| Quote {
        at,
        prices: core::array::from_fn(|i| at as f32 + i as f32),
        symbol: core::array::from_fn(|i| at as u8 ^ i as u8),
        flags: !at as u32,
    });
    follow::<Quote>("plain", quotes, |_| 56);
}

#[test]
fn nothing_follows_a_queue() {
    // A message without bytes is a message.
    follow::<()>("unit", Just(()), |_| 0);
}

#[test]
fn byte_slices_follow_a_queue() {
    follow::<[u8]>("bytes", bytes(), Vec::len);
}

#[test]
fn strings_follow_a_queue() {
    let text = |bytes: Vec<u8>| {
        // Characters of two bytes, and of one where the size is odd.
        let mut text: String = bytes.chunks_exact(2).map(|_| 'ö').collect();
        text.extend((bytes.len() % 2 == 1).then_some('o'));
        text
    };
    follow::<str>("str", bytes().prop_map(text), String::len);
}

#[cfg(feature = "serde")]
mod serde_types {
    use super::*;
    use ringlane::Postcard;
    use serde::{Deserialize, Serialize};

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    pub(super) enum Line {
        Quit,
        Text(String),
        Points {
            of: Vec<(i16, f64)>,
            by: Option<u32>,
        },
    }

    impl Message for Line {
        const NAME: &str = "test.Line";
        type Codec = Postcard;
    }

    fn lines() -> impl Strategy<Value = Line> + Clone {
        let points = proptest::collection::vec((any::<i16>(), -1e9..1e9f64), 0..80);
        prop_oneof![
            Just(Line::Quit),
            "[a-zäöü]{0,60}".prop_map(Line::Text),
            (points, any::<Option<u32>>()).prop_map(|(of, by)| Line::Points { of, by }),
        ]
    }

    #[test]
    fn serde_enums_follow_a_queue() {
        follow::<Line>("serde", lines(), |line| {
            postcard::to_allocvec(line).unwrap().len()
        });
    }

    /// What another version of the program takes for a `Line`.
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    enum ShortLine {
        Quit,
    }

    impl Message for ShortLine {
        const NAME: &str = "test.Line";
        type Codec = Postcard;
    }

    #[test]
    fn what_does_not_decode_is_told_once_and_keeps_nothing_up() {
        let domain = Domain::new("decode");
        let mut host = domain.of::<Line>().create("c").unwrap();
        let mut guest = domain.of::<ShortLine>().open("c").unwrap();
        let text = Line::Text("no Quit".to_string());
        let lines = [&Line::Quit, &text, &Line::Quit, &text, &Line::Quit];
        host.send_all(lines).unwrap();
        assert_eq!(guest.recv(), Ok(ShortLine::Quit));
        assert!(matches!(guest.recv(), Err(ringlane::RecvError::Decode(_))));
        let mut out = Vec::new();
        // It ends a batch, and the next call tells.
        assert_eq!(guest.recv_many(&mut out, 9), Ok(1));
        let told = guest.recv_many(&mut out, 9);
        assert!(matches!(told, Err(ringlane::RecvError::Decode(_))));
        assert_eq!(guest.recv_many(&mut out, 9), Ok(1));
        assert_eq!(out, [ShortLine::Quit, ShortLine::Quit]);
        // Iterators pass over it.
        host.send_all(lines).unwrap();
        assert_eq!(guest.try_iter().count(), 3);
        // In place it can be looked at, and left; else it is gone then.
        host.send_all([&text, &Line::Quit]).unwrap();
        for keep in [true, false] {
            let message = guest.recv_ref().unwrap();
            assert!(matches!(message.get(), Err(Error::Decode(_))));
            if keep {
                message.keep();
            }
        }
        assert_eq!(guest.recv(), Ok(ShortLine::Quit));
    }

    /// A value that serde gives up on.
    #[derive(Debug, PartialEq, Deserialize)]
    struct Stubborn(u32);

    impl Serialize for Stubborn {
        fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            if self.0 == 0 {
                return Err(serde::ser::Error::custom("not this one"));
            }
            self.0.serialize(serializer)
        }
    }

    impl Message for Stubborn {
        const NAME: &str = "test.Stubborn";
        type Codec = Postcard;
    }

    #[test]
    fn what_does_not_encode_comes_back_and_leaves_no_trace() {
        let domain = Domain::new("encode");
        let (mut host, mut guest) = pair::<Stubborn>(&domain, "c");
        host.send(Stubborn(1)).unwrap();
        let before = std::fs::read(domain.file("c")).unwrap();
        let failed = host.send(Stubborn(0));
        assert!(matches!(
            &failed,
            Err(SendError::Encode { why, .. }) if why.contains("not this one") || !why.is_empty()
        ));
        assert_eq!(failed.unwrap_err().into_inner(), Stubborn(0));
        let failed = host.try_send(Stubborn(0));
        assert_eq!(failed.unwrap_err().into_inner(), Stubborn(0));
        let failed = host.send_timeout(Stubborn(0), Duration::from_secs(60));
        assert_eq!(failed.unwrap_err().into_inner(), Stubborn(0));
        assert!(std::fs::read(domain.file("c")).unwrap() == before);
        // A batch gets as far as it can.
        let failed = host.send_all([Stubborn(2), Stubborn(0), Stubborn(3)]);
        assert_eq!(failed.unwrap_err().into_inner(), Stubborn(0));
        assert_eq!(
            guest.try_iter().collect::<Vec<_>>(),
            [Stubborn(1), Stubborn(2)]
        );
    }

    #[test]
    fn too_large_is_told_of_serde_types_too() {
        let domain = Domain::new("serde-large");
        let (mut host, mut guest) = pair::<Line>(&domain, "c");
        // A variant, and a length of two bytes.
        let line = |len| Line::Text("x".repeat(len));
        match host.send(line(LIMIT - 2)) {
            Err(SendError::TooLarge { len, max, value }) => {
                assert_eq!((len, max), (LIMIT + 1, LIMIT));
                assert_eq!(value, line(LIMIT - 2));
            }
            other => panic!("{other:?}"),
        }
        host.send(line(LIMIT - 3)).unwrap();
        assert_eq!(guest.recv(), Ok(line(LIMIT - 3)));
        assert_eq!(guest.try_recv(), Err(TryRecvError::Empty));
    }
}

#[cfg(feature = "bytemuck")]
mod bytemuck_types {
    use super::*;
    use ringlane::Pod;

    #[derive(Clone, Copy, Debug, PartialEq, bytemuck::NoUninit, bytemuck::CheckedBitPattern)]
    #[repr(C)]
    struct Sample {
        at: u64,
        value: f64,
        valid: bool,
        rest: [u8; 7],
    }

    impl Message for Sample {
        const NAME: &str = "test.Sample";
        type Codec = Pod;
    }

    /// The same for an end that uses the other codec.
    #[derive(Clone, Copy, Debug, PartialEq, TryFromBytes, IntoBytes, KnownLayout, Immutable)]
    #[repr(C)]
    struct PlainSample {
        at: u64,
        value: f64,
        valid: u8,
        rest: [u8; 7],
    }

    impl Message for PlainSample {
        const NAME: &str = "test.Sample";
        type Codec = Plain;
    }

    #[test]
    fn bytemuck_structs_follow_a_queue() {
        let samples = (any::<u64>(), -1e9..1e9f64, any::<bool>());
        let samples = samples.prop_map(|(at, value, valid)| Sample {
            at,
            value,
            valid,
            rest: [at as u8; 7],
        });
        follow::<Sample>("pod", samples, |_| 24);
    }

    #[test]
    fn pod_and_plain_are_the_same_on_the_channel() {
        let domain = Domain::new("pod-plain");
        let mut host = domain.of::<PlainSample>().create("c").unwrap();
        let mut guest = domain.of::<Sample>().open("c").unwrap();
        let sent = |valid| PlainSample {
            at: 7,
            value: 1.5,
            valid,
            rest: [3; 7],
        };
        host.send_all([sent(1), sent(2), sent(0)]).unwrap();
        let got = guest.recv().unwrap();
        assert_eq!(
            (got.at, got.value, got.valid, got.rest),
            (7, 1.5, true, [3; 7])
        );
        // 2 is no `bool`.
        assert!(matches!(guest.recv(), Err(ringlane::RecvError::Decode(_))));
        assert!(!guest.recv().unwrap().valid);
    }
}

/// A byte that calls itself a `bool`, as only another program could.
#[derive(TryFromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(transparent)]
struct Byte(u8);

impl Message for Byte {
    const NAME: &str = "bool";
    type Codec = Plain;
}

#[test]
fn bytes_that_are_no_value_of_the_type_are_no_value() {
    let domain = Domain::new("no-value");
    let mut host = domain.of::<Byte>().create("c").unwrap();
    let mut guest = domain.of::<bool>().open("c").unwrap();
    host.send_all([Byte(1), Byte(2), Byte(255), Byte(0)])
        .unwrap();
    assert_eq!(guest.recv(), Ok(true));
    assert!(matches!(guest.recv(), Err(ringlane::RecvError::Decode(_))));
    assert!(matches!(guest.recv(), Err(ringlane::RecvError::Decode(_))));
    assert_eq!(guest.recv(), Ok(false));
}

#[test]
fn every_primitive_crosses() {
    let domain = Domain::new("primitives");
    fn crosses<T>(domain: &Domain, values: &[T])
    where
        T: Message + PartialEq + Debug + Clone,
        Owned<T>: PartialEq<T> + Debug,
    {
        let (mut host, mut guest) = pair::<T>(domain, "c");
        for value in values {
            host.send(value).unwrap();
            assert_eq!(guest.recv().unwrap(), *value);
            guest.send(value.clone()).unwrap();
            assert_eq!(host.recv().unwrap(), *value);
        }
    }
    crosses(&domain, &[0, 1, u8::MAX]);
    crosses(&domain, &[0, 1, u16::MAX]);
    crosses(&domain, &[0, 1, u32::MAX]);
    crosses(&domain, &[0, 1, u64::MAX]);
    crosses(&domain, &[0, 1, u128::MAX]);
    crosses(&domain, &[0, i8::MIN, i8::MAX]);
    crosses(&domain, &[0, i16::MIN, i16::MAX]);
    crosses(&domain, &[0, i32::MIN, i32::MAX]);
    crosses(&domain, &[0, i64::MIN, i64::MAX]);
    crosses(&domain, &[0, i128::MIN, i128::MAX]);
    crosses(&domain, &[0.0, f32::MIN_POSITIVE, f32::NEG_INFINITY]);
    crosses(&domain, &[0.0, f64::MIN_POSITIVE, f64::NEG_INFINITY]);
    crosses(&domain, &[true, false]);
    crosses(&domain, &['a', '\0', char::MAX]);
    crosses(&domain, &[()]);
}

// ---- Every size at every place.

/// Brings both ends of an empty direction to `offset` in the ring.
fn go_to(offset: usize, at: &mut usize, host: &mut Channel<[u8]>, guest: &mut Channel<[u8]>) {
    while *at % CAPACITY != offset {
        let distance = (offset + CAPACITY - *at % CAPACITY) % CAPACITY;
        let to_end = CAPACITY - *at % CAPACITY;
        let step = distance.min(to_end).min(CAPACITY / 2);
        host.send(&noise(0, step - 8)[..]).unwrap();
        assert_eq!(guest.recv().unwrap().len(), step - 8);
        *at += step;
    }
}

/// Where a message of `len` bytes that is sent at `at` ends.
fn after(at: usize, len: usize) -> usize {
    let record = 8 + len.next_multiple_of(8);
    let to_end = CAPACITY - at % CAPACITY;
    at + record + if record > to_end { to_end } else { 0 }
}

#[test]
fn every_size_at_every_place() {
    let domain = Domain::new("places");
    let (mut host, mut guest) = pair::<[u8]>(&domain, "c");
    let mut sizes = vec![0, 1, 7, 8, 9, 16, 63, 64, 65, 1023, 1024, 1025, 2000];
    sizes.extend([LIMIT - 8, LIMIT - 7, LIMIT - 1, LIMIT]);
    let mut at = 0;
    for offset in (0..CAPACITY).step_by(8) {
        for &size in &sizes {
            go_to(offset, &mut at, &mut host, &mut guest);
            // Two, so that the second, if there is room for it, lies next to one that is not read.
            let first = noise(offset as u64, size);
            let second = noise(size as u64, size.min(900));
            host.send(&first[..]).unwrap();
            let sent = host.try_send(second.clone()).is_ok();
            assert_eq!(guest.recv().unwrap(), first);
            at = after(at, size);
            if sent {
                assert_eq!(guest.recv().unwrap(), second);
                at = after(at, second.len());
            }
            assert_eq!(guest.try_recv(), Err(TryRecvError::Empty));
        }
    }
}

#[test]
fn a_ring_filled_to_the_brim_gives_all_back() {
    let domain = Domain::new("brim");
    let (mut host, mut guest) = pair::<[u8]>(&domain, "c");
    for size in [0, 1, 8, 9, 56, 100, 1000, 1015, 1016, 1017, LIMIT] {
        for round in 0..scale(40, 200) as u64 {
            let mut sent = 0;
            while host.try_send(&noise(round + sent, size)[..]).is_ok() {
                sent += 1;
            }
            let record = 8 + size.next_multiple_of(8);
            // At most one record's room is lost to padding, and one header is kept free.
            assert!(sent as usize >= ((CAPACITY - 8 - (record - 8)) / record).max(1));
            assert!(sent as usize <= (CAPACITY - 8) / record);
            let full = host.try_send(noise(round, size));
            assert!(matches!(full, Err(TrySendError::Full(_))));
            for i in 0..sent {
                assert_eq!(guest.recv().unwrap(), noise(round + i, size));
            }
            assert_eq!(guest.try_recv(), Err(TryRecvError::Empty));
        }
    }
    let stats = host.stats();
    assert_eq!((stats.sent, stats.used), (stats.received, 0));
    assert!(stats.full > 0 && stats.peak <= stats.capacity);
}

#[test]
fn a_batch_larger_than_the_ring_waits_for_room() {
    let domain = Domain::new("batch");
    let (mut host, mut guest) = pair::<u64>(&domain, "c");
    let count = scale(100_000, 1_000_000) as u64;
    std::thread::scope(|scope| {
        let sending = scope.spawn(|| host.send_all(0..count));
        let mut out = Vec::new();
        let mut expected = 0;
        while expected < count {
            let got = guest.recv_many(&mut out, 1000).unwrap();
            assert_eq!(got, out.len());
            assert!((1..=1000).contains(&got));
            for value in out.drain(..) {
                assert_eq!(value, expected);
                expected += 1;
            }
        }
        assert_eq!(sending.join().unwrap(), Ok(count as usize));
    });
    assert_eq!(guest.try_recv(), Err(TryRecvError::Empty));
}

// ---- Too large.

#[test]
fn too_large_comes_back_with_nothing_written() {
    let domain = Domain::new("large");
    let (mut host, mut guest) = pair::<[u8]>(&domain, "c");
    host.send(*b"before").unwrap();
    let before = std::fs::read(domain.file("c")).unwrap();
    let stats = host.stats();
    for len in [LIMIT + 1, LIMIT + 8, CAPACITY, 1 << 20] {
        let large = vec![7; len];
        let refused = |outcome: SendError<Vec<u8>>| match outcome {
            SendError::TooLarge {
                len: told,
                max,
                value,
            } => {
                assert_eq!((told, max), (len, LIMIT));
                assert!(value == large);
            }
            other => panic!("{other:?}"),
        };
        refused(host.send(large.clone()).unwrap_err());
        refused(host.send_all([large.clone()]).unwrap_err());
        let TrySendError::Send(e) = host.try_send(large.clone()).unwrap_err() else {
            panic!("full")
        };
        refused(e);
        let minute = Duration::from_secs(60);
        let TrySendError::Send(e) = host.send_timeout(large.clone(), minute).unwrap_err() else {
            panic!("full")
        };
        refused(e);
        match host.loan(len) {
            Err(TrySendError::Send(SendError::TooLarge { len: told, max, .. })) => {
                assert_eq!((told, max), (len, LIMIT));
            }
            other => panic!("{other:?}"),
        }
        // `?` keeps what matters.
        let error = Error::from(host.send(large.clone()).unwrap_err());
        assert!(matches!(
            error,
            Error::TooLarge { len: told, max } if (told, max) == (len as u64, LIMIT as u64)
        ));
    }
    assert!(std::fs::read(domain.file("c")).unwrap() == before);
    assert_eq!(host.stats(), stats);
    // A batch gets as far as it can.
    let batch = [vec![1; 3], vec![2; LIMIT + 1], vec![3; 3]];
    assert_eq!(
        host.send_all(batch).unwrap_err().into_inner().len(),
        LIMIT + 1
    );
    assert_eq!(guest.recv().unwrap(), b"before");
    assert_eq!(guest.recv().unwrap(), [1; 3]);
    assert_eq!(guest.try_recv(), Err(TryRecvError::Empty));
    host.send(vec![9; LIMIT]).unwrap();
    assert_eq!(guest.recv().unwrap(), [9; LIMIT]);
}

// ---- Loans.

#[test]
fn a_loan_is_the_bytes_that_were_put() {
    let domain = Domain::new("loan");
    let (mut host, mut guest) = pair::<[u8]>(&domain, "c");
    let mut runner = TestRunner::new(config(scale(2_000, 10_000)));
    let puts = proptest::collection::vec((0.0..1.0f64, size(), any::<u64>()), 0..6);
    let all = (size(), 0.0..1.0f64, puts, size());
    // All cases share the channel, so that they begin anywhere in the ring.
    let channel = std::cell::RefCell::new((&mut host, &mut guest));
    let outcome = runner.run(&all, |(len, cut, puts, behind)| {
        let (host, guest) = &mut *channel.borrow_mut();
        let mut twin = noise(len as u64, len);
        let mut loan = host.loan(len).unwrap();
        assert_eq!((loan.len(), loan.is_empty()), (len, len == 0));
        loan.put(0, &twin).unwrap();
        for (at, size, seed) in puts {
            let at = (at * (len + 1) as f64) as usize;
            let bytes = noise(seed, size);
            match loan.put(at, &bytes) {
                Ok(()) => twin[at..at + size].copy_from_slice(&bytes),
                Err(Error::TooLarge { len: told, max }) => {
                    assert!(at + size > len, "there was room");
                    assert_eq!((told, max), ((at + size) as u64, len as u64));
                }
                Err(e) => panic!("{e:?}"),
            }
        }
        // The message may be shorter than the loan; what comes next lies where it ends.
        twin.truncate((cut * (len + 1) as f64) as usize);
        loan.commit(twin.len()).unwrap();
        let sent = host.try_send(noise(1, behind));
        assert_eq!(guest.recv().unwrap(), twin);
        if let Err(TrySendError::Full(message)) = sent {
            host.send(message).unwrap();
        }
        assert_eq!(guest.recv().unwrap(), noise(1, behind));
        assert_eq!(guest.try_recv(), Err(TryRecvError::Empty));
        Ok(())
    });
    outcome.unwrap_or_else(|e| panic!("{e}"));
}

#[test]
fn a_loan_that_is_not_committed_leaves_no_trace() {
    let domain = Domain::new("loan-dropped");
    let (mut host, mut guest) = pair::<[u8]>(&domain, "c");
    for round in 0..1_000u64 {
        let len = round as usize % LIMIT;
        host.loan(len).unwrap().put(0, &noise(round, len)).unwrap();
        assert_eq!(guest.try_recv(), Err(TryRecvError::Empty));
        let loan = host.loan(64).unwrap();
        match loan.commit(65) {
            Err(Error::TooLarge { len: 65, max: 64 }) => {}
            other => panic!("{other:?}"),
        }
        assert_eq!(guest.try_recv(), Err(TryRecvError::Empty));
        host.send(&noise(round, 9)[..]).unwrap();
        assert_eq!(guest.recv().unwrap(), noise(round, 9));
    }
    assert_eq!(host.stats().sent, 1_000);
    // No room is no wait.
    while host.try_send([0; 100]).is_ok() {}
    assert!(matches!(host.loan(100), Err(TrySendError::Full(()))));
    assert_eq!(guest.try_iter().count() as u64 + 1_000, host.stats().sent);
}

#[test]
fn in_place_means_the_same_bytes() {
    let domain = Domain::new("in-place");
    let (mut host, mut guest) = pair::<[u8]>(&domain, "c");
    for round in 0..2_000u64 {
        let size = (round * 37) as usize % (LIMIT + 1);
        let message = noise(round, size);
        let mut loan = host.loan(size).unwrap();
        // SAFETY: the loan is good for `size` bytes, and nobody else is at them.
        unsafe { loan.as_mut_ptr().copy_from(message.as_ptr(), size) };
        loan.commit(size).unwrap();
        let got = guest.recv_ref().unwrap();
        // SAFETY: nobody writes to a message that is not released.
        assert_eq!(unsafe { got.as_bytes() }, message);
        assert_eq!(got.get().unwrap(), message);
        for at in [0, 1, 5, 8, 63, size / 2, size] {
            let mut part = vec![0; (size - at.min(size)).min(70)];
            got.copy_to(at.min(size), &mut part).unwrap();
            assert_eq!(part, message[at.min(size)..][..part.len()]);
        }
        let mut more = vec![0; size + 1];
        assert!(matches!(
            got.copy_to(0, &mut more),
            Err(Error::TooLarge { len, max }) if (len, max) == (size as u64 + 1, size as u64)
        ));
        assert!(matches!(
            got.copy_to(usize::MAX, &mut [0]),
            Err(Error::TooLarge { .. })
        ));
    }
}

// ---- Two processes, both ways at once.

/// The messages of a direction, by its seed. Most are small.
fn messages(seed: u64, count: u64) -> impl Iterator<Item = Vec<u8>> {
    let mut random = Random::of(seed);
    (0..count).map(move |_| {
        let size = match random.below(20) {
            0 => random.below(LIMIT as u64 + 1),
            1 => LIMIT as u64,
            2..5 => random.below(300),
            _ => random.below(20),
        };
        noise(random.next(), size as usize)
    })
}

/// Sends the messages of one seed while it receives those of the other. `met` is called once the
/// ring is full, before anything is received.
fn both_ways(channel: Channel<[u8]>, (out, back): (u64, u64), count: u64, met: impl FnOnce()) {
    let (mut sender, mut receiver): (Sender<[u8]>, Receiver<[u8]>) = channel.split();
    let (full, is_full) = std::sync::mpsc::channel::<()>();
    let slow = std::thread::scope(|scope| {
        let sending = scope.spawn(|| {
            let (mut full, mut slow) = (Some(full), Slow::default());
            for message in messages(out, count) {
                match slow.time(|| sender.try_send(message)) {
                    Ok(()) => {}
                    Err(TrySendError::Full(message)) => {
                        drop(full.take());
                        slow.time(|| sender.send(message)).unwrap();
                    }
                    Err(e) => panic!("{e:?}"),
                }
            }
            assert!(full.is_none(), "the ring was never full");
            slow
        });
        let _ = is_full.recv();
        met();
        for (i, message) in messages(back, count).enumerate() {
            assert!(receiver.recv() == Ok(message), "message {i} is not it");
        }
        sending.join().unwrap()
    });
    let (sent, received) = (sender.stats(), receiver.stats());
    assert_eq!((sent.sent, received.received), (count, count));
    // Nobody was killed, so nobody slept through a message. What the other one sent, it looks at
    // itself; a wait for room that the clock ended is a slow call, so room has a test of its own.
    assert!(sent.rescues <= slow.0, "{} > {}", sent.rescues, slow.0);
}

fn two_processes(wait: &str, count: usize) {
    let domain = Domain::new(&format!("both-{wait}"));
    let options = domain.of().capacity(CAPACITY).wait(wait_of(wait));
    let host = options.create("both").unwrap();
    let seed = Random::printed().next() >> 1;
    let arguments = [seed.to_string(), count.to_string()];
    let arguments = [domain.name(), wait, &arguments[0], &arguments[1]];
    let mut other = Process::start("both ways", &arguments);
    both_ways(host, (seed + 1, seed), count as u64, || {
        // Both rings are full before anybody receives.
        assert_eq!(other.line(), "full");
        other.tell("go");
    });
    other.finish();
}

#[test]
fn two_processes_both_ways_adaptive() {
    two_processes("adaptive", scale(100_000, 500_000));
}

#[test]
fn two_processes_both_ways_sleeping() {
    two_processes("sleep", scale(30_000, 200_000));
}

#[test]
fn two_processes_both_ways_spinning() {
    two_processes("spin", scale(30_000, 200_000));
}
