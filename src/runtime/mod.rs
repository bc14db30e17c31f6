//! A main process, its children, and what happens to them.

mod builder;
mod child;
mod control;
mod desk;
mod hooks;
mod signals;
mod spec;
mod supervised;
mod supervisor;

pub use builder::RuntimeBuilder;
pub use child::Child;
pub use spec::{ChildSpec, ChildStatus, Restart};

use crate::channel::attachment::{Attachment, Plan, TypeStamp};
use crate::channel::{Channel, DEFAULT_CAPACITY, Mode, Wait, checked_capacity};
use crate::codec::Message;
use crate::domain::SHARED;
use crate::error::{Error, Result};
use crate::roster::Roster;
use crate::store::Store;
use crate::sys::ForkCanary;
use control::Control;
use core::fmt;
use core::time::Duration;
use desk::{Handle, Order};
use hooks::{Event, Hooks, Kind};
use spec::Program;
use std::collections::HashMap;
use std::error::Error as StdError;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};

/// What a child's function returns: an error is printed on stderr, and the process exits with 1.
pub type ChildResult = core::result::Result<(), Box<dyn StdError + Send + Sync>>;

type Entry = child::EntryFn;

/// How long handlers and hooks that still run at the end may take.
const LAST_HANDLERS: Duration = Duration::from_secs(1);

/// The shared store of a runtime's domain, opened once for a process.
fn open_shared(store: &mut Option<Store>, domain: &str) -> Result<Store> {
    if let Some(store) = store {
        return Ok(store.clone());
    }
    let opened = Store::options().domain(domain).open_or_create(SHARED)?;
    Ok(store.insert(opened).clone())
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
    supervisor: Handle,
    hooks: Hooks,
    stopping: Arc<AtomicBool>,
    /// How far the shutdown is; locked while it goes on, but for the user's code.
    shutdown: Mutex<Shutdown>,
    over: Condvar,
}

#[derive(PartialEq)]
enum Shutdown {
    Ahead,
    /// Only listeners and hooks are waited for.
    LastCalls,
    Over,
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
    /// half its grace and SIGKILL after the whole. In a hook before the start it waits for nothing:
    /// the child is stopped as soon as it was started.
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
    /// [store](Self::store). Receivers obtained from this runtime return `Stopping` once drained.
    /// Hooks and listeners that are still running are waited for, for a second at most. Only the
    /// first call does anything; others wait until it is over, unless they come from a hook or a
    /// listener's handler, for which it waits itself.
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
        let lock = || self.shutdown.lock().unwrap_or_else(|e| e.into_inner());
        let mut shutdown = lock();
        if *shutdown != Shutdown::Ahead {
            let is_waited_for = self.hooks.is_one_here() || crate::listener::is_one_here();
            while *shutdown != Shutdown::Over && !is_waited_for {
                let woken = self.over.wait(shutdown);
                shutdown = woken.unwrap_or_else(|e| e.into_inner());
            }
            return Ok(());
        }
        self.stopping.store(true, Ordering::Release);
        let control = || self.control.lock().unwrap_or_else(|e| e.into_inner());
        if let Some(control) = &*control() {
            control.header().stopping.store(1, Ordering::Relaxed);
        }
        for owned in self.owned().values() {
            owned.attachment.announce();
        }
        self.supervisor.shut_down();
        for (_, owned) in self.owned().drain() {
            // Also if its end is still lent: the file goes now, the end when it is dropped.
            owned.attachment.unlink();
        }
        let roster = self.roster.lock().unwrap_or_else(|e| e.into_inner()).take();
        *self.store.lock().unwrap_or_else(|e| e.into_inner()) = None;
        let removed = Store::options().domain(&self.domain).remove(SHARED);
        // Last of what has a name: from here on there may be another main, with a store of its own.
        *control() = None;
        *shutdown = Shutdown::LastCalls;
        drop(shutdown);
        if let Some(roster) = roster {
            // They hold ends until they notice, and the process may exit right after us.
            crate::listener::wait_for_all_of(&roster, LAST_HANDLERS);
        }
        self.hooks
            .run_and_wait(Kind::AfterShutdown, Event::AfterShutdown);
        self.hooks.finish(LAST_HANDLERS);
        *lock() = Shutdown::Over;
        self.over.notify_all();
        match removed {
            // Nobody asked for it.
            Err(Error::NotFound { .. }) => Ok(()),
            removed => removed,
        }
    }
}
