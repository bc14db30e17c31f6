//! A store of which up to four words are not what they were, before it is looked at or while it is
//! used: whoever gets past the checks of `open` gets values or typed errors.

use super::damages::{put, word};
use super::scenes::{act, keys_in};
use super::scribbles::fine;
use super::{Yard, scale};
use crate::common::cases::{Cases, mutated};
use crate::common::random::Random;
use crate::common::tally::tally;
use crate::layout::{FIRST_BITS, HEAP, JOURNAL, Prologue, store_word};
use crate::store::blocks::{Class, FREE};
use crate::store::lookup::Probe;
use crate::store::table::{SLOTS, Sizes, home_of, slot_of};
use crate::store::{CasError, Store};
use crate::sync::Ordering::Relaxed;
use std::os::unix::fs::FileExt;

const BUCKETS: u64 = 1 << FIRST_BITS;
const FIRST: u64 = HEAP as u64 / 8;
const POISON: u64 = store_word!(poison);
const PIECES: u64 = store_word!(pieces);

/// Entries in a chain and alone, of several types and sizes, free blocks, a pool with a bucket.
fn small(store: &Store) {
    for key in keys_in(store, 0, 2 * BUCKETS, 6) {
        store.set::<[u8]>(key, &[5; 30]).unwrap();
    }
    for key in keys_in(store, BUCKETS, 2 * BUCKETS, 6) {
        store.set::<[u8]>(key, &[6; 30]).unwrap();
    }
    act(store, "split");
    for key in keys_in(store, 5, 2 * BUCKETS, 9) {
        store.set::<[u8]>(key, &[7; 50]).unwrap();
    }
    for i in 0..6u64 {
        store.set(format!("number {i}"), &i).unwrap();
        store.set(format!("text {i}"), &*"x".repeat(40)).unwrap();
    }
    store.set("flag", &true).unwrap();
    for i in 3..6 {
        store.delete(format!("number {i}")).unwrap();
        store.delete(format!("text {i}")).unwrap();
    }
}

/// A sound store, and what of it is worth a mutation.
struct Image {
    words: Vec<u64>,
    /// The words that are put back: those in use, without most of the pieces.
    used: [core::ops::Range<usize>; 2],
    keys: Vec<Vec<u8>>,
    values: Vec<Vec<u8>>,
    /// For each key: its slot, its home bucket, its block.
    places: Vec<[u64; 3]>,
    /// Where buckets, blocks and free ones begin, and where all ends.
    names: Vec<u64>,
    /// Words of the header.
    header: Vec<u64>,
}

impl Image {
    fn of(store: &Store, bytes: &[u8]) -> Image {
        let words: Vec<_> = bytes
            .chunks(8)
            .map(|word| u64::from_ne_bytes(word.try_into().unwrap()))
            .collect();
        let table = &store.attachment.table;
        let keys: Vec<_> = store.keys().collect();
        let mut values = Vec::new();
        let mut places = Vec::new();
        let cursor = words[store_word!(cursor) as usize];
        let mut names = vec![0, 3, FIRST, cursor, words.len() as u64];
        for bytes in &keys {
            let mut value = Vec::new();
            assert!(store.get_into(bytes, &mut value).unwrap());
            values.push(value);
            let key = table.key(bytes);
            let Probe::Hit(entry) = table.find(&key) else {
                panic!("it is not there");
            };
            let buckets = table.buckets().unwrap();
            let home = table.bucket_at(home_of(key.hash, buckets)).unwrap();
            places.push([entry.slot_at, home, entry.at]);
            names.extend([home, entry.at, words[home as usize]]);
        }
        let mut header = vec![store_word!(hash), store_word!(buckets), PIECES, PIECES + 1];
        header.extend(store_word!(sequence)..POISON);
        for class in Class::all().chain([Class::OVERFLOW]) {
            let all = [class.free(), class.next(), class.end()];
            if all.iter().any(|at| words[*at as usize] != 0) {
                header.extend(all);
                names.extend(all.map(|at| words[at as usize]));
            }
        }
        let end = words.iter().rposition(|word| *word != 0).unwrap();
        Image {
            used: [0..PIECES as usize + 4, FIRST as usize..end + 1],
            words,
            keys,
            values,
            places,
            names,
            header,
        }
    }

    fn restore(&self, store: &Store) {
        for range in &self.used {
            for at in range.clone() {
                put(store, at as u64, self.words[at]);
            }
        }
    }

    /// All is there: the store is sound, and this test would notice if it were not.
    fn check(&self, store: &Store) {
        store.verify().unwrap();
        let mut out = Vec::new();
        for (key, value) in self.keys.iter().zip(&self.values) {
            assert!(store.get_into(key, &mut out).unwrap());
            assert_eq!(out, *value);
        }
        assert_eq!(store.len(), self.keys.len());
    }

    /// A key that is there, or another.
    fn key(&self, random: &mut Random) -> &[u8] {
        match random.below(self.keys.len() as u64 + 4) as usize {
            i if i < self.keys.len() => &self.keys[i],
            i => [&b"new"[..], b"a", b"", b"a longer key than all others"][i - self.keys.len()],
        }
    }

    /// Where something begins, or near that.
    fn name(&self, random: &mut Random) -> u64 {
        let name = self.names[random.below(self.names.len() as u64) as usize];
        name.wrapping_add([0, 0, 0, 4, 8, 1, 4u64.wrapping_neg()][random.below(7) as usize])
    }

    /// Which word is mutated.
    fn target(&self, random: &mut Random) -> u64 {
        let [slot, home, block] = self.places[random.below(self.places.len() as u64) as usize];
        match random.below(12) {
            0..4 => self.header[random.below(self.header.len() as u64) as usize],
            4 => slot,
            5 => home,
            6 => home + random.below(SLOTS as u64 + 1),
            7 => block,
            8 => block + 1,
            9 => block + random.below(8),
            // A link, a free block's first word, or about as much as a word of anything.
            10 => self.names[5 + random.below(self.names.len() as u64 - 5) as usize],
            _ => self.used[1].start as u64 + random.below(self.used[1].len() as u64),
        }
    }

    fn value(&self, random: &mut Random, old: u64) -> u64 {
        match random.below(8) {
            0 => self.name(random),
            // The next free one, or a link into the pool.
            1 => FREE | self.name(random),
            2 => slot_of(old >> 36, self.name(random)),
            3 => {
                let near = [0, 64, 0xffff, 1 << 17, 1 << 30, 0x7fff_ffff];
                let [key, value] = [0; 2].map(|_| near[random.below(6) as usize]);
                let [less, more] = [0; 2].map(|_| random.below(9) as usize);
                let value = (value + more).saturating_sub(less).min(0x7fff_ffff);
                Sizes::new((key + more).min(0xffff), value, random.below(9) == 0, 0).0
            }
            _ => {
                let other = self.words[self.target(random) as usize];
                mutated(random, old, other)
            }
        }
    }
}

/// What was changed, to be put back.
#[derive(Default)]
struct Changed(Vec<(u64, u64)>);

impl Changed {
    /// Says whether the word is another now.
    fn put(&mut self, store: &Store, at: u64, value: u64) -> bool {
        let Some(now) = store.attachment.table.memory.word(at) else {
            return false;
        };
        let old = now.swap(value, Relaxed);
        self.0.push((at, old));
        value != old
    }

    /// Says whether any word is another now.
    fn mutate(&mut self, image: &Image, store: &Store, random: &mut Random) -> bool {
        if random.below(64) > 0 {
            let at = image.target(random);
            let value = image.value(random, word(store, at));
            return self.put(store, at, value);
        }
        // A commit that nobody made. All sleepers are woken then, which takes its time.
        let len = 1 + random.below(3);
        let mut any = false;
        for i in 0..len {
            let (at, value) = (image.target(random), image.name(random));
            any |= self.put(store, store_word!(journal) + 2 * i, at);
            any |= self.put(store, store_word!(journal) + 2 * i + 1, value);
        }
        let len = if random.below(8) == 0 {
            JOURNAL as u64 + len
        } else {
            len
        };
        any | self.put(store, store_word!(journal_len), len)
    }

    fn undo(&mut self, store: &Store) {
        while let Some((at, value)) = self.0.pop() {
            put(store, at, value);
        }
        put(store, POISON, 0);
    }
}

/// Does something that changes the store.
fn change(store: &Store, key: &[u8], random: &mut Random) -> bool {
    static BYTES: [u8; 600] = [7; 600];
    let len = [0, 8, 30, 33, 50, 100, 600][random.below(7) as usize];
    let value = &BYTES[..len];
    match random.below(16) {
        0..6 => fine(store.set::<[u8]>(key, value)),
        6 => fine(store.set(key, &random.next())),
        7 => fine(store.insert_new::<[u8]>(key, value)),
        8 => fine(store.swap::<[u8]>(key, value)),
        9 => fine(store.fetch_add(key, 1)),
        10 => match store.compare_and_set::<[u8]>(key, random.below(40), value) {
            Ok(_) | Err(CasError::Changed { .. }) => true,
            Err(CasError::Other(e)) => fine::<()>(Err(e)),
        },
        11 => fine(store.update::<[u8]>(key, |old| old.map(|old| [&old, &BYTES[..9]].concat()))),
        12 => fine(store.extend::<[u8], _, _>([(key, value), (b"more", value)])),
        _ => fine(store.delete(key)),
    }
}

/// Does something that only looks.
fn look(store: &Store, key: &[u8], random: &mut Random, out: &mut Vec<u8>) -> bool {
    match random.below(16) {
        0..4 => fine(store.get::<[u8]>(key)),
        4 => fine(store.get::<u64>(key)),
        5..7 => fine(store.get::<str>(key)),
        7 => fine(store.get::<bool>(key)),
        8 => fine(store.contains(key)),
        9 => fine(store.type_of(key)),
        10 => fine(store.get_versioned::<[u8]>(key)),
        11 if random.below(16) == 0 => all(store, random),
        _ => fine(store.get_into(key, out)),
    }
}

/// Looks at all, or takes all away.
fn all(store: &Store, random: &mut Random) -> bool {
    match random.below(8) {
        0 => fine(store.clear()),
        1 => fine(store.get_all::<[u8]>()),
        2 => store.keys().count() < 100_000,
        3 => store.iter::<str>().count() < 100_000,
        4..6 => store.stats().free_blocks.len() < 100,
        _ => fine(store.verify()),
    }
}

#[test]
fn mutated_stores_give_values_or_typed_errors() {
    // So many cases go on with what the ones before them left.
    const CASES_OF_AN_IMAGE: usize = 16;
    let yard = Yard::new("store-mutated");
    let mut random = yard.random.clone();
    let mut bytes = yard.image(small);
    // One that cannot grow, so that the file stays as it is.
    let reach = core::mem::offset_of!(Prologue, reach);
    let len = bytes.len();
    bytes[reach..][..8].copy_from_slice(&(len as u64).to_ne_bytes());
    let name = yard.put(&bytes);
    let store = yard.brief().open(&name).unwrap();
    let reader = yard.options().read_only().open(&name).unwrap();
    let file = std::fs::File::open(yard.file(&name)).unwrap();
    file.read_exact_at(&mut bytes, 0).unwrap();
    let image = Image::of(&store, &bytes);

    let cases = Cases::new("mutated stores");
    let (mut attached, mut at_rest, mut live) = (0, 0, 0);
    let (mut changed, mut out) = (Changed::default(), Vec::new());
    while cases.count() < scale(100_000, 10_000_000) {
        image.restore(&store);
        if cases.count() % 65_536 == 0 {
            image.check(&store);
            image.check(&reader);
            image.restore(&store);
        }
        for _ in 0..CASES_OF_AN_IMAGE {
            cases.begin();
            let mut left = 1 + random.below(4);
            let is_live = random.below(3) == 0;
            let mut is_mutated = false;
            while left > 0 && (!is_live || random.below(2) == 0) {
                left -= 1;
                is_mutated |= changed.mutate(&image, &store, &mut random);
            }
            let is_attached = store.attachment.check_header().is_ok();
            attached += u64::from(is_attached);
            // Who does not attach may have been there before.
            let acts = if is_attached || is_live { 3 } else { 1 };
            for _ in 0..acts {
                if is_live && left > 0 {
                    left -= 1;
                    is_mutated |= changed.mutate(&image, &store, &mut random);
                }
                let key = image.key(&mut random);
                let went_on = match random.below(8) {
                    0..4 => change(&store, key, &mut random),
                    4..7 => look(&store, key, &mut random, &mut out),
                    _ => look(&reader, key, &mut random, &mut out),
                };
                assert!(went_on, "somebody has the lock");
            }
            changed.undo(&store);
            *if is_live { &mut live } else { &mut at_rest } += u64::from(is_mutated);
        }
    }
    image.restore(&store);
    image.check(&store);
    drop((store, reader));
    yard.take(&name);
    let count = cases.count() as u64;
    println!("{attached} of {count} attached");
    assert!(2 * attached > count, "{attached} of {count} attached");
    tally("corrupt", "mutated stores", at_rest);
    tally("hostile", "stores mutated while they are used", live);
}
