//! One child as the supervisor has it: how it is started, where it stands, how it is signalled.
//!
//! The obligation of the `unsafe` here: what runs between fork and exec makes system calls and
//! nothing else.
#![allow(unsafe_code)]

use super::{ChildSpec, ChildStatus, Program, Restart};
use crate::channel::attachment::Attachment;
use crate::{domain, sys};
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use rustix::process::{Pid, Signal, getpgid, kill_process, kill_process_group, pidfd_send_signal};
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Running,
    Stopping {
        term_at: Option<Instant>,
        kill_at: Option<Instant>,
    },
    Waiting {
        until: Instant,
    },
    Ended,
    Failed,
}

/// What follows the end of the running process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Then {
    ByPolicy,
    Restart,
    Stop,
}

pub(super) struct Running {
    pub(super) process: std::process::Child,
    /// `None` where there are none, and once it ended and cannot be reaped yet.
    pub(super) pidfd: Option<OwnedFd>,
    pub(super) since: Instant,
}

pub(super) struct Supervised {
    pub(super) name: String,
    pub(super) command: Command,
    pub(super) is_entry: bool,
    pub(super) restart: Restart,
    pub(super) grace: Duration,
    pub(super) channels: Vec<Arc<Attachment>>,
    pub(super) phase: Phase,
    pub(super) then: Then,
    pub(super) running: Option<Running>,
    pub(super) generation: u32,
    pub(super) restarts: u32,
    pub(super) failures: u32,
    pub(super) last_exit: Option<ExitStatus>,
    pub(super) last_error: Option<String>,
    /// As the control segment has it: also tells "none" from "unknown".
    pub(super) exit_word: u64,
}

impl Running {
    pub(super) fn has_ended(&mut self) -> bool {
        match &self.pidfd {
            Some(pidfd) => matches!(sys::has_ended(pidfd.as_fd()), Ok(true)),
            // An error: the kernel reaped it. Until somebody does, its pid is nobody else's.
            None => !matches!(self.process.try_wait(), Ok(None)),
        }
    }
}

impl Supervised {
    pub(super) fn new(
        spec: ChildSpec,
        domain: &str,
        life: &OwnedFd,
        channels: &impl Fn(&str) -> Vec<Arc<Attachment>>,
    ) -> Supervised {
        let is_entry = matches!(spec.program, Program::Entry(_));
        let mut command = match spec.program {
            Program::Command(command) => *command,
            Program::Entry(_) => this_program(spec.args),
        };
        command.stdin(Stdio::null()).process_group(0);
        // What the child opens by name it finds where its runtime is, unless its command says else:
        // also in an environment that is otherwise empty.
        let place = std::env::var_os(domain::PLACE);
        let ours = [
            (domain::VARIABLE, Some(domain.into())),
            (domain::PLACE, place),
        ];
        for (key, value) in ours {
            if let (false, Some(value)) = (command.get_envs().any(|(k, _)| k == key), value) {
                command.env(key, value);
            }
        }
        let main = rustix::process::getpid();
        let life = life.as_raw_fd();
        let before_exec = move || {
            rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
            // Main may have died before the signal was set.
            if rustix::process::getppid() != Some(main) {
                return Err(std::io::ErrorKind::NotFound.into());
            }
            // SAFETY: the supervisor keeps the descriptor open as long as it spawns.
            let life = unsafe { BorrowedFd::borrow_raw(life) };
            // What the user's code did before us may have closed it; then the signal has to do.
            let _ = rustix::io::fcntl_setfd(life, rustix::io::FdFlags::empty());
            Ok(())
        };
        // SAFETY: the closure makes three system calls, and an error of it allocates nothing.
        unsafe { command.pre_exec(before_exec) };
        Supervised {
            channels: channels(&spec.name),
            name: spec.name,
            command,
            is_entry,
            restart: spec.restart,
            grace: spec.stop_grace,
            phase: Phase::Ended,
            then: Then::ByPolicy,
            running: None,
            generation: 0,
            restarts: 0,
            failures: 0,
            last_exit: None,
            last_error: None,
            exit_word: 0,
        }
    }

    pub(super) fn status(&self) -> ChildStatus {
        ChildStatus {
            name: self.name.clone(),
            pid: self.running.as_ref().map(|r| r.process.id()),
            generation: self.generation,
            restarts: self.restarts,
            last_exit: self.last_exit,
            last_error: self.last_error.clone(),
            running: !matches!(self.phase, Phase::Ended | Phase::Failed),
        }
    }

    /// Signals the child and its process group.
    pub(super) fn signal(&mut self, signal: Signal) {
        let Some(running) = &mut self.running else {
            return;
        };
        let Some(pid) = Pid::from_raw(running.process.id() as i32) else {
            return;
        };
        // It may be reaped then, where SIGCHLD is ignored or the program waits for any child, and
        // its pid another's.
        if running.has_ended() {
            return;
        }
        let _ = kill_process_group(pid, signal);
        // It may have gone to another group, and left somebody in its own.
        if getpgid(Some(pid)) != Ok(pid) {
            let _ = match &running.pidfd {
                Some(pidfd) => pidfd_send_signal(pidfd, signal),
                None => kill_process(pid, signal),
            };
        }
    }
}

/// This program again. Not its path: after a rebuild another program lies there, or none.
fn this_program(args: Option<Vec<std::ffi::OsString>>) -> Command {
    let mut own = std::env::args_os();
    let mut command = Command::new("/proc/self/exe");
    if let Some(name) = own.next() {
        command.arg0(name);
    }
    command.args(args.unwrap_or_else(|| own.collect()));
    command
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::process::{WaitOptions, waitpid};

    /// Forks a process of that pid, which waits.
    fn wait_as(pid: Pid) -> Option<Pid> {
        let tid = pid.as_raw_pid();
        // SAFETY: plain integers, for which zero is a value.
        let mut how: libc::clone_args = unsafe { std::mem::zeroed() };
        how.exit_signal = libc::SIGCHLD as u64;
        how.set_tid = &raw const tid as u64;
        how.set_tid_size = 1;
        // SAFETY: without flags this is a fork; the arguments live through the call, and the child
        // makes system calls and nothing else.
        match unsafe { libc::syscall(libc::SYS_clone3, &raw const how, size_of_val(&how)) } {
            0 => loop {
                // SAFETY: no pointers.
                unsafe { libc::alarm(120) };
                // SAFETY: no arguments.
                unsafe { libc::pause() };
            },
            // Not every user may choose.
            child => (child > 0).then(|| Pid::from_raw(child as i32)).flatten(),
        }
    }

    #[test]
    fn a_pid_that_is_anothers_by_now_is_not_signalled() {
        let spec = ChildSpec::command("a", Command::new("true"));
        let life = rustix::pipe::pipe().unwrap().0;
        let mut child = Supervised::new(spec, "test", &life, &|_| Vec::new());
        let process = Command::new("true").spawn().unwrap();
        let pid = Pid::from_raw(process.id() as i32).unwrap();
        child.running = Some(Running {
            pidfd: sys::open_pid(process.id()).unwrap(),
            process,
            since: Instant::now(),
        });
        // As the user's own code may, that waits for any child.
        waitpid(Some(pid), WaitOptions::empty()).unwrap();
        let Some(other) = wait_as(pid) else {
            let why = "no process with a pid of our choice can be made here";
            return crate::common::tally::skip("pid-reuse", why);
        };
        assert_eq!(other, pid);
        rustix::process::setpgid(Some(other), Some(other)).unwrap();
        child.signal(Signal::KILL);
        // If it was sent, it comes first.
        kill_process(other, Signal::TERM).unwrap();
        let (_, status) = waitpid(Some(other), WaitOptions::empty()).unwrap().unwrap();
        assert_eq!(status.terminating_signal(), Some(libc::SIGTERM));
    }
}
