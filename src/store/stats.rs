//! Numbers about a store, and how they are counted.

use super::attachment::Attachment;
use super::blocks::{Class, FREE};
use super::memory::FIRST;
use super::table::{IN_POOL, MOST_LINKS, piece_len, piece_of};
use crate::sync::Ordering::Relaxed;

/// Numbers about a store, from [`Store::stats`](crate::Store::stats). Sizes are in bytes.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct StoreStats {
    /// Values.
    pub keys: u64,
    /// Changes ever made.
    pub changes: u64,
    /// Of the blocks in which values lie.
    pub live_bytes: u64,
    /// Of blocks that are free for values of about the size of those they were made for.
    pub free_bytes: u64,
    /// Size and number of those free blocks, for each size that has any.
    pub free_blocks: Vec<(u64, u64)>,
    /// Of the buckets, overflow buckets included.
    pub index_bytes: u64,
    /// Of the file. It never shrinks.
    pub file_bytes: u64,
    /// What the file may grow to.
    pub max_size: u64,
    /// Buckets, not counting overflow buckets.
    pub buckets: u64,
    /// Buckets that have overflow buckets.
    pub chained_buckets: u64,
    /// Overflow buckets of the bucket that has most of them.
    pub max_chain: u64,
    /// Buckets that were split.
    pub splits: u64,
    /// Changes that a killed process left half done and another finished.
    pub recoveries: u64,
    /// Reads that lost so many races against writers that they took the lock.
    pub locked_reads: u64,
}

impl StoreStats {
    pub(super) fn of(attachment: &Attachment) -> StoreStats {
        let header = attachment.header();
        let table = &attachment.table;
        let load = |word: &crate::sync::AtomicU64| word.load(Relaxed);
        let internal = load(&header.types);
        let mut stats = StoreStats {
            keys: load(&header.keys).saturating_sub(internal),
            changes: load(&header.sequence),
            live_bytes: load(&header.live_bytes),
            file_bytes: 8 * table.memory.len(),
            max_size: attachment.reach(),
            buckets: table.buckets_there().unwrap_or(0),
            splits: load(&header.splits),
            recoveries: load(&header.recoveries),
            locked_reads: load(&header.locked_reads),
            ..StoreStats::default()
        };
        // Words that may still turn out to be buckets or free blocks. What somebody scribbled may
        // say that there are more, by lists that share them.
        let mut left = table.memory.len().saturating_sub(FIRST);
        let mut pieces = 0;
        let mut overflow = 0;
        let mut next = 0;
        while next < stats.buckets && left >= 8 {
            let index = next;
            next += 1;
            let within = piece_of(index).1;
            let Some(home) = table.home(index) else {
                // Nor is the rest of its piece there.
                next = index - within + piece_len(index);
                continue;
            };
            if within == 0 {
                pieces += piece_len(index);
            }
            let links = chain_len(attachment, home);
            left = left.saturating_sub(8 * (1 + links));
            overflow += links;
            stats.chained_buckets += u64::from(links > 0);
            stats.max_chain = stats.max_chain.max(links);
        }
        stats.index_bytes = 64 * (pieces + overflow);
        for class in Class::all() {
            let (size, count) = (8 * class.words(), free_len(attachment, class, left));
            left -= count * class.words();
            if count > 0 {
                stats.free_blocks.push((size, count));
                stats.free_bytes += size * count;
            }
        }
        stats
    }
}

/// Overflow buckets that hang on the bucket at `home`.
fn chain_len(attachment: &Attachment, home: u64) -> u64 {
    let table = &attachment.table;
    let mut at = Some(home);
    for links in 0..MOST_LINKS as u64 {
        let bucket = at.and_then(|at| table.bucket(at));
        let link = bucket.map_or(0, |bucket| bucket[0].load(Relaxed));
        if link == 0 || link & IN_POOL != 0 {
            return links;
        }
        at = Some(link);
    }
    MOST_LINKS as u64
}

/// Free blocks of a class: as many as fit `left` words, if somebody changes the list meanwhile.
fn free_len(attachment: &Attachment, class: Class, left: u64) -> u64 {
    let memory = &attachment.table.memory;
    let most = left / class.words();
    let mut at = memory.header(class.free()).load(Relaxed);
    let (mut count, mut passed) = (0u64, 0);
    // One that was passed comes again: a circle, which only scribbling makes (Brent's way to tell).
    while at != 0 && at != passed && count < most {
        if count.is_power_of_two() {
            passed = at;
        }
        let first = memory.heap(at, 1).map_or(0, |words| words[0].load(Relaxed));
        if first & FREE == 0 {
            break;
        }
        count += 1;
        at = first & !FREE;
    }
    count
}
