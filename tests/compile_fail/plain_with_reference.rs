//! A reference means nothing in another process.

use ringlane::zerocopy::{Immutable, IntoBytes, KnownLayout, TryFromBytes};
use ringlane::{Message, Plain};

#[derive(TryFromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
struct Line {
    text: &'static u64,
}

impl Message for Line {
    const NAME: &str = "test.Line";
    type Codec = Plain;
}

fn main() {}
