//! What the channels are held to, and whether it is met.

use super::SIZES;
use crate::report::Report;
use crate::targets::Bound::{self, AtLeast, AtMost, TimesFaster};
use crate::targets::{self, Target, line, target};

const TARGETS: &[Target] = &[
    target(
        "round trip, 8 B / raw",
        "rtt",
        8,
        "ringlane/raw",
        AtMost(1.15),
    ),
    target(
        "round trip, 8 B / rtrb",
        "rtt",
        8,
        "ringlane/rtrb",
        AtMost(1.05),
    ),
    target(
        "round trip, 56 B / raw",
        "rtt",
        56,
        "ringlane/raw",
        AtMost(1.3),
    ),
    target(
        "round trip, 8 B, times faster than iceoryx2",
        "rtt",
        8,
        "ringlane/iceoryx2",
        TimesFaster(5.0),
    ),
    target(
        "round trip, 56 B, times faster than Aeron",
        "rtt",
        56,
        "ringlane/aeron",
        TimesFaster(2.0),
    ),
    target(
        "round trip, 8 KiB copied / iceoryx2 copied",
        "rtt",
        8192,
        "ringlane/iceoryx2",
        AtMost(0.7),
    ),
    target(
        "stream, 8 B / rtrb",
        "stream",
        8,
        "ringlane/rtrb",
        AtLeast(1.0),
    ),
    target(
        "stream, 8 B / iceoryx2",
        "stream",
        8,
        "ringlane/iceoryx2",
        AtLeast(30.0),
    ),
    target(
        "stream, 64 B / rtrb",
        "stream",
        64,
        "ringlane/rtrb",
        AtLeast(1.0),
    ),
    target(
        "stream, 1 KiB / rtrb",
        "stream",
        1024,
        "ringlane/rtrb",
        AtLeast(1.2),
    ),
    target(
        "stream, 64 KiB copied / memcpy, all written and read",
        "stream",
        65_536,
        "ringlane/memcpy",
        AtLeast(0.45),
    ),
    target(
        "stream, 64 KiB copied / memcpy, untouched",
        "stream_untouched",
        65_536,
        "ringlane/memcpy",
        AtLeast(0.45),
    ),
    target(
        "stream, 64 KiB in place / iceoryx2, all written and read",
        "stream",
        65_536,
        "ringlane-inplace/iceoryx2-zerocopy",
        AtLeast(1.0),
    ),
    target(
        "stream, 64 KiB in place / iceoryx2, untouched",
        "stream_untouched",
        65_536,
        "ringlane-inplace/iceoryx2-zerocopy",
        AtLeast(1.0),
    ),
    target(
        "both asleep, 8 B / raw futex",
        "sleep_rtt",
        8,
        "ringlane/futex",
        AtMost(1.05),
    ),
    target(
        "both asleep, 8 B, times faster than a pipe",
        "sleep_rtt",
        8,
        "ringlane/pipe",
        TimesFaster(1.0),
    ),
    target(
        "both asleep, 8 B, times faster than a socket",
        "sleep_rtt",
        8,
        "ringlane/unix",
        TimesFaster(1.0),
    ),
    target(
        "stream, 8 B, many at a time / one by one",
        "stream",
        8,
        "ringlane-batch/ringlane",
        AtLeast(1.5),
    ),
];

/// To be met with every size of message.
const EVERY_SIZE: [(&str, &str, &str, Bound); 4] = [
    (
        "round trip, copied, times faster than iceoryx2",
        "rtt",
        "ringlane/iceoryx2",
        TimesFaster(1.0),
    ),
    (
        "round trip, in place, times faster than iceoryx2",
        "rtt",
        "ringlane-inplace/iceoryx2-zerocopy",
        TimesFaster(1.0),
    ),
    (
        "stream, copied / iceoryx2",
        "stream",
        "ringlane/iceoryx2",
        AtLeast(1.0),
    ),
    (
        "stream, in place / iceoryx2",
        "stream",
        "ringlane-inplace/iceoryx2-zerocopy",
        AtLeast(1.0),
    ),
];

/// The ring's part of a round trip with a codec.
const RING: f64 = 0.2;

pub fn print(report: &Report) {
    println!("\ntargets");
    targets::print(TARGETS, report);
    for (what, work, name, bound) in EVERY_SIZE {
        let ratio = |bytes| Some((report.ratio(work, bytes, name)?, bytes));
        // A time is worst where it is the longest, a rate where it is the lowest.
        let worse = |ratio: f64| match bound {
            AtLeast(_) => -ratio,
            AtMost(_) | TimesFaster(_) => ratio,
        };
        let worst = SIZES
            .into_iter()
            .filter_map(ratio)
            .max_by(|(a, _), (b, _)| worse(*a).total_cmp(&worse(*b)));
        if let Some((ratio, bytes)) = worst {
            bound.print(&format!("{what}, worst size: {bytes} B"), ratio);
        }
    }
    let payload = super::links::postcard::BYTES;
    if let Some(ratio) = report.ratio("rtt_postcard", payload, "ringlane-postcard/codec") {
        let ring = 1.0 - 1.0 / ratio;
        line(
            "postcard, a small struct: the ring's part of a round trip",
            &format!("< {:.0} %", 100.0 * RING),
            &format!("{:.0} %", 100.0 * ring),
            ring < RING,
        );
    }
}
