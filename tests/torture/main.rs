//! Both ends of a channel are killed, at any moment and in the middle of anything, and nothing that
//! was acknowledged is lost but what a receiver had in work; nothing comes twice but what was not
//! taken, and what has a mark says so; and what comes is whole and in order.
//!
//! All deaths here are SIGKILLs of real processes. What they did is known by a book in memory that
//! they share beside the library.

#[path = "../common/mod.rs"]
mod common;
#[path = "../common/forkserver.rs"]
mod forkserver;
#[path = "../common/ledger.rs"]
mod ledger;
mod takers;

use common::{Domain, LONG, Random, Times, be_killed_in, now, play, scale, tally};
use forkserver::{Fork, ForkServer, serve};
use ledger::{How, Id, Ledger, MANY, message};
use ringlane::{
    Channel, ChannelOptions, End, Error, Receiver, RecvError, SendError, Sender, TryRecvError,
    inspect,
};
use std::collections::BTreeMap;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

#[test]
#[ignore = "what the processes of these tests run"]
fn process() {
    play(|role, _| match role {
        "forkserver" => serve(|line| {
            let words: Vec<_> = line.split(' ').collect();
            match words[0] {
                "sender" | "receiver" => victim(&words),
                "taker" => takers::take(&words),
                other => panic!("{other:?}"),
            }
        }),
        other => panic!("{other:?}"),
    });
}

// ---- Victims.

/// Room for a few dozen messages, and twice the largest.
const CAPACITY: usize = 8192;

/// What the ends tell of themselves: their incarnation, and what they are at.
const AT: [usize; 2] = [0, 1];
/// Which of them is to take its time, if any.
const SLOW: usize = 2;
/// Whose death the other one is to note when it is told of it: a pid.
const WATCHED: usize = 3;
/// Of which it was told, when that was, and how often somebody had slept in the channel by then.
const TOLD: usize = 4;
const TOLD_AT: usize = 5;
const TOLD_SLEEPS: usize = 6;

const SENDER: usize = 0;
const RECEIVER: usize = 1;
const NOBODY: u64 = 2;

/// What an end is at: nothing yet; in `open` or `create`; in `send` or in one of the ways to receive;
/// or on its own, with what it received or with nobody to send to.
const STARTING: u64 = 0;
const ATTACHING: u64 = 1;
const IN_CALL: u64 = 2;
const AT_WORK: u64 = 3;

/// The most that one of those lives which are killed as they attach. They are there within half of it.
const SHORT_LIFE: u64 = 400;

/// One end of the channel, in a process that will be killed.
struct Victim {
    ledger: Ledger,
    domain: String,
    which: usize,
    incarnation: u64,
    /// How many receivers had its end before it, if it is one.
    receiver: u64,
}

impl Victim {
    fn is_at(&self, what: u64) {
        let word = self.ledger.own(AT[self.which]);
        word.store(self.incarnation << 8 | what, Release);
    }

    /// Takes its time, if it is to. The other one finds the ring full, or empty, and sleeps.
    fn take_its_time(&self) {
        if self.ledger.own(SLOW).load(Acquire) == self.which as u64 {
            std::thread::sleep(Duration::from_micros(300));
        }
    }

    fn was_told(&self, pid: u32) {
        let [watched, told] = [WATCHED, TOLD].map(|word| self.ledger.own(word));
        let pid = u64::from(pid);
        // A sender is told over and over, and sleeps no more.
        if watched.load(Acquire) == pid && told.load(Acquire) != pid {
            self.ledger.own(TOLD_AT).store(now(), Release);
            let sleeps = self.ledger.own(TOLD_SLEEPS);
            sleeps.store(sleeps_in(&self.domain), Release);
            told.store(pid, Release);
        }
    }

    fn send(&self, mut sender: Sender<[u8]>) {
        for number in 0.. {
            let id = Id {
                sender: self.incarnation,
                number,
            };
            let bytes = message(id);
            self.take_its_time();
            self.is_at(IN_CALL);
            // Now and then in place, if there is room.
            if number % 4 != 3 || !sent_in_place(&mut sender, &bytes) {
                self.send_one(&mut sender, bytes);
            }
            self.ledger.acknowledge(id);
            self.is_at(AT_WORK);
        }
    }

    fn send_one(&self, sender: &mut Sender<[u8]>, mut bytes: Vec<u8>) {
        loop {
            match sender.send(bytes) {
                Ok(()) => return,
                Err(SendError::PeerDied { value, pid }) => {
                    self.was_told(pid);
                    bytes = value;
                    // Nobody there; the next one is on its way.
                    self.is_at(AT_WORK);
                    std::thread::sleep(Duration::from_micros(100));
                    self.is_at(IN_CALL);
                }
                Err(e) => self.ledger.fail(&format!("{e:?}")),
            }
        }
    }

    fn receive(&self, how: How, bytes: &[u8], redelivered: Option<bool>) {
        self.is_at(AT_WORK);
        let outcome = self.ledger.receive(self.receiver, how, bytes, redelivered);
        outcome.unwrap_or_else(|what| self.ledger.fail(&what));
        self.take_its_time();
    }

    fn receive_all(self, how: How, mut receiver: Receiver<[u8]>) {
        if matches!(how, How::Listener | How::ListenerAtLeastOnce) {
            return self.listen(how, receiver);
        }
        let mut news = News::default();
        let mut many = Vec::new();
        let mut is_first = true;
        loop {
            self.is_at(IN_CALL);
            let outcome = match how {
                How::RecvMany => receiver.recv_many(&mut many, MANY).map(drop),
                How::RecvRef => receiver.recv_ref().map(|message| {
                    let redelivered = message.redelivered();
                    // A process has one at a time in its hands.
                    if redelivered && !is_first {
                        self.ledger.fail("redelivered, and its receiver is alive");
                    }
                    self.receive(how, &message.get().unwrap(), Some(redelivered));
                    is_first = false;
                }),
                _ => receiver.recv().map(|message| many.push(message)),
            };
            match outcome {
                Ok(()) => {
                    news.message(&self);
                    many.drain(..).for_each(|m| self.receive(how, &m, None));
                }
                Err(RecvError::PeerDied { pid }) => news.death(&self, pid),
                Err(RecvError::PeerRestarted { generation }) => news.successor(&self, generation),
                Err(e) => self.ledger.fail(&format!("{e:?}")),
            }
        }
    }

    fn listen(self, how: How, receiver: Receiver<[u8]>) {
        let me = Arc::new(self);
        let news = Arc::new(Mutex::new(News::default()));
        let (handling, handled_news) = (me.clone(), news.clone());
        let mut listener = receiver
            .listener()
            .on(
                |_| true,
                move |message| {
                    handled_news.lock().unwrap().message(&handling);
                    handling.receive(how, message, None);
                    handling.is_at(IN_CALL);
                },
            )
            .on_error({
                let me = me.clone();
                move |error| match error {
                    Error::PeerDied { pid } => news.lock().unwrap().death(&me, pid),
                    Error::PeerRestarted { generation } => {
                        news.lock().unwrap().successor(&me, generation);
                    }
                    e => me.ledger.fail(&format!("{e:?}")),
                }
            });
        if how == How::ListenerAtLeastOnce {
            listener = listener.at_least_once();
        }
        me.is_at(IN_CALL);
        let ended = listener.start().and_then(|listener| listener.join());
        me.ledger.fail(&format!("the listener ended: {ended:?}"));
    }
}

fn sent_in_place(sender: &mut Sender<[u8]>, bytes: &[u8]) -> bool {
    let Ok(mut loan) = sender.loan(bytes.len()) else {
        return false;
    };
    loan.put(0, bytes).unwrap();
    loan.commit(bytes.len()).unwrap();
    true
}

/// What a receiver was told of its peers.
#[derive(Default)]
struct News {
    is_dead: bool,
    generation: u32,
}

impl News {
    fn message(&self, of: &Victim) {
        if self.is_dead {
            of.ledger.fail("a message of a sender whose death was told");
        }
    }

    fn death(&mut self, of: &Victim, pid: u32) {
        of.was_told(pid);
        if std::mem::replace(&mut self.is_dead, true) {
            of.ledger.fail("a death was told twice");
        }
    }

    fn successor(&mut self, of: &Victim, generation: u32) {
        if !std::mem::replace(&mut self.is_dead, false) {
            of.ledger.fail("a successor without a death");
        }
        if std::mem::replace(&mut self.generation, generation) >= generation {
            of.ledger.fail("an earlier successor");
        }
    }
}

/// Instead of the microseconds that a victim lives: until somebody else kills it.
const FOR_LONG: &str = "long";

fn options(domain: &str) -> ChannelOptions<[u8]> {
    Channel::options().domain(domain).capacity(CAPACITY)
}

/// How often the two ends have slept.
fn sleeps_in(domain: &str) -> u64 {
    let picture = inspect::snapshot_domain(domain).unwrap();
    let directions = picture.channels.iter().flat_map(|c| &c.directions);
    directions.map(|direction| direction.sleeps).sum()
}

/// In a fork: holds an end until it is killed, if it gets so far: some live for so many microseconds.
fn victim(words: &[&str]) {
    let [role, domain, path, incarnation, end, how, life] = words else {
        panic!("{words:?}");
    };
    let mut victim = Victim {
        ledger: Ledger::open(path),
        domain: domain.to_string(),
        which: if *role == "sender" { SENDER } else { RECEIVER },
        incarnation: incarnation.parse().unwrap(),
        receiver: 0,
    };
    victim.is_at(STARTING);
    if *life != FOR_LONG {
        be_killed_in(Duration::from_micros(life.parse().unwrap()));
    }
    victim.is_at(ATTACHING);
    let channel = match *end {
        "Host" => options(domain).create("c"),
        // The first one may be there before the channel.
        _ => options(domain).open_timeout("c", LONG),
    };
    victim.is_at(AT_WORK);
    let (sender, receiver) = match channel {
        Ok(channel) => channel.split(),
        Err(e) => victim.ledger.fail(&format!("{words:?}: {e:?}")),
    };
    match victim.which {
        SENDER => victim.send(sender),
        _ => {
            victim.receiver = victim.ledger.begin_receiver();
            let how = How::ALL.into_iter().find(|h| format!("{h:?}") == *how);
            victim.receive_all(how.unwrap(), receiver);
        }
    }
}

// ---- Their killer.

/// The most processes one after the other that are killed as they attach.
const DOOMED: u64 = 2;

/// Waits for what is a matter of microseconds.
#[track_caller]
fn soon(condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < LONG, "this never came to be");
        std::thread::sleep(Duration::from_micros(10));
    }
}

/// What all the torture came to.
#[derive(Default)]
struct Outcome {
    /// How many kills there were, by what was killed.
    kills: BTreeMap<(&'static str, String), u64>,
    /// How many of them the other end was told of after one more sleep at most.
    told: u64,
    /// From a kill to the other end's hearing of it, where no successor told it.
    noticed: Times,
    /// From a kill to the next message that was received.
    still: Times,
}

impl Outcome {
    /// Counts a kill.
    fn count(&mut self, fault: &'static str, what: String) {
        *self.kills.entry((fault, what)).or_default() += 1;
    }
}

/// A channel, and one process after the other at each of its ends.
struct Torture<'a> {
    how: How,
    domain: &'a str,
    /// Which end is the sender's, and which the receiver's.
    ends: [End; 2],
    server: ForkServer,
    ledger: Ledger,
    forks: [Option<Fork>; 2],
    /// How many there were of each.
    incarnations: [u64; 2],
    outcome: &'a mut Outcome,
}

impl Torture<'_> {
    /// Starts the next process of an end, which lives for so many microseconds, or [`FOR_LONG`].
    fn start(&mut self, which: usize, life: &str) {
        let line = format!(
            "{} {} {} {} {:?} {:?} {life}",
            ["sender", "receiver"][which],
            self.domain,
            self.ledger.0.path(),
            self.incarnations[which],
            self.ends[which],
            self.how
        );
        self.forks[which] = Some(self.server.fork(&line));
        self.incarnations[which] += 1;
    }

    /// What the present process of an end is at, or its last one was.
    fn at(&self, which: usize) -> u64 {
        let word = self.ledger.own(AT[which]).load(Acquire);
        let is_of_present = word >> 8 == self.incarnations[which] - 1;
        if is_of_present { word & 0xff } else { STARTING }
    }

    /// Waits for what is a matter of microseconds, or somebody's finding something wrong.
    #[track_caller]
    fn soon(&self, condition: impl Fn() -> bool) {
        soon(|| condition() || self.ledger.is_wrong());
        assert!(!self.ledger.is_wrong(), "one of them found something wrong");
    }

    /// Kills the process of an end.
    fn kill(&mut self, which: usize) {
        let fork = self.forks[which].take().unwrap();
        let (was_at, is_asleep) = (self.at(which), fork.is_asleep());
        self.server.kill(fork);
        // Exact, now that it is dead.
        let at = self.at(which);
        let call = match self.how {
            _ if which == SENDER => "`send`",
            How::Recv => "`recv`",
            How::RecvMany => "`recv_many`",
            How::RecvRef => "`recv_ref`",
            How::Listener => "a listener",
            How::ListenerAtLeastOnce => "a listener with `at_least_once`",
        };
        let what = match at {
            STARTING | ATTACHING => panic!("it is killed when it is there"),
            IN_CALL if is_asleep && was_at == IN_CALL => format!("asleep in {call}"),
            IN_CALL => format!("in {call}"),
            _ => format!("between two messages of {call}"),
        };
        self.outcome
            .count("kill-channel", format!("of a process {what}"));
    }

    /// Starts a process that is killed as it attaches, by a clock of its own, or a little before
    /// or after that.
    fn start_doomed(&mut self, which: usize, random: &mut Random) {
        let life = 1 + random.below(SHORT_LIFE);
        self.start(which, &life.to_string());
        let fork = self.forks[which].take().unwrap();
        self.server.wait_for_kill(fork);
        let (fault, what) = match self.at(which) {
            // The library was not called yet.
            STARTING => return,
            // The end is that of a process that was killed, too.
            ATTACHING => ("double", "of a successor while it took an end over"),
            _ => ("kill-channel", "of a process that had just attached"),
        };
        self.outcome.count(fault, what.to_string());
    }

    /// Kills an end, and gives the other one the time to be told of it, before there is a successor.
    fn kill_and_tell(&mut self, which: usize) {
        self.ledger.own(SLOW).store(NOBODY, Release);
        // A receiver knows the sender by its first message. Else it is told of that one first, and
        // of the death by another sleep.
        self.soon(|| self.at(1 - which) > ATTACHING);
        let sender = self.incarnations[SENDER] - 1;
        self.soon(|| self.ledger.done().next.sender == sender);
        let pid = u64::from(self.forks[which].as_ref().unwrap().pid());
        self.ledger.own(TOLD).store(0, Release);
        self.ledger.own(WATCHED).store(pid, Release);
        let killed = now();
        self.kill(which);
        let before = sleeps_in(self.domain);
        self.soon(|| self.ledger.own(TOLD).load(Acquire) == pid);
        let [at, sleeps] = [TOLD_AT, TOLD_SLEEPS].map(|word| self.ledger.own(word).load(Acquire));
        self.outcome.noticed.note(at - killed);
        // It was asleep, or was about to sleep once, and then it looked.
        assert!(
            sleeps <= before + 1,
            "the other end slept {} times before it was told",
            sleeps - before
        );
        self.outcome.told += 1;
    }

    /// Kills an end at some moment, and starts its successor.
    fn step(&mut self, step: usize, random: &mut Random) {
        let which = random.below(2) as usize;
        let is_slow = self.ledger.own(SLOW);
        is_slow.store(random.below(NOBODY + 1), Release);
        self.soon(|| self.at(which) > ATTACHING);
        std::thread::sleep(random.micros(1_000));
        let is_told = step % 50 == 49;
        let killed = now();
        if is_told {
            self.kill_and_tell(which);
        } else {
            self.kill(which);
        }
        for _ in 0..random.below(DOOMED + 1) {
            self.start_doomed(which, random);
        }
        self.start(which, FOR_LONG);
        if step % 8 == 7 {
            // No later kill may hide that somebody hangs.
            let before = self.ledger.received();
            self.soon(|| self.ledger.received() > before);
            if !is_told {
                self.outcome.still.note(now() - killed);
            }
        }
    }
}

/// Kills the ends of one channel `kills` times, and some of their successors before they are there.
fn torture(how: How, ends: [End; 2], kills: usize, outcome: &mut Outcome) {
    let domain = Domain::new(&format!("torture-{how:?}-{:?}", ends[SENDER]));
    let mut random = Random::printed();
    let mut torture = Torture {
        how,
        domain: domain.name(),
        ends,
        server: ForkServer::start(),
        ledger: Ledger::new(&domain, kills * (1 + DOOMED as usize)),
        forks: [None, None],
        incarnations: [0; 2],
        outcome,
    };
    for which in [SENDER, RECEIVER] {
        torture.start(which, FOR_LONG);
    }
    for step in 0..kills - 2 {
        torture.step(step, &mut random);
    }
    for which in [SENDER, RECEIVER] {
        torture.soon(|| torture.at(which) > ATTACHING);
        torture.kill(which);
    }
    let senders = torture.incarnations[SENDER];
    let Torture { ledger, server, .. } = torture;
    server.finish();
    assert!(!ledger.is_wrong(), "one of them found something wrong");
    // What is left follows.
    let host = options(domain.name()).create("c").unwrap();
    let guest = options(domain.name()).open("c").unwrap();
    let (mut last, other) = match ends[RECEIVER] {
        End::Host => (host, guest),
        End::Guest => (guest, host),
    };
    let me = ledger.begin_receiver();
    drain(&ledger, how, &mut last, me);
    let sent = ledger.close(how, senders, me);
    drop((last, other));
    let (received, lost, again) = (ledger.received(), ledger.lost(), ledger.again());
    eprintln!(
        "{kills} kills, {sent} sent, {received} received, {lost} lost in work, {again} again"
    );
    assert!(received > 3 * kills as u64, "there was no traffic");
}

/// Receives what is left, as the receiver `me`.
fn drain(ledger: &Ledger, how: How, last: &mut Channel<[u8]>, me: u64) {
    loop {
        let outcome = if how == How::RecvRef {
            last.try_recv_ref()
                .map(|m| (m.get().unwrap(), Some(m.redelivered())))
        } else {
            last.try_recv().map(|m| (m, None))
        };
        match outcome {
            Ok((bytes, redelivered)) => ledger.receive(me, how, &bytes, redelivered).unwrap(),
            Err(TryRecvError::Empty) => return,
            Err(TryRecvError::Recv(
                RecvError::PeerDied { .. } | RecvError::PeerRestarted { .. },
            )) => {}
            Err(e) => panic!("{e:?}"),
        }
    }
}

/// A killed process is in the way of the next one in
/// https://github.com/eclipse-iceoryx/iceoryx2/issues/601 and
/// https://github.com/mutouyun/cpp-ipc/issues/100, as its leftovers are in
/// https://github.com/eclipse-iceoryx/iceoryx2/issues/1695,
/// https://github.com/eclipse-iceoryx/iceoryx2/issues/1967,
/// https://github.com/utahrobotics/utah-lunabotics-2026/issues/52 and
/// https://github.com/sourcegraph/scip-clang/issues/180; killed while it attaches, it has others spin
/// for ever in https://github.com/boostorg/interprocess/issues/128.
#[test]
fn ends_killed_at_any_moment_lose_nothing() {
    let mut outcome = Outcome::default();
    let kills = scale(60, 1_100);
    for how in How::ALL {
        torture(how, [End::Host, End::Guest], kills, &mut outcome);
        torture(how, [End::Guest, End::Host], kills, &mut outcome);
    }
    for ((fault, what), count) in &outcome.kills {
        tally(fault, &format!("kills {what}"), *count);
    }
    let told = "deaths told at the other end after one more sleep at most";
    tally("kill-channel", told, outcome.told);
    let noticed = "either end, unsupervised, from SIGKILL to the error at the other";
    outcome.noticed.tell(noticed);
    let still = "either end, from SIGKILL to the next message that is received of its successor";
    outcome.still.tell(still);
}
