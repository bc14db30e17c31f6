//! The passive way of receiving: handlers on a thread of their own.
//!
//! A listener is a thread that owns a [`Receiver`] and hands each message to the handlers whose
//! filter accepts it. One thread keeps the order of messages.

use crate::channel::{Mode, Receiver};
use crate::codec::{Message, Owned};
use crate::error::{Error, RecvError, Result};
use crate::roster::Roster;
use crate::sys::ForkCanary;
use core::borrow::Borrow;
use core::fmt;
use core::time::Duration;
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, Weak};
use std::thread::{JoinHandle, ThreadId};
use std::time::Instant;

/// Hands one message out. Gives what handlers panicked with.
type Deliver<T> = Box<dyn FnMut(Owned<T>) -> Vec<Box<dyn Any + Send>> + Send>;
type OnError = Box<dyn FnMut(Error) + Send>;
/// Ends a listener's sleep.
type Wake = Box<dyn Fn() + Send + Sync>;

impl<T: Message + ?Sized + 'static> Receiver<T> {
    /// Hands every message to `f`, on a new thread. The receiver is given up for it, so the two
    /// ways of receiving exclude each other; [`Listener::stop`] gives it back.
    ///
    /// ```
    /// # let domain = format!("doc-on-receive-{}", std::process::id());
    /// use ringlane::Channel;
    /// use std::sync::mpsc;
    ///
    /// let mut host = Channel::<str>::options().domain(&domain).create("news")?;
    /// let (_, receiver) = Channel::<str>::options().domain(&domain).open("news")?.split();
    ///
    /// let (tx, rx) = mpsc::channel();
    /// let listener = receiver.on_receive(move |line: String| tx.send(line).unwrap())?;
    /// host.send("it works")?;
    /// assert_eq!(rx.recv().unwrap(), "it works");
    /// listener.stop()?;
    /// # Ok::<(), ringlane::Error>(())
    /// ```
    ///
    /// # Errors
    /// `ModeConflict` at an end that only allows `recv`, `Io` if there can be no thread. The
    /// receiver is dropped with either.
    pub fn on_receive(self, mut f: impl FnMut(Owned<T>) + Send + 'static) -> Result<Listener<T>> {
        let deliver = move |value| {
            let outcome = catch_unwind(AssertUnwindSafe(|| f(value)));
            outcome.err().into_iter().collect()
        };
        start(self, Box::new(deliver), Box::new(|_| ()), false)
    }

    /// Says more precisely what to listen for.
    pub fn listener(self) -> ListenerBuilder<T> {
        ListenerBuilder {
            receiver: self,
            handlers: Vec::new(),
            on_error: Box::new(|_| ()),
            at_least_once: false,
        }
    }
}

/// Handlers to be.
///
/// ```
/// # let domain = format!("doc-listener-{}", std::process::id());
/// use ringlane::Channel;
/// use std::sync::mpsc;
///
/// let mut host = Channel::<u32>::options().domain(&domain).create("numbers")?;
/// let (_, receiver) = Channel::<u32>::options().domain(&domain).open("numbers")?.split();
///
/// let (tx, rx) = mpsc::channel();
/// let even = tx.clone();
/// let listener = receiver
///     .listener()
///     .on(|n| n % 2 == 0, move |n| even.send(format!("{n} is even")).unwrap())
///     .on(|n| n % 3 == 0, move |n| tx.send(format!("{n} divides by 3")).unwrap())
///     .on_error(|e| eprintln!("{e}"))
///     .start()?;
/// host.send_all([1, 2, 6])?;
/// let said: Vec<_> = rx.iter().take(3).collect();
/// assert_eq!(said, ["2 is even", "6 is even", "6 divides by 3"]);
/// listener.stop()?;
/// # Ok::<(), ringlane::Error>(())
/// ```
#[must_use = "nothing is listened for before `start`"]
pub struct ListenerBuilder<T: Message + ?Sized> {
    receiver: Receiver<T>,
    handlers: Vec<Handler<T>>,
    on_error: OnError,
    at_least_once: bool,
}

struct Handler<T: ?Sized> {
    filter: Box<dyn FnMut(&T) -> bool + Send>,
    handle: Box<dyn FnMut(&T) + Send>,
}

impl<T: Message + ?Sized + 'static> ListenerBuilder<T> {
    /// Hands each message that `filter` accepts to `f`. Of several handlers each gets every message
    /// that its own filter accepts, in the order in which they were added.
    pub fn on(
        mut self,
        filter: impl FnMut(&T) -> bool + Send + 'static,
        f: impl FnMut(&T) + Send + 'static,
    ) -> Self {
        self.handlers.push(Handler {
            filter: Box::new(filter),
            handle: Box::new(f),
        });
        self
    }

    /// Tells `f` what is not a message: `PeerDied` and `PeerRestarted`, messages that do not
    /// decode, and `HandlerPanicked` for a handler that did, or a message as it was decoded or
    /// dropped, after all of which the listener goes on; and what ended it,
    /// unless that was [`stop`](Listener::stop). Nothing is told if nothing is said here.
    pub fn on_error(mut self, f: impl FnMut(Error) + Send + 'static) -> Self {
        self.on_error = Box::new(f);
        self
    }

    /// Takes a message out of the ring after its handlers ran and not before, so that a process
    /// killed in a handler leaves the message to its successor. A handler that panics had its
    /// message. Handlers are not told whether a message comes again; see
    /// [`recv_ref`](Receiver::recv_ref) for that.
    pub fn at_least_once(mut self) -> Self {
        self.at_least_once = true;
        self
    }

    /// Starts the thread.
    ///
    /// # Errors
    /// `ModeConflict` at an end that only allows `recv`, `Io` if there can be no thread. The
    /// receiver is dropped with either.
    pub fn start(self) -> Result<Listener<T>> {
        let mut handlers = self.handlers;
        let deliver = move |value: Owned<T>| {
            let mut panics = Vec::new();
            for handler in &mut handlers {
                let handled = catch_unwind(AssertUnwindSafe(|| {
                    let value: &T = value.borrow();
                    if (handler.filter)(value) {
                        (handler.handle)(value);
                    }
                }));
                panics.extend(handled.err());
            }
            let dropped = catch_unwind(AssertUnwindSafe(|| drop(value)));
            panics.extend(dropped.err());
            panics
        };
        start(
            self.receiver,
            Box::new(deliver),
            self.on_error,
            self.at_least_once,
        )
    }
}

/// A running listener.
///
/// It goes on until the channel is closed, this process is asked to stop, or [`stop`](Self::stop).
/// Dropping this lets it go on without it. A process that exits ends its listeners, between two
/// messages if a [`Runtime`](crate::Runtime) child's function returned, and anywhere otherwise.
pub struct Listener<T: Message + ?Sized> {
    running: Arc<Running>,
    wake: Wake,
    thread: Option<JoinHandle<Ended<T>>>,
    canary: ForkCanary,
}

/// What a listener's thread leaves: the receiver, unless nobody wants it, and what ended it.
struct Ended<T: Message + ?Sized>(Option<Receiver<T>>, Result<()>);

/// What a listener's thread and its handle share.
struct Running {
    stop: Arc<AtomicBool>,
    /// The handle was dropped: nobody will ask for the receiver.
    detached: AtomicBool,
    thread: OnceLock<ThreadId>,
}

impl<T: Message + ?Sized> Listener<T> {
    /// Ends the listener after the message it is working on, and gives the receiver back.
    ///
    /// # Errors
    /// `Reentrant` from inside a handler of this listener: it then ends once that handler is done.
    /// `Stopping` while a child's process exits, when its receivers are given up; `Forked`.
    pub fn stop(mut self) -> Result<Receiver<T>> {
        if self.canary.forked() {
            return Err(Error::Forked);
        }
        self.running.stop.store(true, Ordering::Release);
        (self.wake)();
        let Ended(receiver, _) = self.ended()?;
        // The thread keeps it while this handle lives, unless the process is about to exit.
        receiver.ok_or(Error::Stopping)
    }

    /// Waits until the listener ends by itself.
    ///
    /// # Errors
    /// What ended it, if that was neither `Closed` nor `Stopping`; `Reentrant` from inside a
    /// handler of this listener; `Forked`.
    pub fn join(mut self) -> Result<()> {
        if self.canary.forked() {
            // Its thread did not come along, and would be waited for for ever.
            return Err(Error::Forked);
        }
        self.ended()?.1
    }

    fn ended(&mut self) -> Result<Ended<T>> {
        let thread = self
            .thread
            .take()
            .expect("taken only here, by calls that consume the handle");
        if thread.thread().id() == current() {
            return Err(Error::Reentrant);
        }
        thread.join().map_err(|panic| panicked("listener", &*panic))
    }
}

fn current() -> ThreadId {
    std::thread::current().id()
}

impl<T: Message + ?Sized> Drop for Listener<T> {
    fn drop(&mut self) {
        self.running.detached.store(true, Ordering::Release);
        if self.canary.forked() {
            // There is no such thread here, and one of ours may have its stack and its number.
            std::mem::forget(self.thread.take());
        }
    }
}

impl<T: Message + ?Sized> fmt::Debug for Listener<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Listener({:?})",
            self.thread.as_ref().map(JoinHandle::thread)
        )
    }
}

impl<T: Message + ?Sized> fmt::Debug for ListenerBuilder<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "ListenerBuilder({:?}, {} handlers)",
            self.receiver,
            self.handlers.len()
        )
    }
}

fn start<T: Message + ?Sized + 'static>(
    mut receiver: Receiver<T>,
    mut deliver: Deliver<T>,
    mut on_error: OnError,
    at_least_once: bool,
) -> Result<Listener<T>> {
    let name = receiver.name().to_string();
    if receiver.mode() == Mode::Active {
        return Err(Error::ModeConflict {
            name,
            mode: Mode::Active,
        });
    }
    let stop = Arc::new(AtomicBool::new(false));
    receiver.enter_passive(stop.clone());
    let running = Arc::new(Running {
        stop,
        detached: AtomicBool::new(false),
        thread: OnceLock::new(),
    });
    let wake = receiver.waker();
    let registered = register(
        running.clone(),
        Box::new(receiver.waker()),
        receiver.roster_of_runtime(),
    );
    let ours = running.clone();
    let canary = ForkCanary::new().map_err(|e| Error::io("a listener", e))?;
    let body = move || {
        let _ = ours.thread.set(current());
        let outcome = listen(
            &mut receiver,
            &mut deliver,
            &mut on_error,
            at_least_once,
            &ours.stop,
        );
        receiver.leave_passive();
        let kept = (!ours.detached.load(Ordering::Acquire)).then_some(receiver);
        // Before we count as ended, for then the process may exit: what the handlers hold may be a
        // half of a channel, too.
        drop((deliver, on_error));
        drop(registered);
        Ended(kept, outcome)
    };
    let thread = std::thread::Builder::new()
        .name(format!("on {name}"))
        .spawn(body)
        .map_err(|e| Error::io("a listener's thread", e))?;
    Ok(Listener {
        running,
        wake: Box::new(wake),
        thread: Some(thread),
        canary,
    })
}

/// Receives and delivers until the end. `Err` if the end was neither `Closed`, `Stopping` nor a
/// stop.
fn listen<T: Message + ?Sized>(
    receiver: &mut Receiver<T>,
    deliver: &mut Deliver<T>,
    on_error: &mut OnError,
    at_least_once: bool,
    stop: &AtomicBool,
) -> Result<()> {
    let name = receiver.name().to_string();
    // A panic in the error handler must not end the listener either, and has nobody to go to.
    let mut report = |error| drop(catch_unwind(AssertUnwindSafe(|| on_error(error))));
    while !stop.load(Ordering::Acquire) {
        // What makes a value of a message may panic, too: that message is done with.
        let panics = if at_least_once {
            receiver.recv_ref().and_then(|message| {
                let value = match catch_unwind(AssertUnwindSafe(|| message.get())) {
                    Ok(value) => value,
                    Err(panic) => return Ok(vec![panic]),
                };
                let value = value.map_err(|e| match e {
                    Error::Decode(why) => RecvError::Decode(why),
                    other => RecvError::Decode(other.to_string()),
                })?;
                Ok(deliver(value))
            })
        } else {
            catch_unwind(AssertUnwindSafe(|| receiver.recv().map(&mut *deliver)))
                .unwrap_or_else(|panic| Ok(vec![panic]))
        };
        match panics {
            Ok(panics) => panics
                .iter()
                .for_each(|panic| report(panicked(&name, &**panic))),
            Err(error) if crate::channel::is_passed_over(&error) => report(error.into()),
            Err(_) if stop.load(Ordering::Acquire) => {}
            Err(error) => {
                let orderly = matches!(error, RecvError::Closed | RecvError::Stopping);
                report(error.clone().into());
                return if orderly { Ok(()) } else { Err(error.into()) };
            }
        }
    }
    Ok(())
}

pub(crate) fn panicked(name: &str, panic: &(dyn Any + Send)) -> Error {
    let message = panic
        .downcast_ref::<&str>()
        .map(|s| (*s).to_string())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "something that is no text".to_string());
    Error::HandlerPanicked {
        name: name.to_string(),
        message,
    }
}

/// All listeners of this process, so that an orderly exit can end them between two messages.
static LISTENERS: Mutex<Vec<Entry>> = Mutex::new(Vec::new());
static ONE_ENDED: Condvar = Condvar::new();

struct Entry {
    running: Arc<Running>,
    wake: Wake,
    /// That of the runtime which gave the channel out.
    roster: Option<Weak<Roster>>,
}

struct Registered(Arc<Running>);

fn listeners() -> MutexGuard<'static, Vec<Entry>> {
    LISTENERS.lock().unwrap_or_else(|e| e.into_inner())
}

fn register(running: Arc<Running>, wake: Wake, roster: Option<Weak<Roster>>) -> Registered {
    let registered = Registered(running.clone());
    listeners().push(Entry {
        running,
        wake,
        roster,
    });
    registered
}

impl Drop for Registered {
    fn drop(&mut self) {
        listeners().retain(|entry| !Arc::ptr_eq(&entry.running, &self.0));
        ONE_ENDED.notify_all();
    }
}

/// Ends all listeners of this process after the message each is working on; gives up on those
/// that are not done by `timeout`.
pub(crate) fn stop_all(timeout: Duration) {
    for Entry { running, wake, .. } in listeners().iter() {
        // The process is about to exit, so nobody will ask for the receivers.
        running.detached.store(true, Ordering::Release);
        running.stop.store(true, Ordering::Release);
        wake();
    }
    wait_while(timeout, |_| true);
}

/// Waits for the listeners on channels of a runtime that stops, but for the one that calls; gives
/// up on those that are not done by `timeout`.
pub(crate) fn wait_for_all_of(roster: &Arc<Roster>, timeout: Duration) {
    wait_while(timeout, |entry| {
        let its = entry.roster.as_ref().map(Weak::as_ptr);
        its == Some(Arc::as_ptr(roster)) && entry.running.thread.get() != Some(&current())
    });
}

/// Whether this thread is a listener's.
pub(crate) fn is_one_here() -> bool {
    let here = current();
    let all = listeners();
    all.iter()
        .any(|entry| entry.running.thread.get() == Some(&here))
}

/// Waits while there is a listener that counts, at most `timeout`.
fn wait_while(timeout: Duration, counts: impl Fn(&Entry) -> bool) {
    let deadline = Instant::now() + timeout;
    let mut listeners = listeners();
    while listeners.iter().any(&counts) {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        let woken = ONE_ENDED.wait_timeout(listeners, left);
        listeners = woken.unwrap_or_else(|e| e.into_inner()).0;
    }
}
