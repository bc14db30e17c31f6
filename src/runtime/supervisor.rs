//! Starts children, notices their end, stops them and starts them again.
//!
//! Two threads. The *supervisor* owns all children: it spawns them (the kernel's parent-death signal
//! fires when the spawning **thread** ends, so that thread must live as long as they may), sleeps in
//! `poll` on a pidfd for each and on an eventfd for orders, and decides. The *listener* sleeps on
//! the control segment's bell, which children ring, and writes the eventfd. So a crash is noticed
//! when the kernel says so, and no timer runs but for deadlines.
//!
//! | phase | a process runs | left by |
//! |---|---|---|
//! | `Running` | yes | its end, an order, a request |
//! | `Stopping` | yes | its end; SIGTERM and SIGKILL hasten that |
//! | `Waiting` | no | the back-off's end, an order |
//! | `Ended`, `Failed` | no | an order to restart |
//!
//! What follows a `Stopping` is kept beside it, and a stop is never overruled by a restart.

use super::child::{Life, VARIABLE, place_for};
use super::control::{Control, Stage};
use super::desk::{Desk, DeskState, End, Handle, Order, tell, wake};
use super::hooks::{Event, Hooks, Kind};
use super::supervised::{Phase, Running, Supervised, Then};
use super::{ChildSpec, Restart};
use crate::channel::attachment::Attachment;
use crate::doorbell::SLICE;
use crate::error::{Error, Result};
use crate::roster::Roster;
use crate::sync::Ordering::*;
use crate::sys;
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::fd::{AsFd, AsRawFd, OwnedFd};
use rustix::process::Signal;
use std::collections::VecDeque;
use std::os::unix::process::ExitStatusExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitStatus;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

/// A child that lived this long has not failed in a row.
const PROVEN: Duration = Duration::from_secs(60);
/// A pause that doubles does so up to this, or to what was asked for if that is more.
const MOST_BACKOFF: Duration = Duration::from_secs(10);
/// More than a clock may not count.
const MOST_PAUSE: Duration = Duration::from_secs(86_400);
/// How often we look around where the kernel does not tell us when.
const WITHOUT_PIDFD: Duration = Duration::from_millis(20);

pub(super) struct Supervisor {
    children: Vec<Supervised>,
    domain: String,
    control: Arc<Control>,
    hooks: Hooks,
    desk: Handle,
    shutting_down: bool,
    /// Children hold the read end; the write end closes when main goes.
    life: (OwnedFd, OwnedFd),
}

impl Supervisor {
    pub(super) fn new(
        specs: Vec<ChildSpec>,
        roster: Arc<Roster>,
        control: Arc<Control>,
        hooks: Hooks,
        channels: impl Fn(&str) -> Vec<Arc<Attachment>>,
    ) -> Result<Supervisor> {
        let failed = |call| {
            move |e: rustix::io::Errno| Error::of_call(call, "a supervisor's descriptors", e)
        };
        let life = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC);
        let life = life.map_err(failed("pipe2"))?;
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK);
        let wake = wake.map_err(failed("eventfd2"))?;
        let domain = roster.directory().name().to_string();
        let names = specs.iter().map(|spec| spec.name.clone()).collect();
        let children: Vec<_> = specs
            .into_iter()
            .map(|spec| Supervised::new(spec, &domain, &life.0, &channels))
            .collect();
        let statuses: Vec<_> = children.iter().map(Supervised::status).collect();
        let ends = statuses
            .iter()
            .cloned()
            .map(|last| End { count: 0, last })
            .collect();
        let desk = Desk {
            names,
            state: Mutex::new(DeskState {
                orders: VecDeque::new(),
                statuses,
                ends,
                started: false,
                closed: false,
                when_all_ended: None,
                left: false,
                threads: Vec::new(),
            }),
            changed: Condvar::new(),
            wake,
        };
        let desk = Handle(Arc::new(desk));
        Ok(Supervisor {
            children,
            domain,
            control,
            hooks,
            desk,
            shutting_down: false,
            life,
        })
    }

    pub(super) fn handle(&self) -> Handle {
        self.desk.clone()
    }

    /// Starts both threads, and returns when every child was spawned once.
    pub(super) fn start(self) -> Result<()> {
        let io = |e| Error::io("a supervisor's thread", e);
        let desk = self.desk.clone();
        let (control, listening) = (self.control.clone(), self.desk.clone());
        let (spawned, all_spawned) = std::sync::mpsc::channel();
        // Until both are noted: a shutdown waits for those that it finds.
        let mut state = desk.lock();
        if state.closed {
            return Err(Error::Stopping);
        }
        state.started = true;
        let supervisor = std::thread::Builder::new()
            .name("ringlane-supervisor".into())
            .spawn(move || self.supervise(spawned))
            .map_err(io)?;
        state.threads.push(supervisor);
        let listener = std::thread::Builder::new()
            .name("ringlane-control".into())
            .spawn(move || listen(&control, &listening));
        match listener {
            Ok(thread) => state.threads.push(thread),
            Err(e) => {
                drop(state);
                desk.shut_down();
                return Err(io(e));
            }
        }
        drop(state);
        // Fails only if the supervisor panicked, which it has printed.
        let _ = all_spawned.recv();
        Ok(())
    }

    fn supervise(mut self, spawned: std::sync::mpsc::Sender<()>) {
        for index in 0..self.children.len() {
            self.spawn(index);
        }
        let _ = spawned.send(());
        loop {
            self.obey();
            self.hear_requests();
            self.reap();
            self.keep_deadlines();
            let all_ended = self
                .children
                .iter()
                .all(|child| matches!(child.phase, Phase::Ended | Phase::Failed));
            if all_ended {
                let mut state = self.desk.lock();
                if let Some(to) = state.when_all_ended.take() {
                    tell(to);
                }
                // Under the same lock, so that nobody waits for who has left.
                state.left = self.shutting_down;
                if state.left {
                    break;
                }
            }
            self.sleep();
        }
        // The listener looks whether we are closed.
        self.control.ring_main();
    }

    /// Sleeps until a child ends, an order comes, or a deadline is due.
    fn sleep(&self) {
        let mut fds = vec![PollFd::from_borrowed_fd(
            self.desk.0.wake.as_fd(),
            PollFlags::IN,
        )];
        let mut next: Option<Instant> = None;
        let mut at = |moment: Instant| next = Some(next.map_or(moment, |n| n.min(moment)));
        for child in &self.children {
            match child.phase {
                Phase::Stopping { term_at, kill_at } => {
                    term_at.into_iter().chain(kill_at).for_each(&mut at);
                }
                Phase::Waiting { until } => at(until),
                Phase::Running | Phase::Ended | Phase::Failed => {}
            }
            match child.running.as_ref().map(|running| &running.pidfd) {
                Some(Some(pidfd)) => {
                    fds.push(PollFd::from_borrowed_fd(pidfd.as_fd(), PollFlags::IN));
                }
                Some(None) => at(Instant::now() + WITHOUT_PIDFD),
                None => {}
            }
        }
        let timeout = next.map(|moment| {
            let left = moment.saturating_duration_since(Instant::now());
            Timespec {
                tv_sec: left.as_secs() as i64,
                tv_nsec: left.subsec_nanos().into(),
            }
        });
        match poll(&mut fds, timeout.as_ref()) {
            // A signal is as good a reason to look around as any.
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            // Without it we still look around, but not all the time.
            Err(_) => std::thread::sleep(WITHOUT_PIDFD),
        }
        let mut count = [0; 8];
        let _ = rustix::io::read(&self.desk.0.wake, &mut count);
    }

    fn obey(&mut self) {
        // One by one, so that `publish` sees which are still to come.
        loop {
            let Some(order) = self.desk.lock().orders.pop_front() else {
                return;
            };
            match order {
                Order::Restart(index) => self.restart(index),
                Order::Stop(index) => self.stop(index),
                Order::ShutDown => {
                    self.shutting_down = true;
                    (0..self.children.len()).for_each(|index| self.stop(index));
                }
            }
        }
    }

    fn restart(&mut self, index: usize) {
        let child = &mut self.children[index];
        match child.phase {
            _ if self.shutting_down => {}
            Phase::Running => {
                child.then = Then::Restart;
                self.begin_stop(index);
            }
            Phase::Stopping { .. } => {
                if child.then != Then::Stop {
                    child.then = Then::Restart;
                }
            }
            Phase::Waiting { .. } => self.spawn_again(index),
            Phase::Ended | Phase::Failed => {
                child.failures = 0;
                self.spawn_again(index);
            }
        }
    }

    fn stop(&mut self, index: usize) {
        let child = &mut self.children[index];
        match child.phase {
            Phase::Running => {
                child.then = Then::Stop;
                self.begin_stop(index);
            }
            Phase::Stopping { .. } => child.then = Then::Stop,
            Phase::Waiting { .. } => self.settle(index, Phase::Ended),
            // Also takes back what an order to restart promised.
            Phase::Ended | Phase::Failed => self.publish(index),
        }
    }

    /// Children that asked to be restarted, and those that attached.
    fn hear_requests(&mut self) {
        for index in 0..self.children.len() {
            if self.children[index].phase != Phase::Running {
                continue;
            }
            if self.wants_restart(index) {
                self.restart(index);
            }
            self.publish(index);
        }
    }

    /// Whether the present process of a child asked to be restarted.
    fn wants_restart(&self, index: usize) -> bool {
        let request = &self.control.record(index).request;
        // Acquire: partner is the child's store; a request of an earlier generation is none.
        request.load(Acquire) == self.children[index].generation
    }

    fn begin_stop(&mut self, index: usize) {
        // An entry that did not attach yet is about to; a program may never want to.
        let hears = self.children[index].is_entry || self.is_attached(index);
        let child = &mut self.children[index];
        let now = Instant::now();
        let term_at = if hears {
            now.checked_add(child.grace / 2)
        } else {
            Some(now)
        };
        child.phase = Phase::Stopping {
            term_at,
            kill_at: now.checked_add(child.grace),
        };
        self.hooks.post_child(Kind::BeforeChildStop, &child.name);
        self.control.tell_stop(index, child.generation);
        for channel in &child.channels {
            channel.announce();
        }
        self.publish(index);
    }

    /// Whether the running process took its place.
    fn is_attached(&self, index: usize) -> bool {
        self.control.record(index).nonce.load(Acquire) == 0
    }

    fn keep_deadlines(&mut self) {
        let now = Instant::now();
        let due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        for index in 0..self.children.len() {
            let child = &mut self.children[index];
            match &mut child.phase {
                Phase::Stopping { term_at, kill_at } => {
                    if due(*kill_at) {
                        (*term_at, *kill_at) = (None, None);
                        child.signal(Signal::KILL);
                    } else if due(*term_at) {
                        *term_at = None;
                        child.signal(Signal::TERM);
                    }
                }
                Phase::Waiting { until } if *until <= now => self.spawn_again(index),
                _ => {}
            }
        }
    }

    fn reap(&mut self) {
        for index in 0..self.children.len() {
            let Some(running) = &mut self.children[index].running else {
                continue;
            };
            let has_ended = running.has_ended();
            let status = match running.process.try_wait() {
                // It is dead, and a debugger has not let go of it: poll would return at once for as
                // long as that lasts, so we look by the clock.
                Ok(None) if has_ended => {
                    running.pidfd = None;
                    continue;
                }
                Ok(None) => continue,
                Ok(status) => status,
                // The program ignores SIGCHLD, so the kernel reaps.
                Err(_) if running.has_ended() => None,
                Err(_) => continue,
            };
            self.ended(index, status);
        }
    }

    /// The process of a child is gone; what now?
    fn ended(&mut self, index: usize, status: Option<ExitStatus>) {
        let child = &mut self.children[index];
        let lived = child
            .running
            .take()
            .map_or(Duration::ZERO, |r| r.since.elapsed());
        child.last_exit = status;
        child.last_error = None;
        child.exit_word = status.map_or(2 << 32, |s| 1 << 32 | u64::from(s.into_raw() as u32));
        // Whoever waits for it looks now, and is told by the death rule.
        for channel in &child.channels {
            channel.announce();
        }
        if lived >= PROVEN {
            child.failures = 0;
        }
        let mut then = std::mem::replace(&mut child.then, Then::ByPolicy);
        // It may have asked and left before we heard of it.
        if then == Then::ByPolicy && self.wants_restart(index) {
            then = Then::Restart;
        }
        // Without a status there is no telling; better once too often than not at all.
        let failed = !status.is_some_and(|s| s.success());
        match then {
            Then::Stop => self.settle(index, Phase::Ended),
            Then::Restart => {
                self.tell_exit(index);
                self.spawn_again(index);
                return;
            }
            Then::ByPolicy => self.by_policy(index, failed),
        }
        self.tell_exit(index);
    }

    fn tell_exit(&self, index: usize) {
        let status = self.children[index].status();
        self.hooks.post(Kind::ChildExit, Event::Exit(status));
    }

    /// After an end, or a start that failed, that nobody ordered.
    fn by_policy(&mut self, index: usize, failed: bool) {
        let child = &mut self.children[index];
        let wait = |backoff| Phase::Waiting {
            until: Instant::now() + backoff,
        };
        child.failures += u32::from(failed);
        let phase = match child.restart {
            _ if self.shutting_down => Phase::Ended,
            Restart::Always { backoff } => wait(backoff.min(MOST_PAUSE)),
            Restart::Never | Restart::OnFailure { .. } if !failed => Phase::Ended,
            Restart::OnFailure { max, backoff } if child.failures <= max => {
                wait(pause(backoff, child.failures))
            }
            Restart::Never | Restart::OnFailure { .. } => Phase::Failed,
        };
        match phase {
            Phase::Waiting { .. } => {
                child.phase = phase;
                self.publish(index);
            }
            phase => self.settle(index, phase),
        }
    }

    /// It runs no more, and will not by itself: nobody comes to its channels any more.
    fn settle(&mut self, index: usize, phase: Phase) {
        let child = &mut self.children[index];
        child.phase = phase;
        for channel in &child.channels {
            channel.close_guest();
        }
        self.publish(index);
    }

    fn spawn_again(&mut self, index: usize) {
        self.hooks
            .post_child(Kind::BeforeRestart, &self.children[index].name);
        self.children[index].restarts += 1;
        if self.spawn(index) {
            self.hooks
                .post_child(Kind::AfterRestart, &self.children[index].name);
        }
    }

    fn spawn(&mut self, index: usize) -> bool {
        let child = &mut self.children[index];
        child.generation += 1;
        child.then = Then::ByPolicy;
        for channel in &child.channels {
            channel.reopen_guest();
        }
        let record = self.control.record(index);
        record.generation.store(child.generation, Relaxed);
        let spawned = sys::random_nonzero().and_then(|nonce| {
            record.nonce.store(nonce, Release);
            let life = Life {
                fd: self.life.0.as_raw_fd(),
                inode: rustix::fs::fstat(&self.life.0)?.st_ino,
            };
            let place = place_for(
                child.is_entry,
                &self.domain,
                &child.name,
                child.generation,
                nonce,
                life,
            );
            child.command.env(VARIABLE, place);
            // If this program ignores SIGCHLD, nobody can be waited for, and std panics over a
            // program that cannot be executed.
            catch_unwind(AssertUnwindSafe(|| child.command.spawn()))
                .unwrap_or_else(|_| Err(std::io::Error::other("it cannot be executed")))
        });
        match spawned {
            Ok(process) => {
                // Not reaped before we ask, so the pid is its own; unless SIGCHLD is ignored, and
                // then a process that has ended is what we find.
                let pidfd = sys::open_pid(process.id()).ok().flatten();
                child.running = Some(Running {
                    process,
                    pidfd,
                    since: Instant::now(),
                });
                child.phase = Phase::Running;
                child.last_error = None;
                self.publish(index);
                true
            }
            Err(e) => {
                child.last_error = Some(e.to_string());
                child.last_exit = None;
                child.exit_word = 0;
                self.by_policy(index, true);
                self.tell_exit(index);
                false
            }
        }
    }

    /// Shows everybody what became of a child.
    fn publish(&self, index: usize) {
        let child = &self.children[index];
        let stage = match child.phase {
            Phase::Running if child.is_entry && !self.is_attached(index) => Stage::Starting,
            Phase::Running => Stage::Running,
            Phase::Stopping { .. } => Stage::Stopping,
            Phase::Waiting { .. } => Stage::Waiting,
            Phase::Ended => Stage::Ended,
            Phase::Failed => Stage::Failed,
        };
        let record = self.control.record(index);
        record.pid.store(
            child.running.as_ref().map_or(0, |r| r.process.id().into()),
            Relaxed,
        );
        record.state.store(stage as u64, Relaxed);
        record.restarts.store(child.restarts.into(), Relaxed);
        record.last_exit.store(child.exit_word, Relaxed);
        let mut state = self.desk.lock();
        let mut status = child.status();
        if !status.running {
            // Even if a restart is ordered already: whoever had it stopped waits no longer.
            state.ends[index].count += 1;
            state.ends[index].last = status.clone();
        }
        // A restart that was ordered and not yet obeyed is still to come.
        status.running |= state
            .orders
            .iter()
            .any(|o| matches!(o, Order::Restart(i) if *i == index));
        state.statuses[index] = status;
        self.desk.0.changed.notify_all();
    }
}

/// The pause after so many failures in a row.
fn pause(backoff: Duration, failures: u32) -> Duration {
    let doubled = backoff.saturating_mul(1 << (failures - 1).min(20));
    doubled.min(MOST_BACKOFF.max(backoff)).min(MOST_PAUSE)
}

/// Carries the children's rings to the supervisor.
fn listen(control: &Control, desk: &Handle) {
    loop {
        let bell = &control.header().bell;
        let seen = bell.seen();
        wake(&desk.0.wake);
        if desk.lock().closed {
            // The supervisor's last children may still ring, but it has nothing to learn from it.
            return;
        }
        while bell.seen() == seen && !desk.lock().closed {
            bell.wait(seen, SLICE);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_is_never_shorter_than_asked_for() {
        let seconds = Duration::from_secs_f32;
        assert_eq!(pause(seconds(0.5), 1), seconds(0.5));
        assert_eq!(pause(seconds(0.5), 4), seconds(4.));
        assert_eq!(pause(seconds(0.5), 100), seconds(10.));
        assert_eq!(pause(seconds(30.), 1), seconds(30.));
        assert_eq!(pause(seconds(30.), 3), seconds(30.));
        assert_eq!(pause(Duration::MAX, 1), MOST_PAUSE);
    }
}
