//! Contestants that share with nobody, or with threads only: what a map costs that need not cross
//! a process's border. Keys are boxed, since a shared store takes keys of any length, and all hash
//! with hashbrown's own hasher, the quickest of theirs.

use std::sync::{Arc, RwLock};

use dashmap::DashMap;
use hashbrown::{DefaultHashBuilder, HashMap};

use super::map::{Key, Map, Payload};

type Boxed = Box<[u8]>;

#[derive(Default)]
pub struct Hashbrown<P>(HashMap<Boxed, P>);

impl<P: Payload> Map<P> for Hashbrown<P> {
    fn get(&mut self, key: &Key, out: &mut P) -> bool {
        copy_found(self.0.get(&key[..]), out)
    }

    fn set(&mut self, key: &Key, value: &P) {
        replace(&mut self.0, key, value);
    }
}

#[derive(Clone, Default)]
pub struct Rwlock<P>(Arc<RwLock<HashMap<Boxed, P>>>);

impl<P: Payload> Map<P> for Rwlock<P> {
    fn get(&mut self, key: &Key, out: &mut P) -> bool {
        copy_found(self.0.read().expect("a lock").get(&key[..]), out)
    }

    fn set(&mut self, key: &Key, value: &P) {
        replace(&mut self.0.write().expect("a lock"), key, value);
    }

    fn another(&self) -> Option<Self> {
        Some(self.clone())
    }
}

#[derive(Clone, Default)]
pub struct Papaya<P>(Arc<papaya::HashMap<Boxed, P, DefaultHashBuilder>>);

impl<P: Payload> Map<P> for Papaya<P> {
    fn get(&mut self, key: &Key, out: &mut P) -> bool {
        copy_found(self.0.pin().get(&key[..]), out)
    }

    fn set(&mut self, key: &Key, value: &P) {
        self.0.pin().insert(key[..].into(), value.clone());
    }

    fn another(&self) -> Option<Self> {
        Some(self.clone())
    }
}

#[derive(Clone, Default)]
pub struct Dashmap<P>(Arc<DashMap<Boxed, P, DefaultHashBuilder>>);

impl<P: Payload> Map<P> for Dashmap<P> {
    fn get(&mut self, key: &Key, out: &mut P) -> bool {
        copy_found(self.0.get(&key[..]).as_deref(), out)
    }

    fn set(&mut self, key: &Key, value: &P) {
        match self.0.get_mut(&key[..]) {
            Some(mut old) => old.copy(value.bytes()),
            None => {
                self.0.insert(key[..].into(), value.clone());
            }
        }
    }

    fn another(&self) -> Option<Self> {
        Some(self.clone())
    }
}

fn copy_found<P: Payload>(found: Option<&P>, out: &mut P) -> bool {
    match found {
        Some(value) => {
            out.copy(value.bytes());
            true
        }
        None => false,
    }
}

/// Over the old value's bytes, if there is one.
fn replace<P: Payload>(map: &mut HashMap<Boxed, P>, key: &Key, value: &P) {
    match map.get_mut(&key[..]) {
        Some(old) => old.copy(value.bytes()),
        None => {
            map.insert(key[..].into(), value.clone());
        }
    }
}
