//! The system calls: futex, membarrier, OFD locks, pidfd, what `/proc` says of a process, and the
//! page that tells a fork from its parent.
//!
//! The obligation of the `unsafe` here: hand the kernel only pointers to what it may read or write
//! for as long as it may. Everything else goes through `rustix`, which is safe.
#![allow(unsafe_code)]

#[cfg(loom)]
mod model;
#[cfg(not(loom))]
mod real;
#[cfg(all(test, not(loom)))]
mod tests;

#[cfg(loom)]
pub(crate) use model::*;
#[cfg(not(loom))]
pub(crate) use real::*;
