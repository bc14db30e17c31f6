//! The iterators over a store.

use super::Torn;
use super::scan::{Found, Groups};
use super::table::Entry;
use super::typed::Store;
use super::values::{decode, with_scratch};
use crate::codec::{Message, Owned};
use core::fmt;
use core::marker::PhantomData;

/// Goes through the groups of buckets.
pub(super) struct Entries<'a, R> {
    store: &'a Store,
    groups: Groups,
    found: std::vec::IntoIter<Found<R>>,
}

impl<'a, R> Entries<'a, R> {
    pub(super) fn of(store: &'a Store) -> Self {
        Entries {
            store,
            groups: Groups::of(&store.attachment.table),
            found: Vec::new().into_iter(),
        }
    }

    /// Whether something was passed over that should be there.
    pub(super) fn left_out(&self) -> bool {
        self.groups.left_out.is_some()
    }

    fn next(
        &mut self,
        mut read: impl FnMut(&Entry<'_>) -> Result<Option<R>, Torn>,
    ) -> Option<Found<R>> {
        loop {
            if let Some(found) = self.found.next() {
                return Some(found);
            }
            let attachment = &self.store.attachment;
            if attachment.is_forked() {
                return None;
            }
            self.found = self.groups.next(&attachment.table, &mut read)?.into_iter();
        }
    }
}

/// All keys of a store. See [`Store::keys`].
pub struct StoreKeys<'a>(pub(super) Entries<'a, ()>);

impl Iterator for StoreKeys<'_> {
    type Item = Vec<u8>;

    fn next(&mut self) -> Option<Vec<u8>> {
        self.0.next(|_| Ok(Some(()))).map(|found| found.key)
    }
}

impl fmt::Debug for StoreKeys<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("StoreKeys").field(self.0.store).finish()
    }
}

/// All values of one type in a store. See [`Store::iter`].
pub struct StoreIter<'a, T: Message + ?Sized> {
    pub(super) entries: Entries<'a, Owned<T>>,
    pub(super) message: PhantomData<fn() -> Box<T>>,
}

impl<T: Message + ?Sized> Iterator for StoreIter<'_, T> {
    type Item = (Vec<u8>, Owned<T>);

    fn next(&mut self) -> Option<Self::Item> {
        let found = with_scratch::<T, _>(|scratch| {
            self.entries
                .next(|entry| match decode::<T>(entry, scratch)? {
                    Ok((value, _)) => Ok(Some(value)),
                    Err(_) => Ok(None),
                })
        });
        found.map(|found| (found.key, found.value))
    }
}

impl<T: Message + ?Sized> fmt::Debug for StoreIter<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("StoreIter")
            .field(self.entries.store)
            .finish()
    }
}
