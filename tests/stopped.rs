//! Whoever is stopped is alive, wherever it was stopped and for however long: nobody takes its end,
//! its lock or its domain from it, nobody is told that it died, and when it goes on nothing is lost.
//!
//! Peers that judge by a clock take such a process for dead:
//! <https://github.com/akka/akka-core/issues/20561>, <https://github.com/aeron-io/aeron/issues/256>,
//! <https://github.com/aeron-io/aeron/issues/374>, <https://github.com/eclipse-zenoh/zenoh/pull/2632>,
//! <https://github.com/eclipse-ecal/ecal/issues/1194>,
//! <https://github.com/eclipse-iceoryx/iceoryx/issues/999>.

mod common;

use common::stores::{LEAST, fill, version_of};
use common::times::tell_class;
use common::{Domain, LONG, Process, Random, Shared, play, say, scale, tally, until};
use ringlane::{
    Channel, ChannelOptions, Child, ChildSpec, Error, PeerState, RecvError, Runtime, Store,
    TryRecvError, TrySendError,
};
use rustix::process::{Pid, Signal, kill_process};
use std::process::Command;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use std::sync::mpsc;
use std::time::{Duration, Instant};

#[test]
#[ignore = "what the processes of these tests run"]
fn process() {
    play(|role, arguments| {
        let scene = Scene::open(arguments[0], arguments[1]);
        match role {
            "sender" => sends(&scene, role, 64),
            "waits-in-send" => sends(&scene, role, u64::MAX),
            "receiver" | "waits-in-recv" => receives(&scene, role),
            "listener" => listens(&scene),
            "waits-with-timeouts" => waits_with_timeouts(&scene),
            "attaches" => attaches(&scene),
            "writer" => writes(&scene),
            "reader" => reads(&scene),
            "watcher" => watches(&scene),
            "main" => is_main(&scene),
            "child" => is_child(),
            other => panic!("{other:?}"),
        }
    });
}

// ---- What all of them know.

/// The last message of a channel.
const LAST: u64 = u64::MAX;

/// Words beside the library: 1 when all is to come to an end.
const OVER: usize = 0;
/// How often the writer was told that its addition is done.
const ADDED: usize = 1;
/// One more than the sum in the end.
const FINAL: usize = 2;
/// How often a timed call ran out so many microseconds late, by powers of two.
const LATE: usize = 3;
const LATES: usize = 32;

struct Scene {
    domain: String,
    shared: Shared,
}

impl Scene {
    fn open(domain: &str, shared: &str) -> Scene {
        Scene {
            domain: domain.to_string(),
            shared: Shared::open(shared),
        }
    }

    fn options(&self) -> ChannelOptions<u64> {
        Channel::options().domain(&self.domain).capacity(4096)
    }

    fn store(&self, lock_timeout: Duration) -> Store {
        let options = Store::options().domain(&self.domain);
        options.lock_timeout(lock_timeout).open("s").unwrap()
    }

    fn is_over(&self) -> bool {
        self.shared.word(OVER).load(Acquire) == 1
    }

    /// For a call that ran out of time: it must not have been early, and how late it is counts.
    #[track_caller]
    fn ran_out(&self, begin: Instant, timeout: Duration) {
        let took = begin.elapsed();
        assert!(took >= timeout, "{took:?} instead of {timeout:?}");
        let late = (took - timeout).as_micros() as u64;
        let bucket = (64 - late.leading_zeros() as usize).min(LATES - 1);
        self.shared.word(LATE + bucket).fetch_add(1, Relaxed);
    }

    fn tell_lateness(&self) {
        for bucket in 0..LATES {
            let count = self.shared.word(LATE + bucket).load(Relaxed);
            if count > 0 {
                let what = "a timeout beside processes that are stopped, until it was noticed";
                tell_class(what, 1000 << bucket, count);
            }
        }
    }
}

/// Ends the scene for everyone if this thread fails.
struct OverIfFailed<'a>(&'a Scene);

impl Drop for OverIfFailed<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.shared.word(OVER).store(1, Release);
        }
    }
}

// ---- What is stopped.

/// Sends numbers in order, with a rest after `burst` of them.
fn sends(scene: &Scene, channel: &str, burst: u64) {
    let mut guest = scene.options().open(channel).unwrap();
    for number in 0u64.. {
        if scene.is_over() {
            break;
        }
        guest.send(number).unwrap();
        if number % burst == burst - 1 {
            std::thread::sleep(Duration::from_micros(200));
        }
    }
    guest.send(LAST).unwrap();
}

/// Receives numbers in order, and says how many there were.
fn receives(scene: &Scene, channel: &str) {
    let mut guest = scene.options().open(channel).unwrap();
    let mut expected = 0;
    loop {
        match guest.recv().unwrap() {
            LAST => break,
            number => assert_eq!(number, expected),
        }
        expected += 1;
    }
    guest.send(expected).unwrap();
}

fn listens(scene: &Scene) {
    let (mut sender, receiver) = scene.options().open("listener").unwrap().split();
    let (ended, end) = mpsc::channel();
    let mut expected = 0;
    let listener = receiver.on_receive(move |number| {
        if number == LAST {
            return ended.send(expected).unwrap();
        }
        assert_eq!(number, expected);
        expected += 1;
    });
    sender.send(end.recv().unwrap()).unwrap();
    drop(listener.unwrap().stop().unwrap());
}

/// Waits for messages that do not come, and for room that there never is.
fn waits_with_timeouts(scene: &Scene) {
    let mut guest = scene.options().open("waits-with-timeouts").unwrap();
    while guest.try_send(0).is_ok() {}
    let mut random = Random::of(1);
    while !scene.is_over() {
        let (timeout, begin) = (random.micros(8_000), Instant::now());
        assert_eq!(guest.recv_timeout(timeout), Err(TryRecvError::Empty));
        scene.ran_out(begin, timeout);
        let (timeout, begin) = (random.micros(8_000), Instant::now());
        let full = Err(TrySendError::Full(9));
        assert_eq!(guest.send_timeout(9, timeout), full);
        scene.ran_out(begin, timeout);
    }
    say("not early");
}

/// Joins the domain, takes an end, sends a number and leaves, over and over.
fn attaches(scene: &Scene) {
    let open = || loop {
        match scene.options().open("attaches") {
            // The test looks whether it could have it.
            Err(Error::EndTaken { .. }) => std::thread::yield_now(),
            other => return other.unwrap(),
        }
    };
    for number in 0.. {
        if scene.is_over() {
            break;
        }
        open().send(number).unwrap();
    }
    open().send(LAST).unwrap();
}

/// Adds to a number, with the lock held for a while.
fn writes(scene: &Scene) {
    let store = scene.store(LONG);
    while !scene.is_over() {
        let added = store.update::<u64>("sum", |sum| {
            std::thread::sleep(Duration::from_micros(500));
            Some(sum.unwrap_or(0) + 1)
        });
        added.unwrap();
        scene.shared.word(ADDED).fetch_add(1, AcqRel);
        std::thread::sleep(Duration::from_micros(500));
    }
}

/// Reads a value that changes all the time, without ever locking.
fn reads(scene: &Scene) {
    let store = Store::options().domain(&scene.domain).read_only();
    let store = store.open("s").unwrap();
    let (mut bytes, mut newest) = (Vec::new(), 0);
    while !scene.is_over() {
        match store.get_into("value", &mut bytes) {
            Ok(found) => assert!(found),
            Err(Error::Contended) => continue,
            Err(e) => panic!("{e}"),
        }
        let version = version_of(&bytes, 0);
        assert!(version >= newest, "{version} after {newest}");
        newest = version;
    }
}

/// Is told newer and newer sums, and the last one.
fn watches(scene: &Scene) {
    let store = scene.store(LONG);
    let mut watch = store.watch::<u64>("sum").unwrap();
    let mut newest = store.get::<u64>("sum").unwrap().unwrap();
    loop {
        let last = scene.shared.word(FINAL).load(Acquire);
        if last == newest + 1 {
            return;
        }
        let (timeout, begin) = (Duration::from_millis(5), Instant::now());
        match watch.wait_timeout(timeout) {
            Ok(sum) => {
                let sum = sum.unwrap();
                assert!(sum > newest, "{sum} after {newest}");
                newest = sum;
            }
            Err(Error::Timeout) => scene.ran_out(begin, timeout),
            Err(e) => panic!("{e}"),
        }
        assert!(last == 0 || newest < last);
    }
}

/// Has a child, with which it exchanges numbers.
fn is_main(scene: &Scene) {
    let mut child = Command::new("/proc/self/exe");
    child.args(std::env::args_os().skip(1));
    child.env("RINGLANE_TEST_ROLE", "child");
    child.env("RINGLANE_TEST_PARENT", std::process::id().to_string());
    let runtime = Runtime::builder(&scene.domain)
        .spec(ChildSpec::command("child", child).capacity(4096))
        .start()
        .unwrap();
    let mut channel = runtime.get_channel::<u64>("child-active").unwrap();
    assert_eq!(channel.recv(), Ok(LAST));
    say(runtime.children()[0].pid.unwrap());
    for number in 0.. {
        if scene.is_over() {
            break;
        }
        channel.send(number).unwrap();
        assert_eq!(channel.recv(), Ok(number));
    }
    let child = &runtime.children()[0];
    assert_eq!((child.generation, child.restarts), (1, 0), "{child:?}");
    drop(channel);
    runtime.shutdown().unwrap();
}

fn is_child() {
    let child = Child::current().unwrap();
    let mut channel = child.active::<u64>().unwrap();
    channel.send(LAST).unwrap();
    loop {
        match channel.recv() {
            Ok(number) => channel.send(number).unwrap(),
            Err(RecvError::Stopping) => return,
            Err(e) => panic!("{e}"),
        }
    }
}

// ---- What the others see meanwhile. None of this may take the stopped process for dead.

/// Receives numbers in order up to the last.
fn receive_all(scene: &Scene, mut host: Channel<u64>, mut random: Random, pause: Duration) {
    let _guard = OverIfFailed(scene);
    let mut expected = 0;
    loop {
        let (timeout, begin) = (random.micros(8_000), Instant::now());
        match host.recv_timeout(timeout) {
            Ok(LAST) => break,
            Ok(number) => {
                assert_eq!(number, expected);
                expected += 1;
            }
            Err(TryRecvError::Empty) => scene.ran_out(begin, timeout),
            // Of one that left in order and came again.
            Err(TryRecvError::Recv(RecvError::PeerRestarted { .. }))
                if host.name() == "attaches" => {}
            Err(e) => panic!("{}: {e}", host.name()),
        }
        if !scene.is_over() {
            std::thread::sleep(pause);
        }
    }
    assert!(expected > 0);
}

/// Sends numbers in order, and asks in the end how many came.
fn send_all(scene: &Scene, mut host: Channel<u64>, mut random: Random, pause: Duration) {
    let _guard = OverIfFailed(scene);
    let mut number = 0;
    while !scene.is_over() {
        let (timeout, begin) = (random.micros(8_000), Instant::now());
        match host.send_timeout(number, timeout) {
            Ok(()) => number += 1,
            Err(TrySendError::Full(_)) => scene.ran_out(begin, timeout),
            Err(e) => panic!("{}: {e}", host.name()),
        }
        std::thread::sleep(pause);
    }
    host.send(LAST).unwrap();
    assert_eq!(host.recv_timeout(LONG), Ok(number));
}

/// Writes beside the writer, not waiting for its lock for long, and adds to the same number: one that
/// stands still between reading and writing it, and lost the lock, would undo that.
/// Gives how often it added.
fn write_beside(scene: &Scene, writer: u32, mut random: Random) -> u64 {
    let _guard = OverIfFailed(scene);
    let mut value = Vec::new();
    let (mut version, mut added, mut refused) = (1, 0, 0);
    while !scene.is_over() {
        let (timeout, begin) = (random.micros(4_000), Instant::now());
        let store = scene.store(timeout);
        fill(
            &mut value,
            0,
            version,
            LEAST + 8 * random.below(20) as usize,
        );
        let outcome = match random.below(2) {
            0 => {
                let set = store.set::<[u8]>("value", &value);
                set.map(|_| version += 1)
            }
            _ => {
                let add = store.update::<u64>("sum", |sum| Some(sum.unwrap() + 1));
                add.map(|_| added += 1)
            }
        };
        match outcome {
            Ok(()) => {}
            Err(Error::LockTimeout { pid }) => {
                assert_eq!(pid, writer);
                scene.ran_out(begin, timeout);
                refused += 1;
            }
            Err(e) => panic!("{e}"),
        }
        std::thread::sleep(random.micros(300));
    }
    let all = [version - 1, added, refused];
    assert!(all.iter().all(|count| *count > 0), "{all:?}");
    added
}

/// A process to be stopped.
struct Target {
    role: &'static str,
    pid: u32,
}

impl Target {
    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_raw(self.pid as i32).unwrap(), signal).unwrap();
    }

    fn is_stopped(&self) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid)).unwrap();
        stat.rsplit_once(')').unwrap().1.starts_with(" T")
    }

    /// While it is stopped: nobody else gets what it has.
    fn keeps_what_it_has(&self, scene: &Scene) {
        let end_of = |channel| match scene.options().open(channel) {
            Err(Error::EndTaken { pid, .. }) => assert_eq!(pid, self.pid, "{}", self.role),
            // Stopped between two holds.
            Ok(_) if self.role == "attaches" => {}
            other => panic!("{}: {other:?}", self.role),
        };
        match self.role {
            "main" => match Runtime::builder(&scene.domain).start() {
                Err(Error::DomainTaken { pid, .. }) => assert_eq!(pid, self.pid),
                other => panic!("{:?}", other.map(drop)),
            },
            "child" => end_of("child-active"),
            // That the lock is not taken from it shows in the sum, to which another adds as well.
            "writer" | "reader" | "watcher" => {}
            role => end_of(role),
        }
    }

    /// Stops it many times for 5 to 50 ms, and once for long.
    fn stop_often(&self, scene: &Scene, stops: usize, long: Duration, mut random: Random) {
        let _guard = OverIfFailed(scene);
        for stop in 0..=stops {
            std::thread::sleep(random.micros(8_000));
            self.signal(Signal::STOP);
            until(|| self.is_stopped());
            self.keeps_what_it_has(scene);
            std::thread::sleep(match stop == stops {
                true => long,
                false => Duration::from_millis(5) + random.micros(45_000),
            });
            self.keeps_what_it_has(scene);
            assert!(self.is_stopped(), "this proves nothing");
            self.signal(Signal::CONT);
        }
    }
}

#[test]
fn nobody_who_is_stopped_is_taken_for_dead() {
    let domain = Domain::new("stopped");
    let shared = Shared::new(&domain, LATE + LATES);
    let scene = Scene::open(domain.name(), shared.path());
    let mut random = Random::printed();
    let store = Store::options().domain(domain.name()).create("s").unwrap();
    store.set("sum", &0u64).unwrap();
    let mut first = Vec::new();
    fill(&mut first, 0, 0, LEAST);
    store.set::<[u8]>("value", &first).unwrap();

    let start = |role: &str| Process::start(role, &[domain.name(), shared.path()]);
    let silent = "waits-with-timeouts";
    let mut silent_host = scene.options().create(silent).unwrap();
    let talking = [
        "sender",
        "receiver",
        "listener",
        "waits-in-send",
        "waits-in-recv",
        "attaches",
    ];
    let hosts = talking.map(|channel| (channel, scene.options().create(channel).unwrap()));
    let others = [silent, "writer", "reader", "watcher", "main"];
    let roles = talking.into_iter().chain(others);
    let mut processes: Vec<_> = roles.map(|role| (role, start(role))).collect();
    let pid_of = |role: &str| processes.iter().find(|p| p.0 == role).unwrap().1.pid();
    let writer = pid_of("writer");
    // Nobody is stopped before he is what he is to be.
    for (channel, host) in &hosts {
        until(|| *channel == "attaches" || matches!(host.peer(), PeerState::Alive { .. }));
    }
    silent_host.wait_peer(LONG).unwrap();
    until(|| scene.shared.word(ADDED).load(Acquire) > 10);
    let child: u32 = processes.last_mut().unwrap().1.line().parse().unwrap();

    let mut targets: Vec<_> = processes
        .iter()
        .map(|(role, process)| Target {
            role,
            pid: process.pid(),
        })
        .collect();
    targets.push(Target {
        role: "child",
        pid: child,
    });
    let stops = scale(5, 100);
    // Longer than any sleep, and the longer one than any time that the library waits by itself.
    let long = Duration::from_millis(scale(300, 11_000) as u64);
    let added_beside = std::thread::scope(|scope| {
        let scene = &scene;
        for (channel, host) in hosts {
            let random = Random::of(random.next());
            scope.spawn(move || match channel {
                "waits-in-send" => receive_all(scene, host, random, Duration::from_millis(1)),
                "waits-in-recv" => send_all(scene, host, random, Duration::from_millis(1)),
                "receiver" | "listener" => send_all(scene, host, random, Duration::from_micros(5)),
                _ => receive_all(scene, host, random, Duration::ZERO),
            });
        }
        let beside = Random::of(random.next());
        let beside = scope.spawn(|| write_beside(scene, writer, beside));
        let stopping: Vec<_> = targets
            .iter()
            .map(|target| {
                let random = Random::of(random.next());
                scope.spawn(move || target.stop_often(scene, stops, long, random))
            })
            .collect();
        let outcomes: Vec<_> = stopping.into_iter().map(|thread| thread.join()).collect();
        scene.shared.word(OVER).store(1, Release);
        outcomes.into_iter().for_each(|outcome| outcome.unwrap());
        beside.join().unwrap()
    });

    // All that was done is there, and none of it was another's doing.
    let (watcher, others): (Vec<_>, _) = processes.into_iter().partition(|p| p.0 == "watcher");
    for (role, mut process) in others {
        if role == silent {
            assert_eq!(process.line(), "not early");
        }
        process.finish();
    }
    let sum = store.get::<u64>("sum").unwrap().unwrap();
    assert_eq!(sum, shared.word(ADDED).load(Acquire) + added_beside);
    shared.word(FINAL).store(sum + 1, Release);
    watcher
        .into_iter()
        .for_each(|(_, process)| process.finish());
    assert_eq!(store.stats().recoveries, 0);
    store.verify().unwrap();
    for target in &targets {
        tally("stopped", &format!("stops ({})", target.role), stops as u64);
    }
    tally("stopped", "long stops", targets.len() as u64);
    scene.tell_lateness();
    assert_eq!(silent_host.try_recv(), Ok(0));
    drop(silent_host);
    store.remove().unwrap();
}
