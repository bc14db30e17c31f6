//! The promise: a child that is to stop is told so at once, gets SIGTERM after half its grace (at
//! once if it never attached) and SIGKILL after the whole; a stop wins over any restart, and no
//! process survives it; every end is reported once; and children do not outlive their main, however
//! that ends: by a shutdown, by dropping the runtime, by Ctrl-C in `run`, or by SIGKILL.

mod runtime_common;

use ringlane::{Channel, Child, ChildResult, ChildSpec, Error, RecvError, Restart, Runtime};
use runtime_common::common::{Random, scale, tally};
use runtime_common::puppet::{ask, ignore_sigterm, line, puppet, up};
use runtime_common::{BY_WORD, Case, children, is_alive, say, signal, state, until, wait_to_go_on};
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use rustix::process::Signal;
use std::mem::MaybeUninit;
use std::os::unix::process::ExitStatusExt;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

fn main() {
    runtime_common::main(&[
        ("the_stop_word_is_heard", the_stop_word_is_heard),
        (
            "waiting_for_the_stop_is_not_early",
            waiting_for_the_stop_is_not_early,
        ),
        ("sigterm_after_half_the_grace", sigterm_after_half_the_grace),
        (
            "sigterm_at_once_if_never_attached",
            sigterm_at_once_if_never_attached,
        ),
        ("sigkill_after_the_grace", sigkill_after_the_grace),
        (
            "sigkill_reaches_a_stopped_process",
            sigkill_reaches_a_stopped_process,
        ),
        (
            "sigkill_reaches_grandchildren",
            sigkill_reaches_grandchildren,
        ),
        (
            "sigkill_reaches_one_that_left_its_group",
            sigkill_reaches_one_that_left_its_group,
        ),
        ("one_stop_is_one_childs", one_stop_is_one_childs),
        ("a_stop_wins_over_a_restart", a_stop_wins_over_a_restart),
        (
            "a_shutdown_wins_over_a_restart",
            a_shutdown_wins_over_a_restart,
        ),
        ("a_stop_is_not_overruled", a_stop_is_not_overruled),
        ("every_stop_returns", every_stop_returns),
        (
            "dropping_the_last_runtime_shuts_down",
            dropping_the_last_runtime_shuts_down,
        ),
        ("after_the_shutdown", after_the_shutdown),
        (
            "a_shutdown_leaves_the_next_main_its_store",
            a_shutdown_leaves_the_next_main_its_store,
        ),
        ("many_shut_down_at_once", many_shut_down_at_once),
        (
            "an_exit_right_after_the_shutdown",
            an_exit_right_after_the_shutdown,
        ),
        ("waiting", waiting),
        ("run_ends_with_its_children", run_ends_with_its_children),
        ("run_ends_by_sigint", run_ends_by_a_signal),
        ("run_ends_by_sigterm", run_ends_by_a_signal),
        (
            "run_hears_a_signal_during_the_start",
            run_hears_a_signal_during_the_start,
        ),
        (
            "a_second_signal_ends_run_at_once",
            a_second_signal_ends_run_at_once,
        ),
        (
            "after_run_signals_are_as_before",
            after_run_signals_are_as_before,
        ),
        (
            "children_die_with_a_killed_main",
            children_die_with_a_killed_main,
        ),
        (
            "children_leave_by_the_pipe_too",
            children_leave_by_the_pipe_too,
        ),
        (
            "the_next_main_keeps_the_messages",
            the_next_main_keeps_the_messages,
        ),
        (
            "a_main_killed_at_any_moment_is_followed",
            a_main_killed_at_any_moment_is_followed,
        ),
    ]);
}

fn sleep_1000() -> Command {
    let mut sleep = Command::new("sleep");
    sleep.arg("1000");
    sleep
}

fn shell(script: &str) -> Command {
    let mut shell = Command::new("sh");
    shell.args(["-c", script]);
    shell
}

fn waiting_for_the_stop_is_not_early(case: &Case) {
    fn waits(child: Child) -> ChildResult {
        let mut random = Random::printed();
        std::thread::scope(|scope| {
            for _ in 0..WAITERS {
                let mut random = Random::of(random.next());
                let child = &child;
                scope.spawn(move || {
                    for wait in 0..scale(250, 1_000) {
                        // Now and then longer than the child sleeps in one go.
                        let least = if wait % 125 == 0 { 150_000 } else { 0 };
                        let timeout = random.micros(3_000) + Duration::from_micros(least);
                        let start = Instant::now();
                        assert!(!child.wait_stop(timeout));
                        let waited = start.elapsed();
                        assert!(waited >= timeout, "{waited:?} instead of {timeout:?}");
                    }
                });
            }
        });
        Case::here().note("waited");
        while !child.wait_stop(Duration::from_secs(3600)) {}
        Ok(())
    }
    const WAITERS: usize = 4;
    let spec = ChildSpec::entry("a", waits).restart(Restart::Never);
    let runtime = Runtime::builder(&case.domain)
        .spec(spec.capacity(4096).stop_grace(BY_WORD))
        .start()
        .unwrap();
    case.noted("waited");
    runtime.stop("a").unwrap();
    let status = &runtime.children()[0];
    assert!(status.last_exit.unwrap().success(), "{status:?}");
    let waits = WAITERS * scale(250, 1_000);
    tally("stopped", "waits that did not end early", waits as u64);
}

fn the_stop_word_is_heard(case: &Case) {
    /// Blocks in three ways at once, each in a thread of its own.
    fn blocks(child: Child) -> ChildResult {
        let case = Case::here();
        assert!(!child.stopping() && !child.wait_stop(Duration::from_millis(1)));
        let (_keep, mut receiver) = child.active::<str>()?.split();
        let (mut sender, _keep_too) = child.passive::<str>()?.split();
        std::thread::scope(|scope| {
            scope.spawn(|| case.note(format!("recv {:?}", receiver.recv())));
            scope.spawn(|| {
                let failure = loop {
                    if let Err(failure) = sender.send("nobody receives it") {
                        break failure;
                    }
                };
                case.note(format!("send {failure:?}"));
            });
            scope.spawn(|| {
                let told = child.wait_stop(Duration::from_secs(3600));
                case.note(format!("wait_stop {told}"));
            });
        });
        assert!(child.stopping());
        Ok(())
    }
    let runtime = Runtime::builder(&case.domain)
        .spec(
            ChildSpec::entry("a", blocks)
                .capacity(4096)
                .stop_grace(BY_WORD),
        )
        .start()
        .unwrap();
    let passive = runtime.get_channel::<str>("a-passive").unwrap().split().1;
    until("it is blocked", || passive.stats().full > 0);
    runtime.stop("a").unwrap();
    let status = &runtime.children()[0];
    // By the word alone, as the signals are half an hour away.
    assert!(status.last_exit.unwrap().success(), "{status:?}");
    let mut notes = case.notes();
    notes.sort();
    assert_eq!(
        notes,
        ["recv Err(Stopping)", "send Stopping(..)", "wait_stop true"]
    );
}

/// Stops it, and gives how long that took and the signal that ended it.
fn stop(runtime: &Runtime, name: &str) -> (Duration, Option<i32>) {
    let start = Instant::now();
    runtime.stop(name).unwrap();
    let took = start.elapsed();
    let children = runtime.children();
    let status = children.iter().find(|c| c.name == name).unwrap();
    assert!(!status.running && status.pid.is_none());
    (took, status.last_exit.unwrap().signal())
}

fn sigterm_after_half_the_grace(case: &Case) {
    let grace = Duration::from_secs(4);
    let runtime = Runtime::builder(&case.domain)
        .spec(ChildSpec::entry("a", puppet).stop_grace(grace))
        .start()
        .unwrap();
    let mut channel = runtime.get_channel::<str>("a-active").unwrap();
    up(&mut channel);
    assert_eq!(ask(&mut channel, "be busy"), "busy");
    let (took, by) = stop(&runtime, "a");
    assert!(took >= grace / 2, "{took:?}");
    // If the machine slept through the rest of it, the other signal was due as well.
    let by_sigkill = by == Some(libc::SIGKILL) && took >= grace;
    assert!(by == Some(libc::SIGTERM) || by_sigkill, "{by:?}, {took:?}");
}

fn sigterm_at_once_if_never_attached(case: &Case) {
    let hours = Duration::from_secs(7200);
    let runtime = Runtime::builder(&case.domain)
        .spec(ChildSpec::command("a", sleep_1000()).stop_grace(hours))
        .spec(ChildSpec::command("b", sleep_1000()).stop_grace(Duration::MAX))
        .start()
        .unwrap();
    assert_eq!(stop(&runtime, "a").1, Some(libc::SIGTERM));
    assert_eq!(stop(&runtime, "b").1, Some(libc::SIGTERM));
}

fn sigkill_after_the_grace(case: &Case) {
    let grace = Duration::from_millis(600);
    let mut deaf = shell("trap '' TERM; echo deaf >> \"$0\"; exec sleep 1000");
    deaf.arg(case.file("notes"));
    let runtime = Runtime::builder(&case.domain)
        .spec(ChildSpec::entry("a", puppet).stop_grace(grace))
        .spec(ChildSpec::command("b", deaf).stop_grace(grace))
        .start()
        .unwrap();
    let mut channel = runtime.get_channel::<str>("a-active").unwrap();
    up(&mut channel);
    assert_eq!(ask(&mut channel, "be stubborn"), "stubborn");
    case.noted("deaf");
    for name in ["a", "b"] {
        let (took, by) = stop(&runtime, name);
        assert!(took >= grace, "{name}: {took:?}");
        assert_eq!(by, Some(libc::SIGKILL), "{name}");
    }
}

fn sigkill_reaches_a_stopped_process(case: &Case) {
    let grace = Duration::from_millis(600);
    let runtime = Runtime::builder(&case.domain)
        .spec(ChildSpec::entry("a", puppet).stop_grace(grace))
        .start()
        .unwrap();
    let (_, pid) = up(&mut runtime.get_channel("a-active").unwrap());
    signal(pid, Signal::STOP);
    until("it is stopped", || state(pid) == Some('T'));
    let (took, by) = stop(&runtime, "a");
    assert!(took >= grace, "{took:?}");
    assert_eq!(by, Some(libc::SIGKILL));
}

fn sigkill_reaches_grandchildren(case: &Case) {
    let mut family = shell("trap '' TERM; sleep 1000 & echo grandchild $! >> \"$0\"; wait");
    family.arg(case.file("notes"));
    let runtime = Runtime::builder(&case.domain)
        .spec(ChildSpec::command("a", family).stop_grace(Duration::from_millis(100)))
        .start()
        .unwrap();
    let grandchild = case.noted("grandchild").parse().unwrap();
    assert!(is_alive(grandchild));
    assert_eq!(stop(&runtime, "a").1, Some(libc::SIGKILL));
    until("its process group died with it", || !is_alive(grandchild));
}

fn sigkill_reaches_one_that_left_its_group(case: &Case) {
    fn leaves(child: Child) -> ChildResult {
        ignore_sigterm();
        // Somebody stays in the group, so that it can be signalled without us.
        let sleeper = sleep_1000().spawn()?.id();
        let of_main = rustix::process::getpgid(rustix::process::getppid())?;
        rustix::process::setpgid(None, Some(of_main))?;
        child.active::<str>()?.send(format!("up 1 {sleeper}"))?;
        loop {
            std::thread::sleep(Duration::from_secs(1));
        }
    }
    let runtime = Runtime::builder(&case.domain)
        .spec(ChildSpec::entry("a", leaves).stop_grace(Duration::from_millis(200)))
        .start()
        .unwrap();
    let (_, sleeper) = up(&mut runtime.get_channel("a-active").unwrap());
    assert_eq!(stop(&runtime, "a").1, Some(libc::SIGKILL));
    until("its process group ended", || !is_alive(sleeper));
}

fn one_stop_is_one_childs(case: &Case) {
    let runtime = Runtime::builder(&case.domain)
        .child("a", puppet)
        .child("b", puppet)
        .start()
        .unwrap();
    let mut first = runtime.get_channel::<str>("a-active").unwrap();
    let mut second = runtime.get_channel::<str>("b-active").unwrap();
    up(&mut first);
    up(&mut second);
    runtime.stop("a").unwrap();
    runtime.stop("a").unwrap();
    assert_eq!(first.recv(), Err(RecvError::Closed));
    assert_eq!(ask(&mut second, "say untouched"), "untouched");
    // What it was told is nothing to its successor.
    runtime.restart("a").unwrap();
    until("it is back", || runtime.children()[0].generation == 2);
    assert_eq!(up(&mut first).0, 2);
    assert_eq!(ask(&mut first, "say untouched"), "untouched");
}

/// Counts the ends that are reported, by child.
#[derive(Clone, Default)]
struct Exits(Arc<Mutex<Vec<String>>>);

impl Exits {
    fn of(&self, name: &str) -> u32 {
        self.0.lock().unwrap().iter().filter(|n| *n == name).count() as u32
    }
}

/// `A4` of the acceptance checks: whatever a stop runs into, there is no process after it, and each
/// process that there was ended once.
/// In https://github.com/dora-rs/dora/pull/2606 a stop during the pause before a restart
/// leaves an orphan.
fn a_stop_wins_over_a_restart(case: &Case) {
    let rounds = scale(300, 2_000);
    let mut random = random_of_main();
    let exits = Exits::default();
    let theirs = exits.clone();
    let runtime = Runtime::builder(&case.domain)
        .spec(ChildSpec::entry("a", puppet).restart(Restart::Always {
            backoff: Duration::from_micros(300),
        }))
        .spec(
            ChildSpec::command("b", sleep_1000()).restart(Restart::OnFailure {
                max: u32::MAX,
                backoff: Duration::from_micros(300),
            }),
        )
        .on_child_exit(move |_, status| theirs.0.lock().unwrap().push(status.name.clone()))
        .start()
        .unwrap();
    let mut raced = 0;
    for round in 0..rounds {
        let (at, name) = if round % 3 == 0 { (0, "a") } else { (1, "b") };
        // Half of the time it is in the middle of something else.
        if random.below(2) == 0 {
            until("it runs", || runtime.children()[at].pid.is_some());
        }
        let (what, pid) = (random.below(3), runtime.children()[at].pid);
        // Without a pid it is between two processes.
        raced += u64::from(what < 2 || pid.is_none());
        match (what, pid) {
            (0, _) => runtime.restart(name).unwrap(),
            (1, Some(pid)) => {
                // It may be gone already, and its pid nobody's: no other process gets it so soon.
                let pid = rustix::process::Pid::from_raw(pid as i32).unwrap();
                let _ = rustix::process::kill_process(pid, Signal::KILL);
            }
            _ => {}
        }
        std::thread::sleep(random.micros(3_000));
        runtime.stop(name).unwrap();
        let status = runtime.children()[at].clone();
        assert!(
            !status.running && status.pid.is_none(),
            "round {round}: {status:?}"
        );
        until("only the other child is there", || {
            let others = runtime.children()[1 - at].pid;
            children().iter().all(|pid| Some(*pid) == others)
        });
        until("each process ended once", || {
            exits.of(name) == status.generation
        });
        runtime.restart(name).unwrap();
    }
    runtime.shutdown().unwrap();
    for status in runtime.children() {
        until("each process ended once", || {
            exits.of(&status.name) == status.generation
        });
    }
    assert_eq!(children(), [0; 0]);
    tally("race", "stops that raced a restart or a crash", raced);
}

/// Only main draws, though its children come by here.
fn random_of_main() -> Random {
    match std::env::var_os("RINGLANE_CHILD") {
        Some(_) => Random::of(0),
        None => Random::printed(),
    }
}

fn a_shutdown_wins_over_a_restart(case: &Case) {
    let mut random = random_of_main();
    let rounds = scale(40, 300);
    let mut raced = 0;
    for round in 0..rounds {
        let exits = Exits::default();
        let theirs = exits.clone();
        let runtime = Runtime::builder(&case.domain)
            .spec(ChildSpec::entry("a", puppet).restart(Restart::Always {
                backoff: Duration::from_micros(300),
            }))
            .spec(ChildSpec::command("b", sleep_1000()))
            .on_child_exit(move |_, status| theirs.0.lock().unwrap().push(status.name.clone()))
            .start()
            .unwrap();
        let mut is_raced = false;
        for at in 0..2 {
            let (what, pid) = (random.below(3), runtime.children()[at].pid);
            is_raced |= what < 2 || pid.is_none();
            match (what, pid) {
                (0, _) => runtime.restart(["a", "b"][at]).unwrap(),
                (1, Some(pid)) => signal(pid, Signal::KILL),
                _ => {}
            }
        }
        raced += u64::from(is_raced);
        std::thread::sleep(random.micros(5_000));
        runtime.shutdown().unwrap();
        assert_eq!(children(), [0; 0], "round {round}");
        for status in runtime.children() {
            assert!(!status.running && status.pid.is_none());
            until("each process ended once", || {
                exits.of(&status.name) == status.generation
            });
        }
        assert!(!case.directory().exists(), "round {round}");
    }
    tally("race", "shutdowns that raced a restart or a crash", raced);
}

fn a_stop_is_not_overruled(case: &Case) {
    /// Asks for what it cannot have any more, and takes its time.
    fn asks(child: Child) -> ChildResult {
        Case::here().note("up");
        while !child.wait_stop(Duration::from_secs(3600)) {}
        child.request_restart()?;
        Case::here().note("asked");
        Case::here().noted("ordered");
        Err("a failure, too".into())
    }
    let always = Restart::Always {
        backoff: Duration::ZERO,
    };
    let runtime = Runtime::builder(&case.domain)
        .spec(
            ChildSpec::entry("a", asks)
                .restart(always)
                .stop_grace(BY_WORD),
        )
        .start()
        .unwrap();
    case.noted("up");
    std::thread::scope(|scope| {
        let stopping = scope.spawn(|| runtime.stop("a"));
        case.noted("asked");
        assert!(!stopping.is_finished());
        runtime.restart("a").unwrap();
        case.note("ordered");
        stopping.join().unwrap().unwrap();
    });
    std::thread::sleep(Duration::from_millis(100));
    let status = &runtime.children()[0];
    assert_eq!(
        (status.generation, status.running),
        (1, false),
        "{status:?}"
    );
    assert_eq!(runtime.wait("a").unwrap().generation, 1);
    // Ordered after the stop was done, it counts.
    runtime.restart("a").unwrap();
    until("it is back", || runtime.children()[0].generation == 2);
}

/// In https://github.com/dora-rs/dora/issues/2936 a restart is announced and never completed.
fn every_stop_returns(case: &Case) {
    let runtime = Runtime::builder(&case.domain)
        .spec(ChildSpec::command("a", sleep_1000()).capacity(4096))
        .start()
        .unwrap();
    let seed = random_of_main().next();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for thread in 0..2 {
            let (runtime, done, mut random) = (&runtime, &done, Random::of(seed + thread));
            scope.spawn(move || {
                while !done.load(Ordering::Relaxed) {
                    runtime.restart("a").unwrap();
                    std::thread::sleep(random.micros(200));
                }
            });
        }
        // Whoever has it started again meanwhile, at whatever moment: it was stopped once.
        for _ in 0..scale(500, 3_000) {
            runtime.stop("a").unwrap();
        }
        done.store(true, Ordering::Relaxed);
    });
    runtime.stop("a").unwrap();
    assert!(!runtime.children()[0].running && children().is_empty());
}

fn dropping_the_last_runtime_shuts_down(case: &Case) {
    let runtime = Runtime::builder(&case.domain)
        .spec(ChildSpec::entry("a", puppet).stop_grace(BY_WORD))
        .start()
        .unwrap();
    let clones = [runtime.clone(), runtime.clone()];
    let mut channel = runtime.get_channel::<str>("a-active").unwrap();
    let (_, pid) = up(&mut channel);
    drop(runtime);
    let [first, second] = clones;
    drop(first);
    assert_eq!(ask(&mut channel, "say still here"), "still here");
    // With an end lent and messages in it that nobody received.
    for _ in 0..10 {
        channel.send("say nobody hears it").unwrap();
    }
    drop(second);
    assert!(!is_alive(pid) && children().is_empty());
    let end = loop {
        if let Err(end) = channel.recv() {
            break end;
        }
    };
    assert!(
        matches!(end, RecvError::Closed | RecvError::Stopping),
        "{end:?}"
    );
    let left: Vec<_> = std::fs::read_dir(case.directory())
        .unwrap()
        .flatten()
        .collect();
    assert_eq!(left.len(), 1, "only who is there: {left:?}");
    drop(channel);
    assert!(!case.directory().exists());
}

fn after_the_shutdown(case: &Case) {
    let runtime = Runtime::builder(&case.domain)
        .child("a", puppet)
        .start()
        .unwrap();
    assert!(!runtime.stopping());
    runtime.shutdown().unwrap();
    runtime.shutdown().unwrap();
    assert!(runtime.stopping());
    let status = runtime.wait("a").unwrap();
    assert!(!status.running && status.last_exit.is_some());
    for refused in [
        runtime.restart("a"),
        runtime.stop("a"),
        runtime.get_channel::<str>("a-active").map(drop),
        runtime.set_channel::<str>("more").map(drop),
        runtime.channels().map(drop),
    ] {
        assert!(matches!(refused, Err(Error::Stopping)), "{refused:?}");
    }
    assert!(format!("{runtime:?}").contains(&case.domain));
    // The domain is free for the next, in the same process too, while this handle is still there.
    let next = Runtime::builder(&case.domain)
        .child("a", puppet)
        .start()
        .unwrap();
    assert_eq!(up(&mut next.get_channel("a-active").unwrap()).0, 1);
    drop(runtime);
    assert!(next.children()[0].running);
}

/// The next main may make its store as soon as the domain is free: nothing may be removed by its
/// name after that.
fn a_shutdown_leaves_the_next_main_its_store(case: &Case) {
    let runtime = Runtime::builder(&case.domain).start().unwrap();
    runtime.store().unwrap().set("key", &7u8).unwrap();
    let watch = inotify::init(CreateFlags::NONBLOCK).unwrap();
    inotify::add_watch(&watch, case.directory(), WatchFlags::DELETE).unwrap();
    runtime.shutdown().unwrap();
    let mut buffer = [MaybeUninit::uninit(); 4096];
    let mut events = inotify::Reader::new(&watch, &mut buffer);
    let mut removed = Vec::new();
    while let Ok(event) = events.next() {
        let name = event
            .file_name()
            .map(|name| name.to_str().unwrap().to_string());
        removed.extend(name);
    }
    let at = |name: &str| removed.iter().position(|removed| removed == name);
    let (store, domain) = (at("shared.store"), at("runtime"));
    assert!(store.is_some() && store < domain, "{removed:?}");
}

fn many_shut_down_at_once(case: &Case) {
    let from_hook = Arc::new(Mutex::new(None));
    let theirs = from_hook.clone();
    let runtime = Runtime::builder(&case.domain)
        .child("a", puppet)
        .child("b", puppet)
        .on_child_exit(move |runtime, _| {
            *theirs.lock().unwrap() = Some(runtime.shutdown().is_ok());
        })
        .start()
        .unwrap();
    let mut channel = runtime.get_channel::<str>("a-active").unwrap();
    up(&mut channel);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                runtime.shutdown().unwrap();
                assert_eq!(children(), [0; 0]);
            });
        }
        // By a child's end and out of a hook, too.
        let _ = channel.send("return");
    });
    drop(channel);
    until("the hook's call ended", || {
        from_hook.lock().unwrap().is_some()
    });
    assert_eq!(*from_hook.lock().unwrap(), Some(true));
}

fn an_exit_right_after_the_shutdown(case: &Case) {
    if case.role() == "main" {
        let runtime = Runtime::builder(&case.domain)
            .spec(ChildSpec::entry("a", puppet).capacity(4096))
            .start()
            .unwrap();
        // It ends by itself when main stops, once its handler is done.
        let (_, receiver) = runtime.get_channel::<str>("a-active").unwrap().split();
        let (tx, rx) = std::sync::mpsc::channel();
        let handler = move |_| {
            tx.send(()).unwrap();
            std::thread::sleep(Duration::from_millis(50));
        };
        drop(receiver.on_receive(handler).unwrap());
        rx.recv().unwrap();
        let start = Instant::now();
        runtime.shutdown().unwrap();
        if start.elapsed() < Duration::from_secs(1) {
            say("in time");
        }
        std::process::exit(0);
    }
    for round in 0..scale(40, 200) {
        let mut main = case.start(&["main"]);
        let (status, said) = main.wait();
        assert!(status.success());
        // As documented: a handler is waited for, at most a second.
        if said.is_empty() {
            Runtime::builder(&case.domain).start().unwrap();
        }
        assert!(!case.directory().exists(), "round {round}");
    }
}

fn waiting(case: &Case) {
    let runtime = Runtime::builder(&case.domain)
        .spec(ChildSpec::entry("a", puppet).restart(Restart::OnFailure {
            max: 1,
            backoff: Duration::from_millis(200),
        }))
        .start()
        .unwrap();
    let mut channel = runtime.get_channel::<str>("a-active").unwrap();
    up(&mut channel);
    std::thread::scope(|scope| {
        let waiters: Vec<_> = (0..4).map(|_| scope.spawn(|| runtime.wait("a"))).collect();
        // A failure after which it is restarted is no end.
        channel.send("exit 1").unwrap();
        assert_eq!(up(&mut channel).0, 2);
        assert!(waiters.iter().all(|waiter| !waiter.is_finished()));
        channel.send("exit 7").unwrap();
        for waiter in waiters {
            let status = waiter.join().unwrap().unwrap();
            assert_eq!(status.last_exit.unwrap().code(), Some(7));
            assert_eq!((status.generation, status.running), (2, false));
        }
    });
    // Ordered and awaited: what ended before is not it.
    runtime.restart("a").unwrap();
    let theirs = runtime.clone();
    let waiter = std::thread::spawn(move || theirs.wait("a").unwrap());
    until("it is back", || runtime.children()[0].generation == 3);
    assert_eq!(up(&mut channel).0, 3);
    channel.send("return").unwrap();
    let status = waiter.join().unwrap();
    assert_eq!(
        (status.generation, status.last_exit.unwrap().code()),
        (3, Some(0))
    );
}

fn run_ends_with_its_children(case: &Case) {
    fn returns(_: Child) -> ChildResult {
        Ok(())
    }
    fn fails(_: Child) -> ChildResult {
        Err("as it must".into())
    }
    // Hooks are waited for, but not for ever. The late ones need a runtime.
    let kept = Arc::new(Mutex::new(None));
    let theirs = kept.clone();
    Runtime::builder(&case.domain)
        .child("a", returns)
        .spec(ChildSpec::entry("b", fails).restart(Restart::OnFailure {
            max: 2,
            backoff: Duration::from_millis(50),
        }))
        .command("c", Command::new("true"))
        .on_before_start(move |runtime| *theirs.lock().unwrap() = Some(runtime.clone()))
        .on_child_exit(|_, status| Case::here().note(&status.name))
        .on_after_shutdown(|| Case::here().note("after"))
        .run()
        .unwrap();
    until("all is told", || case.notes().len() >= 6);
    let notes = case.notes();
    let of = |what: &str| notes.iter().filter(|note| *note == what).count();
    assert_eq!(
        (of("a"), of("b"), of("c"), of("after")),
        (1, 3, 1, 1),
        "{notes:?}"
    );
    assert!(!case.directory().exists());
    // Once more, in the same process.
    Runtime::builder(&case.domain)
        .child("a", returns)
        .run()
        .unwrap();
}

/// In the role `main`: runs two children, and tells of all that happens.
fn run_and_tell(case: &Case) {
    fn waits(child: Child) -> ChildResult {
        say(format!("up {} {}", child.name(), std::process::id()));
        while !child.wait_stop(Duration::from_secs(3600)) {}
        Case::here().note(format!("told {}", child.name()));
        Ok(())
    }
    let kept = Arc::new(Mutex::new(None));
    let theirs = kept.clone();
    let outcome = Runtime::builder(&case.domain)
        .spec(ChildSpec::entry("a", waits).stop_grace(BY_WORD))
        .spec(ChildSpec::entry("b", waits).stop_grace(BY_WORD))
        .on_before_start(move |runtime| {
            *theirs.lock().unwrap() = Some(runtime.clone());
            if Case::here().name == "run_hears_a_signal_during_the_start" {
                signal(std::process::id(), Signal::TERM);
            }
        })
        .on_before_child_stop(|_, name| Case::here().note(format!("stops {name}")))
        .on_child_exit(|_, status| {
            let well = status.last_exit.is_some_and(|exit| exit.success());
            Case::here().note(format!("ended {} {well}", status.name));
        })
        .on_after_shutdown(|| Case::here().note("after"))
        .run();
    case.note(format!("run {outcome:?}"));
    // Hooks are waited for, but not for ever.
    wait_to_go_on();
}

fn run_ends_by_a_signal(case: &Case) {
    if case.role() == "main" {
        return run_and_tell(case);
    }
    let mut main = case.start(&["main"]);
    let mut pids = Vec::new();
    for _ in 0..2 {
        let line = main.line();
        pids.push(line.split(' ').nth(2).unwrap().parse().unwrap());
    }
    main.signal(if case.name.ends_with("sigint") {
        Signal::INT
    } else {
        Signal::TERM
    });
    assert_eq!(case.noted("run"), "Ok(())");
    assert!(pids.iter().all(|pid| !is_alive(*pid)));
    // Twice each of what is looked at below, and two lines more.
    until("all is told", || case.notes().len() >= 8);
    main.go_on();
    let (status, _) = main.wait();
    assert!(status.success(), "{status}");
    let notes = case.notes();
    for expected in ["stops", "told", "ended"] {
        for name in ["a", "b"] {
            let well = if expected == "ended" { " true" } else { "" };
            let wanted = format!("{expected} {name}{well}");
            let count = notes.iter().filter(|note| **note == wanted).count();
            assert_eq!(count, 1, "{wanted}: {notes:?}");
        }
    }
    assert_eq!(notes.iter().filter(|note| *note == "after").count(), 1);
    let at = |what: &str| notes.iter().position(|note| note == what).unwrap();
    assert!(at("after") < at("run Ok(())"), "{notes:?}");
}

fn run_hears_a_signal_during_the_start(case: &Case) {
    if case.role() == "main" {
        return run_and_tell(case);
    }
    let mut main = case.start(&["main"]);
    assert_eq!(case.noted("run"), "Ok(())");
    main.go_on();
    let (status, _) = main.wait();
    assert!(status.success(), "{status}");
}

fn a_second_signal_ends_run_at_once(case: &Case) {
    fn stubborn(_: Child) -> ChildResult {
        ignore_sigterm();
        say(format!("up {}", std::process::id()));
        loop {
            std::thread::sleep(Duration::from_secs(1));
        }
    }
    if case.role() == "main" {
        let outcome = Runtime::builder(&case.domain)
            .spec(ChildSpec::entry("a", stubborn).stop_grace(Duration::from_secs(3600)))
            .on_before_child_stop(|_, _| say("stops"))
            .run();
        return case.note(format!("{outcome:?}"));
    }
    let mut main = case.start(&["main"]);
    let child: u32 = main.line()[3..].parse().unwrap();
    main.signal(Signal::TERM);
    assert_eq!(main.line(), "stops");
    assert!(is_alive(child));
    main.signal(Signal::INT);
    let (status, _) = main.wait();
    assert_eq!(status.signal(), Some(libc::SIGINT), "{status}");
    until("its child died with it", || !is_alive(child));
    assert_eq!(case.notes(), [""; 0]);
    clean_up(case);
}

/// What a main left that ended without a shutdown, the next one takes over and removes.
fn clean_up(case: &Case) {
    assert!(case.directory().exists());
    Runtime::builder(&case.domain).start().unwrap();
    assert!(!case.directory().exists());
}

fn after_run_signals_are_as_before(case: &Case) {
    let run = || {
        Runtime::builder(&case.domain)
            .command("a", Command::new("true"))
            .run()
            .unwrap();
    };
    match case.role() {
        "twice" => {
            // The second one hears a signal as the first did, and what came between is forgotten.
            run();
            Runtime::builder(&case.domain)
                .command("b", sleep_1000())
                .on_after_start(|_| signal(std::process::id(), Signal::INT))
                .run()
                .unwrap();
            say("ran twice");
        }
        "ignored" => {
            // SAFETY: to ignore a signal runs no code of ours.
            unsafe { libc::signal(libc::SIGINT, libc::SIG_IGN) };
            run();
            signal(std::process::id(), Signal::INT);
            say("ignored as before");
        }
        "once" => {
            run();
            say("ran");
            wait_to_go_on();
        }
        _ => {
            for signal in [Signal::INT, Signal::TERM] {
                let mut main = case.start(&["once"]);
                assert_eq!(main.line(), "ran");
                main.signal(signal);
                assert_eq!(main.wait().0.signal(), Some(signal.as_raw()));
            }
            for (role, said) in [("ignored", "ignored as before"), ("twice", "ran twice")] {
                let mut main = case.start(&[role]);
                assert_eq!(main.line(), said);
                assert!(main.wait().0.success());
            }
        }
    }
}

/// Says who its children are, and is killed.
fn main_with_a_family(case: &Case) {
    let mut family = shell("sleep 1000 & echo \"$!\" >> \"$0\"; wait");
    family.arg(case.file("grandchild"));
    let runtime = Runtime::builder(&case.domain)
        .child("a", puppet)
        .command("b", sleep_1000())
        .command("c", family)
        .start()
        .unwrap();
    up(&mut runtime.get_channel("a-active").unwrap());
    let pids: Vec<_> = runtime
        .children()
        .iter()
        .map(|status| status.pid.unwrap().to_string())
        .collect();
    say(pids.join(" "));
    wait_to_go_on();
}

fn children_die_with_a_killed_main(case: &Case) {
    if case.role() == "main" {
        return main_with_a_family(case);
    }
    let mut main = case.start(&["main"]);
    let line = main.line();
    let pids: Vec<u32> = line.split(' ').map(|pid| pid.parse().unwrap()).collect();
    assert!(pids.len() == 3 && pids.iter().all(|pid| is_alive(*pid)));
    until("there is a grandchild", || {
        !case.notes_in("grandchild").is_empty()
    });
    main.kill();
    for pid in pids {
        until("it died with main", || !is_alive(pid));
    }
    // Nobody promises that of a grandchild that knows nothing of us.
    let grandchild = case.notes_in("grandchild")[0].parse().unwrap();
    if is_alive(grandchild) {
        signal(grandchild, Signal::KILL);
        until("it is gone", || !is_alive(grandchild));
    }
    clean_up(case);
}

fn children_leave_by_the_pipe_too(case: &Case) {
    fn has_no_parent_death_signal(child: Child) -> ChildResult {
        // As a program that changes its user, or that a wrapper of its own started.
        rustix::process::set_parent_process_death_signal(None)?;
        say(format!("up {} {}", child.generation(), std::process::id()));
        loop {
            std::thread::sleep(Duration::from_secs(1));
        }
    }
    match case.role() {
        "main" => {
            // What attaches is a grandchild, whom the kernel does not tell.
            let mut wrapper = Command::new("sh");
            wrapper.args(["-c", "\"$@\"; true", "sh"]);
            wrapper.arg(std::env::current_exe().unwrap());
            wrapper.args(case.arguments(&["attaches"]));
            let runtime = Runtime::builder(&case.domain)
                .child("a", has_no_parent_death_signal)
                .command("b", wrapper)
                .start()
                .unwrap();
            wait_to_go_on();
            drop(runtime);
        }
        "attaches" => {
            let child = Child::current().unwrap();
            has_no_parent_death_signal(child).unwrap();
        }
        _ => {
            let mut main = case.start(&["main"]);
            let pids: Vec<u32> = (0..2)
                .map(|_| main.line().split(' ').nth(2).unwrap().parse().unwrap())
                .collect();
            assert!(pids.iter().all(|pid| is_alive(*pid)));
            main.kill();
            for pid in pids {
                until("it left by itself", || !is_alive(pid));
            }
            clean_up(case);
        }
    }
}

fn the_next_main_keeps_the_messages(case: &Case) {
    fn collects(child: Child) -> ChildResult {
        let mut main = child.active::<str>()?;
        main.send("one")?;
        main.send("two")?;
        if child.get_channel::<str>("extra").is_ok() {
            // The first main's: nobody receives here.
            main.send("three")?;
            while !child.wait_stop(Duration::from_secs(3600)) {}
            return Ok(());
        }
        let got: Vec<_> = main.iter().take(5).collect();
        child.passive::<str>()?.send(got.join(" "))?;
        while !child.wait_stop(Duration::from_secs(3600)) {}
        Ok(())
    }
    let builder = || Runtime::builder(&case.domain).child("a", collects);
    if case.role() == "main" {
        let (tx, rx) = std::sync::mpsc::channel();
        let runtime = builder()
            .on_before_start(move |runtime| {
                tx.send(runtime.set_channel::<str>("extra").unwrap())
                    .unwrap();
            })
            .start()
            .unwrap();
        let mut extra = rx.recv().unwrap();
        extra.send("for nobody").unwrap();
        let channel = runtime.get_channel::<str>("a-active").unwrap();
        let (mut sender, receiver) = channel.split();
        for number in 0..5 {
            sender.send(number.to_string()).unwrap();
        }
        // The last of them when it is done with the extra channel.
        until("it said three things", || receiver.stats().sent == 3);
        say("killable");
        return wait_to_go_on();
    }
    if std::env::var_os("RINGLANE_CHILD").is_none() {
        let mut main = case.start(&["main"]);
        assert_eq!(main.line(), "killable");
        main.kill();
    }
    // At once: its children may still be dying.
    let runtime = builder().start().unwrap();
    let mut passive = runtime.get_channel::<str>("a-passive").unwrap();
    assert_eq!(line(&mut passive), "0 1 2 3 4");
    let mut active = runtime.get_channel::<str>("a-active").unwrap();
    let said: Vec<_> = active.iter().take(5).collect();
    assert_eq!(said, ["one", "two", "three", "one", "two"]);
    assert_eq!(
        runtime.channels().unwrap(),
        ["a-active", "a-passive"],
        "swept"
    );
    assert_eq!(runtime.children()[0].generation, 1);
}

fn a_main_killed_at_any_moment_is_followed(case: &Case) {
    let builder = || {
        Runtime::builder(&case.domain)
            .spec(ChildSpec::entry("a", puppet).capacity(4096))
            .spec(ChildSpec::command("b", sleep_1000()).capacity(4096))
    };
    if case.role() == "main" {
        // In the middle of a start, of a restart, of a shutdown.
        for round in 0.. {
            let runtime = builder().start().unwrap();
            if round == 0 {
                say("begun");
            }
            runtime.restart("a").unwrap();
            let _extra = runtime.set_channel::<u64>("extra").unwrap();
            runtime.shutdown().unwrap();
        }
    }
    let mut random = random_of_main();
    let rounds = scale(60, 300);
    for round in 0..rounds {
        if std::env::var_os("RINGLANE_CHILD").is_none() {
            let mut main = case.start(&["main"]);
            assert_eq!(main.line(), "begun");
            std::thread::sleep(random.micros(20_000));
            main.kill();
        }
        // At once, whatever is left of it.
        let runtime = builder().start().unwrap();
        let names = ["a-active", "a-passive", "b-active", "b-passive"];
        assert_eq!(runtime.channels().unwrap(), names, "round {round}");
        let mut channel = runtime.get_channel::<str>("a-active").unwrap();
        assert_eq!(ask_past_greetings(&mut channel), "here", "round {round}");
        drop(channel);
        runtime.shutdown().unwrap();
    }
    // A child that was still dying kept its place, and with it the directory, for the next one.
    until("the last one left nothing", || {
        drop(Runtime::builder(&case.domain).start().unwrap());
        !case.directory().exists()
    });
    let what = "kills of a main as it starts, restarts a child or shuts down";
    tally("race", what, rounds as u64);
}

/// Has the puppet say something, past what earlier ones said.
fn ask_past_greetings(channel: &mut Channel<str>) -> String {
    channel.send("say here").unwrap();
    let said = channel.iter().find(|line| !line.starts_with("up"));
    said.expect("it answers")
}
