//! A process is killed at each point that `ringlane::failpoints` names, and what it leaves is what
//! is said there.

mod common;

use common::{Domain, Process, actor, play, say, scale, stores, tally, until};
use ringlane::failpoints::{self, Action, Point};
use ringlane::{
    Channel, Child, ChildResult, ChildSpec, End, Error, RecvError, Runtime, TryRecvError, inspect,
};
use rustix::process::Signal;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};

#[test]
#[ignore = "what the processes of these tests run"]
fn process() {
    play(|role, arguments| match role {
        "actor" => actor::act(arguments),
        "store actor" => stores::act(arguments),
        "sender" => send(arguments),
        "receiver" => receive(arguments),
        "armed" => arm_and_send(arguments[0]),
        "doubles" => double(Child::current().unwrap()).unwrap(),
        other => panic!("{other:?}"),
    });
}

/// Starts a process that has so much in its environment.
fn with(spec: &str, role: &str, arguments: &[&str]) -> Process {
    let mut command = Command::new("/proc/self/exe");
    command.env("RINGLANE_FAILPOINTS", spec);
    Process::start_by(command, role, arguments)
}

/// Starts a process that is to be killed when it passes `point` for the n-th time.
fn doomed(point: Point, passage: u64, role: &str, arguments: &[&str]) -> Process {
    let spec = format!("{}=kill@{passage}", point.name());
    with(&spec, role, arguments)
}

/// What a process says until it is killed, which it must be.
#[track_caller]
fn last_words(mut process: Process, expected: &[&str], of: &str) {
    for word in expected {
        assert_eq!(process.next_line().as_deref(), Some(*word), "{of}");
    }
    assert_eq!(process.next_line(), None, "{of}");
    assert_eq!(process.wait().signal(), Some(9), "{of}");
}

/// Has an actor do something that it does not survive.
#[track_caller]
fn last_deed(mut actor: Process, deed: &str) {
    actor.tell(deed);
    last_words(actor, &[], deed);
}

#[test]
fn a_death_at_each_point_leaves_what_is_said() {
    let (mut of_channels, mut of_stores) = (0, 0);
    for point in Point::ALL {
        match point {
            Point::Creating => of_channels += creating(),
            Point::Attaching => of_channels += attaching(),
            Point::TakingOver => of_channels += taking_over(),
            Point::AfterClaim | Point::BeforeCommit | Point::AfterCommit => {
                of_channels += sending(*point);
            }
            Point::BeforeRelease | Point::AfterRelease => of_channels += receiving(*point),
            Point::Closing => of_channels += closing(),
            Point::HoldingStoreLock
            | Point::StoreJournalWritten
            | Point::StoreCommitted
            | Point::StoreRecovering
            | Point::BeforeStoreUnlock => of_stores += changing(*point),
            other => panic!("nothing is proved of {other:?}"),
        }
    }
    let what = "kills at the points that `failpoints` names, each with its outcome";
    tally("kill-channel", what, of_channels);
    tally("kill-store", what, of_stores);
}

// ---- Coming and going.

fn creating() -> u64 {
    let domain = Domain::new("creating");
    let host = doomed(Point::Creating, 1, "actor", &[domain.name()]);
    last_deed(host, "create c");
    let found = domain.of::<u64>().open("c");
    assert!(matches!(found, Err(Error::NotFound { .. })), "{found:?}");
    drop(domain.of::<u64>().create("c").unwrap());
    1
}

/// The other end of the one that a process is killed at, and what brings a process there.
fn other_end(domain: &Domain, end: End) -> (Channel<u64>, &'static str) {
    match end {
        End::Host => (domain.of().open("c").unwrap(), "create c"),
        End::Guest => (domain.of().create("c").unwrap(), "open c"),
    }
}

/// The next one at `end`.
fn next_at(domain: &Domain, end: End) -> Channel<u64> {
    match end {
        End::Host => domain.of().create("c").unwrap(),
        End::Guest => domain.of().open("c").unwrap(),
    }
}

/// In https://github.com/servo/ipc-channel/issues/261 who waits for a child that dies before it
/// connects waits for ever.
fn attaching() -> u64 {
    for end in [End::Host, End::Guest] {
        let domain = Domain::new("attaching");
        let start = || doomed(Point::Attaching, 1, "actor", &[domain.name()]);
        // A guest comes second.
        if end == End::Host {
            last_deed(start(), "create c");
        }
        let (mut ours, deed) = other_end(&domain, end);
        if end == End::Guest {
            last_deed(start(), deed);
        }
        ours.send(1).unwrap();
        assert_eq!(ours.recv(), Err(RecvError::PeerDied { pid: 0 }));
        let mut next = next_at(&domain, end);
        assert_eq!(next.recv(), Ok(1));
        next.send(2).unwrap();
        assert!(matches!(ours.recv(), Err(RecvError::PeerRestarted { .. })));
        assert_eq!(ours.recv(), Ok(2));
        drop((ours, next));
    }
    2
}

fn taking_over() -> u64 {
    for end in [End::Host, End::Guest] {
        let domain = Domain::new("taking-over");
        let start = || match end {
            End::Host => actor::host(domain.name(), "c"),
            End::Guest => actor::guest(domain.name(), "c"),
        };
        let (mut ours, mut first, deed);
        if end == End::Host {
            first = start();
            (ours, deed) = other_end(&domain, end);
        } else {
            (ours, deed) = other_end(&domain, end);
            first = start();
        }
        assert_eq!(first.ask("send 5"), "Ok(())");
        ours.send(1).unwrap();
        let pid = first.pid();
        first.kill();
        let second = doomed(Point::TakingOver, 1, "actor", &[domain.name()]);
        last_deed(second, deed);
        assert_eq!(ours.recv(), Ok(5));
        assert_eq!(ours.recv(), Err(RecvError::PeerDied { pid }));
        assert!(matches!(ours.recv(), Err(RecvError::PeerRestarted { .. })));
        assert_eq!(ours.recv(), Err(RecvError::PeerDied { pid: 0 }));
        let mut next = next_at(&domain, end);
        assert_eq!(next.recv(), Ok(1));
        next.send(2).unwrap();
        assert!(matches!(ours.recv(), Err(RecvError::PeerRestarted { .. })));
        assert_eq!(ours.recv(), Ok(2));
        drop((ours, next));
    }
    2
}

fn closing() -> u64 {
    let domain = Domain::new("closing");
    // A host, whose channel goes.
    let mut host = doomed(Point::Closing, 1, "actor", &[domain.name()]);
    assert_eq!(host.ask("create c"), "Ok");
    let mut ours = domain.of::<u64>().open("c").unwrap();
    assert_eq!(host.ask("send 5"), "Ok(())");
    let pid = host.pid();
    last_deed(host, "leave");
    assert!(!domain.file("c").exists());
    assert_eq!(ours.recv(), Ok(5));
    assert_eq!(ours.recv(), Err(RecvError::PeerDied { pid }));
    assert_eq!(ours.recv(), Err(RecvError::Closed));
    drop(ours);
    // A guest, whose end is not free.
    let mut ours = domain.of::<u64>().create("c").unwrap();
    let mut guest = doomed(Point::Closing, 1, "actor", &[domain.name()]);
    assert_eq!(guest.ask("open c"), "Ok");
    let pid = guest.pid();
    last_deed(guest, "leave");
    assert_eq!(ours.recv(), Err(RecvError::PeerDied { pid }));
    let mut next = domain.of::<u64>().open("c").unwrap();
    ours.send(6).unwrap();
    assert_eq!(next.recv(), Ok(6));
    drop((ours, next));
    2
}

/// Of two that leave at the same time, each takes the other one for the last.
#[test]
fn ends_that_leave_together_leave_no_file_behind() {
    let domain = Domain::new("together");
    let mut host = with("closing=stop", "actor", &[domain.name()]);
    assert_eq!(host.ask("create c"), "Ok");
    assert_eq!(host.ask("send 5"), "Ok(())");
    // It leaves the file for a guest to come.
    host.tell("leave");
    until(|| host.state() == 'T');
    let mut guest = domain.of::<u64>().open("c").unwrap();
    assert_eq!(guest.recv(), Ok(5));
    // And this one to a host that may send more.
    drop(guest);
    assert!(domain.file("c").exists());
    host.signal(Signal::CONT);
    host.finish();
}

// ---- Messages.

fn bytes(number: u64) -> Vec<u8> {
    number.to_le_bytes().to_vec()
}

fn number(bytes: &[u8]) -> u64 {
    u64::from_le_bytes(bytes.try_into().unwrap())
}

/// In a process: sends 1 to 5, and says each when it was.
fn send(arguments: &[&str]) {
    let [domain, how] = arguments else {
        panic!("{arguments:?}");
    };
    let options = Channel::<[u8]>::options().domain(domain);
    let mut guest = options.open("c").unwrap();
    for n in 1..=5 {
        if n == 3 {
            // The receiver is about to sleep by then, or asleep.
            let sleeps = guest.stats().sleeps;
            until(|| guest.stats().sleeps > sleeps);
        }
        match *how {
            "send" => guest.send(bytes(n)).unwrap(),
            "send_all" => assert_eq!(guest.send_all([bytes(n)]), Ok(1)),
            // Less than was asked for.
            "loan" => {
                let mut loan = guest.loan(100).unwrap();
                loan.put(0, &bytes(n)).unwrap();
                loan.commit(8).unwrap();
            }
            other => panic!("{other:?}"),
        }
        say(n);
    }
}

fn sending(point: Point) -> u64 {
    let ways = ["send", "send_all", "loan"];
    for how in ways {
        let domain = Domain::new("sending");
        let mut host = domain.of::<[u8]>().create("c").unwrap();
        let guest = doomed(point, 3, "sender", &[domain.name(), how]);
        let pid = guest.pid();
        let arrive = if point == Point::AfterCommit { 3 } else { 2 };
        for n in 1..=arrive {
            assert_eq!(host.recv(), Ok(bytes(n)), "{point:?}, {how}");
        }
        assert_eq!(host.recv(), Err(RecvError::PeerDied { pid }));
        last_words(guest, &["1", "2"], &format!("{point:?}, {how}"));
        let mut next = domain.of::<[u8]>().open("c").unwrap();
        next.send(bytes(9)).unwrap();
        assert!(matches!(host.recv(), Err(RecvError::PeerRestarted { .. })));
        assert_eq!(host.recv(), Ok(bytes(9)));
        drop((host, next));
    }
    ways.len() as u64
}

/// In a process: receives, and says each message that it is handed.
fn receive(arguments: &[&str]) {
    let [domain, how] = arguments else {
        panic!("{arguments:?}");
    };
    let options = Channel::<[u8]>::options().domain(domain);
    let (_sender, mut receiver) = options.open("c").unwrap().split();
    if let "listener" | "at_least_once" = *how {
        let mut listener = receiver.listener().on(|_| true, |m| say(number(m)));
        if *how == "at_least_once" {
            listener = listener.at_least_once();
        }
        return listener.start().unwrap().join().unwrap();
    }
    let mut many = Vec::new();
    loop {
        match *how {
            "recv" => say(number(&receiver.recv().unwrap())),
            "recv_many" => {
                receiver.recv_many(&mut many, 5).unwrap();
                many.drain(..).for_each(|m| say(number(&m)));
            }
            "recv_ref" => {
                let message = receiver.recv_ref().unwrap();
                say(number(&message.get().unwrap()));
            }
            other => panic!("{other:?}"),
        }
    }
}

fn receiving(point: Point) -> u64 {
    // How it receives, at which passage it dies, what it was handed by then, and what it took.
    let ways: [(&str, u64, &[&str], u64); 5] = [
        ("recv", 3, &["1", "2"], 3),
        ("recv_many", 2, &[], 5),
        ("recv_ref", 3, &["1", "2", "3"], 3),
        ("listener", 3, &["1", "2"], 3),
        ("at_least_once", 3, &["1", "2", "3"], 3),
    ];
    for (how, passage, handed, taken) in ways {
        let domain = Domain::new("receiving");
        let mut host = domain.of::<[u8]>().create("c").unwrap();
        host.send_all((1..=5).map(bytes)).unwrap();
        let guest = doomed(point, passage, "receiver", &[domain.name(), how]);
        last_words(guest, handed, &format!("{point:?}, {how}"));
        let mut next = domain.of::<[u8]>().open("c").unwrap();
        let mut left = Vec::new();
        let outcome = loop {
            match next.try_recv_ref() {
                Ok(m) => left.push((number(&m.get().unwrap()), m.redelivered())),
                Err(e) => break e,
            }
        };
        assert_eq!(outcome, TryRecvError::Empty);
        let first = match (point, how) {
            (Point::AfterRelease, _) => taken + 1,
            // It took the first one by itself.
            (_, "recv_many") => 2,
            _ => taken,
        };
        let was_in_place = matches!(how, "recv_ref" | "at_least_once");
        let again = |n| point == Point::BeforeRelease && was_in_place && n == first;
        let expected: Vec<_> = (first..=5).map(|n| (n, again(n))).collect();
        assert_eq!(left, expected, "{point:?}, {how}");
        drop((host, next));
    }
    ways.len() as u64
}

// ---- Sleepers.

/// The longest that anyone sleeps at a time, as `docs/guarantees.md` has it.
const SLICE: Duration = Duration::from_millis(100);

/// What the inspector sees of the sleeps in the channel.
struct Seen {
    sleeps: u64,
    rescues: u64,
    waits: bool,
}

fn seen(domain: &Domain) -> Seen {
    let picture = inspect::snapshot_domain(domain.name()).unwrap();
    let both = &picture.channels[0].directions;
    Seen {
        sleeps: both.iter().map(|d| d.sleeps).sum(),
        rescues: both.iter().map(|d| d.rescues).sum(),
        waits: both.iter().any(|d| d.sender_waits || d.receiver_waits),
    }
}

/// Stops a process in the middle of a sleep, whose second look is over and whose end did not come.
/// Gives the sleeps until then.
fn stop_asleep(domain: &Domain, sleeper: &Process) -> u64 {
    let (mut before, mut last) = (Instant::now(), seen(domain).sleeps);
    loop {
        let now = Instant::now();
        let sleeps = seen(domain).sleeps;
        if sleeps == last {
            before = now;
            continue;
        }
        // One began after `before`, so it cannot be over yet if it is still that time.
        until(|| seen(domain).waits && sleeper.is_asleep());
        sleeper.stop();
        if seen(domain).sleeps == sleeps && before.elapsed() < SLICE {
            return sleeps;
        }
        sleeper.signal(Signal::CONT);
        (before, last) = (Instant::now(), seen(domain).sleeps);
    }
}

/// Has the host of a channel sleep in `call`, and a guest die at `point` in what would have ended
/// the sleep. Gives what the call came to, and how many sleeps it took from then on.
fn rescued(call: &str, point: Point, deed: &str) -> (String, u64) {
    let domain = Domain::new("rescued");
    let mut sleeper = actor::host(domain.name(), "c");
    let mut guest = doomed(point, 1, "actor", &[domain.name()]);
    assert_eq!(guest.ask("open c"), "Ok");
    sleeper.tell(call);
    // Stopped, so that it does not matter how long the other one takes.
    let sleeps = stop_asleep(&domain, &sleeper);
    last_deed(guest, deed);
    assert_eq!(seen(&domain).rescues, 0);
    sleeper.signal(Signal::CONT);
    let outcome = sleeper.line();
    let after = seen(&domain);
    assert_eq!(after.rescues, 1, "{point:?}");
    sleeper.finish();
    domain.remove::<u64>("c");
    (outcome, after.sleeps - sleeps)
}

#[test]
fn a_sleeper_finds_what_a_killed_one_did_and_counts_a_rescue() {
    let rounds = scale(3, 20) as u64;
    for _ in 0..rounds {
        let (received, more) = rescued("recv", Point::AfterCommit, "send 5");
        assert_eq!((received.as_str(), more), ("Ok(5)", 0));
        // It sends one more, and finds the ring full again, and nobody there.
        let (sent, more) = rescued("range 0 1000", Point::AfterRelease, "recv");
        assert!(sent.starts_with("Err(PeerDied"), "{sent}");
        assert!(more <= 1, "{more}");
    }
    let what = "kills between a message, or room for one, and the wake-up, each a rescue";
    tally("kill-channel", what, 2 * rounds);
}

// ---- Stores.

fn changing(point: Point) -> u64 {
    let domain = Domain::new("changing");
    let store = stores::options(domain.name()).create("s").unwrap();
    store.set("k", &1u64).unwrap();
    let writer = |point| {
        let mut writer = doomed(point, 1, "store actor", &[domain.name()]);
        assert_eq!(writer.ask("open s"), "Ok(())");
        writer
    };
    let mut kills = 1;
    if point == Point::StoreRecovering {
        last_deed(writer(Point::StoreCommitted), "set k 2");
        last_deed(writer(point), "set other 3");
        kills += 1;
    } else {
        last_deed(writer(point), "set k 2");
    }
    let value = || store.get::<u64>("k").unwrap();
    let is_committed = matches!(point, Point::StoreCommitted | Point::StoreRecovering);
    let is_made = point == Point::BeforeStoreUnlock;
    assert_eq!(value(), Some(if is_made { 2 } else { 1 }), "{point:?}");
    assert_eq!(store.stats().recoveries, 0);
    // The next writer.
    store.set("next", &4u64).unwrap();
    let expected = if is_committed || is_made { 2 } else { 1 };
    assert_eq!(value(), Some(expected), "{point:?}");
    assert_eq!(store.stats().recoveries, u64::from(is_committed));
    assert_eq!(store.get::<u64>("other").unwrap(), None);
    assert_eq!(store.len(), 2);
    store.verify().unwrap();
    store.remove().unwrap();
    kills
}

// ---- What else is done at a point.

/// In a process: arms itself, and sends.
fn arm_and_send(domain: &str) {
    let mut guest = Channel::<u64>::options().domain(domain).open("c").unwrap();
    failpoints::arm(Point::AfterCommit, 2, Action::Kill);
    for n in 1.. {
        guest.send(n).unwrap();
        say(n);
    }
}

#[test]
fn a_process_arms_itself() {
    let domain = Domain::new("arms-itself");
    let mut host = domain.of::<u64>().create("c").unwrap();
    let guest = Process::start("armed", &[domain.name()]);
    last_words(guest, &["1"], "armed by itself");
    assert_eq!(host.try_iter().collect::<Vec<_>>(), [1, 2]);
    drop(host);
}

#[test]
fn a_closure_runs_once_at_the_passage_asked_for_unless_it_is_disarmed() {
    let domain = Domain::new("closure");
    let mut host = domain.of::<u64>().create("c").unwrap();
    let mut guest = domain.of::<u64>().open("c").unwrap();
    let ran = Arc::new(AtomicBool::new(false));
    let arm = |point, passage| {
        let ran = ran.clone();
        let run = move || assert!(!ran.swap(true, SeqCst));
        failpoints::arm(point, passage, Action::Run(Box::new(run)));
    };
    arm(Point::BeforeCommit, 2);
    host.send(1).unwrap();
    assert!(!ran.load(SeqCst));
    host.send(2).unwrap();
    assert!(ran.swap(false, SeqCst));
    host.send(3).unwrap();
    assert!(!ran.load(SeqCst));
    // The later one counts, and from then on.
    arm(Point::BeforeRelease, 1);
    arm(Point::BeforeRelease, 2);
    guest.recv().unwrap();
    assert!(!ran.load(SeqCst));
    guest.recv().unwrap();
    assert!(ran.swap(false, SeqCst));
    arm(Point::BeforeRelease, 1);
    failpoints::disarm(Point::BeforeRelease);
    guest.recv().unwrap();
    assert!(!ran.load(SeqCst));
    let pause = Duration::from_millis(20);
    failpoints::arm(Point::AfterCommit, 1, Action::Delay(pause));
    let start = Instant::now();
    host.send(4).unwrap();
    assert!(start.elapsed() >= pause);
    drop((host, guest));
}

#[test]
fn a_closure_does_not_get_the_lock_that_is_held() {
    let domain = Domain::new("no-lock");
    let options = stores::options(domain.name()).lock_timeout(Duration::from_millis(20));
    let store = options.clone().create("s").unwrap();
    let other = options.open("s").unwrap();
    let (said, heard) = std::sync::mpsc::channel();
    let run = move || {
        said.send((other.get::<u64>("k"), other.set("k", &2u64)))
            .unwrap()
    };
    failpoints::arm(Point::StoreCommitted, 1, Action::Run(Box::new(run)));
    store.set("k", &1u64).unwrap();
    let (read, written) = heard.recv().unwrap();
    assert_eq!(read.unwrap(), None);
    let pid = std::process::id();
    assert!(matches!(written, Err(Error::LockTimeout { pid: by }) if by == pid));
    assert_eq!(store.get::<u64>("k").unwrap(), Some(1));
    store.remove().unwrap();
}

/// In a child of the next test: the example of the documentation.
fn double(child: Child) -> ChildResult {
    if child.generation() == 1 {
        failpoints::arm(Point::BeforeRelease, 3, Action::Kill);
    }
    let mut channel = child.active::<u64>()?;
    while let Ok(number) = channel.recv() {
        channel.send(2 * number)?;
    }
    Ok(())
}

#[test]
fn a_child_that_is_killed_with_a_message_not_taken_yet_loses_nothing() {
    let domain = Domain::new("doubled");
    let mut command = Command::new("/proc/self/exe");
    command
        .args(["process", "--exact", "--ignored", "--nocapture"])
        .env("RINGLANE_TEST_ROLE", "doubles")
        .env("RINGLANE_TEST_ARGUMENTS", "");
    let runtime = Runtime::builder(domain.name())
        .spec(ChildSpec::command("double", command))
        .start()
        .unwrap();
    let mut channel = runtime.get_channel::<u64>("double-active").unwrap();
    channel.send_all(1..=5u64).unwrap();
    let mut heard = Vec::new();
    let mut news = Vec::new();
    while heard.len() < 5 {
        match channel.recv() {
            Ok(number) => heard.push(number),
            Err(e) => news.push((heard.len(), e)),
        }
    }
    assert_eq!(heard, [2, 4, 6, 8, 10]);
    use RecvError::{PeerDied, PeerRestarted};
    let expected = matches!(news[..], [(2, PeerDied { .. }), (2, PeerRestarted { .. })]);
    assert!(expected, "{news:?}");
    drop(channel);
    runtime.shutdown().unwrap();
}

#[test]
fn the_environment_stops_and_delays() {
    let domain = Domain::new("environment");
    let mut host = domain.of::<u64>().create("c").unwrap();
    let spec = "before_commit=stop@2,after_commit=delay:20@3";
    let mut guest = with(spec, "actor", &[domain.name()]);
    assert_eq!(guest.ask("open c"), "Ok");
    assert_eq!(guest.ask("send 1"), "Ok(())");
    guest.tell("send 2");
    until(|| guest.state() == 'T');
    assert_eq!(host.try_iter().collect::<Vec<_>>(), [1]);
    guest.signal(Signal::CONT);
    assert_eq!(guest.line(), "Ok(())");
    assert_eq!(host.recv(), Ok(2));
    let start = Instant::now();
    assert_eq!(guest.ask("send 3"), "Ok(())");
    assert!(start.elapsed() >= Duration::from_millis(20));
    drop(host);
    guest.finish();
}

#[test]
fn each_action_at_one_point_counts_all_passages() {
    for spec in [
        "before_commit=delay:1@1,before_commit=stop@3",
        "before_commit=stop@3,before_commit=delay:1@1",
        "before_commit=kill@4,before_commit=stop@3",
    ] {
        let domain = Domain::new("several");
        let host = domain.of::<u64>().create("c").unwrap();
        let mut guest = with(spec, "actor", &[domain.name()]);
        assert_eq!(guest.ask("open c"), "Ok");
        assert_eq!(guest.ask("send 1"), "Ok(())");
        assert_eq!(guest.ask("send 2"), "Ok(())");
        guest.tell("send 3");
        until(|| guest.state() == 'T');
        guest.signal(Signal::CONT);
        assert_eq!(guest.line(), "Ok(())", "{spec}");
        if spec.contains("kill") {
            last_deed(guest, "send 4");
        } else {
            assert_eq!(guest.ask("send 4"), "Ok(())", "{spec}");
            guest.finish();
        }
        drop(host);
    }
}

#[test]
fn a_word_that_is_not_understood_aborts() {
    let domain = Domain::new("not-understood");
    for spec in [
        "before_comit=kill",
        "closing=kill,before_commit",
        "before_commit=die",
        "before_commit=kill@0",
        "before_commit=kill@third",
        "before_commit=delay:long",
    ] {
        let mut command = Command::new("/proc/self/exe");
        command
            .env("RINGLANE_FAILPOINTS", spec)
            .stderr(Stdio::null());
        let mut actor = Process::start_by(command, "actor", &[domain.name()]);
        actor.tell("create c");
        assert_eq!(actor.next_line(), None, "{spec}");
        assert_eq!(actor.wait().signal(), Some(6), "{spec}");
    }
    drop(domain.of::<u64>().create("c").unwrap());
}
