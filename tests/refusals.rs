//! Bad input gets a typed error that names what is wrong, and what was refused is untouched.
//!
//! No name and no file makes a call panic, hang, follow a link or wait for a writer.

mod common;

use common::actor::{self, act};
use common::seen::{Facts, Seen, gave_away, tally_refusals};
use common::{Domain, LONG, Process, play, say, skip, tally};
use ringlane::zerocopy::{Immutable, IntoBytes, KnownLayout, TryFromBytes};
use ringlane::{Channel, Error, Message, Plain, Result, Store};
use std::fs::{self, File, Permissions};
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

#[test]
#[ignore = "what the processes of these tests run"]
fn process() {
    play(|role, arguments| match role {
        "actor" => act(arguments),
        "base" => try_base(),
        "small" => fill_small_file_system(),
        other => panic!("{other:?}"),
    });
}

// ---- Names.

#[test]
fn what_is_no_name_is_refused_everywhere() {
    let domain = Domain::new("names");
    let keeper = domain.of::<u64>().create("keeper").unwrap();
    let long = "x".repeat(101);
    let bad = [
        "",
        &long,
        "/",
        "a/b",
        "../keeper",
        "..",
        ".",
        ".hidden",
        "a\0b",
        "\0",
        "-a",
        "_a",
        "a b",
        "a\n",
        "ä",
        "a:b",
        "~",
    ];
    for name in bad {
        let is_bad = |outcome: Result<Channel<u64>>| match outcome {
            Err(Error::BadName { name: told }) => assert_eq!(told, name),
            other => panic!("{name:?}: {other:?}"),
        };
        is_bad(domain.of().create(name));
        is_bad(domain.of().open(name));
        is_bad(domain.of().open_timeout(name, LONG));
        let options = || Channel::<u64>::options().domain(name);
        is_bad(options().create("c"));
        is_bad(options().open("c"));
        is_bad(options().open_timeout("c", LONG));
    }
    assert_eq!(list(&domain.path()), ["keeper.channel", "roster"]);
    // The longest and the oddest names are good.
    let longest = "x".repeat(100);
    for name in [
        &longest[..],
        "0",
        "A.b_c-d",
        "a..b",
        "x.channel",
        "roster",
        "runtime",
    ] {
        let host = domain.of::<u64>().create(name).unwrap();
        assert_eq!(host.name(), name);
        drop(domain.of::<u64>().open(name).unwrap());
    }
    drop(keeper);
    let domain_of_that_name = Channel::<u64>::options().domain(&longest).create("c");
    drop(domain_of_that_name.unwrap());
}

fn list(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    let mut names: Vec<_> = entries
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn what_is_not_there_is_not_found() {
    let domain = Domain::new("not-found");
    let missing = |outcome: Result<Channel<u64>>| match outcome {
        Err(Error::NotFound { name }) => assert_eq!(name, "c"),
        other => panic!("{other:?}"),
    };
    // No domain; looking does not make one.
    missing(domain.of().open("c"));
    missing(domain.of().open_timeout("c", Duration::from_millis(10)));
    assert!(!domain.path().exists());
    // A domain, but no such channel.
    let host = domain.of::<u64>().create("another").unwrap();
    missing(domain.of().open("c"));
    missing(domain.of().open_timeout("c", Duration::from_millis(10)));
    drop(host);
    missing(domain.of().open("c"));
}

// ---- Somebody has it.

#[test]
fn a_held_end_is_taken_and_names_its_holder() {
    let domain = Domain::new("taken");
    let taken_by = |outcome: Result<Channel<u64>>, by: u32| match outcome {
        Err(Error::EndTaken { name, pid }) => assert_eq!((&name[..], pid), ("c", by)),
        other => panic!("{other:?}"),
    };
    let exists = |outcome: Result<Channel<u64>>| match outcome {
        Err(Error::AlreadyExists { name }) => assert_eq!(name, "c"),
        other => panic!("{other:?}"),
    };
    // By ourselves.
    let mut host = domain.of::<u64>().create("c").unwrap();
    let mut guest = domain.of::<u64>().open("c").unwrap();
    taken_by(domain.of().open("c"), std::process::id());
    exists(domain.of().create("c"));
    // Not even what would be dropped on a take-over is dropped.
    host.send(1).unwrap();
    taken_by(
        domain.of().keep_undelivered(false).open("c"),
        std::process::id(),
    );
    exists(domain.of().keep_undelivered(false).create("c"));
    assert_eq!(guest.recv(), Ok(1));
    drop((guest, host));
    // By another process.
    let mut host = actor::host(domain.name(), "c");
    let mut guest = actor::guest(domain.name(), "c");
    taken_by(domain.of().open("c"), guest.pid());
    exists(domain.of().create("c"));
    assert_eq!(guest.ask("send 2"), "Ok(())");
    assert_eq!(host.ask("recv"), "Ok(2)");
    // It is its death that makes an end free, and nothing else.
    guest.kill();
    exists(domain.of().create("c"));
    drop(domain.of::<u64>().open("c").unwrap());
    host.kill();
    drop(domain.of::<u64>().create("c").unwrap());
}

// ---- Another type, another layout.

/// Same name, same codec, another shape.
#[derive(TryFromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
struct Wide(u64);

impl Message for Wide {
    const NAME: &str = "u32";
    type Codec = Plain;
}

#[test]
fn another_type_is_a_mismatch_that_names_both() {
    let domain = Domain::new("types");
    let mut host = domain.of::<u32>().create("c").unwrap();
    fn mismatch<T: Message + ?Sized>(outcome: Result<Channel<T>>, ours: &str, theirs: &str) {
        match outcome {
            Err(Error::TypeMismatch {
                name,
                expected,
                found,
            }) => {
                assert_eq!(name, "c");
                assert!(expected.starts_with(ours), "{expected}");
                assert!(found.starts_with(theirs), "{found}");
                let shown = Error::TypeMismatch {
                    name,
                    expected,
                    found,
                }
                .to_string();
                assert!(shown.contains(ours) && shown.contains(theirs), "{shown}");
            }
            other => panic!("{other:?}"),
        }
    }
    let before = Seen::of(&domain.file("c"));
    mismatch(domain.of::<u64>().open("c"), "u64", "u32");
    mismatch(domain.of::<i32>().open("c"), "i32", "u32");
    mismatch(domain.of::<str>().open("c"), "str", "u32");
    mismatch(
        domain.of::<Wide>().open("c"),
        "u32 (plain, 8",
        "u32 (plain, 4",
    );
    mismatch(domain.of::<u64>().open_timeout("c", LONG), "u64", "u32");
    before.has_the_same_content();
    // Whose type fits finds everything in order.
    let mut guest = domain.of::<u32>().open("c").unwrap();
    host.send(7).unwrap();
    assert_eq!(guest.recv(), Ok(7));
    // A dead host's channel keeps its type as long as somebody uses it.
    drop(host);
    drop(guest);
    let mut dead = actor::host(domain.name(), "c");
    dead.kill();
    let mut guest = actor::guest(domain.name(), "c");
    mismatch(domain.of::<str>().create("c"), "str", "u64");
    assert_eq!(
        guest.ask("try_recv"),
        format!("Err(Recv(PeerDied {{ pid: {} }}))", dead.pid())
    );
    // And is replaced when nobody does.
    guest.finish();
    let mut host = domain.of::<str>().create("c").unwrap();
    let mut guest = domain.of::<str>().open("c").unwrap();
    host.send("new").unwrap();
    assert_eq!(guest.recv().unwrap(), "new");
}

/// Where things lie in a segment; `src/layout.rs` has the drawing. These are promised never to
/// move.
const VERSION: u64 = 8;
const SIZE: u64 = 16;
const ROSTER: u64 = 24;
/// These may change with the layout version.
const CAPACITY: u64 = 128;

fn patch(path: &Path, at: u64, word: u64) {
    let file = File::options().write(true).open(path).unwrap();
    file.write_all_at(&word.to_ne_bytes(), at).unwrap();
}

fn word(path: &Path, at: u64) -> u64 {
    let mut bytes = [0; 8];
    File::open(path)
        .unwrap()
        .read_exact_at(&mut bytes, at)
        .unwrap();
    u64::from_ne_bytes(bytes)
}

/// A channel whose ends are both dead, with a message in it.
fn abandoned(domain: &Domain) -> PathBuf {
    let mut host = actor::host(domain.name(), "c");
    assert_eq!(host.ask("send 7"), "Ok(())");
    host.kill();
    domain.file("c")
}

/// In https://github.com/eclipse-iceoryx/iceoryx2/issues/619 it is called corrupted; other errors of
/// which nobody can tell what does not match are https://github.com/eclipse-iceoryx/iceoryx2/issues/841,
/// https://github.com/eclipse-iceoryx/iceoryx2/issues/1361 and
/// https://github.com/eProsima/Fast-DDS/issues/2003.
#[test]
fn another_layout_names_both_versions() {
    let domain = Domain::new("layout");
    let file = abandoned(&domain);
    let version = word(&file, VERSION);
    patch(&file, VERSION, version + 41);
    let before = Seen::of(&file);
    let other_layout = |outcome: Result<Channel<u64>>| match outcome {
        Err(Error::Layout {
            path,
            expected,
            found,
        }) => {
            assert_eq!(Path::new(&path), file);
            assert_eq!(expected, version as u32);
            assert_eq!(found, version as u32 + 41);
        }
        other => panic!("{other:?}"),
    };
    other_layout(domain.of().open("c"));
    other_layout(domain.of().open_timeout("c", LONG));
    before.is_untouched();
    // Somebody lives there, whatever the layout.
    patch(&file, VERSION, version);
    let mut guest = actor::guest(domain.name(), "c");
    patch(&file, VERSION, version + 41);
    other_layout(domain.of().create("c"));
    assert_eq!(guest.ask("recv"), "Ok(7)");
    guest.kill();
    // A dead file of another layout is replaced.
    drop(domain.of::<u64>().create("c").unwrap());
    assert!(!file.exists());
}

/// In each kind of file, one word of the header is not what it should be.
#[test]
fn headers_of_others_are_named() {
    let domain = Domain::new("headers");
    let channel = abandoned(&domain);
    drop(Store::options().domain(domain.name()).create("s").unwrap());
    type Open = fn(&str) -> Option<Error>;
    let tries: [(PathBuf, Open); 3] = [
        (channel, |domain| {
            let options = Channel::<u64>::options().domain(domain);
            options.open("c").err()
        }),
        (domain.path().join("s.store"), |domain| {
            Store::options().domain(domain).open("s").err()
        }),
        (domain.path().join("roster"), |domain| {
            let options = Channel::<u64>::options().domain(domain);
            options.create("new").err()
        }),
    ];
    let mut count = 0;
    for (file, open) in tries {
        let mut with = |at: u64, value: u64| {
            let sound = word(&file, at);
            patch(&file, at, value);
            let before = Seen::of(&file);
            let error = open(domain.name());
            let error = error.unwrap_or_else(|| panic!("{file:?} with {value:x} at {at}"));
            before.has_the_same_content();
            patch(&file, at, sound);
            count += 1;
            error
        };
        let [magic, version, size] = [0, VERSION, SIZE].map(|at| word(&file, at));
        let ours = version as u32;
        for theirs in [0, 1, ours - 1, ours + 1, ours.swap_bytes(), 1000, u32::MAX] {
            match with(VERSION, version & !0xffff_ffff | u64::from(theirs)) {
                Error::Layout {
                    path,
                    expected,
                    found,
                } => assert_eq!((Path::new(&path), expected, found), (&*file, ours, theirs)),
                other => panic!("{theirs}: {other:?}"),
            }
        }
        let mut is_refused = |at: u64, values: &[u64], why: &str| {
            for value in values {
                match with(at, *value) {
                    Error::Refused { path, why: told } => {
                        assert_eq!(Path::new(&path), file);
                        assert!(told.contains(why), "{value:x}: {told:?} instead of {why:?}");
                    }
                    other => panic!("{value:x}: {other:?}"),
                }
            }
        };
        let magics = [0, 1, !magic, magic.swap_bytes(), magic ^ 1, magic ^ 1 << 63];
        is_refused(0, &magics, "no segment");
        let kind = version >> 32;
        let kinds = [0, 1, 2, 3, 4, 255, 0xffff_ffff].map(|other| other << 32 | u64::from(ours));
        let kinds: Vec<_> = kinds.into_iter().filter(|k| k >> 32 != kind).collect();
        is_refused(VERSION, &kinds, "kind");
        is_refused(SIZE, &[size + 4096, size.swap_bytes(), u64::MAX], "size");
        // A store may have grown since.
        if file.extension() != Some("store".as_ref()) {
            is_refused(SIZE, &[0, 1, size - 8], "size");
        }
    }
    tally("mismatch", "headers with a word of another", count);
    let mut guest = domain.of::<u64>().open("c").unwrap();
    assert_eq!(guest.try_recv(), Ok(7));
    drop(guest);
    domain.remove::<u64>("c");
    let store = Store::options().domain(domain.name()).open("s").unwrap();
    store.remove().unwrap();
}

#[test]
fn a_segment_of_another_kind_is_no_channel() {
    let domain = Domain::new("kind");
    let file = abandoned(&domain);
    patch(&file, VERSION, word(&file, VERSION) + (1 << 32));
    let refused = RefusedCalls::of(&domain);
    refused.all(&file, "kind");
    fs::remove_file(&file).unwrap();
    // The roster goes with whoever leaves next.
    drop(domain.of::<u64>().create("another").unwrap());
}

// ---- Files that are not ours.

/// All calls that meet a file, each of which must refuse it.
struct RefusedCalls<'a>(&'a Domain);

impl<'a> RefusedCalls<'a> {
    fn of(domain: &'a Domain) -> Self {
        RefusedCalls(domain)
    }

    /// They refuse `file`, each naming it and saying something with `why` in it.
    #[track_caller]
    fn all(&self, file: &Path, why: &str) {
        let before = Seen::of(file);
        let options = || self.0.of::<u64>();
        let calls: [(&str, Result<Channel<u64>>); 5] = [
            ("open", options().open("c")),
            ("open_timeout", options().open_timeout("c", LONG)),
            ("create", options().create("c")),
            ("open anew", options().keep_undelivered(false).open("c")),
            ("create anew", options().keep_undelivered(false).create("c")),
        ];
        for (call, outcome) in calls {
            match outcome {
                Err(Error::Refused { path, why: told }) => {
                    assert_eq!(Path::new(&path), file, "{call}");
                    assert!(told.contains(why), "{call}: {told:?} instead of {why:?}");
                }
                other => panic!("{call}: {other:?}"),
            }
        }
        // Who only wants to have a look is not caught by it either.
        let _ = ringlane::inspect::snapshot_domain(self.0.name());
        before.is_untouched();
        tally_refusals(why, 5);
    }
}

#[test]
fn files_that_are_no_segments_are_refused() {
    let domain = Domain::new("no-segments");
    let keeper = domain.of::<u64>().create("keeper").unwrap();
    let file = domain.file("c");
    let refused = RefusedCalls::of(&domain);
    let write = |bytes: &[u8]| {
        let _ = fs::remove_file(&file);
        fs::write(&file, bytes).unwrap();
        fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
    };
    write(b"");
    refused.all(&file, "no segment");
    write(b"not a segment");
    refused.all(&file, "no segment");
    write(&[0; 3 * 4096]);
    refused.all(&file, "no segment");
    write(&[0xff; 3 * 4096]);
    refused.all(&file, "no segment");
    // A hole is not filled in just because somebody looked.
    write(b"");
    File::options()
        .write(true)
        .open(&file)
        .unwrap()
        .set_len(64 << 20)
        .unwrap();
    refused.all(&file, "no segment");
    // A real one, cut short.
    fs::copy(domain.file("keeper"), &file).unwrap();
    let real = File::options().write(true).open(&file).unwrap();
    real.set_len(4096 + 100).unwrap();
    refused.all(&file, "truncated");
    real.set_len(4096).unwrap();
    refused.all(&file, "size");
    real.set_len(0).unwrap();
    refused.all(&file, "truncated");
    // Or made longer.
    fs::copy(domain.file("keeper"), &file).unwrap();
    File::options().append(true).open(&file).unwrap();
    let size = fs::metadata(&file).unwrap().len();
    real.set_len(size + 4096).unwrap();
    refused.all(&file, "size");
    // Or with a header that says another size.
    fs::copy(domain.file("keeper"), &file).unwrap();
    patch(&file, SIZE, word(&file, SIZE) + 4096);
    refused.all(&file, "size");
    fs::remove_file(&file).unwrap();
    drop(keeper);
}

#[test]
fn a_geometry_that_cannot_be_is_corrupt() {
    let domain = Domain::new("geometry");
    for capacity in [0, 1, 4095, 4097, 8192, 1 << 40, u64::MAX] {
        let file = abandoned(&domain);
        patch(&file, CAPACITY, capacity);
        let before = Seen::of(&file);
        match domain.of::<u64>().open("c") {
            Err(Error::Corrupt { path, offset }) => {
                assert_eq!((Path::new(&path), offset), (&*file, CAPACITY));
            }
            other => panic!("{other:?}"),
        }
        before.has_the_same_content();
        // Nobody lives there, so a new one may take its place.
        drop(domain.of::<u64>().create("c").unwrap());
    }
}

#[test]
fn what_is_no_regular_file_is_refused() {
    let domain = Domain::new("no-files");
    let keeper = domain.of::<u64>().create("keeper").unwrap();
    let file = domain.file("c");
    let refused = RefusedCalls::of(&domain);

    symlink(domain.file("keeper"), &file).unwrap();
    let target = Seen::of(&domain.file("keeper"));
    refused.all(&file, "symbolic link");
    target.is_untouched();
    fs::remove_file(&file).unwrap();
    symlink("/nowhere/at/all", &file).unwrap();
    refused.all(&file, "symbolic link");
    fs::remove_file(&file).unwrap();

    fs::create_dir(&file).unwrap();
    refused.all(&file, "directory");
    fs::remove_dir(&file).unwrap();

    let fifo = Command::new("mkfifo")
        .args(["-m", "600"])
        .arg(&file)
        .status();
    assert!(fifo.unwrap().success());
    refused.all(&file, "not a regular file");
    fs::remove_file(&file).unwrap();

    let socket = std::os::unix::net::UnixListener::bind(&file).unwrap();
    refused.all(&file, "not a regular file");
    drop(socket);
    fs::remove_file(&file).unwrap();
    drop(keeper);
}

#[test]
fn files_that_others_can_reach_are_refused() {
    let domain = Domain::new("modes");
    let file = abandoned(&domain);
    let refused = RefusedCalls::of(&domain);
    for mode in [0o660, 0o640, 0o606, 0o604, 0o601, 0o777] {
        fs::set_permissions(&file, Permissions::from_mode(mode)).unwrap();
        refused.all(&file, "others");
    }
    fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
    // A second name, maybe in somebody else's directory.
    let link = domain.path().join("another-name");
    fs::hard_link(&file, &link).unwrap();
    refused.all(&file, "several names");
    fs::remove_file(&link).unwrap();
    if gave_away(&file) {
        refused.all(&file, "another user");
        let me = rustix::process::geteuid().as_raw();
        std::os::unix::fs::chown(&file, Some(me), None).unwrap();
    }
    // After all that it is as good as ever.
    let mut guest = domain.of::<u64>().open("c").unwrap();
    assert_eq!(guest.try_recv(), Ok(7));
    drop(guest);
    domain.remove::<u64>("c");
}

#[test]
fn a_file_of_another_roster_is_foreign() {
    let domain = Domain::new("foreign");
    let file = abandoned(&domain);
    patch(&file, ROSTER, word(&file, ROSTER) ^ 2);
    let before = Seen::of(&file);
    let foreign = |outcome: Result<Channel<u64>>| match outcome {
        Err(Error::ForeignRoster { path }) => assert_eq!(Path::new(&path), file),
        other => panic!("{other:?}"),
    };
    foreign(domain.of().open("c"));
    foreign(domain.of().open_timeout("c", LONG));
    foreign(domain.of().create("c"));
    foreign(domain.of().keep_undelivered(false).create("c"));
    // Not even if it is of another layout or content as well.
    patch(&file, CAPACITY, 1);
    let unusable = domain.of::<u64>().create("c");
    assert!(matches!(
        unusable,
        Err(Error::ForeignRoster { .. } | Error::Corrupt { .. })
    ));
    patch(&file, CAPACITY, 4096);
    let version = word(&file, VERSION);
    patch(&file, VERSION, version + 1);
    let unusable = domain.of::<u64>().create("c");
    assert!(matches!(
        unusable,
        Err(Error::ForeignRoster { .. } | Error::Layout { .. })
    ));
    patch(&file, VERSION, version);
    let now = Facts::of(&file);
    assert!(now.bytes == before.is.bytes, "a foreign file was changed");
    fs::remove_file(&file).unwrap();
    drop(domain.of::<u64>().create("another").unwrap());
}

#[test]
fn a_roster_that_is_none_is_refused() {
    let domain = Domain::new("rosters");
    let keeper = domain.keep_base();
    fs::create_dir(domain.path()).unwrap();
    fs::set_permissions(domain.path(), Permissions::from_mode(0o700)).unwrap();
    let file = domain.path().join("roster");
    let refused = RefusedCalls::of(&domain);
    fs::write(&file, [7; 8192]).unwrap();
    fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
    refused.all(&file, "no segment");
    fs::remove_file(&file).unwrap();
    fs::create_dir(&file).unwrap();
    refused.all(&file, "directory");
    fs::remove_dir(&file).unwrap();
    symlink("/nowhere", &file).unwrap();
    refused.all(&file, "symbolic link");
    fs::remove_file(&file).unwrap();
    // A channel in its place.
    let elsewhere = common::base().join(format!("{}-beside", domain.name()));
    fs::copy(elsewhere.join("keeper.channel"), &file).unwrap();
    refused.all(&file, "kind");
    fs::remove_file(&file).unwrap();
    drop(domain.of::<u64>().create("c").unwrap());
    drop(keeper);
}

// ---- Directories.

#[test]
fn a_domain_that_others_can_reach_is_refused() {
    let domain = Domain::new("domains");
    let path = domain.path();
    let keeper = domain.keep_base();
    let refused = RefusedCalls::of(&domain);
    for mode in [0o770, 0o750, 0o707, 0o701, 0o777] {
        fs::create_dir(&path).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        refused.all(&path, "others");
        fs::remove_dir(&path).unwrap();
    }
    // The domain of somebody else, by another name.
    symlink(format!("{}-beside", domain.name()), &path).unwrap();
    refused.all(&path, "not a directory");
    fs::remove_file(&path).unwrap();
    fs::write(&path, "a file").unwrap();
    refused.all(&path, "not a directory");
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o700)).unwrap();
    if gave_away(&path) {
        refused.all(&path, "another user");
    }
    fs::remove_dir(&path).unwrap();
    drop(keeper);
}

/// A directory of our own on the disk, removed at the end.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Scratch {
        let name = format!("ringlane-{name}-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path).unwrap();
        Scratch(path)
    }

    /// This binary, to be started with `RINGLANE_DIR` there.
    fn command(&self) -> Command {
        let mut command = Command::new("/proc/self/exe");
        command.env("RINGLANE_DIR", &self.0);
        command
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Opens and creates where `RINGLANE_DIR` leads, and says what came of it.
fn try_base() {
    let options = || Channel::<u64>::options().domain("d");
    say(format!("{:?}", options().open("c").map(drop)));
    say(format!("{:?}", options().create("c").map(drop)));
}

#[test]
fn the_users_directory_is_checked_like_a_domain() {
    let _domain = Domain::new("base");
    let scratch = Scratch::new("base");
    let uid = rustix::process::geteuid().as_raw();
    let base = scratch.0.join(format!("ringlane-{uid}"));
    let both_say = |what: &str| {
        let mut process = Process::start_by(scratch.command(), "base", &[]);
        for _ in 0..2 {
            let line = process.line();
            assert!(line.contains(what), "{line}");
        }
        process.finish();
    };
    fs::create_dir(&base).unwrap();
    fs::set_permissions(&base, Permissions::from_mode(0o770)).unwrap();
    both_say("others may access it");
    fs::remove_dir(&base).unwrap();
    fs::write(&base, "a file").unwrap();
    both_say("it is not a directory");
    fs::remove_file(&base).unwrap();
    let real = scratch.0.join("real");
    fs::create_dir(&real).unwrap();
    fs::set_permissions(&real, Permissions::from_mode(0o700)).unwrap();
    symlink(&real, &base).unwrap();
    both_say("it is not a directory");
    assert!(list(&real).is_empty());
    fs::remove_file(&base).unwrap();
    // With nothing in the way all is well, and nothing is left.
    let mut process = Process::start_by(scratch.command(), "base", &[]);
    assert!(process.line().contains("NotFound"));
    assert_eq!(process.line(), "Ok(())");
    process.finish();
    assert!(!base.exists());
}

// ---- No space.

/// In a file system of 1 MiB: what does not fit is refused, and does no harm.
fn fill_small_file_system() {
    let options = || Channel::<[u8]>::options().domain("d");
    let place = std::env::var("RINGLANE_DIR").unwrap();
    let files = |path: &str| list(Path::new(path));
    // 8 MiB, with nobody there yet, and then with others there.
    for round in 0..2 {
        let keeper = (round == 1).then(|| options().capacity(4096).create("keeper").unwrap());
        let before = round == 1;
        match options().capacity(4 << 20).create("large") {
            Err(Error::NoSpace { path, needed, free }) => {
                assert!(path.starts_with(&place) && path.ends_with("/d"), "{path}");
                assert!((8 << 20..9 << 20).contains(&needed), "{needed}");
                assert!((1 << 19..=1 << 20).contains(&free), "{free}");
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(files(&place).len(), usize::from(before));
        drop(keeper);
        assert!(files(&place).is_empty());
    }
    // What does not fit now fits later, and what is there goes on.
    let mut channels = Vec::new();
    let refused = loop {
        let name = format!("c{}", channels.len());
        match options().capacity(64 << 10).create(&name) {
            Ok(host) => channels.push((options().open(&name).unwrap(), host)),
            Err(e) => break e,
        }
    };
    assert!(matches!(refused, Error::NoSpace { .. }), "{refused:?}");
    assert!(channels.len() > 3, "{}", channels.len());
    // On a full file system every page of every channel can be written.
    for (guest, host) in &mut channels {
        for _ in 0..5 {
            while host.try_send(&[7; 1000][..]).is_ok() {}
            while guest.try_send(&[7; 1000][..]).is_ok() {}
            assert!(guest.try_iter().all(|m| m == [7; 1000]));
            assert!(host.try_iter().all(|m| m == [7; 1000]));
        }
    }
    drop(channels.pop());
    drop(options().capacity(64 << 10).create("later").unwrap());
    drop(channels);
    assert!(files(&place).is_empty());
    say("done");
}

/// SIGBUS in https://github.com/eclipse-iceoryx/iceoryx/issues/2287,
/// https://github.com/eclipse-iceoryx/iceoryx/issues/946,
/// https://github.com/shadow/shadow/issues/2266 and
/// https://github.com/OpenHFT/Chronicle-Queue/issues/1282.
#[test]
fn a_small_file_system_is_no_space_and_no_signal() {
    let _domain = Domain::new("small");
    let scratch = Scratch::new("small");
    // A mount that only this process sees.
    let namespaces = if rustix::process::geteuid().is_root() {
        "-m"
    } else {
        "-Urm"
    };
    let mounted = || {
        let mut unshare = Command::new("unshare");
        unshare.arg(namespaces).args(["sh", "-c"]);
        unshare.arg(r#"mount -t tmpfs -o size=1m,mode=0700 tmpfs "$RINGLANE_DIR" && exec "$@""#);
        unshare.arg("sh").env("RINGLANE_DIR", &scratch.0);
        unshare
    };
    let works = mounted().arg("true").output();
    if !works.is_ok_and(|output| output.status.success()) {
        let why = format!("`unshare {namespaces}` and a mount are not possible here");
        return skip("no-room", &why);
    }
    let mut unshare = mounted();
    unshare.arg(std::env::current_exe().unwrap());
    let mut process = Process::start_by(unshare, "small", &[]);
    assert_eq!(process.line(), "done");
    process.finish();
    assert!(list(&scratch.0).is_empty());
}
