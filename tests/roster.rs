//! A domain can always be joined: slots come back, and what a kill or a reboot left half done is
//! finished by whoever comes next.

mod common;

use common::{Domain, LONG, Process, actor, play, say, scale};
use ringlane::{Channel, Error, RecvError, TryRecvError};
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
