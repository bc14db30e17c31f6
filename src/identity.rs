//! Who a process is, so that a pid that was used again is not taken for it, and whether it lives.

use crate::domain::ROSTER;
use crate::layout::Slot;
use crate::segment::Segment;
use crate::sync::Ordering::Relaxed;
use crate::sys;
use rustix::fd::AsFd;
use rustix::io::Errno;
use std::io;
use std::sync::OnceLock;

/// What a pid says of the process that wrote an identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Proof {
    Alive,
    Dead,
    /// Nothing: it is of another pid namespace, or this kernel does not tell.
    Unknown,
}

/// Writes who we are.
pub(crate) fn write(slot: &Slot) {
    let pid = std::process::id();
    let pidfd = sys::open_pid(pid).ok().flatten();
    slot.pid.store(u64::from(pid), Relaxed);
    slot.pid_namespace.store(pid_namespace(), Relaxed);
    slot.time_namespace.store(namespace("time"), Relaxed);
    slot.start_time.store(start_time(pid).unwrap_or(0), Relaxed);
    slot.pidfd_inode
        .store(pidfd.map_or(0, |fd| sys::pidfd_inode(fd.as_fd())), Relaxed);
}

/// Whether whoever wrote the identity in `slot` lives; `ours` is [`pid_namespace`].
pub(crate) fn proof(slot: &Slot, ours: u64) -> Proof {
    let pid = slot.pid.load(Relaxed) as u32;
    if pid == 0 {
        return Proof::Dead;
    }
    if ours == 0 || slot.pid_namespace.load(Relaxed) != ours {
        return Proof::Unknown;
    }
    let pidfd = match sys::open_pid(pid) {
        Ok(Some(pidfd)) => pidfd,
        Ok(None) => return Proof::Dead,
        // Ours to have at another time, so no ground to declare anyone dead.
        Err(e) if is_shortage(&e) => return Proof::Alive,
        Err(_) => return Proof::Unknown,
    };
    if matches!(sys::has_ended(pidfd.as_fd()), Ok(true)) {
        return Proof::Dead;
    }
    let recorded = slot.pidfd_inode.load(Relaxed);
    let inode = sys::pidfd_inode(pidfd.as_fd());
    if recorded != 0 && inode != 0 {
        return if recorded == inode {
            Proof::Alive
        } else {
            Proof::Dead
        };
    }
    let started = slot.start_time.load(Relaxed);
    let same_clock = slot.time_namespace.load(Relaxed) == namespace("time");
    match start_time(pid) {
        Some(now) if same_clock && started != 0 && now != started => Proof::Dead,
        _ => Proof::Alive,
    }
}

fn is_shortage(error: &io::Error) -> bool {
    let shortages = [Errno::MFILE, Errno::NFILE, Errno::NOMEM];
    shortages
        .iter()
        .any(|e| error.raw_os_error() == Some(e.raw_os_error()))
}

/// Whether a living process without its token is one that exec'ed: it maps the roster no more.
pub(crate) fn has_exec_ed(slot: &Slot, roster: &Segment) -> bool {
    if !has_own_proc() {
        return false;
    }
    let (inode, name) = (roster.inode().1.to_string(), format!("/{ROSTER}"));
    let pid = slot.pid.load(Relaxed) as u32;
    match std::fs::read_to_string(format!("/proc/{pid}/maps")) {
        // A line is: addresses, permissions, offset, device, inode, path. The device reads
        // differently here and in `stat` on some file systems, so the inode and the name decide:
        // another file system has that inode, too.
        Ok(maps) => !maps.lines().any(|l| {
            l.split_ascii_whitespace().nth(4) == Some(&inode)
                && l.trim_end_matches(" (deleted)").ends_with(&name)
        }),
        // It is gone meanwhile, or hidden.
        Err(e) if e.kind() == io::ErrorKind::NotFound => matches!(sys::open_pid(pid), Ok(None)),
        // All its memory is gone; or it may not be asked, and is believed.
        Err(e) => e.raw_os_error() == Some(libc::ESRCH),
    }
}

/// The pid namespace of this process, which it keeps; 0 if it cannot be told. A fork may have
/// another.
pub(crate) fn pid_namespace() -> u64 {
    namespace("pid")
}

/// Inode of our namespace of that kind, 0 if it cannot be told.
fn namespace(kind: &str) -> u64 {
    rustix::fs::stat(format!("/proc/self/ns/{kind}")).map_or(0, |stat| stat.st_ino)
}

/// Whether `/proc` is of our pid namespace. Else `/proc/PID` is another process's.
fn has_own_proc() -> bool {
    let me = std::fs::read_link("/proc/self");
    me.is_ok_and(|me| me.as_os_str() == &*std::process::id().to_string())
}

/// When `pid` started, in clock ticks since boot.
fn start_time(pid: u32) -> Option<u64> {
    stat_field(pid, 22)?.parse().ok()
}

/// Whether `pid`, of our namespace, is stopped, by a signal or a debugger.
pub(crate) fn is_stopped(pid: u32) -> bool {
    stat_field(pid, 3).is_some_and(|state| matches!(&*state, "T" | "t"))
}

/// A field of `/proc/PID/stat`, by its number in the manual; from the third on.
fn stat_field(pid: u32, number: usize) -> Option<String> {
    if !has_own_proc() {
        return None;
    }
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second is the name in brackets, which may hold anything.
    let behind = stat.rsplit_once(')')?.1;
    let field = behind.split_ascii_whitespace().nth(number - 3)?;
    Some(field.to_string())
}

/// The id of this boot, as two words; `None` while it cannot be read.
pub(crate) fn boot_id() -> Option<[u64; 2]> {
    static BOOT: OnceLock<[u64; 2]> = OnceLock::new();
    if let Some(id) = BOOT.get() {
        return Some(*id);
    }
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let digits: String = text.chars().filter(char::is_ascii_hexdigit).collect();
    let half = |range| u64::from_str_radix(digits.get(range)?, 16).ok();
    let id = [half(0..16)?, half(16..32)?];
    Some(*BOOT.get_or_init(|| id))
}
