//! Processes by the thousand. To fork a small process costs a tenth of what it costs to start a
//! program: so one process of the test binary forks itself when it is told to. It never opened a
//! handle, so its forks are processes like any other, and open their own. A test that wants it
//! includes this file beside `common`.

use crate::common::{Process, are_threads, hear, say};
use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Seconds until a fork ends in any case.
const PATIENCE: u32 = 120;

pub struct ForkServer(Process);

/// A fork. It ends with the server, at the latest.
pub struct Fork {
    pid: Pid,
}

impl ForkServer {
    /// The file's test `process` must hand the role `forkserver` to [`serve`].
    pub fn start() -> ForkServer {
        ForkServer(Process::start("forkserver", &[]))
    }

    /// Forks a process that does what `line` says.
    pub fn fork(&mut self, line: &str) -> Fork {
        let said = self.0.ask(&format!("fork {line}"));
        let pid = Pid::from_raw(said.parse().unwrap()).unwrap();
        Fork { pid }
    }

    /// Kills a fork, which must not have ended by itself, and waits until it is gone.
    #[track_caller]
    pub fn kill(&mut self, fork: Fork) {
        fork.signal(Signal::KILL);
        self.wait_for_kill(fork);
    }

    /// Waits until a fork is gone that was killed.
    #[track_caller]
    pub fn wait_for_kill(&mut self, fork: Fork) {
        let end = self.wait(fork);
        assert_eq!(end, "killed by 9", "it ended by itself");
    }

    /// Waits until a fork is gone, and says how it ended.
    pub fn wait(&mut self, fork: Fork) -> String {
        self.0.ask(&format!("wait {}", fork.pid()))
    }

    pub fn finish(self) {
        self.0.finish();
    }
}

impl Fork {
    pub fn pid(&self) -> u32 {
        self.pid.as_raw_nonzero().get() as u32
    }

    /// Until it was waited for, no other process has its pid.
    pub fn signal(&self, signal: Signal) {
        kill_process(self.pid, signal).unwrap();
    }

    /// Whether all its threads sleep just now.
    pub fn is_asleep(&self) -> bool {
        are_threads(self.pid(), 'S')
    }
}

/// In the role `forkserver`: forks when it is told to. Each fork runs `act` with its line.
pub fn serve(act: impl Fn(&str)) {
    while let Some(line) = hear() {
        match line.split_once(' ') {
            Some(("fork", line)) => say(fork(|| act(line))),
            Some(("wait", pid)) => {
                let pid = Pid::from_raw(pid.parse().unwrap());
                let (_, status) = waitpid(pid, WaitOptions::empty()).unwrap().unwrap();
                match status.terminating_signal() {
                    Some(signal) => say(format!("killed by {signal}")),
                    None => say(format!("status {:?}", status.exit_status())),
                }
            }
            _ => panic!("{line:?}"),
        }
    }
}

fn fork(f: impl FnOnce()) -> i32 {
    // SAFETY: the fork runs `f` on the only thread it has and ends without going back to the test
    // harness; glibc sees to its allocator.
    match unsafe { libc::fork() } {
        0 => {
            // SAFETY: no pointers; no watchdog came along.
            unsafe { libc::alarm(PATIENCE) };
            let dies_with_us = rustix::process::set_parent_process_death_signal(Some(Signal::KILL));
            let well = dies_with_us.is_ok() && catch_unwind(AssertUnwindSafe(f)).is_ok();
            // SAFETY: no pointers.
            unsafe { libc::_exit(if well { 0 } else { 101 }) }
        }
        pid => {
            assert!(pid > 0);
            pid
        }
    }
}
