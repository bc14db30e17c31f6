//! Waiting for a key to change.
//!
//! A store has 64 words to sleep on; a key's is chosen by its hash. A writer rings the word of its
//! key inside the commit, and whoever finishes the commit of a writer that was killed rings all:
//! [`alarm`].
//!
//! Since the one who would wake it may be dead and nobody else write, a watcher sleeps in slices,
//! and takes the lock over from a dead holder itself.

use super::table::Table;
use super::{Store, Torn, alarm};
use crate::codec::{Message, Owned};
use crate::error::{Error, Result};
use crate::layout::{StoreDoor, WATCHES, store_word};
use crate::sync::Ordering::*;
use crate::sys::Futex;
use core::fmt;
use core::marker::PhantomData;
use core::time::Duration;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread::JoinHandle;
use std::time::Instant;

const SLICE: Duration = Duration::from_millis(100);
/// How often a read-only handle looks: it cannot ask to be woken.
const POLL: Duration = Duration::from_millis(5);

/// Wakes who watches a key of that hash. Stores that nobody ever watched pay one load.
#[inline(always)]
pub(super) fn wake(table: &Table, door: &StoreDoor, hash: u64) {
    if table.counter(store_word!(watched)).load(Relaxed) != 0 {
        alarm::ring(word_of(door, hash));
    }
}

/// Wakes all who watch.
#[cold]
pub(super) fn wake_all(door: &StoreDoor) {
    door.watch.iter().for_each(alarm::ring_for_another);
}

fn word_of(door: &StoreDoor, hash: u64) -> &Futex {
    &door.watch[(hash % WATCHES as u64) as usize]
}

/// A key that is watched, from [`Store::watch`].
///
/// It tells *that* the value changed and what it is now, not every value that it ever had: several
/// changes between two waits are one. A value that is set to what it was counts as changed.
///
/// ```
/// # let domain = format!("doc-watch-{}", std::process::id());
/// use ringlane::Store;
/// use std::time::Duration;
///
/// let store = Store::options().domain(&domain).create("settings")?;
/// let mut volume = store.watch::<u32>("volume")?;
/// store.set("volume", &11u32)?;
/// assert_eq!(volume.wait()?, Some(11));
/// store.delete("volume")?;
/// assert_eq!(volume.wait_timeout(Duration::from_secs(1))?, None);
/// # store.remove()?;
/// # Ok::<(), ringlane::Error>(())
/// ```
pub struct Watch<T: Message + ?Sized> {
    store: Store,
    key: Vec<u8>,
    hash: u64,
    /// Version that was last told; 0 if there was no value.
    seen: u64,
    stop: Arc<AtomicBool>,
    message: PhantomData<fn() -> Box<T>>,
}

impl<T: Message + ?Sized> Watch<T> {
    pub(super) fn new(store: Store, key: &[u8]) -> Result<Self> {
        let attachment = &store.attachment;
        let hash = attachment.key(key)?.hash;
        let watched = attachment.table.counter(store_word!(watched));
        // Acquire: what was changed before another watcher stored it is seen below; partner: that
        // store. A read-only mapping, of which no more than Relaxed is promised, is not asked.
        if !attachment.is_read_only() && watched.load(Acquire) == 0 {
            // Under the lock, so that a change either is seen below or wakes us.
            let _locked = attachment.lock()?;
            watched.store(1, Release);
        }
        let mut watch = Watch {
            store,
            key: key.to_vec(),
            hash,
            seen: 0,
            stop: Arc::default(),
            message: PhantomData,
        };
        watch.seen = watch.version()?;
        Ok(watch)
    }

    /// The key.
    pub fn key(&self) -> &[u8] {
        &self.key
    }

    /// Waits until the value is another than when it was last told, and gives it; `None` if there
    /// is none now.
    ///
    /// A handle for reading only looks every 5 ms; others sleep until they are woken.
    ///
    /// # Errors
    /// `TypeMismatch` or `Decode` if what is there now is no `T`: the next call waits for the next
    /// change; `Forked`, `Corrupt`, `Contended`.
    pub fn wait(&mut self) -> Result<Option<Owned<T>>> {
        self.sleep(None)?;
        self.tell()
    }

    /// The same, for at most `timeout`, and never less.
    ///
    /// # Errors
    /// `Timeout`, or as [`wait`](Self::wait).
    pub fn wait_timeout(&mut self, timeout: Duration) -> Result<Option<Owned<T>>> {
        match self.sleep(Instant::now().checked_add(timeout))? {
            true => self.tell(),
            false => Err(Error::Timeout),
        }
    }

    /// Calls `f` with the newest value after each change, on a thread of its own, until the
    /// [`Watcher`] is dropped or stopped. What `wait` would return as an error is given to `f`,
    /// too.
    ///
    /// ```
    /// # let domain = format!("doc-on-change-{}", std::process::id());
    /// use ringlane::Store;
    ///
    /// let store = Store::options().domain(&domain).create("settings")?;
    /// let (told, heard) = std::sync::mpsc::channel();
    /// let watcher = store.watch::<str>("greeting")?.on_change(move |value| {
    ///     let _ = told.send(value.ok().flatten());
    /// })?;
    /// store.set("greeting", "hello")?;
    /// assert_eq!(heard.recv().unwrap().as_deref(), Some("hello"));
    /// watcher.stop()?;
    /// # store.remove()?;
    /// # Ok::<(), ringlane::Error>(())
    /// ```
    ///
    /// # Errors
    /// `Io` if there is no thread to be had.
    pub fn on_change(
        mut self,
        f: impl FnMut(Result<Option<Owned<T>>>) + Send + 'static,
    ) -> Result<Watcher>
    where
        T: 'static,
    {
        let mut f = f;
        let (stop, store, hash) = (self.stop.clone(), self.store.clone(), self.hash);
        let path = store.attachment.path().to_string();
        let thread = std::thread::Builder::new()
            .name("ringlane-watch".to_string())
            .spawn(move || {
                loop {
                    let slept = self.sleep(None);
                    if self.stop.load(Relaxed) {
                        return;
                    }
                    match slept {
                        Ok(_) => f(self.tell()),
                        // There is nothing left to wait for.
                        Err(e) => return f(Err(e)),
                    }
                }
            })
            .map_err(|e| Error::io(path, e))?;
        Ok(Watcher {
            thread: Some(thread),
            stop,
            store,
            hash,
        })
    }

    fn tell(&mut self) -> Result<Option<Owned<T>>> {
        match self.store.look::<T>(&self.key)? {
            None => {
                self.seen = 0;
                Ok(None)
            }
            // What is no `T` is told once, too; what follows it is another version.
            Some((told, version)) => {
                self.seen = version;
                told.map(Some)
            }
        }
    }

    fn version(&self) -> Result<u64> {
        let attachment = &self.store.attachment;
        let key = attachment.key(&self.key)?;
        let version = attachment.read(&key, |entry| {
            entry.is_still().then_some(entry.stamp).ok_or(Torn)
        })?;
        Ok(version.unwrap_or(0))
    }

    /// Sleeps until the version is another or the watch is stopped; `false` if the time ran out.
    fn sleep(&self, deadline: Option<Instant>) -> Result<bool> {
        let attachment = &self.store.attachment;
        let changed = || {
            let version = match self.version() {
                // It changes right now, as who may not take the lock finds, or does not get it: the
                // next look tells.
                Err(Error::Contended | Error::LockTimeout { .. }) => self.seen,
                version => version?,
            };
            Ok::<bool, Error>(version != self.seen || self.stop.load(Relaxed))
        };
        loop {
            if changed()? {
                return Ok(true);
            }
            let left = deadline.map(|at| at.saturating_duration_since(Instant::now()));
            if left == Some(Duration::ZERO) {
                return Ok(false);
            }
            let left = left.unwrap_or(Duration::MAX);
            if attachment.is_read_only() {
                std::thread::sleep(left.min(POLL));
                continue;
            }
            let word = word_of(attachment.door(), self.hash);
            let woken = alarm::sleep(word, left.min(SLICE), changed)?;
            if !woken && attachment.holder_is_dead() {
                // What it committed and did not get to tell is told by this.
                match attachment.lock() {
                    Ok(_) | Err(Error::LockTimeout { .. }) => {}
                    Err(e) => return Err(e),
                }
            }
        }
    }
}

impl<T: Message + ?Sized> fmt::Debug for Watch<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch")
            .field("store", &self.store.name())
            .field("key", &String::from_utf8_lossy(&self.key))
            .finish()
    }
}

/// The thread that [`Watch::on_change`] started. Stops when it is dropped.
#[derive(Debug)]
pub struct Watcher {
    thread: Option<JoinHandle<()>>,
    stop: Arc<AtomicBool>,
    store: Store,
    hash: u64,
}

impl Watcher {
    /// Stops the thread, once the call of the handler that may be running has returned.
    ///
    /// # Errors
    /// `HandlerPanicked` if that is what ended it before; `Reentrant` if called from the handler:
    /// then it ends after that; `Forked`.
    pub fn stop(mut self) -> Result<()> {
        self.end()
    }

    fn end(&mut self) -> Result<()> {
        let Some(thread) = self.thread.take() else {
            return Ok(());
        };
        let attachment = &self.store.attachment;
        if attachment.is_forked() {
            // There is no such thread here, and nothing but its stack to give back.
            std::mem::forget(thread);
            return Err(Error::Forked);
        }
        self.stop.store(true, Relaxed);
        if !attachment.is_read_only() {
            alarm::ring(word_of(attachment.door(), self.hash));
        }
        if thread.thread().id() == std::thread::current().id() {
            return Err(Error::Reentrant);
        }
        let name = self.store.name();
        thread
            .join()
            .map_err(|payload| crate::listener::panicked(name, &*payload))
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        let _ = self.end();
    }
}
