//! Processes on one Linux host that talk at memory speed and survive each other's deaths.
//!
//! - A [`Channel`] is a named, full-duplex pair of lock-free rings in a memory-mapped file. Sending
//!   and receiving between two awake processes makes no system call.
//! - There are two ways of receiving, one for each receiver: actively with
//!   [`recv`](Receiver::recv) and its like, passively with
//!   [`on_receive`](Receiver::on_receive) and filters.
//! - A [`Store`] is a hash table in such a file: any number of processes read it without a lock and
//!   write it, and a writer killed at any instruction leaves it whole.
//! - A [`Runtime`] starts named children, gives each the channels `{name}-active` and
//!   `{name}-passive`, and starts a child again on request or after a crash. What was sent and not
//!   received is still there.
//! - [`inspect`] shows all of it from outside, also when it hangs or is dead.
//!
//! A peer that died is told as a value, [`RecvError::PeerDied`]; nothing here waits for a process
//! that the kernel says is gone, and no clock ever declares one dead.
//!
//! What it will not do: talk to other hosts or other users, run on anything but Linux, keep messages
//! through a reboot, or have more than one sender and one receiver in a direction.
//!
//! ```no_run
//! use ringlane::{Child, ChildResult, Runtime};
//!
//! fn shout(child: Child) -> ChildResult {
//!     let mut channel = child.active::<str>()?;
//!     while let Ok(line) = channel.recv() {
//!         channel.send(line.to_uppercase())?;
//!     }
//!     Ok(())
//! }
//!
//! fn main() -> ringlane::Result<()> {
//!     let runtime = Runtime::builder("demo").child("shout", shout).start()?;
//!     let mut channel = runtime.get_channel::<str>("shout-active")?;
//!     channel.send("hello")?;
//!     assert_eq!(channel.recv()?, "HELLO");
//!     runtime.shutdown()
//! }
//! ```
#![cfg(target_os = "linux")]
#![deny(unsafe_code)]
// The models run ring, doorbell, lock and the inside of the store only.
#![cfg_attr(loom, allow(dead_code, unused_imports))]

/// A point that a user's test can have its process die at; nothing without the feature.
macro_rules! failpoint {
    ($point:ident) => {
        #[cfg(all(feature = "failpoints", not(loom)))]
        crate::failpoints::pass(crate::failpoints::Point::$point);
    };
}

// The architecture, bottom row first: a module imports from its own row's left, or from rows below.

// Facts: types, bytes, system calls.
#[cfg(not(loom))]
mod error;

mod sync;

#[cfg(all(feature = "failpoints", not(loom)))]
pub mod failpoints;

mod layout;

mod sys;

mod words;

// Mechanisms.
#[cfg(not(loom))]
mod domain;

#[cfg(not(loom))]
mod segment;

#[cfg(not(loom))]
mod identity;

#[cfg(not(loom))]
mod roster;

mod lock;

mod ring;

#[cfg(not(loom))]
mod role;

mod doorbell;

// The typed API.
#[cfg(not(loom))]
mod codec;

#[cfg(not(loom))]
mod channel;

#[cfg(not(loom))]
mod listener;

mod store;

// Processes and pictures.
#[cfg(not(loom))]
mod runtime;

#[cfg(not(loom))]
mod removal;

#[cfg(not(loom))]
pub mod inspect;

// With `serde`, which their examples use.
#[cfg(all(doc, feature = "serde"))]
pub mod _docs;

// What README.md tells a reader to write compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

// What must not compile does not.
#[cfg(doctest)]
#[doc = include_str!("../tests/compile_fail.md")]
struct CompileFail;

#[cfg(test)]
#[path = "../tests/common"]
mod common {
    #[cfg(not(loom))]
    pub mod cases;
    pub mod random;
    pub mod tally;
}

#[cfg(not(loom))]
mod api {
    pub use crate::channel::{
        Channel, ChannelOptions, End, Iter, Loan, Mode, PeerState, Receiver, RecvRef, Sender,
        Stats, TryIter, Wait,
    };
    #[cfg(feature = "bytemuck")]
    pub use crate::codec::Pod;
    #[cfg(feature = "serde")]
    pub use crate::codec::Postcard;
    pub use crate::codec::{Codec, Message, Owned, Plain, Raw};
    pub use crate::error::{Error, RecvError, Result, SendError, TryRecvError, TrySendError};
    pub use crate::listener::{Listener, ListenerBuilder};
    pub use crate::removal::remove_domain;
    pub use crate::runtime::{
        Child, ChildResult, ChildSpec, ChildStatus, Restart, Runtime, RuntimeBuilder,
    };
    pub use crate::store::{
        CasError, Store, StoreIter, StoreKeys, StoreOptions, StoreStats, Watch, Watcher,
    };
    pub use zerocopy;
}

#[cfg(not(loom))]
pub use api::*;
