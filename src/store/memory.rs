//! The words of a store: a file that grows under a mapping that does not move.
//!
//! All of it is mapped once, as far as it may ever grow; what there is of it is known as a length
//! that this process has seen for itself. A word is named by its index, and an index that lies
//! beyond is looked up in the file's size once more before it is refused. The file has all its
//! pages, without holes, up to the journaled end: a writer reserves and populates new ones before
//! it commits that they are there.
//!
//! The obligation of the `unsafe` here: what is lent out lies within the known length.
#![allow(unsafe_code)]

use crate::layout::{HEAP, StoreHeader};
use crate::sync::AtomicU64;
use core::ptr::NonNull;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicUsize, Ordering::Relaxed};
#[cfg(not(loom))]
use {
    crate::segment::{Segment, is_tmpfs},
    rustix::fd::OwnedFd,
    std::sync::Arc,
};

/// Index of the first word that is not the header's or the door's.
pub(crate) const FIRST: u64 = (HEAP / size_of::<AtomicU64>()) as u64;
const HEADER: u64 = (size_of::<StoreHeader>() / size_of::<AtomicU64>()) as u64;

/// What lies behind the words.
pub(crate) trait Backing: Send + Sync {
    /// How many words are within reach by now, and whether there are more than can ever be.
    fn len(&self) -> io::Result<(u64, bool)>;
    /// Whether some of the first `words` are known to have no memory behind them.
    #[cfg(not(loom))]
    fn lacks_pages(&self, words: u64) -> bool;
    /// Makes the words `from..to` be there, if there is room.
    fn grow(&self, from: u64, to: u64) -> Result<(), NoRoom>;
}

/// The store cannot grow by so many words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NoRoom {
    pub(crate) words: u64,
}

pub(crate) struct Memory {
    words: NonNull<AtomicU64>,
    /// Words known to be there; never too many. Private to this process.
    len: AtomicUsize,
    /// Errno of a question for the length that failed, until it was told; else 0.
    failed: AtomicI32,
    /// There are words that cannot be reached. They stay, so this does.
    cut: AtomicBool,
    backing: Box<dyn Backing>,
}

// SAFETY: pointers to atomics, which any thread may use, a counter, and a backing that is Send and
// Sync.
unsafe impl Send for Memory {}
// SAFETY: as above; all methods are atomic accesses or the backing's.
unsafe impl Sync for Memory {}

impl Memory {
    /// # Safety
    /// The first [`FIRST`] words at `words` are there, and as many as `backing` says whenever it is
    /// asked, as long as it lives; all other references to them are to atomics.
    pub(crate) unsafe fn new(words: NonNull<AtomicU64>, backing: Box<dyn Backing>) -> Self {
        Memory {
            words,
            len: AtomicUsize::new(FIRST as usize),
            failed: AtomicI32::new(0),
            cut: AtomicBool::new(false),
            backing,
        }
    }

    /// A word of the header, by [`store_word!`](crate::layout::store_word).
    #[inline(always)]
    pub(crate) fn header(&self, at: u64) -> &AtomicU64 {
        assert!(at < HEADER);
        // SAFETY: the header is there, and lives as long as `self`.
        unsafe { self.words.add(at as usize).as_ref() }
    }

    /// The `count` words of the heap from `at` on, if there are so many.
    #[inline(always)]
    pub(crate) fn heap(&self, at: u64, count: u64) -> Option<&[AtomicU64]> {
        let len = self.len.load(Relaxed) as u64;
        if at < FIRST || count > len || at > len - count {
            return self.heap_grown(at, count);
        }
        // SAFETY: the words lie within the known length, as just checked, and are there as long as
        // `self` is.
        unsafe { Some(self.slice(at, count)) }
    }

    #[cold]
    #[inline(never)]
    fn heap_grown(&self, at: u64, count: u64) -> Option<&[AtomicU64]> {
        let len = self.len();
        if at < FIRST || count > len || at > len - count {
            return None;
        }
        // SAFETY: as in `heap`.
        unsafe { Some(self.slice(at, count)) }
    }

    /// # Safety
    /// `at + count` is at most a length that the backing had.
    #[inline(always)]
    unsafe fn slice(&self, at: u64, count: u64) -> &[AtomicU64] {
        // SAFETY: the caller vouches that the words are there.
        unsafe {
            let first = self.words.add(at as usize).as_ptr();
            core::slice::from_raw_parts(first, count as usize)
        }
    }

    /// A word of the header or of the heap.
    #[inline(always)]
    pub(crate) fn word(&self, at: u64) -> Option<&AtomicU64> {
        if at < HEADER {
            Some(self.header(at))
        } else {
            self.heap(at, 1).map(|words| &words[0])
        }
    }

    /// Makes the words `from..to` be there. They count once that is committed.
    pub(crate) fn grow(&self, from: u64, to: u64) -> Result<(), NoRoom> {
        self.backing.grow(from, to)
    }

    /// Words within reach by now; as many as were last seen if that cannot be told.
    pub(crate) fn len(&self) -> u64 {
        match self.backing.len() {
            Ok((len, cut)) => {
                self.len.fetch_max(len as usize, Relaxed);
                if cut {
                    self.cut.store(true, Relaxed);
                }
                len
            }
            Err(e) => {
                self.failed.store(e.raw_os_error().unwrap_or(0), Relaxed);
                self.len.load(Relaxed) as u64
            }
        }
    }

    /// The same for one to whom so many are enough.
    pub(crate) fn len_for(&self, enough: u64) -> u64 {
        match self.len.load(Relaxed) as u64 {
            known if known >= enough => known,
            _ => self.len(),
        }
    }

    /// Whether some of the first `words` are known to have no memory behind them, as only those do
    /// that no writer reserved.
    #[cfg(not(loom))]
    pub(crate) fn lacks_pages(&self, words: u64) -> bool {
        self.backing.lacks_pages(words)
    }

    /// Whether a word that was not found may be there: the length could not be told, or the word
    /// lies beyond our reach.
    pub(crate) fn is_unsure(&self) -> bool {
        self.failed.load(Relaxed) != 0 || self.is_cut()
    }

    /// Whether some of what is there is beyond our reach.
    pub(crate) fn is_cut(&self) -> bool {
        self.cut.load(Relaxed)
    }

    /// Why the length could not be told, once.
    pub(crate) fn take_failure(&self) -> Option<io::Error> {
        let errno = self.failed.swap(0, Relaxed);
        (errno != 0).then(|| io::Error::from_raw_os_error(errno))
    }
}

/// The file behind a store's words.
#[cfg(not(loom))]
struct File {
    segment: Arc<Segment>,
    file: OwnedFd,
}

#[cfg(not(loom))]
impl Memory {
    /// The words of a store's segment, whose file is at least as long as [`FIRST`] words.
    pub(crate) fn of_file(segment: Arc<Segment>, file: OwnedFd) -> Memory {
        let words = segment.words(0, HEAP as u64);
        // SAFETY: the segment lends its words, as atomics only, for as long as the backing holds
        // it; the backing never says more than both the file and the mapping have.
        unsafe { Memory::new(words, Box::new(File { segment, file })) }
    }
}

#[cfg(not(loom))]
impl Backing for File {
    fn len(&self) -> io::Result<(u64, bool)> {
        let size = rustix::fs::fstat(&self.file)?.st_size as u64;
        let mapped = self.segment.size();
        let cut = !self.segment.is_whole() && size > mapped;
        Ok((size.min(mapped) / 8, cut))
    }

    fn lacks_pages(&self, words: u64) -> bool {
        // A disk may pack what it keeps.
        rustix::fs::fstatfs(&self.file).is_ok_and(is_tmpfs)
            && rustix::fs::fstat(&self.file)
                .is_ok_and(|stat| (stat.st_blocks as u64).saturating_mul(512) / 8 < words)
    }

    fn grow(&self, from: u64, to: u64) -> Result<(), NoRoom> {
        let grown = self.segment.grow(&self.file, 8 * from, 8 * to);
        grown.map_err(|_| NoRoom { words: to - from })
    }
}

/// A fixed number of words on the heap, for models.
#[cfg(all(test, loom))]
pub(crate) struct OnHeap(Box<[AtomicU64]>);

#[cfg(all(test, loom))]
impl OnHeap {
    pub(crate) fn memory(values: impl Iterator<Item = u64>) -> Memory {
        let words: Box<[AtomicU64]> = values.map(AtomicU64::new).collect();
        let backing = Box::new(OnHeap(words));
        let first = NonNull::from(&backing.0[0]);
        // SAFETY: the box owns the words, which do not move, and lends them to nobody else.
        unsafe { Memory::new(first, backing) }
    }
}

#[cfg(all(test, loom))]
impl Backing for OnHeap {
    fn len(&self) -> io::Result<(u64, bool)> {
        Ok((self.0.len() as u64, false))
    }

    fn grow(&self, from: u64, to: u64) -> Result<(), NoRoom> {
        let words = to - from;
        (to <= self.0.len() as u64)
            .then_some(())
            .ok_or(NoRoom { words })
    }
}
