//! The shared store: a hash table in a file that any number of processes read and write.
//!
//! `table` says where a key lies, `change` and `split` are what writers do, `blocks` says where
//! values come from, `journal` how a change is made so that a kill at any instruction leaves it done
//! or not done; `lookup` reads without the lock, `scan` goes through all entries, `watch` waits for
//! changes, which an `alarm` tells, and `verify` looks at all of it. `memory` is the words,
//! `attachment` one process's hold on the file, `locked` what it does under the lock, `values` turns
//! what lies there into a value, and `typed`, `options`, `iterate` and `stats` are the interface.

mod alarm;
mod blocks;
mod change;
mod journal;
mod lookup;
mod memory;
#[cfg(all(test, loom))]
mod models;
pub(crate) mod scan;
mod split;
mod table;

#[cfg(not(loom))]
pub(crate) mod attachment;
#[cfg(not(loom))]
mod iterate;
#[cfg(not(loom))]
mod locked;
#[cfg(not(loom))]
mod options;
#[cfg(not(loom))]
mod stats;
#[cfg(all(test, not(loom)))]
mod tests;
#[cfg(not(loom))]
mod typed;
#[cfg(not(loom))]
mod values;
#[cfg(not(loom))]
mod verify;
#[cfg(not(loom))]
mod watch;

pub(crate) use lookup::Torn;
#[cfg(not(loom))]
pub use {
    iterate::{StoreIter, StoreKeys},
    options::StoreOptions,
    stats::StoreStats,
    typed::{CasError, Store},
    watch::{Watch, Watcher},
};
