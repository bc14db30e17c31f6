//! The typed interface of a store.

use super::attachment::Attachment;
use super::iterate::{Entries, StoreIter, StoreKeys};
use super::locked::Locked;
use super::lookup::Torn;
use super::options::StoreOptions;
use super::scan::{self, Found, Groups};
use super::stats::StoreStats;
use super::table::{Entry, Flaw, Key};
use super::values::{Decoded, Unlike, decode, with_scratch};
use super::watch::Watch;
use crate::codec::{Codec, Message, Owned, type_hash, type_name};
use crate::error::{Error, Result};
use crate::sync::Ordering::Relaxed;
use core::borrow::Borrow;
use core::fmt;
use core::marker::PhantomData;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A key-value table that processes share: any number of them read and write, and reading neither
/// waits nor stores.
///
/// Values are whatever is a [`Message`], under keys of up to 65,535 bytes. Cloning a handle is
/// cheap, and threads may share one.
///
/// ```
/// # let domain = format!("doc-store-{}", std::process::id());
/// use ringlane::Store;
///
/// let store = Store::options().domain(&domain).create("settings")?;
/// store.set("volume", &11u32)?;
/// store.set("greeting", "hello")?;
///
/// // Here, or in any other process:
/// let same = Store::options().domain(&domain).open("settings")?;
/// assert_eq!(same.get::<u32>("volume")?, Some(11));
/// assert_eq!(same.get::<str>("greeting")?.as_deref(), Some("hello"));
/// assert_eq!(same.get::<str>("farewell")?, None);
/// # store.remove()?;
/// # Ok::<(), ringlane::Error>(())
/// ```
///
/// # What holds when processes die
/// A call that changes something has changed it for everybody once it returns, and a process that
/// is killed in such a call has changed it or not. Its lock is taken over by who has waited for a
/// slice of 10 ms; a process that is stopped keeps the lock, and then writers get `LockTimeout`, and
/// readers go on.
///
/// # How long it stays
/// A store is a file, and stays until it is [removed](Store::remove): in a domain until the next
/// reboot, at a [path](StoreOptions::path) for good. The store of a
/// [`Runtime`](crate::Runtime::store) goes when its main process shuts down in order.
///
/// # Errors of all calls
/// `KeyTooLong`; `Forked` in a fork of the process that opened the store; `Corrupt` if what lies
/// there was not written by this library; `Refused` if it lies beyond what a limit on address space
/// lets this process map. Calls that change something: `ReadOnly`, `LockTimeout`,
/// `Reentrant` inside the closure of [`update`](Store::update), and if they store a value,
/// `TooLarge` (beyond 1 GiB), `NoSpace` with the store unchanged, `TooManyCollisions`, `Encode`.
/// Calls that give a value: `TypeMismatch` if one of another type is there, `Decode`, and from a
/// handle for reading only `Contended`.
///
/// # Cost
/// A `get` reads two lines of memory for a small value, a `set` takes a lock. The table grows by
/// one bucket at a time, the file by 64 KiB, so no call is much longer than the others.
#[derive(Clone)]
pub struct Store {
    pub(super) attachment: Arc<Attachment>,
}

/// Why [`Store::compare_and_set`] stored nothing.
#[derive(Debug)]
#[non_exhaustive]
pub enum CasError {
    /// There is another version by now.
    Changed {
        /// It; 0 if there is no value.
        version: u64,
    },
    /// Something else.
    Other(Error),
}

impl From<Error> for CasError {
    fn from(error: Error) -> Self {
        CasError::Other(error)
    }
}

impl fmt::Display for CasError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CasError::Changed { version: 0 } => write!(f, "there is no value any more"),
            CasError::Changed { version } => write!(f, "the value changed: version {version}"),
            CasError::Other(error) => fmt::Display::fmt(error, f),
        }
    }
}

impl std::error::Error for CasError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            CasError::Other(error) => Some(error),
            CasError::Changed { .. } => None,
        }
    }
}

impl Store {
    /// How to make or open one.
    pub fn options() -> StoreOptions {
        StoreOptions::new()
    }

    /// Opens the store `name` of the default domain, making it if there is none. See
    /// [`StoreOptions`] for more.
    ///
    /// # Errors
    /// As [`StoreOptions::open_or_create`].
    pub fn open_or_create(name: &str) -> Result<Store> {
        Store::options().open_or_create(name)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        self.attachment.name()
    }

    /// Stores a value, whatever was there, of whatever type. Gives its version.
    #[inline]
    pub fn set<T: Message + ?Sized>(&self, key: impl AsRef<[u8]>, value: &T) -> Result<u64> {
        self.write(key.as_ref(), value, |locked, found, key, bytes| {
            locked.put(key, found.as_ref(), type_of::<T>(), bytes)
        })
    }

    /// Stores a value if there is none. Gives its version, or `None` if there is one.
    ///
    /// ```
    /// # let domain = format!("doc-insert-new-{}", std::process::id());
    /// # let store = ringlane::Store::options().domain(&domain).create("s")?;
    /// assert!(store.insert_new("leader", "alice")?.is_some());
    /// assert!(store.insert_new("leader", "bob")?.is_none());
    /// assert_eq!(store.get::<str>("leader")?.as_deref(), Some("alice"));
    /// # store.remove()?;
    /// # Ok::<(), ringlane::Error>(())
    /// ```
    pub fn insert_new<T: Message + ?Sized>(
        &self,
        key: impl AsRef<[u8]>,
        value: &T,
    ) -> Result<Option<u64>> {
        self.write(
            key.as_ref(),
            value,
            |locked, found, key, bytes| match found {
                Some(_) => Ok(None),
                None => locked.put(key, None, type_of::<T>(), bytes).map(Some),
            },
        )
    }

    /// Stores a value, and gives the one that was there.
    pub fn swap<T: Message + ?Sized>(
        &self,
        key: impl AsRef<[u8]>,
        value: &T,
    ) -> Result<Option<Owned<T>>> {
        let mut old = None;
        self.write(key.as_ref(), value, |locked, found, key, bytes| {
            // Decoding may be a user's code. So is dropping it, which happens without the lock,
            // whatever comes of the change.
            old = locked.lend(|| self.read_found::<T>(key, found.as_ref()))??;
            locked.put(key, found.as_ref(), type_of::<T>(), bytes)
        })?;
        Ok(old)
    }

    /// Stores a value if the one that is there has that version; 0 stands for none. Gives the new
    /// version. With [`get_versioned`](Self::get_versioned) it is the way to change a value
    /// without holding the lock while one thinks.
    ///
    /// ```
    /// # let domain = format!("doc-cas-{}", std::process::id());
    /// # let store = ringlane::Store::options().domain(&domain).create("s")?;
    /// use ringlane::CasError;
    ///
    /// let first = store.set("balance", &100u64)?;
    /// let (balance, version) = store.get_versioned::<u64>("balance")?.unwrap();
    /// let second = store.compare_and_set("balance", version, &(balance - 30)).unwrap();
    /// match store.compare_and_set("balance", first, &0u64) {
    ///     Err(CasError::Changed { version }) => assert_eq!(version, second),
    ///     other => panic!("{other:?}"),
    /// }
    /// # store.remove()?;
    /// # Ok::<(), ringlane::Error>(())
    /// ```
    ///
    /// # Errors
    /// `Changed` if it has another.
    pub fn compare_and_set<T: Message + ?Sized>(
        &self,
        key: impl AsRef<[u8]>,
        version: u64,
        value: &T,
    ) -> Result<u64, CasError> {
        let outcome = self.write(key.as_ref(), value, |locked, found, key, bytes| {
            let now = found.as_ref().map_or(0, |entry| entry.stamp);
            if now != version {
                return Ok(Err(CasError::Changed { version: now }));
            }
            locked
                .put(key, found.as_ref(), type_of::<T>(), bytes)
                .map(Ok)
        });
        outcome?
    }

    /// Replaces a value by what `f` makes of it: `None` stands for no value on both sides. Gives
    /// the new version, 0 if there is no value then.
    ///
    /// `f` runs under the lock, so all other writers wait for it. If it panics, nothing was
    /// changed. It may read this store, and not write it.
    ///
    /// ```
    /// # let domain = format!("doc-update-{}", std::process::id());
    /// # let store = ringlane::Store::options().domain(&domain).create("s")?;
    /// store.update::<str>("log", |log| Some(log.unwrap_or_default() + "one."))?;
    /// store.update::<str>("log", |log| Some(log.unwrap_or_default() + "two."))?;
    /// assert_eq!(store.get::<str>("log")?.as_deref(), Some("one.two."));
    /// # store.remove()?;
    /// # Ok::<(), ringlane::Error>(())
    /// ```
    pub fn update<T: Message + ?Sized>(
        &self,
        key: impl AsRef<[u8]>,
        f: impl FnOnce(Option<Owned<T>>) -> Option<Owned<T>>,
    ) -> Result<u64> {
        let key = self.attachment.key(key.as_ref())?;
        // If it is not called, what it owns is dropped without the lock.
        let mut f = Some(f);
        self.attachment.change(&key, |locked, found| {
            // Decoding and encoding may be a user's code as well.
            let old = locked.lend(|| self.read_found::<T>(&key, found.as_ref()))??;
            let f = f.take().expect("this is called once");
            let new = locked.lend(|| f(old))?;
            match (new, &found) {
                (Some(new), _) => with_scratch::<T, _>(|scratch| {
                    // So is dropping it, which happens at the end of that closure.
                    let bytes = locked
                        .lend(move || T::Codec::encode(new.borrow(), scratch, <[u8]>::to_vec));
                    let bytes = bytes?.map_err(Error::Encode)?;
                    locked.put(&key, found.as_ref(), type_of::<T>(), &bytes)
                }),
                (None, Some(entry)) => locked.remove(&key, entry).map(|()| 0),
                (None, None) => Ok(0),
            }
        })
    }

    /// Adds to an `i64`, wrapping around, and gives what it was: 0 if there was none.
    ///
    /// ```
    /// # let domain = format!("doc-fetch-add-{}", std::process::id());
    /// # let store = ringlane::Store::options().domain(&domain).create("s")?;
    /// assert_eq!(store.fetch_add("visits", 1)?, 0);
    /// assert_eq!(store.fetch_add("visits", 1)?, 1);
    /// assert_eq!(store.get::<i64>("visits")?, Some(2));
    /// # store.remove()?;
    /// # Ok::<(), ringlane::Error>(())
    /// ```
    pub fn fetch_add(&self, key: impl AsRef<[u8]>, by: i64) -> Result<i64> {
        let key = self.attachment.key(key.as_ref())?;
        self.attachment.change(&key, |locked, found| {
            let read = || self.read_found::<i64>(&key, found.as_ref());
            let is_other = |entry: &Entry<'_>| entry.type_hash != type_hash::<i64>();
            let old = match found.as_ref().is_some_and(is_other) {
                // For the error, the name of that type is read as well.
                true => locked.lend(read)??,
                false => read()?,
            };
            let old = old.unwrap_or(0);
            let new = old.wrapping_add(by).to_ne_bytes();
            locked.put(&key, found.as_ref(), type_of::<i64>(), &new)?;
            Ok(old)
        })
    }

    /// The value, if there is one.
    #[inline]
    pub fn get<T: Message + ?Sized>(&self, key: impl AsRef<[u8]>) -> Result<Option<Owned<T>>> {
        let found = self.get_versioned::<T>(key)?;
        Ok(found.map(|(value, _)| value))
    }

    /// The value, or `default` if there is none.
    pub fn get_or<T: Message + ?Sized>(
        &self,
        key: impl AsRef<[u8]>,
        default: Owned<T>,
    ) -> Result<Owned<T>> {
        Ok(self.get::<T>(key)?.unwrap_or(default))
    }

    /// The value and its version. Each change of the store has a version of its own, higher than
    /// all before.
    #[inline]
    pub fn get_versioned<T: Message + ?Sized>(
        &self,
        key: impl AsRef<[u8]>,
    ) -> Result<Option<(Owned<T>, u64)>> {
        let key = self.attachment.key(key.as_ref())?;
        match self.find::<T>(&key)? {
            None => Ok(None),
            Some(Ok(found)) => Ok(Some(found)),
            Some(Err(unlike)) => Err(self.unlike::<T>(&key, unlike.0)),
        }
    }

    /// The same, with the version of what is no `T`, too.
    pub(super) fn look<T: Message + ?Sized>(
        &self,
        key: &[u8],
    ) -> Result<Option<(Result<Owned<T>>, u64)>> {
        let key = self.attachment.key(key)?;
        Ok(self.find::<T>(&key)?.map(|found| match found {
            Ok((value, version)) => (Ok(value), version),
            Err(unlike) => (Err(self.unlike::<T>(&key, unlike.0)), unlike.1),
        }))
    }

    #[inline(always)]
    fn find<T: Message + ?Sized>(&self, key: &Key<'_>) -> Result<Option<Decoded<T>>> {
        with_scratch::<T, _>(|scratch| {
            self.attachment
                .read(key, |entry| decode::<T>(entry, scratch))
        })
    }

    /// Replaces what is in `out` by the bytes of the value, of any type, as its codec made them.
    /// `false`, and `out` empty, if there is none. With a buffer that is used again it allocates
    /// nothing.
    ///
    /// ```
    /// # let domain = format!("doc-get-into-{}", std::process::id());
    /// # let store = ringlane::Store::options().domain(&domain).create("s")?;
    /// let mut image = Vec::new();
    /// store.set::<[u8]>("image", &[7; 4096])?;
    /// assert!(store.get_into("image", &mut image)?);
    /// assert_eq!(image.len(), 4096);
    /// # store.remove()?;
    /// # Ok::<(), ringlane::Error>(())
    /// ```
    pub fn get_into(&self, key: impl AsRef<[u8]>, out: &mut Vec<u8>) -> Result<bool> {
        let key = self.attachment.key(key.as_ref())?;
        out.clear();
        let found = self
            .attachment
            .read(&key, |entry| scan::append_value(entry, out))?;
        Ok(found.is_some())
    }

    /// The type of the value, as errors and pictures name it.
    pub fn type_of(&self, key: impl AsRef<[u8]>) -> Result<Option<String>> {
        let key = self.attachment.key(key.as_ref())?;
        let found = self.attachment.read(&key, |entry| {
            entry.is_still().then_some(entry.type_hash).ok_or(Torn)
        })?;
        Ok(found.map(|hash| self.attachment.type_name(hash)))
    }

    /// Whether there is a value, of any type.
    pub fn contains(&self, key: impl AsRef<[u8]>) -> Result<bool> {
        let key = self.attachment.key(key.as_ref())?;
        let found = self
            .attachment
            .read(&key, |entry| entry.is_still().then_some(()).ok_or(Torn));
        Ok(found?.is_some())
    }

    /// Takes the value away; `false` if there was none.
    pub fn delete(&self, key: impl AsRef<[u8]>) -> Result<bool> {
        let key = self.attachment.key(key.as_ref())?;
        self.attachment.change(&key, |locked, found| match found {
            Some(entry) => locked.remove(&key, &entry).map(|()| true),
            None => Ok(false),
        })
    }

    /// How many values there are.
    pub fn len(&self) -> usize {
        let header = self.attachment.header();
        let keys = header.keys.load(Relaxed);
        keys.saturating_sub(header.types.load(Relaxed)) as usize
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes all values away that were there when it was called. Each goes by itself: others see
    /// it half done, and a process killed meanwhile leaves it so.
    pub fn clear(&self) -> Result<()> {
        // Who may not write is told so, whether there is anything to take away or not.
        drop(self.attachment.lock()?);
        let mut keys = self.keys();
        let all: Vec<_> = keys.by_ref().collect();
        // What lies beyond our reach we could not take away.
        if let (true, Some(e)) = (keys.0.left_out(), self.attachment.unsure()) {
            return Err(e);
        }
        for some in all.chunks(BATCH) {
            let locked = self.attachment.lock()?;
            for key in some {
                let key = self.attachment.key(key)?;
                if let Some(entry) = locked.find(&key)? {
                    locked.remove(&key, &entry)?;
                }
            }
        }
        Ok(())
    }

    /// Stores many values, taking the lock once for each 128 of them. Each is a change of its own:
    /// others see it half done, and an error or a kill leaves it so. Gives how many they are.
    ///
    /// ```
    /// # let domain = format!("doc-extend-{}", std::process::id());
    /// # let store = ringlane::Store::options().domain(&domain).create("s")?;
    /// let squares = (0..1000u32).map(|i| (format!("square of {i}"), i * i));
    /// assert_eq!(store.extend::<u32, _, _>(squares)?, 1000);
    /// assert_eq!(store.get::<u32>("square of 30")?, Some(900));
    /// # store.remove()?;
    /// # Ok::<(), ringlane::Error>(())
    /// ```
    pub fn extend<T: Message + ?Sized, K: AsRef<[u8]>, V: Borrow<T>>(
        &self,
        values: impl IntoIterator<Item = (K, V)>,
    ) -> Result<usize> {
        let mut values = values.into_iter();
        let mut count = 0;
        loop {
            // The iterator, the encoder and the keys are the user's code, so they run before the
            // lock is taken.
            let mut some = Vec::with_capacity(BATCH);
            for (key, value) in values.by_ref().take(BATCH) {
                let bytes = with_scratch::<T, _>(|scratch| {
                    T::Codec::encode(value.borrow(), scratch, <[u8]>::to_vec)
                });
                some.push((key, bytes.map_err(Error::Encode)?));
            }
            if some.is_empty() {
                return Ok(count);
            }
            let keys: Result<Vec<_>> = some
                .iter()
                .map(|(key, _)| self.attachment.key(key.as_ref()))
                .collect();
            let keys = keys?;
            let locked = self.attachment.lock()?;
            for (key, (_, bytes)) in keys.iter().zip(&some) {
                let found = locked.find(key)?;
                locked.put(key, found.as_ref(), type_of::<T>(), bytes)?;
                count += 1;
            }
        }
    }

    /// All keys, in no order. Reads without the lock: what is stored or taken away meanwhile may be
    /// there or not, all else is, once.
    ///
    /// A process that may not map all of the store, by a limit on its address space, passes over
    /// what lies beyond; [`get_all`](Self::get_all), [`clear`](Self::clear) and
    /// [`verify`](Self::verify) are `Refused` there.
    pub fn keys(&self) -> StoreKeys<'_> {
        StoreKeys(Entries::of(self))
    }

    /// All keys and values of type `T`, in no order; those of other types are passed over, and so
    /// is what does not decode. Otherwise as [`keys`](Self::keys).
    ///
    /// ```
    /// # let domain = format!("doc-iter-{}", std::process::id());
    /// # let store = ringlane::Store::options().domain(&domain).create("s")?;
    /// store.set("one", &1u8)?;
    /// store.set("two", &2u8)?;
    /// store.set("name", "numbers")?;
    /// assert_eq!(store.iter::<u8>().map(|(_, value)| value).sum::<u8>(), 3);
    /// # store.remove()?;
    /// # Ok::<(), ringlane::Error>(())
    /// ```
    pub fn iter<T: Message + ?Sized>(&self) -> StoreIter<'_, T> {
        StoreIter {
            entries: Entries::of(self),
            message: PhantomData,
        }
    }

    /// All keys and values of type `T` as they were at one moment: writers wait meanwhile, about a
    /// microsecond for each key if there are a million.
    ///
    /// # Errors
    /// `Decode` if one does not decode; `ReadOnly`, for it takes the lock.
    pub fn get_all<T: Message + ?Sized>(&self) -> Result<BTreeMap<Vec<u8>, Owned<T>>> {
        let mut all = Vec::new();
        {
            let _locked = self.attachment.lock()?;
            let mut groups = Groups::under_lock(&self.attachment.table);
            // Values of a home bucket may be read twice. More than that is damage.
            let mut room = 2 * self.attachment.used();
            // What a user's decoder does comes after the lock was given back.
            let mut wanted = |entry: &Entry<'_>| {
                if entry.type_hash != type_hash::<T>() {
                    return Ok(None);
                }
                room = room.checked_sub(entry.sizes.value() as u64).ok_or(Torn)?;
                scan::value_of(entry).map(Some)
            };
            while let Some(found) = groups.next(&self.attachment.table, &mut wanted) {
                all.extend(found);
            }
            if let Some(at) = groups.left_out {
                return Err(self.attachment.corrupt(Flaw { at }));
            }
        }
        let decode = |Found { key, value }: Found<Vec<u8>>| {
            let decoded = with_scratch::<T, _>(|scratch| T::Codec::decode(&value[..], scratch));
            Ok((key, decoded.map_err(Error::Decode)?))
        };
        all.into_iter().map(decode).collect()
    }

    /// Watches a key: [`wait`](Watch::wait) for changes from now on, or have a function
    /// [called](Watch::on_change).
    pub fn watch<T: Message + ?Sized>(&self, key: impl AsRef<[u8]>) -> Result<Watch<T>> {
        Watch::new(self.clone(), key.as_ref())
    }

    /// Numbers about the store. Goes through all buckets and free blocks, without the lock: about,
    /// while others write.
    pub fn stats(&self) -> StoreStats {
        StoreStats::of(&self.attachment)
    }

    /// Looks at all of the store: that every value lies where it is looked for, that all memory
    /// belongs to one thing, that the counters are right. Writers wait meanwhile; a handle for
    /// reading only takes no lock, and finds flaws where others write.
    ///
    /// # Errors
    /// `Damaged`, with what is wrong.
    pub fn verify(&self) -> Result<()> {
        self.attachment.verify()
    }

    /// Has the kernel write all changes to the disk, and waits for that (`msync`). Without it they
    /// get there when the kernel sees fit, which is enough for restarts of processes, and for a
    /// reboot in order.
    ///
    /// A power cut is another thing: the kernel writes pages in any order, so what is on the disk
    /// then may be no state that the store was ever in. The first to open it after a boot looks at
    /// all of it, finishes a commit that was begun, and otherwise refuses it as `Damaged`.
    ///
    /// # Errors
    /// `Io`.
    pub fn sync(&self) -> Result<()> {
        self.attachment.sync()
    }

    /// Removes the store's file, as [`StoreOptions::remove`].
    ///
    /// # Errors
    /// `ReadOnly`, `Forked`.
    pub fn remove(&self) -> Result<()> {
        self.attachment.unlink()
    }

    /// Encodes `value`, and calls `write` under the lock with the key's entry and the bytes.
    #[inline]
    fn write<T: Message + ?Sized, R>(
        &self,
        key: &[u8],
        value: &T,
        write: impl FnOnce(&Locked<'_>, Option<Entry<'_>>, &Key<'_>, &[u8]) -> Result<R>,
    ) -> Result<R> {
        let key = self.attachment.key(key)?;
        let change = |bytes: &[u8]| {
            self.attachment
                .change(&key, |locked, found| write(locked, found, &key, bytes))
        };
        with_scratch::<T, _>(|scratch| T::Codec::encode(value, scratch, change))
            .map_err(Error::Encode)?
    }

    /// The value of an entry that was found under the lock.
    fn read_found<T: Message + ?Sized>(
        &self,
        key: &Key<'_>,
        found: Option<&Entry<'_>>,
    ) -> Result<Option<Owned<T>>> {
        let Some(entry) = found else {
            return Ok(None);
        };
        match with_scratch::<T, _>(|scratch| decode::<T>(entry, scratch)) {
            Ok(Ok((value, _))) => Ok(Some(value)),
            Ok(Err(unlike)) => Err(self.unlike::<T>(key, unlike.0)),
            Err(Torn) => Err(self.attachment.corrupt_entry(entry)),
        }
    }

    #[cold]
    fn unlike<T: Message + ?Sized>(&self, key: &Key<'_>, unlike: Unlike) -> Error {
        match unlike {
            Unlike::Type(found) => Error::TypeMismatch {
                name: String::from_utf8_lossy(key.bytes).into_owned(),
                expected: type_name::<T>(),
                found: self.attachment.type_name(found),
            },
            Unlike::Bytes(why) => Error::Decode(why),
        }
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store")
            .field("path", &self.attachment.path())
            .finish_non_exhaustive()
    }
}

/// Changes made while the lock is held once.
const BATCH: usize = 128;

/// The hash of a type, and its name in case that is needed.
fn type_of<T: Message + ?Sized>() -> (u64, fn() -> String) {
    (type_hash::<T>(), type_name::<T>)
}
