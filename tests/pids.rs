//! A pid says little: another process may have it as soon as it is free, and in another namespace
//! at the same time. Nobody is taken for another because of it, neither the dead for the living nor
//! the living for the dead.

mod common;

use common::{Domain, LONG, Process, Random, Shared, hear, play, say, scale, skip, tally};
use ringlane::{
    Channel, ChannelOptions, Error, PeerState, RecvError, Runtime, Store, TryRecvError,
};
use rustix::process::{Pid, Signal, WaitOptions, getpid, kill_process, waitpid};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::time::Duration;

#[test]
#[ignore = "what the processes of these tests run"]
fn process() {
    play(|role, arguments| match role {
        "reuse" => judge_reuse(arguments[0]),
        "namespaces" => judge_namespaces(arguments[0], arguments[1]),
        "breeder" => breed_as_told(arguments),
        other => panic!("{other:?}"),
    });
}

fn options(domain: &str) -> ChannelOptions<u64> {
    Channel::options().domain(domain).capacity(4096)
}

fn store(domain: &str, lock_timeout: Duration) -> Store {
    let options = Store::options().domain(domain);
    options.lock_timeout(lock_timeout).open("s").unwrap()
}

/// The next number, past the news that another guest came; a death is none of it.
#[track_caller]
fn number(host: &mut Channel<u64>) -> u64 {
    loop {
        match host.recv_timeout(LONG) {
            Err(TryRecvError::Recv(RecvError::PeerRestarted { .. })) => {}
            other => return other.unwrap(),
        }
    }
}

#[track_caller]
fn is_told_of_the_death(host: &mut Channel<u64>, pid: u32) {
    let died = TryRecvError::Recv(RecvError::PeerDied { pid });
    assert_eq!(host.recv_timeout(LONG), Err(died));
}

// ---- Processes with a pid of our choice.

/// Seconds until a process that was bred ends in any case.
const PATIENCE: u32 = 120;

/// Forks, with that pid if it is not 0. The child runs `f`, and ends.
fn fork_as(pid: i32, f: impl FnOnce()) -> rustix::io::Result<Pid> {
    // SAFETY: plain integers, for which zero is a value.
    let mut how: libc::clone_args = unsafe { std::mem::zeroed() };
    how.exit_signal = libc::SIGCHLD as u64;
    if pid != 0 {
        how.set_tid = &raw const pid as u64;
        how.set_tid_size = 1;
    }
    // SAFETY: without flags this is a fork; the arguments live through the call. The other threads
    // of this process wait all the time and so hold nothing that the child needs.
    match unsafe { libc::syscall(libc::SYS_clone3, &raw const how, size_of_val(&how)) } {
        0 => {
            // SAFETY: no pointers. No watchdog came along.
            unsafe { libc::alarm(PATIENCE) };
            let well = catch_unwind(AssertUnwindSafe(f)).is_ok();
            // SAFETY: no pointers.
            unsafe { libc::_exit(if well { 0 } else { 101 }) }
        }
        -1 => Err(rustix::io::Errno::from_io_error(&std::io::Error::last_os_error()).unwrap()),
        child => Ok(Pid::from_raw(child as i32).unwrap()),
    }
}

fn kill_and_reap(pid: Pid) {
    kill_process(pid, Signal::KILL).unwrap();
    let (_, status) = waitpid(Some(pid), WaitOptions::empty()).unwrap().unwrap();
    assert_eq!(status.terminating_signal(), Some(libc::SIGKILL));
}

/// Stops this process, which is how one that was bred says that it is ready.
fn stop() {
    kill_process(getpid(), Signal::STOP).unwrap();
}

fn wait_for_stop(pid: Pid) {
    let (_, status) = waitpid(Some(pid), WaitOptions::UNTRACED).unwrap().unwrap();
    assert!(status.stopped(), "{status:?}");
}

fn wait_for_ever() -> ! {
    loop {
        std::thread::park();
    }
}

/// When a process started, in ticks.
fn started(pid: Pid) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).unwrap();
    let rest = stat.rsplit_once(')').unwrap().1;
    rest.split_ascii_whitespace()
        .nth(19)
        .unwrap()
        .parse()
        .unwrap()
}

/// Has no handles itself, so that none are inherited from it.
fn breed_as_told(arguments: &[&str]) {
    let domain = arguments[0];
    let mut bred = None;
    while let Some(line) = hear() {
        match line.split(' ').collect::<Vec<_>>()[..] {
            // A holder dies, and its pid is another's at once.
            ["reuse", task] => {
                let holder = fork_as(0, || hold_everything(domain)).unwrap();
                wait_for_stop(holder);
                let before = started(holder);
                kill_and_reap(holder);
                let raw = holder.as_raw_nonzero().get();
                let next = fork_as(raw, || do_task(domain, task)).unwrap();
                assert_eq!(next, holder);
                wait_for_stop(next);
                kill_process(next, Signal::CONT).unwrap();
                say(format!("{raw} {}", started(next) == before));
                bred = Some(next);
            }
            ["breed", pid, task] => {
                let pid = pid.parse().unwrap();
                bred = Some(fork_as(pid, || contend(arguments, task)).unwrap());
            }
            ["wait"] => {
                let (_, status) = waitpid(bred.take(), WaitOptions::empty()).unwrap().unwrap();
                assert_eq!(status.exit_status(), Some(0));
                say("ended");
            }
            ["kill"] => {
                kill_and_reap(bred.take().unwrap());
                say("killed");
            }
            ref other => panic!("{other:?}"),
        }
    }
}

// ---- A pid that is used again at once.

/// Has an end, is the domain's main, and stops itself with the store's lock in its hands.
fn hold_everything(domain: &str) {
    let mut guest = options(domain).open("c").unwrap();
    guest.send(1).unwrap();
    let _runtime = Runtime::builder(domain).start().unwrap();
    let held = store(domain, LONG).update::<u64>("key", |_| {
        stop();
        wait_for_ever()
    });
    held.unwrap();
}

/// What the one with the dead one's pid does.
fn do_task(domain: &str, task: &str) {
    match task {
        "stranger" => {
            stop();
            wait_for_ever()
        }
        "successor" => {
            let mut guest = options(domain).open("c").unwrap();
            guest.send(2).unwrap();
            let store = store(domain, LONG);
            store.set("key", &2u64).unwrap();
            let _runtime = Runtime::builder(domain).start().unwrap();
            stop();
            wait_for_ever()
        }
        "newcomer" => {
            let mut host = options(domain).create("b").unwrap();
            host.send(3).unwrap();
            stop();
            wait_for_ever()
        }
        other => panic!("{other:?}"),
    }
}

fn judge_reuse(domain: &str) {
    let mut breeder = Process::start("breeder", &[domain]);
    let made = Store::options().domain(domain).create("s").unwrap();
    let mut host = options(domain).create("c").unwrap();
    let at_least = scale(12, 200);
    let (mut rounds, mut in_one_tick) = (0, 0);
    // Whether one falls within a tick is the machine's affair, but not whether any does.
    while rounds < at_least || (in_one_tick == 0 && rounds < at_least + 200) {
        let round = rounds;
        rounds += 1;
        let task = ["stranger", "successor", "newcomer"][round % 3];
        let said = breeder.ask(&format!("reuse {task}"));
        let (pid, same_tick) = said.split_once(' ').unwrap();
        let pid: u32 = pid.parse().unwrap();
        in_one_tick += u64::from(same_tick == "true");
        // The dead one is dead, whoever has its pid.
        assert_eq!(number(&mut host), 1);
        is_told_of_the_death(&mut host, pid);
        if task == "successor" {
            // And the living one lives, whoever had its pid.
            assert_eq!(number(&mut host), 2);
            assert_eq!(host.peer(), PeerState::Alive { pid });
            let again = options(domain).open("c");
            assert!(matches!(again, Err(Error::EndTaken { pid: by, .. }) if by == pid));
            let taken = Runtime::builder(domain).start();
            assert!(matches!(taken, Err(Error::DomainTaken { pid: by, .. }) if by == pid));
            assert_eq!(store(domain, LONG).get::<u64>("key").unwrap(), Some(2));
        } else {
            assert_eq!(host.peer(), PeerState::Dead { pid });
            store(domain, LONG).set("key", &1u64).unwrap();
            Runtime::builder(domain)
                .start()
                .unwrap()
                .shutdown()
                .unwrap();
            drop(options(domain).open("c").unwrap());
        }
        let beside = (task == "newcomer").then(|| {
            let mut guest = options(domain).open("b").unwrap();
            assert_eq!(number(&mut guest), 3);
            assert_eq!(guest.peer(), PeerState::Alive { pid });
            guest
        });
        assert_eq!(breeder.ask("kill"), "killed");
        match (task, beside) {
            ("successor", _) => is_told_of_the_death(&mut host, pid),
            (_, Some(mut guest)) => is_told_of_the_death(&mut guest, pid),
            _ => {}
        }
        assert_eq!(host.try_recv(), Err(TryRecvError::Empty));
    }
    breeder.finish();
    made.verify().unwrap();
    made.remove().unwrap();
    // What the dead main of a "successor" left, and a "newcomer"'s channel.
    drop(Runtime::builder(domain).start().unwrap());
    drop((host, made));
    assert!(in_one_tick > 0, "this proves little");
    tally("pid-reuse", "pids used again at once", rounds as u64);
    tally("pid-reuse", "of them within one clock tick", in_one_tick);
    say("done");
}

// ---- Equal pids in two namespaces.

/// In each of its namespaces.
const PID: i32 = 100;

/// In a word beside the library: the round in which the holder was told to die.
const KILLED: usize = 0;
const ROUND: usize = 1;

/// What the ones with equal pids do.
fn contend(arguments: &[&str], task: &str) {
    let (domain, shared) = (arguments[0], Shared::open(arguments[1]));
    assert_eq!(getpid().as_raw_nonzero().get(), PID);
    match task {
        "try" => {
            let end = options(domain).open("c");
            assert!(matches!(end, Err(Error::EndTaken { pid, .. }) if pid == PID as u32));
            let changed = store(domain, Duration::from_millis(25)).set("key", &0u64);
            assert!(matches!(changed, Err(Error::LockTimeout { pid }) if pid == PID as u32));
            let taken = Runtime::builder(domain).start();
            assert!(matches!(taken, Err(Error::DomainTaken { pid, .. }) if pid == PID as u32));
        }
        // Gets all that there is, but not before the other is dead; and keeps it.
        "inherit" => {
            let round = shared.word(ROUND).load(Acquire);
            let is_due = || assert_eq!(shared.word(KILLED).load(Acquire), round, "too early");
            let held = store(domain, LONG).update::<u64>("key", |old| {
                is_due();
                let mut guest = options(domain).open_timeout("c", LONG).unwrap();
                let _runtime = Runtime::builder(domain).start().unwrap();
                guest.send(round).unwrap();
                assert_eq!(old.unwrap_or(0), 0);
                say("inherited");
                wait_for_ever()
            });
            held.unwrap();
        }
        other => panic!("{other:?}"),
    }
}

fn judge_namespaces(domain: &str, shared: &str) {
    let words = Shared::open(shared);
    let breeder = || {
        let mut unshare = Command::new("unshare");
        unshare.args(["--pid", "--fork", "--kill-child", "--mount-proc"]);
        unshare.arg(std::env::current_exe().unwrap());
        Process::start_by(unshare, "breeder", &[domain, shared])
    };
    let (mut first, mut second) = (breeder(), breeder());
    let made = Store::options().domain(domain).create("s").unwrap();
    let mut host = options(domain).create("c").unwrap();
    let mut random = Random::printed();
    let pid = PID as u32;
    let rounds = scale(5, 200) as u64;
    let inherit = |next: &mut Process, round: u64| {
        words.word(ROUND).store(round, Release);
        next.tell(&format!("breed {PID} inherit"));
    };
    inherit(&mut first, 0);
    for round in 1..=rounds {
        assert_eq!(first.line(), "inherited");
        assert_eq!(number(&mut host), round - 1);
        assert_eq!(host.peer(), PeerState::Alive { pid });
        second.tell(&format!("breed {PID} try"));
        assert_eq!(second.ask("wait"), "ended");
        inherit(&mut second, round);
        std::thread::sleep(random.micros(15_000));
        let changed = store(domain, Duration::ZERO).set("key", &0u64);
        assert!(matches!(changed, Err(Error::LockTimeout { pid: by }) if by == pid));
        assert_eq!(host.try_recv(), Err(TryRecvError::Empty));
        words.word(KILLED).store(round, Release);
        assert_eq!(first.ask("kill"), "killed");
        is_told_of_the_death(&mut host, pid);
        std::mem::swap(&mut first, &mut second);
    }
    assert_eq!(first.line(), "inherited");
    assert_eq!(first.ask("kill"), "killed");
    first.finish();
    second.finish();
    // Nothing was finished by any of them.
    assert_eq!(made.get::<u64>("key").unwrap(), None);
    made.set("key", &1u64).unwrap();
    made.verify().unwrap();
    made.remove().unwrap();
    drop(Runtime::builder(domain).start().unwrap());
    drop((host, made));
    tally(
        "namespaces",
        "deaths of one of two holders with equal pids",
        rounds,
    );
    say("done");
}

// ---- Where pids can be chosen.

/// A directory in which the processes' domains lie: who is root in a namespace is another user
/// outside.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        let left = std::fs::read_dir(&self.0).unwrap().count();
        let _ = std::fs::remove_dir_all(&self.0);
        assert!(std::thread::panicking() || left == 0, "files are left");
    }
}

/// Plays `role` in namespaces of its own: those that `flags` name, and a user's if we are not root.
fn judge(fault: &str, role: &str, flags: &[&str]) {
    let domain = Domain::new(role);
    let shared = Shared::new(&domain, 2);
    let scratch = Scratch(std::env::temp_dir().join(format!("{}-base", domain.name())));
    std::fs::create_dir(&scratch.0).unwrap();
    let unshare = || {
        let mut unshare = Command::new("unshare");
        unshare.args(flags);
        if !rustix::process::geteuid().is_root() {
            unshare.args(["--user", "--map-root-user"]);
        }
        unshare.env("RINGLANE_DIR", &scratch.0);
        unshare
    };
    // Whether there can be a second level of them, with a `/proc` of its own.
    let inner = ["unshare", "--pid", "--fork", "--mount-proc", "true"];
    let works = unshare().args(inner).output();
    if !works.is_ok_and(|output| output.status.success()) {
        return skip(fault, "pid namespaces cannot be made here");
    }
    let mut unshare = unshare();
    unshare.arg(std::env::current_exe().unwrap());
    let mut judge = Process::start_by(unshare, role, &[domain.name(), shared.path()]);
    while let Some(line) = judge.next_line() {
        assert_eq!(line, "done");
    }
    judge.finish();
}

#[test]
fn a_pid_that_is_used_again_at_once_is_another_process() {
    let flags = ["--pid", "--fork", "--kill-child", "--mount-proc"];
    judge("pid-reuse", "reuse", &flags);
}

/// Locks that know their owner by its pid alone take such processes for each other, or a living one
/// for dead: https://github.com/eclipse-iceoryx/iceoryx2/issues/1518,
/// https://github.com/eclipse-iceoryx/iceoryx2/issues/1660 and
/// https://github.com/wingfoil-io/wingfoil/pull/313 are about containers in which that was so.
#[test]
fn equal_pids_in_two_namespaces_are_two_processes() {
    judge("namespaces", "namespaces", &["--mount"]);
}
