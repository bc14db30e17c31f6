//! A kill before each store of each change, and before each store of the recovery from it.
//!
//! A thread plays the process that is killed. Its successor is another handle; that the lock has
//! to be taken from it first is told by writing that it is free, but in `real_kills`.

use super::scenes::{Content, Scene, act, all, content_of, table};
use super::{Yard, scale};
use crate::store::table::Entry;
use crate::store::{Store, Torn};
use crate::sync::Ordering::Relaxed;
use crate::sync::kills::{count, killed_after};
use std::fs;

/// What the successor does first.
const PROBE: &str = "probe";

#[test]
fn a_kill_before_any_store_leaves_the_change_done_or_not_done() {
    let yard = Yard::new("store-kills");
    let rows: Vec<_> = all(&yard)
        .iter()
        .map(|scene| (scene.name, kill_all(&yard, scene)))
        .collect();
    eprintln!("kill points\n{}", table(&rows));
    // Each change takes the lock, writes a journal, commits, applies, closes and gives back.
    assert!(rows.iter().all(|row| row.1 > 10), "{rows:?}");
}

/// Kills the act of a scene before each of its stores, and gives how many that were.
fn kill_all(yard: &Yard, scene: &Scene) -> u32 {
    let name = yard.put(&scene.image);
    let store = yard.options().open(&name).unwrap();
    let ((), points) = count(|| act(&store, &scene.act));
    assert_eq!(content_of(&store), *scene.states.last().unwrap());
    drop(store);
    yard.take(&name);
    let (mut before, mut reached) = (0, 0);
    for k in 0..=points {
        let why = format!("{}, {k} of {points}: {}", scene.name, scene.act);
        let name = yard.put(&scene.image);
        let store = yard.options().open(&name).unwrap();
        let outcome = killed_after(k, || act(&store, &scene.act));
        assert_eq!(outcome.is_some(), k == points, "{why}");
        let lock = store.attachment.door().lock.seen();
        assert_eq!(lock == 0, k == points, "{why}");
        store.attachment.door().lock.word().store(0, Relaxed);
        drop(store);
        let left = fs::read(yard.file(&name)).unwrap();
        let seen = read_only(yard, scene, &name, &why);
        let recovered = recover(yard, scene, &name, &why);
        let order = before <= seen && reached <= recovered && seen <= recovered;
        assert!(
            order,
            "{why}: {seen} and {recovered}, {before} and {reached}"
        );
        assert!(k < points || recovered == scene.states.len() - 1, "{why}");
        (before, reached) = (seen, recovered);
        kill_recovery(yard, scene, &left, recovered, k, &why);
    }
    points
}

/// Kills the recovery before each of its stores, or some of them.
fn kill_recovery(yard: &Yard, scene: &Scene, left: &[u8], reached: usize, k: u32, why: &str) {
    let lock = |store: &Store| drop(store.attachment.lock().unwrap());
    let name = yard.put(left);
    let store = yard.options().open(&name).unwrap();
    let ((), points) = count(|| lock(&store));
    drop(store);
    yard.take(&name);
    let step = scale(13, 1) as u32;
    for j in (k % step..points).step_by(step as usize) {
        let why = format!("{why}, and {j} of {points} of the recovery");
        let name = yard.put(left);
        let store = yard.options().open(&name).unwrap();
        assert!(killed_after(j, || lock(&store)).is_none(), "{why}");
        store.attachment.door().lock.word().store(0, Relaxed);
        drop(store);
        assert!(read_only(yard, scene, &name, &why) <= reached, "{why}");
        assert_eq!(recover(yard, scene, &name, &why), reached, "{why}");
    }
}

/// What one who takes no lock sees of a change that was cut short: which of its states.
pub(super) fn read_only(yard: &Yard, scene: &Scene, name: &str, why: &str) -> usize {
    let reader = yard.options().read_only().open(name).unwrap();
    state(scene, &content_of(&reader), why)
}

/// Lets another handle do something, and looks at all of the store: in which state it is. Takes
/// the store away.
pub(super) fn recover(yard: &Yard, scene: &Scene, name: &str, why: &str) -> usize {
    let store = yard.options().open(name).unwrap();
    let version = store.set::<[u8]>(PROBE, &[3; 40]).unwrap();
    store.verify().unwrap_or_else(|e| panic!("{why}: {e}"));
    let mut content = content_of(&store);
    assert_eq!(store.len(), content.len(), "{why}");
    for key in content.keys().filter(|key| *key != PROBE) {
        let older = version_of(&store, key);
        assert!(older < version, "{why}: {key} is of {older}");
    }
    assert_eq!(content.remove(PROBE), Some(vec![3; 40]), "{why}");
    let is = state(scene, &content, why);
    // What the killed one had taken and written is used again.
    for key in &scene.more {
        store.set::<[u8]>(key, &[4; 20]).unwrap();
    }
    store.verify().unwrap_or_else(|e| panic!("{why}: {e}"));
    for key in scene.more.iter().map(|key| &key[..]).chain([PROBE]) {
        assert!(store.delete(key).unwrap(), "{why}: {key}");
    }
    store.verify().unwrap_or_else(|e| panic!("{why}: {e}"));
    assert_eq!(content_of(&store), content, "{why}");
    assert_eq!(store.len(), content.len(), "{why}");
    drop(store);
    yard.take(name);
    is
}

fn version_of(store: &Store, key: &str) -> u64 {
    let key = store.attachment.key(key.as_bytes()).unwrap();
    let stamp = |entry: &Entry<'_>| entry.is_still().then_some(entry.stamp).ok_or(Torn);
    store.attachment.read(&key, stamp).unwrap().unwrap()
}

fn state(scene: &Scene, content: &Content, why: &str) -> usize {
    let state = scene.states.iter().position(|state| state == content);
    state.unwrap_or_else(|| {
        let [before, after] = [&scene.states[0], &scene.states[scene.states.len() - 1]];
        let odd = |one: &Content, other: &Content| {
            let odd = one
                .iter()
                .filter(|(key, value)| other.get(*key) != Some(value));
            odd.map(|(key, _)| key.clone()).collect::<Vec<_>>()
        };
        let [gone, odd] = [odd(before, content), odd(content, after)];
        panic!("{why}: not as before {gone:?}, not as after {odd:?}")
    })
}

/// Who sleeps on a key is woken by whoever finishes the change.
#[test]
fn a_killed_change_is_told_to_those_who_watch() {
    let yard = Yard::new("store-watch-kills");
    let key = "watched";
    let image = yard.image(|store| {
        store.set::<[u8]>(key, b"old").unwrap();
        drop(store.watch::<[u8]>(key).unwrap());
    });
    let mut rung = 0;
    for k in 0.. {
        let name = yard.put(&image);
        let [store, successor] = [0, 1].map(|_| yard.options().open(&name).unwrap());
        let hash = store.attachment.key(key.as_bytes()).unwrap().hash;
        let word = || {
            let words = &successor.attachment.door().watch;
            words[hash as usize % words.len()].seen()
        };
        let before = word();
        let outcome = killed_after(k, || store.set::<[u8]>(key, b"new").unwrap());
        store.attachment.door().lock.word().store(0, Relaxed);
        drop(successor.attachment.lock().unwrap());
        let is_new = successor.get::<[u8]>(key).unwrap().as_deref() == Some(b"new");
        assert!(!is_new || word() != before, "killed before store {k}");
        rung += u32::from(is_new);
        drop((store, successor));
        yard.take(&name);
        if outcome.is_some() {
            break;
        }
    }
    // It was so more often than by the whole change.
    assert!(rung > 5, "{rung}");
}
