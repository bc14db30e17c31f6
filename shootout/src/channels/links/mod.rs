//! The contestants.

#[cfg(feature = "aeron")]
pub mod aeron;
pub mod batch;
pub mod crossbeam;
pub mod futex;
pub mod iceoryx2;
pub mod in_place;
pub mod ipc_channel;
pub mod memcpy;
pub mod mpsc;
pub mod mq;
pub mod pipe;
pub mod postcard;
pub mod python;
pub mod raw;
pub mod ringlane;
pub mod rtrb;
pub mod shared;
pub mod shared_memory;
#[path = "../../../../benches/baseline/slot.rs"]
mod slot;
#[cfg(feature = "tachyon")]
pub mod tachyon;
pub mod unix;
