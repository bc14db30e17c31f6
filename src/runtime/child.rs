//! The child's side: how a process finds out that it is one, and what it can do.

use super::control::Control;
use super::{ChildResult, Entry, LAST_HANDLERS, open_shared};
use crate::channel::attachment::{Attachment, TypeStamp};
use crate::channel::{Channel, Wait};
use crate::codec::Message;
use crate::doorbell::SLICE;
use crate::error::{Error, Result};
use crate::roster;
use crate::store::Store;
use crate::sync::Ordering::*;
use core::fmt;
use core::time::Duration;
use rustix::fs::FileType;
use std::io::Write;
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};
use std::time::Instant;

/// Names the process's place: `KIND:DOMAIN:CHILD:GENERATION:NONCE:FD:INODE`, the last two of main's
/// pipe. It is inherited by a child's own children too, so it counts only together with the nonce,
/// which one process takes, and with the pipe where that cannot be looked at.
pub(super) const VARIABLE: &str = "RINGLANE_CHILD";

/// How long an attaching child waits for a dying predecessor to let go of its ends.
const DYING: Duration = Duration::from_secs(5);

/// A process that a [`Runtime`](crate::Runtime) started: its name, its channels, and the wish to
/// stop or restart.
///
/// A function given to [`RuntimeBuilder::child`](crate::RuntimeBuilder::child) is handed one; a
/// program started by [`command`](crate::RuntimeBuilder::command) gets it from
/// [`Child::current`].
///
/// ```no_run
/// use ringlane::{Child, ChildResult};
///
/// fn worker(child: Child) -> ChildResult {
///     let mut jobs = child.active::<str>()?;
///     // Ends when main asks this process to stop.
///     while let Ok(job) = jobs.recv() {
///         jobs.send(format!("{} did {job}", child.name()))?;
///     }
///     Ok(())
/// }
/// ```
#[derive(Clone)]
pub struct Child {
    inner: Arc<Inner>,
}

struct Inner {
    name: String,
    generation: u32,
    index: usize,
    control: Control,
    roster: Arc<roster::Roster>,
    /// Opened when it is first asked for.
    store: Mutex<Option<Store>>,
}

/// This process's place, once it was taken.
static CURRENT: Mutex<Option<Child>> = Mutex::new(None);

/// What the environment says of this process.
struct Place {
    is_entry: bool,
    domain: String,
    name: String,
    generation: u32,
    nonce: u64,
    life: Life,
}

/// The pipe that main holds open for as long as it lives.
#[derive(Clone, Copy)]
pub(super) struct Life {
    pub(super) fd: i32,
    pub(super) inode: u64,
}

impl Life {
    /// Whether this process has the pipe.
    #[allow(unsafe_code)]
    fn is_held(self) -> bool {
        // SAFETY: only asked what it is; a number that is no descriptor is an error then.
        let found = rustix::fs::fstat(unsafe { BorrowedFd::borrow_raw(self.fd) });
        let is_pipe = |mode| FileType::from_raw_mode(mode) == FileType::Fifo;
        found.is_ok_and(|stat| is_pipe(stat.st_mode) && stat.st_ino == self.inode)
    }
}

fn place() -> Option<Place> {
    read_place(&std::env::var(VARIABLE).ok()?)
}

fn read_place(value: &str) -> Option<Place> {
    let mut parts = value.split(':');
    let mut next = || parts.next();
    Some(Place {
        is_entry: match next()? {
            "entry" => true,
            "command" => false,
            _ => return None,
        },
        domain: next()?.to_string(),
        name: next()?.to_string(),
        generation: next()?.parse().ok()?,
        nonce: next()?.parse().ok()?,
        life: Life {
            // What is negative is no descriptor, and may not even be asked about.
            fd: next()?.parse().ok().filter(|fd| *fd >= 0)?,
            inode: next()?.parse().ok()?,
        },
    })
}

/// The words for a child that is about to be spawned.
pub(super) fn place_for(
    is_entry: bool,
    domain: &str,
    name: &str,
    generation: u32,
    nonce: u64,
    life: Life,
) -> String {
    let kind = if is_entry { "entry" } else { "command" };
    let Life { fd, inode } = life;
    format!("{kind}:{domain}:{name}:{generation}:{nonce}:{fd}:{inode}")
}

/// Takes this process's place. `Ok(None)` if another process has it or had it.
fn take(place: &Place) -> Result<Option<Child>> {
    match attach(place) {
        // All that a child starts inherits the words, and may read them when main is long gone; the
        // pipe it inherits only until the child attaches. A child that closed it first is none then.
        Err(_) if !place.life.is_held() => Ok(None),
        outcome => outcome,
    }
}

fn attach(place: &Place) -> Result<Option<Child>> {
    let mut current = CURRENT.lock().unwrap_or_else(|e| e.into_inner());
    if let Some(child) = &*current {
        // A fork of a child is not that child.
        return Ok((!child.inner.roster.forked()).then(|| child.clone()));
    }
    let roster = roster::join(&place.domain, false)?;
    let control = Control::open(&roster)?;
    let index = control.find(&place.name).ok_or_else(|| Error::NotFound {
        name: place.name.clone(),
    })?;
    let nonce = &control.record(index).nonce;
    if place.nonce == 0
        || nonce
            .compare_exchange(place.nonce, 0, AcqRel, Relaxed)
            .is_err()
    {
        return Ok(None);
    }
    leave_with_main(place.life);
    let inner = Inner {
        name: place.name.clone(),
        generation: place.generation,
        index,
        control,
        roster,
        store: Mutex::new(None),
    };
    inner.control.ring_main();
    let child = Child {
        inner: Arc::new(inner),
    };
    *current = Some(child.clone());
    Ok(Some(child))
}

/// Ends this process when main's end of the pipe closes: the kernel's parent-death signal misses
/// programs that changed their user.
#[allow(unsafe_code)]
fn leave_with_main(life: Life) {
    if !life.is_held() {
        // Whoever stands between main and us closed it, and the number may be somebody else's.
        return;
    }
    // SAFETY: main left this descriptor to us alone, and we took our place only once.
    let pipe = unsafe { OwnedFd::from_raw_fd(life.fd) };
    let _ = rustix::io::fcntl_setfd(&pipe, rustix::io::FdFlags::CLOEXEC);
    let wait = move || {
        let mut byte = [0];
        loop {
            match rustix::io::read(&pipe, &mut byte) {
                Err(rustix::io::Errno::INTR) => {}
                Ok(0) => std::process::exit(1),
                _ => return,
            }
        }
    };
    // Without a thread the signal has to do.
    let _ = std::thread::Builder::new()
        .name("ringlane-main".into())
        .spawn(wait);
}

/// If this process was started as a child of a builder, runs that child's function and exits.
/// Returns if it was not.
pub(super) fn enter(domain: &str, entries: &[(String, Entry)]) {
    let Some(place) = place().filter(|p| p.is_entry) else {
        return;
    };
    let child = match take(&place) {
        Ok(Some(child)) => child,
        // Somebody else's place, inherited with the environment.
        Ok(None) => return,
        Err(e) => refuse(&format!("cannot attach as child {:?}: {e}", place.name)),
    };
    let entry = entries.iter().find(|(name, _)| *name == place.name);
    let Some((_, entry)) = entry.filter(|_| place.domain == domain) else {
        refuse(&format!(
            "started as child {:?} of domain {:?}, but asked to start domain {domain:?} without it",
            place.name, place.domain
        ));
    };
    if RUNNING.swap(true, std::sync::atomic::Ordering::SeqCst) {
        refuse(&format!(
            "child {:?} asked to start its own runtime",
            place.name
        ));
    }
    set_name(&place.name);
    let status = match catch_unwind(AssertUnwindSafe(|| entry(child))) {
        Ok(Ok(())) => 0,
        Ok(Err(e)) => {
            complain(&format!("{}: {e}", place.name));
            1
        }
        // The panic has been printed.
        Err(_) => 101,
    };
    crate::listener::stop_all(LAST_HANDLERS);
    std::process::exit(status);
}

static RUNNING: std::sync::atomic::AtomicBool = std::sync::atomic::AtomicBool::new(false);

/// A process that is a child must never become a main by mistake: it would start children that do
/// the same.
fn refuse(why: &str) -> ! {
    complain(&format!("ringlane: {why}"));
    std::process::exit(2);
}

/// Says it on stderr if anybody listens there. `eprintln` panics if nobody does, and the exit
/// status would be another one.
fn complain(why: &str) {
    let _ = std::io::stderr().write_all(format!("{why}\n").as_bytes());
}

/// So that `ps` shows the child's name and not `exe`.
fn set_name(name: &str) {
    if let Ok(name) = std::ffi::CString::new(name) {
        let _ = rustix::thread::set_name(&name);
    }
}

impl Child {
    /// The place of this process, if a runtime started it. May be called often and anywhere.
    ///
    /// # Errors
    /// `NotAChild` in any other process: in a child's own children too, and in a fork of a child.
    /// Else what [`Channel::open`] can fail with; `NotAChild` instead behind a wrapper that closed
    /// the descriptors which it inherited.
    pub fn current() -> Result<Child> {
        let place = place().ok_or(Error::NotAChild)?;
        take(&place)?.ok_or(Error::NotAChild)
    }

    /// The name that the runtime gave it.
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// How often it was started: 1 for the first time.
    pub fn generation(&self) -> u32 {
        self.inner.generation
    }

    /// This child's end of `{name}-active`, which only allows `recv`.
    ///
    /// A receiver obtained through a `Child` returns `Stopping` once main asked this process to
    /// stop and nothing is left to receive.
    ///
    /// # Errors
    /// As [`get_channel`](Self::get_channel).
    pub fn active<T: Message + ?Sized>(&self) -> Result<Channel<T>> {
        self.get_channel(&format!("{}-active", self.inner.name))
    }

    /// This child's end of `{name}-passive`, which only allows listening:
    /// [`on_receive`](crate::Receiver::on_receive).
    ///
    /// # Errors
    /// As [`get_channel`](Self::get_channel).
    pub fn passive<T: Message + ?Sized>(&self) -> Result<Channel<T>> {
        self.get_channel(&format!("{}-passive", self.inner.name))
    }

    /// Opens a channel of the runtime's domain, as its guest. If a process that is just dying holds
    /// that end, waits for it, up to 5 s.
    ///
    /// # Errors
    /// As [`ChannelOptions::open`](crate::ChannelOptions::open).
    pub fn get_channel<T: Message + ?Sized>(&self, name: &str) -> Result<Channel<T>> {
        let stamp = TypeStamp::of::<T>();
        let deadline = Instant::now() + DYING;
        let mut attachment = loop {
            match Attachment::open(&self.inner.roster, name, Some(&stamp), true) {
                Err(Error::EndTaken { pid, .. })
                    if pid != std::process::id() && Instant::now() < deadline =>
                {
                    std::thread::sleep(Duration::from_millis(1));
                }
                other => break other?,
            }
        };
        let child = self.clone();
        attachment.set_stopping(Arc::new(move || child.stopping()));
        Channel::new(Arc::new(attachment), None, Wait::Adaptive)
    }

    /// The store that main and its children share. See [`Runtime::store`](crate::Runtime::store).
    ///
    /// # Errors
    /// `Forked`. Else as [`StoreOptions::open_or_create`](crate::StoreOptions::open_or_create).
    pub fn store(&self) -> Result<Store> {
        if self.inner.roster.forked() {
            return Err(Error::Forked);
        }
        let mut store = self.inner.store.lock().unwrap_or_else(|e| e.into_inner());
        open_shared(&mut store, self.inner.roster.directory().name())
    }

    /// Asks main to restart this process, and returns at once. Main then stops it as
    /// [`Runtime::stop`](crate::Runtime::stop) does, and starts it anew; that counts as no failure.
    ///
    /// # Errors
    /// `Forked`.
    pub fn request_restart(&self) -> Result<()> {
        if self.inner.roster.forked() {
            return Err(Error::Forked);
        }
        self.inner
            .control
            .ask_restart(self.inner.index, self.inner.generation);
        Ok(())
    }

    /// Whether main asked this process to stop. A load.
    pub fn stopping(&self) -> bool {
        self.inner
            .control
            .told_to_stop(self.inner.index, self.inner.generation)
    }

    /// Sleeps until main asks this process to stop, at most `timeout`, and says whether it did.
    pub fn wait_stop(&self, timeout: Duration) -> bool {
        let deadline = Instant::now().checked_add(timeout);
        loop {
            let bell = &self.inner.control.record(self.inner.index).stop_bell;
            let seen = bell.seen();
            if self.stopping() {
                return true;
            }
            let left = deadline.map_or(SLICE, |d| d.saturating_duration_since(Instant::now()));
            if left.is_zero() {
                return false;
            }
            self.inner
                .control
                .sleep(self.inner.index, seen, left.min(SLICE));
        }
    }
}

impl fmt::Debug for Child {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Child({:?}, generation {})",
            self.inner.name, self.inner.generation
        )
    }
}

/// What a child's function is.
pub(super) type EntryFn = fn(Child) -> ChildResult;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_names_a_descriptor() {
        let fd = |fd: &str| {
            let place = read_place(&format!("command:d:c:1:2:{fd}:3"));
            place.map(|place| place.life.fd)
        };
        assert_eq!(fd("4"), Some(4));
        assert_eq!(fd("-1"), None);
        assert_eq!(fd("2147483648"), None);
    }
}
