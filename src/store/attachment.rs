//! A store as one process holds it: how it is made, opened and locked, and how a value is read.

use super::blocks::MOST_WORDS;
use super::locked::Locked;
use super::lookup::{FEW_TRIES, LARGE, Probe, TRIES, Torn};
use super::memory::{Memory, NoRoom};
use super::table::{BLOCK_HEADER, Entry, Flaw, Key, MOST_KEY, Refusal, Table, words_for};
use super::{scan, table};
use crate::domain::{Directory, Place, ROSTER, STORE};
use crate::error::{Error, Result};
use crate::identity::boot_id;
use crate::layout::{
    FIRST_BITS, HASH_RAPID_V3, HEAP, Kind, MOST_BITS, PAGE, Prologue, StoreDoor, StoreHeader,
    store_word,
};
use crate::lock;
use crate::roster::{self, Roster, RosterView};
use crate::segment::{Access, Segment, Size, no_space};
use crate::sync::{AtomicU64, Ordering::*, fence};
use crate::sys::{self, ForkCanary};
use core::time::Duration;
use rustix::fd::OwnedFd;
use std::sync::Arc;
use std::time::Instant;

/// A store's file is never smaller.
const LEAST: u64 = 256 << 10;

/// What to make or open.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) place: Place,
    pub(crate) max_size: u64,
    /// Entries to be ready for.
    pub(crate) capacity: u64,
    pub(crate) access: Access,
    pub(crate) lock_timeout: Duration,
}

pub(crate) struct Attachment {
    pub(crate) table: Table,
    pub(crate) segment: Arc<Segment>,
    /// `None`: read-only, and so nobody to the others.
    pub(super) roster: Option<Arc<Roster>>,
    /// What the lock's word is while we hold it.
    pub(super) me: u32,
    /// How our blocks name us.
    pub(super) writer: u16,
    pub(super) canary: ForkCanary,
    pub(super) lock_timeout: Duration,
    name: String,
    /// Types whose names we know to be in the store, by their low bits.
    pub(super) known_types: [AtomicU64; 64],
}

impl Attachment {
    /// Makes the store; `AlreadyExists` if there is one of that name.
    pub(crate) fn create(plan: &Plan, name: &str) -> Result<Attachment> {
        crate::domain::check_name(name)?;
        let roster = roster::join_at(&plan.place, true)?;
        // Held until it is open, so that the directory stays.
        match make(plan, &roster, name)? {
            true => Attachment::open(plan, name),
            false => Err(Error::AlreadyExists {
                name: name.to_string(),
            }),
        }
    }

    pub(crate) fn open_or_create(plan: &Plan, name: &str) -> Result<Attachment> {
        // Each round lost was lost to somebody who made it, or removed it.
        for _ in 0..100 {
            match Attachment::open(plan, name) {
                Err(Error::NotFound { .. }) => {}
                other => return other,
            }
            match Attachment::create(plan, name) {
                Err(Error::AlreadyExists { .. } | Error::NotFound { .. }) => {}
                other => return other,
            }
        }
        Err(Error::NotFound {
            name: name.to_string(),
        })
    }

    pub(crate) fn open(plan: &Plan, name: &str) -> Result<Attachment> {
        crate::domain::check_name(name)?;
        let file_name = format!("{name}{STORE}");
        let not_found = |e| match e {
            Error::NotFound { .. } => Error::NotFound {
                name: name.to_string(),
            },
            e => e,
        };
        let (roster, opened) = match plan.access {
            Access::Read => {
                let directory = Directory::at(&plan.place, false).map_err(not_found)?;
                let opened =
                    Segment::open_with_file(&directory, &file_name, Some(Kind::Store), plan.access);
                (None, opened)
            }
            Access::Write => {
                let roster = join_of(&plan.place, &file_name).map_err(not_found)?;
                let directory = roster.directory();
                let opened =
                    Segment::open_with_file(directory, &file_name, Some(Kind::Store), plan.access);
                (Some(roster), opened)
            }
        };
        let (segment, file) = opened.map_err(not_found)?;
        if let Some(roster) = &roster {
            if segment.header::<Prologue>().roster.load(Relaxed) != roster.id() {
                let path = segment.path().to_string();
                return Err(Error::ForeignRoster { path });
            }
        }
        let attachment = Attachment::over(plan, name, segment, file, roster)?;
        attachment.check_boot(&plan.place)?;
        Ok(attachment)
    }

    fn over(
        plan: &Plan,
        name: &str,
        segment: Segment,
        file: OwnedFd,
        roster: Option<Arc<Roster>>,
    ) -> Result<Attachment> {
        let stat = rustix::fs::fstat(&file).map_err(|e| Error::io(segment.path(), e))?;
        if segment.size().min(stat.st_size as u64) < (HEAP + PAGE) as u64 {
            return Err(Error::refused(
                segment.path(),
                "it is too small for a store",
            ));
        }
        let canary = match &roster {
            Some(roster) => roster.canary(),
            None => ForkCanary::new().map_err(|e| Error::io(segment.path(), e))?,
        };
        let segment = Arc::new(segment);
        let memory = Memory::of_file(segment.clone(), file);
        let me = roster.as_ref().map(|roster| roster.me());
        let attachment = Attachment {
            table: Table::new(memory),
            segment,
            me: me.map_or(0, lock::word_of),
            writer: me.map_or(0, |me| {
                u16::from(me.slot) | (me.generation as u16 & 0xff) << 8
            }),
            roster,
            canary,
            lock_timeout: plan.lock_timeout,
            name: name.to_string(),
            known_types: [const { AtomicU64::new(0) }; 64],
        };
        attachment.check_header()?;
        Ok(attachment)
    }

    /// What must be so for lookups to mean anything. The rest is checked where it is used.
    pub(super) fn check_header(&self) -> Result<()> {
        let header = self.header();
        if header.hash.load(Relaxed) != HASH_RAPID_V3 {
            return Err(self.corrupt(Flaw {
                at: store_word!(hash),
            }));
        }
        let Some(buckets) = self.table.buckets() else {
            return Err(self.corrupt(Flaw {
                at: store_word!(buckets),
            }));
        };
        for index in [0, buckets - 1] {
            let bucket = self
                .table
                .bucket_at(index)
                .and_then(|at| self.table.bucket(at));
            if bucket.is_none() {
                let at = store_word!(pieces) + table::piece_of(index).0;
                return Err(self.corrupt(Flaw { at }));
            }
        }
        let (cursor, end) = (header.cursor.load(Relaxed), header.end.load(Relaxed));
        if cursor > end || end > self.table.memory.len() {
            return Err(self.corrupt(Flaw {
                at: store_word!(end),
            }));
        }
        Ok(())
    }

    /// After a reboot, and so perhaps a power cut, all of the store is looked at before it is used.
    fn check_boot(&self, place: &Place) -> Result<()> {
        let of_another_boot = || {
            let written = [0, 1].map(|i| self.header().boot_id[i].load(Relaxed));
            boot_id().filter(|ours| *ours != written)
        };
        let Some(ours) = of_another_boot() else {
            return Ok(());
        };
        if self.roster.is_none() {
            return self.verify_beside_writers(place, || of_another_boot().is_none());
        }
        let locked = self.lock()?;
        locked.verify()?;
        for (word, value) in self.header().boot_id.iter().zip(ours) {
            word.store(value, Relaxed);
        }
        Ok(())
    }

    /// Looks at all of the store, without the lock if we may not take it.
    pub(crate) fn verify(&self) -> Result<()> {
        if self.is_forked() {
            return Err(Error::Forked);
        }
        if self.roster.is_some() {
            return self.lock()?.verify();
        }
        self.look_at_all()
    }

    /// Looks at all of the store until it is sound, or a writer has said so, or what looks damaged is
    /// not half done by a writer who lives.
    fn verify_beside_writers(&self, place: &Place, is_sound: impl Fn() -> bool) -> Result<()> {
        let directory = Directory::at(place, false);
        let roster = directory.and_then(|directory| RosterView::open(&directory));
        let id = self.header().prologue.roster.load(Relaxed);
        // Without its own roster nobody writes to it.
        let roster = roster.ok().filter(|roster| roster.id() == id);
        let is_alive = |holder| roster.as_ref().is_some_and(|r| r.is_alive(holder));
        let start = Instant::now();
        loop {
            let lock = self.door().lock.seen();
            let (outcome, at_rest) = self.verify_unlocked();
            if outcome.is_ok() || is_sound() {
                return Ok(());
            }
            let same = self.door().lock.seen() == lock;
            let is_left = same && lock::owner(lock).is_some_and(|holder| !is_alive(holder));
            if at_rest || is_left || start.elapsed() >= self.lock_timeout {
                return outcome;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Looks at all of the store without the lock. Says too whether nobody changed anything
    /// meanwhile: else what was found may be a change that was not whole yet.
    pub(crate) fn verify_unlocked(&self) -> (Result<()>, bool) {
        let changes = || {
            let count = self.header().sequence.load(Relaxed);
            fence(Acquire);
            count
        };
        let is_free = || {
            let holder = lock::owner(self.door().lock.seen());
            fence(Acquire);
            holder.is_none()
        };
        // A change is counted before its lock is given back. So the count comes first here and last
        // below: a free lock then says that what was counted is whole.
        let before = changes();
        let was_free = is_free();
        let outcome = self.look_at_all();
        fence(Acquire);
        (outcome, was_free && is_free() && changes() == before)
    }

    pub(super) fn look_at_all(&self) -> Result<()> {
        let flaws = super::verify::flaws(&self.table);
        if flaws.is_empty() {
            return Ok(());
        }
        Err(self.unsure().unwrap_or_else(|| Error::Damaged {
            path: self.path().to_string(),
            flaws,
        }))
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn path(&self) -> &str {
        self.segment.path()
    }

    pub(crate) fn header(&self) -> &StoreHeader {
        self.segment.header()
    }

    pub(crate) fn door(&self) -> &StoreDoor {
        self.segment.door()
    }

    pub(crate) fn is_read_only(&self) -> bool {
        self.roster.is_none()
    }

    /// Whether the lock is held by a process that died.
    pub(crate) fn holder_is_dead(&self) -> bool {
        let holder = lock::owner(self.door().lock.seen());
        match (holder, &self.roster) {
            (Some(holder), Some(roster)) => !roster.is_alive(holder),
            _ => false,
        }
    }

    pub(crate) fn is_forked(&self) -> bool {
        self.canary.forked()
    }

    /// Removes the file's name, if it still is this file's.
    pub(crate) fn unlink(&self) -> Result<()> {
        if self.is_forked() {
            return Err(Error::Forked);
        }
        let roster = self.roster.as_ref().ok_or(Error::ReadOnly)?;
        self.segment.unlink(roster.directory())
    }

    #[cold]
    pub(crate) fn corrupt_entry(&self, entry: &Entry<'_>) -> Error {
        self.corrupt(Flaw { at: entry.at })
    }

    pub(crate) fn sync(&self) -> Result<()> {
        self.segment.sync(8 * self.table.memory.len())
    }

    pub(crate) fn reach(&self) -> u64 {
        self.segment.size()
    }

    #[cold]
    pub(crate) fn corrupt(&self, flaw: Flaw) -> Error {
        self.unsure().unwrap_or_else(|| Error::Corrupt {
            path: self.path().to_string(),
            offset: flaw.byte(),
        })
    }

    /// Why what looks like a flaw may be none, if that is so.
    pub(super) fn unsure(&self) -> Option<Error> {
        if let Some(e) = self.table.memory.take_failure() {
            return Some(Error::io(self.path(), e));
        }
        // By a limit on address space we could map less than the store may grow to.
        let why = "it outgrew the address space that this process could reserve for it";
        let is_cut = self.table.memory.is_cut();
        is_cut.then(|| Error::refused(self.path(), why))
    }

    /// Bytes that the file has by now.
    pub(crate) fn used(&self) -> u64 {
        8 * self.header().end.load(Relaxed).min(self.table.memory.len())
    }

    /// Bytes that the file may still grow by.
    fn left(&self) -> u64 {
        self.reach().saturating_sub(self.used())
    }

    #[cold]
    pub(super) fn refused(&self, refusal: Refusal, key: &Key<'_>, len: usize) -> Error {
        match refusal {
            Refusal::NoRoom(NoRoom { words }) => match &self.roster {
                Some(roster) => no_space(roster.directory(), 8 * words, self.left()),
                None => Error::ReadOnly,
            },
            Refusal::TooLarge => Error::TooLarge {
                len: len as u64,
                max: 8 * (MOST_WORDS - BLOCK_HEADER - words_for(key.bytes.len())),
            },
            Refusal::Collisions => Error::TooManyCollisions {
                path: self.path().to_string(),
            },
            Refusal::Flaw(flaw) => {
                self.table.poison(flaw);
                self.corrupt(flaw)
            }
        }
    }

    /// The key of these bytes.
    #[inline(always)]
    pub(crate) fn key<'a>(&self, bytes: &'a [u8]) -> Result<Key<'a>> {
        if self.canary.forked() {
            return Err(Error::Forked);
        }
        if bytes.len() > MOST_KEY {
            let (len, max) = (bytes.len(), MOST_KEY);
            return Err(Error::KeyTooLong { len, max });
        }
        Ok(self.table.key(bytes))
    }

    /// Lets `read` read the key's entry, until it is one that did not change meanwhile: at most 16
    /// times without the lock, then with it.
    #[inline(always)]
    pub(crate) fn read<R>(
        &self,
        key: &Key<'_>,
        mut read: impl FnMut(&Entry<'_>) -> Result<R, Torn>,
    ) -> Result<Option<R>> {
        match self.table.find(key) {
            Probe::Hit(entry) => match read(&entry) {
                Ok(value) => Ok(Some(value)),
                Err(Torn) => self.read_again(key, read),
            },
            Probe::Miss => Ok(None),
            Probe::Moved => self.read_again(key, read),
        }
    }

    #[cold]
    #[inline(never)]
    fn read_again<R>(
        &self,
        key: &Key<'_>,
        mut read: impl FnMut(&Entry<'_>) -> Result<R, Torn>,
    ) -> Result<Option<R>> {
        for tries in 2..=TRIES {
            match self.table.find(key) {
                Probe::Hit(entry) => {
                    if let Ok(value) = read(&entry) {
                        return Ok(Some(value));
                    }
                    if entry.sizes.value() > LARGE && tries >= FEW_TRIES {
                        break;
                    }
                }
                Probe::Miss => return Ok(None),
                Probe::Moved => {}
            }
        }
        self.read_locked(key, read)
    }

    #[cold]
    #[inline(never)]
    fn read_locked<R>(
        &self,
        key: &Key<'_>,
        mut read: impl FnMut(&Entry<'_>) -> Result<R, Torn>,
    ) -> Result<Option<R>> {
        if self.is_read_only() {
            return Err(Error::Contended);
        }
        let locked = self.lock()?;
        self.table.count(store_word!(locked_reads));
        match locked.find(key)? {
            None => Ok(None),
            // It may be a user's code that decodes.
            Some(entry) => match locked.lend(|| read(&entry))? {
                Ok(value) => Ok(Some(value)),
                Err(Torn) => Err(self.corrupt(Flaw { at: entry.at })),
            },
        }
    }

    /// Changes the key's entry, which is looked for before the lock is taken: that draws in the
    /// lines that are far away, and most of the time nothing happens in between.
    #[inline]
    pub(crate) fn change<R>(
        &self,
        key: &Key<'_>,
        change: impl FnOnce(&Locked<'_>, Option<Entry<'_>>) -> Result<R>,
    ) -> Result<R> {
        let sequence = self.table.counter(store_word!(sequence));
        let before = sequence.load(Relaxed);
        // The search comes after; what it did not find is not there if nothing was committed since.
        fence(Acquire);
        let probe = self.table.find(key);
        let locked = self.lock()?;
        let found = match probe {
            Probe::Hit(entry) if entry.is_still() => Some(entry),
            Probe::Miss if sequence.load(Relaxed) == before => None,
            _ => locked.find(key)?,
        };
        change(&locked, found)
    }

    /// The name of a type by its hash, as far as the store knows it.
    pub(crate) fn type_name(&self, type_hash: u64) -> String {
        let bytes = type_hash.to_ne_bytes();
        let key = self.internal(&bytes);
        let name = self.read(&key, scan::value_of);
        match name {
            Ok(Some(name)) if !name.is_empty() => String::from_utf8_lossy(&name).into_owned(),
            _ => format!("type {type_hash:016x}"),
        }
    }

    pub(super) fn internal<'a>(&self, bytes: &'a [u8]) -> Key<'a> {
        Key {
            internal: true,
            ..self.table.key(bytes)
        }
    }
}

/// Joins the roster beside the file.
fn join_of(place: &Place, file: &str) -> Result<Arc<Roster>> {
    let not_found = |name| Err(Error::NotFound { name });
    // Each round lost was lost to somebody who came or left.
    for _ in 0..100 {
        let name = match roster::join_at(place, false) {
            Err(Error::NotFound { name }) => name,
            other => return other,
        };
        let directory = Directory::at(place, false)?;
        let Some(inode) = directory.inode(file)? else {
            return not_found(name);
        };
        // A roster stays as long as there is a store. So if the store is there before and after,
        // there is none, and nobody can tell any more who held the store's lock.
        if directory.inode(ROSTER)?.is_none() && directory.inode(file)? == Some(inode) {
            let path = directory.file(file);
            return Err(Error::ForeignRoster { path });
        }
    }
    not_found(file.to_string())
}

/// What keys are hashed with: where they lie is nobody's choice but, in a test, its own.
fn hash_seed() -> std::io::Result<u64> {
    #[cfg(test)]
    if let Some(seed) = super::tests::hash_seed() {
        return Ok(seed);
    }
    sys::random_nonzero()
}

/// Makes the file; `false` if another has its name.
fn make(plan: &Plan, roster: &Roster, name: &str) -> Result<bool> {
    let directory = roster.directory();
    let file = format!("{name}{STORE}");
    let io = |e: std::io::Error| Error::of_call("getrandom", directory.file(&file), e);
    let seeds = [hash_seed().map_err(io)?, hash_seed().map_err(io)?];
    let buckets = plan.capacity.saturating_mul(2) / 9 + 1;
    let buckets = buckets.clamp(1 << FIRST_BITS, 1 << MOST_BITS);
    // The buckets lie at the start of the heap, piece by piece.
    let mut pieces = Vec::new();
    let (mut next, mut cursor) = (0, HEAP as u64 / 8);
    while next < buckets {
        pieces.push((table::piece_of(next).0, cursor));
        cursor += 8 * table::piece_len(next);
        next += table::piece_len(next);
    }
    let bytes = (8 * cursor + PAGE as u64).next_multiple_of(LEAST);
    let size = Size {
        bytes,
        reach: plan.max_size.max(bytes).next_multiple_of(PAGE as u64),
    };
    let made = Segment::create(
        directory,
        &file,
        Kind::Store,
        size,
        roster.id(),
        |segment| {
            let header = segment.header::<StoreHeader>();
            header.hash.store(HASH_RAPID_V3, Relaxed);
            for (word, seed) in header.seeds.iter().zip(seeds) {
                word.store(seed, Relaxed);
            }
            for (word, value) in header.boot_id.iter().zip(boot_id().unwrap_or([0, 0])) {
                word.store(value, Relaxed);
            }
            for (piece, at) in pieces {
                header.pieces[piece as usize].store(at, Relaxed);
            }
            header.buckets.store(buckets, Relaxed);
            header.cursor.store(cursor, Relaxed);
            header.end.store(bytes / 8, Relaxed);
        },
    )?;
    Ok(made.is_ok())
}
