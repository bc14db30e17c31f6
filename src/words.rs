//! Copying bytes into and out of shared words.
//!
//! The obligation of the `unsafe` here: the caller vouches for the words, which lie in memory that
//! other processes may change at any time; the private side is an ordinary slice. The shared side is
//! touched by Relaxed atomics, which is defined whatever the other side does, or, on x86-64, by
//! instructions that the compiler does not see through, so there is no data race for it to reason
//! from: moves of 16 bytes, and for large copies the `memcpy` of the system's libc. Bytes that do
//! change meanwhile come out as some mixture; what is read is checked after it was copied, never
//! before.
#![allow(unsafe_code)]

use crate::sync::{AtomicU64, Ordering::Relaxed};
use core::mem::MaybeUninit;
use core::ptr::NonNull;
use zerocopy::{Immutable, KnownLayout, TryFromBytes};

/// Copies `bytes` to the words at `to`. The rest of the last word becomes zero, or stays as it was
/// if the copy was a large one.
///
/// # Safety
/// `to` points to `bytes.len()` bytes, rounded up to whole words, of words that stay mapped and
/// writable during the call, and to which all other references are to atomics.
#[inline(always)]
pub(crate) unsafe fn copy_in(bytes: &[u8], to: NonNull<AtomicU64>) {
    let len = bytes.len();
    let from = bytes.as_ptr();
    if len >= wide::LARGE {
        // SAFETY: both sides are good for `len` bytes, as the caller vouches.
        unsafe { wide::copy(from, to.as_ptr().cast(), len) };
        return;
    }
    let mut done = 0;
    while wide::MOVES && len - done >= 16 {
        // SAFETY: 16 bytes from `done` on lie within both sides.
        unsafe { wide::store(to.as_ptr().cast::<u8>().add(done), from.add(done)) };
        done += 16;
    }
    while len - done >= 8 {
        // SAFETY: 8 bytes from `done` on lie within the slice; a private, unaligned read.
        let word = unsafe { from.add(done).cast::<u64>().read_unaligned() };
        // SAFETY: word done / 8 lies within the words that the caller vouches for.
        unsafe { to.add(done / 8).as_ref() }.store(word, Relaxed);
        done += 8;
    }
    if done < len {
        let mut last = [0; 8];
        last[..len - done].copy_from_slice(&bytes[done..]);
        // SAFETY: the length is rounded up to whole words, so the last partial word is there too.
        unsafe { to.add(done / 8).as_ref() }.store(u64::from_ne_bytes(last), Relaxed);
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
    let len = out.len();
    let to: *mut u8 = out.as_mut_ptr().cast();
    if len >= wide::LARGE {
        // SAFETY: both sides are good for `len` bytes, as the caller vouches.
        unsafe { wide::copy(from.as_ptr().cast(), to, len) };
        return;
    }
    let mut done = 0;
    while wide::MOVES && len - done >= 16 {
        // SAFETY: 16 bytes from `done` on lie within both sides.
        unsafe { wide::load(from.as_ptr().cast::<u8>().add(done), to.add(done)) };
        done += 16;
    }
    while len - done >= 8 {
        // SAFETY: word done / 8 lies within the words that the caller vouches for.
        let word = unsafe { from.add(done / 8).as_ref() }.load(Relaxed);
        // SAFETY: 8 bytes from `done` on lie within `out`; a private, unaligned write.
        unsafe { to.add(done).cast::<u64>().write_unaligned(word) };
        done += 8;
    }
    if done < len {
        // SAFETY: the length is rounded up to whole words, so the last partial word is there too.
        let last = unsafe { from.add(done / 8).as_ref() }.load(Relaxed);
        for (to, byte) in out[done..].iter_mut().zip(last.to_ne_bytes()) {
            to.write(byte);
        }
    }
}

/// Reads the value that lies in the first `size_of::<T>()` bytes at `from`: copies them, says so
/// by `copied`, then checks the private copy. What `otherwise` gives if they are no `T`.
///
/// # Safety
/// As for [`copy_out`], with `size_of::<T>()` bytes.
#[inline(always)]
pub(crate) unsafe fn read<T: TryFromBytes + KnownLayout + Immutable, E>(
    from: NonNull<AtomicU64>,
    copied: impl FnOnce(),
    otherwise: impl FnOnce() -> E,
) -> Result<T, E> {
    let mut value = MaybeUninit::<T>::uninit();
    let size = size_of::<T>();
    // SAFETY: a `MaybeUninit<T>` is `size` bytes that may be uninitialised.
    let raw = unsafe { core::slice::from_raw_parts_mut(value.as_mut_ptr().cast(), size) };
    // SAFETY: the caller vouches for `size` bytes at `from`.
    unsafe { copy_out(from, raw) };
    copied();
    // SAFETY: `copy_out` initialised all `size` bytes.
    let bytes = unsafe { core::slice::from_raw_parts(value.as_ptr().cast::<u8>(), size) };
    if T::try_ref_from_bytes(bytes).is_err() {
        return Err(otherwise());
    }
    // SAFETY: the bytes are those of a valid `T`, as just checked, and lie in `T`'s own place.
    Ok(unsafe { value.assume_init() })
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
pub(crate) fn read_words<T: TryFromBytes + KnownLayout + Immutable, E>(
    from: &[AtomicU64],
    otherwise: impl FnOnce() -> E,
) -> Result<T, E> {
    assert!(size_of::<T>().div_ceil(8) <= from.len());
    // SAFETY: as above.
    unsafe { read(NonNull::from(from).cast(), || (), otherwise) }
}

/// Asks for the line at `at` to be brought near, to be written.
#[inline(always)]
pub(crate) fn prefetch_for_write(at: NonNull<AtomicU64>) {
    // As a number: nothing is read or written there, so the compiler may keep in registers what it
    // has in them.
    let at = at.as_ptr() as usize;
    #[cfg(all(target_arch = "x86_64", not(miri), not(loom)))]
    // SAFETY: it changes nothing, wherever it points.
    unsafe {
        core::arch::asm!("prefetchw [{}]", in(reg) at, options(nostack, preserves_flags, nomem));
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri), not(loom))))]
    let _ = at;
}

/// Copies that the compiler does not see through.
#[cfg(all(target_arch = "x86_64", not(miri), not(loom)))]
mod wide {
    use core::arch::asm;
    use core::arch::x86_64::__m128i;

    pub(super) const MOVES: bool = true;
    /// From this many bytes on, a call of `memcpy` costs less than moves in a loop.
    pub(super) const LARGE: usize = 2048;

    /// Moves 16 bytes from private to shared memory.
    ///
    /// # Safety
    /// Both are good for 16 bytes.
    #[inline(always)]
    pub(super) unsafe fn store(to: *mut u8, from: *const u8) {
        // SAFETY: the caller vouches for both sides.
        unsafe {
            asm!(
                "movq {value}, [{from}]",
                "movhps {value}, [{from} + 8]",
                "movups [{to}], {value}",
                value = out(xmm_reg) _,
                from = in(reg) from,
                to = in(reg) to,
                options(nostack, preserves_flags),
            );
        }
    }

    /// Moves 16 bytes from shared to private memory.
    ///
    /// # Safety
    /// Both are good for 16 bytes.
    #[inline(always)]
    pub(super) unsafe fn load(from: *const u8, to: *mut u8) {
        let value: __m128i;
        // SAFETY: the caller vouches for both sides.
        unsafe {
            asm!("movups {}, [{}]", out(xmm_reg) value, in(reg) from, options(nostack, preserves_flags, readonly));
            to.cast::<__m128i>().write_unaligned(value);
        }
    }

    /// Copies `len` bytes, of which either side may be shared.
    ///
    /// # Safety
    /// Both are good for `len` bytes and do not overlap.
    #[inline(always)]
    pub(super) unsafe fn copy(from: *const u8, to: *mut u8, len: usize) {
        // SAFETY: the caller vouches for both sides; the call is made as the C ABI has it, and `asm`
        // without `nostack` aligns the stack for it.
        unsafe {
            asm!(
                "call {memcpy}@PLT",
                memcpy = sym libc::memcpy,
                inout("rdi") to => _,
                inout("rsi") from => _,
                inout("rdx") len => _,
                clobber_abi("C"),
            );
        }
    }
}

/// All copies go by word.
#[cfg(not(all(target_arch = "x86_64", not(miri), not(loom))))]
mod wide {
    pub(super) const MOVES: bool = false;
    pub(super) const LARGE: usize = usize::MAX;

    pub(super) unsafe fn store(_: *mut u8, _: *const u8) {}
    pub(super) unsafe fn load(_: *const u8, _: *mut u8) {}
    pub(super) unsafe fn copy(_: *const u8, _: *mut u8, _: usize) {}
}
