//! From the words of an entry to a value.

use super::Torn;
use super::scan;
use super::table::{Entry, words_for};
use crate::codec::{Codec, Message, Owned, Source, no_value, type_hash};
use crate::words;
use std::cell::RefCell;
use zerocopy::{Immutable, KnownLayout, TryFromBytes};

/// A value, or why what is there is none, and the version. In a box, which keeps what is handed
/// from call to call small where all is well.
pub(super) type Decoded<T> = Result<(Owned<T>, u64), Box<(Unlike, u64)>>;

/// What is there is no `T`.
pub(super) enum Unlike {
    /// It is of the type with this hash.
    Type(u64),
    Bytes(String),
}

/// Makes a value of an entry. Everything it says is so of the entry's version.
#[inline(always)]
pub(super) fn decode<T: Message + ?Sized>(
    entry: &Entry<'_>,
    scratch: &mut Vec<u8>,
) -> Result<Decoded<T>, Torn> {
    if entry.type_hash != type_hash::<T>() {
        return mismatch(entry).map(Err);
    }
    match T::Codec::decode(InStore(entry), scratch) {
        Ok(value) => Ok(Ok((value, entry.stamp))),
        Err(Fault::Torn) => Err(Torn),
        Err(Fault::NoValue(why)) => Ok(Err(Box::new((Unlike::Bytes(why), entry.stamp)))),
    }
}

#[cold]
fn mismatch(entry: &Entry<'_>) -> Result<Box<(Unlike, u64)>, Torn> {
    let unlike = (Unlike::Type(entry.type_hash), entry.stamp);
    entry.is_still().then(|| Box::new(unlike)).ok_or(Torn)
}

/// A value in the store, which may change while it is copied: then it is `Torn`.
struct InStore<'a>(&'a Entry<'a>);

enum Fault {
    Torn,
    NoValue(String),
}

impl Source for InStore<'_> {
    type Error = Fault;

    #[inline(always)]
    fn read<T: TryFromBytes + KnownLayout + Immutable>(self) -> Result<T, Fault> {
        let words = self.0.value_words();
        let len = self.0.sizes.value();
        let is_no_value = || no_value::<Self>(len, size_of::<T>());
        let value = if len == size_of::<T>() && words.len() as u64 >= words_for(len) {
            words::read_words(words, is_no_value)
        } else {
            Err(is_no_value())
        };
        if self.0.is_still() {
            value
        } else {
            Err(Fault::Torn)
        }
    }

    #[inline]
    fn append(self, out: &mut Vec<u8>) -> Result<(), Fault> {
        scan::append_value(self.0, out).map_err(|Torn| Fault::Torn)
    }

    fn undecodable(why: String) -> Fault {
        Fault::NoValue(why)
    }
}

/// Bytes that were copied out before.
impl Source for &[u8] {
    type Error = String;

    fn read<T: TryFromBytes + KnownLayout + Immutable>(self) -> Result<T, String> {
        T::try_read_from_bytes(self).map_err(|_| no_value::<Self>(self.len(), size_of::<T>()))
    }

    fn append(self, out: &mut Vec<u8>) -> Result<(), String> {
        out.extend_from_slice(self);
        Ok(())
    }

    fn undecodable(why: String) -> String {
        why
    }
}

/// Lends a buffer of this thread to a codec that needs one.
#[inline(always)]
pub(super) fn with_scratch<T: Message + ?Sized, R>(f: impl FnOnce(&mut Vec<u8>) -> R) -> R {
    /// More is given back to the allocator.
    const KEPT: usize = 1 << 20;
    thread_local! {
        static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    }
    if !T::Codec::NEEDS_SCRATCH {
        return f(&mut Vec::new());
    }
    // Taken out, so that a codec which comes back here finds another.
    // There is none where the thread ends, from whose destructors this may be called.
    let mut scratch = SCRATCH.try_with(RefCell::take).unwrap_or_default();
    let outcome = f(&mut scratch);
    if scratch.capacity() <= KEPT {
        let _ = SCRATCH.try_with(|kept| kept.replace(scratch));
    }
    outcome
}
