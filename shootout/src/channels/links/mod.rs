//! The contestants.

pub mod futex;
pub mod pipe;
pub mod raw;
pub mod ringlane;
pub mod rtrb;
pub mod shared;
