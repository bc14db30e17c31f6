//! How soon main is told that a child died: of a thousand small children, and of a few big ones,
//! whose memory the kernel has to take back first. What is told is checked, and how soon is printed:
//! from the moment of SIGKILL, and from the moment at which the kernel says that the process is
//! gone, when a pidfd of it becomes readable. And of children that die together with their main.

mod runtime_common;

use ringlane::{Channel, Child, ChildResult, ChildSpec, RecvError, Restart, Runtime, SendError};
use runtime_common::common::{Random, Shared, Times, now, scale, tally};
use runtime_common::{Case, say, until};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};
use std::sync::atomic::Ordering::{Acquire, Release};
use std::time::Duration;

fn main() {
    runtime_common::main(&[
        ("deaths_are_told", deaths_are_told),
        ("main_and_child_die_together", main_and_child_die_together),
    ]);
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
    kill(&runtime, "small", scale(50, 1_000), &mut random);
    kill(&runtime, "big", scale(2, 20), &mut random);
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
            (&mut told.gone, "from SIGKILL to its end"),
            (&mut told.after, "from its end to the error"),
            (&mut told.all, "from SIGKILL to the error"),
        ] {
            times.tell(&format!("a {name} child, {what} in `{call}` of its main"));
        }
        let fault = if name == "big" { "big" } else { "supervised" };
        let what = format!("deaths of a {name} child told in `{call}`");
        tally(fault, &what, count);
    }
}

// ---- Both at once.

/// Words that all processes of the case share: which main it is, the pid of its child, the last
/// message that a child received, and how many sends of each main returned.
const LIFE: usize = 0;
const CHILD: usize = 1;
const SEEN: usize = 2;
const SENT: usize = 3;

fn words(case: &Case) -> Shared {
    Shared::open(case.file("words").to_str().unwrap())
}

/// A message says which main sent it, and the how manieth of it this is.
fn parts(message: u64) -> (u64, u64) {
    (message >> 32, message & 0xffff_ffff)
}

/// Sends for as long as it lives, or so many messages.
fn send(case: &Case, runtime: &Runtime, count: u64) {
    let words = words(case);
    let life = words.word(LIFE).load(Acquire);
    let mut channel = runtime.get_channel::<u64>("a-active").unwrap();
    let mut number = 0;
    while number < count {
        match channel.send(life << 32 | number) {
            Ok(()) => {
                number += 1;
                words.word(SENT + life as usize).store(number, Release);
                if number == 1 {
                    let pid = runtime.children()[0].pid.unwrap_or(0);
                    words.word(CHILD).store(u64::from(pid), Release);
                    say("sends");
                }
            }
            Err(SendError::PeerDied { .. }) => std::thread::sleep(Duration::from_micros(100)),
            Err(other) => panic!("{other:?}"),
        }
    }
}

/// Whether a message may follow the one that was received before.
fn follows(words: &Shared, message: u64, redelivered: bool) -> bool {
    let seen = words.word(SEEN).load(Acquire);
    let ((life, number), (last_life, last)) = (parts(message), parts(seen));
    if life == last_life {
        return message == seen + 1 || (message == seen && redelivered);
    }
    // All that the mains before it had sent was received.
    let sent = |life: u64| words.word(SENT + life as usize).load(Acquire);
    let none_is_lost = sent(last_life) <= last + 1 && (last_life + 1..life).all(|l| sent(l) == 0);
    life > last_life && number == 0 && none_is_lost
}

fn checks(child: Child) -> ChildResult {
    let case = Case::here();
    let words = words(&case);
    let mut channel = child.active::<u64>()?;
    loop {
        match channel.recv_ref() {
            Ok(message) => {
                let number = message.get()?;
                if !follows(&words, number, message.redelivered()) {
                    let (seen, again) = (words.word(SEEN).load(Acquire), message.redelivered());
                    case.note(format!("{number:x} after {seen:x}, {again}"));
                }
                // Before it is given back.
                words.word(SEEN).store(number, Release);
            }
            Err(RecvError::PeerDied { .. } | RecvError::PeerRestarted { .. }) => {}
            Err(RecvError::Stopping) => return Ok(()),
            Err(other) => return Err(other.into()),
        }
    }
}

/// Main and its child are killed at once, or one a little before the other, and the next main is
/// there at once.
fn main_and_child_die_together(case: &Case) {
    const LAST: u64 = 1000;
    let start = || {
        let restart = Restart::Always {
            backoff: Duration::from_micros(200),
        };
        let child = ChildSpec::entry("a", checks).capacity(4096);
        let builder = Runtime::builder(&case.domain).spec(child.restart(restart));
        builder.start().unwrap()
    };
    if case.role() == "main" {
        send(case, &start(), u64::MAX);
    }
    let rounds = scale(30, 500);
    let is_child = std::env::var_os("RINGLANE_CHILD").is_some();
    let mut received = 0;
    if !is_child {
        let file = std::fs::File::create_new(case.file("words")).unwrap();
        file.set_len(8 * (SENT + rounds + 2) as u64).unwrap();
        let words = words(case);
        let mut random = Random::printed();
        let has_received = |life: usize| parts(words.word(SEEN).load(Acquire)).0 == life as u64;
        for life in 1..=rounds {
            words.word(LIFE).store(life as u64, Release);
            let mut main = case.start(&["main"]);
            assert_eq!(main.line(), "sends");
            // As it starts, or under traffic.
            if random.below(2) == 0 {
                until("a child receives", || has_received(life));
            }
            std::thread::sleep(random.micros(3_000));
            // None, if it was between two children.
            let child = Pid::from_raw(words.word(CHILD).load(Acquire) as i32);
            received += u64::from(has_received(life));
            let kill_child = || {
                // Perhaps it is dead already.
                let _ = child.map(|child| kill_process(child, Signal::KILL));
            };
            match random.below(3) {
                0 => main.kill(),
                1 => {
                    kill_child();
                    std::thread::sleep(random.micros(500));
                    main.kill();
                }
                _ => {
                    kill_child();
                    main.kill();
                }
            }
        }
        words.word(LIFE).store(rounds as u64 + 1, Release);
    }
    let runtime = start();
    send(case, &runtime, LAST);
    let last = words(case);
    until("all is received", || {
        parts(last.word(SEEN).load(Acquire)) == (rounds as u64 + 1, LAST - 1)
    });
    assert_eq!(case.notes(), [""; 0]);
    runtime.shutdown().unwrap();
    assert!(received > 0, "no child received anything of a main");
    let early = rounds as u64 - received;
    let kills = "kills of a main with its child";
    tally("double", &format!("{kills}, under traffic"), received);
    let what = "which had received nothing of it yet";
    tally("double", &format!("{kills}, {what}"), early);
}
