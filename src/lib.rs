//! ringlane
#![deny(unsafe_code)]
#![allow(dead_code)]
#[cfg(not(loom))]
mod channel;
#[cfg(not(loom))]
mod codec;
#[cfg(not(loom))]
mod domain;
mod doorbell;
#[cfg(not(loom))]
mod error;
mod layout;
mod ring;
#[cfg(not(loom))]
mod role;
#[cfg(not(loom))]
mod roster;
#[cfg(not(loom))]
mod segment;
mod sync;
mod sys;
mod words;
#[cfg(not(loom))]
pub use {channel::*, codec::*, error::*, zerocopy};
