//! Several processes want the end of a dead one at once, and some are killed while they take it: one
//! gets it, the others are told whose it is, and what was sent outlives all of them.

use crate::common::{Domain, Random, be_killed_in, scale, tally};
use crate::forkserver::{Fork, ForkServer};
use crate::ledger::{Id, Ledger, message};
use crate::{AT, FOR_LONG, options, soon};
use ringlane::{End, Error, PeerState};
use std::sync::atomic::Ordering::{AcqRel, Acquire, Release};
use std::time::Duration;

/// What each of the takers came to, behind the word that lets them go.
const GO: usize = 5;
const CAME_TO: usize = 6;
const WAITING: u64 = 0;
const TAKING: u64 = 1;
const WON: u64 = 2;
const REFUSED: u64 = 3;

/// In a fork: is one of those who want an end, all at once. Whoever gets it keeps it, but for the
/// one that lives for so many microseconds from then on.
pub fn take(words: &[&str]) {
    let [_, domain, path, round, me, end, life] = words else {
        panic!("{words:?}");
    };
    let ledger = Ledger::open(path);
    let (round, me): (u64, usize) = (round.parse().unwrap(), me.parse().unwrap());
    let came_to = ledger.own(CAME_TO + me);
    came_to.store(WAITING, Release);
    ledger.own(AT[0]).fetch_add(1, AcqRel);
    while ledger.own(GO).load(Acquire) != round {
        std::hint::spin_loop();
    }
    if *life != FOR_LONG {
        be_killed_in(Duration::from_micros(life.parse().unwrap()));
    }
    came_to.store(TAKING, Release);
    let outcome = match *end {
        "Host" => options(domain).create("c"),
        _ => options(domain).open("c"),
    };
    // Whose it is, where the error says that.
    let word = match &outcome {
        Ok(_) => WON,
        Err(Error::AlreadyExists { .. }) if *end == "Host" => REFUSED,
        Err(Error::EndTaken { pid, .. }) if *end == "Guest" => u64::from(*pid) << 32 | REFUSED,
        Err(e) => ledger.fail(&format!("{words:?}: {e:?}")),
    };
    came_to.store(word, Release);
    loop {
        std::thread::park();
    }
}

/// One channel whose other end we hold.
struct Race<'a> {
    domain: &'a Domain,
    end: End,
    server: ForkServer,
    ledger: Ledger,
    round: u64,
}

impl Race<'_> {
    /// Starts takers that live for so long, and waits until all are about to begin.
    fn line_up(&mut self, lives: &[&str]) -> Vec<Fork> {
        self.round += 1;
        let lined_up = self.ledger.own(AT[0]);
        lined_up.store(0, Release);
        let (domain, path) = (self.domain.name(), self.ledger.0.path());
        let takers = lives.iter().enumerate().map(|(me, life)| {
            let (round, end) = (self.round, self.end);
            let line = format!("taker {domain} {path} {round} {me} {end:?} {life}");
            self.server.fork(&line)
        });
        let takers = takers.collect();
        soon(|| lined_up.load(Acquire) == lives.len() as u64);
        takers
    }

    fn go(&self) {
        self.ledger.own(GO).store(self.round, Release);
    }

    /// What a taker is at, or was when it was killed.
    fn at(&self, me: usize) -> u64 {
        self.ledger.own(CAME_TO + me).load(Acquire) & 0xff
    }

    /// What a taker came to, and if it was refused, who has the end, where the error says that.
    fn came_to(&self, me: usize) -> (u64, u32) {
        let word = self.ledger.own(CAME_TO + me);
        soon(|| self.at(me) > TAKING || self.ledger.is_wrong());
        assert!(!self.ledger.is_wrong(), "a taker found something wrong");
        let word = word.load(Acquire);
        (word & 0xff, (word >> 32) as u32)
    }

    /// One taker, which must get the end.
    fn sole(&mut self) -> Fork {
        let fork = self.line_up(&[FOR_LONG]).remove(0);
        self.go();
        assert_eq!(self.came_to(0).0, WON, "the end of a dead one is taken");
        fork
    }
}

/// Two at least, and now and then one more, which is killed while it takes the end, or after.
fn race(end: End) {
    let domain = Domain::new(&format!("race-{end:?}"));
    let mut random = Random::printed();
    let rounds = scale(40, 1_000);
    let mut race = Race {
        domain: &domain,
        end,
        server: ForkServer::start(),
        ledger: Ledger::new(&domain, 0),
        round: 0,
    };
    // The host makes the channel, so a guest can only come later.
    let make = || options(domain.name()).create("c").unwrap();
    let host = (end == End::Guest).then(make);
    let mut holder = race.sole();
    let mut ours = host.unwrap_or_else(|| options(domain.name()).open("c").unwrap());
    let (mut killed, mut orphaned, mut sent) = ([0; 4], 0, 0);
    for _ in 0..rounds {
        // What was sent outlives all of them.
        let id = Id {
            sender: 0,
            number: sent,
        };
        sent += u64::from(ours.try_send(message(id)).is_ok());
        let with_a_third = random.below(2) == 0;
        let life = (1 + random.below(400)).to_string();
        let lives = [FOR_LONG, FOR_LONG, &life];
        let mut takers = race.line_up(&lives[..if with_a_third { 3 } else { 2 }]);
        race.server.kill(holder);
        race.go();
        let third = takers.get(2).map(Fork::pid);
        if with_a_third {
            race.server.wait_for_kill(takers.remove(2));
            killed[race.at(2) as usize] += 1;
        }
        let came_to = [race.came_to(0), race.came_to(1)];
        let winners = came_to.iter().filter(|(what, _)| *what == WON).count();
        let winner = came_to.iter().position(|(what, _)| *what == WON);
        match winner {
            Some(winner) => {
                assert_eq!(winners, 1, "an end has two holders");
                let pid = takers[winner].pid();
                assert_eq!(ours.peer(), PeerState::Alive { pid });
                let (_, refused_by) = came_to[1 - winner];
                assert!(
                    end == End::Host || refused_by == pid || Some(refused_by) == third,
                    "it is {pid}'s, not {refused_by}'s"
                );
                holder = takers.remove(winner);
            }
            // The third one had it, and died.
            None => {
                assert!(
                    with_a_third,
                    "nobody got the end of a dead one: {came_to:?}"
                );
                assert!(
                    came_to
                        .iter()
                        .all(|(_, pid)| end == End::Host || Some(*pid) == third)
                );
                assert!([TAKING, WON].contains(&race.at(2)));
                orphaned += 1;
                holder = race.sole();
            }
        }
        takers.into_iter().for_each(|taker| race.server.kill(taker));
    }
    race.server.kill(holder);
    race.server.finish();
    let mut theirs = match end {
        End::Host => options(domain.name()).create("c").unwrap(),
        End::Guest => options(domain.name()).open("c").unwrap(),
    };
    let expected = (0..sent).map(|number| message(Id { sender: 0, number }));
    assert!(theirs.try_iter().eq(expected));
    eprintln!(
        "{rounds} races for the {end:?}'s end; of those who were killed {killed:?} waited, took it, \
         had it, were refused; {orphaned} times nobody else got it"
    );
    tally(
        "double",
        "races of two or three takers for the end of a dead one",
        rounds as u64,
    );
    let [before, during, had, refused] = killed;
    let what = "kills of one taker of three while it took the end";
    tally("double", what, during);
    tally(
        "double",
        "kills of one taker of three that had got the end",
        had,
    );
    let what = "kills of one taker of three before it began, or when it was refused";
    tally("race", what, before + refused);
}

#[test]
fn one_of_several_takers_gets_the_end() {
    race(End::Guest);
    race(End::Host);
}
