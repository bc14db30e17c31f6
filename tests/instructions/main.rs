//! A process that is killed at any instruction of a call has made the call or not, and whoever
//! comes next goes on from there: kills at every instruction, one after the other.
#![cfg(target_arch = "x86_64")]

#[path = "../common/mod.rs"]
mod common;

mod channels;
mod harness;
mod picture;
mod pool;
mod stores;
mod victim;
mod witness;

use common::{Domain, play, say, scale, skip, trace};
use harness::Harness;
use std::thread;
use witness::Subject;

#[test]
#[ignore = "what the processes of these tests run"]
fn process() {
    play(|role, arguments| match role {
        "victim" => victim::act(arguments),
        "witness" => {
            let which: usize = arguments[1].parse().unwrap();
            let found = Subject::ALL[which].witness(arguments[0]);
            found.iter().for_each(say);
        }
        "traced" => {
            trace::consent();
            trace::mark();
        }
        "sleeper" => channels::sleep_and_receive(arguments[0]),
        other => panic!("{other:?}"),
    });
}

/// A count by `RINGLANE_SCALE`: the larger ones for an optimised build, whose instructions are those
/// that users run.
fn size(test: usize, ci: usize) -> usize {
    match cfg!(debug_assertions) {
        true => test,
        false => scale(test, ci),
    }
}

#[test]
fn a_kill_at_any_instruction_leaves_the_call_made_or_not_made() {
    let Some(traced) = trace::Tracee::start("traced", &[]) else {
        return skip("instruction", "no process may be traced here");
    };
    traced.finish();
    let channels: &[fn(&mut Harness)] = &[
        channels::sends,
        channels::receives,
        channels::wakes,
        channels::attaches,
        channels::takes_over,
        channels::closes,
    ];
    let stores: &[fn(&mut Harness)] = &[stores::changes, stores::splits, stores::grows];
    // Two and a half million stops are a system call or two each, and no two of one victim's can
    // be made at the same time.
    let domain = Domain::for_long("instructions", 3);
    let played: Vec<Harness> = thread::scope(|scope| {
        let players = [channels, stores]
            .into_iter()
            .enumerate()
            .map(|(n, scenes)| {
                let name = format!("{}-{n}", domain.name());
                scope.spawn(move || {
                    let mut harness = Harness::new(&name, n);
                    scenes.iter().for_each(|play| play(&mut harness));
                    harness
                })
            });
        let players: Vec<_> = players.collect();
        players
            .into_iter()
            .map(|player| player.join().unwrap())
            .collect()
    });
    Harness::tell(&played);
}
