//! Contestant: this library's store, through its public API and with its default options.

use ringlane::Store;

use super::map::{Key, Map};
use crate::keeper::Scratch;

pub struct Ringlane {
    store: Store,
    /// Whether the store goes with this handle.
    owner: bool,
}

impl Ringlane {
    pub fn create(scratch: &Scratch) -> Self {
        let name = scratch.path("store");
        let name = name
            .file_name()
            .and_then(|name| name.to_str())
            .expect("a name");
        let store = Store::options().domain("shootout").create(name);
        Self {
            store: store.expect("create the store"),
            owner: true,
        }
    }

    fn shared(&self) -> Self {
        Self {
            store: self.store.clone(),
            owner: false,
        }
    }
}

impl Drop for Ringlane {
    fn drop(&mut self) {
        if self.owner {
            self.store.remove().expect("remove the store");
        }
    }
}

impl Map<u64> for Ringlane {
    #[inline]
    fn get(&mut self, key: &Key, out: &mut u64) -> bool {
        let found = self.store.get::<u64>(key).expect("get");
        if let Some(value) = found {
            *out = value;
        }
        found.is_some()
    }

    #[inline]
    fn set(&mut self, key: &Key, value: &u64) {
        self.store.set(key, value).expect("set");
    }

    fn another(&self) -> Option<Self> {
        Some(self.shared())
    }
}

impl Map<Vec<u8>> for Ringlane {
    #[inline]
    fn get(&mut self, key: &Key, out: &mut Vec<u8>) -> bool {
        self.store.get_into(key, out).expect("get")
    }

    #[inline]
    fn set(&mut self, key: &Key, value: &Vec<u8>) {
        self.store.set::<[u8]>(key, value).expect("set");
    }

    fn another(&self) -> Option<Self> {
        Some(self.shared())
    }
}
