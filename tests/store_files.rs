//! A store as a file: it outlives its processes at a path, is looked at after a reboot, leaves
//! nothing when it is removed, and grows no further than there is room.

mod common;

use common::stores::{self, actor, actor_with, fill, options, version_of};
use common::{Domain, LONG, Process, hear, play, say, scale, skip};
use ringlane::{Error, Store};
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

#[test]
#[ignore = "what the processes of these tests run"]
fn process() {
    play(|role, arguments| match role {
        "store actor" => stores::act(arguments),
        "full" => fill_the_file_system(arguments[0]),
        other => panic!("{other:?}"),
    });
}

/// A directory for stores at a path, which must be empty in the end.
struct Scratch(PathBuf);

impl Scratch {
    fn new(domain: &Domain) -> Scratch {
        let path = std::env::temp_dir().join(domain.name());
        fs::create_dir(&path).unwrap();
        Scratch(path)
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }

    /// The names of all files in it.
    fn files(&self) -> Vec<String> {
        names_in(&self.0)
    }

    /// Writes a word of a file that nobody has open.
    fn patch(&self, file: &str, at: u64, word: u64) {
        let file = self.open(file);
        file.write_all_at(&word.to_ne_bytes(), at).unwrap();
    }

    fn word(&self, file: &str, at: u64) -> u64 {
        let mut bytes = [0; 8];
        self.open(file).read_exact_at(&mut bytes, at).unwrap();
        u64::from_ne_bytes(bytes)
    }

    fn open(&self, file: &str) -> fs::File {
        let options = fs::File::options().read(true).write(true).clone();
        options.open(self.0.join(file)).unwrap()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let left = self.files();
        let _ = fs::remove_dir_all(&self.0);
        if !std::thread::panicking() {
            assert!(left.is_empty(), "{left:?} is left");
        }
    }
}

fn names_in(path: &Path) -> Vec<String> {
    let entries = fs::read_dir(path).unwrap();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

// Where the words lie.
const BOOT_ID: u64 = 152;
const KEYS: u64 = 392;
const LOCK: u64 = 53_248;
const ROSTER_BOOT_ID: u64 = 128;

// ---- At a path.

/// In https://github.com/python/cpython/issues/82300 the first process that ends removes it
/// from under the others.
#[test]
fn a_store_at_a_path_outlives_all_its_processes() {
    let domain = Domain::new("outlives");
    let scratch = Scratch::new(&domain);
    // In two processes, of which one is killed and one ends in order.
    let mut first = actor(scratch.path());
    assert_eq!(first.ask("create s"), "Ok(())");
    assert_eq!(first.ask("set key 1"), "Ok(())");
    assert_eq!(scratch.files(), ["roster", "s.store"]);
    let mut second = actor_with(scratch.path(), "s");
    assert_eq!(second.ask("set more 2"), "Ok(())");
    assert_eq!(second.ask("sync"), "Ok(())");
    first.kill();
    second.finish();
    assert_eq!(scratch.files(), ["roster", "s.store"]);
    for round in 0..3 {
        // And the next comes, to read, or to write.
        let reader = options(scratch.path()).read_only().open("s").unwrap();
        assert_eq!(reader.get::<u64>("key").unwrap(), Some(1 + round));
        assert_eq!(reader.get::<u64>("more").unwrap(), Some(2));
        reader.verify().unwrap();
        drop(reader);
        let mut next = actor_with(scratch.path(), "s");
        assert_eq!(next.ask(&format!("set key {}", 2 + round)), "Ok(())");
        assert_eq!(next.ask("verify"), "Ok(())");
        next.finish();
        assert_eq!(scratch.files(), ["roster", "s.store"]);
    }
    // A second store, by another way to write the same directory.
    let other = Store::options().path(scratch.0.join("."));
    let other = other.open_or_create("other").unwrap();
    other.set("key", &3u64).unwrap();
    assert_eq!(scratch.files(), ["other.store", "roster", "s.store"]);
    // What is no store is nobody's business.
    fs::write(scratch.0.join("notes"), "mine").unwrap();
    options(scratch.path()).remove("s").unwrap();
    assert_eq!(scratch.files(), ["notes", "other.store", "roster"]);
    other.remove().unwrap();
    drop(other);
    assert_eq!(scratch.files(), ["notes"]);
    let missing = options(scratch.path()).open("s");
    assert!(matches!(missing, Err(Error::NotFound { .. })));
    assert_eq!(scratch.files(), ["notes"]);
    fs::remove_file(scratch.0.join("notes")).unwrap();
    // The directory is not ours to make.
    let nowhere = options(scratch.0.join("nowhere").to_str().unwrap());
    assert!(matches!(nowhere.create("s"), Err(Error::Io { .. })));
}

/// Makes a store with some values at the path, which nobody has open then.
fn leave_a_store(scratch: &Scratch) {
    let store = options(scratch.path()).create("s").unwrap();
    for i in 0..3000u64 {
        store.set(format!("key-{i}"), &i).unwrap();
    }
    assert_eq!(store.len(), 3000);
    store.sync().unwrap();
}

#[test]
fn after_a_reboot_the_whole_store_is_looked_at() {
    let domain = Domain::new("reboot");
    let scratch = Scratch::new(&domain);
    leave_a_store(&scratch);
    let opened = || options(scratch.path()).open("s");
    let read_only = || options(scratch.path()).read_only().open("s");
    let boot_id = |file: &str, at| [0, 8].map(|word| scratch.word(file, at + word));
    let ours = boot_id("s.store", BOOT_ID);
    let ours_of_roster = boot_id("roster", ROSTER_BOOT_ID);
    let reboot = |roster_too: bool| {
        scratch.patch("s.store", BOOT_ID, !ours[0]);
        if roster_too {
            scratch.patch("roster", ROSTER_BOOT_ID, !ours_of_roster[0]);
        }
    };
    let is_damaged = |opened: Result<Store, Error>| match opened {
        Err(Error::Damaged { path, flaws }) => {
            assert!(path.ends_with("/s.store"), "{path}");
            assert_eq!(flaws.len(), 1, "{flaws:?}");
            assert!(flaws[0].contains("keys"), "{flaws:?}");
        }
        other => panic!("{other:?}"),
    };
    for roster_too in [false, true] {
        // All is well: it is opened, and the next does not look.
        reboot(roster_too);
        // Left locked, by one whose slot others may have by now.
        scratch.patch("s.store", LOCK, 0x8000_0100);
        assert_eq!(read_only().unwrap().get::<u64>("key-7").unwrap(), Some(7));
        assert_ne!(boot_id("s.store", BOOT_ID), ours);
        let store = opened().unwrap();
        assert_eq!(store.get::<u64>("key-7").unwrap(), Some(7));
        store.set("key-7", &7u64).unwrap();
        drop(store);
        assert_eq!(boot_id("s.store", BOOT_ID), ours);
        assert_eq!(boot_id("roster", ROSTER_BOOT_ID), ours_of_roster);
        // Something is wrong: nobody gets it.
        let keys = scratch.word("s.store", KEYS);
        scratch.patch("s.store", KEYS, keys + 1);
        assert_eq!(opened().unwrap().get::<u64>("key-7").unwrap(), Some(7));
        is_damaged(opened().unwrap().verify().and_then(|()| opened()));
        reboot(roster_too);
        for _ in 0..2 {
            is_damaged(opened());
            is_damaged(options(scratch.path()).open_or_create("s"));
            is_damaged(read_only());
        }
        assert_ne!(boot_id("s.store", BOOT_ID), ours);
        scratch.patch("s.store", KEYS, keys);
        assert_eq!(opened().unwrap().len(), 3000);
        assert_eq!(boot_id("s.store", BOOT_ID), ours);
    }
    options(scratch.path()).remove("s").unwrap();
}

/// What a writer who looks at it has half done is no damage.
#[test]
fn after_a_reboot_a_reader_waits_for_a_writer_that_looks_at_it() {
    let domain = Domain::new("reboot-reader");
    let scratch = Scratch::new(&domain);
    leave_a_store(&scratch);
    let mut writer = actor_with(scratch.path(), "s");
    assert_eq!(writer.ask("hold key"), "inside");
    let [ours, keys] = [BOOT_ID, KEYS].map(|at| scratch.word("s.store", at));
    scratch.patch("s.store", BOOT_ID, !ours);
    scratch.patch("s.store", KEYS, keys + 1);
    let opened = std::thread::scope(|scope| {
        let options = options(scratch.path()).read_only();
        let opening = scope.spawn(|| options.lock_timeout(LONG).open("s"));
        std::thread::sleep(Duration::from_millis(50));
        // It has looked at all.
        scratch.patch("s.store", BOOT_ID, ours);
        opening.join().unwrap()
    });
    assert_eq!(opened.unwrap().get::<u64>("key-7").unwrap(), Some(7));
    // One who died at it is not waited for.
    scratch.patch("s.store", BOOT_ID, !ours);
    writer.kill();
    let patient = options(scratch.path()).read_only();
    let opened = patient.lock_timeout(Duration::MAX).open("s");
    assert!(matches!(opened, Err(Error::Damaged { .. })), "{opened:?}");
    scratch.patch("s.store", KEYS, keys);
    options(scratch.path()).remove("s").unwrap();
}

#[test]
fn without_its_roster_a_store_is_only_read_or_removed() {
    let domain = Domain::new("foreign");
    let scratch = Scratch::new(&domain);
    let is_foreign = || match options(scratch.path()).open("s") {
        Err(Error::ForeignRoster { path }) => assert!(path.ends_with("/s.store"), "{path}"),
        other => panic!("{other:?}"),
    };
    leave_a_store(&scratch);
    fs::remove_file(scratch.0.join("roster")).unwrap();
    is_foreign();
    let reader = options(scratch.path()).read_only().open("s").unwrap();
    assert_eq!(reader.get::<u64>("key-7").unwrap(), Some(7));
    // Nor is the roster of others its own.
    let other = options(scratch.path()).create("other").unwrap();
    is_foreign();
    other.remove().unwrap();
    drop(other);
    options(scratch.path()).remove("s").unwrap();
    assert!(scratch.files().iter().all(|name| name == "roster"));
    drop(reader);
    // With nobody's roster there.
    leave_a_store(&scratch);
    fs::remove_file(scratch.0.join("roster")).unwrap();
    options(scratch.path()).remove("s").unwrap();
    assert!(scratch.files().is_empty());
    // Copied together with its roster it is a store like any other.
    leave_a_store(&scratch);
    let copy = scratch.0.join("copy");
    fs::create_dir(&copy).unwrap();
    for name in ["s.store", "roster"] {
        fs::copy(scratch.0.join(name), copy.join(name)).unwrap();
    }
    let copied = options(copy.to_str().unwrap()).open("s").unwrap();
    let store = options(scratch.path()).open("s").unwrap();
    store.set("key-7", &8u64).unwrap();
    assert_eq!(copied.get::<u64>("key-7").unwrap(), Some(7));
    copied.verify().unwrap();
    store.remove().unwrap();
    copied.remove().unwrap();
    drop((store, copied));
    assert_eq!(scratch.files(), ["copy"]);
    fs::remove_dir(copy).unwrap();
}

// ---- No space.

/// So many buckets that a few hundred keys never need one more: where there is no room for that, there
/// may still be room for a value.
const CAPACITY: u64 = 8_000;

#[test]
fn a_store_grows_to_its_size_and_no_further() {
    let domain = Domain::new("size");
    let most = 1 << 20;
    let options = options(domain.name()).capacity(CAPACITY);
    let store = options.max_size(most).create("s").unwrap();
    let count = fill_up(&store, 1000, |needed, _| {
        assert!(needed >= 1000, "{needed}")
    });
    let size = fs::metadata(domain.path().join("s.store")).unwrap().len();
    assert!(size <= most && size > most - (64 << 10), "{size}");
    assert_eq!(store.stats().max_size, most);
    // Whoever opens it knows.
    let mut other = actor_with(domain.name(), "s");
    assert_eq!(other.ask("len"), count.to_string());
    use_when_full(&store, count, 1000);
    other.finish();
    store.remove().unwrap();
}

fn name(key: u64) -> String {
    format!("key-{key}")
}

/// Stores values of that length until there is no space. Gives how many there are then.
fn fill_up(store: &Store, len: usize, refused: impl FnOnce(u64, u64)) -> u64 {
    let mut value = Vec::new();
    let mut count = 0;
    loop {
        fill(&mut value, count, 0, len);
        match store.set::<[u8]>(name(count), &value) {
            Ok(_) => count += 1,
            Err(Error::NoSpace { path, needed, free }) => {
                assert!(Path::new(&path).is_dir(), "{path}");
                refused(needed, free);
                break;
            }
            Err(e) => panic!("{e:?}"),
        }
    }
    let is_refused = store.insert_new::<[u8]>(name(count), &value);
    assert!(matches!(is_refused, Err(Error::NoSpace { .. })));
    assert!(!store.contains(name(count)).unwrap());
    store.verify().unwrap();
    count
}

/// A store that is full, of values of one length, is a store like any other, but full.
fn use_when_full(store: &Store, count: u64, len: usize) {
    let mut value = Vec::new();
    let mut read = Vec::new();
    let mut all_are = |versions: &dyn Fn(u64) -> u64| {
        assert_eq!(store.len() as u64, count);
        for key in 0..count {
            assert!(store.get_into(name(key), &mut read).unwrap());
            assert_eq!((version_of(&read, key), read.len()), (versions(key), len));
        }
    };
    all_are(&|_| 0);
    // To store another value takes room for both: there is none, and the old one stays.
    fill(&mut value, 0, 1, len);
    let refused = store.set::<[u8]>(name(0), &value);
    assert!(matches!(refused, Err(Error::NoSpace { .. })));
    let refused = store.update::<[u8]>(name(0), |_| Some(value.clone()));
    assert!(matches!(refused, Err(Error::NoSpace { .. })));
    all_are(&|_| 0);
    // What is deleted makes room for as much, under whatever key, again and again.
    for round in 1..=scale(3, 50) as u64 {
        for key in 0..count {
            assert!(store.delete(name(key)).unwrap());
            fill(&mut value, key, round, len);
            assert!(
                store
                    .insert_new::<[u8]>(name(key), &value)
                    .unwrap()
                    .is_some()
            );
        }
        all_are(&|_| round);
    }
    store.clear().unwrap();
    assert!(store.is_empty());
    store.verify().unwrap();
    for key in 0..count {
        fill(&mut value, key, 0, len);
        store.set::<[u8]>(name(key), &value).unwrap();
    }
    all_are(&|_| 0);
    store.verify().unwrap();
}

/// In a file system of 1 MiB.
fn fill_the_file_system(place: &str) {
    let file_system = std::env::var("RINGLANE_DIR").unwrap();
    for len in [24, 100, 1000, 10_000, 100_000] {
        let capacity = if len < 1000 { 0 } else { CAPACITY };
        let store = options(place).capacity(capacity).create("s").unwrap();
        let reader = options(place).read_only().open("s").unwrap();
        let mut other = actor_with(place, "s");
        let count = fill_up(&store, len, |needed, free| {
            assert!(needed < 1 << 20, "{needed}");
            assert!(free < needed, "{free} free, {needed} needed");
        });
        let size = store.stats().file_bytes;
        assert!(size > 700_000, "{count} of {len} in {size}");
        // Others meet the same, read all, and are not killed.
        let mut smaller = 0;
        let refused = loop {
            match other.ask(&format!("set another-{smaller} 1")) {
                answer if answer == "Ok(())" => smaller += 1,
                answer => break answer,
            }
        };
        assert!(refused.starts_with("Err(NoSpace"), "{refused}");
        assert!(refused.contains(&file_system), "{refused}");
        for n in 0..smaller {
            assert_eq!(other.ask(&format!("delete another-{n}")), "Ok(true)");
        }
        assert_eq!(other.ask("len"), count.to_string());
        assert_eq!(other.ask("verify"), "Ok(())");
        for key in 0..count {
            let value = reader.get::<[u8]>(name(key)).unwrap().unwrap();
            assert_eq!(version_of(&value, key), 0);
        }
        // A new store does not fit, and does no harm.
        let new = options(place).create("new");
        assert!(matches!(new, Err(Error::NoSpace { .. })));
        use_when_full(&store, count, len);
        other.finish();
        store.remove().unwrap();
    }
    assert!(names_in(Path::new(&file_system)).is_empty());
    say("done");
    hear();
}

#[test]
fn a_small_file_system_is_no_space_and_no_signal() {
    let domain = Domain::new("full");
    let scratch = Scratch::new(&domain);
    // A mount that only this process sees.
    let namespaces = if rustix::process::geteuid().is_root() {
        "-m"
    } else {
        "-Urm"
    };
    let mut unshare = Command::new("unshare");
    let works = unshare.args([namespaces, "true"]).output();
    if !works.is_ok_and(|o| o.status.success()) {
        let why = format!("`unshare {namespaces}` is not possible here");
        return skip("no-room", &why);
    }
    for place in ["d", scratch.path()] {
        let mut unshare = Command::new("unshare");
        unshare.arg(namespaces).args(["sh", "-c"]);
        unshare.arg(r#"mount -t tmpfs -o size=1m,mode=0700 tmpfs "$RINGLANE_DIR" && exec "$@""#);
        unshare.arg("sh").arg(std::env::current_exe().unwrap());
        unshare.env("RINGLANE_DIR", scratch.path());
        let mut process = Process::start_by(unshare, "full", &[place]);
        assert_eq!(process.line(), "done");
        process.finish();
    }
}
