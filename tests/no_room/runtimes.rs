//! The calls of a runtime and of its children, with their system calls failing.

use super::faults::Bench;
use crate::common::{LONG, as_role, say, scale, until};
use ringlane::{Channel, Child, ChildSpec, Error, Restart, Result, Runtime, RuntimeBuilder};
use rustix::process::{Pid, Signal, getppid, kill_process};
use std::process::Command;
use std::time::Duration;

const BACKOFF: Duration = Duration::from_millis(1);
const SHORT: Duration = Duration::from_millis(2);

/// A child that does nothing until it is stopped.
fn sleeper(name: &str) -> ChildSpec {
    let mut sleep = Command::new("sleep");
    sleep.arg("1000");
    let always = Restart::Always { backoff: BACKOFF };
    ChildSpec::command(name, sleep)
        .restart(always)
        .capacity(4096)
}

fn builder() -> RuntimeBuilder {
    Runtime::builder("d").spec(sleeper("a"))
}

fn start() -> Runtime {
    builder().start().unwrap()
}

/// Whatever came of a call, the children run, the channels can be used, and all ends in order.
fn end(runtime: Runtime) {
    until(|| runtime.children().iter().all(|child| child.pid.is_some()));
    talk(&runtime);
    runtime.shutdown().unwrap();
}

fn talk(runtime: &Runtime) {
    let mut host = runtime.set_channel::<u64>("own").unwrap();
    let mut guest = runtime.get_channel::<u64>("own").unwrap();
    host.send(5).unwrap();
    assert_eq!(guest.recv(), Ok(5));
    let mut active = runtime.get_channel::<u64>("a-active").unwrap();
    active.send(6).unwrap();
}

pub fn scenes(bench: &mut Bench) {
    // Each case starts and ends processes.
    bench.share = scale(1000, 30);
    bench.scene(
        "start",
        || None,
        |runtime| {
            *runtime = Some(builder().on_child_exit(|_, _| ()).start()?);
            Ok(())
        },
        |runtime, outcome| {
            end(match outcome {
                Ok(()) => runtime.unwrap(),
                Err(_) => start(),
            });
        },
    );
    bench.scene(
        "shutdown",
        start,
        |runtime| runtime.shutdown(),
        |_, _| start().shutdown().unwrap(),
    );
    bench.scene(
        "restart",
        || (start(), None),
        |(runtime, before)| {
            *before = runtime.children()[0].pid;
            runtime.restart("a")?;
            // It has failed before it is published.
            until(|| runtime.children()[0].restarts > 0);
            Ok(())
        },
        |(runtime, before), _| {
            until(|| {
                runtime.children()[0]
                    .pid
                    .is_some_and(|pid| Some(pid) != before)
            });
            end(runtime);
        },
    );
    bench.scene(
        "stop",
        start,
        |runtime| {
            runtime.stop("a")?;
            assert!(!runtime.wait("a")?.running);
            Ok(())
        },
        |runtime, outcome| {
            assert!(outcome.is_ok(), "{outcome:?}");
            assert!(runtime.children()[0].pid.is_none());
            runtime.shutdown().unwrap();
        },
    );
    channels(bench);
    bench.scene(
        "run, until its child ends",
        || (),
        |()| {
            let child = ChildSpec::command("a", Command::new("true")).capacity(4096);
            Runtime::builder("d").spec(child).run()
        },
        |(), _| end(start()),
    );
}

fn channels(bench: &mut Bench) {
    type Held = (Runtime, Option<Channel<u64>>);
    let whole = |(runtime, channel): Held, _: &Result<()>| {
        drop(channel);
        end(runtime);
    };
    bench.scene(
        "get_channel, of a child",
        || (start(), None),
        |(runtime, channel): &mut Held| {
            *channel = Some(runtime.get_channel("a-active")?);
            Ok(())
        },
        whole,
    );
    bench.scene(
        "set_channel",
        || (start(), None),
        |(runtime, channel): &mut Held| {
            *channel = Some(runtime.set_channel("c")?);
            Ok(())
        },
        whole,
    );
    bench.scene(
        "channels and children",
        start,
        |runtime| {
            assert_eq!(runtime.channels()?, ["a-active", "a-passive"]);
            assert_eq!(runtime.children().len(), 1);
            Ok(())
        },
        |runtime, _| end(runtime),
    );
    bench.scene(
        "store of a runtime",
        start,
        |runtime| runtime.store()?.set("k", &1u64).map(drop),
        |runtime, outcome| {
            let value = runtime.store().unwrap().get::<u64>("k").unwrap();
            assert!(value == Some(1) || outcome.is_err());
            end(runtime);
        },
    );
    bench.scene(
        "start, where another main is",
        start,
        |_| match builder().start() {
            Err(Error::DomainTaken { .. }) => Ok(()),
            other => other.map(drop),
        },
        |runtime, _| end(runtime),
    );
}

// ---- The child's side.

/// Runs this program again as a child, which does all the rest, and speaks for itself.
pub fn main_of_a_child(arguments: &[&str]) {
    let mut child = Command::new("/proc/self/exe");
    child.args(std::env::args().skip(1));
    as_role(&mut child, "child", arguments);
    let child = ChildSpec::command("a", child).restart(Restart::Never);
    let runtime = Runtime::builder("d").spec(child).start().unwrap();
    let ended = runtime.wait("a").unwrap();
    assert!(
        ended.last_exit.is_some_and(|status| status.success()),
        "{ended:?}"
    );
    // Where nothing could be tried, nothing was asked for.
    assert!(ended.restarts <= 1, "{ended:?}");
    runtime.shutdown().unwrap();
}

/// A process that does not run until this is dropped.
struct Stopped(Pid);

impl Stopped {
    fn new(pid: Pid) -> Stopped {
        kill_process(pid, Signal::STOP).unwrap();
        Stopped(pid)
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        let _ = kill_process(self.0, Signal::CONT);
    }
}

/// Speaks once, and is restarted as it asked.
pub fn be_a_child(mut bench: Bench) {
    bench.once(|| Child::current().map(drop));
    let child = Child::current().unwrap();
    if child.generation() > 1 {
        return;
    }
    scenes_of_a_child(&mut bench, &child);
    // Main hears only afterwards, what must not be lost with a wake that failed.
    let main = Stopped::new(getppid().unwrap());
    bench.scene(
        "request_restart",
        || (),
        |()| child.request_restart(),
        |(), outcome| {
            assert!(outcome.is_ok(), "{outcome:?}");
            assert!(!child.stopping());
        },
    );
    bench.finish();
    drop(main);
    assert!(child.wait_stop(LONG));
    say("done");
}

fn scenes_of_a_child(bench: &mut Bench, child: &Child) {
    type Open = fn(&Child) -> Result<Channel<u64>>;
    let opens: [(&str, Open); 3] = [
        ("active", Child::active),
        ("passive", Child::passive),
        ("get_channel, of a child's own", |child| {
            child.get_channel("a-active")
        }),
    ];
    for (name, open) in opens {
        bench.scene(
            name,
            || None,
            |channel| {
                *channel = Some(open(child)?);
                Ok(())
            },
            |channel, outcome| {
                drop(channel);
                if outcome.is_err() {
                    open(child).unwrap();
                }
            },
        );
    }
    bench.scene(
        "store of a child",
        || (),
        |()| child.store()?.set("k", &1u64).map(drop),
        |(), _| child.store().unwrap().set("k", &1u64).map(drop).unwrap(),
    );
    bench.scene(
        "wait_stop",
        || (),
        |()| {
            assert!(!child.wait_stop(SHORT) && !child.stopping());
            Ok(())
        },
        |(), _| (),
    );
}
