//! Pictures of stores. Read as any reader reads them, without the lock; what changes too fast to be
//! read is read as well as it can be.

use super::reader::split_stamp;
use super::{Finding, Severity, SnapshotOptions, StoreEntry, StoreHolder, StoreInfo};
use crate::codec::type_hash;
use crate::domain::{Directory, Place};
use crate::error::Result;
use crate::layout::store_word;
use crate::lock;
use crate::roster::RosterView;
use crate::segment::Access;
use crate::store::Torn;
use crate::store::attachment::{Attachment, Plan};
use crate::store::scan::{Found, Groups, value_of};
use crate::sync::Ordering::Relaxed;
use core::time::Duration;

/// A value of a type of ours that is longer is not shown as text.
const MOST_TEXT: usize = 256;

fn plan(directory: &Directory) -> Plan {
    Plan {
        place: Place::Domain(directory.name().to_string()),
        max_size: 0,
        capacity: 0,
        access: Access::Read,
        lock_timeout: Duration::ZERO,
    }
}

pub(super) fn open(directory: &Directory, name: &str) -> Result<Attachment> {
    Attachment::open(&plan(directory), name)
}

/// Without the store's roster, nobody can tell who holds its lock or wrote its values.
pub(super) fn read_store(
    store: &Attachment,
    roster: Option<&RosterView>,
    options: &SnapshotOptions,
) -> StoreInfo {
    let header = store.header();
    let holder = lock::owner(store.door().lock.seen()).zip(roster);
    let holder = holder.map(|(holder, roster)| StoreHolder {
        pid: Some(roster.pid_of(holder)).filter(|pid| *pid != 0),
        alive: roster.is_alive(holder),
        stopped: roster.is_stopped(holder),
    });
    StoreInfo {
        name: store.name().to_string(),
        keys: header
            .keys
            .load(Relaxed)
            .saturating_sub(header.types.load(Relaxed)),
        changes: header.sequence.load(Relaxed),
        live_bytes: header.live_bytes.load(Relaxed),
        file_bytes: 8 * store.table.memory.len(),
        max_size: header.prologue.reach.load(Relaxed),
        buckets: store.table.buckets().unwrap_or(0),
        recoveries: header.recoveries.load(Relaxed),
        locked_reads: header.locked_reads.load(Relaxed),
        damaged: store.table.counter(store_word!(poison)).load(Relaxed) != 0,
        holder,
        entries: entries(store, roster, options),
    }
}

/// What is wrong with a store whose file is sound.
pub(super) fn judge(store: &StoreInfo) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut find = |severity, text: String, remedy: String| {
        findings.push(Finding::new(severity, &store.name, text, remedy));
    };
    if store.damaged {
        find(
            Severity::Error,
            "a writer found it damaged, so it takes no more changes".into(),
            "copy what can be read, remove it and make it anew".into(),
        );
    }
    match store.holder {
        Some(holder) if !holder.alive => find(
            Severity::Note,
            "a process died while it held the lock".into(),
            "none needed: the next one who writes goes on from there".into(),
        ),
        Some(StoreHolder {
            pid: Some(pid),
            stopped: true,
            ..
        }) => find(
            Severity::Warning,
            format!("process {pid} is stopped and holds the lock, so nobody can write"),
            format!("let it go on, `kill -CONT {pid}`; or kill it, which loses nothing"),
        ),
        _ => {}
    }
    findings
}

/// What a walk through all of the store finds. Made without the lock, so it counts only if nobody
/// had the lock meanwhile; `None` if that never was so, or nothing is wrong.
pub(super) fn verify(directory: &Directory, name: &str) -> Option<Finding> {
    let store = open(directory, name).ok()?;
    let outcomes = (0..3).map(|_| store.verify_unlocked());
    let (outcome, _) = { outcomes }.find(|(_, at_rest)| *at_rest)?;
    outcome.err().map(|e| Finding::of_error(name, &e))
}

fn entries(
    store: &Attachment,
    roster: Option<&RosterView>,
    options: &SnapshotOptions,
) -> Vec<StoreEntry> {
    struct Raw {
        type_hash: u64,
        version: u64,
        writer: u16,
        len: usize,
        bytes: Vec<u8>,
    }
    let wanted = options.payload_bytes.max(MOST_TEXT);
    let mut groups = Groups::of(&store.table);
    let mut raws: Vec<Found<Raw>> = Vec::new();
    while raws.len() < options.max_entries {
        let group = groups.next(&store.table, |entry| {
            let len = entry.sizes.value();
            // A longer one is shown in part, and so copied in part.
            let bytes = match len <= wanted {
                true => value_of(entry)?,
                false => crate::store::scan::start_of(entry, options.payload_bytes)?,
            };
            Ok::<_, Torn>(Some(Raw {
                type_hash: entry.type_hash,
                version: entry.stamp,
                writer: entry.sizes.writer(),
                len,
                bytes,
            }))
        });
        match group {
            Some(group) => raws.extend(group),
            None => break,
        }
    }
    raws.truncate(options.max_entries);
    raws.sort_by(|a, b| a.key.cmp(&b.key));
    let entry = |Found { key, value: raw }: Found<Raw>| {
        let (type_name, codec) = split_stamp(&store.type_name(raw.type_hash));
        let text = text_of(raw.type_hash, &raw.bytes).filter(|_| raw.bytes.len() == raw.len);
        let mut bytes = raw.bytes;
        bytes.truncate(options.payload_bytes);
        StoreEntry {
            key,
            type_name,
            codec,
            version: raw.version,
            writer: roster.and_then(|roster| roster.pid_of_writer(raw.writer)),
            len: raw.len as u64,
            text,
            bytes,
        }
    };
    raws.into_iter().map(entry).collect()
}

/// A value of a type that the library itself says is a message.
fn text_of(hash: u64, bytes: &[u8]) -> Option<String> {
    macro_rules! number {
        ($($name:ident)*) => {
            $(if hash == type_hash::<$name>() {
                return Some($name::from_ne_bytes(bytes.try_into().ok()?).to_string());
            })*
        };
    }
    number!(u8 u16 u32 u64 u128 i8 i16 i32 i64 i128 f32 f64);
    match bytes {
        [0] if hash == type_hash::<bool>() => Some("false".to_string()),
        [1] if hash == type_hash::<bool>() => Some("true".to_string()),
        [] if hash == type_hash::<()>() => Some("()".to_string()),
        _ if hash == type_hash::<char>() => {
            let code = u32::from_ne_bytes(bytes.try_into().ok()?);
            char::from_u32(code).map(|c| c.to_string())
        }
        _ if hash == type_hash::<str>() => Some(core::str::from_utf8(bytes).ok()?.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_our_own_types_are_shown() {
        let text = |hash, bytes: &[u8]| text_of(hash, bytes).unwrap_or_default();
        assert_eq!(text(type_hash::<i16>(), &(-7i16).to_ne_bytes()), "-7");
        assert_eq!(text(type_hash::<f64>(), &1.5f64.to_ne_bytes()), "1.5");
        assert_eq!(text(type_hash::<bool>(), &[1]), "true");
        assert_eq!(text_of(type_hash::<bool>(), &[2]), None);
        assert_eq!(text(type_hash::<char>(), &('x' as u32).to_ne_bytes()), "x");
        assert_eq!(text_of(type_hash::<char>(), &[0xff; 4]), None);
        assert_eq!(text(type_hash::<str>(), b"hello"), "hello");
        assert_eq!(text_of(type_hash::<str>(), &[0xff]), None);
        assert_eq!(text_of(type_hash::<u64>(), b"short"), None);
        assert_eq!(text_of(type_hash::<[u8]>(), b"bytes"), None);
    }
}
