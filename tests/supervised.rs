//! How soon main is told that a child died: of a thousand small children, and of a few big ones,
//! whose memory the kernel has to take back first. What is told is checked, and how soon is printed:
//! from the moment of SIGKILL, and from the moment at which the kernel says that the process is
//! gone, when a pidfd of it becomes readable.

mod runtime_common;
#[path = "common/times.rs"]
mod times;

use ringlane::{Channel, Child, ChildResult, ChildSpec, RecvError, Restart, Runtime, SendError};
use runtime_common::common::{Random, scale, tally};
use runtime_common::{Case, say};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};
use std::time::Duration;
use times::{Times, now};

fn main() {
    runtime_common::main(&[("deaths_are_told", deaths_are_told)]);
}

const BIG: usize = 256 << 20;

/// Says who it is, with so much memory in its hands, and waits to be killed.
fn waits(child: Child) -> ChildResult {
    let mut memory = Vec::new();
    if child.name() == "big" {
        memory.resize(BIG, 1u8);
    }
    let mut main = child.active::<u64>()?;
    // Makes room again.
    main.try_iter().for_each(drop);
    main.send(u64::from(std::process::id()))?;
    while !child.wait_stop(Duration::from_secs(3600)) {}
    std::hint::black_box(memory);
    Ok(())
}

/// Waits in `recv` until it is told of the death.
fn told_in_recv(channel: &mut Channel<u64>, pid: u32) {
    assert_eq!(channel.recv(), Err(RecvError::PeerDied { pid }));
}

/// Waits in `send`, with a full ring.
fn told_in_send(channel: &mut Channel<u64>, pid: u32) {
    let value = 7;
    assert_eq!(channel.send(value), Err(SendError::PeerDied { pid, value }));
}

/// How long it took from SIGKILL to the kernel's word, from there to ours, and from SIGKILL to ours.
#[derive(Default)]
struct Told {
    gone: Times,
    after: Times,
    all: Times,
}

impl Told {
    /// Kills the child while `wait` waits to be told of it.
    fn measure(&mut self, pid: u32, random: &mut Random, wait: impl FnOnce()) {
        let before = Duration::from_millis(1) + random.micros(2_000);
        let pid = Pid::from_raw(pid as i32).unwrap();
        let ((killed, gone), told) = std::thread::scope(|scope| {
            let killing = scope.spawn(move || {
                let pidfd = pidfd_open(pid, PidfdFlags::empty()).unwrap();
                std::thread::sleep(before);
                let killed = now();
                kill_process(pid, Signal::KILL).unwrap();
                poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], None).unwrap();
                (killed, now())
            });
            wait();
            let told = now();
            (killing.join().unwrap(), told)
        });
        assert!(told > killed, "it was told before");
        self.gone.note(gone - killed);
        // Which of the two threads runs first is nobody's promise.
        self.after.note(told.saturating_sub(gone));
        self.all.note(told - killed);
    }
}

fn deaths_are_told(case: &Case) {
    let again = Restart::Always {
        backoff: Duration::from_micros(200),
    };
    let child = |name| ChildSpec::entry(name, waits).capacity(4096);
    let runtime = Runtime::builder(&case.domain)
        .spec(child("small").restart(again.clone()))
        .spec(child("big").restart(again))
        .start()
        .unwrap();
    let mut random = Random::printed();
    // One after the other, for they are measured.
    kill(&runtime, "small", scale(50, 1_000, 100_000), &mut random);
    kill(&runtime, "big", scale(2, 20, 200), &mut random);
    runtime.shutdown().unwrap();
}

/// Kills a child so many times.
fn kill(runtime: &Runtime, name: &str, rounds: usize, random: &mut Random) {
    let active = format!("{name}-active");
    let mut channel = runtime.get_channel::<u64>(&active).unwrap();
    let mut told = [Told::default(), Told::default()];
    for round in 0..rounds {
        let pid = channel.iter().next().expect("there is a successor") as u32;
        if name == "big" {
            let statm = std::fs::read_to_string(format!("/proc/{pid}/statm")).unwrap();
            let pages: usize = statm.split(' ').nth(1).unwrap().parse().unwrap();
            assert!(pages * rustix::param::page_size() >= BIG, "{pages} pages");
        }
        let wait = [told_in_recv, told_in_send][round % 2];
        if round % 2 == 1 {
            while channel.try_send(7).is_ok() {}
        }
        told[round % 2].measure(pid, random, || wait(&mut channel, pid));
    }
    for (told, call) in told.iter_mut().zip(["recv", "send"]) {
        let count = told.all.len() as u64;
        for (times, what) in [
            (&mut told.gone, "from SIGKILL to the end of the process"),
            (&mut told.after, "from its end to the error"),
            (&mut told.all, "from SIGKILL to the error"),
        ] {
            say(format!("# {name}, in `{call}`, {}", times.told(what)));
        }
        let fault = if name == "big" { "big" } else { "supervised" };
        let what = format!("deaths of a {name} child told in `{call}`");
        tally(fault, &what, count);
    }
}
