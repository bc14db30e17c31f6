//! Padding is bytes without a value, which must not be handed to others.

use ringlane::zerocopy::{Immutable, IntoBytes, KnownLayout, TryFromBytes};
use ringlane::{Message, Plain};

#[derive(TryFromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
struct Padded {
    small: u8,
    large: u64,
}

impl Message for Padded {
    const NAME: &str = "test.Padded";
    type Codec = Plain;
}

fn main() {}
