//! Calls of a store, with a kill at each of their instructions.

use super::harness::{Act, Harness, Killed, Victim, WHOLLY_OR_NOT};
use super::size;
use super::victim::{NAME, channel, store};
use super::witness::{Subject, bytes, text_of};
use crate::common::Random;
use ringlane::Store;
use std::collections::BTreeMap;

type Content = BTreeMap<String, Vec<u8>>;

/// A store that the victim changes, and what it holds.
struct Table {
    victim: Victim,
    content: Content,
}

impl Table {
    /// The store has what `fill` put there.
    fn with(domain: &str, fill: impl FnOnce(&Store, &mut Content)) -> (Store, Table) {
        let made = store(domain).create(NAME).unwrap();
        let mut content = Content::new();
        fill(&made, &mut content);
        let victim = Victim::start(domain, &["open_store"]).unwrap();
        (made, Table { victim, content })
    }

    /// Has the victim do that to the key: `None` deletes it.
    fn change(
        &mut self,
        harness: &mut Harness,
        row: &str,
        key: &str,
        value: Option<(usize, u8)>,
    ) -> Result<(), Killed> {
        let before = text_of(&self.content);
        let order = match value {
            None => {
                self.content.remove(key);
                format!("delete {key}")
            }
            Some((len, first)) => {
                self.content.insert(key.to_string(), bytes(len, first));
                let call = if row.starts_with("`update`") {
                    "update"
                } else {
                    "set"
                };
                format!("{call} {key} {len} {first}")
            }
        };
        let act = Act {
            row,
            order,
            subject: Subject::Store,
            states: vec![before, text_of(&self.content)],
            phases: WHOLLY_OR_NOT,
            joined: true,
        };
        harness.act(&mut self.victim, &act)
    }
}

fn put(store: &Store, content: &mut Content, key: &str, len: usize) {
    let value = bytes(len, 1);
    store.set::<[u8]>(key, &value).unwrap();
    content.insert(key.to_string(), value);
}

pub fn changes(harness: &mut Harness) {
    let seed = harness.random().next();
    harness.scene(size(4, 200), |harness, domain, _| {
        let (_store, mut table) = Table::with(domain, |store, content| {
            for (i, len) in [0, 20, 200, 2000].into_iter().enumerate() {
                put(store, content, &format!("k{i}"), len);
            }
        });
        let mut random = Random::of(seed);
        for i in 0..size(10, 250) {
            let key = format!("k{}", random.below(12));
            let mut len = [0, 8, 56, 100, 256, 300, 1000, 3000][random.below(8) as usize];
            let before = table.content.get(&key);
            if before.is_some_and(Vec::is_empty) {
                // One that is empty, too, would not differ.
                len = len.max(8);
            }
            let value = Some((len, (i % 200) as u8 + 2));
            let is_there = before.is_some();
            let (row, value) = match (is_there, random.below(4)) {
                (false, _) => ("`set` of a new key", value),
                (true, 0) => ("`delete`", None),
                (true, 1) => ("`update`", value),
                (true, _) => ("`set` of a key that is there", value),
            };
            table.change(harness, row, &key, value)?;
        }
        table.victim.finish();
        Ok(())
    });
    // One that somebody watches.
    harness.scene(0, |harness, domain, _| {
        let (store, mut table) = Table::with(domain, |store, content| {
            put(store, content, "k", 20);
        });
        let mut watch = store.watch::<[u8]>("k").unwrap();
        for i in 0..size(1, 10) {
            std::thread::scope(|scope| {
                let woken = scope.spawn(|| watch.wait().unwrap());
                let row = "`set` of a key that is watched";
                let value = (20, (i % 200) as u8 + 2);
                table.change(harness, row, "k", Some(value))?;
                assert_eq!(woken.join().unwrap(), Some(bytes(value.0, value.1)));
                Ok(())
            })?;
        }
        table.victim.finish();
        Ok(())
    });
    let state = |row, order| Act {
        subject: Subject::NewStore,
        ..Act::unseen(row, order, "")
    };
    for _ in 0..size(0, 3) {
        harness.scene(size(0, 20), |harness, domain, _| {
            let _keeper = channel::<u64>(domain).create("keeper").unwrap();
            let mut victim = Victim::start(domain, &[]).unwrap();
            harness.act(&mut victim, &state("creation of a store", "create_store"))?;
            harness.act(&mut victim, &state("drop of a store", "close_store"))?;
            harness.act(&mut victim, &state("opening of a store", "open_store"))?;
            victim.finish();
            Ok(())
        });
    }
}

pub fn splits(harness: &mut Harness) {
    harness.scene(size(1, 40), |harness, domain, _| {
        let (store, mut table) = Table::with(domain, |store, content| {
            let mut i = 0;
            // As many as there may be before the first split.
            while store.len() < 256 * 9 / 2 - 2 {
                put(store, content, &format!("k{i}"), 20);
                i += 1;
            }
            assert_eq!(store.stats().splits, 0);
        });
        // A few to the first split, and then one for every four or five.
        for i in 0..size(3, 60) {
            let row = "`set` that splits a bucket";
            table.change(harness, row, &format!("new-{i}"), Some((20, 5)))?;
        }
        assert!(store.stats().splits > 0);
        table.victim.finish();
        Ok(())
    });
}

pub fn grows(harness: &mut Harness) {
    /// By which a file grows: once it has grown there is never that much room.
    const STEP: usize = 64 << 10;
    for round in 0..size(1, 3) {
        harness.scene(size(1, 4), |harness, domain, _| {
            let (store, mut table) = Table::with(domain, |store, content| {
                let made = store.stats().file_bytes;
                let mut keys = 0..;
                let mut put = || put(store, content, &format!("k{}", keys.next().unwrap()), 1000);
                while store.stats().file_bytes == made {
                    put();
                }
                (0..9 * round).for_each(|_| put());
            });
            let before = store.stats().file_bytes;
            let row = "`set` that grows the file";
            table.change(harness, row, "last", Some((STEP, 9)))?;
            assert!(store.stats().file_bytes > before);
            table.victim.finish();
            Ok(())
        });
    }
}
