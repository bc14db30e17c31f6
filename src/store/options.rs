//! How a store is made and opened.

use super::attachment::{Attachment, Plan};
use super::typed::Store;
use crate::domain::{self, Directory, Place, STORE};
use crate::error::{Error, Result};
use crate::roster;
use crate::segment::Access;
use core::time::Duration;
use rustix::fs::AtFlags;
use std::path::Path;
use std::sync::Arc;

/// How to make or open a [`Store`].
///
/// ```
/// # let domain = format!("doc-store-options-{}", std::process::id());
/// use ringlane::Store;
/// use std::time::Duration;
///
/// let store = Store::options()
///     .domain(&domain)
///     .max_size(64 << 20)
///     .capacity(100_000)
///     .lock_timeout(Duration::from_millis(200))
///     .create("logins")?;
/// store.set("alice", &1u64)?;
///
/// let reader = Store::options().domain(&domain).read_only().open("logins")?;
/// assert_eq!(reader.get::<u64>("alice")?, Some(1));
/// # store.remove()?;
/// # Ok::<(), ringlane::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct StoreOptions {
    plan: Plan,
}

impl StoreOptions {
    pub(super) fn new() -> Self {
        StoreOptions {
            plan: Plan {
                place: Place::Domain(domain::default_domain()),
                max_size: 256 << 30,
                capacity: 0,
                access: Access::Write,
                lock_timeout: Duration::from_secs(5),
            },
        }
    }

    /// Bytes that the file may grow to, at most 2 TiB; 256 GiB if nothing is said. It costs address
    /// space only. What is less than an empty store takes is taken for that. Counts when the store
    /// is made.
    pub fn max_size(mut self, bytes: u64) -> Self {
        self.plan.max_size = bytes.min(crate::layout::MOST_STORE as u64);
        self
    }

    /// How many entries to have buckets for from the start. Without it, or beyond it, the table
    /// grows by one bucket at a time. Counts when the store is made.
    pub fn capacity(mut self, entries: u64) -> Self {
        self.plan.capacity = entries;
        self
    }

    /// The store lies in this domain.
    pub fn domain(mut self, domain: &str) -> Self {
        self.plan.place = Place::Domain(domain.to_string());
        self
    }

    /// The store lies in this directory, which must be there, as `NAME.store`; the file `roster`
    /// beside it belongs to it. On a disk it is there again after a reboot: see
    /// [`sync`](Store::sync).
    pub fn path(mut self, directory: impl AsRef<Path>) -> Self {
        self.plan.place = Place::Path(directory.as_ref().to_path_buf());
        self
    }

    /// The store is mapped without write permission. Such a handle takes no lock, so a reader that
    /// loses 16 races in a row with writers gets [`Error::Contended`], and it is not woken by
    /// changes but looks for them.
    pub fn read_only(mut self) -> Self {
        self.plan.access = Access::Read;
        self
    }

    /// How long a call waits for the lock; 5 s if nothing is said. A holder that died does not keep
    /// it, so this is about one that is stopped. After a reboot, whoever opens the store to read it
    /// waits as long for a writer that is looking at it.
    pub fn lock_timeout(mut self, timeout: Duration) -> Self {
        self.plan.lock_timeout = timeout;
        self
    }

    /// Makes a new store.
    ///
    /// # Errors
    /// `AlreadyExists`, `BadName`, `NoSpace`, `ReadOnly`; `Refused`, `TooManyProcesses` or `Io`
    /// from the directory. After `Io` the store may be there: made, and then not to be opened.
    pub fn create(self, name: &str) -> Result<Store> {
        if self.plan.access == Access::Read {
            return Err(Error::ReadOnly);
        }
        Attachment::create(&self.plan, name).map(store)
    }

    /// Opens a store that is there.
    ///
    /// If the machine was booted since it was last opened for writing, all of it is looked at
    /// first, as [`Store::verify`] does.
    ///
    /// # Errors
    /// `NotFound`, `BadName`; `Refused`, `Layout`, `Corrupt` or `Damaged` from the file;
    /// `ForeignRoster` if it was copied here without the file `roster` that lay beside it.
    pub fn open(self, name: &str) -> Result<Store> {
        Attachment::open(&self.plan, name).map(store)
    }

    /// Opens the store, making it if there is none.
    ///
    /// # Errors
    /// As [`open`](Self::open) and [`create`](Self::create).
    pub fn open_or_create(self, name: &str) -> Result<Store> {
        if self.plan.access == Access::Read {
            return self.open(name);
        }
        Attachment::open_or_create(&self.plan, name).map(store)
    }

    /// Removes the store's file. Whoever has it open keeps it until he closes it, and nobody finds
    /// it by its name any more.
    ///
    /// # Errors
    /// `NotFound`, `BadName`; `Refused` or `Io` from the directory.
    pub fn remove(self, name: &str) -> Result<()> {
        domain::check_name(name)?;
        let place = &self.plan.place;
        let file = format!("{name}{STORE}");
        let is_there = || match Directory::at(place, false) {
            Ok(directory) => Ok(directory.inode(&file)?.is_some()),
            Err(Error::NotFound { .. }) => Ok(false),
            Err(e) => Err(e),
        };
        // Attached, so that the directory goes when we leave if this was the last of it.
        let roster = match roster::join_at(place, false) {
            // A store that lost its roster can still be removed.
            Err(Error::NotFound { .. }) if is_there()? => roster::join_at(place, true)?,
            Err(Error::NotFound { .. }) => {
                let name = name.to_string();
                return Err(Error::NotFound { name });
            }
            other => other?,
        };
        let removed = rustix::fs::unlinkat(roster.directory(), &*file, AtFlags::empty());
        removed.map_err(|e| match e {
            rustix::io::Errno::NOENT => Error::NotFound {
                name: name.to_string(),
            },
            e => Error::io(roster.directory().file(&file), e),
        })
    }
}

fn store(attachment: Attachment) -> Store {
    Store {
        attachment: Arc::new(attachment),
    }
}
