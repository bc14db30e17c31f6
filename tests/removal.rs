//! A domain in which nobody lives can be removed, and no other: whoever is attached, or is about to
//! be, keeps what it has.

mod common;

use common::{Domain, LONG, Process, Random, actor, base, hear, play, say, scale, skip};
use common::{stores, tally, until};
use ringlane::{Channel, Error, Runtime, Store, remove_domain};
use rustix::process::Signal;
use std::fs::{self, File};
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant, SystemTime};

#[test]
#[ignore = "plays the roles of the other tests"]
fn process() {
    play(|role, arguments| match role {
        "actor" => actor::act(arguments),
        "store actor" => stores::act(arguments),
        "main" => be_main(arguments[0]),
        "lose token" => lose_token(arguments[0]),
        "churn" => churn(arguments[0], arguments[1], arguments[2]),
        "remover" => remove_for_ever(arguments[0]),
        "echo" => echo(arguments[0]),
        other => panic!("{other}"),
    });
}

#[track_caller]
fn is_in_use(domain: &Domain, by: u32) {
    match remove_domain(domain.name()) {
        Err(Error::DomainInUse { domain: name, pid }) => {
            assert_eq!((name.as_str(), pid), (domain.name(), by));
        }
        other => panic!("{other:?}"),
    }
}

/// Kills a process that hosts a channel with an undelivered message.
fn left_by_the_dead(domain: &Domain) {
    let mut host = actor::host(domain.name(), "old");
    assert_eq!(host.ask("send 7"), "Ok(())");
    host.kill();
    assert!(domain.file("old").exists());
}

fn be_main(domain: &str) {
    let runtime = Runtime::builder(domain).start().unwrap();
    runtime.store().unwrap().set("key", &7u8).unwrap();
    say("started");
    hear();
    runtime.shutdown().unwrap();
}

/// In https://github.com/eProsima/Fast-DDS/issues/2790 it fills `/dev/shm`.
#[test]
fn all_that_the_dead_left_goes_and_nothing_else() {
    let domain = Domain::new("removal");
    let beside = domain.keep_base();
    left_by_the_dead(&domain);
    let mut main = Process::start("main", &[domain.name()]);
    assert_eq!(main.line(), "started");
    is_in_use(&domain, main.pid());
    main.kill();
    // Left in order, with a message that nobody received.
    let mut host = domain.of::<u64>().create("closed").unwrap();
    host.send(7).unwrap();
    drop(host);
    let files = fs::read_dir(domain.path()).unwrap().count();
    assert!(files >= 4, "{files} files");
    remove_domain(domain.name()).unwrap();
    assert!(!domain.path().exists() && base().exists());
    let again = remove_domain(domain.name());
    assert!(matches!(again, Err(Error::NotFound { .. })), "{again:?}");
    drop(beside);
    assert!(matches!(remove_domain("a/b"), Err(Error::BadName { .. })));
    tally("leak", "abandoned domains removed", 1);
}

#[test]
fn who_lives_keeps_what_it_has() {
    let domain = Domain::new("removal-living");
    let mut host = domain.of::<u64>().create("mine").unwrap();
    is_in_use(&domain, std::process::id());
    let mut guest = actor::guest(domain.name(), "mine");
    host.send(7).unwrap();
    drop(host);
    is_in_use(&domain, guest.pid());
    assert_eq!(guest.ask("recv"), "Ok(7)");
    // Stopped is alive.
    let held = domain.of::<u64>().create("held").unwrap();
    drop(held);
    let mut host = actor::host(domain.name(), "c");
    guest.finish();
    host.signal(Signal::STOP);
    until(|| host.state() == 'T');
    is_in_use(&domain, host.pid());
    host.signal(Signal::CONT);
    let mut guest = domain.of::<u64>().open("c").unwrap();
    assert_eq!(host.ask("send 8"), "Ok(())");
    assert_eq!(guest.recv_timeout(LONG), Ok(8));
    drop(guest);
    host.finish();
    tally("leak", "tries to remove a domain that somebody lives in", 4);
}

/// What a careless `closefrom` does.
fn lose_token(domain: &str) {
    let guest = Channel::<u64>::options().domain(domain).open("c").unwrap();
    for descriptor in 3..1024 {
        // SAFETY: nothing in this process uses a descriptor of its own from here on; what still
        // owns one is never dropped, since the process is killed.
        unsafe { libc::close(descriptor) };
    }
    say("lost");
    hear();
    std::mem::forget(guest);
}

#[test]
fn a_process_that_lost_its_token_keeps_its_domain() {
    let domain = Domain::new("removal-token");
    let mut host = actor::host(domain.name(), "c");
    let mut guest = Process::start("lose token", &[domain.name()]);
    assert_eq!(guest.line(), "lost");
    host.kill();
    // Its lock is free, and its pid proves it alive all the same.
    is_in_use(&domain, guest.pid());
    guest.kill();
    remove_domain(domain.name()).unwrap();
}

#[test]
fn a_process_in_another_pid_namespace_keeps_its_domain() {
    let domain = Domain::new("removal-namespace");
    let flags = match rustix::process::geteuid().is_root() {
        true => "-pf",
        // As the same user: another one's domains would lie elsewhere.
        false => "-Ucpf",
    };
    let mut unshare = Command::new("unshare");
    unshare.args([flags, "--kill-child"]);
    let works = Command::new("unshare").args([flags, "true"]).output();
    if !works.is_ok_and(|output| output.status.success()) {
        skip(
            "namespaces",
            &format!("`unshare {flags}` is not possible here"),
        );
        return;
    }
    unshare.arg(std::env::current_exe().unwrap());
    let mut host = Process::start_by(unshare, "actor", &[domain.name()]);
    assert_eq!(host.ask("create c"), "Ok");
    // Its lock says so, and its pid says nothing here.
    is_in_use(&domain, 0);
    let mut guest = domain.of::<u64>().open("c").unwrap();
    assert_eq!(host.ask("send 7"), "Ok(())");
    assert_eq!(guest.recv_timeout(LONG), Ok(7));
    drop(guest);
    host.finish();
    tally(
        "namespaces",
        "tries to remove a domain that somebody in another one lives in",
        1,
    );
}

#[test]
fn what_cannot_be_judged_stays_whole() {
    let domain = Domain::new("removal-refused");
    left_by_the_dead(&domain);
    let list = || {
        let entries = fs::read_dir(domain.path()).unwrap();
        let mut names: Vec<_> = entries.map(|e| e.unwrap().file_name()).collect();
        names.sort();
        names
    };
    let refused = |what: &str| {
        let before = list();
        let error = remove_domain(domain.name()).unwrap_err().to_string();
        assert!(error.contains(what), "{error}");
        assert_eq!(list(), before);
    };
    let path = |name: &str| domain.path().join(name);
    let odd: [(&str, &str); 3] = [
        ("notes.txt", "no file of this library"),
        ("\u{1b}[2J.channel", "no segment"),
        ("a.store", "no segment"),
    ];
    for (name, why) in odd {
        fs::write(path(name), "").unwrap();
        fs::set_permissions(path(name), PermissionsExt::from_mode(0o600)).unwrap();
        refused(why);
        fs::remove_file(path(name)).unwrap();
    }
    symlink("/etc/passwd", path("link.channel")).unwrap();
    refused("symbolic link");
    fs::remove_file(path("link.channel")).unwrap();
    let no_text: &std::ffi::OsStr = std::os::unix::ffi::OsStrExt::from_bytes(b"\xff.channel");
    fs::write(domain.path().join(no_text), "").unwrap();
    refused("");
    fs::remove_file(domain.path().join(no_text)).unwrap();
    let mut stayed = 8;
    if std::os::unix::fs::chown(domain.file("old"), Some(65534), None).is_ok() {
        refused("another user");
        stayed += 1;
        let me = rustix::process::geteuid().as_raw();
        std::os::unix::fs::chown(domain.file("old"), Some(me), None).unwrap();
    } else {
        skip("permissions", "nothing can be given to another user here");
    }
    patched(
        &domain.file("old"),
        ROSTER,
        |id| id + 1,
        || refused("another incarnation"),
    );
    patched(
        &path("roster"),
        VERSION,
        |version| version + 41,
        || refused("layout version"),
    );
    fs::rename(path("roster"), path("elsewhere")).unwrap();
    refused("without a roster");
    fs::rename(path("elsewhere"), path("roster")).unwrap();
    // A dead file of another layout is a dead file.
    patched(
        &domain.file("old"),
        VERSION,
        |version| version + 41,
        || {
            remove_domain(domain.name()).unwrap();
        },
    );
    assert!(!domain.path().exists());
    // A directory that somebody made: he may be about to join, or was killed.
    let beside = domain.keep_base();
    let outcome = loop {
        let made = Instant::now();
        fs::create_dir(domain.path()).unwrap();
        fs::set_permissions(domain.path(), PermissionsExt::from_mode(0o700)).unwrap();
        let outcome = remove_domain(domain.name());
        // It is new for a second, in which this process need not get a processor.
        if made.elapsed() < Duration::from_secs(1) {
            break outcome;
        }
        let _ = fs::remove_dir(domain.path());
    };
    assert!(matches!(outcome, Err(Error::DomainInUse { pid: 0, .. })));
    let directory = File::open(domain.path()).unwrap();
    directory.set_modified(SystemTime::UNIX_EPOCH).unwrap();
    remove_domain(domain.name()).unwrap();
    assert!(!domain.path().exists());
    drop(beside);
    tally(
        "leak",
        "domains that could not be judged and stayed whole",
        stayed,
    );
}

/// Where a segment says which layout it has, and of which roster it is.
const VERSION: u64 = 8;
const ROSTER: u64 = 24;

/// Changes a word of a file while something is done.
fn patched(file: &Path, at: u64, change: impl Fn(u64) -> u64, then: impl FnOnce()) {
    let file = File::options().read(true).write(true).open(file).unwrap();
    let mut bytes = [0; 8];
    file.read_exact_at(&mut bytes, at).unwrap();
    let word = change(u64::from_ne_bytes(bytes));
    file.write_all_at(&word.to_ne_bytes(), at).unwrap();
    then();
    file.write_all_at(&bytes, at).unwrap();
}

/// Comes, uses a channel and a store of its own, and leaves, now and then without taking a message
/// along, for ever. While it holds them nobody may take them away.
fn churn(domain: &str, name: &str, seed: &str) {
    // At once, so that no kill comes before it and hides it.
    std::panic::set_hook(Box::new(|what| {
        eprintln!("{what}");
        std::process::abort();
    }));
    let mut random = Random::of(seed.parse().unwrap());
    let options = || Channel::<u64>::options().domain(domain).capacity(4096);
    let file = |kind: &str| base().join(domain).join(format!("{name}.{kind}"));
    for round in 0.. {
        let mut host = options().keep_undelivered(false).create(name).unwrap();
        std::thread::sleep(random.micros(200));
        assert!(file("channel").exists());
        let mut guest = options().open(name).unwrap();
        host.send(round).unwrap();
        // What a killed one left of news comes first.
        while guest.recv_timeout(LONG) != Ok(round) {}
        let store = Store::options()
            .domain(domain)
            .open_or_create(name)
            .unwrap();
        store.set("round", &round).unwrap();
        std::thread::sleep(random.micros(200));
        assert!(file("store").exists());
        let again = Store::options().domain(domain).open(name).unwrap();
        assert_eq!(again.get::<u64>("round").unwrap(), Some(round));
        if random.below(2) == 0 {
            store.remove().unwrap();
        }
        drop((store, again, guest));
        if random.below(2) == 0 {
            host.send(round).unwrap();
        }
        drop(host);
        std::thread::sleep(random.micros(1_000));
    }
}

/// Removes the domain as often as it can be. Gives what it did, and when it was refused.
fn remove(domain: &str) -> Option<bool> {
    match remove_domain(domain) {
        Ok(()) => Some(true),
        Err(Error::DomainInUse { .. }) => Some(false),
        Err(Error::NotFound { .. }) => None,
        Err(e) => panic!("{e}"),
    }
}

fn remove_for_ever(domain: &str) {
    loop {
        remove(domain);
    }
}

// Clean-up that races a restart is a complaint about others: an opener finds what is being removed
// and takes it for corrupt. https://github.com/eclipse-iceoryx/iceoryx2/issues/1578
// https://github.com/eclipse-iceoryx/iceoryx2/issues/927
#[test]
fn removal_races_those_who_come_and_go_and_are_killed() {
    let domain = Domain::new("removal-race");
    let _beside = domain.keep_base();
    let mut random = Random::printed();
    let name = domain.name();
    let start = |which: usize, random: &mut Random| match which {
        0 | 1 => {
            let (own, seed) = (format!("c{which}"), random.next().to_string());
            Process::start("churn", &[name, &own, &seed])
        }
        // Killed like the others, so that removals are left half done.
        _ => Process::start("remover", &[name]),
    };
    let mut processes: Vec<_> = (0..3).map(|which| start(which, &mut random)).collect();
    let (most, most_kills) = (scale(30, 500), scale(10, 400));
    let (mut removed, mut in_use, mut kills) = (0, 0, 0);
    while removed < most || kills < most_kills || in_use < most {
        match remove(name) {
            Some(true) => removed += 1,
            Some(false) => in_use += 1,
            None => {}
        }
        if random.below(300) == 0 {
            let which = random.below(3) as usize;
            assert_ne!(processes[which].state(), 'Z', "process {which} failed");
            processes[which].kill();
            processes[which] = start(which, &mut random);
            kills += 1;
        }
    }
    for process in &mut processes {
        assert_ne!(process.state(), 'Z');
        process.kill();
    }
    while remove(name) == Some(false) {
        std::thread::sleep(Duration::from_millis(1));
    }
    assert!(!domain.path().exists());
    tally("leak", "abandoned domains removed", removed as u64);
    tally(
        "leak",
        "tries to remove a domain that somebody lives in",
        in_use as u64,
    );
    tally(
        "race",
        "kills of processes beside those that remove their domain",
        kills as u64,
    );
}

// ---- Names that others remove.

/// Tells by a store what it is told by a channel, and answers.
fn echo(domain: &str) {
    let mut guest = Channel::<u64>::options().domain(domain).open("c").unwrap();
    let store = Store::options().domain(domain).open("s").unwrap();
    while let Ok(number) = guest.recv() {
        assert_eq!(store.get::<u64>("host").unwrap(), Some(number));
        store.set("guest", &number).unwrap();
        guest.send(number).unwrap();
    }
}

/// Somebody tidies `/dev/shm` up, as systemd does at a logout: whoever has a channel or a store goes
/// on. In https://github.com/eProsima/Fast-DDS/issues/5576 communication ends; others that this met
/// are https://github.com/systemd/systemd/issues/2039 and https://github.com/brickbots/PiFinder/pull/548.
#[test]
fn traffic_goes_on_though_all_names_are_removed() {
    let domain = Domain::new("no-names");
    let path = |name: &str| domain.path().join(name);
    let mut host = domain.of::<u64>().create("c").unwrap();
    let store = Store::options().domain(domain.name()).create("s").unwrap();
    let mut guest = Process::start("echo", &[domain.name()]);
    let mut names = ["s.store", "c.channel", "roster"].into_iter();
    for number in 0..400u64 {
        store.set("host", &number).unwrap();
        host.send(number).unwrap();
        assert_eq!(host.recv_timeout(LONG), Ok(number));
        assert_eq!(store.get::<u64>("guest").unwrap(), Some(number));
        if number % 100 == 50 {
            match names.next() {
                Some(name) => fs::remove_file(path(name)).unwrap(),
                None => fs::remove_dir(domain.path()).unwrap(),
            }
        }
    }
    // A death is told all the same.
    let pid = guest.pid();
    guest.kill();
    let died = ringlane::TryRecvError::Recv(ringlane::RecvError::PeerDied { pid });
    assert_eq!(host.recv_timeout(LONG), Err(died));
    store.verify().unwrap();
    assert!(!domain.path().exists());
    tally("truncate", "names removed under traffic", 4);
}
