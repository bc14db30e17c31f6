//! A domain can always be joined: slots come back, and what a kill or a reboot left half done is
//! finished by whoever comes next.

mod common;

use common::{Domain, LONG, Process, actor, hear, play, say, scale, until};
use ringlane::{Channel, Error, RecvError, TryRecvError};
use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Where the roster says which boot it is of, and whether it was retired.
const BOOT_ID: u64 = 128;
const STATE: u64 = 144;

#[test]
#[ignore = "plays the roles of the other tests"]
fn process() {
    play(|role, arguments| match role {
        "actor" => actor::act(arguments),
        // Holds an end, and becomes another program of the same pid.
        "changeling" => {
            let mut channel = Channel::<u64>::options()
                .domain(arguments[0])
                .open("c")
                .unwrap();
            if arguments.len() > 1 {
                say("open");
                channel.recv().unwrap();
            }
            let error = Command::new("/proc/self/exe")
                .args(std::env::args_os().skip(1))
                .env("RINGLANE_TEST_ROLE", "actor")
                .exec();
            panic!("{channel:?} {error}");
        }
        "late" => join_late(arguments[0]),
        "wanderer" => wander(arguments[0]),
        other => panic!("{other}"),
    });
}

fn patch(domain: &Domain, at: u64, words: &[u64]) {
    let file = std::fs::File::options()
        .write(true)
        .open(domain.path().join("roster"))
        .unwrap();
    let bytes: Vec<u8> = words.iter().flat_map(|w| w.to_ne_bytes()).collect();
    file.write_all_at(&bytes, at).unwrap();
}

/// What a killed process leaves: a channel and its roster.
fn left_by_the_dead(domain: &Domain) {
    actor::host(domain.name(), "old").kill();
    assert!(domain.file("old").exists());
}

#[test]
fn whoever_leaves_gives_its_slot_back() {
    let domain = Domain::new("slots");
    let stays = actor::host(domain.name(), "c");
    // Far more than there are slots.
    for _ in 0..scale(600, 2_000) {
        match domain.of::<u64>().open("missing") {
            Err(Error::NotFound { name }) => assert_eq!(name, "missing"),
            other => panic!("{other:?}"),
        }
    }
    stays.finish();
}

#[test]
fn slots_of_the_dead_are_used_again() {
    let domain = Domain::new("dead-slots");
    let stays = actor::host(domain.name(), "c");
    for _ in 0..scale(300, 600) {
        actor::guest(domain.name(), "c").kill();
    }
    stays.finish();
}

#[test]
fn a_retirement_that_was_cut_short_is_finished() {
    let domain = Domain::new("retired");
    left_by_the_dead(&domain);
    std::fs::remove_file(domain.file("old")).unwrap();
    patch(&domain, STATE, &[1]);
    let mut host = domain.of::<u64>().create("c").unwrap();
    let mut guest = domain.of::<u64>().open("c").unwrap();
    host.send(7).unwrap();
    assert_eq!(guest.recv(), Ok(7));
}

#[test]
fn after_a_reboot_everybody_can_join_and_one_holds_each_end() {
    for round in 0..scale(10, 50) {
        let domain = Domain::new(&format!("boot-{round}"));
        left_by_the_dead(&domain);
        patch(&domain, BOOT_ID, &[round as u64 + 1, 2]);
        // All at once, as services do at boot.
        let mut actors: Vec<_> = (0..4).map(|_| actor::start(domain.name())).collect();
        for actor in &mut actors {
            actor.tell("create old");
        }
        let answers: Vec<_> = actors.iter_mut().map(Process::line).collect();
        let got = answers.iter().filter(|answer| *answer == "Ok").count();
        assert_eq!(got, 1, "{answers:?}");
        let refused = answers
            .iter()
            .filter(|answer| answer.starts_with("AlreadyExists"))
            .count();
        assert_eq!(refused, 3, "{answers:?}");
        actors.into_iter().for_each(Process::finish);
    }
}

#[test]
fn a_program_may_take_what_the_one_that_became_it_held() {
    let domain = Domain::new("changeling");
    let mut host = domain.of::<u64>().create("c").unwrap();
    let mut guest = Process::start("changeling", &[domain.name()]);
    assert_eq!(guest.ask("open c"), "Ok");
    host.send(7).unwrap();
    assert_eq!(guest.ask("recv"), "Ok(7)");
    drop(host);
    guest.finish();
}

/// The new program comes by another slot than the old one had.
#[test]
fn what_a_program_held_before_it_became_another_is_not_held() {
    let domain = Domain::new("changeling-elsewhere");
    let before = actor::host(domain.name(), "x");
    let mut host = domain.of::<u64>().create("c").unwrap();
    let mut guest = Process::start("changeling", &[domain.name(), "later"]);
    assert_eq!(guest.line(), "open");
    assert_eq!(host.try_recv(), Err(TryRecvError::Empty));
    // So there is a lower one now.
    before.finish();
    host.send(7).unwrap();
    assert_eq!(guest.ask("open c"), "Ok");
    let pid = guest.pid();
    let died = Err(TryRecvError::Recv(RecvError::PeerDied { pid }));
    assert_eq!(host.recv_timeout(LONG), died);
    let generation = 2;
    let restarted = Err(TryRecvError::Recv(RecvError::PeerRestarted { generation }));
    assert_eq!(host.recv_timeout(LONG), restarted);
    assert_eq!(guest.ask("send 8"), "Ok(())");
    assert_eq!(host.recv_timeout(LONG), Ok(8));
    guest.finish();
}

/// Takes all bytes of the roster but the first; `false` if somebody has one of them.
fn lock_the_rest(roster: &File) -> bool {
    // SAFETY: plain integers, for which zero is a value.
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    lock.l_type = libc::F_WRLCK as i16;
    lock.l_whence = libc::SEEK_SET as i16;
    (lock.l_start, lock.l_len) = (1, 255);
    // SAFETY: it reads one flock, which lives through the call.
    unsafe { libc::fcntl(roster.as_raw_fd(), libc::F_OFD_SETLK, &raw const lock) == 0 }
}

/// Forks while it waits for a slot.
fn join_late(domain: &str) {
    let options = Channel::<u64>::options().domain(domain);
    let opening = std::thread::spawn(move || options.open("c").unwrap());
    let of_roster = |fd: std::io::Result<std::fs::DirEntry>| {
        let target = std::fs::read_link(fd.unwrap().path());
        target.is_ok_and(|file| file.ends_with("roster"))
    };
    let all = || std::fs::read_dir("/proc/self/fd").unwrap();
    until(|| all().map(of_roster).filter(|is| *is).count() == 2);
    // What it does between opening the second one and its first try is no matter here.
    std::thread::sleep(std::time::Duration::from_millis(50));
    // SAFETY: the child makes two kinds of system call and nothing else.
    let child = unsafe { libc::fork() };
    if child == 0 {
        // SAFETY: without pointers.
        unsafe { libc::alarm(100) };
        loop {
            // SAFETY: without pointers.
            unsafe { libc::pause() };
        }
    }
    say(child);
    let channel = opening.join().unwrap();
    say("joined");
    hear();
    drop(channel);
}

#[test]
fn a_fork_of_one_that_waits_for_a_slot_does_not_keep_it() {
    let domain = Domain::new("late");
    let host = domain.of::<u64>().create("c").unwrap();
    let roster = || {
        let file = domain.path().join("roster");
        File::options().read(true).write(true).open(file).unwrap()
    };
    let taken = roster();
    assert!(lock_the_rest(&taken));
    let mut late = Process::start("late", &[domain.name()]);
    let fork = Pid::from_raw(late.line().parse().unwrap()).unwrap();
    drop(taken);
    assert_eq!(late.line(), "joined");
    late.kill();
    let file = roster();
    until(|| lock_the_rest(&file));
    drop(file);
    assert!(test_kill_process(fork).is_ok(), "this proves nothing");
    kill_process(fork, Signal::KILL).unwrap();
    drop(host);
}

fn wander(domain: &str) {
    let create = || Channel::<u64>::options().domain(domain).create("c");
    let here = create().unwrap();
    std::env::set_current_dir("../b").unwrap();
    let there = create().unwrap();
    assert!(is_there("../a", domain) && is_there("../b", domain));
    drop(here);
    assert!(!is_there("../a", domain) && is_there("../b", domain));
    drop(there);
    assert!(!is_there("../b", domain));
}

/// Whether any domain lies in that directory.
fn is_there(directory: &str, domain: &str) -> bool {
    let mut entries = std::fs::read_dir(directory).unwrap();
    entries.any(|entry| entry.unwrap().path().join(domain).exists())
}

/// A relative `RINGLANE_DIR` means another place in another directory.
#[test]
fn who_changes_its_directory_leaves_nothing_behind() {
    let domain = Domain::new("wanderer");
    let place = common::base().with_file_name(format!("ringlane-{}", domain.name()));
    for directory in ["a", "b"] {
        std::fs::create_dir_all(place.join(directory)).unwrap();
    }
    let mut command = Command::new("/proc/self/exe");
    command
        .current_dir(place.join("a"))
        .env("RINGLANE_DIR", ".");
    let mut wanderer = Process::start_by(command, "wanderer", &[domain.name()]);
    let status = wanderer.wait();
    std::fs::remove_dir_all(&place).unwrap();
    assert!(status.success(), "{status}");
}
