//! A store, and a map in memory that must always hold the same.

pub mod kinds;

use super::common::stores::options;
use super::common::{Domain, Random};
use kinds::{KINDS, Kind, Value};
use proptest::prelude::*;
use ringlane::{CasError, Error, Store};
use std::collections::BTreeMap;

#[derive(Clone, Debug)]
pub enum Op {
    Set(Value),
    InsertNew(Value),
    Swap(Value),
    /// With the right version, or with one further on.
    CompareAndSet(Value, u64),
    Update(Value),
    /// To no value.
    Clean(Kind),
    FetchAdd(i64),
    Delete,
    Extend(Vec<(usize, Vec<u8>)>),
    Clear,
    Get(Kind),
    GetOr(Value),
    GetInto,
    Contains,
    Iter(Kind),
    Keys,
    GetAll(Kind),
}

/// Key number `i`: of any length, and of any bytes.
pub fn key(i: usize) -> Vec<u8> {
    let lens = [5, 0, 1, 2, 7, 8, 9, 15, 16, 17, 31, 255, 256, 1000, 65_535];
    let (round, which) = (i / lens.len(), i % lens.len());
    let mut random = Random::of((round / 2 * lens.len() + which) as u64);
    let mut key: Vec<_> = (0..lens[which]).map(|_| random.next() as u8).collect();
    // Each other one differs in the last byte only.
    if let (1, Some(last)) = (round % 2, key.last_mut()) {
        *last ^= 1;
    }
    key
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let len = prop_oneof![
        40 => 0..64usize,
        40 => 0..4096usize,
        10 => 4096..70_000usize,
        1 => 70_000..3_000_000usize,
    ];
    (len, any::<u64>()).prop_map(|(len, seed)| {
        let mut random = Random::of(seed);
        let words = (0..len.div_ceil(8)).flat_map(|_| random.next().to_ne_bytes());
        words.take(len).collect()
    })
}

fn value() -> impl Strategy<Value = Value> {
    let text = (0..300usize, any::<char>()).prop_map(|(len, c)| c.to_string().repeat(len));
    let point = any::<(u64, i32, u32)>().prop_map(|(x, y, z)| kinds::Point { x, y, z });
    let value = prop_oneof![
        any::<u64>().prop_map(Value::Number),
        any::<i64>().prop_map(Value::Counter),
        text.prop_map(Value::Text),
        bytes().prop_map(Value::Bytes),
        bytes().prop_map(Value::Bytes),
        any::<bool>().prop_map(Value::Flag),
        any::<char>().prop_map(Value::Letter),
        point.prop_map(Value::Point),
    ];
    #[cfg(feature = "serde")]
    let value = {
        let words = proptest::collection::vec(".{0,20}", 0..10);
        let note = prop_oneof![Just(kinds::Note::Empty), words.prop_map(kinds::Note::Words)];
        prop_oneof![7 => value, 1 => note.prop_map(Value::Note)]
    };
    value
}

pub fn op(keys: usize) -> impl Strategy<Value = Op> {
    let kind = || proptest::sample::select(KINDS.to_vec());
    let extend = proptest::collection::vec((0..keys, bytes()), 0..200.min(keys));
    prop_oneof![
        20 => value().prop_map(Op::Set),
        4 => value().prop_map(Op::InsertNew),
        4 => value().prop_map(Op::Swap),
        6 => (value(), prop_oneof![2 => Just(0), 1 => 1..3u64]).prop_map(|(v, by)| Op::CompareAndSet(v, by)),
        6 => value().prop_map(Op::Update),
        2 => kind().prop_map(Op::Clean),
        4 => any::<i64>().prop_map(Op::FetchAdd),
        10 => Just(Op::Delete),
        1 => extend.prop_map(Op::Extend),
        1 => Just(Op::Clear),
        10 => kind().prop_map(Op::Get),
        4 => value().prop_map(Op::GetOr),
        6 => Just(Op::GetInto),
        6 => Just(Op::Contains),
        2 => kind().prop_map(Op::Iter),
        2 => Just(Op::Keys),
        2 => kind().prop_map(Op::GetAll),
    ]
}

// ---- The twin.

pub type Entries = BTreeMap<Vec<u8>, (Value, u64)>;

/// A store through three handles, and what must be in it.
pub struct Twin {
    pub writers: [Store; 2],
    pub reader: Store,
    pub entries: Entries,
    /// The newest version.
    last: u64,
}

impl Twin {
    pub fn of(domain: &Domain) -> Twin {
        let writers = ["create", "open"].map(|how| match how {
            "create" => options(domain.name()).create("twin").unwrap(),
            _ => options(domain.name()).open("twin").unwrap(),
        });
        let reader = options(domain.name()).read_only().open("twin").unwrap();
        Twin {
            writers,
            reader,
            entries: Entries::new(),
            last: 0,
        }
    }

    /// Notes a value that was stored.
    #[track_caller]
    fn stored(&mut self, key: &[u8], value: &Value, version: u64) {
        assert!(version > self.last, "{version} after {}", self.last);
        self.last = version;
        let entry = (value.clone(), version);
        self.entries.insert(key.to_vec(), entry);
    }

    /// The same, of which only the store knows the version.
    #[track_caller]
    fn stored_somehow(&mut self, key: &[u8], value: &Value) {
        let found = value.kind().calls().get_versioned(&self.reader, key);
        let (is, version) = found.unwrap().unwrap();
        assert_eq!(is, *value);
        self.stored(key, value, version);
    }

    /// Does it by writer and reader number `by`, and looks at what comes of it.
    pub fn take(&mut self, op: &Op, key: &[u8], by: usize) {
        let writer = self.writers[by % 2].clone();
        let reader = match by % 3 {
            0 => self.reader.clone(),
            _ => writer.clone(),
        };
        let old = self.entries.get(key).cloned();
        let version = old.as_ref().map_or(0, |(_, version)| *version);
        let old = old.map(|(value, _)| value);
        match op {
            Op::Set(value) => {
                let version = value.kind().calls().set(&writer, key, value).unwrap();
                self.stored(key, value, version);
            }
            Op::InsertNew(value) => {
                let stored = value.kind().calls().insert_new(&writer, key, value);
                let stored = stored.unwrap();
                assert_eq!(stored.is_some(), old.is_none());
                if let Some(version) = stored {
                    self.stored(key, value, version);
                }
            }
            Op::Swap(value) => match value.kind().calls().swap(&writer, key, value) {
                Ok(was) => {
                    assert_eq!(was, old);
                    self.stored_somehow(key, value);
                }
                Err(e) => must_mismatch(e, key, old, value.kind()),
            },
            Op::CompareAndSet(value, off) => {
                let calls = value.kind().calls();
                match calls.compare_and_set(&writer, key, version + off, value) {
                    Ok(new) if *off == 0 => self.stored(key, value, new),
                    Err(CasError::Changed { version: now }) if *off > 0 => {
                        assert_eq!(now, version);
                    }
                    other => panic!("{other:?}"),
                }
            }
            Op::Update(value) => match value.kind().calls().update(&writer, key, Some(value)) {
                Ok((version, was)) => {
                    assert_eq!(was, old);
                    self.stored(key, value, version);
                }
                Err(e) => must_mismatch(e, key, old, value.kind()),
            },
            Op::Clean(kind) => match kind.calls().update(&writer, key, None) {
                Ok(outcome) => {
                    assert_eq!(outcome, (0, old));
                    self.entries.remove(key);
                }
                Err(e) => must_mismatch(e, key, old, *kind),
            },
            Op::FetchAdd(by) => match writer.fetch_add(key, *by) {
                Ok(was) => {
                    assert_eq!(old.unwrap_or(Value::Counter(0)), Value::Counter(was));
                    self.stored_somehow(key, &Value::Counter(was.wrapping_add(*by)));
                }
                Err(e) => must_mismatch(e, key, old, Kind::Counter),
            },
            Op::Delete => {
                assert_eq!(writer.delete(key).unwrap(), old.is_some());
                self.entries.remove(key);
            }
            Op::Extend(values) => {
                let all = values.iter().map(|(i, value)| (self::key(*i), &value[..]));
                assert_eq!(writer.extend::<[u8], _, _>(all).unwrap(), values.len());
                let before = self.last;
                let newest: BTreeMap<_, _> =
                    values.iter().map(|(i, v)| (self::key(*i), v)).collect();
                for (key, value) in newest {
                    let (now, version) = reader.get_versioned::<[u8]>(&key).unwrap().unwrap();
                    assert!(now == *value && version > before);
                    self.last = self.last.max(version);
                    self.entries.insert(key, (Value::Bytes(now), version));
                }
            }
            Op::Clear => {
                writer.clear().unwrap();
                self.entries.clear();
            }
            Op::Get(kind) => match kind.calls().get_versioned(&reader, key) {
                Ok(found) => {
                    assert_eq!(found.as_ref(), self.entries.get(key));
                    assert_eq!(kind.calls().get(&reader, key).unwrap(), old);
                }
                Err(e) => must_mismatch(e, key, old, *kind),
            },
            Op::GetOr(default) => match default.kind().calls().get_or(&reader, key, default) {
                Ok(value) => assert_eq!(value, old.unwrap_or(default.clone())),
                Err(e) => must_mismatch(e, key, old, default.kind()),
            },
            Op::GetInto => {
                let mut out = vec![1, 2, 3];
                assert_eq!(reader.get_into(key, &mut out).unwrap(), old.is_some());
                match old {
                    None => assert!(out.is_empty()),
                    Some(Value::Bytes(bytes)) => assert_eq!(out, bytes),
                    Some(Value::Text(text)) => assert_eq!(out, text.as_bytes()),
                    Some(Value::Number(n)) => assert_eq!(out, n.to_ne_bytes()),
                    Some(_) => {}
                }
            }
            Op::Contains => {
                assert_eq!(reader.contains(key).unwrap(), old.is_some());
                let name = reader.type_of(key).unwrap();
                let name = name.as_deref().map(bare);
                assert_eq!(name, old.map(|old| old.kind().calls().name()));
            }
            Op::Iter(kind) => assert_eq!(kind.calls().iter(&reader), self.all(*kind)),
            Op::GetAll(kind) => {
                assert_eq!(kind.calls().get_all(&writer).unwrap(), self.all(*kind));
            }
            Op::Keys => {
                let mut keys: Vec<_> = reader.keys().collect();
                keys.sort();
                assert!(keys.iter().eq(self.entries.keys()));
            }
        }
        for store in [&self.reader, &writer] {
            assert_eq!(store.len(), self.entries.len());
            assert_eq!(store.is_empty(), self.entries.is_empty());
        }
    }

    /// All entries of a kind.
    fn all(&self, kind: Kind) -> BTreeMap<Vec<u8>, Value> {
        let mut all = BTreeMap::new();
        for (key, (value, _)) in &self.entries {
            if value.kind() == kind {
                all.insert(key.clone(), value.clone());
            }
        }
        all
    }
}

impl Drop for Twin {
    fn drop(&mut self) {
        let removed = self.writers[0].remove();
        assert!(removed.is_ok() || std::thread::panicking());
    }
}

/// The name of a type without its codec.
fn bare(name: &str) -> &str {
    name.split(" (").next().unwrap()
}

/// It must say that a value of that kind was looked for, where there is another.
#[track_caller]
fn must_mismatch(error: Error, key: &[u8], there: Option<Value>, wanted: Kind) {
    let there = there.unwrap().kind();
    assert_ne!(there, wanted);
    match error {
        Error::TypeMismatch {
            name,
            expected,
            found,
        } => {
            assert_eq!(name, String::from_utf8_lossy(key));
            assert_eq!(bare(&expected), wanted.calls().name());
            assert_eq!(bare(&found), there.calls().name());
        }
        other => panic!("{other:?}"),
    }
}
