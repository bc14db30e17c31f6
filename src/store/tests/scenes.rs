//! Stores as they are before a change, and what the change is.

use super::{LOCK, Yard};
use crate::layout::FIRST_BITS;
use crate::store::Store;
use crate::store::table::home_of;
use std::collections::BTreeMap;
use std::fmt::Write;

/// What a store holds: bytes under names.
pub(super) type Content = BTreeMap<String, Vec<u8>>;

/// A store and a change of it.
pub(super) struct Scene {
    pub(super) name: &'static str,
    pub(super) image: Vec<u8>,
    /// What [`act`] is to do.
    pub(super) act: String,
    /// What it holds before, and after each of the commits that may be seen.
    pub(super) states: Vec<Content>,
    /// Keys for a chain in a bucket that is not in the scene.
    pub(super) more: Vec<String>,
}

/// Does what `text` says: an operation, and each key with length and bytes of its value.
pub(super) fn act(store: &Store, text: &str) {
    let mut words = text.split(' ');
    let operation = words.next().unwrap();
    let values: Vec<_> = words.map(value_of).collect();
    let first = || values[0].clone();
    match operation {
        "set" => {
            store.set::<[u8]>(first().0, &first().1).unwrap();
        }
        "insert_new" => {
            let stored = store.insert_new::<[u8]>(first().0, &first().1);
            assert!(stored.unwrap().is_some());
        }
        "swap" => {
            let old = store.swap::<[u8]>(first().0, &first().1);
            assert!(old.unwrap().is_some());
        }
        "compare_and_set" => {
            let (key, value) = first();
            let (_, version) = store.get_versioned::<[u8]>(&key).unwrap().unwrap();
            store
                .compare_and_set::<[u8]>(&key, version, &value)
                .unwrap();
        }
        "update" => {
            let (key, value) = first();
            let value = (!value.is_empty()).then_some(value);
            store.update::<[u8]>(key, |_| value).unwrap();
        }
        "add" => assert_eq!(store.fetch_add(first().0, 1).unwrap(), 0),
        "delete" => assert!(store.delete(first().0).unwrap()),
        "clear" => store.clear().unwrap(),
        "extend" => {
            let count = values.len();
            assert_eq!(store.extend::<[u8], _, _>(values).unwrap(), count);
        }
        "split" => {
            let _locked = store.attachment.lock().unwrap();
            store.attachment.table.split().unwrap();
        }
        other => panic!("{other}"),
    }
}

/// `KEY:LENGTH:BYTE`.
fn value_of(text: &str) -> (String, Vec<u8>) {
    let mut parts = text.split(':');
    let key = parts.next().unwrap().to_string();
    let mut number = || parts.next().map_or(0, |part| part.parse().unwrap());
    let (len, byte) = (number(), number());
    (key, vec![byte as u8; len])
}

/// All that a store holds, read without the lock.
pub(super) fn content_of(store: &Store) -> Content {
    let mut content = Content::new();
    for key in store.keys() {
        let key = String::from_utf8(key).unwrap();
        let mut value = Vec::new();
        assert!(store.get_into(&key, &mut value).unwrap(), "{key}");
        assert!(content.insert(key, value).is_none(), "a key twice");
    }
    content
}

/// Puts a scene together.
struct Stage<'a> {
    yard: &'a Yard,
    all: Vec<Scene>,
}

impl Stage<'_> {
    /// `fill` fills the store, and gives the act.
    fn scene(&mut self, name: &'static str, fill: impl FnOnce(&Store) -> String) {
        let mut text = String::new();
        let mut before = Content::new();
        let (mut order, mut more) = (Vec::new(), Vec::new());
        let image = self.yard.image(|store| {
            text = fill(store);
            before = content_of(store);
            more = keys_in(store, 9, 2 * BUCKETS, 16);
            order.extend(store.keys().map(|key| String::from_utf8(key).unwrap()));
        });
        let mut states = vec![before];
        let mut change = |key: &str, value: Option<Vec<u8>>| {
            let mut next = states.last().unwrap().clone();
            match value {
                Some(value) => drop(next.insert(key.to_string(), value)),
                None => drop(next.remove(key)),
            }
            states.push(next);
        };
        let mut words = text.split(' ');
        let operation = words.next().unwrap();
        if operation == "clear" {
            order.iter().for_each(|key| change(key, None));
        }
        for (key, value) in words.map(value_of) {
            match operation {
                "delete" => change(&key, None),
                "update" if value.is_empty() => change(&key, None),
                "add" => change(&key, Some(1i64.to_ne_bytes().to_vec())),
                _ => change(&key, Some(value)),
            }
        }
        self.all.push(Scene {
            name,
            image,
            act: text,
            states,
            more,
        });
    }
}

/// The bucket of a key, of so many.
pub(super) fn home(store: &Store, key: &str, buckets: u64) -> u64 {
    home_of(store.attachment.key(key.as_bytes()).unwrap().hash, buckets)
}

/// Keys whose home is this bucket, of so many.
pub(super) fn keys_in(store: &Store, bucket: u64, buckets: u64, count: usize) -> Vec<String> {
    let keys = (0..).map(|i| format!("k{i}"));
    let keys = keys.filter(|key| home(store, key, buckets) == bucket);
    keys.take(count).collect()
}

const BUCKETS: u64 = 1 << FIRST_BITS;

fn set(store: &Store, key: &str, len: usize) {
    store.set::<[u8]>(key, &vec![1; len]).unwrap();
}

/// A chain of bucket 0: `stay` keys that stay there when it is split, and `go` that do not.
pub(super) fn chain(store: &Store, stay: usize, go: usize) {
    let mut stay = keys_in(store, 0, 2 * BUCKETS, stay).into_iter();
    let mut go = keys_in(store, BUCKETS, 2 * BUCKETS, go).into_iter();
    // One of each in turn, so that both are in all of the chain.
    loop {
        let both = [stay.next(), go.next()];
        if both == [None, None] {
            return;
        }
        both.iter().flatten().for_each(|key| set(store, key, 20));
    }
}

/// As many keys as there may be before a split, `in_first` of them in bucket 0.
fn full(store: &Store, in_first: usize) {
    chain(store, in_first / 2, in_first / 2);
    let most = BUCKETS * 9 / 2;
    let mut room = vec![7; BUCKETS as usize];
    room[0] = 0;
    let mut i = 0;
    // The name of the type is an entry, too, and fills a slot somewhere.
    while store.len() as u64 + 1 < most {
        let key = format!("f{i}");
        i += 1;
        let room = &mut room[home(store, &key, BUCKETS) as usize];
        if *room > 0 {
            *room -= 1;
            set(store, &key, 20);
        }
    }
}

fn split(store: &Store) {
    act(store, "split");
}

/// All scenes.
pub(super) fn all(yard: &Yard) -> Vec<Scene> {
    let mut stage = Stage {
        yard,
        all: Vec::new(),
    };
    let abc = |store: &Store| {
        set(store, "a", 20);
        set(store, "b", 200);
        set(store, "c", 2000);
    };
    let mut simple = |name, text: &str| {
        stage.scene(name, |store| {
            abc(store);
            text.to_string()
        });
    };
    simple("insert", "set d:20:2");
    simple("insert with insert_new", "insert_new d:20:2");
    simple("insert that takes a run", "set d:400:2");
    simple("insert that grows the file", "set d:300000:2");
    simple("first value of a type", "add n");
    simple("overwrite, same class", "set b:201:2");
    simple("overwrite, another class", "set a:500:2");
    simple("overwrite that grows the file", "set a:300000:2");
    simple("compare and set", "compare_and_set c:1999:2");
    simple("swap", "swap a:20:2");
    simple("update", "update a:21:2");
    simple("update that inserts", "update d:21:2");
    simple("update that deletes", "update a");
    simple("delete", "delete b");
    simple(
        "extend",
        "extend a:21:2 d:20:2 e:90:2 b:20:2 f:20:2 g:200:2",
    );
    stage.scene("insert into a freed block", |store| {
        abc(store);
        set(store, "d", 20);
        assert!(store.delete("d").unwrap());
        "set e:20:2".to_string()
    });
    stage.scene("insert with an overflow bucket", |store| {
        abc(store);
        let keys = keys_in(store, 5, BUCKETS, 8);
        keys[..7].iter().for_each(|key| set(store, key, 20));
        format!("set {}:20:2", keys[7])
    });
    stage.scene("insert with one from the pool", |store| {
        // The split empties the chain of bucket 0.
        chain(store, 4, 4);
        split(store);
        let keys = keys_in(store, 5, BUCKETS, 8);
        keys[..7].iter().for_each(|key| set(store, key, 20));
        format!("set {}:20:2", keys[7])
    });
    stage.scene("insert at the end of a chain", |store| {
        let keys = keys_in(store, 5, BUCKETS, 22);
        keys[..21].iter().for_each(|key| set(store, key, 20));
        format!("set {}:20:2", keys[21])
    });
    stage.scene("overwrite in a chain", |store| {
        let keys = keys_in(store, 5, BUCKETS, 20);
        keys.iter().for_each(|key| set(store, key, 20));
        format!("set {}:70:2", keys[19])
    });
    stage.scene("delete in a chain", |store| {
        let keys = keys_in(store, 5, BUCKETS, 20);
        keys.iter().for_each(|key| set(store, key, 20));
        format!("delete {}", keys[8])
    });
    stage.scene("clear", |store| {
        let keys = keys_in(store, 5, BUCKETS, 20);
        keys.iter().for_each(|key| set(store, key, 20));
        "clear".to_string()
    });
    stage.scene("split, new piece", |store| {
        chain(store, 3, 3);
        "split".to_string()
    });
    stage.scene("split", |store| {
        split(store);
        let keys = keys_in(store, 1, BUCKETS, 7);
        keys.iter().for_each(|key| set(store, key, 20));
        "split".to_string()
    });
    stage.scene("split of a chain, new piece", |store| {
        chain(store, 10, 10);
        "split".to_string()
    });
    stage.scene("split of a chain, all go", |store| {
        chain(store, 0, 16);
        "split".to_string()
    });
    stage.scene("split of a chain, all stay", |store| {
        chain(store, 16, 0);
        "split".to_string()
    });
    stage.scene("split of a chain with holes", |store| {
        chain(store, 12, 12);
        let keys: Vec<_> = store.keys().collect();
        for key in keys.iter().step_by(3) {
            assert!(store.delete(key).unwrap());
        }
        "split".to_string()
    });
    stage.scene("split of a long chain", |store| {
        chain(store, 40, 40);
        "split".to_string()
    });
    stage.scene("insert that splits", |store| {
        full(store, 6);
        "set new:20:2".to_string()
    });
    stage.scene("insert that splits a chain", |store| {
        full(store, 18);
        "set new:20:2".to_string()
    });
    stage.scene("insert that takes the lock over", |store| {
        abc(store);
        "set d:20:2".to_string()
    });
    let taken_over = &mut stage.all.last_mut().unwrap().image;
    taken_over[LOCK as usize..][..4].copy_from_slice(&dead_holder(yard).to_ne_bytes());
    stage.all
}

/// The word of a lock whose holder is gone: of our slot, at a generation that it does not have.
fn dead_holder(yard: &Yard) -> u32 {
    let _locked = yard.keeper.attachment.lock().unwrap();
    yard.keeper.attachment.door().lock.seen() ^ 1 << 30
}

/// The table of a test: what was killed, and where.
pub(super) fn table(rows: &[(&str, u32)]) -> String {
    let mut text = String::new();
    let sum: u32 = rows.iter().map(|row| row.1).sum();
    for (name, points) in rows.iter().copied().chain([("in all", sum)]) {
        writeln!(text, "{points:6}  {name}").unwrap();
    }
    text
}
