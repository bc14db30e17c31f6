//! Copying bytes into and out of shared words.
//!
//! The obligation of the `unsafe` here: the caller vouches for the words, which lie in memory that
//! other processes may change at any time; the private side is an ordinary slice. Small copies go
//! word by word with Relaxed atomics, which is defined whatever the other side does. Large ones use
//! one string instruction on x86-64: it is opaque to the compiler, so there is no data race for it
//! to reason from; bytes that do change meanwhile come out as some mixture, and what is read is
//! checked after it was copied, never before.
#![allow(unsafe_code)]

use crate::sync::{AtomicU64, Ordering::Relaxed};
use core::mem::MaybeUninit;
use core::ptr::NonNull;
use zerocopy::{Immutable, KnownLayout, TryFromBytes};

/// From this many bytes on, the string instruction beats the word loop.
const LARGE: usize = 1024;

/// Copies `bytes` to the words at `to`. The rest of the last word becomes zero, or stays as it was
/// if the copy was a large one.
///
/// # Safety
/// `to` points to `bytes.len()` bytes, rounded up to whole words, of words that stay mapped and
/// writable during the call, and to which all other references are to atomics.
#[inline(always)]
pub(crate) unsafe fn copy_in(bytes: &[u8], to: NonNull<AtomicU64>) {
    if cfg!(all(target_arch = "x86_64", not(miri), not(loom))) && bytes.len() >= LARGE {
        // SAFETY: both sides are good for `bytes.len()` bytes, as the caller vouches.
        unsafe { string_copy(bytes.as_ptr(), to.as_ptr().cast(), bytes.len()) };
        return;
    }
    let chunks = bytes.chunks_exact(8);
    let rest = chunks.remainder();
    for (i, chunk) in chunks.enumerate() {
        let mut word = [0; 8];
        word.copy_from_slice(chunk);
        // SAFETY: word i lies within the words that the caller vouches for.
        unsafe { to.add(i).as_ref() }.store(u64::from_ne_bytes(word), Relaxed);
    }
    if !rest.is_empty() {
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        // SAFETY: the length is rounded up to whole words, so the last partial word is there too.
        unsafe { to.add(bytes.len() / 8).as_ref() }.store(u64::from_ne_bytes(last), Relaxed);
    }
}

/// Copies `bytes` to the first words of `to`, as [`copy_in`].
///
/// # Panics
/// If there are too few words.
#[inline(always)]
pub(crate) fn copy_in_words(bytes: &[u8], to: &[AtomicU64]) {
    assert!(bytes.len().div_ceil(8) <= to.len());
    // SAFETY: as many words as the bytes fill, as just checked; whoever lends them as atomics
    // vouches that they are mapped.
    unsafe { copy_in(bytes, NonNull::from(to).cast()) };
}

/// Writes `bytes` from byte `skip` (below 8) of the words at `to` on; all other bytes stay.
///
/// # Safety
/// As for [`copy_in`], with `skip + bytes.len()` bytes, and nobody else writes these words.
pub(crate) unsafe fn overwrite(bytes: &[u8], to: NonNull<AtomicU64>, skip: usize) {
    let patch = |to: NonNull<AtomicU64>, at: usize, bytes: &[u8]| {
        // SAFETY: the word lies within the span that the caller vouches for.
        let word = unsafe { to.as_ref() };
        let mut old = word.load(Relaxed).to_ne_bytes();
        old[at..at + bytes.len()].copy_from_slice(bytes);
        word.store(u64::from_ne_bytes(old), Relaxed);
    };
    let (first, rest) = match skip {
        0 => (&bytes[..0], bytes),
        skip => bytes.split_at(bytes.len().min(8 - skip)),
    };
    let mut to = to;
    if !first.is_empty() {
        patch(to, skip, first);
        // SAFETY: the first word is done, and lies within the span.
        to = unsafe { to.add(1) };
    }
    let (whole, last) = rest.split_at(rest.len() & !7);
    // SAFETY: whole words within the span.
    unsafe { copy_in(whole, to) };
    if !last.is_empty() {
        // SAFETY: the last word lies within the span.
        patch(unsafe { to.add(whole.len() / 8) }, 0, last);
    }
}

/// Fills `out` from byte `skip` (below 8) of the words at `from` on.
///
/// # Safety
/// As for [`copy_out`], with `skip + out.len()` bytes.
pub(crate) unsafe fn fill(from: NonNull<AtomicU64>, skip: usize, out: &mut [u8]) {
    let mut from = from;
    let mut out = out;
    if skip != 0 && !out.is_empty() {
        // SAFETY: the first word lies within the span that the caller vouches for.
        let word = unsafe { from.as_ref() }.load(Relaxed).to_ne_bytes();
        let (first, rest) = out.split_at_mut(out.len().min(8 - skip));
        first.copy_from_slice(&word[skip..skip + first.len()]);
        out = rest;
        // SAFETY: the first word is done, and lies within the span.
        from = unsafe { from.add(1) };
    }
    // SAFETY: `MaybeUninit<u8>` and `u8` have one layout, and `copy_out` only ever initialises.
    let out = unsafe { core::slice::from_raw_parts_mut(out.as_mut_ptr().cast(), out.len()) };
    // SAFETY: what is left of the span.
    unsafe { copy_out(from, out) };
}

/// Fills `out` from the words at `from`.
///
/// # Safety
/// `from` points to `out.len()` bytes, rounded up to whole words, of words that stay mapped and
/// readable during the call, and to which all other references are to atomics.
#[inline(always)]
pub(crate) unsafe fn copy_out(from: NonNull<AtomicU64>, out: &mut [MaybeUninit<u8>]) {
    if cfg!(all(target_arch = "x86_64", not(miri), not(loom))) && out.len() >= LARGE {
        // SAFETY: both sides are good for `out.len()` bytes, as the caller vouches.
        unsafe { string_copy(from.as_ptr().cast(), out.as_mut_ptr().cast(), out.len()) };
        return;
    }
    let len = out.len();
    let to: *mut u8 = out.as_mut_ptr().cast();
    for i in 0..len / 8 {
        // SAFETY: word i lies within the words that the caller vouches for.
        let word = unsafe { from.add(i).as_ref() }.load(Relaxed);
        // SAFETY: bytes 8i..8i+8 lie within `out`; a private, unaligned write.
        unsafe { to.add(8 * i).cast::<u64>().write_unaligned(word) };
    }
    if len % 8 != 0 {
        // SAFETY: the length is rounded up to whole words, so the last partial word is there too.
        let last = unsafe { from.add(len / 8).as_ref() }
            .load(Relaxed)
            .to_ne_bytes();
        let done = len & !7;
        for (at, byte) in last.iter().enumerate().take(len - done) {
            // SAFETY: done + at < len.
            unsafe { to.add(done + at).write(*byte) };
        }
    }
}

/// Reads the value that lies in the first `size_of::<T>()` bytes at `from`: copies them, then
/// checks the private copy. `None` if they are no `T`.
///
/// # Safety
/// As for [`copy_out`], with `size_of::<T>()` bytes.
#[inline(always)]
pub(crate) unsafe fn read<T: TryFromBytes + KnownLayout + Immutable>(
    from: NonNull<AtomicU64>,
) -> Option<T> {
    let mut value = MaybeUninit::<T>::uninit();
    let size = size_of::<T>();
    // SAFETY: a `MaybeUninit<T>` is `size` bytes that may be uninitialised.
    let raw = unsafe { core::slice::from_raw_parts_mut(value.as_mut_ptr().cast(), size) };
    // SAFETY: the caller vouches for `size` bytes at `from`.
    unsafe { copy_out(from, raw) };
    // SAFETY: `copy_out` initialised all `size` bytes.
    let bytes = unsafe { core::slice::from_raw_parts(value.as_ptr().cast::<u8>(), size) };
    if T::try_ref_from_bytes(bytes).is_err() {
        return None;
    }
    // SAFETY: the bytes are those of a valid `T`, as just checked, and lie in `T`'s own place.
    Some(unsafe { value.assume_init() })
}

/// Appends `len` bytes at `from` to `out`.
///
/// # Safety
/// As for [`copy_out`], with `len` bytes.
#[inline]
pub(crate) unsafe fn append(from: NonNull<AtomicU64>, len: usize, out: &mut Vec<u8>) {
    out.reserve(len);
    let end = out.len();
    // SAFETY: the caller vouches for `len` bytes at `from`; `reserve` made room for them.
    unsafe { copy_out(from, &mut out.spare_capacity_mut()[..len]) };
    // SAFETY: `copy_out` initialised `len` bytes behind the old end.
    unsafe { out.set_len(end + len) };
}

/// Appends the first `len` bytes of `from` to `out`.
///
/// # Panics
/// If there are too few words.
#[inline]
pub(crate) fn append_words(from: &[AtomicU64], len: usize, out: &mut Vec<u8>) {
    assert!(len.div_ceil(8) <= from.len());
    // SAFETY: as many words as the bytes fill, as just checked; whoever lends them as atomics
    // vouches that they are mapped.
    unsafe { append(NonNull::from(from).cast(), len, out) };
}

/// Reads the value that lies in the first bytes of `from`, as [`read`].
///
/// # Panics
/// If there are too few words.
#[inline(always)]
pub(crate) fn read_words<T: TryFromBytes + KnownLayout + Immutable>(
    from: &[AtomicU64],
) -> Option<T> {
    assert!(size_of::<T>().div_ceil(8) <= from.len());
    // SAFETY: as above.
    unsafe { read(NonNull::from(from).cast()) }
}

#[cfg(target_arch = "x86_64")]
#[inline(always)]
unsafe fn string_copy(from: *const u8, to: *mut u8, len: usize) {
    // SAFETY: the caller vouches for `len` bytes on both sides; the direction flag is clear, as
    // the ABI has it.
    unsafe {
        core::arch::asm!(
            "rep movsb",
            inout("rcx") len => _,
            inout("rsi") from => _,
            inout("rdi") to => _,
            options(nostack, preserves_flags),
        );
    }
}

#[cfg(not(target_arch = "x86_64"))]
unsafe fn string_copy(_: *const u8, _: *mut u8, _: usize) {
    unreachable!("copies are by word on this architecture")
}
