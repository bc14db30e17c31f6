//! What is done under the store's lock, on behalf of this process.

use super::attachment::Attachment;
use super::change::Value;
use super::lookup::Probe;
use super::table::{Entry, Flaw, Key};
use crate::error::{Error, Result};
use crate::layout::store_word;
use crate::lock;
use crate::sync::Ordering::Relaxed;
use std::cell::RefCell;

thread_local! {
    /// The stores whose lock this thread holds while it runs a user's code, by inode.
    static UPDATING: RefCell<Vec<(u64, u64)>> = const { RefCell::new(Vec::new()) };
}

/// Lends that list. There is none in destructors where the thread ends, once it is gone itself.
fn updating<R: Default>(f: impl FnOnce(&mut Vec<(u64, u64)>) -> R) -> R {
    let outcome = UPDATING.try_with(|stores| f(&mut stores.borrow_mut()));
    outcome.unwrap_or_default()
}

impl Attachment {
    /// Takes the lock, and finishes what its last holder left half done.
    #[inline]
    pub(crate) fn lock(&self) -> Result<Locked<'_>> {
        if self.canary.forked() {
            return Err(Error::Forked);
        }
        #[cfg(test)]
        crate::sync::kills::stay_dead();
        let roster = self.roster.as_ref().ok_or(Error::ReadOnly)?;
        let word = &self.door().lock;
        if !lock::try_take(word, self.me) {
            if updating(|stores| stores.contains(&self.segment.inode())) {
                return Err(Error::Reentrant);
            }
            let is_alive = |holder| roster.is_alive(holder);
            let outcome = lock::wait(word, self.me, self.lock_timeout, is_alive);
            outcome.map_err(|holder| Error::LockTimeout {
                pid: roster.pid_of(holder),
            })?;
        }
        // The compare-exchange and the swap of the lock are kill points like the stores between.
        #[cfg(test)]
        crate::sync::kills::kill_point();
        failpoint!(HoldingStoreLock);
        let locked = Locked(self);
        let settled = self.table.settle(|| super::watch::wake_all(self.door()));
        match settled {
            Ok(_) => Ok(locked),
            Err(flaw) => {
                self.table.poison(flaw);
                Err(self.corrupt(flaw))
            }
        }
    }
}

/// The store's lock, held by this thread.
pub(crate) struct Locked<'a>(&'a Attachment);

impl Locked<'_> {
    pub(crate) fn find(&self, key: &Key<'_>) -> Result<Option<Entry<'_>>> {
        match self.0.table.find(key) {
            Probe::Hit(entry) => Ok(Some(entry)),
            Probe::Miss => Ok(None),
            // Nobody moves anything but us.
            Probe::Moved => Err(self.0.corrupt(Flaw {
                at: store_word!(buckets),
            })),
        }
    }

    /// Stores `bytes` under `key`, whose entry is `found`. Gives the version.
    pub(crate) fn put(
        &self,
        key: &Key<'_>,
        found: Option<&Entry<'_>>,
        (type_hash, type_name): (u64, fn() -> String),
        bytes: &[u8],
    ) -> Result<u64> {
        let this = self.0;
        let known = &this.known_types[(type_hash % 64) as usize];
        // Should the name move the entry that was found, it is looked for again.
        let found_again;
        let mut found = found;
        if known.load(Relaxed) != type_hash {
            self.name_type(type_hash, &type_name())?;
            known.store(type_hash, Relaxed);
            found_again = self.find(key)?;
            found = found_again.as_ref();
        }
        let value = Value {
            type_hash,
            bytes,
            writer: this.writer,
        };
        let wake = || super::watch::wake(&this.table, this.door(), key.hash);
        let put = this.table.put(key, found, value, wake);
        put.map_err(|refusal| this.refused(refusal, key, bytes.len()))
    }

    /// Stores the name of a type, once, so that others can be told what is there.
    #[cold]
    fn name_type(&self, type_hash: u64, name: &str) -> Result<()> {
        let bytes = type_hash.to_ne_bytes();
        let key = self.0.internal(&bytes);
        if self.find(&key)?.is_some() {
            return Ok(());
        }
        let value = Value {
            type_hash: 0,
            bytes: name.as_bytes(),
            writer: self.0.writer,
        };
        let put = self.0.table.put(&key, None, value, || ());
        put.map_err(|refusal| self.0.refused(refusal, &key, name.len()))?;
        Ok(())
    }

    pub(crate) fn remove(&self, key: &Key<'_>, entry: &Entry<'_>) -> Result<()> {
        let this = self.0;
        let wake = || super::watch::wake(&this.table, this.door(), key.hash);
        let removed = this.table.remove(entry, wake);
        removed.map_err(|refusal| this.refused(refusal, key, 0))
    }

    pub(crate) fn verify(&self) -> Result<()> {
        self.0.look_at_all()
    }

    /// Runs a user's code under the lock; what it does to this store itself is `Reentrant`. Should
    /// it fork and return in the child, that one does not have the lock.
    pub(crate) fn lend<R>(&self, f: impl FnOnce() -> R) -> Result<R> {
        struct Inside;
        impl Drop for Inside {
            fn drop(&mut self) {
                updating(Vec::pop);
            }
        }
        updating(|stores| stores.push(self.0.segment.inode()));
        let _inside = Inside;
        let value = f();
        if self.0.is_forked() {
            return Err(Error::Forked);
        }
        Ok(value)
    }
}

impl Drop for Locked<'_> {
    #[inline]
    fn drop(&mut self) {
        #[cfg(test)]
        if crate::sync::kills::is_killed_here() {
            return;
        }
        // A fork inherits the guard, but not the lock.
        if !self.0.canary.forked() {
            failpoint!(BeforeStoreUnlock);
            lock::give_back(&self.0.door().lock);
        }
    }
}
