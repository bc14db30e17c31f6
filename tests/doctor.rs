//! The doctor finds what is wrong, each thing really made so; says what can be done; and changes
//! nothing.
#![cfg(feature = "serde")]

mod common;

#[path = "../examples/dump/main.rs"]
#[allow(dead_code)]
mod dump;

use common::{Domain, Process, Random, actor, hear, play, say, scale, skip};
use common::{stores, tally, until};
use ringlane::inspect::{Finding, Severity, SnapshotOptions, doctor};
use ringlane::{ChildSpec, Error, Restart, Runtime, Store};
use rustix::process::Signal;
use std::fs::{self, File, Permissions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, FileExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant, SystemTime};

#[test]
#[ignore = "plays the roles of the other tests"]
fn process() {
    play(|role, arguments| match role {
        "actor" => actor::act(arguments),
        "store actor" => stores::act(arguments),
        "main" => {
            let _runtime = Runtime::builder(arguments[0]).start().unwrap();
            say("started");
            hear();
        }
        "look" => look_here(),
        "bound" => {
            let mut one = rustix::thread::CpuSet::new();
            let all = rustix::thread::sched_getaffinity(None).unwrap();
            one.set((0..1024).find(|cpu| all.is_set(*cpu)).unwrap());
            rustix::thread::sched_setaffinity(None, &one).unwrap();
            look_here();
        }
        "sandboxed" => {
            refuse(&[libc::SYS_pidfd_open, libc::SYS_membarrier]);
            look_here();
        }
        "unadvised" => {
            refuse(&[libc::SYS_madvise]);
            look_here();
        }
        "dump" => {
            let all: Vec<String> = arguments.iter().map(|a| a.to_string()).collect();
            let mut out = Vec::new();
            let status = dump::run(&all, &mut out);
            let told = (status, String::from_utf8(out).unwrap());
            say(serde_json::to_string(&told).unwrap());
        }
        other => panic!("{other}"),
    });
}

/// Says all findings, a line each.
fn look_here() {
    for finding in doctor().unwrap() {
        say(format!("{:?}", finding.to_string()));
    }
    say("no more");
}

/// Has the kernel refuse system calls to this process from here on.
fn refuse(calls: &[libc::c_long]) {
    let op = |code: u32, jt, jf, k| libc::sock_filter {
        code: code as u16,
        jt,
        jf,
        k,
    };
    // The number of the call; each refused one is compared, and answered with EPERM.
    let mut program = vec![op(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0)];
    for call in calls {
        program.push(op(
            libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K,
            0,
            1,
            *call as u32,
        ));
        let eperm = libc::SECCOMP_RET_ERRNO | libc::EPERM as u32;
        program.push(op(libc::BPF_RET | libc::BPF_K, 0, 0, eperm));
    }
    program.push(op(
        libc::BPF_RET | libc::BPF_K,
        0,
        0,
        libc::SECCOMP_RET_ALLOW,
    ));
    let filter = libc::sock_fprog {
        len: program.len() as u16,
        filter: program.as_mut_ptr(),
    };
    // SAFETY: the kernel reads the program, which lives through the calls.
    let installed = unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
            && libc::prctl(
                libc::PR_SET_SECCOMP,
                libc::SECCOMP_MODE_FILTER,
                &raw const filter,
            ) == 0
    };
    assert!(installed);
}

fn findings(domain: &Domain) -> Vec<Finding> {
    let all = SnapshotOptions::new()
        .domain(domain.name())
        .doctor()
        .unwrap();
    let of_domain = |found: &Finding| found.about.starts_with(domain.name());
    all.into_iter().filter(of_domain).collect()
}

/// The finding with that text, of that severity.
#[track_caller]
fn found(all: &[Finding], severity: Severity, text: &str) -> Finding {
    let right = |finding: &&Finding| finding.severity == severity && finding.text.contains(text);
    let finding = all.iter().find(right);
    finding
        .unwrap_or_else(|| panic!("no {severity} {text:?} in {all:#?}"))
        .clone()
}

/// What a process finds that plays that role.
fn said(mut process: Process) -> Vec<String> {
    let mut lines = Vec::new();
    loop {
        match process.line() {
            line if line == "no more" => break,
            line => lines.push(line),
        }
    }
    process.finish();
    lines
}

#[track_caller]
fn tells(lines: &[String], severity: &str, text: &str) {
    let right = |line: &String| line.contains(severity) && line.contains(text);
    assert!(
        lines.iter().any(right),
        "no {severity} {text:?} in {lines:#?}"
    );
}

/// A directory of a test's own, for `RINGLANE_DIR`, where domains lie if nothing is said: elsewhere
/// there may be no tmpfs, which is a warning.
struct Scratch(PathBuf);

impl Scratch {
    fn new(domain: &Domain) -> Scratch {
        let path = Path::new("/dev/shm").join(format!("ringlane-{}", domain.name()));
        fs::create_dir(&path).unwrap();
        Scratch(path)
    }

    fn start(&self, role: &str, arguments: &[&str]) -> Process {
        let mut command = Command::new("/proc/self/exe");
        command.env("RINGLANE_DIR", &self.0);
        Process::start_by(command, role, arguments)
    }

    /// The exit status, and what was written.
    fn dump(&self, arguments: &[&str]) -> (u8, String) {
        let mut process = self.start("dump", arguments);
        let told = serde_json::from_str(&process.line()).unwrap();
        process.finish();
        told
    }

    fn base(&self) -> PathBuf {
        let uid = rustix::process::geteuid().as_raw();
        self.0.join(format!("ringlane-{uid}"))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn a_healthy_domain_has_no_findings() {
    let domain = Domain::new("doctor-health");
    let host = domain.of::<u64>().create("c").unwrap();
    let guest = actor::guest(domain.name(), "c");
    let store = Store::options().domain(domain.name()).create("s").unwrap();
    store.set("key", &7u8).unwrap();
    assert_eq!(findings(&domain), []);
    store.remove().unwrap();
    drop((host, store));
    guest.finish();
    let unknown = SnapshotOptions::new().domain(domain.name()).doctor();
    assert!(
        matches!(unknown, Err(Error::NotFound { .. })),
        "{unknown:?}"
    );
}

#[test]
fn a_ring_that_stands_still_is_told_and_one_that_moves_is_not() {
    let domain = Domain::new("doctor-full");
    let mut host = actor::host(domain.name(), "c");
    let mut guest = domain.of::<u64>().open("c").unwrap();
    host.tell("range 0 1000000");
    let sender_waits = || {
        let seen = ringlane::inspect::snapshot_domain(domain.name()).unwrap();
        seen.channels[0].directions[0].sender_waits
    };
    until(sender_waits);
    let first_seen = Instant::now();
    // It has been full since, however late one looks, and whoever sends.
    let full_ms = || {
        let seen = ringlane::inspect::snapshot_domain(domain.name()).unwrap();
        seen.channels[0].directions[0].full_ms
    };
    std::thread::sleep(Duration::from_secs(2));
    let full = found(&findings(&domain), Severity::Warning, "is full");
    let time = full.text.split("received for the last ").nth(1).unwrap();
    let (seconds, _) = time.split_once(" s;").unwrap();
    assert!(seconds.parse::<f64>().unwrap() >= 2.0, "{full}");
    let before = first_seen.elapsed().as_millis() as u64;
    host.kill();
    let mut host = actor::host(domain.name(), "c");
    host.tell("range 0 1000000");
    until(sender_waits);
    assert!(full_ms().unwrap() >= before);
    let me = std::process::id();
    assert!(full.remedy.contains(&format!("process {me}")), "{full}");
    assert!(
        full.text.contains("its sender waits") && full.about.ends_with("/c"),
        "{full}"
    );
    let moves = Instant::now();
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Relaxed) {
                drop(guest.recv());
                std::thread::sleep(Duration::from_millis(10));
            }
        });
        // Unless it gets no processor for as long as the doctor looks.
        until(|| findings(&domain).is_empty());
        is_over.store(true, Relaxed);
    });
    until(|| full_ms().is_some());
    let (since, moved) = (full_ms().unwrap(), moves.elapsed().as_millis() as u64);
    assert!(
        since <= moved + 2,
        "{since} ms, and it moved {moved} ms ago"
    );
    // A moment that did not come yet is none.
    put(&domain.file("c"), FULL_SINCE, u64::MAX);
    assert_eq!(full_ms(), None);
    host.kill();
    drop(guest);
    domain.remove::<u64>("c");
}

#[test]
fn the_dead_the_stopped_and_what_they_left_are_told() {
    let domain = Domain::new("doctor-dead");
    let mut main = Process::start("main", &[domain.name()]);
    assert_eq!(main.line(), "started");
    let mut host = actor::host(domain.name(), "c");
    let mut guest = actor::guest(domain.name(), "c");
    let store = Store::options().domain(domain.name()).create("s").unwrap();
    let mut writer = stores::actor_with(domain.name(), "s");
    assert_eq!(writer.ask("hold key"), "inside");
    writer.signal(Signal::STOP);
    until(|| writer.state() == 'T');
    let stopped = found(
        &findings(&domain),
        Severity::Warning,
        "is stopped and holds the lock",
    );
    assert!(
        stopped
            .remedy
            .contains(&format!("kill -CONT {}", writer.pid())),
        "{stopped}"
    );
    for process in [&mut writer, &mut host, &mut guest, &mut main] {
        process.kill();
    }
    let all = findings(&domain);
    found(&all, Severity::Note, "died while it held the lock");
    found(&all, Severity::Warning, "its host");
    found(&all, Severity::Warning, "its guest");
    found(&all, Severity::Warning, "the main process");
    // We are attached, so it is not abandoned yet.
    assert!(
        !all.iter()
            .any(|found| found.text.contains("no process lives"))
    );
    drop(store);
    found(
        &findings(&domain),
        Severity::Warning,
        "no process lives in it",
    );
    ringlane::remove_domain(domain.name()).unwrap();
    tally("leak", "abandoned domains removed", 1);
}

/// What a process leaves that is killed between making the directory and the roster.
#[test]
fn a_directory_in_which_nobody_came_to_live_is_told_once_it_is_old() {
    let domain = Domain::new("doctor-empty");
    let beside = domain.keep_base();
    for leftover in [None, Some(".0123456789abcdef.tmp")] {
        let mut directory = fs::DirBuilder::new();
        directory.mode(0o700).create(domain.path()).unwrap();
        if let Some(name) = leftover {
            fs::write(domain.path().join(name), "").unwrap();
        }
        let made = |when: SystemTime| {
            let directory = File::open(domain.path()).unwrap();
            directory.set_modified(when).unwrap();
        };
        // Whoever made it may be about to join.
        let of_new = loop {
            let start = Instant::now();
            made(SystemTime::now());
            let all = findings(&domain);
            if start.elapsed() < Duration::from_secs(1) {
                break all;
            }
        };
        assert_eq!(of_new, []);
        made(SystemTime::UNIX_EPOCH);
        found(
            &findings(&domain),
            Severity::Warning,
            "no process lives in it",
        );
        // What `dump --clean` asks.
        let seen = ringlane::inspect::snapshot_domain(domain.name()).unwrap();
        assert!(seen.is_left_behind());
        ringlane::remove_domain(domain.name()).unwrap();
        assert!(!domain.path().exists());
    }
    drop(beside);
    tally("leak", "abandoned domains removed", 2);
}

#[test]
fn a_child_that_failed_is_told_apart_from_one_that_was_never_started() {
    let domain = Domain::new("doctor-failed");
    let never = |program| {
        let name = Path::new(program).file_name().unwrap().to_str().unwrap();
        ChildSpec::command(name, Command::new(program)).restart(Restart::Never)
    };
    let runtime = Runtime::builder(domain.name())
        .spec(never("false"))
        .spec(never("/no/such/program"))
        .start()
        .unwrap();
    runtime.wait("false").unwrap();
    runtime.wait("program").unwrap();
    let all = findings(&domain);
    let failed = found(&all, Severity::Warning, "failed and is not started again");
    let missing = found(&all, Severity::Warning, "could not be started");
    assert!(failed.about.ends_with("/false"), "{failed}");
    assert!(failed.remedy.contains("standard error"), "{failed}");
    assert!(missing.about.ends_with("/program"), "{missing}");
    assert!(missing.remedy.contains("last_error"), "{missing}");
    runtime.shutdown().unwrap();
}

const VERSION: u64 = 8;
/// What comes behind the words that all segments have: without it nothing of the file can be read.
const FIRST_OF_ITS_OWN: u64 = 128;
const KEYS_OF_STORE: u64 = 392;
/// Of the direction from host to guest.
const FULL_SINCE: u64 = 576;

fn add(file: &Path, at: u64, more: u64) {
    let mut bytes = [0; 8];
    File::open(file)
        .unwrap()
        .read_exact_at(&mut bytes, at)
        .unwrap();
    put(file, at, u64::from_ne_bytes(bytes).wrapping_add(more));
}

fn put(file: &Path, at: u64, word: u64) {
    let file = File::options().write(true).open(file).unwrap();
    file.write_all_at(&word.to_ne_bytes(), at).unwrap();
}

#[test]
fn what_is_wrong_with_files_is_told() {
    let domain = Domain::new("doctor-files");
    let channel = domain.of::<u64>().create("c").unwrap();
    let store = Store::options().domain(domain.name()).create("s").unwrap();
    store.set("key", &7u8).unwrap();
    let file = domain.path().join("s.store");
    add(&file, KEYS_OF_STORE, 1);
    found(&findings(&domain), Severity::Error, "is damaged");
    add(&file, KEYS_OF_STORE, u64::MAX);
    add(&domain.file("c"), VERSION, 41);
    found(&findings(&domain), Severity::Warning, "layout version");
    add(&domain.file("c"), VERSION, 0_u64.wrapping_sub(41));
    if chown(domain.file("c"), Some(65534), None).is_ok() {
        found(
            &findings(&domain),
            Severity::Warning,
            "belongs to another user",
        );
        let me = rustix::process::geteuid().as_raw();
        chown(domain.file("c"), Some(me), None).unwrap();
    } else {
        skip("permissions", "nothing can be given to another user here");
    }
    // Bytes that are no text, and commands to a terminal.
    for name in [&b"\xff\xfe"[..], b"\x1b[2J"] {
        let path = domain.path().join(std::ffi::OsStr::from_bytes(name));
        fs::write(&path, "").unwrap();
        found(
            &findings(&domain),
            Severity::Warning,
            "no file of this library",
        );
        fs::remove_file(path).unwrap();
    }
    assert_eq!(findings(&domain), []);
    store.remove().unwrap();
    drop((store, channel));
}

#[test]
fn random_damage_is_survived() {
    let domain = Domain::new("doctor-damage");
    let mut random = Random::printed();
    let store = Store::options().domain(domain.name()).create("s").unwrap();
    for key in 0..100u64 {
        store.set(key.to_ne_bytes(), &[7u8; 100][..]).unwrap();
    }
    drop(store);
    let mut main = Process::start("main", &[domain.name()]);
    assert_eq!(main.line(), "started");
    main.kill();
    let rounds = scale(40, 2_000);
    let files = ["s.store", "roster", "runtime"].map(|name| domain.path().join(name));
    let sound = files.each_ref().map(|file| fs::read(file).unwrap());
    for _ in 0..rounds {
        let which = random.below(3) as usize;
        let file = File::options().write(true).open(&files[which]).unwrap();
        for _ in 0..=random.below(4) {
            let at = 8 * random.below(sound[which].len().min(16 << 10) as u64 / 8);
            let word = match random.below(3) {
                0 => random.next(),
                1 => u64::MAX,
                _ => random.below(1 << 16),
            };
            file.write_all_at(&word.to_ne_bytes(), at).unwrap();
        }
        findings(&domain);
        file.write_all_at(&sound[which], 0).unwrap();
    }
    ringlane::remove_domain(domain.name()).unwrap();
    tally(
        "corrupt",
        "damaged domains that the doctor looked at",
        rounds as u64,
    );
}

#[test]
fn a_kernel_and_a_machine_that_lack_something_are_told() {
    let _domain = Domain::new("doctor-machine");
    let lines = said(Process::start("sandboxed", &[]));
    tells(&lines, "warning", "no pidfd_open");
    tells(&lines, "note", "no membarrier");
    let lines = said(Process::start("unadvised", &[]));
    tells(&lines, "warning", "no MADV_WIPEONFORK");
    tells(&lines, "note", "no MADV_POPULATE_WRITE");
    let lines = said(Process::start("bound", &[]));
    tells(&lines, "note", "one processor");
}

#[test]
fn a_place_that_is_wrong_is_told() {
    let domain = Domain::new("doctor-place");
    let scratch = Scratch::new(&domain);
    let look = || said(scratch.start("look", &[]));
    fs::set_permissions(&scratch.0, Permissions::from_mode(0o777)).unwrap();
    tells(&look(), "warning", "everybody may remove");
    fs::set_permissions(&scratch.0, Permissions::from_mode(0o700)).unwrap();
    fs::create_dir(scratch.base()).unwrap();
    fs::set_permissions(scratch.base(), Permissions::from_mode(0o755)).unwrap();
    tells(&look(), "error", "others may access it");
    let mut told = 3;
    if chown(scratch.base(), Some(65534), None).is_ok() {
        tells(&look(), "error", "belongs to another user");
        told += 1;
    } else {
        skip("permissions", "nothing can be given to another user here");
    }
    fs::remove_dir(scratch.base()).unwrap();
    let mut command = Command::new("/proc/self/exe");
    command.env("RINGLANE_DIR", scratch.0.join("nowhere"));
    let lines = said(Process::start_by(command, "look", &[]));
    tells(&lines, "error", "no such directory");
    tally("permissions", "wrong places that the doctor told of", told);
}

#[test]
fn a_small_file_system_is_told() {
    let domain = Domain::new("doctor-small");
    let scratch = Scratch::new(&domain);
    let namespaces = match rustix::process::geteuid().is_root() {
        true => "-m",
        false => "-Urm",
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
        skip(
            "no-room",
            &format!("`unshare {namespaces}` and a mount are not possible here"),
        );
        return;
    }
    let mut unshare = mounted();
    unshare.arg(std::env::current_exe().unwrap());
    let lines = said(Process::start_by(unshare, "look", &[]));
    tells(&lines, "warning", "bytes of 1048576 are free");
    assert!(
        !lines.iter().any(|line| line.contains("no tmpfs")),
        "{lines:?}"
    );
    tally(
        "no-room",
        "file systems too small for a child that the doctor told of",
        1,
    );
}

/// What `dump --check` found in the place, and its exit status.
struct Checked {
    status: u8,
    /// In domains: severity, what it is about, what is so.
    of_domains: Vec<[String; 3]>,
}

/// Checks as JSON, and as text, which must say the same.
fn checked(scratch: &Scratch, more: &[&str]) -> Checked {
    let (status, json) = scratch.dump(&[&["--check", "--json"], more].concat());
    let document: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(document["schema"], "ringlane.check");
    let word =
        |finding: &serde_json::Value, name: &str| finding[name].as_str().unwrap().to_string();
    let all = document["findings"].as_array().unwrap().iter();
    let all = all.map(|found| ["severity", "about", "text"].map(|name| word(found, name)));
    let is_there = |name: &str| scratch.base().join(name).exists();
    let (of_domains, of_machine): (Vec<_>, Vec<_>) =
        all.partition(|[_, about, _]| is_there(about.split('/').next().unwrap()));
    let is_bad = |found: &[String; 3]| found[0] != "note";
    if of_machine.iter().any(is_bad) {
        skip(
            "leak",
            "an exit status of 0: this machine is not as it should be",
        );
    }
    let is_well = !of_domains.iter().chain(&of_machine).any(is_bad);
    let (again, text) = scratch.dump(&[&["--check"], more].concat());
    assert_eq!(again, status);
    assert_eq!(text.contains("nothing is wrong"), is_well, "{text}");
    for [severity, about, what] in &of_domains {
        assert!(
            text.contains(&format!("{severity}: {about}: {what}")),
            "{text}"
        );
    }
    assert_eq!(status, if is_well { 0 } else { 3 }, "{text}");
    Checked { status, of_domains }
}

#[test]
fn on_the_command_line_it_tells_and_removes_what_is_asked_for() {
    let domain = Domain::new("doctor-dump");
    let scratch = Scratch::new(&domain);
    assert_eq!(scratch.dump(&["--clean", "--json"]).0, 2);
    let unknown = scratch.dump(&["--check", "--domain", "nobody"]);
    assert_eq!(unknown, (1, String::new()));
    let nothing = (0, "nothing to remove\n".to_string());
    assert_eq!(scratch.dump(&["--clean"]), nothing);
    let mut lives = scratch.start("actor", &["lives"]);
    assert_eq!(lives.ask("create c"), "Ok");
    assert_eq!(checked(&scratch, &[]).of_domains, [[""; 3]; 0]);
    let mut rests = scratch.start("store actor", &["rests"]);
    assert_eq!(rests.ask("create s"), "Ok(())");
    assert_eq!(rests.ask("set key 7"), "Ok(())");
    rests.finish();
    let notes = checked(&scratch, &[]).of_domains;
    assert!(
        matches!(&notes[..], [[severity, about, what]]
            if severity == "note" && about == "rests" && what.contains("1 keys in 1 stores")),
        "{notes:?}"
    );
    let mut dead = scratch.start("actor", &["dead"]);
    assert_eq!(dead.ask("create c"), "Ok");
    assert_eq!(dead.ask("send 7"), "Ok(())");
    dead.kill();
    for asked_for in [&[][..], &["--domain", "dead"]] {
        let Checked { status, of_domains } = checked(&scratch, asked_for);
        assert_eq!(status, 3);
        let warned = |about: &str, what: &str| {
            let right = |found: &&[String; 3]| {
                found[0] == "warning" && found[1] == about && found[2].contains(what)
            };
            assert_eq!(of_domains.iter().filter(right).count(), 1, "{of_domains:?}");
        };
        warned("dead", "no process lives in it");
        warned("dead/c", &format!("its host, process {}, died", dead.pid()));
    }
    let is_there = |name: &str| scratch.base().join(name).exists();
    assert!(is_there("dead") && is_there("rests") && is_there("lives"));
    let (status, told) = scratch.dump(&["--clean"]);
    assert_eq!(status, 0);
    assert!(
        told.starts_with("removed dead: 1 channels with 1 undelivered"),
        "{told}"
    );
    assert!(!is_there("dead") && is_there("rests") && is_there("lives"));
    let (status, told) = scratch.dump(&["--clean", "--domain", "lives"]);
    assert!(status == 1 && is_there("lives"), "{told}");
    let (status, told) = scratch.dump(&["--clean", "--domain", "rests"]);
    assert!(
        status == 0 && told.starts_with("removed rests") && !is_there("rests"),
        "{told}"
    );
    lives.finish();
    tally("leak", "abandoned domains removed", 2);
}

/// What it was is not to be told, so nobody can say that nobody needs it.
#[test]
fn a_domain_with_what_cannot_be_read_is_not_removed_unasked() {
    let domain = Domain::new("doctor-unread");
    let scratch = Scratch::new(&domain);
    for (role, make, fill, file) in [
        ("store actor", "create s", "set key 7", "s.store"),
        ("actor", "create c", "send 7", "c.channel"),
    ] {
        let mut rests = scratch.start(role, &["rests"]);
        rests.ask(make);
        assert_eq!(rests.ask(fill), "Ok(())");
        rests.finish();
        let path = scratch.base().join("rests").join(file);
        put(&path, FIRST_OF_ITS_OWN, 3);
        let told = checked(&scratch, &[]).of_domains;
        let [[severity, about, what], [.., file_about, _]] = &told[..] else {
            panic!("{told:?}");
        };
        assert_eq!((severity.as_str(), about.as_str()), ("note", "rests"));
        assert!(
            what.ends_with("; and 1 files that could not be read"),
            "{what}"
        );
        assert_eq!(*file_about, format!("rests/{file}"));
        let (status, said) = scratch.dump(&["--clean"]);
        assert_eq!((status, said.as_str()), (0, "nothing to remove\n"));
        assert!(path.exists());
        let (status, said) = scratch.dump(&["--clean", "--domain", "rests"]);
        let ends = said.ends_with(", 1 files that could not be read\n");
        assert!(status == 0 && ends && !path.exists(), "{said}");
    }
    tally("leak", "abandoned domains removed", 2);
}
