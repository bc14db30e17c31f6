//! How a runtime is made: its children, its hooks, and what is done before the first child starts.

use super::control::Control;
use super::hooks::{self, Event, Hooks};
use super::signals::Signals;
use super::spec::Program;
use super::supervisor::Supervisor;
use super::{
    Child, ChildResult, ChildSpec, ChildStatus, Entry, Inner, Owned, Runtime, Shutdown,
    ShutdownOnDrop, child,
};
use crate::channel::attachment::{Attachment, Plan};
use crate::channel::{Mode, checked_capacity};
use crate::domain::CHANNEL;
use crate::error::{Error, Result};
use crate::roster::{self, Roster};
use crate::segment::Segment;
use core::fmt;
use std::collections::HashMap;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};

/// A runtime to be. See [`Runtime::builder`].
#[must_use = "nothing is started before `start` or `run`"]
pub struct RuntimeBuilder {
    pub(super) domain: String,
    pub(super) specs: Vec<ChildSpec>,
    pub(super) hooks: Vec<(hooks::Kind, hooks::Hook)>,
}

impl fmt::Debug for RuntimeBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RuntimeBuilder({:?}, {:?})", self.domain, self.specs)
    }
}

impl RuntimeBuilder {
    /// Adds a child that runs `f` in a process of its own.
    ///
    /// It is this program started again, with the same arguments. There
    /// [`start`](Self::start) and [`run`](Self::run) never return: they run `f` and exit, with 0,
    /// with 1 if `f` returns an error, which is printed, and with 101 if it panics. **What `main`
    /// does before `start` happens in children too.**
    pub fn child(self, name: &str, f: fn(Child) -> ChildResult) -> Self {
        self.spec(ChildSpec::entry(name, f))
    }

    /// Adds a child that is any program. It attaches with [`Child::current`], or never does and is
    /// only kept running.
    pub fn command(self, name: &str, command: Command) -> Self {
        self.spec(ChildSpec::command(name, command))
    }

    /// Adds a child, in detail.
    pub fn spec(mut self, spec: ChildSpec) -> Self {
        self.specs.push(spec);
        self
    }

    fn entries(&self) -> Vec<(String, Entry)> {
        let entries = self.specs.iter().filter_map(|spec| match spec.program {
            Program::Entry(entry) => Some((spec.name.clone(), entry)),
            Program::Command(_) => None,
        });
        entries.collect()
    }

    fn hook(mut self, kind: hooks::Kind, hook: hooks::Hook) -> Self {
        self.hooks.push((kind, hook));
        self
    }

    /// Runs `f` before the first child is started; `start` waits for it.
    pub fn on_before_start(self, f: impl FnOnce(&Runtime) + Send + 'static) -> Self {
        let mut f = Some(f);
        self.hook(
            hooks::Kind::BeforeStart,
            Box::new(move |runtime, _| {
                if let (Some(f), Some(runtime)) = (f.take(), runtime) {
                    f(runtime);
                }
            }),
        )
    }

    /// Runs `f` once all children were started.
    ///
    /// Each hook has a thread of its own, so one that never returns delays nothing, and none holds
    /// a restart or a stop up.
    pub fn on_after_start(self, f: impl FnOnce(&Runtime) + Send + 'static) -> Self {
        let mut f = Some(f);
        self.hook(
            hooks::Kind::AfterStart,
            Box::new(move |runtime, _| {
                if let (Some(f), Some(runtime)) = (f.take(), runtime) {
                    f(runtime);
                }
            }),
        )
    }

    /// Runs `f` with a child's name when that child is about to be told to stop.
    pub fn on_before_child_stop(self, f: impl FnMut(&Runtime, &str) + Send + 'static) -> Self {
        self.hook(hooks::Kind::BeforeChildStop, named(f))
    }

    /// Runs `f` with a child's name when that child is about to be started again.
    pub fn on_before_restart(self, f: impl FnMut(&Runtime, &str) + Send + 'static) -> Self {
        self.hook(hooks::Kind::BeforeRestart, named(f))
    }

    /// Runs `f` with a child's name when that child was started again.
    pub fn on_after_restart(self, f: impl FnMut(&Runtime, &str) + Send + 'static) -> Self {
        self.hook(hooks::Kind::AfterRestart, named(f))
    }

    /// Runs `f` when a child's process ended, for whatever reason.
    pub fn on_child_exit(self, mut f: impl FnMut(&Runtime, &ChildStatus) + Send + 'static) -> Self {
        self.hook(
            hooks::Kind::ChildExit,
            Box::new(move |runtime, event| {
                if let (Some(runtime), Event::Exit(status)) = (runtime, event) {
                    f(runtime, status);
                }
            }),
        )
    }

    /// Runs `f` after all children ended and the channels are gone; the end of the shutdown waits
    /// for it.
    pub fn on_after_shutdown(self, f: impl FnOnce() + Send + 'static) -> Self {
        let mut f = Some(f);
        self.hook(
            hooks::Kind::AfterShutdown,
            Box::new(move |_, _| {
                if let Some(f) = f.take() {
                    f();
                }
            }),
        )
    }

    /// Becomes the main process of the domain, makes the children's channels and starts them.
    ///
    /// Channels that a killed main left are taken over with their messages; other files of dead
    /// processes are removed. Installs no signal handler.
    ///
    /// In a process that was itself started as a child this never returns; see
    /// [`child`](Self::child). Such a process whose builder has another domain, or no such child,
    /// exits with 2: it must not start children of its own by mistake, say under a test runner.
    ///
    /// # Errors
    /// `DomainTaken` with the pid of its main process, `BadName`, `AlreadyExists` for a child that
    /// is named twice or a channel that a living process holds, `TooManyProcesses`, `NoSpace`,
    /// `Stopping` if the hook before the start shuts down. A child that does not start is no error
    /// here; see [`Runtime::children`].
    pub fn start(self) -> Result<Runtime> {
        child::enter(&self.domain, &self.entries());
        check_specs(&self.specs)?;
        let roster = roster::join(&self.domain, true)?;
        let names: Vec<&str> = self.specs.iter().map(|spec| spec.name.as_str()).collect();
        let control = Arc::new(Control::create(&roster, &names)?);
        let stopping = Arc::new(AtomicBool::new(false));
        let mut owned = HashMap::new();
        for spec in &self.specs {
            for (kind, mode) in [("active", Mode::Active), ("passive", Mode::Passive)] {
                let name = format!("{}-{kind}", spec.name);
                let plan = Plan {
                    capacity: checked_capacity(spec.capacity),
                    host_mode: Mode::Any,
                    guest_mode: mode,
                    keep_undelivered: true,
                };
                let mut attachment = Attachment::create(&roster, &name, plan, None)?;
                attachment.reopen_guest();
                attachment.forget_type();
                let flag = stopping.clone();
                attachment.set_stopping(Arc::new(move || flag.load(Ordering::Acquire)));
                let lent = Arc::new(AtomicBool::new(false));
                owned.insert(
                    name,
                    Owned {
                        attachment: Arc::new(attachment),
                        lent,
                    },
                );
            }
        }
        sweep(&roster);
        let channels = |child: &str| {
            let of = |kind| {
                owned
                    .get(&format!("{child}-{kind}"))
                    .map(|o: &Owned| o.attachment.clone())
            };
            [of("active"), of("passive")]
                .into_iter()
                .flatten()
                .collect()
        };
        let hooks = Hooks::new(self.hooks);
        let supervisor = Supervisor::new(
            self.specs,
            roster.clone(),
            control.clone(),
            hooks.clone(),
            channels,
        )?;
        let inner = Arc::new(Inner {
            domain: self.domain,
            canary: roster.canary(),
            roster: Mutex::new(Some(roster)),
            control: Mutex::new(Some(control)),
            owned: Mutex::new(owned),
            store: Mutex::new(None),
            supervisor: supervisor.handle(),
            hooks,
            stopping,
            shutdown: Mutex::new(Shutdown::Ahead),
            over: Condvar::new(),
        });
        // Dropping it undoes what was done, should the rest fail.
        let runtime = Runtime {
            _guard: Some(Arc::new(ShutdownOnDrop(inner.clone()))),
            inner,
        };
        let hooks = &runtime.inner.hooks;
        hooks.start(&runtime)?;
        hooks.run_and_wait(hooks::Kind::BeforeStart, Event::BeforeStart);
        if runtime.stopping() {
            return Err(Error::Stopping);
        }
        supervisor.start()?;
        hooks.post(hooks::Kind::AfterStart, Event::AfterStart);
        Ok(runtime)
    }

    /// Starts, waits for SIGINT, SIGTERM or the end of all children, and shuts down. Without
    /// children, only a signal ends it. A second SIGINT or SIGTERM ends the process at once. After
    /// it returned they do again what they did before.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn run(self) -> Result<()> {
        // A child goes its own way, without handlers.
        child::enter(&self.domain, &self.entries());
        let io = |e| Error::io("signals", e);
        // Before the start, so that no signal meets a half-started runtime.
        let signals = Signals::install().map_err(io)?;
        let has_children = !self.specs.is_empty();
        let runtime = self.start()?;
        if has_children {
            let all_ended = signals.other_reason().map_err(io)?;
            runtime.inner.supervisor.tell_when_all_ended(all_ended);
        }
        signals.wait().map_err(io)?;
        runtime.shutdown()
    }
}

fn named(mut f: impl FnMut(&Runtime, &str) + Send + 'static) -> hooks::Hook {
    Box::new(move |runtime, event| {
        if let (Some(runtime), Event::Child(name)) = (runtime, event) {
            f(runtime, name);
        }
    })
}

fn check_specs(specs: &[ChildSpec]) -> Result<()> {
    for (i, spec) in specs.iter().enumerate() {
        // The channels' names must be names, too.
        crate::domain::check_name(&spec.name)?;
        crate::domain::check_name(&format!("{}-passive", spec.name)).map_err(|_| {
            Error::BadName {
                name: spec.name.clone(),
            }
        })?;
        if specs[..i].iter().any(|other| other.name == spec.name) {
            return Err(Error::AlreadyExists {
                name: spec.name.clone(),
            });
        }
    }
    Ok(())
}

/// Removes the channels of the domain that no living process holds. What cannot be judged stays.
fn sweep(roster: &Roster) {
    for name in roster.directory().channels().unwrap_or_default() {
        if let Ok(segment) = Segment::open(roster.directory(), &format!("{name}{CHANNEL}"), None) {
            let _ = crate::channel::attachment::sweep(&segment, roster);
        }
    }
}
