//! Damages: which word of a sound store becomes what, and what that may lead to.

use super::scenes::{act, chain, home, keys_in};
use crate::layout::{JOURNAL, store_word};
use crate::store::Store;
use crate::store::blocks::{Class, FREE};
use crate::store::lookup::Probe;
use crate::store::table::{Entry, IN_POOL, slot_of};
use crate::sync::Ordering::Relaxed;

/// What may come of reading a damaged store, besides errors.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Harm {
    /// Only what is right.
    None,
    /// A key may be gone: the damaged word said where it is.
    Lost,
    /// A value may be another: the damaged word is part of it.
    Wrong,
}

pub(super) struct Damage {
    pub(super) what: &'static str,
    /// What `verify` says of it.
    pub(super) flaw: &'static str,
    pub(super) harm: Harm,
    /// Whether a store so damaged is not even opened.
    pub(super) refused: bool,
    pub(super) make: fn(&Store),
}

/// Keys of the sound store: in a chain, and by themselves.
const CHAINED: u64 = 5;
const ALONE: &str = "alone";
const OTHER: &str = "other";

/// With chains, free blocks of several classes, overflow buckets in the pool, and some types.
pub(super) fn sound(store: &Store) {
    for key in keys_in(store, CHAINED, 256, 18) {
        store.set::<[u8]>(key, &[5; 30]).unwrap();
    }
    // What would be in the next new bucket.
    for key in keys_in(store, 257, 512, 2) {
        store.set::<[u8]>(key, &[6; 30]).unwrap();
    }
    for i in 0..200u64 {
        let [number, text] = ["number", "text"].map(|what| format!("{what} {i}"));
        // The chains are as long as they are made here.
        if ![0, CHAINED].contains(&home(store, &number, 256)) {
            store.set(&number, &i).unwrap();
        }
        if ![0, CHAINED].contains(&home(store, &text, 256)) {
            store.set(&text, &*"x".repeat(i as usize)).unwrap();
        }
    }
    // The split leaves nothing in the overflow buckets, so they go to the pool.
    chain(store, 4, 12);
    act(store, "split");
    for key in [ALONE, OTHER] {
        store.set::<[u8]>(key, &[7; 100]).unwrap();
    }
    for i in (0..200u64).step_by(3) {
        store.delete(format!("text {i}")).unwrap();
        store.delete(format!("number {i}")).unwrap();
    }
    let stats = store.stats();
    assert!(
        stats.free_blocks.len() > 5 && stats.chained_buckets > 0,
        "{stats:?}"
    );
    assert_ne!(word(store, Class::OVERFLOW.free()), 0);
    assert_eq!(stats.buckets, 257);
}

pub(super) fn word(store: &Store, at: u64) -> u64 {
    store
        .attachment
        .table
        .memory
        .word(at)
        .unwrap()
        .load(Relaxed)
}

pub(super) fn put(store: &Store, at: u64, value: u64) {
    let memory = &store.attachment.table.memory;
    memory.word(at).unwrap().store(value, Relaxed);
}

fn change(store: &Store, at: u64, change: impl Fn(u64) -> u64) {
    put(store, at, change(word(store, at)));
}

pub(super) fn entry<'a>(store: &'a Store, key: &str) -> Entry<'a> {
    let table = &store.attachment.table;
    match table.find(&table.key(key.as_bytes())) {
        Probe::Hit(entry) => entry,
        _ => panic!("{key} is not there"),
    }
}

/// The buckets of a chain, from its home on.
fn buckets_of(store: &Store, home: u64) -> Vec<u64> {
    let mut at = store.attachment.table.bucket_at(home).unwrap();
    let mut all = vec![at];
    while word(store, at) != 0 {
        at = word(store, at);
        all.push(at);
    }
    all
}

/// A class that has several free blocks.
fn freed(store: &Store) -> Class {
    let next = |at: u64| word(store, at) & !FREE;
    let has_two = |class: &Class| {
        let first = word(store, class.free());
        first != 0 && next(first) != 0
    };
    Class::all().find(has_two).unwrap()
}

pub(super) fn damages() -> Vec<Damage> {
    let mut all = Vec::new();
    let mut add = |what, flaw, harm, make| {
        all.push(Damage {
            what,
            flaw,
            harm,
            refused: false,
            make,
        });
    };
    use Harm::*;
    // ---- Slots.
    let no_block = "a slot names no live block";
    let twice = "lies where something else does";
    add("a tag", "the tag is not of the block's key", Lost, |s| {
        change(s, entry(s, ALONE).slot_at, |slot| slot ^ 1 << 63);
    });
    add("a slot to a free block", no_block, None, |s| {
        let slot = slot_of(entry(s, ALONE).slot_word >> 36, word(s, freed(s).free()));
        put(s, entry(s, ALONE).slot_at, slot);
    });
    add("a slot to another block", twice, Lost, |s| {
        let slot = slot_of(entry(s, ALONE).slot_word >> 36, entry(s, OTHER).at);
        put(s, entry(s, ALONE).slot_at, slot);
    });
    add("another slot", twice, Lost, |s| {
        put(s, entry(s, ALONE).slot_at, entry(s, OTHER).slot_word);
    });
    add("a slot twice", twice, Lost, |s| {
        // At the end of its chain, where there is room.
        let key = keys_in(s, CHAINED, 256, 1).remove(0);
        let last = *buckets_of(s, CHAINED).last().unwrap();
        put(s, last + 7, entry(s, &key).slot_word);
    });
    add("a key twice", "the same key twice", Lost, |s| {
        let keys = keys_in(s, CHAINED, 256, 18);
        let of_len = |key: &&String| key.len() == keys[17].len();
        let [one, two] = [&keys[17], keys.iter().find(of_len).unwrap()].map(|key| entry(s, key));
        put(s, two.slot_at, slot_of(one.slot_word >> 36, two.at));
        put(s, two.at + 3, word(s, one.at + 3));
    });
    add("a slot outside", no_block, None, |s| {
        put(
            s,
            entry(s, ALONE).slot_at,
            slot_of(entry(s, ALONE).slot_word >> 36, 1 << 37),
        );
    });
    add("a slot into the header", no_block, None, |s| {
        put(
            s,
            entry(s, ALONE).slot_at,
            slot_of(entry(s, ALONE).slot_word >> 36, 64),
        );
    });
    add("no slot", "belong to nothing", Lost, |s| {
        put(s, entry(s, ALONE).slot_at, 0)
    });
    // ---- Links.
    add("a chain in a circle", twice, Lost, |s| {
        let chain = buckets_of(s, CHAINED);
        put(s, *chain.last().unwrap(), chain[1]);
    });
    add("a chain back to its home", twice, Lost, |s| {
        let chain = buckets_of(s, CHAINED);
        put(s, *chain.last().unwrap(), chain[0]);
    });
    add("a link to another chain", twice, Lost, |s| {
        put(s, buckets_of(s, 7)[0], buckets_of(s, CHAINED)[1]);
    });
    add(
        "a link into the pool",
        "in use and in the pool",
        Lost,
        |s| {
            put(
                s,
                buckets_of(s, CHAINED)[1],
                word(s, Class::OVERFLOW.free()),
            );
        },
    );
    add("a link outside", "lies outside of the heap", None, |s| {
        put(s, buckets_of(s, CHAINED)[0], 1 << 37);
    });
    add(
        "a link between buckets",
        "bucket 5 is not there",
        Lost,
        |s| {
            change(s, buckets_of(s, CHAINED)[0], |link| link + 4);
        },
    );
    add("a chain cut off", "belong to nothing", Lost, |s| {
        put(s, buckets_of(s, CHAINED)[0], 0)
    });
    add(
        "a bucket marked as of the pool",
        "in use and in the pool",
        Lost,
        |s| {
            change(s, buckets_of(s, CHAINED)[0], |link| link | IN_POOL);
        },
    );
    // ---- Blocks.
    add(
        "a stamp from the future",
        "a stamp of a commit that never was",
        None,
        |s| {
            put(s, entry(s, ALONE).at, word(s, store_word!(sequence)) + 1);
        },
    );
    add("a stamp that says free", no_block, None, |s| {
        change(s, entry(s, ALONE).at, |stamp| stamp | FREE);
    });
    add("a stamp of 0", no_block, None, |s| {
        put(s, entry(s, ALONE).at, 0)
    });
    add("a value as long as can be", no_block, None, |s| {
        change(s, entry(s, ALONE).at + 1, |sizes| sizes | 0x7fff_ffff << 16);
    });
    add("a value too long by a page", twice, Wrong, |s| {
        change(s, entry(s, ALONE).at + 1, |sizes| sizes + (4096 << 16));
    });
    add(
        "a key longer by one",
        "the tag is not of the block's key",
        Wrong,
        |s| {
            change(s, entry(s, ALONE).at + 1, |sizes| sizes + 1);
        },
    );
    add(
        "a byte of a key",
        "the tag is not of the block's key",
        Wrong,
        |s| {
            change(s, entry(s, ALONE).at + 3, |word| word ^ 0x20);
        },
    );
    add(
        "a key of the store's own",
        "types, and there are",
        Lost,
        |s| {
            change(s, entry(s, ALONE).at + 1, |sizes| sizes ^ 1 << 47);
        },
    );
    // ---- Counters.
    add("keys", "keys, and there are", None, |s| {
        change(s, store_word!(keys), |keys| keys + 1);
    });
    add("a great many keys", "keys, and there are", None, |s| {
        put(s, store_word!(keys), u64::MAX);
    });
    add("types", "types, and there are", None, |s| {
        change(s, store_word!(types), |types| types - 1);
    });
    add("bytes in use", "bytes in use, and there are", None, |s| {
        change(s, store_word!(live_bytes), |bytes| bytes - 8);
    });
    add(
        "a sequence that was",
        "a stamp of a commit that never was",
        None,
        |s| {
            put(s, store_word!(sequence), 10);
        },
    );
    let too_many = "more commits than there are stamps";
    add("a sequence at its end", too_many, None, |s| {
        put(s, store_word!(sequence), u64::MAX);
    });
    // ---- Free blocks and runs.
    add("a free list with a value", twice, None, |s| {
        let class = Class::of(entry(s, ALONE).sizes.words());
        put(s, class.free(), entry(s, ALONE).at);
    });
    add(
        "a free list with a new block",
        "is not marked so",
        None,
        |s| {
            let class = Class::of(entry(s, ALONE).sizes.words());
            put(s, class.free(), word(s, class.next()));
        },
    );
    add("a free list in a circle", twice, None, |s| {
        let first = word(s, freed(s).free());
        let second = word(s, first) & !FREE;
        put(s, second, FREE | first);
    });
    add(
        "a free list outside",
        "a free block lies outside of the heap",
        None,
        |s| {
            put(s, freed(s).free(), 1 << 37);
        },
    );
    add("a free list cut off", "belong to nothing", None, |s| {
        put(s, freed(s).free(), 0)
    });
    add("a bucket of the pool in use", "is not empty", None, |s| {
        put(
            s,
            word(s, Class::OVERFLOW.free()) + 3,
            entry(s, ALONE).slot_word,
        );
    });
    add("the pool in a chain", twice, Lost, |s| {
        put(s, Class::OVERFLOW.free(), buckets_of(s, CHAINED)[1]);
    });
    add(
        "a run that ends before it begins",
        "a run ends before it begins",
        None,
        |s| {
            let class = Class::of(entry(s, ALONE).sizes.words());
            put(s, class.next(), word(s, class.end()) + 8);
        },
    );
    add("a run over what is there", twice, Wrong, |s| {
        let class = Class::of(entry(s, ALONE).sizes.words());
        put(s, class.next(), entry(s, ALONE).at);
    });
    // ---- The table.
    let elsewhere = "the key belongs elsewhere";
    add("a piece shifted by a bucket", elsewhere, Wrong, |s| {
        change(s, store_word!(pieces), |at| at + 8);
    });
    add("a bucket too many", elsewhere, Lost, |s| {
        change(s, store_word!(buckets), |buckets| buckets + 1);
    });
    add("a bucket too few", "keys, and there are", Lost, |s| {
        change(s, store_word!(buckets), |buckets| buckets - 1);
    });
    // ---- What a killed writer leaves, with another's content.
    add(
        "a journal of one word",
        "a commit is not finished",
        Wrong,
        |s| {
            put(s, store_word!(journal_len), 1);
        },
    );
    add(
        "a journal of too many words",
        "a commit is not finished",
        None,
        |s| {
            put(s, store_word!(journal_len), JOURNAL as u64 + 1);
        },
    );
    add("a split to finish", "a split is not finished", None, |s| {
        put(s, store_word!(split_pending), 1);
    });
    add("a split of another kind", "is neither 0 nor 1", None, |s| {
        put(s, store_word!(split_pending), 2);
    });
    add("poison", "a writer found this wrong", None, |s| {
        put(s, store_word!(poison), entry(s, ALONE).at);
    });
    // ---- What is looked at when it is opened.
    let mut refused = |what, flaw, make| {
        all.push(Damage {
            what,
            flaw,
            harm: Lost,
            refused: true,
            make,
        });
    };
    refused("no buckets", "no table has so many buckets", |s| {
        put(s, store_word!(buckets), 0);
    });
    refused("too many buckets", "no table has so many buckets", |s| {
        put(s, store_word!(buckets), (1 << 28) + 1);
    });
    refused(
        "all buckets that there may be",
        "lies outside of the heap",
        |s| {
            put(s, store_word!(buckets), 1 << 28);
        },
    );
    refused("half a bucket further", "is not the start of a line", |s| {
        change(s, store_word!(pieces) + 1, |at| at + 4);
    });
    refused("a piece outside", "lies outside of the heap", |s| {
        put(s, store_word!(pieces), 1 << 37);
    });
    refused("a cursor behind the end", "lies outside of the heap", |s| {
        change(s, store_word!(end), |end| end - 512);
        put(s, store_word!(cursor), word(s, store_word!(end)) + 8);
    });
    refused(
        "an end behind the file's",
        "lies behind the end of the file",
        |s| {
            change(s, store_word!(end), |end| end + 512);
        },
    );
    all
}
