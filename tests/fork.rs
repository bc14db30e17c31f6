//! A fork, an exec and a lost descriptor change nothing for others: a forked child's copies of its
//! parent's handles answer `Forked` and touch nothing, and who lives and who is dead is told right.

mod common;

use common::actor::{self, act};
use common::{Domain, LONG, Process, Random, Shared, hear, play, say, scale, skip, tally, until};
use ringlane::{
    Channel, Error, Listener, PeerState, Receiver, RecvError, Runtime, SendError, Sender, Store,
    TryRecvError, TrySendError,
};
use rustix::fs::{major, minor};
use rustix::process::{Pid, PidfdFlags, Signal, getpid, kill_process, pidfd_open};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::Command;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Release};
use std::time::Duration;

#[test]
#[ignore = "what the processes of these tests run"]
fn process() {
    play(|role, arguments| {
        let domain = arguments[0];
        match role {
            "actor" => act(arguments),
            "handles" => fork_with_handles(domain),
            "listener" => fork_with_a_listener(domain),
            "in hand" => fork_with_messages_in_hand(domain),
            "lent" => fork_with_a_lent_channel(domain),
            "own" => open_channels_in_a_fork(domain),
            "storm" => storm_of_forks(domain, arguments[1], arguments[2].parse().unwrap()),
            "leave behind" => leave_behind(domain, arguments[1]),
            "lose token" => lose_token(domain),
            "exec" => become_another_program(domain),
            other => panic!("{other:?}"),
        }
    });
}

/// Seconds until a forked child ends in any case.
const PATIENCE: u32 = 60;

/// Runs `f` in a forked child, which must come through it, and gives its pid.
fn fork(f: impl FnOnce()) -> i32 {
    // SAFETY: the child runs `f` on the only thread it has and ends without going back to the test
    // harness; glibc sees to its allocator.
    unsafe {
        match libc::fork() {
            0 => {
                // No watchdog comes along.
                libc::alarm(PATIENCE);
                let well = catch_unwind(AssertUnwindSafe(f)).is_ok();
                libc::_exit(if well { 0 } else { 101 });
            }
            child => {
                assert!(child > 0);
                child
            }
        }
    }
}

/// Whether a forked child ended, which must have been well.
fn has_ended(child: i32, options: i32) -> bool {
    let mut status = 0;
    // SAFETY: the kernel writes to the status only.
    let ended = unsafe { libc::waitpid(child, &raw mut status, options) };
    assert!(ended == 0 || ended == child);
    assert_eq!(status, 0, "something went wrong in the forked child");
    ended == child
}

/// Runs `f` in a forked child, which must come through it, and waits for its end.
fn in_a_fork(f: impl FnOnce()) {
    assert!(has_ended(fork(f), 0));
}

/// What a timed call says when there is an error beyond its timeout.
fn gone<V>(error: RecvError) -> Result<V, TryRecvError> {
    Err(TryRecvError::Recv(error))
}

fn options<T: ringlane::Message + ?Sized>(domain: &str) -> ringlane::ChannelOptions<T> {
    Channel::<T>::options().domain(domain).capacity(4096)
}

fn file(domain: &str, channel: &str) -> Vec<u8> {
    let path = common::base()
        .join(domain)
        .join(format!("{channel}.channel"));
    std::fs::read(path).unwrap()
}

// ---- Handles in a fork.

fn a_sender_is_forked(sender: &mut Sender<[u8]>) {
    let message = || b"from a fork".to_vec();
    assert_eq!(sender.send(message()), Err(SendError::Forked(message())));
    let forked = Err(TrySendError::Send(SendError::Forked(message())));
    assert_eq!(sender.try_send(message()), forked);
    assert_eq!(sender.send_timeout(message(), LONG), forked);
    let all = sender.send_all([message(), message()]);
    assert_eq!(all, Err(SendError::Forked(message())));
    let loan = sender.loan(8);
    assert!(matches!(
        loan,
        Err(TrySendError::Send(SendError::Forked(())))
    ));
}

fn a_receiver_is_forked(receiver: &mut Receiver<[u8]>) {
    let forked = TryRecvError::Recv(RecvError::Forked);
    assert_eq!(receiver.recv(), Err(RecvError::Forked));
    assert_eq!(receiver.try_recv(), Err(forked.clone()));
    assert_eq!(receiver.recv_timeout(LONG), Err(forked));
    let many = receiver.recv_many(&mut Vec::new(), 9);
    assert_eq!(many, Err(RecvError::Forked));
    assert!(matches!(receiver.recv_ref(), Err(RecvError::Forked)));
    assert!(matches!(
        receiver.try_recv_ref(),
        Err(TryRecvError::Recv(RecvError::Forked))
    ));
    assert_eq!(receiver.iter().next(), None);
    assert_eq!(receiver.try_iter().next(), None);
}

fn a_channel_is_forked(channel: &mut Channel<[u8]>) {
    let message = || b"from a fork".to_vec();
    assert_eq!(channel.send(message()), Err(SendError::Forked(message())));
    assert_eq!(channel.recv(), Err(RecvError::Forked));
    assert!(matches!(channel.wait_peer(LONG), Err(Error::Forked)));
}

/// Listens, and forks: the listener's thread does not come along.
fn fork_with_a_listener(domain: &str) {
    let mut host = options::<[u8]>(domain).create("heard").unwrap();
    let (heard, hears) = std::sync::mpsc::channel();
    let (_sender, receiver) = options::<[u8]>(domain).open("heard").unwrap().split();
    let mut listener = Some(
        receiver
            .on_receive(move |m| heard.send(m).unwrap())
            .unwrap(),
    );
    let own = format!("{domain}-of-child");
    let mut in_child = |call: fn(Listener<[u8]>) -> Option<Error>| {
        in_a_fork(|| {
            let outcome = call(listener.take().unwrap());
            assert!(matches!(outcome, Some(Error::Forked)), "{outcome:?}");
        });
    };
    in_child(|listener| listener.stop().err());
    in_child(|listener| listener.join().err());
    // A thread that the child starts may well have the place of the one that did not come along.
    in_a_fork(|| {
        let mine = Channel::<[u8]>::options().domain(&own).capacity(4096);
        let (_sender, receiver) = mine.create("mine").unwrap().split();
        let mine = receiver.on_receive(|_| ()).unwrap();
        drop(listener.take());
        drop(mine.stop().unwrap());
    });
    // The parent's goes on, and ends when it is told to.
    host.send(b"still there".to_vec()).unwrap();
    assert_eq!(hears.recv().unwrap(), b"still there");
    drop(listener.take().unwrap().stop().unwrap());
}

/// Holds a whole channel and two halves, with messages in all directions, and forks.
fn fork_with_handles(domain: &str) {
    let mut whole = options::<[u8]>(domain).open("whole").unwrap();
    let (mut sender, mut receiver) = options::<[u8]>(domain).open("halves").unwrap().split();
    let mut own = options::<[u8]>(domain).create("own").unwrap();
    whole.send(*b"before").unwrap();
    sender.send(*b"before").unwrap();
    own.send(*b"before").unwrap();
    assert_eq!(hear().as_deref(), Some("fork"));
    let files = || ["whole", "halves", "own"].map(|channel| file(domain, channel));
    // Once with the handles as new as they can be, once with handles that were used.
    for round in 0..2 {
        let before = files();
        // Moved, so that the child drops its copies.
        let copies = [&raw const whole, &raw const own];
        let halves = (&raw const sender, &raw const receiver);
        in_a_fork(|| {
            // SAFETY: a bitwise copy of a handle that the parent keeps and the child never uses
            // again: in the child it is the only one that is dropped.
            let (copies, mut sender, mut receiver) =
                unsafe { (copies.map(|c| c.read()), halves.0.read(), halves.1.read()) };
            for mut channel in copies {
                a_channel_is_forked(&mut channel);
            }
            a_sender_is_forked(&mut sender);
            a_receiver_is_forked(&mut receiver);
            drop(sender);
            drop(receiver);
            assert!(files() == before, "a forked child touched a channel");
        });
        assert!(files() == before, "a forked child touched a channel");
        // The parent goes on, nobody having noticed.
        say("forked");
        assert_eq!(hear().as_deref(), Some("go on"));
        assert_eq!(whole.recv().unwrap(), [round]);
        assert_eq!(receiver.recv().unwrap(), [round]);
        assert!(matches!(own.peer(), PeerState::Alive { .. }));
        whole.send([round]).unwrap();
        sender.send([round]).unwrap();
        own.send([round]).unwrap();
        say("went on");
    }
    hear();
}

#[test]
fn a_listener_in_a_fork_answers_forked() {
    let domain = Domain::new("fork-listener");
    Process::start("listener", &[domain.name()]).finish();
}

/// In https://github.com/elast0ny/shared_memory/pull/35 a fork's exit removes its parent's segment.
#[test]
fn handles_in_a_fork_answer_forked_and_touch_nothing() {
    let domain = Domain::new("handles");
    let mut hosts = ["whole", "halves"].map(|name| domain.of::<[u8]>().create(name).unwrap());
    let mut parent = Process::start("handles", &[domain.name()]);
    let mut own = domain.of::<[u8]>().open_timeout("own", LONG).unwrap();
    // Nobody else touches the files meanwhile.
    parent.tell("fork");
    for round in 0..2 {
        assert_eq!(parent.line(), "forked");
        for host in &mut hosts {
            host.send([round]).unwrap();
        }
        assert_eq!(parent.ask("go on"), "went on");
    }
    for end in [&mut own].into_iter().chain(&mut hosts) {
        assert_eq!(end.recv_timeout(LONG).unwrap(), b"before");
        assert_eq!(end.recv_timeout(LONG).unwrap(), [0]);
        assert_eq!(end.recv_timeout(LONG).unwrap(), [1]);
        assert_eq!(end.try_recv(), Err(TryRecvError::Empty));
        assert_eq!(end.peer(), PeerState::Alive { pid: parent.pid() });
    }
    parent.finish();
    assert_eq!(own.recv_timeout(LONG), gone(RecvError::Closed));
    tally("fork", "forks with handles that touch nothing", 2);
}

/// Forks with a message in each hand: one being written, one being read.
fn fork_with_messages_in_hand(domain: &str) {
    let channel = options::<[u8]>(domain).open("c").unwrap();
    let (mut sender, mut receiver) = channel.split();
    let mut loan = sender.loan(16).unwrap();
    loan.put(0, b"of the parent   ").unwrap();
    let message = receiver.recv_ref().unwrap();
    let before = file(domain, "c");
    let (loan_of_child, message_of_child) = (&raw mut loan, &raw const message);
    in_a_fork(|| {
        // SAFETY: bitwise copies of what the parent keeps and the child never uses again.
        let (mut loan, message) = unsafe { (loan_of_child.read(), message_of_child.read()) };
        // What it holds in its hands it can see; it cannot deal with it.
        let put = loan.put(0, b"of a fork ......");
        assert!(matches!(put, Err(Error::Forked)), "{put:?}");
        let commit = loan.commit(16);
        assert!(matches!(commit, Err(Error::Forked)), "{commit:?}");
        drop(message);
        assert!(
            file(domain, "c") == before,
            "a forked child touched a channel"
        );
    });
    say("forked");
    assert_eq!(message.get().unwrap(), b"to the parent");
    message.keep();
    loan.commit(13).unwrap();
    assert_eq!(receiver.recv().unwrap(), b"to the parent");
    say("done");
    hear();
}

#[test]
fn a_fork_cannot_deal_with_the_messages_in_its_parents_hands() {
    let domain = Domain::new("in-hand");
    let mut host = domain.of::<[u8]>().create("c").unwrap();
    host.send(*b"to the parent").unwrap();
    let mut parent = Process::start("in hand", &[domain.name()]);
    assert_eq!(parent.line(), "forked");
    assert_eq!(host.recv_timeout(LONG).unwrap(), b"of the parent");
    assert_eq!(parent.line(), "done");
    assert_eq!(host.try_recv(), Err(TryRecvError::Empty));
    parent.finish();
    tally("fork", "forks with messages in hand", 1);
}

fn sleep() -> Command {
    let mut sleep = Command::new("sleep");
    sleep.arg("120");
    sleep
}

/// Forks with a channel that a runtime lent, and takes back when it is dropped.
fn fork_with_a_lent_channel(domain: &str) {
    let runtime = Runtime::builder(domain)
        .command("c", sleep())
        .start()
        .unwrap();
    until(|| runtime.children()[0].pid.is_some());
    let (mut sender, receiver) = runtime.get_channel::<[u8]>("c-active").unwrap().split();
    let mut receiver = receiver;
    assert_eq!(receiver.try_recv(), Err(TryRecvError::Empty));
    drop(sender.try_send(*b"before"));
    let before = file(domain, "c-active");
    let (sender_of_child, receiver_of_child) = (&raw const sender, &raw const receiver);
    in_a_fork(|| {
        // SAFETY: bitwise copies of what the child never uses again.
        drop(unsafe { (sender_of_child.read(), receiver_of_child.read()) });
        assert!(
            file(domain, "c-active") == before,
            "a forked child touched a channel"
        );
    });
    drop((sender, receiver));
    runtime.shutdown().unwrap();
}

#[test]
fn a_lent_channel_is_not_given_back_by_a_fork() {
    let domain = Domain::new("lent");
    Process::start("lent", &[domain.name()]).finish();
}

/// In a forked child: an end of its own, and no end of its parent's.
fn open_channels_in_a_fork(domain: &str) {
    let mut parents = options::<u64>(domain).open("parents").unwrap();
    parents.send(1).unwrap();
    in_a_fork(|| {
        let me = std::process::id();
        let taken = options::<u64>(domain).open("parents");
        match taken {
            Err(Error::EndTaken { pid, .. }) => {
                assert_eq!(pid, std::os::unix::process::parent_id())
            }
            other => panic!("{other:?}"),
        }
        let mut mine = options::<u64>(domain).create("childs").unwrap();
        mine.wait_peer(LONG).unwrap();
        say(me);
        mine.send(u64::from(me)).unwrap();
        assert_eq!(mine.recv(), Ok(7));
        // A fork of the fork is a stranger to it in turn.
        let copy = &raw const mine;
        in_a_fork(|| {
            // SAFETY: a bitwise copy of what this child never uses again.
            let mut theirs = unsafe { copy.read() };
            assert_eq!(theirs.send(8), Err(SendError::Forked(8)));
        });
        assert_eq!(parents.recv(), Err(RecvError::Forked));
        // Gone without a word.
        std::mem::forget(mine);
    });
    assert_eq!(parents.recv(), Ok(2));
    parents.send(3).unwrap();
    hear();
}

#[test]
fn a_fork_has_channels_of_its_own() {
    let domain = Domain::new("own");
    let mut host = domain.of::<u64>().create("parents").unwrap();
    let mut parent = Process::start("own", &[domain.name()]);
    let mut childs = domain.of::<u64>().open_timeout("childs", LONG).unwrap();
    let child: u32 = parent.line().parse().unwrap();
    assert_ne!(child, parent.pid());
    assert_eq!(childs.recv_timeout(LONG), Ok(u64::from(child)));
    assert_eq!(childs.peer(), PeerState::Alive { pid: child });
    childs.send(7).unwrap();
    // It ended without dropping anything: a death, of the child alone.
    assert_eq!(
        childs.recv_timeout(LONG),
        gone(RecvError::PeerDied { pid: child })
    );
    assert_eq!(host.peer(), PeerState::Alive { pid: parent.pid() });
    assert_eq!(host.recv_timeout(LONG), Ok(1));
    host.send(2).unwrap();
    assert_eq!(host.recv_timeout(LONG), Ok(3));
    parent.finish();
    drop(childs);
    domain.remove::<u64>("childs");
}

// Words beside the library.
/// Children that hold their copies of the handles.
const ALIVE: usize = 0;
/// How many were made; `u64::MAX` once there will be no more.
const MADE: usize = 1;

/// Each child keeps its copies until so many more were made.
const TOGETHER: u64 = 8;
const AT_MOST: usize = 16;

/// Sends the last message.
const LAST: u64 = u64::MAX;

/// Sends, receives and writes, while children come and go all the time, many at once: each has
/// copies of the handles, and tries and drops them.
fn storm_of_forks(domain: &str, shared: &str, forks: u64) {
    let words = Shared::open(shared);
    let mut guest = options::<u64>(domain).open("c").unwrap();
    let store = Store::options().domain(domain).open("s").unwrap();
    let mut random = Random::printed();
    let (mut made, mut most) = (0, 0);
    let (mut number, mut expected) = (0, 0);
    let mut children = Vec::new();
    while made < forks || !children.is_empty() {
        for _ in 0..25 {
            guest.send(number).unwrap();
            store.set("number", &number).unwrap();
            assert_eq!(store.get::<u64>("number").unwrap(), Some(number));
            number += 1;
            match guest.try_recv() {
                Ok(received) => {
                    assert_eq!(received, expected);
                    expected += 1;
                }
                Err(e) => assert_eq!(e, TryRecvError::Empty),
            }
        }
        most = most.max(words.word(ALIVE).load(Acquire));
        if made < forks && children.len() < AT_MOST {
            let (channel, copy) = (&raw const guest, &raw const store);
            let pauses = [random.micros(2_000), random.micros(2_000)];
            let (words, me) = (&words, made);
            children.push(fork(move || {
                words.word(ALIVE).fetch_add(1, AcqRel);
                // SAFETY: bitwise copies of what the child never uses again.
                let (mut channel, store) = unsafe { (channel.read(), copy.read()) };
                std::thread::sleep(pauses[0]);
                assert_eq!(channel.send(0), Err(SendError::Forked(0)));
                assert_eq!(channel.recv(), Err(RecvError::Forked));
                assert!(matches!(store.set("number", &LAST), Err(Error::Forked)));
                assert!(matches!(store.get::<u64>("number"), Err(Error::Forked)));
                while words.word(MADE).load(Acquire) < me + TOGETHER {
                    std::thread::sleep(Duration::from_micros(100));
                }
                std::thread::sleep(pauses[1]);
                drop((channel, store));
                words.word(ALIVE).fetch_sub(1, AcqRel);
            }));
            made += 1;
            let no_more = made == forks;
            words
                .word(MADE)
                .store(if no_more { u64::MAX } else { made }, Release);
        }
        children.retain(|child| !has_ended(*child, libc::WNOHANG));
    }
    guest.send(LAST).unwrap();
    loop {
        match guest.recv_timeout(LONG) {
            Ok(LAST) => break,
            received => assert_eq!(received, Ok(expected)),
        }
        expected += 1;
    }
    say(expected);
    eprintln!("{most} of {made} forks at once");
    assert!(most >= TOGETHER, "{most}");
    store.verify().unwrap();
}

#[test]
fn a_storm_of_forks_loses_nothing() {
    let domain = Domain::new("storm");
    let shared = Shared::new(&domain, 2);
    let mut host = domain.of::<u64>().capacity(4096).create("c").unwrap();
    let store = Store::options().domain(domain.name()).create("s").unwrap();
    let forks = scale(200, 2_000) as u64;
    let arguments = [domain.name(), shared.path(), &forks.to_string()];
    let mut parent = Process::start("storm", &arguments);
    let (mut expected, mut number) = (0, 0);
    loop {
        match host.recv_timeout(LONG) {
            Ok(LAST) => break,
            received => assert_eq!(received, Ok(expected)),
        }
        expected += 1;
        match host.try_send(number) {
            Ok(()) => number += 1,
            Err(e) => assert_eq!(e, TrySendError::Full(number)),
        }
    }
    host.send(LAST).unwrap();
    assert_eq!(parent.line(), number.to_string());
    assert!(expected > 0 && number > 0);
    parent.finish();
    store.remove().unwrap();
    assert_eq!(host.try_recv(), Err(TryRecvError::Empty));
    assert_eq!(host.peer(), PeerState::Absent);
    tally("fork", "forks under traffic", forks);
}

// ---- Who is dead.

/// Leaves a living process behind, and says its pid.
fn leave_behind(domain: &str, how: &str) {
    let mut guest = options::<u64>(domain).open("c").unwrap();
    guest.send(1).unwrap();
    let wait_for_ever = || loop {
        // SAFETY: no pointers. A test that fails must not leave this behind for good.
        unsafe { libc::alarm(PATIENCE) };
        // SAFETY: no pointers.
        unsafe { libc::pause() };
    };
    let left = |child: u32| {
        assert!(child as i32 > 0);
        say(child);
    };
    match how {
        // SAFETY: the child says a line and waits; glibc sees to its allocator.
        "fork" => match unsafe { libc::fork() } {
            0 => {
                // Its copy of the lock is closed by now.
                left(std::process::id());
                wait_for_ever()
            }
            child => assert!(child > 0),
        },
        // Past everything that the C library does at a fork.
        // SAFETY: without flags this is a fork; the child makes two system calls.
        "clone" => match unsafe { libc::syscall(libc::SYS_clone, libc::SIGCHLD, 0, 0, 0, 0) } {
            0 => wait_for_ever(),
            child => left(child as u32),
        },
        // It inherits the harness's pipes, so that the test sees when all is over.
        "spawn" => left(sleep().spawn().unwrap().id()),
        other => panic!("{other:?}"),
    }
    assert_eq!(guest.recv(), Ok(2));
    loop {
        std::thread::park();
    }
}

fn is_there(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"));
    stat.is_ok_and(|stat| !stat.rsplit_once(')').unwrap().1.starts_with(" Z"))
}

/// Whether the kernel tells of a process itself that it is dead, and not only its lock.
fn pidfds_work() -> bool {
    let works = pidfd_open(getpid(), PidfdFlags::empty()).is_ok();
    if !works {
        skip("fork", "there is no `pidfd_open` here");
    }
    works
}

/// A process that a test must end itself.
struct Orphan(u32);

impl Drop for Orphan {
    fn drop(&mut self) {
        let _ = kill_process(Pid::from_raw(self.0 as i32).unwrap(), Signal::KILL);
    }
}

/// How long a round waits: the first so long that who waits for the other end has looked whether
/// its process lives, the others anything up to that.
fn pause(round: u64, random: &mut Random) -> Duration {
    const LOOKED: Duration = Duration::from_millis(150);
    match round {
        0 => LOOKED,
        _ => random.micros(LOOKED.as_micros() as u64),
    }
}

/// Plays so many rounds, several at the same time since they mostly wait, and each of those in a
/// domain of its own. Each is given its number and how long to wait.
fn play_rounds(name: &str, rounds: usize, play: impl Fn(&str, u64, Duration) + Sync) {
    let domain = Domain::new(name);
    let mut random = Random::printed();
    let pauses: Vec<_> = (0..rounds as u64)
        .map(|round| (round, pause(round, &mut random)))
        .collect();
    let lanes = rounds.min(5);
    std::thread::scope(|scope| {
        for lane in 0..lanes {
            let own = format!("{}-{lane}", domain.name());
            let (pauses, play) = (pauses.iter().skip(lane).step_by(lanes), &play);
            scope.spawn(move || pauses.for_each(|(round, pause)| play(&own, *round, *pause)));
        }
    });
}

fn die_though_they_leave_behind(how: &str, rounds: usize) {
    play_rounds(&format!("behind-{how}"), rounds, |domain, _, pause| {
        dies_though_it_leaves_behind(domain, how, pause);
    });
    let what = format!("deaths of parents that left a process behind (by {how})");
    tally("fork", &what, rounds as u64);
}

fn dies_though_it_leaves_behind(domain: &str, how: &str, before: Duration) {
    let mut host = options::<u64>(domain).create("c").unwrap();
    let mut parent = Process::start("leave behind", &[domain, how]);
    let pid = parent.pid();
    let orphan = Orphan(parent.line().parse().unwrap());
    assert_eq!(host.recv_timeout(LONG), Ok(1));
    assert_eq!(host.peer(), PeerState::Alive { pid });
    host.send(2).unwrap();
    let found = std::thread::scope(|scope| {
        let waiting = scope.spawn(|| host.recv_timeout(LONG));
        std::thread::sleep(before);
        assert!(!waiting.is_finished());
        parent.kill();
        waiting.join().unwrap()
    });
    assert_eq!(found, gone(RecvError::PeerDied { pid }));
    assert_eq!(host.peer(), PeerState::Dead { pid });
    // Its end can be had, though a copy of its lock may live on.
    assert!(is_there(orphan.0), "this proves nothing");
    let mut guest = options::<u64>(domain).open("c").unwrap();
    guest.send(3).unwrap();
    assert_eq!(
        host.recv_timeout(LONG),
        gone(RecvError::PeerRestarted { generation: 2 })
    );
    assert_eq!(host.recv_timeout(LONG), Ok(3));
    drop((host, guest));
    // Only what bypasses the C library's `fork` keeps a copy of the lock, and with it the domain.
    assert_eq!(common::base().join(domain).exists(), how == "clone");
    assert!(is_there(orphan.0), "this proves nothing");
    let pid = orphan.0;
    drop(orphan);
    until(|| !is_there(pid));
    if how == "clone" {
        drop(options::<u64>(domain).create("c").unwrap());
    }
}

#[test]
fn a_parent_is_dead_though_its_fork_lives() {
    die_though_they_leave_behind("fork", scale(1, 200));
}

#[test]
fn a_parent_is_dead_though_its_clone_lives() {
    if pidfds_work() {
        die_though_they_leave_behind("clone", scale(1, 200));
    }
}

#[test]
fn a_parent_is_dead_though_a_program_that_it_started_lives() {
    die_though_they_leave_behind("spawn", scale(1, 200));
}

/// What a careless `closefrom` does.
fn lose_token(domain: &str) {
    let mut guest = options::<u64>(domain).open("c").unwrap();
    guest.send(0).unwrap();
    hear();
    for descriptor in 3..1024 {
        // SAFETY: nothing in this process uses a descriptor of its own from here on; what still
        // owns one is never dropped, since the process is killed.
        unsafe { libc::close(descriptor) };
    }
    say("lost");
    while let Ok(value) = guest.recv() {
        guest.send(value).unwrap();
    }
    loop {
        std::thread::park();
    }
}

/// Open file descriptions that have a lock on a file.
fn locks(file: &std::fs::Metadata) -> usize {
    let locks = std::fs::read_to_string("/proc/locks").unwrap();
    let (major, minor) = (major(file.dev()), minor(file.dev()));
    let of_file = format!(" {major:02x}:{minor:02x}:{} ", file.ino());
    let of_file = |line: &&str| line.contains("OFDLCK") && line.contains(&of_file);
    locks.lines().filter(of_file).count()
}

#[test]
fn a_process_that_lost_its_token_is_alive() {
    if !pidfds_work() {
        return;
    }
    let rounds = scale(3, 200);
    play_rounds("token", rounds, lives_without_its_token);
    tally("fork", "lost tokens that were no death", rounds as u64);
}

fn lives_without_its_token(domain: &str, round: u64, meanwhile: Duration) {
    let mut host = options::<u64>(domain).create("c").unwrap();
    let mut guest = Process::start("lose token", &[domain]);
    let pid = guest.pid();
    assert_eq!(host.recv_timeout(LONG), Ok(0));
    let roster = std::fs::metadata(common::base().join(domain).join("roster")).unwrap();
    // Locks come and go elsewhere while they are listed, and one may be passed over.
    until(|| locks(&roster) == 2);
    guest.tell("lose it");
    assert_eq!(guest.line(), "lost");
    until(|| locks(&roster) == 1);
    // Others come, look for a place, and must not take this one's.
    let mut other = actor::host(domain, "another");
    let own = options::<u64>(domain).open("another");
    assert_eq!(other.ask("send 1"), "Ok(())");
    assert_eq!(own.unwrap().recv_timeout(LONG), Ok(1));
    assert_eq!(host.peer(), PeerState::Alive { pid });
    assert_eq!(host.recv_timeout(meanwhile), Err(TryRecvError::Empty));
    let again = options::<u64>(domain).open("c");
    assert!(matches!(again, Err(Error::EndTaken { pid: by, .. }) if by == pid));
    host.send(round).unwrap();
    assert_eq!(host.recv_timeout(LONG), Ok(round));
    other.finish();
    // When it dies, that is seen all the same.
    guest.kill();
    assert_eq!(host.recv_timeout(LONG), gone(RecvError::PeerDied { pid }));
    drop(options::<u64>(domain).open("c").unwrap());
}

fn become_another_program(domain: &str) {
    let mut guest = options::<u64>(domain).open("c").unwrap();
    guest.send(1).unwrap();
    assert_eq!(guest.recv(), Ok(2));
    panic!("{}", sleep().exec());
}

#[test]
fn an_exec_is_a_death() {
    let domain = Domain::new("exec");
    let mut host = domain.of::<u64>().create("c").unwrap();
    let mut guest = Process::start("exec", &[domain.name()]);
    let pid = guest.pid();
    assert_eq!(host.recv_timeout(LONG), Ok(1));
    host.send(2).unwrap();
    assert_eq!(host.recv_timeout(LONG), gone(RecvError::PeerDied { pid }));
    assert_eq!(host.peer(), PeerState::Dead { pid });
    assert!(is_there(pid), "this proves nothing");
    let mut successor = domain.of::<u64>().open("c").unwrap();
    successor.send(3).unwrap();
    assert_eq!(
        host.recv_timeout(LONG),
        gone(RecvError::PeerRestarted { generation: 2 })
    );
    assert_eq!(host.recv_timeout(LONG), Ok(3));
    // It is the same process still, and newcomers may take its place.
    assert!(is_there(pid), "this proves nothing");
    let other = actor::start(domain.name());
    other.finish();
    guest.kill();
}
