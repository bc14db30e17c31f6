//! A main process, its children, and what happens to them.

mod child;
mod control;
mod hooks;
mod signals;
mod supervisor;

pub use child::Child;

use crate::channel::attachment::{Attachment, Plan, TypeStamp};
use crate::channel::{Channel, DEFAULT_CAPACITY, Mode, Wait, checked_capacity};
use crate::codec::Message;
use crate::domain::{CHANNEL, SHARED};
use crate::error::{Error, Result};
use crate::roster::{self, Roster};
use crate::segment::Segment;
use crate::store::Store;
use crate::sys::ForkCanary;
use control::Control;
use core::fmt;
use core::time::Duration;
use hooks::{Event, Hooks};
use signals::Signals;
use std::collections::HashMap;
use std::error::Error as StdError;
use std::ffi::OsString;
use std::process::{Command, ExitStatus};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use supervisor::{Order, Supervisor};

/// What a child's function returns: an error is printed on stderr, and the process exits with 1.
pub type ChildResult = core::result::Result<(), Box<dyn StdError + Send + Sync>>;

type Entry = child::EntryFn;

/// How long handlers and hooks that still run at the end may take.
const LAST_HANDLERS: Duration = Duration::from_secs(1);

/// When a child that ended is started again. A stop always wins over a restart that is due.
///
/// The default is `OnFailure { max: 5, backoff: 100 ms }`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Restart {
    /// Not at all.
    Never,
    /// After an exit other than 0, a signal, or a failure to start: up to `max` times in a row,
    /// after `backoff`, which doubles each time up to 10 s. A child that lived for 60 s starts
    /// counting anew.
    OnFailure {
        /// Restarts in a row before it is given up.
        max: u32,
        /// Pause before the first.
        backoff: Duration,
    },
    /// After every end, after a pause.
    Always {
        /// The pause.
        backoff: Duration,
    },
}

impl Default for Restart {
    fn default() -> Self {
        Restart::OnFailure {
            max: 5,
            backoff: Duration::from_millis(100),
        }
    }
}

/// What became of a child.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ChildStatus {
    /// Its name.
    pub name: String,
    /// Its pid while it runs.
    pub pid: Option<u32>,
    /// How often it was started.
    pub generation: u32,
    /// How often it was started again: after a failure or by request.
    pub restarts: u32,
    /// How its last process ended. `None` if none did, or if its end could not be learned because
    /// this program ignores `SIGCHLD`.
    pub last_exit: Option<ExitStatus>,
    /// Why it could not be started, if that is what happened last.
    pub last_error: Option<String>,
    /// Whether it will run again without being asked: it runs, or a restart is due.
    pub running: bool,
}

/// One child, in detail. See [`RuntimeBuilder::spec`].
///
/// ```
/// use ringlane::{ChildSpec, Restart};
/// use std::process::Command;
/// use std::time::Duration;
///
/// let spec = ChildSpec::command("clock", Command::new("/usr/bin/clock"))
///     .restart(Restart::Always { backoff: Duration::from_secs(1) })
///     .stop_grace(Duration::from_secs(3));
/// # let _ = spec;
/// ```
#[derive(Debug)]
pub struct ChildSpec {
    name: String,
    program: Program,
    restart: Restart,
    stop_grace: Duration,
    capacity: usize,
    args: Option<Vec<OsString>>,
}

#[derive(Debug)]
enum Program {
    Entry(Entry),
    Command(Box<Command>),
}

impl ChildSpec {
    fn new(name: &str, program: Program) -> Self {
        ChildSpec {
            name: name.to_string(),
            program,
            restart: Restart::default(),
            stop_grace: Duration::from_secs(10),
            capacity: DEFAULT_CAPACITY,
            args: None,
        }
    }

    /// A child that runs `f` in a process of its own: this program, started again.
    pub fn entry(name: &str, f: fn(Child) -> ChildResult) -> Self {
        Self::new(name, Program::Entry(f))
    }

    /// A child that is any program. Its standard input will be null, and it gets a process group of
    /// its own; all else is as `command` says.
    pub fn command(name: &str, command: Command) -> Self {
        Self::new(name, Program::Command(Box::new(command)))
    }

    /// When it is started again.
    pub fn restart(mut self, restart: Restart) -> Self {
        self.restart = restart;
        self
    }

    /// How long it may take to stop before it is killed; 10 s if nothing is said. After half of it
    /// SIGTERM is sent; to a command that never attached at once.
    pub fn stop_grace(mut self, grace: Duration) -> Self {
        self.stop_grace = grace;
        self
    }

    /// Bytes of each direction of its two channels; 256 KiB if nothing is said.
    pub fn capacity(mut self, bytes: usize) -> Self {
        self.capacity = bytes;
        self
    }

    /// The arguments that an entry's process is started with; main's own if nothing is said. Not
    /// for a command, which has its own.
    pub fn args<I, S>(mut self, args: I) -> Self
    where
        I: IntoIterator<Item = S>,
        S: Into<OsString>,
    {
        self.args = Some(args.into_iter().map(Into::into).collect());
        self
    }
}

/// A runtime to be. See [`Runtime::builder`].
#[must_use = "nothing is started before `start` or `run`"]
pub struct RuntimeBuilder {
    domain: String,
    specs: Vec<ChildSpec>,
    hooks: Vec<(hooks::Kind, hooks::Hook)>,
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
            shutdown: Mutex::new(false),
        });
        // Dropping it undoes what was done, should the rest fail.
        let runtime = Runtime {
            _guard: Some(Arc::new(ShutdownOnDrop(inner.clone()))),
            inner,
        };
        let hooks = &runtime.inner.hooks;
        hooks.start(&runtime)?;
        hooks.run_and_wait(Event::BeforeStart);
        if runtime.stopping() {
            return Err(Error::Stopping);
        }
        supervisor.start()?;
        hooks.post(Event::AfterStart);
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

/// The shared store of a runtime's domain, opened once for a process.
fn open_shared(store: &mut Option<Store>, domain: &str) -> Result<Store> {
    if let Some(store) = store {
        return Ok(store.clone());
    }
    let opened = Store::options().domain(domain).open_or_create(SHARED)?;
    Ok(store.insert(opened).clone())
}

/// Removes the channels of the domain that no living process holds. What cannot be judged stays.
fn sweep(roster: &Roster) {
    for name in roster.directory().channels().unwrap_or_default() {
        if let Ok(segment) = Segment::open(roster.directory(), &format!("{name}{CHANNEL}"), None) {
            crate::channel::attachment::sweep(&segment, roster);
        }
    }
}

/// The main process of a domain: starts its children, restarts them, gives them channels, and stops
/// them. Cheap to clone; dropping the last clone shuts down.
///
/// ```no_run
/// use ringlane::{Child, ChildResult, Runtime};
///
/// fn echo(child: Child) -> ChildResult {
///     let mut channel = child.active::<str>()?;
///     while let Ok(line) = channel.recv() {
///         channel.send(line)?;
///     }
///     Ok(())
/// }
///
/// fn main() -> ringlane::Result<()> {
///     let runtime = Runtime::builder("demo").child("echo", echo).start()?;
///     let mut channel = runtime.get_channel::<str>("echo-active")?;
///     channel.send("hello")?;
///     assert_eq!(channel.recv()?, "hello");
///     runtime.shutdown()
/// }
/// ```
#[derive(Clone)]
pub struct Runtime {
    inner: Arc<Inner>,
    /// Hooks are given a runtime without it, so that they do not keep it running.
    _guard: Option<Arc<ShutdownOnDrop>>,
}

struct Inner {
    domain: String,
    canary: ForkCanary,
    /// Taken at shutdown: the domain goes then, however long a handle or a hook stays.
    roster: Mutex<Option<Arc<Roster>>>,
    /// Taken at shutdown.
    control: Mutex<Option<Arc<Control>>>,
    owned: Mutex<HashMap<String, Owned>>,
    /// Made when it is first asked for.
    store: Mutex<Option<Store>>,
    supervisor: supervisor::Handle,
    hooks: Hooks,
    stopping: Arc<AtomicBool>,
    /// Whether the shutdown is done; locked while it goes on.
    shutdown: Mutex<bool>,
}

/// A channel of a child: main's end, and whether it was taken.
struct Owned {
    attachment: Arc<Attachment>,
    lent: Arc<AtomicBool>,
}

struct ShutdownOnDrop(Arc<Inner>);

impl Drop for ShutdownOnDrop {
    fn drop(&mut self) {
        // A fork of main has no children.
        if !self.0.canary.forked() {
            let _ = self.0.shut_down();
        }
    }
}

impl fmt::Debug for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Runtime({:?})", self.inner.domain)
    }
}

impl Runtime {
    /// A runtime for `domain`, to be told what to run. Every domain has one main process at a time.
    pub fn builder(domain: &str) -> RuntimeBuilder {
        RuntimeBuilder {
            domain: domain.to_string(),
            specs: Vec::new(),
            hooks: Vec::new(),
        }
    }

    /// Main's end of a channel of a child, `{child}-active` or `{child}-passive`; else opens the
    /// channel of that name in the domain, as its guest.
    ///
    /// The end of a child's channel is moved out: dropping it hands it back, and it can be had
    /// again. The channel stays until the runtime shuts down.
    ///
    /// # Errors
    /// `EndTaken` with the holder's pid, this process's own if the end was moved out before: share
    /// a `Mutex<Sender>` then; `Stopping` after the shutdown. Else as
    /// [`ChannelOptions::open`](crate::ChannelOptions::open).
    pub fn get_channel<T: Message + ?Sized>(&self, name: &str) -> Result<Channel<T>> {
        let stamp = TypeStamp::of::<T>();
        let owned = {
            let owned = self.inner.owned();
            owned
                .get(name)
                .map(|o| (o.attachment.clone(), o.lent.clone()))
        };
        let Some((attachment, lent)) = owned else {
            let roster = self.inner.roster()?;
            let mut attachment = Attachment::open(&roster, name, Some(&stamp), true)?;
            attachment.set_stopping(self.stopping_flag());
            return Channel::new(Arc::new(attachment), None, Wait::Adaptive);
        };
        if lent.swap(true, Ordering::AcqRel) {
            return Err(Error::EndTaken {
                name: name.to_string(),
                pid: std::process::id(),
            });
        }
        if let Err(e) = attachment.stamp(&stamp) {
            lent.store(false, Ordering::Release);
            return Err(e);
        }
        Channel::new(attachment, Some(lent), Wait::Adaptive)
    }

    /// Creates a channel in the domain, as its host, for a child to open with
    /// [`Child::get_channel`]. It is the caller's: dropping it closes it.
    ///
    /// # Errors
    /// `Stopping` after the shutdown. Else as
    /// [`ChannelOptions::create`](crate::ChannelOptions::create).
    pub fn set_channel<T: Message + ?Sized>(&self, name: &str) -> Result<Channel<T>> {
        let plan = Plan {
            capacity: checked_capacity(DEFAULT_CAPACITY),
            host_mode: Mode::Any,
            guest_mode: Mode::Any,
            keep_undelivered: true,
        };
        let stamp = TypeStamp::of::<T>();
        let roster = self.inner.roster()?;
        let mut attachment = Attachment::create(&roster, name, plan, Some(&stamp))?;
        attachment.set_stopping(self.stopping_flag());
        Channel::new(Arc::new(attachment), None, Wait::Adaptive)
    }

    fn stopping_flag(&self) -> crate::channel::attachment::Stopping {
        let stopping = self.inner.stopping.clone();
        Arc::new(move || stopping.load(Ordering::Acquire))
    }

    /// The store that main and its children share: `shared` in the domain. It is made when one of
    /// them first asks for it, outlives a main that is killed, and goes when main shuts down.
    ///
    /// ```no_run
    /// # fn child(child: ringlane::Child) -> ringlane::ChildResult {
    /// # let runtime = ringlane::Runtime::builder("demo").start()?;
    /// runtime.store()?.set("greeting", "hello")?;
    /// // In a child:
    /// assert_eq!(child.store()?.get::<str>("greeting")?.as_deref(), Some("hello"));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `Stopping` after the shutdown, `Forked`. Else as
    /// [`StoreOptions::open_or_create`](crate::StoreOptions::open_or_create).
    pub fn store(&self) -> Result<Store> {
        self.check_fork()?;
        let mut store = self.inner.store.lock().unwrap_or_else(|e| e.into_inner());
        // Under the lock, which the shutdown takes after the roster.
        self.inner.roster()?;
        open_shared(&mut store, &self.inner.domain)
    }

    /// The names of all channels in the domain, sorted.
    ///
    /// # Errors
    /// `Stopping` after the shutdown, `Io`.
    pub fn channels(&self) -> Result<Vec<String>> {
        self.inner.roster()?.directory().channels()
    }

    /// All children, in the order in which they were added.
    pub fn children(&self) -> Vec<ChildStatus> {
        self.inner.supervisor.statuses()
    }

    /// Has a child stopped and started again, and returns at once. One that ended for good is
    /// started again. Counts as no failure.
    ///
    /// # Errors
    /// `NotFound`, `Stopping` once the runtime shuts down, `Forked`.
    pub fn restart(&self, child: &str) -> Result<()> {
        let index = self.index(child)?;
        self.inner.supervisor.order(Order::Restart(index))
    }

    /// Stops a child for good, and waits until it ended: it is told at once, gets SIGTERM after
    /// half its grace and SIGKILL after the whole.
    ///
    /// # Errors
    /// `NotFound`, `Stopping` once the runtime shuts down, `Forked`.
    pub fn stop(&self, child: &str) -> Result<()> {
        let index = self.index(child)?;
        self.inner.supervisor.stop(index)
    }

    /// Waits until a child ended for good: it was stopped, its function returned and nothing starts
    /// it again, or it failed too often.
    ///
    /// # Errors
    /// `NotFound`, `Forked`.
    pub fn wait(&self, child: &str) -> Result<ChildStatus> {
        let index = self.index(child)?;
        Ok(self.inner.supervisor.wait(index))
    }

    /// Whether the runtime shuts down, or did. Loops in hooks should ask.
    pub fn stopping(&self) -> bool {
        self.inner.stopping.load(Ordering::Acquire)
    }

    /// Stops all children at once, waits for their end, and removes their channels and the
    /// [store](Self::store). Receivers
    /// obtained from this runtime return `Stopping` once drained. Hooks and listeners that are
    /// still running are waited for, for a second at most. Only the first call does anything; others wait for it.
    ///
    /// # Errors
    /// `Forked`.
    pub fn shutdown(&self) -> Result<()> {
        self.check_fork()?;
        self.inner.shut_down()
    }

    fn index(&self, child: &str) -> Result<usize> {
        self.check_fork()?;
        self.inner.supervisor.index(child)
    }

    /// A fork of main has no supervisor, whom these calls would wait for.
    fn check_fork(&self) -> Result<()> {
        if self.inner.canary.forked() {
            return Err(Error::Forked);
        }
        Ok(())
    }
}

impl Inner {
    fn roster(&self) -> Result<Arc<Roster>> {
        let roster = self.roster.lock().unwrap_or_else(|e| e.into_inner());
        roster.clone().ok_or(Error::Stopping)
    }

    fn owned(&self) -> std::sync::MutexGuard<'_, HashMap<String, Owned>> {
        self.owned.lock().unwrap_or_else(|e| e.into_inner())
    }

    fn shut_down(&self) -> Result<()> {
        let mut done = self.shutdown.lock().unwrap_or_else(|e| e.into_inner());
        if *done {
            return Ok(());
        }
        self.stopping.store(true, Ordering::Release);
        for owned in self.owned().values() {
            owned.attachment.announce();
        }
        self.supervisor.shut_down();
        for (_, owned) in self.owned().drain() {
            // Also if its end is still lent: the file goes now, the end when it is dropped.
            owned.attachment.unlink();
        }
        *self.control.lock().unwrap_or_else(|e| e.into_inner()) = None;
        let roster = self.roster.lock().unwrap_or_else(|e| e.into_inner()).take();
        *self.store.lock().unwrap_or_else(|e| e.into_inner()) = None;
        let removed = Store::options().domain(&self.domain).remove(SHARED);
        *done = true;
        drop(done);
        if let Some(roster) = roster {
            // They hold ends until they notice, and the process may exit right after us.
            crate::listener::wait_for_all_of(&roster, LAST_HANDLERS);
        }
        self.hooks.run_and_wait(Event::AfterShutdown);
        self.hooks.finish(LAST_HANDLERS);
        match removed {
            // Nobody asked for it.
            Err(Error::NotFound { .. }) => Ok(()),
            removed => removed,
        }
    }
}
