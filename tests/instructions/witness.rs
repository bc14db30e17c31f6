//! What a successor finds, as text, and that it can go on from there.

use super::victim::{NAME, channel, store};
use ringlane::{Channel, End, RecvError, Store, TryRecvError};
use std::collections::BTreeMap;

/// A value of that length: all of its bytes tell the first one.
pub fn bytes(len: usize, first: u8) -> Vec<u8> {
    (0..len)
        .map(|i| first.wrapping_add((13 * i) as u8))
        .collect()
}

/// A value made by [`bytes`], which must be whole.
pub fn shown(value: &[u8]) -> String {
    let Some(first) = value.first() else {
        return "0".to_string();
    };
    assert!(value == bytes(value.len(), *first), "torn: {value:x?}");
    format!("{}:{first}", value.len())
}

/// What a witness looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// What lies in a channel: to the guest, and to the host.
    Channel,
    /// What a guest finds in a channel to which its host will not come back.
    Closed,
    /// What a store holds: for who reads at once, and for who wrote something.
    Store,
    /// The same of a store that may not be there yet.
    NewStore,
}

impl Subject {
    pub const ALL: [Subject; 4] = [
        Subject::Channel,
        Subject::Closed,
        Subject::Store,
        Subject::NewStore,
    ];

    /// Takes up what there is in a domain in which everybody is dead.
    pub fn witness(self, domain: &str) -> Vec<String> {
        match self {
            Subject::Channel => vec![channel_with(domain, None)],
            Subject::Closed => {
                let mut guest = channel(domain).open(NAME).unwrap();
                let found = drain(&mut guest);
                drop(guest);
                assert_eq!(channel_with(domain, None), "|");
                vec![found]
            }
            Subject::Store => {
                let reader = store(domain).read_only().open(NAME).unwrap();
                let read = content(&reader);
                vec![read, written(&store(domain).open(NAME).unwrap())]
            }
            Subject::NewStore => vec![written(&store(domain).open_or_create(NAME).unwrap())],
        }
    }
}

/// What lies in the channel; `living` is one of its ends, if its holder was not killed.
pub fn channel_with(domain: &str, living: Option<Channel<[u8]>>) -> String {
    let create = || channel(domain).create(NAME).unwrap();
    let open = || channel(domain).open(NAME).unwrap();
    let [mut host, mut guest] = match living {
        None => [create(), open()],
        Some(host) if host.end() == End::Host => [host, open()],
        Some(guest) => [create(), guest],
    };
    let found = format!("{}|{}", drain(&mut guest), drain(&mut host));
    // Both go on.
    let lens = [0, 8, 300, 900];
    let all = lens.map(|len| shown(&bytes(len, 200))).join(",");
    for _ in 0..2 {
        for len in lens {
            host.send(&bytes(len, 200)[..]).unwrap();
            guest.send(&bytes(len, 200)[..]).unwrap();
        }
        assert_eq!([drain(&mut host), drain(&mut guest)], [&all[..], &all[..]]);
    }
    found
}

/// All messages there are, with a mark at those that are said to come again, and one behind the
/// last that there will be.
fn drain(end: &mut Channel<[u8]>) -> String {
    let mut all = Vec::new();
    let mut news = 0;
    loop {
        match end.try_recv_ref() {
            Ok(message) => {
                let value = shown(&message.get().unwrap());
                let again = if message.redelivered() { "!" } else { "" };
                all.push(value + again);
            }
            Err(TryRecvError::Empty) => return all.join(","),
            Err(TryRecvError::Recv(RecvError::Closed)) => return all.join(",") + ".",
            Err(TryRecvError::Recv(
                RecvError::PeerDied { .. } | RecvError::PeerRestarted { .. },
            )) => {
                news += 1;
                assert!(news < 10, "the news do not end");
            }
            Err(e) => panic!("{e:?}"),
        }
    }
}

/// What a witness writes to a store, and what it does not tell of.
pub const PROBE: &str = "probe";

/// Writes to a store, gives what else it holds then, and writes more.
fn written(store: &Store) -> String {
    store.set::<[u8]>(PROBE, &bytes(40, 3)).unwrap();
    store.verify().unwrap();
    let found = content(store);
    let probe = store.get::<[u8]>(PROBE).unwrap();
    assert_eq!(probe, Some(bytes(40, 3)));
    // What the dead had taken and written is used again.
    let more = (0..24).map(|i| (format!("more-{i}"), [20, 70, 300, 1500][i % 4]));
    for (key, len) in more.clone() {
        store.set::<[u8]>(&key, &bytes(len, 4)).unwrap();
    }
    store.verify().unwrap();
    for (key, len) in more {
        let value = store.get::<[u8]>(&key).unwrap();
        assert_eq!(value, Some(bytes(len, 4)), "{key}");
        assert!(store.delete(&key).unwrap(), "{key}");
    }
    assert!(store.delete(PROBE).unwrap());
    store.verify().unwrap();
    assert_eq!(content(store), found);
    let keys = found.split(' ').filter(|key| !key.is_empty()).count();
    assert_eq!(store.len(), keys);
    found
}

/// All that a store holds, read without the lock.
fn content(store: &Store) -> String {
    let mut content = BTreeMap::new();
    for key in store.keys() {
        let mut value = Vec::new();
        assert!(store.get_into(&key, &mut value).unwrap(), "{key:?}");
        let key = String::from_utf8(key).unwrap();
        assert!(content.insert(key, value).is_none(), "a key twice");
    }
    content.remove(PROBE);
    text_of(&content)
}

/// What a store of that content shows.
pub fn text_of(content: &BTreeMap<String, Vec<u8>>) -> String {
    let entries = content
        .iter()
        .map(|(key, value)| format!("{key}={}", shown(value)));
    entries.collect::<Vec<_>>().join(" ")
}
