//! Chains as long as they may get.

use super::Yard;
use super::scenes::{act, content_of, keys_in};
use crate::error::Error;
use crate::layout::FIRST_BITS;
use crate::store::Store;
use crate::store::table::{MOST_LINKS, SLOTS};

const BUCKETS: u64 = 1 << FIRST_BITS;
const MOST: usize = SLOTS * (MOST_LINKS + 1);

/// Keys of bucket 0: `stay` that stay there when it is split, and `go` that do not.
fn keys(store: &Store, stay: usize, go: usize) -> Vec<String> {
    let mut stay = keys_in(store, 0, 2 * BUCKETS, stay).into_iter();
    let mut go = keys_in(store, BUCKETS, 2 * BUCKETS, go).into_iter();
    let mut all = Vec::new();
    loop {
        let both = [stay.next(), go.next()];
        if both == [None, None] {
            return all;
        }
        all.extend(both.into_iter().flatten());
    }
}

#[test]
fn a_chain_ends_somewhere_and_a_split_relieves_it() {
    let yard = Yard::new("store-chains");
    for (stay, go) in [(MOST, 0), (0, MOST), (MOST / 2, MOST / 2 + 1), (MOST, MOST)] {
        let store = yard.options().create("s").unwrap();
        let mut keys = keys(&store, stay, go);
        keys.extend(keys_in(&store, 0, 4 * BUCKETS, 2 * MOST).split_off(MOST));
        let refused = |key: &String| match store.set::<[u8]>(key, key.as_bytes()) {
            Ok(_) => None,
            Err(e) => Some((key.clone(), e)),
        };
        let (key, error) = keys.iter().find_map(refused).unwrap();
        match error {
            Error::TooManyCollisions { path } => {
                assert_eq!(path, yard.file("s").display().to_string());
            }
            e => panic!("{e:?}"),
        }
        // One slot may have the name of the type.
        let count = store.len();
        assert!(count == MOST || count == MOST - 1, "{count}");
        let content = content_of(&store);
        assert!(!content.contains_key(&key));
        assert!(content.iter().all(|(key, value)| key.as_bytes() == value));
        assert_eq!(store.stats().max_chain, MOST_LINKS as u64);
        store.verify().unwrap();
        // What is there may change, and its place may be taken.
        for key in content.keys() {
            store.set::<[u8]>(key, b"changed").unwrap();
        }
        let first = content.keys().next().unwrap();
        assert!(store.delete(first).unwrap());
        store.set::<[u8]>(&key, b"changed").unwrap();
        assert!(matches!(
            store.set::<[u8]>(first, b"changed"),
            Err(Error::TooManyCollisions { .. })
        ));
        store.verify().unwrap();

        let content = content_of(&store);
        act(&store, "split");
        assert_eq!(content_of(&store), content);
        store.verify().unwrap();
        store.clear().unwrap();
        assert!(store.is_empty());
        store.verify().unwrap();
        store.remove().unwrap();
    }
}
