//! The promise: a child that asks for it, or dies, or is killed, comes back as its policy says, with
//! a generation one higher, and goes on where the messages stand; main hears of a death once and of
//! a successor once; what was asked for counts as no failure; and a child that cannot be kept
//! running is given up after as many tries as allowed, which main is told as the end of its channel.

mod runtime_common;

use ringlane::{
    Channel, Child, ChildResult, ChildSpec, PeerState, RecvError, Restart, Runtime, SendError,
    TryRecvError,
};
use runtime_common::common::seccomp::{self, Rule, Then};
use runtime_common::common::skip;
use runtime_common::puppet::{ask, line, puppet, up};
use runtime_common::{BY_WORD, Case, is_alive, now_ms, say, signal, state, until, wait_to_go_on};
use rustix::process::{Resource, Rlimit, Signal, setrlimit};
use rustix::time::{ClockId, clock_gettime};
use std::os::unix::process::ExitStatusExt;
use std::process::Command;
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

fn main() {
    runtime_common::main(&[
        ("a_child_asks_for_it", a_child_asks_for_it),
        ("a_killed_child_comes_back", a_killed_child_comes_back),
        (
            "what_was_sent_meanwhile_arrives",
            what_was_sent_meanwhile_arrives,
        ),
        (
            "a_full_ring_says_that_the_child_died",
            a_full_ring_says_that_the_child_died,
        ),
        ("who_asks_may_leave_at_once", who_asks_may_leave_at_once),
        ("an_order_is_no_failure", an_order_is_no_failure),
        ("never", never),
        ("on_failure", on_failure),
        ("on_failure_of_a_program", on_failure_of_a_program),
        ("always", always),
        ("no_such_program", no_such_program),
        ("an_order_ends_a_pause", an_order_ends_a_pause),
        ("death_is_told_before_the_end", death_is_told_before_the_end),
        (
            "a_late_receiver_hears_in_order",
            a_late_receiver_hears_in_order,
        ),
        (
            "a_handler_may_restart_and_stop",
            a_handler_may_restart_and_stop,
        ),
        (
            "a_death_is_told_though_main_ordered_the_restart",
            a_death_is_told_though_main_ordered_the_restart,
        ),
        ("a_stopped_process_is_alive", a_stopped_process_is_alive),
        (
            "a_dead_child_may_be_held_by_a_debugger",
            a_dead_child_may_be_held_by_a_debugger,
        ),
        ("main_ignores_sigchld", main_ignores_sigchld),
        (
            "main_ignores_sigchld_without_pidfds",
            main_ignores_sigchld_without_pidfds,
        ),
    ]);
}

fn on_failure_times(max: u32, backoff_ms: u64) -> Restart {
    Restart::OnFailure {
        max,
        backoff: Duration::from_millis(backoff_ms),
    }
}

/// What a receiver was told that is no message.
#[derive(Debug, Default, PartialEq, Eq)]
struct Told {
    died: Vec<u32>,
    restarted: Vec<u32>,
}

impl Told {
    fn note(&mut self, error: RecvError) {
        match error {
            RecvError::PeerDied { pid } => self.died.push(pid),
            RecvError::PeerRestarted { generation } => self.restarted.push(generation),
            other => panic!("{other:?}"),
        }
    }
}

/// The next message, and what was told before it.
fn next(channel: &mut Channel<str>, told: &mut Told) -> String {
    loop {
        match channel.recv() {
            Ok(line) => return line,
            Err(error) => told.note(error),
        }
    }
}

fn a_child_asks_for_it(case: &Case) {
    fn takes_three(child: Child) -> ChildResult {
        let mut main = child.active::<str>()?;
        for _ in 0..3 {
            let number = main.recv()?;
            main.send(format!("{} {number}", child.generation()))?;
        }
        child.request_restart()?;
        // What is there is received even now: that it is to stop is told when nothing is left.
        until("it is told to stop", || child.stopping());
        assert!(child.wait_stop(Duration::ZERO));
        Ok(())
    }
    let runtime = Runtime::builder(&case.domain)
        .spec(
            ChildSpec::entry("a", takes_three)
                .restart(Restart::Never)
                .stop_grace(BY_WORD),
        )
        .start()
        .unwrap();
    let mut channel = runtime.get_channel::<str>("a-active").unwrap();
    for number in 0..12 {
        channel.send(number.to_string()).unwrap();
    }
    let mut told = Told::default();
    for number in 0..12 {
        let generation = 1 + number / 3;
        assert_eq!(
            next(&mut channel, &mut told),
            format!("{generation} {number}")
        );
    }
    // Each left in order, so nobody died.
    assert_eq!(told.died, [0; 0]);
    assert_eq!(told.restarted.len(), 3, "{told:?}");
    assert!(told.restarted.is_sorted());
    until("it is there a fifth time", || {
        runtime.children()[0].generation == 5
    });
    assert_eq!(runtime.children()[0].restarts, 4);
    assert!(runtime.children()[0].last_exit.unwrap().success());
}

/// It ended for good, so its ends were closed and opened again before anybody looked.
fn a_death_is_told_though_main_ordered_the_restart(case: &Case) {
    let runtime = Runtime::builder(&case.domain)
        .spec(ChildSpec::entry("a", puppet).restart(Restart::Never))
        .start()
        .unwrap();
    let mut channel = runtime.get_channel::<str>("a-active").unwrap();
    let (generation, pid) = up(&mut channel);
    assert_eq!(generation, 1);
    signal(pid, Signal::KILL);
    runtime.wait("a").unwrap();
    runtime.restart("a").unwrap();
    until("it is there again", || {
        runtime.children()[0].generation == 2
    });
    assert_eq!(channel.recv(), Err(RecvError::PeerDied { pid }));
    let restarted = channel.recv();
    assert!(
        matches!(restarted, Err(RecvError::PeerRestarted { .. })),
        "{restarted:?}"
    );
    assert_eq!(up(&mut channel).0, 2);
}

fn a_killed_child_comes_back(case: &Case) {
    const KILLS: u32 = 5;
    const BETWEEN: u32 = 200;
    fn acknowledges(child: Child) -> ChildResult {
        let (mut sender, mut numbers) = child.active::<str>()?.split();
        for number in numbers.iter() {
            sender.send(format!(
                "{} {} {number}",
                child.generation(),
                std::process::id()
            ))?;
        }
        Ok(())
    }
    let runtime = Runtime::builder(&case.domain)
        // Small rings, so that the child cannot be done before it is killed.
        .spec(
            ChildSpec::entry("a", acknowledges)
                .restart(on_failure_times(KILLS, 1))
                .capacity(4096),
        )
        .start()
        .unwrap();
    let (mut sender, mut receiver) = runtime.get_channel::<str>("a-active").unwrap().split();
    let count = KILLS * BETWEEN * 10;
    let sending = std::thread::spawn(move || {
        for number in 0..count {
            let mut line = number.to_string();
            loop {
                match sender.send(line) {
                    Ok(()) => break,
                    Err(SendError::PeerDied { value, .. }) => line = value,
                    Err(other) => panic!("{other:?}"),
                }
            }
        }
    });
    let mut told = Told::default();
    let (mut killed, mut got, mut since) = (Vec::new(), Vec::new(), 0);
    let mut last = 0;
    while got.last() != Some(&(count - 1)) {
        // The last kill comes long before the last message, so that is not one that a kill takes.
        match receiver.recv() {
            Ok(line) => {
                let words: Vec<u32> = line.split(' ').map(|w| w.parse().unwrap()).collect();
                let [generation, pid, number] = words[..] else {
                    panic!("{line}")
                };
                assert!(generation >= last, "generation {generation} after {last}");
                last = generation;
                got.push(number);
                since += 1;
                // Only once it was heard of the last one: then each is told by itself.
                if since >= BETWEEN
                    && killed.len() < KILLS as usize
                    && told.restarted.len() == killed.len()
                {
                    killed.push(pid);
                    signal(pid, Signal::KILL);
                    since = 0;
                }
            }
            Err(error) => told.note(error),
        }
    }
    sending.join().unwrap();
    assert_eq!(killed.len(), KILLS as usize);
    assert_eq!(told.died, killed);
    assert_eq!(told.restarted.len(), killed.len());
    assert!(
        got.windows(2).all(|w| w[0] < w[1]),
        "out of order, or twice"
    );
    let lost = count as usize - got.len();
    say(format!("# {lost} messages lost in {} kills", killed.len()));
    assert!(
        lost <= killed.len(),
        "{lost} lost in {} kills",
        killed.len()
    );
    let status = &runtime.children()[0];
    assert_eq!((status.generation, status.restarts), (KILLS + 1, KILLS));
    assert_eq!(status.last_exit.unwrap().signal(), Some(9));
}

/// Until it is ordered.
fn not_by_itself() -> Restart {
    let backoff = Duration::from_secs(3600);
    Restart::Always { backoff }
}

fn what_was_sent_meanwhile_arrives(case: &Case) {
    let runtime = Runtime::builder(&case.domain)
        .spec(ChildSpec::entry("a", puppet).restart(not_by_itself()))
        .start()
        .unwrap();
    let mut channel = runtime.get_channel::<str>("a-active").unwrap();
    let (_, pid) = up(&mut channel);
    signal(pid, Signal::KILL);
    assert_eq!(channel.recv(), Err(RecvError::PeerDied { pid }));
    until("its end is noticed", || runtime.children()[0].pid.is_none());
    let status = &runtime.children()[0];
    assert!(
        status.running && status.generation == 1,
        "a restart is due: {status:?}"
    );
    assert_eq!(channel.peer(), PeerState::Dead { pid });
    for number in 0..10 {
        channel.send(format!("say {number}")).unwrap();
    }
    // Told once, and then there is nobody yet.
    assert!(matches!(channel.try_recv(), Err(TryRecvError::Empty)));
    runtime.restart("a").unwrap();
    assert!(matches!(
        channel.recv(),
        Err(RecvError::PeerRestarted { .. })
    ));
    assert_eq!(up(&mut channel).0, 2);
    let said: Vec<_> = channel.iter().take(10).collect();
    assert_eq!(said, (0..10).map(|n| n.to_string()).collect::<Vec<_>>());
}

fn a_full_ring_says_that_the_child_died(case: &Case) {
    fn idles(child: Child) -> ChildResult {
        let mut main = child.active::<str>()?;
        main.send("up")?;
        if child.generation() == 1 {
            while !child.wait_stop(Duration::from_secs(60)) {}
            return Ok(());
        }
        let count = main.iter().take_while(|line| line != "the last").count();
        main.send(format!("{count}"))?;
        Ok(())
    }
    let runtime = Runtime::builder(&case.domain)
        .spec(
            ChildSpec::entry("a", idles)
                .restart(not_by_itself())
                .capacity(4096),
        )
        .start()
        .unwrap();
    let mut channel = runtime.get_channel::<str>("a-active").unwrap();
    assert_eq!(line(&mut channel), "up");
    let pid = runtime.children()[0].pid.unwrap();
    let mut sent = 0;
    while channel.try_send(format!("{sent:060}")).is_ok() {
        sent += 1;
    }
    // Blocked in `send`, as nobody receives.
    let killer = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(200));
        signal(pid, Signal::KILL);
    });
    let value = format!("{sent:060}");
    let died = SendError::PeerDied { pid, value };
    let back = channel.send(format!("{sent:060}")).unwrap_err();
    assert_eq!(back, died);
    let back = back.into_inner();
    killer.join().unwrap();
    runtime.restart("a").unwrap();
    until("it is back", || runtime.children()[0].generation == 2);
    for line in [back.as_str(), "the last"] {
        // Until it has attached it is still the dead one that does not receive.
        until("there is room", || {
            channel.send_timeout(line, Duration::from_secs(9)).is_ok()
        });
    }
    let said: Vec<_> = channel.iter().take(2).collect();
    assert_eq!(said, ["up".to_string(), (sent + 1).to_string()]);
}

fn who_asks_may_leave_at_once(case: &Case) {
    // Main learns of the request and of the end in any order, and of several children at once.
    const TIMES: u32 = 30;
    const CHILDREN: usize = 8;
    fn asks_and_leaves(child: Child) -> ChildResult {
        if child.generation() <= TIMES {
            child.request_restart()?;
            match child.generation() % 3 {
                0 => return Ok(()),
                1 => std::process::exit(1),
                _ => {
                    // No core, not even to a pipe, which would take its time.
                    let least = Rlimit {
                        current: Some(1),
                        maximum: Some(1),
                    };
                    setrlimit(Resource::Core, least)?;
                    std::process::abort()
                }
            }
        }
        while !child.wait_stop(Duration::from_secs(60)) {}
        Ok(())
    }
    let mut builder = Runtime::builder(&case.domain);
    for i in 0..CHILDREN {
        let spec = ChildSpec::entry(&format!("c{i}"), asks_and_leaves);
        builder = builder.spec(spec.restart(Restart::Never).capacity(4096));
    }
    let runtime = builder.start().unwrap();
    until("each came back each time", || {
        let children = runtime.children();
        for status in &children {
            assert!(status.running, "{status:?}");
        }
        children.iter().all(|status| status.generation == TIMES + 1)
    });
    assert!(
        runtime
            .children()
            .iter()
            .all(|status| status.restarts == TIMES)
    );
}

fn an_order_is_no_failure(case: &Case) {
    let runtime = Runtime::builder(&case.domain)
        .spec(ChildSpec::entry("a", puppet).restart(on_failure_times(1, 1)))
        .start()
        .unwrap();
    let mut channel = runtime.get_channel::<str>("a-active").unwrap();
    assert_eq!(up(&mut channel).0, 1);
    for generation in [2, 4, 6] {
        runtime.restart("a").unwrap();
        assert_eq!(up(&mut channel).0, generation);
        channel.send("restart").unwrap();
        assert_eq!(up(&mut channel).0, generation + 1);
    }
    // One failure is allowed, and none is used up.
    channel.send("exit 1").unwrap();
    assert_eq!(up(&mut channel).0, 8);
    channel.send("exit 1").unwrap();
    let status = runtime.wait("a").unwrap();
    assert_eq!((status.generation, status.restarts), (8, 7));
    assert_eq!(status.last_exit.unwrap().code(), Some(1));
}

/// Notes when it began, and fails.
fn falls(_: Child) -> ChildResult {
    Case::here().note_in("starts", now_ms());
    std::process::exit(3)
}

fn starts(case: &Case) -> Vec<u64> {
    let notes = case.notes_in("starts");
    notes.iter().map(|at| at.parse().unwrap()).collect()
}

/// Receives until the end: what was told, the end apart.
fn to_the_end(channel: &mut Channel<str>) -> (Told, RecvError) {
    let mut told = Told::default();
    loop {
        match channel.recv() {
            Ok(line) => panic!("{line}"),
            Err(error @ (RecvError::Closed | RecvError::Stopping)) => return (told, error),
            Err(error) => told.note(error),
        }
    }
}

fn never(case: &Case) {
    let runtime = Runtime::builder(&case.domain)
        .spec(ChildSpec::entry("a", falls).restart(Restart::Never))
        .spec(ChildSpec::entry("b", puppet).restart(Restart::Never))
        .start()
        .unwrap();
    let mut channel = runtime.get_channel::<str>("a-active").unwrap();
    assert_eq!(to_the_end(&mut channel).1, RecvError::Closed);
    // It stays the end, and nobody will come to receive.
    assert_eq!(channel.recv(), Err(RecvError::Closed));
    assert!(matches!(
        channel.try_recv(),
        Err(TryRecvError::Recv(RecvError::Closed))
    ));
    assert!(matches!(
        channel.send("hello"),
        Err(SendError::Closed("hello"))
    ));
    assert_eq!(channel.peer(), PeerState::Closed);
    let status = runtime.wait("a").unwrap();
    assert!(!status.running && status.pid.is_none());
    assert_eq!((status.generation, status.restarts), (1, 0));
    assert_eq!(status.last_exit.unwrap().code(), Some(3));
    assert_eq!(starts(case).len(), 1);

    // Another child's end is none of its business, and a main that was told may still order.
    let mut other = runtime.get_channel::<str>("b-active").unwrap();
    up(&mut other);
    other.send("return").unwrap();
    assert!(runtime.wait("b").unwrap().last_exit.unwrap().success());
    assert_eq!(to_the_end(&mut other).1, RecvError::Closed);
    runtime.restart("b").unwrap();
    until("the order is obeyed", || {
        runtime.children()[1].generation == 2
    });
    assert_eq!(up(&mut other).0, 2);
    assert_eq!(ask(&mut other, "say back"), "back");
}

fn on_failure(case: &Case) {
    let runtime = Runtime::builder(&case.domain)
        .spec(ChildSpec::entry("a", falls).restart(on_failure_times(3, 100)))
        .spec(ChildSpec::entry("b", puppet).restart(on_failure_times(3, 1)))
        .start()
        .unwrap();
    let mut channel = runtime.get_channel::<str>("a-active").unwrap();
    // It never attached, so nobody died: the end is all there is to tell.
    assert_eq!(
        to_the_end(&mut channel),
        (Told::default(), RecvError::Closed)
    );
    let gave_up = |restarts| {
        let status = runtime.wait("a").unwrap();
        assert!(!status.running && status.pid.is_none() && status.last_error.is_none());
        assert_eq!(
            (status.generation, status.restarts),
            (restarts + 1, restarts)
        );
        assert_eq!(status.last_exit.unwrap().code(), Some(3));
    };
    gave_up(3);
    let check_pauses = |starts: &[u64]| {
        assert_eq!(starts.len(), 4);
        for (pair, pause) in starts.windows(2).zip([100, 200, 400]) {
            assert!(pair[1] - pair[0] >= pause, "{starts:?}");
        }
    };
    check_pauses(&starts(case));
    // Ordered anew, it counts anew.
    runtime.restart("a").unwrap();
    gave_up(7);
    check_pauses(&starts(case)[4..]);

    // To return is no failure.
    let mut other = runtime.get_channel::<str>("b-active").unwrap();
    up(&mut other);
    other.send("return").unwrap();
    let status = runtime.wait("b").unwrap();
    assert!(status.last_exit.unwrap().success() && status.restarts == 0);
}

fn on_failure_of_a_program(case: &Case) {
    // By a signal, and at once; with the default policy.
    let mut dies = Command::new("sh");
    dies.args(["-c", "kill -USR1 $$"]);
    let mut fails = Command::new("false");
    fails.env("ANY", "thing");
    let runtime = Runtime::builder(&case.domain)
        .command("dies", dies)
        .command("fails", fails)
        .start()
        .unwrap();
    let dies = runtime.wait("dies").unwrap();
    assert_eq!(
        (dies.restarts, dies.generation, dies.running),
        (5, 6, false)
    );
    assert_eq!(dies.last_exit.unwrap().signal(), Some(libc::SIGUSR1));
    let fails = runtime.wait("fails").unwrap();
    assert_eq!(
        (fails.restarts, fails.generation, fails.running),
        (5, 6, false)
    );
    assert_eq!(fails.last_exit.unwrap().code(), Some(1));
}

fn always(case: &Case) {
    fn returns(_: Child) -> ChildResult {
        Case::here().note_in("starts", now_ms());
        Ok(())
    }
    let backoff = Duration::from_millis(100);
    let runtime = Runtime::builder(&case.domain)
        .spec(ChildSpec::entry("a", returns).restart(Restart::Always { backoff }))
        .start()
        .unwrap();
    until("it came back some times", || starts(case).len() >= 4);
    runtime.stop("a").unwrap();
    let starts = starts(case);
    assert!(starts.windows(2).all(|w| w[1] - w[0] >= 100), "{starts:?}");
    let status = &runtime.children()[0];
    assert!(!status.running && status.pid.is_none());
    assert_eq!(status.generation, status.restarts + 1);
    std::thread::sleep(3 * backoff);
    assert_eq!(runtime.children()[0].generation, status.generation);
}

fn no_such_program(case: &Case) {
    let missing = case.file("no such program");
    let runtime = Runtime::builder(&case.domain)
        .spec(
            ChildSpec::command("missing", Command::new(&missing)).restart(on_failure_times(2, 50)),
        )
        .spec(ChildSpec::command("never", Command::new(&missing)).restart(Restart::Never))
        .child("b", puppet)
        .start()
        .unwrap();
    let mut channel = runtime.get_channel::<str>("missing-active").unwrap();
    assert_eq!(
        to_the_end(&mut channel),
        (Told::default(), RecvError::Closed)
    );
    for (name, restarts) in [("missing", 2), ("never", 0)] {
        let status = runtime.wait(name).unwrap();
        assert!(!status.running && status.pid.is_none() && status.last_exit.is_none());
        assert_eq!(
            (status.generation, status.restarts),
            (restarts + 1, restarts)
        );
        let why = status.last_error.unwrap();
        assert!(why.contains("No such file"), "{why}");
    }
    let mut other = runtime.get_channel::<str>("b-active").unwrap();
    assert_eq!(up(&mut other).0, 1);
    // It is there in the meantime, say because it has been installed.
    std::fs::write(&missing, "#!/bin/sh\nexec sleep 1000\n").unwrap();
    std::process::Command::new("chmod")
        .arg("+x")
        .arg(&missing)
        .status()
        .unwrap();
    runtime.restart("never").unwrap();
    until("it runs", || runtime.children()[1].pid.is_some());
    assert!(runtime.children()[1].last_error.is_none());
}

fn an_order_ends_a_pause(case: &Case) {
    let backoff = Duration::from_secs(3600);
    let runtime = Runtime::builder(&case.domain)
        .spec(ChildSpec::entry("a", puppet).restart(Restart::Always { backoff }))
        .spec(ChildSpec::entry("b", puppet).restart(Restart::Always { backoff }))
        .start()
        .unwrap();
    let mut first = runtime.get_channel::<str>("a-active").unwrap();
    let mut second = runtime.get_channel::<str>("b-active").unwrap();
    for channel in [&mut first, &mut second] {
        up(channel);
        channel.send("return").unwrap();
    }
    for at in 0..2 {
        until("the pause began", || runtime.children()[at].pid.is_none());
        assert!(runtime.children()[at].running);
    }
    runtime.restart("a").unwrap();
    assert_eq!(up(&mut first).0, 2);
    // A stop takes the restart away, and at once.
    runtime.stop("b").unwrap();
    assert_eq!(second.recv(), Err(RecvError::Closed));
    assert!(!runtime.children()[1].running);
}

fn death_is_told_before_the_end(case: &Case) {
    // As often as not main looks only when both have happened.
    for round in 0..20 {
        let runtime = Runtime::builder(&case.domain)
            .spec(ChildSpec::entry("a", puppet).restart(Restart::Never))
            .start()
            .unwrap();
        let mut channel = runtime.get_channel::<str>("a-active").unwrap();
        let (_, pid) = up(&mut channel);
        channel.send("say a last word").unwrap();
        until("it said it", || channel.stats().sent == 1);
        signal(pid, Signal::KILL);
        if round % 2 == 0 {
            runtime.wait("a").unwrap();
        }
        let mut all = Vec::new();
        let end = loop {
            match channel.recv() {
                Ok(line) => all.push(Ok(line)),
                Err(RecvError::Closed) => break RecvError::Closed,
                Err(error) => all.push(Err(error)),
            }
        };
        assert_eq!(end, RecvError::Closed);
        let died = Err(RecvError::PeerDied { pid });
        // Killed before it was done, it had no last word.
        all.retain(|what| what.is_err());
        assert_eq!(all, [died], "round {round}");
    }
}

fn a_late_receiver_hears_in_order(case: &Case) {
    let runtime = Runtime::builder(&case.domain)
        .spec(ChildSpec::entry("a", puppet).restart(on_failure_times(9, 1)))
        .start()
        .unwrap();
    // Each generation says one thing, and main looks after the third.
    for generation in 1..3 {
        until("it said that it is up", || {
            let channel = runtime.get_channel::<str>("a-active").unwrap();
            channel.split().1.stats().sent == generation.into()
        });
        // It may say so before its pid is published.
        let mut pid = None;
        until("it is shown", || {
            let status = &runtime.children()[0];
            pid = status.pid.filter(|_| status.generation == generation);
            pid.is_some()
        });
        signal(pid.unwrap(), Signal::KILL);
    }
    until("the third is up", || {
        let channel = runtime.get_channel::<str>("a-active").unwrap();
        channel.split().1.stats().sent == 3
    });
    let mut channel = runtime.get_channel::<str>("a-active").unwrap();
    let mut all = Vec::new();
    while all
        .iter()
        .filter(|what: &&String| what.starts_with("up"))
        .count()
        < 3
    {
        match channel.recv() {
            Ok(line) => all.push(line[..4].to_string()),
            Err(RecvError::PeerDied { .. }) => all.push("died".to_string()),
            Err(RecvError::PeerRestarted { .. }) => all.push("restarted".to_string()),
            Err(other) => panic!("{other:?}"),
        }
    }
    // As if the receiver had been there all the time.
    let expected = [
        "up 1",
        "died",
        "restarted",
        "up 2",
        "died",
        "restarted",
        "up 3",
    ];
    assert_eq!(all, expected);
}

fn a_handler_may_restart_and_stop(case: &Case) {
    const TIMES: u32 = 20;
    fn says_much(child: Child) -> ChildResult {
        let mut main = child.active::<str>()?;
        main.send(format!("up {}", child.generation()))?;
        // Main will not receive it all before it has us stopped.
        while !matches!(main.send("noise"), Err(SendError::Stopping(_))) {}
        Ok(())
    }
    let runtime = Runtime::builder(&case.domain)
        .spec(
            ChildSpec::entry("a", says_much)
                .capacity(4096)
                .stop_grace(BY_WORD),
        )
        .start()
        .unwrap();
    let (_, receiver) = runtime.get_channel::<str>("a-active").unwrap().split();
    let (tx, rx) = mpsc::channel();
    let theirs = runtime.clone();
    let listener = receiver
        .listener()
        .on(
            |line| line.starts_with("up"),
            move |line| {
                let generation: u32 = line[3..].parse().unwrap();
                if generation <= TIMES {
                    theirs.restart("a").unwrap();
                } else {
                    // Waits, although nobody receives meanwhile.
                    theirs.stop("a").unwrap();
                    tx.send(generation).unwrap();
                }
            },
        )
        .start()
        .unwrap();
    assert_eq!(rx.recv().unwrap(), TIMES + 1);
    listener.join().unwrap();
    let status = &runtime.children()[0];
    assert!(status.last_exit.unwrap().success(), "{status:?}");
}

fn a_stopped_process_is_alive(case: &Case) {
    let runtime = Runtime::builder(&case.domain)
        .child("a", puppet)
        .start()
        .unwrap();
    let mut channel = runtime.get_channel::<str>("a-active").unwrap();
    let (_, pid) = up(&mut channel);
    signal(pid, Signal::STOP);
    until("it is stopped", || state(pid) == Some('T'));
    channel.send("say it was a long night").unwrap();
    match channel.recv_timeout(Duration::from_secs(3)) {
        Err(TryRecvError::Empty) => {}
        other => panic!("{other:?}"),
    }
    assert_eq!(channel.peer(), PeerState::Alive { pid });
    assert!(runtime.children()[0].running && runtime.children()[0].generation == 1);
    signal(pid, Signal::CONT);
    assert_eq!(channel.recv().unwrap(), "it was a long night");
}

/// It cannot be reaped then, and its pidfd says all the time that it ended.
fn a_dead_child_may_be_held_by_a_debugger(case: &Case) {
    if let [_, pid] = &case.role[..] {
        let pid: libc::pid_t = pid.parse().unwrap();
        let (none, options) = (std::ptr::null_mut::<libc::c_void>(), 0 as libc::c_ulong);
        // SAFETY: it takes no pointers of ours.
        let code = unsafe { libc::ptrace(libc::PTRACE_SEIZE, pid, none, options) };
        say(if code == 0 { "held" } else { "not allowed" });
        return wait_to_go_on();
    }
    let mut sleep = Command::new("sleep");
    sleep.arg("1000");
    let runtime = Runtime::builder(&case.domain)
        .spec(ChildSpec::command("a", sleep).restart(on_failure_times(1, 1)))
        .start()
        .unwrap();
    let pid = runtime.children()[0].pid.unwrap();
    let mut debugger = case.start(&["debugger", &pid.to_string()]);
    if debugger.line() != "held" {
        return skip("permissions", "no other process may be debugged here");
    }
    signal(pid, Signal::KILL);
    until("it is dead", || state(pid) == Some('Z'));
    let used = || {
        let time = clock_gettime(ClockId::ProcessCPUTime);
        Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
    };
    let (before, start) = (used(), Instant::now());
    std::thread::sleep(Duration::from_secs(1));
    let (used, took) = (used() - before, start.elapsed());
    assert!(used < took / 4, "{used:?} of a processor in {took:?}");
    assert_eq!(runtime.children()[0].pid, Some(pid));
    debugger.kill();
    until("it is started again", || {
        runtime.children()[0].generation == 2
    });
}

/// Then only the pid tells that a child ended.
fn main_ignores_sigchld_without_pidfds(case: &Case) {
    let none = Rule::all(libc::SYS_pidfd_open, Then::Fail(libc::ENOSYS));
    match seccomp::apply(&[none]) {
        Ok(()) => main_ignores_sigchld(case),
        Err(e) => skip("no-room", &format!("a filter of system calls: {e}")),
    }
}

fn main_ignores_sigchld(case: &Case) {
    // The kernel then reaps children by itself, so how they ended is not to be learned.
    // SAFETY: to ignore a signal runs no code of ours.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) };
    let exits = Arc::new(Mutex::new(Vec::new()));
    let theirs = exits.clone();
    let runtime = Runtime::builder(&case.domain)
        .spec(ChildSpec::entry("a", puppet).restart(on_failure_times(1, 10)))
        .spec(
            ChildSpec::command("missing", Command::new("/no such program")).restart(Restart::Never),
        )
        .command("sleeps", {
            let mut sleep = Command::new("sleep");
            sleep.arg("1000");
            sleep
        })
        .on_child_exit(move |_, status| theirs.lock().unwrap().push(status.clone()))
        .start()
        .unwrap();
    let mut channel = runtime.get_channel::<str>("a-active").unwrap();
    let (_, pid) = up(&mut channel);
    signal(pid, Signal::KILL);
    assert_eq!(up(&mut channel).0, 2);
    channel.send("exit 0").unwrap();
    let status = runtime.wait("a").unwrap();
    // Unknown is not success, so it was tried once more before.
    assert_eq!(
        (status.last_exit, status.last_error, status.restarts),
        (None, None, 1)
    );
    assert!(!is_alive(pid));
    let missing = runtime.wait("missing").unwrap();
    assert!(
        missing.last_error.is_some() && missing.generation == 1,
        "{missing:?}"
    );
    runtime.restart("sleeps").unwrap();
    until("it sleeps again", || runtime.children()[2].generation == 2);
    runtime.shutdown().unwrap();
    // Hooks are waited for, but not for ever.
    until("all is told", || exits.lock().unwrap().len() >= 5);
    let exits = exits.lock().unwrap();
    let of = |name| exits.iter().filter(|status| status.name == name).count();
    assert_eq!((of("a"), of("missing"), of("sleeps")), (2, 1, 2));
    assert!(exits.iter().all(|status| status.last_exit.is_none()));
}
