//! Pictures of stores: what is in them, who wrote it, who holds the lock.

mod common;

use common::Domain;
use ringlane::inspect::{Finding, SnapshotOptions, StoreInfo};
use ringlane::{Message, Plain, Store};
use std::os::unix::fs::FileExt;

#[derive(
    ringlane::zerocopy::IntoBytes,
    ringlane::zerocopy::TryFromBytes,
    ringlane::zerocopy::KnownLayout,
    ringlane::zerocopy::Immutable,
)]
#[repr(C)]
struct Point([u32; 2]);

impl Message for Point {
    const NAME: &'static str = "test.Point";
    type Codec = Plain;
}

fn picture(domain: &Domain, options: SnapshotOptions) -> StoreInfo {
    let picture = options.domain(domain.name()).take().unwrap();
    let [of_domain] = &picture.domains[..] else {
        panic!("{picture:?}");
    };
    assert!(of_domain.findings.is_empty(), "{:?}", of_domain.findings);
    let [store] = &of_domain.stores[..] else {
        panic!("{of_domain:?}");
    };
    store.clone()
}

#[test]
fn entries_are_shown_with_types_versions_and_writers() {
    let domain = Domain::new("dump-entries");
    let store = Store::options().domain(domain.name()).create("s").unwrap();
    let versions = [
        store.set("bytes", &[1u8, 2, 3][..]).unwrap(),
        store.set("number", &-7i32).unwrap(),
        store.set("point", &Point([1, 2])).unwrap(),
        store.set("text", "hello").unwrap(),
    ];
    store.set("gone", &true).unwrap();
    store.delete("gone").unwrap();
    let seen = picture(&domain, SnapshotOptions::new().payload_bytes(4));
    assert_eq!((seen.name.as_str(), seen.keys), ("s", 4));
    assert_eq!(seen.changes, store.stats().changes);
    assert_eq!(
        (seen.holder, seen.damaged, seen.recoveries),
        (None, false, 0)
    );
    let shown = seen.entries.iter().map(|entry| {
        let key = core::str::from_utf8(&entry.key).unwrap();
        assert_eq!(entry.writer, Some(std::process::id()), "{key}");
        let text = entry.text.as_deref().unwrap_or("-");
        (key, &*entry.type_name, &*entry.codec, entry.len, text)
    });
    let shown: Vec<_> = shown.collect();
    assert_eq!(
        shown,
        [
            ("bytes", "[u8]", "raw", 3, "-"),
            ("number", "i32", "plain", 4, "-7"),
            ("point", "test.Point", "plain", 8, "-"),
            ("text", "str", "raw", 5, "hello"),
        ]
    );
    let told: Vec<_> = seen.entries.iter().map(|entry| entry.version).collect();
    assert_eq!(told, versions);
    // In the order of the machine, the first four bytes.
    assert_eq!(seen.entries[2].bytes, 1u32.to_ne_bytes());
    assert_eq!(seen.entries[3].bytes, b"hell");
    store.remove().unwrap();
}

#[test]
fn only_so_many_entries_are_shown() {
    let domain = Domain::new("dump-many");
    let store = Store::options().domain(domain.name()).create("s").unwrap();
    for key in 0..1_000u64 {
        store.set(key.to_be_bytes(), &[7u8; 700][..]).unwrap();
    }
    let seen = picture(&domain, SnapshotOptions::new());
    assert_eq!((seen.keys, seen.entries.len()), (1_000, 64));
    assert!(
        seen.entries
            .iter()
            .all(|entry| entry.bytes.is_empty() && entry.len == 700)
    );
    let some = SnapshotOptions::new().max_entries(3).payload_bytes(9);
    let seen = picture(&domain, some);
    assert_eq!(seen.entries.len(), 3);
    assert!(seen.entries.iter().all(|entry| entry.bytes == [7; 9]));
    let all = picture(&domain, SnapshotOptions::new().max_entries(usize::MAX));
    assert_eq!(all.entries.len(), 1_000);
    assert!(all.entries.is_sorted_by(|a, b| a.key < b.key));
    store.remove().unwrap();
}

#[test]
fn a_store_of_another_roster_is_told_and_not_judged() {
    let domain = Domain::new("dump-foreign-store");
    let store = Store::options().domain(domain.name()).create("s").unwrap();
    store.set("text", "hello").unwrap();
    let path = domain.path().join("s.store");
    let file = std::fs::File::options().write(true).open(path).unwrap();
    let mut seen = None;
    store
        .update::<u8>("key", |_| {
            // The roster's id in the prologue.
            file.write_all_at(&7u64.to_ne_bytes(), 24).unwrap();
            seen = Some(ringlane::inspect::snapshot_domain(domain.name()).unwrap());
            Some(1)
        })
        .unwrap();
    let seen = seen.unwrap();
    let [finding] = &seen.findings[..] else {
        panic!("{seen:?}");
    };
    assert!(finding.text.contains("another incarnation"), "{finding:?}");
    assert_eq!(seen.stores[0].holder, None);
    assert_eq!(seen.stores[0].entries[0].writer, None);
    store.remove().unwrap();
}

#[test]
fn numbers_of_any_size_are_added_up() {
    let domain = Domain::new("dump-numbers");
    let options = || Store::options().domain(domain.name());
    for name in ["a", "b"] {
        drop(options().create(name).unwrap());
        let path = domain.path().join(format!("{name}.store"));
        let file = std::fs::File::options().write(true).open(path);
        // As `layout` asserts: after the number of commits comes that of entries.
        let keys = u64::MAX.to_ne_bytes();
        file.unwrap().write_all_at(&keys, 384 + 8).unwrap();
    }
    let only = SnapshotOptions::new().domain(domain.name());
    let findings = only.doctor().unwrap();
    let of_domain = |finding: &&Finding| finding.about == domain.name();
    let finding = findings.iter().find(of_domain).unwrap();
    let keys = format!("{} keys in 2 stores", u64::MAX);
    assert!(finding.text.contains(&keys), "{finding:?}");
    for name in ["a", "b"] {
        options().remove(name).unwrap();
    }
}

#[test]
fn who_holds_the_lock_is_shown() {
    let domain = Domain::new("dump-lock");
    let store = Store::options().domain(domain.name()).create("s").unwrap();
    let mut holder = None;
    store
        .update::<u8>("key", |_| {
            holder = picture(&domain, SnapshotOptions::new()).holder;
            Some(1)
        })
        .unwrap();
    let holder = holder.unwrap();
    assert_eq!((holder.pid, holder.alive), (Some(std::process::id()), true));
    assert_eq!(picture(&domain, SnapshotOptions::new()).holder, None);
    store.remove().unwrap();
}
