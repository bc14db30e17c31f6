//! The promise: hooks are told of each step in a child's life, each hook of its own kind in order;
//! they run on threads of their own, so that one that never returns, or that panics, delays no
//! restart and no stop; only what comes before the first start and after the last end is waited
//! for.

mod runtime_common;

use ringlane::{ChildSpec, ChildStatus, Error, RecvError, Restart, Runtime};
use runtime_common::common::scale;
use runtime_common::puppet::{ask, puppet, up};
use runtime_common::{BY_WORD, Case, children, is_alive, signal, until};
use rustix::process::Signal;
use std::os::unix::process::ExitStatusExt;
use std::process::Command;
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

fn main() {
    runtime_common::main(&[
        ("each_kind_in_order", each_kind_in_order),
        ("several_of_one_kind", several_of_one_kind),
        ("hooks_that_never_return", hooks_that_never_return),
        ("hooks_that_panic", hooks_that_panic),
        (
            "the_start_waits_for_the_hook_before_it",
            the_start_waits_for_the_hook_before_it,
        ),
        (
            "the_shutdown_waits_for_the_hook_after_it",
            the_shutdown_waits_for_the_hook_after_it,
        ),
        (
            "every_shutdown_waits_for_the_hook_after_it",
            every_shutdown_waits_for_the_hook_after_it,
        ),
        ("a_run_ends_however_early", a_run_ends_however_early),
        ("stopped_before_the_start", stopped_before_the_start),
        ("a_shutdown_is_seen", a_shutdown_is_seen),
        ("a_hook_may_use_the_runtime", a_hook_may_use_the_runtime),
        ("a_hook_keeps_nothing_running", a_hook_keeps_nothing_running),
        ("a_shutdown_before_the_start", a_shutdown_before_the_start),
        (
            "a_start_that_fails_calls_no_hook",
            a_start_that_fails_calls_no_hook,
        ),
    ]);
}

fn soon_again() -> Restart {
    Restart::Always {
        backoff: Duration::from_millis(1),
    }
}

/// What hooks noted in main.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    fn note(&self, line: impl std::fmt::Display) {
        self.0.lock().unwrap().push(line.to_string());
    }

    /// The same, once there are so many: a shutdown waits for hooks, but not for ever.
    #[track_caller]
    fn reaches(&self, beginning: &str, count: usize) -> Vec<String> {
        until(beginning, || self.of(beginning).len() >= count);
        self.of(beginning)
    }

    /// What begins so, without the beginning.
    fn of(&self, beginning: &str) -> Vec<String> {
        let all = self.0.lock().unwrap();
        all.iter()
            .filter_map(|line| line.strip_prefix(beginning))
            .map(|rest| rest.trim().to_string())
            .collect()
    }
}

fn shown(status: &ChildStatus) -> String {
    let exit = status.last_exit.unwrap();
    let how = exit.signal().map_or_else(
        || format!("code {}", exit.code().unwrap()),
        |signal| format!("signal {signal}"),
    );
    assert!(status.pid.is_none(), "{status:?}");
    format!("{} {} {how}", status.name, status.generation)
}

fn each_kind_in_order(case: &Case) {
    let log = Log::default();
    let logs: [Log; 7] = std::array::from_fn(|_| log.clone());
    let [before, after, stop, again, there, exit, end] = logs;
    let directory = case.directory();
    let runtime = Runtime::builder(&case.domain)
        .spec(
            ChildSpec::entry("a", puppet)
                .restart(soon_again())
                .stop_grace(BY_WORD),
        )
        .on_before_start(move |runtime| {
            assert!(children().is_empty());
            before.note(format!("before {}", runtime.children()[0].generation));
        })
        .on_after_start(move |runtime| {
            after.note(format!("after {}", runtime.children()[0].generation));
        })
        .on_before_child_stop(move |_, name| stop.note(format!("stop {name}")))
        .on_before_restart(move |_, name| again.note(format!("again {name}")))
        .on_after_restart(move |_, name| there.note(format!("there {name}")))
        .on_child_exit(move |_, status| exit.note(format!("exit {}", shown(status))))
        .on_after_shutdown(move || {
            let left = std::fs::read_dir(&directory).map_or(0, Iterator::count);
            end.note(format!("end {left}"));
        })
        .start()
        .unwrap();
    let mut channel = runtime.get_channel::<str>("a-active").unwrap();
    up(&mut channel);
    channel.send("restart").unwrap();
    let (_, pid) = up(&mut channel);
    signal(pid, Signal::KILL);
    up(&mut channel);
    channel.send("exit 3").unwrap();
    up(&mut channel);
    runtime.restart("a").unwrap();
    up(&mut channel);
    runtime.stop("a").unwrap();
    drop(channel);
    runtime.shutdown().unwrap();

    assert_eq!(log.of("before"), ["0"]);
    assert_eq!(log.reaches("after", 1).len(), 1);
    // Told to stop: by its own wish, by main's, and for good.
    assert_eq!(log.reaches("stop", 3), ["a"; 3]);
    assert_eq!(log.reaches("again", 4), ["a"; 4]);
    assert_eq!(log.reaches("there", 4), ["a"; 4]);
    let expected = [
        "a 1 code 0",
        "a 2 signal 9",
        "a 3 code 3",
        "a 4 code 0",
        "a 5 code 0",
    ];
    assert_eq!(log.reaches("exit", 5), expected);
    // No channel was left; who was there may still have been.
    assert_eq!(log.of("end"), ["0"]);
}

fn several_of_one_kind(case: &Case) {
    let log = Log::default();
    let mut builder = Runtime::builder(&case.domain);
    for at in 0..3 {
        let (first, second, third) = (log.clone(), log.clone(), log.clone());
        builder = builder
            .on_before_start(move |_| first.note(format!("before {at}")))
            .on_child_exit(move |_, status| second.note(format!("exit {at} {}", status.name)))
            .on_after_shutdown(move || third.note(format!("end {at}")));
    }
    let runtime = builder
        .command("a", Command::new("true"))
        .command("b", Command::new("true"))
        .start()
        .unwrap();
    runtime.wait("a").unwrap();
    runtime.wait("b").unwrap();
    runtime.shutdown().unwrap();
    for kind in ["before", "end"] {
        let mut noted = log.of(kind);
        noted.sort();
        assert_eq!(noted, ["0", "1", "2"]);
    }
    let mut exits = log.reaches("exit", 6);
    exits.sort();
    assert_eq!(exits, ["0 a", "0 b", "1 a", "1 b", "2 a", "2 b"]);
}

fn hooks_that_never_return(case: &Case) {
    // They do at last, so that their threads can be counted. A sender that is gone wakes them.
    let (never, release) = mpsc::channel::<()>();
    let release = Arc::new(Mutex::new(release));
    let stuck = || {
        let (release, case) = (release.clone(), case.clone());
        move |kind: &str| {
            case.note(kind);
            let _ = release.lock().unwrap_or_else(|e| e.into_inner()).recv();
        }
    };
    let [after, stop, again, there, exit] = std::array::from_fn(|_| stuck());
    let runtime = Runtime::builder(&case.domain)
        .spec(ChildSpec::entry("a", puppet).restart(soon_again()))
        .on_after_start(move |_| after("after"))
        .on_before_child_stop(move |_, _| stop("stop"))
        .on_before_restart(move |_, _| again("again"))
        .on_after_restart(move |_, _| there("there"))
        .on_child_exit(move |_, _| exit("exit"))
        .start()
        .unwrap();
    let mut channel = runtime.get_channel::<str>("a-active").unwrap();
    let (first, mut pid) = up(&mut channel);
    assert_eq!(first, 1);
    for generation in (2..6).step_by(2) {
        signal(pid, Signal::KILL);
        assert_eq!(up(&mut channel).0, generation);
        channel.send("restart").unwrap();
        let again = up(&mut channel);
        assert_eq!(again.0, generation + 1);
        pid = again.1;
    }
    assert_eq!(ask(&mut channel, "say well"), "well");
    drop(channel);
    let start = Instant::now();
    runtime.shutdown().unwrap();
    assert!(
        start.elapsed() >= Duration::from_secs(1),
        "they were waited for a little"
    );
    assert!(!is_alive(pid));
    // Although each of them still has a runtime in its hands.
    assert!(!case.directory().exists());
    until("each is in its first call", || case.notes().len() >= 5);
    let mut notes = case.notes();
    notes.sort();
    assert_eq!(notes, ["after", "again", "exit", "stop", "there"]);
    drop(never);
    drop(runtime);
}

fn hooks_that_panic(case: &Case) {
    let log = Log::default();
    let logs: [Log; 4] = std::array::from_fn(|_| log.clone());
    let [again, there, exit, end] = logs;
    let runtime = Runtime::builder(&case.domain)
        .spec(ChildSpec::entry("a", puppet).restart(soon_again()))
        .on_before_start(|_| panic!("before the start"))
        .on_after_start(|_| panic!("after the start"))
        .on_before_restart(move |_, _| {
            again.note("again");
            panic!("before a restart");
        })
        .on_after_restart(move |_, _| {
            there.note("there");
            panic!("after a restart");
        })
        .on_child_exit(move |_, _| {
            exit.note("exit");
            std::panic::panic_any(7);
        })
        .on_after_shutdown(move || {
            end.note("end");
            panic!("after the shutdown");
        })
        .start()
        .unwrap();
    let mut channel = runtime.get_channel::<str>("a-active").unwrap();
    for generation in 1..5 {
        assert_eq!(up(&mut channel).0, generation);
        channel.send("return").unwrap();
    }
    assert_eq!(up(&mut channel).0, 5);
    drop(channel);
    runtime.shutdown().unwrap();
    // Each call was followed by the next.
    assert_eq!(log.reaches("again", 4).len(), 4);
    assert_eq!(log.reaches("there", 4).len(), 4);
    assert_eq!(log.reaches("exit", 5).len(), 5);
    assert_eq!(log.of("end").len(), 1);
}

fn the_start_waits_for_the_hook_before_it(case: &Case) {
    let pause = Duration::from_millis(300);
    let start = Instant::now();
    let runtime = Runtime::builder(&case.domain)
        .child("a", puppet)
        .on_before_start(move |runtime| {
            std::thread::sleep(pause);
            assert!(children().is_empty() && runtime.children()[0].generation == 0);
            Case::here().note("slept");
        })
        .start()
        .unwrap();
    assert!(start.elapsed() >= pause);
    assert_eq!(case.notes(), ["slept"]);
    // And it returns when all are started, as far as main can tell.
    assert!(runtime.children()[0].pid.is_some());
    assert_eq!(runtime.children()[0].generation, 1);
}

fn the_shutdown_waits_for_the_hook_after_it(case: &Case) {
    let pause = Duration::from_millis(1300);
    let runtime = Runtime::builder(&case.domain)
        .child("a", puppet)
        .on_after_shutdown(move || {
            assert!(children().is_empty());
            std::thread::sleep(pause);
            Case::here().note("slept");
        })
        .start()
        .unwrap();
    let start = Instant::now();
    drop(runtime);
    assert!(start.elapsed() >= pause);
    assert_eq!(case.notes(), ["slept"]);
}

/// But for those that it would wait for itself.
fn every_shutdown_waits_for_the_hook_after_it(case: &Case) {
    let (tx, rx) = mpsc::channel();
    let mine = Arc::new(Mutex::new(None::<Runtime>));
    let its = mine.clone();
    let runtime = Runtime::builder(&case.domain)
        .on_after_shutdown(move || {
            tx.send(()).unwrap();
            its.lock().unwrap().take().unwrap().shutdown().unwrap();
            std::thread::sleep(Duration::from_millis(300));
            Case::here().note("slept");
        })
        .start()
        .unwrap();
    *mine.lock().unwrap() = Some(runtime.clone());
    let first = runtime.clone();
    let first = std::thread::spawn(move || first.shutdown());
    rx.recv().unwrap();
    runtime.shutdown().unwrap();
    assert_eq!(case.notes(), ["slept"]);
    first.join().unwrap().unwrap();
}

/// Whichever comes first: the supervisor's end, or that somebody waits for it.
fn a_run_ends_however_early(case: &Case) {
    for _ in 0..scale(50, 500) {
        let no_such = || Command::new("/no/such/program");
        Runtime::builder(&case.domain)
            .spec(ChildSpec::command("a", no_such()).restart(Restart::Never))
            .spec(ChildSpec::command("b", no_such()).restart(Restart::Never))
            // While the other one is being started.
            .on_child_exit(|runtime, _| runtime.shutdown().unwrap())
            .run()
            .unwrap();
    }
}

fn stopped_before_the_start(case: &Case) {
    let runtime = Runtime::builder(&case.domain)
        .spec(ChildSpec::entry("a", puppet).stop_grace(BY_WORD))
        .child("b", puppet)
        .on_before_start(|runtime| {
            runtime.stop("a").unwrap();
            assert!(!runtime.wait("a").unwrap().running);
            runtime.restart("b").unwrap();
            assert_eq!(runtime.wait("b").unwrap().generation, 0);
        })
        .start()
        .unwrap();
    // None of it was forgotten.
    until("a ended, and b began again", || {
        let children = runtime.children();
        !children[0].running && children[1].generation == 2
    });
    assert_eq!(runtime.wait("a").unwrap().generation, 1);
}

fn a_shutdown_is_seen(case: &Case) {
    let script = "trap '' TERM; : > \"$1\"; while [ ! -e \"$0\" ]; do sleep 0.02; done";
    let [go, is_deaf] = ["go", "deaf"].map(|name| case.file(name));
    let mut command = Command::new("sh");
    command.arg("-c").arg(script).args([&go, &is_deaf]);
    let domain = case.domain.clone();
    let is_stopping = move || {
        let domain = ringlane::inspect::snapshot_domain(&domain).unwrap();
        domain.main.unwrap().stopping
    };
    let seen = is_stopping.clone();
    let runtime = Runtime::builder(&case.domain)
        .spec(ChildSpec::command("a", command).stop_grace(BY_WORD))
        .on_before_child_stop(move |_, _| {
            Case::here().note(seen());
            std::fs::write(&go, "").unwrap();
        })
        .start()
        .unwrap();
    assert!(!is_stopping());
    until("it does not hear of the stop", || is_deaf.exists());
    runtime.shutdown().unwrap();
    assert_eq!(case.notes(), ["true"]);
}

fn a_hook_may_use_the_runtime(case: &Case) {
    let log = Log::default();
    let (all, exit) = (log.clone(), log.clone());
    let (tx, rx) = mpsc::channel();
    let runtime = Runtime::builder(&case.domain)
        .spec(
            ChildSpec::entry("a", puppet)
                .restart(Restart::Never)
                .stop_grace(BY_WORD),
        )
        .spec(ChildSpec::entry("b", puppet).stop_grace(BY_WORD))
        .on_after_start(move |runtime| {
            let mut channel = runtime.get_channel::<str>("a-active").unwrap();
            up(&mut channel);
            channel.send("exit 5").unwrap();
            // Main takes it once the child is back.
            drop(channel);
            tx.send(runtime.wait("a").unwrap()).unwrap();
            runtime.restart("a").unwrap();
            // Does not miss the end, although the other hook starts it again at once.
            runtime.stop("b").unwrap();
            log.note("stopped b");
        })
        .on_child_exit(move |runtime, status| {
            let told = runtime.children();
            let present = told.iter().find(|c| c.name == status.name).unwrap();
            assert!(present.generation >= status.generation);
            if status.name == "b" && status.generation == 1 {
                runtime.restart("b").unwrap();
            }
            exit.note(format!("exit {}", shown(status)));
        })
        .start()
        .unwrap();
    let status = rx.recv().unwrap();
    assert_eq!(
        (status.generation, status.last_exit.unwrap().code()),
        (1, Some(5))
    );
    until("both are back", || {
        let children = runtime.children();
        children.iter().all(|status| status.generation == 2)
    });
    assert_eq!(up(&mut runtime.get_channel("a-active").unwrap()).0, 2);
    until("the hook is done", || all.of("stopped") == ["b"]);
    runtime.shutdown().unwrap();
    let mut exits = all.reaches("exit", 4);
    exits.sort();
    let expected = ["a 1 code 5", "a 2 code 0", "b 1 code 0", "b 2 code 0"];
    assert_eq!(exits, expected);
}

fn a_hook_keeps_nothing_running(case: &Case) {
    let (tx, rx) = mpsc::channel();
    let runtime = Runtime::builder(&case.domain)
        .child("a", puppet)
        .on_after_start(move |runtime| tx.send(runtime.clone()).unwrap())
        .start()
        .unwrap();
    let kept = rx.recv().unwrap();
    let pid = kept.children()[0].pid.unwrap();
    assert!(is_alive(pid));
    drop(runtime);
    // What a hook was given, it may look at, but it does not hold off the shutdown.
    assert!(!is_alive(pid) && kept.stopping());
    assert!(!case.directory().exists());
    assert!(kept.children()[0].last_exit.is_some());
}

fn a_shutdown_before_the_start(case: &Case) {
    let started = Runtime::builder(&case.domain)
        .child("a", puppet)
        .on_before_start(|runtime| {
            let mut channel = runtime.get_channel::<str>("a-active").unwrap();
            runtime.shutdown().unwrap();
            assert_eq!(channel.recv(), Err(RecvError::Stopping));
        })
        .on_after_start(|_| Case::here().note("after the start"))
        .on_after_shutdown(|| Case::here().note("after the shutdown"))
        .start();
    assert!(matches!(started, Err(Error::Stopping)), "{started:?}");
    assert_eq!(case.notes(), ["after the shutdown"]);
    assert!(children().is_empty() && !case.directory().exists());
    // The domain is free again.
    let next = Runtime::builder(&case.domain)
        .child("a", puppet)
        .start()
        .unwrap();
    assert_eq!(up(&mut next.get_channel("a-active").unwrap()).0, 1);
}

fn a_start_that_fails_calls_no_hook(case: &Case) {
    let first = Runtime::builder(&case.domain).start().unwrap();
    let second = Runtime::builder(&case.domain)
        .child("a", puppet)
        .on_before_start(|_| Case::here().note("before"))
        .on_after_shutdown(|| Case::here().note("after"))
        .start();
    assert!(matches!(second, Err(Error::DomainTaken { .. })));
    assert_eq!(case.notes(), [""; 0]);
    drop(first);
}
