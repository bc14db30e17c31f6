//! The inspector shows what is there: of living processes, stopped ones and dead ones, of sound
//! files and of damaged ones; and it only looks.
//!
//! Some of the files here are written byte by byte from the layout as it is documented, and not by
//! the library, so that the two check each other.
#![cfg(feature = "serde")]

mod common;
#[path = "../examples/dump/main.rs"]
#[allow(dead_code)]
mod dump;

use common::cases::Cases;
use common::{LONG, Process, Random, as_role, base, config, play, say, scale, tally, until};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use ringlane::inspect::{
    ChannelInfo, ChildState, DirectionInfo, DomainInfo, EndState, ModeInUse, SnapshotOptions,
    snapshot_domain,
};
use ringlane::{Channel, ChildResult, Mode, Runtime};
use rustix::process::{Pid, Signal, kill_process};
use std::cell::Cell;
use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

const PAGE: usize = 4096;
/// The version of the layout that is written here.
const LAYOUT: u64 = 4;
const ROSTER_ID: u64 = 0x1122_3344_5566_7788;

/// A domain of a test's own. At the end nothing may be left of it.
struct TestDomain {
    name: String,
    by_hand: bool,
}

impl TestDomain {
    fn named() -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let count = COUNT.fetch_add(1, Relaxed);
        TestDomain {
            name: format!("test-dump-{}-{count}", std::process::id()),
            by_hand: false,
        }
    }

    /// With a directory that the test fills.
    fn by_hand() -> Self {
        let mut domain = Self::named();
        domain.by_hand = true;
        // Another test may remove the directory of all domains, or make it, at any moment.
        while !domain.path().exists() {
            let made = fs::DirBuilder::new()
                .mode(0o700)
                .recursive(true)
                .create(domain.path());
            if let Err(e) = made {
                use io::ErrorKind::{AlreadyExists, NotFound};
                assert!(matches!(e.kind(), AlreadyExists | NotFound), "{e}");
            }
        }
        domain
    }

    fn path(&self) -> PathBuf {
        base().join(&self.name)
    }

    fn write(&self, file: &str, bytes: &[u8]) {
        let mut options = fs::OpenOptions::new();
        let options = options.write(true).create(true).truncate(true).mode(0o600);
        options
            .open(self.path().join(file))
            .unwrap()
            .write_all(bytes)
            .unwrap();
    }

    fn look(&self) -> DomainInfo {
        snapshot_domain(&self.name).unwrap()
    }

    /// With the payloads, too.
    fn look_closely(&self) -> DomainInfo {
        let options = SnapshotOptions::new().domain(&self.name).payload_bytes(64);
        options.take().unwrap().domains.remove(0)
    }

    fn dump(&self, arguments: &[&str]) -> String {
        let mut all = vec!["--domain".to_string(), self.name.clone()];
        all.extend(arguments.iter().map(|a| a.to_string()));
        let mut out = Vec::new();
        assert_eq!(dump::run(&all, &mut out), 0);
        String::from_utf8(out).unwrap()
    }
}

impl Drop for TestDomain {
    fn drop(&mut self) {
        if self.by_hand {
            let _ = fs::remove_dir_all(self.path());
            let _ = fs::remove_dir(base());
        }
        if !std::thread::panicking() {
            let left = fs::read_dir(self.path()).map(|entries| entries.count());
            assert!(
                left.is_err(),
                "{} is still there, with {left:?} files",
                self.name
            );
        }
    }
}

/// The bytes of a file, in the making.
struct Bytes(Vec<u8>);

impl Bytes {
    fn segment(size: usize, kind: u64) -> Self {
        let mut bytes = Bytes(vec![0; size]);
        bytes.0[..8].copy_from_slice(b"ringlane");
        bytes.put(8, LAYOUT | kind << 32);
        bytes.put(16, size as u64);
        bytes.put(24, ROSTER_ID);
        bytes
    }

    fn put(&mut self, at: usize, word: u64) {
        self.0[at..at + 8].copy_from_slice(&word.to_ne_bytes());
    }

    fn put_u32(&mut self, at: usize, word: u32) {
        self.0[at..at + 4].copy_from_slice(&word.to_ne_bytes());
    }

    fn put_name(&mut self, at: usize, name: &str) {
        self.put(at, name.len() as u64);
        self.0[at + 8..at + 8 + name.len()].copy_from_slice(name.as_bytes());
    }
}

/// slot:8 | slot generation:24 | epoch:24 | state:8
fn role(slot: u64, generation: u64, epoch: u64, state: u64) -> u64 {
    slot << 56 | generation << 32 | epoch << 8 | state
}

const FREE: u64 = 0;
const HELD: u64 = 1;
const CLOSED: u64 = 4;

/// Slot 3 at generation 9 is this process; slot 200 at generation 4 is a process that ended.
fn roster(dead: u32) -> Bytes {
    let mut bytes = Bytes::segment((256 + 256 * 64_usize).next_multiple_of(PAGE), 1);
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    let boot = boot.trim().replace('-', "");
    bytes.put(128, u64::from_str_radix(&boot[..16], 16).unwrap());
    bytes.put(136, u64::from_str_radix(&boot[16..], 16).unwrap());
    let namespace = fs::metadata("/proc/self/ns/pid").unwrap().ino();
    for (slot, generation, pid) in [(3, 9, std::process::id()), (200, 4, dead)] {
        let at = 256 + 64 * slot;
        bytes.put(at, generation);
        bytes.put(at + 8, pid.into());
        bytes.put(at + 16, namespace);
    }
    bytes
}

const HEAD: u64 = 3 * 4096 + 4000;

fn record_header(epoch: u64, kind: u64, len: u64) -> u64 {
    epoch << 40 | kind << 32 | len
}

/// A channel of 4 KiB a direction. Its host is this process, its guest a dead one. To the guest
/// there is a message, one that was taken back, padding, and a message after it.
fn channel(dead: u32) -> Bytes {
    let mut bytes = Bytes::segment(PAGE + 2 * 4096, 2);
    bytes.put(32, role(3, 9, 2, HELD));
    bytes.put(40, role(200, 4, 5, HELD));
    bytes.put(128, 4096);
    bytes.put(136, 1 | 2 << 8); // host: any, guest: active
    bytes.put(144, 0xabcd);
    bytes.put_name(152, "demo.Point (plain, 16 bytes, align 8)");
    bytes.put(384, u64::from(std::process::id()) | 2 << 32);
    bytes.put(448, u64::from(dead) | 5 << 32);
    let producer = [HEAD + 128, 12, 160, 3, 4, 1];
    let consumer = [HEAD, HEAD, 9, 5, 1, 2];
    for (i, word) in producer.into_iter().enumerate() {
        bytes.put(512 + 8 * i, word);
    }
    for (i, word) in consumer.into_iter().enumerate() {
        bytes.put(640 + 8 * i, word);
    }
    bytes.put_u32(768, 1); // the consumer is parked
    bytes.put(792, 6);
    let ring = PAGE;
    bytes.put(ring + 4000, record_header(2, 1, 5));
    bytes.0[ring + 4008..ring + 4013].copy_from_slice(b"hello");
    bytes.put(ring + 4016, record_header(1, 3, 8));
    bytes.put(ring + 4032, record_header(0, 2, 56));
    bytes.put(ring, record_header(2, 1, 21));
    bytes.0[ring + 8..ring + 29].copy_from_slice(b"\x00\x01\xff after the padding");
    bytes
}

fn runtime() -> Bytes {
    let mut bytes = Bytes::segment((256 + 255 * 256_usize).next_multiple_of(PAGE), 3);
    bytes.put(32, role(3, 9, 1, HELD));
    bytes.put(136, 2);
    bytes.put(144, std::process::id().into());
    bytes.put(152, 0);
    for (i, (name, generation, pid, state, restarts, exit)) in [
        ("first", 3, 4127, 1, 2, 1 << 32 | 9),
        ("second", 1, 4128, 5, 0, 1 << 32 | 7 << 8),
    ]
    .into_iter()
    .enumerate()
    {
        let at = 256 + 256 * i;
        bytes.put_name(at, name);
        bytes.put_u32(at + 144, generation);
        bytes.put(at + 160, pid);
        bytes.put(at + 168, state);
        bytes.put(at + 176, restarts);
        bytes.put(at + 184, exit);
    }
    bytes
}

/// The pid of a process that ended.
fn dead_pid() -> u32 {
    let mut child = Command::new("true").spawn().unwrap();
    child.wait().unwrap();
    child.id()
}

/// A domain with all of it, and the lock that makes this process alive in it.
fn domain_by_hand() -> (TestDomain, fs::File, u32) {
    let domain = TestDomain::by_hand();
    let dead = dead_pid();
    domain.write("roster", &roster(dead).0);
    domain.write("points.channel", &channel(dead).0);
    domain.write("runtime", &runtime().0);
    let mut options = fs::OpenOptions::new();
    let token = options
        .read(true)
        .write(true)
        .open(domain.path().join("roster"))
        .unwrap();
    // SAFETY: flock is plain integers, and lives through the call.
    let code = unsafe {
        let mut lock: libc::flock = std::mem::zeroed();
        (lock.l_type, lock.l_start, lock.l_len) = (libc::F_WRLCK as i16, 3, 1);
        libc::fcntl(token.as_raw_fd(), libc::F_OFD_SETLK, &raw const lock)
    };
    assert_eq!(code, 0);
    (domain, token, dead)
}

fn only_channel(domain: &DomainInfo) -> &ChannelInfo {
    assert_eq!(domain.channels.len(), 1, "{domain:?}");
    &domain.channels[0]
}

/// What it warns of, but for sleeps that were ended by the clock: a busy machine has some.
fn warnings(domain: &DomainInfo) -> Vec<String> {
    let all = domain.findings.iter().map(|w| w.to_string());
    all.filter(|w| !w.contains("ended by the clock")).collect()
}

#[test]
fn a_domain_written_by_hand_is_shown_as_the_layout_says() {
    let (domain, _token, dead) = domain_by_hand();
    let me = std::process::id();
    let seen = domain.look_closely();

    let main = seen.main.as_ref().unwrap();
    assert!((main.pid, main.alive, main.stopping) == (me, true, false));
    assert!(main.uptime.unwrap() > 0);
    let [first, second] = &seen.children[..] else {
        panic!("{seen:?}")
    };
    assert_eq!(
        (&*first.name, first.pid, first.generation),
        ("first", Some(4127), 3)
    );
    assert_eq!((first.state, first.restarts), (ChildState::Running, 2));
    assert_eq!(first.last_exit.as_deref(), Some("killed by signal 9"));
    assert_eq!(
        (&*second.name, second.state),
        ("second", ChildState::Failed)
    );
    assert_eq!(second.last_exit.as_deref(), Some("exit code 7"));

    let channel = only_channel(&seen);
    assert_eq!(channel.name, "points");
    assert_eq!(
        (&*channel.type_name, &*channel.codec),
        ("demo.Point", "plain")
    );
    assert_eq!((channel.mode, channel.capacity), (Mode::Active, 4096));
    assert_eq!(
        (channel.host.state, channel.host.pid),
        (EndState::Alive, Some(me))
    );
    assert_eq!(
        (channel.guest.state, channel.guest.pid),
        (EndState::Dead, Some(dead))
    );
    assert_eq!((channel.host.generation, channel.guest.generation), (2, 5));

    let to_guest = &channel.directions[0];
    assert_eq!((to_guest.sent, to_guest.received), (12, 9));
    assert_eq!((to_guest.undelivered, to_guest.used), (2, 128));
    assert_eq!((to_guest.peak, to_guest.full), (160, 3));
    assert_eq!(
        (to_guest.sleeps, to_guest.wakes, to_guest.rescues),
        (9, 6, 2)
    );
    assert_eq!(
        (to_guest.mode, to_guest.allowed),
        (ModeInUse::Recv, Mode::Active)
    );
    assert!(
        !to_guest.receiver_waits,
        "its receiver is dead, and waits for nothing"
    );
    let [hello, after] = &to_guest.messages[..] else {
        panic!("{to_guest:?}")
    };
    assert_eq!(
        (hello.position, hello.len, &*hello.bytes),
        (HEAD, 5, &b"hello"[..])
    );
    assert_eq!((after.position, after.len), (HEAD + 96, 21));
    assert_eq!(after.bytes, b"\x00\x01\xff after the padding");

    let to_host = &channel.directions[1];
    assert_eq!(
        (to_host.undelivered, to_host.used, to_host.mode),
        (0, 0, ModeInUse::Unset)
    );
    assert_eq!(to_host.allowed, Mode::Any);

    assert_eq!(seen.findings.len(), 3, "{:#?}", seen.findings);
    for part in [
        "second: the child failed",
        "its guest, process",
        "something to do: 2",
    ] {
        let mut all = seen.findings.iter().map(|w| w.to_string());
        assert!(all.any(|w| w.contains(part)), "{:#?}", seen.findings);
    }
}

#[test]
fn the_table_shows_what_the_picture_holds() {
    let (domain, _token, dead) = domain_by_hand();
    let text = domain.dump(&["--hex", "16"]);
    let line = |start: &str| {
        let found = text
            .lines()
            .find(|line| line.trim_start().starts_with(start));
        found
            .unwrap_or_else(|| panic!("no {start:?} in\n{text}"))
            .to_string()
    };
    assert!(line("ringlane ").contains(&format!("layout {LAYOUT}")));
    assert!(line(&domain.name).contains(&format!("main {}", std::process::id())));
    assert!(line("first ").ends_with("running         2  killed by signal 9"));
    let cells: Vec<_> = line("points ")
        .split_whitespace()
        .map(str::to_string)
        .collect();
    let me = std::process::id().to_string();
    assert_eq!(
        cells,
        [
            "points",
            "demo.Point",
            "plain",
            "host→guest",
            &me,
            "12",
            "9",
            "128/4K",
            "160",
            "3",
            "9/6",
            "recv"
        ]
    );
    assert!(line("guest→host ").contains(&format!("{dead} dead")));
    assert!(line("68 65 6c 6c 6f ").ends_with("|hello|"));
    assert!(line("00 01 ff 20 61 66 ").ends_with("|... after the pa|"));
    assert!(line("warning: points: its guest").contains("opens it next"));
}

#[test]
fn the_json_has_the_fields_that_were_promised() {
    let (domain, _token, _dead) = domain_by_hand();
    let text = domain.dump(&["--json", "--hex", "2"]);
    assert_eq!(text.lines().count(), 1);
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        (&json["schema"], &json["version"]),
        (&"ringlane.dump".into(), &1.into())
    );
    let shown = &json["domains"][0];
    assert_eq!(shown["name"], *domain.name);
    assert_eq!(shown["main"]["pid"], std::process::id());
    let child = &shown["children"][0];
    assert_eq!(
        (&child["name"], &child["pid"]),
        (&"first".into(), &4127.into())
    );
    assert_eq!(
        (&child["generation"], &child["state"]),
        (&3.into(), &"running".into())
    );
    let channel = &shown["channels"][0];
    assert_eq!(
        (&channel["name"], &channel["type"]),
        (&"points".into(), &"demo.Point".into())
    );
    assert_eq!(
        (&channel["codec"], &channel["mode"]),
        (&"plain".into(), &"active".into())
    );
    assert_eq!(channel["guest"]["state"], "dead");
    let direction = &channel["directions"][0];
    assert_eq!(
        (&direction["from"], &direction["to"]),
        (&"host".into(), &"guest".into())
    );
    assert_eq!(
        (&direction["mode"], &direction["allowed"]),
        (&"recv".into(), &"active".into())
    );
    assert_eq!(direction["messages"][0]["bytes"], "6865");
}

#[test]
fn names_cannot_command_the_terminal() {
    let (domain, _token, dead) = domain_by_hand();
    let mut bytes = channel(dead);
    bytes.put_name(152, "\x1b[2J\u{202e}\u{7} (raw)");
    domain.write("points.channel", &bytes.0);
    let text = domain.dump(&[]);
    assert!(text.contains("\\u{1b}[2J\\u{202e}\\u{7}"), "{text}");
    assert!(text.chars().all(|c| c == '\n' || !c.is_control()));
}

/// Files that are no segment, or not one for us. Each gets a warning, and takes nothing from the
/// rest of the picture.
#[test]
fn files_that_cannot_be_read_are_named() {
    let (domain, _token, dead) = domain_by_hand();
    let path = |name: &str| domain.path().join(name);
    let sound = channel(dead).0;
    let changed = |at: usize, word: u64| {
        let mut bytes = Bytes(sound.clone());
        bytes.put(at, word);
        bytes.0
    };
    domain.write("empty.channel", b"");
    domain.write("short.channel", &sound[..PAGE]);
    domain.write(
        "text.channel",
        &b"no segment at all".repeat(1000)[..2 * PAGE],
    );
    domain.write("other-kind.channel", &changed(8, LAYOUT | 3 << 32));
    domain.write("newer.channel", &changed(8, (LAYOUT + 1) | 2 << 32));
    domain.write("capacity.channel", &changed(128, 8192));
    domain.write("foreign.channel", &changed(24, ROSTER_ID + 1));
    domain.write(
        "record.channel",
        &changed(PAGE + 4000, record_header(2, 9, 5)),
    );
    domain.write("open-to-all.channel", &sound);
    domain.write("points-2.channel", &sound);
    domain.write("notes.txt", b"");
    fs::set_permissions(
        path("open-to-all.channel"),
        fs::Permissions::from_mode(0o644),
    )
    .unwrap();
    fs::create_dir(path("directory.channel")).unwrap();
    std::os::unix::fs::symlink("points.channel", path("link.channel")).unwrap();
    let fifo = Command::new("mkfifo")
        .args(["-m", "600"])
        .arg(path("fifo.channel"))
        .status();
    assert!(fifo.unwrap().success());
    let holes = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path("holes.channel"))
        .unwrap();
    holes.set_len(sound.len() as u64).unwrap();

    let seen = domain.look_closely();
    let shown: Vec<_> = seen.channels.iter().map(|c| &*c.name).collect();
    assert_eq!(shown, ["foreign", "points", "points-2", "record"]);
    assert_eq!(seen.channels[0].host.state, EndState::Unknown);
    let newer = format!("layout version {}, this build has {LAYOUT}", LAYOUT + 1);
    for (about, part) in [
        ("empty.channel", "was truncated"),
        ("short.channel", "its size is not"),
        ("text.channel", "it is no segment"),
        ("other-kind.channel", "another kind"),
        ("newer.channel", &newer),
        ("capacity.channel", "corrupt at byte 128"),
        ("foreign.channel", "another incarnation"),
        ("record", "between host and guest is corrupt"),
        ("open-to-all.channel", "others may access it"),
        ("notes.txt", "no file of this library"),
        ("directory.channel", "it is a directory"),
        ("link.channel", "it is a symbolic link"),
        ("fifo.channel", "not a regular file"),
        ("holes.channel", "refused: it "),
    ] {
        let found = seen
            .findings
            .iter()
            .any(|w| w.about == about && w.text.contains(part));
        assert!(found, "{about}: {part}: {:#?}", seen.findings);
    }
}

#[test]
fn ends_that_left_are_shown_as_such() {
    let (domain, _token, dead) = domain_by_hand();
    let mut bytes = channel(dead);
    bytes.put(32, role(3, 9, 2, CLOSED));
    bytes.put(40, role(200, 4, 5, FREE));
    domain.write("points.channel", &bytes.0);
    let seen = domain.look();
    let left = only_channel(&seen);
    assert_eq!((left.host.state, left.host.pid), (EndState::Closed, None));
    assert_eq!((left.guest.state, left.guest.pid), (EndState::Absent, None));
    assert!(!left.directions[0].closed);
    assert!(
        warnings(&seen)
            .iter()
            .any(|w| w.contains("undelivered messages left: 2"))
    );

    // The host of the second epoch holds its end, and gave up sending.
    bytes.put(32, role(3, 9, 2, HELD));
    bytes.put(560, 2);
    domain.write("points.channel", &bytes.0);
    let seen = domain.look();
    assert!(only_channel(&seen).directions[0].closed);
    assert!(!only_channel(&seen).directions[1].closed);
}

#[test]
fn a_domain_without_a_roster_is_shown_but_for_who_lives() {
    let (domain, _token, _dead) = domain_by_hand();
    fs::remove_file(domain.path().join("roster")).unwrap();
    let seen = domain.look();
    assert_eq!(only_channel(&seen).host.state, EndState::Unknown);
    assert_eq!(only_channel(&seen).directions[0].undelivered, 2);
    assert!(
        warnings(&seen)
            .iter()
            .any(|w| w.contains("no sound roster"))
    );
}

#[test]
fn bad_and_unknown_names_of_domains_are_errors() {
    for name in ["", "a/b", "..", ".hidden"] {
        assert!(matches!(
            snapshot_domain(name),
            Err(ringlane::Error::BadName { .. })
        ));
    }
    let missing = snapshot_domain("test-dump-nobody-made-this");
    assert!(matches!(missing, Err(ringlane::Error::NotFound { .. })));
}

/// Tells the other threads of a test to end, also when it fails.
struct Done<'a>(&'a AtomicBool);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

#[derive(Clone, Debug)]
enum Damage {
    Word(usize, u64),
    Noise(usize, Vec<u8>),
    /// To a length, which the header confirms or not.
    Cut(usize, bool),
}

fn word() -> impl Strategy<Value = u64> {
    prop_oneof![
        any::<u64>(),
        0..600u64,
        (0..64u32).prop_map(|bit| 1 << bit),
        (0..64u32).prop_map(|bit| u64::MAX >> bit),
        // Record headers and role words that may pass for one.
        (0..4u64, 0..4u64, 0..5000u64).prop_map(|(e, kind, len)| record_header(e, kind, len)),
        (any::<u8>(), 0..10u64, 0..6u64).prop_map(|(slot, g, state)| role(
            slot.into(),
            g,
            1,
            state
        )),
        Just(HEAD),
    ]
}

fn damage() -> impl Strategy<Value = Damage> {
    // Headers are dense with meaning, so half of it goes there.
    let at = || prop_oneof![0..176usize, 0..2600usize].prop_map(|word| word * 8);
    prop_oneof![
        8 => (at(), word()).prop_map(|(at, word)| Damage::Word(at, word)),
        2 => (0..20_000usize, prop::collection::vec(any::<u8>(), 1..200))
            .prop_map(|(at, noise)| Damage::Noise(at, noise)),
        1 => (0..24_000usize, any::<bool>()).prop_map(|(len, fits)| Damage::Cut(len, fits)),
        2 => (0..6usize, any::<bool>()).prop_map(|(pages, fits)| Damage::Cut(pages * PAGE, fits)),
    ]
}

fn damaged(mut bytes: Vec<u8>, damages: &[Damage]) -> Vec<u8> {
    for damage in damages {
        match damage {
            Damage::Word(at, word) if at + 8 <= bytes.len() => {
                bytes[*at..at + 8].copy_from_slice(&word.to_ne_bytes());
            }
            Damage::Noise(at, noise) => {
                for (byte, noise) in bytes.iter_mut().skip(*at).zip(noise) {
                    *byte = *noise;
                }
            }
            Damage::Cut(len, fits) => {
                bytes.resize(*len, 0);
                if *fits && bytes.len() >= 24 {
                    bytes[16..24].copy_from_slice(&(*len as u64).to_ne_bytes());
                }
            }
            Damage::Word(..) => {}
        }
    }
    bytes
}

/// Whatever lies in the files: a picture, soon, and text of it.
#[test]
fn damaged_files_are_survived() {
    let (domain, _token, dead) = domain_by_hand();
    let some = || prop::collection::vec(damage(), 0..6);
    let mut runner = TestRunner::new(config(scale(1_000, 10_000)));
    let cases = Cases::new("damaged files");
    let damaged_some = Cell::new(0);
    let outcome = runner.run(&(some(), some(), some()), |damages| {
        let sound = [roster(dead).0, channel(dead).0, runtime().0];
        let (in_roster, in_channel, in_runtime) = &damages;
        let all = [in_roster, in_channel, in_runtime];
        let mut any = false;
        for (i, file) in ["roster", "points.channel", "runtime"].iter().enumerate() {
            let bytes = damaged(sound[i].clone(), all[i]);
            any |= bytes != sound[i];
            domain.write(file, &bytes);
        }
        cases.play(|| {
            domain.look_closely();
            domain.dump(&["--hex", "40"]);
            domain.dump(&["--hex", "40", "--json"]);
        });
        damaged_some.set(damaged_some.get() + u64::from(any));
        Ok(())
    });
    outcome.unwrap_or_else(|e| panic!("{e}"));
    let what = "damaged domains that the inspector looked at";
    tally("corrupt", what, damaged_some.get());
}

/// And whatever is being written there meanwhile.
#[test]
fn files_that_change_under_its_eyes_are_survived() {
    use std::os::unix::fs::FileExt;
    let (domain, _token, _dead) = domain_by_hand();
    let open = |name: &str| {
        let path = domain.path().join(name);
        fs::OpenOptions::new().write(true).open(path).unwrap()
    };
    let files = [open("roster"), open("points.channel"), open("runtime")];
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let ended = Done(&done);
        scope.spawn(|| {
            let mut random = Random::printed();
            while !done.load(Relaxed) {
                let file = &files[random.below(3) as usize];
                // The first words stay, or there is nothing to look at.
                let at = 24 + random.below(12_000);
                let word = random.next() >> (40 * random.below(2));
                file.write_all_at(&word.to_ne_bytes(), at & !7).unwrap();
                // Kept whole now and then: the capacity, and something to walk.
                file.write_all_at(&4096u64.to_ne_bytes(), 128).unwrap();
                file.write_all_at(&HEAD.to_ne_bytes(), 640).unwrap();
            }
        });
        let end = Instant::now() + Duration::from_secs(2);
        while Instant::now() < end {
            domain.look_closely();
        }
        drop(ended);
    });
}

#[test]
#[ignore = "what the processes of these tests run"]
fn process() {
    play(act);
}

fn act(role: &str, arguments: &[&str]) {
    let domain = arguments[0];
    match role {
        "host" => {
            let mut channel = Channel::<str>::options()
                .domain(domain)
                .create("lines")
                .unwrap();
            channel.send_all(["one", "two", "three"]).unwrap();
            ready();
        }
        "guest" => {
            let mut channel = Channel::<str>::options()
                .domain(domain)
                .open("lines")
                .unwrap();
            assert_eq!(channel.recv().unwrap(), "one");
            channel.send_all(["four", "five"]).unwrap();
            ready();
        }
        "stuffed-host" | "stuffed-guest" => {
            let options = Channel::<[u8]>::options().domain(domain).capacity(4096);
            let mut channel = match role {
                "stuffed-host" => options.create("stuffed").unwrap(),
                _ => options.open("stuffed").unwrap(),
            };
            say("ready");
            loop {
                channel.send(&[7; 500][..]).unwrap();
            }
        }
        "main" => {
            let builder = Runtime::builder(domain).child("worker", worker);
            let runtime = builder.start().unwrap();
            let mut channel = runtime.get_channel::<str>("worker-active").unwrap();
            channel.send("work").unwrap();
            ready();
        }
        "dump" => {
            let words = arguments.iter().filter(|word| !word.is_empty());
            let words: Vec<_> = words.map(ToString::to_string).collect();
            let status = dump::run(&words, &mut io::stdout());
            std::process::exit(status.into());
        }
        other => panic!("{other}"),
    }
}

/// Takes a channel, and receives nothing.
fn worker(child: ringlane::Child) -> ChildResult {
    let _channel = child.active::<str>()?;
    while !child.wait_stop(Duration::from_secs(3600)) {}
    Ok(())
}

/// Says so, and keeps what the caller holds until the process is killed.
fn ready() {
    say("ready");
    loop {
        std::thread::park();
    }
}

/// Starts a process that plays `role`, and waits until it is ready.
fn start(role: &str, domain: &TestDomain) -> Process {
    // A main's child is this program as well, but not a child of this process.
    let program = Command::new("/proc/self/exe");
    let mut process = Process::start_by(program, role, &[&domain.name]);
    assert_eq!(process.line(), "ready");
    process
}

fn stop(process: &Process) {
    process.signal(Signal::STOP);
    until(|| process.state() == 'T');
}

fn wait_for<T>(what: &str, look: impl Fn() -> Option<T>) -> T {
    let end = Instant::now() + LONG;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < end, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// What the roles `host` and `guest` leave in their channel, whatever becomes of them.
fn assert_lines(channel: &ChannelInfo) {
    let counts = |d: &DirectionInfo| (d.sent, d.received, d.undelivered, d.mode);
    assert_eq!(counts(&channel.directions[0]), (3, 1, 2, ModeInUse::Recv));
    assert_eq!(counts(&channel.directions[1]), (2, 0, 2, ModeInUse::Unset));
    let texts = channel.directions.iter().flat_map(|d| &d.messages);
    let texts: Vec<_> = texts.map(|m| String::from_utf8_lossy(&m.bytes)).collect();
    assert_eq!(texts, ["two", "three", "four", "five"]);
    assert_eq!((&*channel.type_name, &*channel.codec), ("str", "raw"));
}

#[test]
fn processes_are_shown_alive_stopped_and_dead() {
    let domain = TestDomain::named();
    let mut host = start("host", &domain);
    let mut guest = start("guest", &domain);
    let check = |host_state, guest_state| {
        let seen = domain.look_closely();
        let channel = only_channel(&seen);
        assert_lines(channel);
        assert_eq!(
            (channel.host.state, channel.host.pid),
            (host_state, Some(host.pid()))
        );
        assert_eq!(
            (channel.guest.state, channel.guest.pid),
            (guest_state, Some(guest.pid()))
        );
        assert!(seen.main.is_none() && seen.children.is_empty());
        warnings(&seen)
    };
    use EndState::{Alive, Dead};
    assert_eq!(check(Alive, Alive), [""; 0]);

    stop(&guest);
    stop(&host);
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(check(Alive, Alive), [""; 0]);

    host.signal(Signal::CONT);
    let (host_pid, guest_pid) = (host.pid(), guest.pid());
    guest.kill();
    let check = |host_state, guest_state| {
        let seen = domain.look_closely();
        let channel = only_channel(&seen);
        assert_lines(channel);
        assert_eq!(
            (channel.host.state, channel.host.pid),
            (host_state, Some(host_pid))
        );
        assert_eq!(
            (channel.guest.state, channel.guest.pid),
            (guest_state, Some(guest_pid))
        );
        warnings(&seen)
    };
    let warned = check(Alive, Dead);
    assert!(
        warned.len() == 1 && warned[0].contains("its guest"),
        "{warned:?}"
    );

    host.kill();
    let warned = check(Dead, Dead);
    assert!(
        warned.len() == 2 && warned[0].contains("its host"),
        "{warned:?}"
    );

    // Whoever comes next takes it over, and removes it all when he leaves.
    let options = Channel::<str>::options().domain(&domain.name);
    drop(options.keep_undelivered(false).create("lines").unwrap());
}

#[test]
fn a_main_process_and_its_child_are_shown_alive_stopped_and_dead() {
    use EndState::{Alive, Dead};
    let domain = TestDomain::named();
    let mut main = start("main", &domain);
    let child = || domain.look().children[0].clone();
    until(|| child().state == ChildState::Running);
    let first = child();
    let pid = Pid::from_raw(first.pid.unwrap() as i32).unwrap();
    kill_process(pid, Signal::KILL).unwrap();
    until(|| child().state == ChildState::Running && child().generation == 2);
    let active = |domain: &DomainInfo| {
        let found = domain.channels.iter().find(|c| c.name == "worker-active");
        found.unwrap().clone()
    };
    until(|| active(&domain.look()).guest.pid == child().pid);

    let check = |alive: bool, state: EndState| {
        let seen = domain.look_closely();
        let shown = seen.main.as_ref().unwrap();
        assert_eq!((shown.pid, shown.alive), (main.pid(), alive));
        assert_eq!(shown.uptime.is_some(), alive);
        let child = &seen.children[0];
        assert_eq!((&*child.name, child.restarts), ("worker", 1));
        assert_eq!(child.last_exit.as_deref(), Some("killed by signal 9"));
        let names: Vec<_> = seen.channels.iter().map(|c| &*c.name).collect();
        assert_eq!(names, ["worker-active", "worker-passive"]);
        let channel = active(&seen);
        assert_eq!((channel.mode, &*channel.type_name), (Mode::Active, "str"));
        assert_eq!((channel.host.state, channel.guest.state), (state, state));
        assert_eq!(channel.directions[0].undelivered, 1);
        assert_eq!(channel.directions[0].messages[0].bytes, b"work");
        warnings(&seen)
    };
    assert_eq!(check(true, Alive), [""; 0]);

    let second = Pid::from_raw(child().pid.unwrap() as i32).unwrap();
    stop(&main);
    kill_process(second, Signal::STOP).unwrap();
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(check(true, Alive), [""; 0]);

    let main_pid = main.pid();
    main.signal(Signal::KILL);
    until(|| {
        let channel = active(&domain.look());
        (channel.host.state, channel.guest.state) == (Dead, Dead)
    });
    let warned = check(false, Dead).join("\n");
    assert!(
        warned.contains(&format!("the main process {main_pid} died")),
        "{warned}"
    );
    main.kill();

    // The next main process sweeps it all.
    Runtime::builder(&domain.name)
        .start()
        .unwrap()
        .shutdown()
        .unwrap();
}

#[test]
fn two_ends_that_wait_for_each_other_are_a_warning() {
    let domain = TestDomain::named();
    let mut host = start("stuffed-host", &domain);
    let mut guest = start("stuffed-guest", &domain);
    let stuck = || {
        let seen = domain.look();
        let stuck = |w: &String| w.contains("both ends wait in `send`");
        warnings(&seen).iter().any(stuck).then_some(seen)
    };
    wait_for("both ends are stuck", stuck);
    // From here on nothing moves, but for a look around ten times a second.
    let seen = wait_for("both ends wait again", stuck);
    for direction in &only_channel(&seen).directions {
        assert!(
            direction.sender_waits && direction.full > 0,
            "{direction:?}"
        );
        assert_eq!(direction.undelivered, direction.sent);
    }
    guest.kill();
    host.kill();
    let options = Channel::<[u8]>::options().domain(&domain.name);
    drop(options.keep_undelivered(false).create("stuffed").unwrap());
}

/// In a ring that is full of traffic, what is read may be overwritten meanwhile. That must not
/// look like damage.
#[test]
fn traffic_is_not_taken_for_damage() {
    let domain = TestDomain::named();
    let options = || {
        Channel::<[u8]>::options()
            .domain(&domain.name)
            .capacity(64 << 10)
    };
    let mut host = options().create("traffic").unwrap();
    let mut guest = options().open("traffic").unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let ended = Done(&done);
        // All of it, so that the look takes its time.
        let options = SnapshotOptions::new().domain(&domain.name);
        let options = options.payload_bytes(1000).max_messages(1000);
        scope.spawn(|| {
            // Bytes that are no header, of lengths that wrap anywhere.
            let mut len = 0;
            while !done.load(Relaxed) {
                len = (len + 37) % 1000;
                let _ = host.send_timeout(&[0xff; 1000][..len], Duration::from_millis(100));
            }
        });
        scope.spawn(|| {
            while !done.load(Relaxed) {
                let _ = guest.recv_timeout(Duration::from_millis(100));
            }
        });
        let end = Instant::now() + Duration::from_secs(2);
        while Instant::now() < end {
            let seen = options.take().unwrap().domains.remove(0);
            assert_eq!(warnings(&seen), [""; 0]);
            let to_guest = &only_channel(&seen).directions[0];
            assert!(to_guest.used <= 64 << 10);
            assert!(
                to_guest
                    .messages
                    .iter()
                    .all(|m| m.bytes.iter().all(|b| *b == 0xff))
            );
        }
        drop(ended);
    });
    while guest.try_recv().is_ok() {}
}

/// The segments are mapped without write permission, and nothing in them changes.
#[test]
fn it_only_looks() {
    let domain = TestDomain::by_hand();
    domain.write("roster", &roster(dead_pid()).0);
    // Long enough to walk that its mapping can be caught.
    let capacity = 8 << 20;
    let mut bytes = Bytes::segment(PAGE + 2 * capacity, 2);
    bytes.put(128, capacity as u64);
    for at in (0..capacity - 8).step_by(8) {
        bytes.put(PAGE + at, record_header(1, 1, 0));
    }
    domain.write("large.channel", &bytes.0);
    let state = |file: &str| {
        let path = domain.path().join(file);
        let meta = fs::metadata(&path).unwrap();
        let times = (
            meta.mtime(),
            meta.mtime_nsec(),
            meta.ctime(),
            meta.ctime_nsec(),
        );
        (fs::read(path).unwrap(), times, meta.blocks())
    };
    let before = [state("roster"), state("large.channel")];

    let (done, caught) = (AtomicBool::new(false), AtomicBool::new(false));
    let path = domain.path().display().to_string();
    let permissions = std::thread::scope(|scope| {
        let ended = Done(&done);
        let watcher = scope.spawn(|| {
            let mut seen = Vec::new();
            while !done.load(Relaxed) {
                let maps = fs::read_to_string("/proc/self/maps").unwrap();
                let mine = maps.lines().filter(|line| line.contains(&path));
                seen.extend(mine.map(|line| line.split(' ').nth(1).unwrap().to_string()));
                caught.store(!seen.is_empty(), Relaxed);
            }
            seen
        });
        until(|| {
            assert_eq!(
                only_channel(&domain.look()).directions[0].undelivered,
                (1 << 20) - 1
            );
            caught.load(Relaxed)
        });
        drop(ended);
        watcher.join().unwrap()
    });
    assert!(
        permissions.iter().all(|p| p.starts_with("r--")),
        "{permissions:?}"
    );
    assert!(
        before == [state("roster"), state("large.channel")],
        "a file was changed"
    );
}

/// The example, to run in a process of its own.
fn dump_command(arguments: &str) -> Command {
    let mut command = Command::new("/proc/self/exe");
    // With one thread, the harness begins the first line that it writes.
    let harness = [
        "process",
        "--exact",
        "--ignored",
        "--nocapture",
        "--test-threads=2",
    ];
    command.args(harness);
    as_role(
        &mut command,
        "dump",
        &arguments.split(' ').collect::<Vec<_>>(),
    );
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    command
}

/// Runs the example in a process of its own; gives its exit status, and what it wrote where.
fn run_dump(arguments: &str, place: Option<&PathBuf>) -> (i32, String, String) {
    let mut command = dump_command(arguments);
    if let Some(place) = place {
        command.env("RINGLANE_DIR", place);
    }
    let output = command.stderr(Stdio::piped()).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (
        output.status.code().unwrap(),
        text(output.stdout),
        text(output.stderr),
    )
}

#[test]
fn wrong_arguments_end_with_status_2() {
    for arguments in [
        " --jsno",
        " lines",
        " --hex",
        " --hex many",
        " --hex -1",
        " --watch 0",
        " --watch -1",
        " --watch soon",
        " --watch inf",
        " --domain",
        " --domain a/b",
    ] {
        let (status, _, errors) = run_dump(arguments, None);
        assert!(
            status == 2 && errors.starts_with("dump: "),
            "{arguments}: {status} {errors}"
        );
    }
    let (status, out, _) = run_dump(" --help", None);
    assert!(status == 0 && out.contains("usage: dump"));
}

/// Also where nobody hears what is wrong.
#[test]
fn closed_errors_change_no_exit_status() {
    let place = std::env::temp_dir().join(format!("test-dump-deaf-{}", std::process::id()));
    fs::create_dir(&place).unwrap();
    for (arguments, expected) in [
        (" --jsno", 2),
        (" --domain a/b", 2),
        (" --domain nobody", 1),
    ] {
        let (reader, writer) = rustix::pipe::pipe().unwrap();
        drop(reader);
        let mut command = dump_command(arguments);
        command.env("RINGLANE_DIR", &place).stderr(writer);
        let status = command.output().unwrap().status;
        assert_eq!(status.code(), Some(expected), "{arguments}");
    }
    fs::remove_dir(&place).unwrap();
}

#[test]
fn no_domains_are_no_failure() {
    let place = std::env::temp_dir().join(format!("test-dump-empty-{}", std::process::id()));
    fs::create_dir(&place).unwrap();
    let (status, out, errors) = run_dump("", Some(&place));
    assert!(
        status == 0 && out.contains("no domains") && errors.is_empty(),
        "{out}{errors}"
    );
    let (status, out, _) = run_dump(" --json", Some(&place));
    assert!(status == 0 && out.contains("\"domains\":[]"), "{out}");
    let (status, _, errors) = run_dump(" --domain nobody", Some(&place));
    assert!(status == 1 && errors.contains("not found"), "{errors}");
    fs::remove_dir(&place).unwrap();
}

#[test]
fn what_is_no_domain_is_named() {
    let place = std::env::temp_dir().join(format!("test-dump-odd-{}", std::process::id()));
    let uid = rustix::process::geteuid().as_raw();
    let top = place.join(format!("ringlane-{uid}"));
    let mut make = fs::DirBuilder::new();
    make.mode(0o700).recursive(true);
    make.create(top.join("sound")).unwrap();
    make.create(top.join("bad name")).unwrap();
    make.create(top.join("open")).unwrap();
    fs::set_permissions(top.join("open"), fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(top.join("file"), "").unwrap();
    let (status, out, _) = run_dump("", Some(&place));
    fs::remove_dir_all(&place).unwrap();
    assert_eq!(status, 0);
    for part in [
        "\nsound   no main\n",
        "\nwarning: bad name: ",
        "\nwarning: open: ",
        "\nwarning: file: ",
    ] {
        assert!(out.contains(part), "{part:?} in {out}");
    }
}

#[test]
fn a_closed_pipe_ends_it_in_order() {
    // Without the domains of other tests, which may cut their files.
    let place = std::env::temp_dir().join(format!("test-dump-pipe-{}", std::process::id()));
    fs::create_dir(&place).unwrap();
    for arguments in [" --watch 0.01", " --watch 0.01 --json", ""] {
        let mut command = dump_command(arguments);
        command.env("RINGLANE_DIR", &place).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        // What comes before is of the harness, which minds a closed pipe.
        let mut lines = out.by_ref().lines().map_while(Result::ok);
        assert!(lines.any(|line| line.contains("ringlane")), "{arguments}");
        drop(out);
        let status = child.wait().unwrap();
        let errors = io::read_to_string(child.stderr.take().unwrap()).unwrap();
        assert!(
            status.code() == Some(0) && errors.is_empty(),
            "{status} {errors}"
        );
    }
    fs::remove_dir(&place).unwrap();
}
