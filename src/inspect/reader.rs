//! Reads the files of one domain, with Relaxed loads only: on a mapping that is read-only, no other
//! load of an atomic is promised to work. Whatever lies there, something comes out.

use super::direction::read_direction;
use super::picture::end_name;
use super::{
    ChannelInfo, ChildInfo, ChildState, DirectionInfo, DomainInfo, EndInfo, EndState, Finding,
    MainInfo, Severity, SnapshotOptions, StoreInfo,
};
use crate::channel::attachment::checked_capacity;
use crate::channel::{End, Mode};
use crate::domain::{self, CHANNEL, Directory, ROSTER, RUNTIME, STORE, TEMPORARY};
use crate::error::{Error, Result, display};
use crate::layout::{CHILDREN, ChannelHeader, ChildRecord, EndNote, Kind, Prologue, RuntimeHeader};
use crate::ring::Ring;
use crate::role::{Role, State};
use crate::roster::RosterView;
use crate::segment::{Access, Segment, is_tmpfs};
use crate::sync::{AtomicU64, Ordering::Acquire, Ordering::Relaxed, fence};
use rustix::fs::{AtFlags, FileType};
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::sync::Arc;

/// Takes a picture of the domain.
pub(super) fn read_domain(directory: &Directory, options: &SnapshotOptions) -> Result<DomainInfo> {
    let names = directory.list()?;
    let mut reader = Reader {
        directory,
        options,
        on_tmpfs: rustix::fs::fstatfs(directory).is_ok_and(is_tmpfs),
        roster: None,
        findings: Vec::new(),
    };
    if names.iter().any(|name| name == ROSTER) {
        reader.read_roster();
    }
    let runtime = names.iter().any(|name| name == RUNTIME);
    let (main, children) = runtime.then(|| reader.read_runtime()).flatten().unzip();
    let (mut channels, mut stores, mut unread) = (Vec::new(), Vec::new(), 0);
    let is_there = |name| !matches!(directory.inode(name), Ok(None));
    for name in &names {
        match file_kind(name) {
            File::Channel(channel) => match reader.read_channel(name, channel) {
                Some(channel) => channels.push(channel),
                None => unread += usize::from(is_there(name)),
            },
            File::Store(store) => match reader.read_store(name, store) {
                Some(store) => stores.push(store),
                None => unread += usize::from(is_there(name)),
            },
            File::Other => reader.warn(
                name,
                "it is no file of this library",
                "remove it: the domain's directory stays while it is there",
            ),
            File::Known => {}
        }
    }
    // `a` comes before `a-b`, but `a-b.channel` before `a.channel`.
    channels.sort_by(|a: &ChannelInfo, b| a.name.cmp(&b.name));
    stores.sort_by(|a: &StoreInfo, b| a.name.cmp(&b.name));
    Ok(DomainInfo {
        name: directory.name().to_string(),
        path: display(directory.path()),
        bytes: names.iter().map(|name| bytes_of(directory, name)).sum(),
        main,
        children: children.unwrap_or_default(),
        channels,
        stores,
        unread,
        abandoned: match reader.roster {
            Some(roster) => roster.is_abandoned(),
            // Listed before its age is looked at: who made the roster meanwhile has made it new.
            None => Directory::nobody_came(&names) && !directory.is_new(),
        },
        findings: reader.findings,
    })
}

enum File<'a> {
    Channel(&'a str),
    Store(&'a str),
    Known,
    Other,
}

fn file_kind(name: &str) -> File<'_> {
    let named = |ending| {
        let name = name.strip_suffix(ending)?;
        domain::check_name(name).is_ok().then_some(name)
    };
    match (named(CHANNEL), named(STORE)) {
        (Some(channel), _) => File::Channel(channel),
        (None, Some(store)) => File::Store(store),
        // A segment that is just being made.
        _ if name == ROSTER || name == RUNTIME || name.ends_with(TEMPORARY) => File::Known,
        _ => File::Other,
    }
}

/// Reads the files of one domain.
struct Reader<'a> {
    directory: &'a Directory,
    options: &'a SnapshotOptions,
    on_tmpfs: bool,
    roster: Option<RosterView>,
    findings: Vec<Finding>,
}

impl Reader<'_> {
    fn warn(&mut self, about: &str, text: impl Into<String>, remedy: &str) {
        let finding = Finding::new(Severity::Warning, about, text, remedy);
        self.findings.push(finding);
    }

    /// The outcome, unless it is an error, which is worth a warning if it is not that the file is
    /// gone since it was listed.
    fn sound<T>(&mut self, file: &str, outcome: Result<T>) -> Option<T> {
        match outcome {
            Ok(value) => Some(value),
            Err(Error::NotFound { .. }) => None,
            Err(e) => {
                self.findings.push(Finding::of_error(file, &e));
                None
            }
        }
    }

    /// Whether reading the file cannot fail for want of memory: a page that was never reserved is
    /// made by reading it, and on a full tmpfs that is SIGBUS.
    fn has_all_pages(&mut self, file: &str) -> bool {
        let all = !self.on_tmpfs
            || rustix::fs::statat(self.directory, file, AtFlags::SYMLINK_NOFOLLOW).map_or(
                true,
                |stat| {
                    FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile
                        || stat.st_blocks as u64 * 512 >= stat.st_size as u64
                },
            );
        if !all {
            let path = self.directory.file(file);
            let error = Error::refused(path, "it has holes, so it was not made by this library");
            self.findings.push(Finding::of_error(file, &error));
        }
        all
    }

    fn open(&mut self, file: &str, kind: Kind) -> Option<Segment> {
        if !self.has_all_pages(file) {
            return None;
        }
        let opened = Segment::open_with_file(self.directory, file, Some(kind), Access::Read);
        self.sound(file, opened).map(|(segment, _)| segment)
    }

    fn read_roster(&mut self) {
        if self.has_all_pages(ROSTER) {
            let opened = RosterView::open(self.directory);
            self.roster = self.sound(ROSTER, opened);
        }
    }

    /// Who can tell whether the holders of the segment's roles live. `None` if the segment is gone
    /// since it was listed.
    fn judges_of(&mut self, file: &str, segment: &Segment) -> Option<Judges> {
        let id = segment.header::<Prologue>().roster.load(Relaxed);
        if self.roster.as_ref().is_some_and(|roster| roster.id() == id) {
            return Some(Judges::Roster);
        }
        if matches!(segment.is_linked(self.directory), Ok(false)) {
            return None;
        }
        if self.roster.is_none() {
            self.warn(
                file,
                "the domain has no sound roster, so nobody can tell who lives",
                "end the processes that use the domain, then remove its directory",
            );
        } else {
            let error = Error::ForeignRoster {
                path: segment.path().to_string(),
            };
            self.findings.push(Finding::of_error(file, &error));
        }
        Some(Judges::Nobody)
    }

    /// Whether the holder of a role word lives; `None` if nobody can tell. `pid` tells his pid if
    /// the segment knows it.
    fn holder(&self, word: &AtomicU64, judges: Judges, pid: impl Fn(Role) -> u32) -> EndInfo {
        let roster = self.roster.as_ref().filter(|_| judges == Judges::Roster);
        let mut info = None;
        // Who leaves in order gives his role back first: a look at a role that stands still is
        // needed to call him dead.
        for _ in 0..4 {
            let seen = word.load(Relaxed);
            fence(Acquire);
            let role = Role::from_word(seen);
            let state = match role.state {
                State::Closed => EndState::Closed,
                State::Free | State::Swept => EndState::Absent,
                State::Held | State::Succeeded => match roster {
                    None => EndState::Unknown,
                    Some(roster) if roster.is_alive(role.holder) => EndState::Alive,
                    Some(_) => EndState::Dead,
                },
            };
            let pid = match pid(role) {
                _ if !role.is_held() => 0,
                0 => roster.map_or(0, |roster| roster.pid_of(role.holder)),
                pid => pid,
            };
            let is_stopped = |roster: &RosterView| role.is_held() && roster.is_stopped(role.holder);
            info = Some(EndInfo {
                state,
                pid: some_pid(pid),
                stopped: roster.is_some_and(is_stopped),
                generation: role.epoch,
            });
            fence(Acquire);
            if word.load(Relaxed) == seen {
                break;
            }
        }
        info.expect("the loop runs")
    }
}

/// Who tells whether the holders of a segment's roles live.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Judges {
    Roster,
    Nobody,
}

impl Reader<'_> {
    fn read_runtime(&mut self) -> Option<(MainInfo, Vec<ChildInfo>)> {
        let segment = self.open(RUNTIME, Kind::Runtime)?;
        if segment.size() < size_of::<RuntimeHeader>() as u64 {
            let error = Error::refused(segment.path(), "it is too small for a runtime's");
            return self.sound(RUNTIME, Err(error));
        }
        let judges = self.judges_of(RUNTIME, &segment)?;
        let header = segment.header::<RuntimeHeader>();
        let recorded = header.main_pid.load(Relaxed) as u32;
        let holder = self.holder(&header.prologue.host, judges, |_| recorded);
        let alive = matches!(holder.state, EndState::Alive | EndState::Unknown);
        let started = header.started.load(Relaxed);
        let uptime = crate::sys::boot_seconds().saturating_sub(started);
        let main = MainInfo {
            pid: recorded,
            alive,
            stopping: header.stopping.load(Relaxed) != 0,
            uptime: alive.then_some(uptime),
        };
        if holder.state == EndState::Dead {
            self.warn(
                RUNTIME,
                format!("the main process {recorded} died, and its children end with it"),
                "start it again: it takes its channels over with what was not delivered",
            );
        }
        let children = header.children.load(Relaxed).min(CHILDREN as u64) as usize;
        fence(Acquire);
        let children: Vec<_> = header.records[..children].iter().map(read_child).collect();
        for child in &children {
            if child.state == ChildState::Failed {
                let (text, remedy) = match child.last_exit {
                    Some(_) => (
                        "the child failed and is not started again",
                        "see what it wrote to standard error; main can restart it",
                    ),
                    None => (
                        "the child's program could not be started",
                        "see that the program is where main looks for it and may be executed; \
                         `last_error` in `Runtime::children` says why not",
                    ),
                };
                self.warn(&child.name, text, remedy);
            }
        }
        Some((main, children))
    }

    fn read_store(&mut self, file: &str, name: &str) -> Option<StoreInfo> {
        if !self.has_all_pages(file) {
            return None;
        }
        let opened = super::store::open(self.directory, name);
        let store = self.sound(file, opened)?;
        let judges = self.judges_of(file, &store.segment)?;
        let roster = self.roster.as_ref().filter(|_| judges == Judges::Roster);
        let store = super::store::read_store(&store, roster, self.options);
        self.findings.extend(super::store::judge(&store));
        if self.options.verify {
            self.findings
                .extend(super::store::verify(self.directory, name));
        }
        Some(store)
    }

    fn read_channel(&mut self, file: &str, name: &str) -> Option<ChannelInfo> {
        let segment = Arc::new(self.open(file, Kind::Channel)?);
        let capacity = checked_capacity(&segment);
        let capacity = self.sound(file, capacity)?;
        let judges = self.judges_of(file, &segment)?;
        let header = segment.header::<ChannelHeader>();
        let prologue = &header.prologue;
        let host = self.holder(&prologue.host, judges, |role| {
            noted_pid(&header.host_note, role)
        });
        let guest = self.holder(&prologue.guest, judges, |role| {
            noted_pid(&header.guest_note, role)
        });
        let modes = header.modes.load(Relaxed);
        let (host_mode, guest_mode) = (
            Mode::from_bits(modes & 0xff),
            Mode::from_bits(modes >> 8 & 0xff),
        );
        let (type_name, codec) = split_stamp(&header.type_name.read());
        let directions = [
            (End::Host, End::Guest, guest_mode),
            (End::Guest, End::Host, host_mode),
        ]
        .map(|(from, to, allowed)| {
            let ring = Ring::of_channel(&segment, capacity, from == End::Host);
            let (sender, receiver) = match from {
                End::Host => (host, guest),
                End::Guest => (guest, host),
            };
            let (info, outcome) = read_direction(&ring, self.options, sender, receiver);
            if outcome.is_err() {
                let (from, to) = (end_name(from), end_name(to));
                self.findings.push(Finding::new(
                    Severity::Error,
                    name,
                    format!("what lies between {from} and {to} is corrupt"),
                    "end both processes and remove the file",
                ));
            }
            DirectionInfo {
                from,
                to,
                allowed,
                ..info
            }
        });
        let channel = ChannelInfo {
            name: name.to_string(),
            type_name,
            codec,
            mode: joint_mode(host_mode, guest_mode),
            capacity,
            host,
            guest,
            directions: directions.into(),
        };
        self.findings.extend(super::findings::judge(&channel));
        Some(channel)
    }
}

fn read_child(record: &ChildRecord) -> ChildInfo {
    ChildInfo {
        name: record.name.read(),
        pid: some_pid(record.pid.load(Relaxed) as u32),
        generation: record.generation.load(Relaxed),
        state: child_state(record.state.load(Relaxed)),
        restarts: record.restarts.load(Relaxed),
        last_exit: exit_text(record.last_exit.load(Relaxed)),
    }
}

fn child_state(number: u64) -> ChildState {
    match number {
        0 => ChildState::Starting,
        1 => ChildState::Running,
        2 => ChildState::Stopping,
        3 => ChildState::Waiting,
        4 => ChildState::Ended,
        5 => ChildState::Failed,
        _ => ChildState::Unknown,
    }
}

/// [`ChildRecord::last_exit`] for people.
fn exit_text(word: u64) -> Option<String> {
    if word == 0 {
        return None;
    }
    if word >> 32 != 1 {
        return Some("ended, status unknown".to_string());
    }
    let status = ExitStatus::from_raw(word as u32 as i32);
    Some(match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) if status.core_dumped() => {
            format!("killed by signal {signal}, core dumped")
        }
        (None, Some(signal)) => format!("killed by signal {signal}"),
        (None, None) => format!("wait status {:#x}", word as u32),
    })
}

/// Pid of the holder of `role`, 0 if the note is not of him.
fn noted_pid(note: &EndNote, role: Role) -> u32 {
    let holder = note.holder.load(Relaxed);
    if (holder >> 32) as u32 == role.epoch {
        holder as u32
    } else {
        0
    }
}

fn some_pid(pid: u32) -> Option<u32> {
    (pid != 0).then_some(pid)
}

/// Type and codec out of a stamp, `NAME (CODEC)` or `NAME (CODEC, N bytes, align M)`. The name may
/// hold brackets too, and a long one was cut.
pub(super) fn split_stamp(stamp: &str) -> (String, String) {
    let parts = stamp
        .strip_suffix(')')
        .and_then(|stamp| stamp.rsplit_once(" ("));
    match parts {
        Some((name, shape)) => {
            let codec = shape.split(',').next().unwrap_or_default();
            (name.to_string(), codec.to_string())
        }
        None => (stamp.to_string(), String::new()),
    }
}

/// One mode for a channel of which perhaps only one end has a restriction.
fn joint_mode(host: Mode, guest: Mode) -> Mode {
    match (host, guest) {
        (Mode::Any, mode) | (mode, Mode::Any) => mode,
        (host, guest) if host == guest => host,
        _ => Mode::Any,
    }
}

/// Bytes of memory that a file takes.
fn bytes_of(directory: &Directory, file: &str) -> u64 {
    rustix::fs::statat(directory, file, AtFlags::SYMLINK_NOFOLLOW)
        .map_or(0, |stat| stat.st_blocks as u64 * 512)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exits_read_as_people_say_them() {
        let text = |word| exit_text(word).unwrap_or_default();
        assert_eq!(exit_text(0), None);
        assert_eq!(text(1 << 32), "exit code 0");
        assert_eq!(text(1 << 32 | 3 << 8), "exit code 3");
        assert_eq!(text(1 << 32 | 9), "killed by signal 9");
        assert_eq!(
            text(1 << 32 | 0x80 | 11),
            "killed by signal 11, core dumped"
        );
        assert_eq!(text(1 << 32 | 0x137f), "wait status 0x137f");
        assert_eq!(text(2 << 32), "ended, status unknown");
        assert_eq!(text(u64::MAX), "ended, status unknown");
    }

    #[test]
    fn a_stamp_is_type_and_codec() {
        let split = |stamp| {
            let (name, codec) = split_stamp(stamp);
            format!("{name}|{codec}")
        };
        assert_eq!(split(""), "|");
        assert_eq!(split("Line (postcard)"), "Line|postcard");
        assert_eq!(split("() (plain, 0 bytes, align 1)"), "()|plain");
        assert_eq!(split("f (x) (raw)"), "f (x)|raw");
        assert_eq!(split("cut off (post"), "cut off (post|");
        assert_eq!(split(")"), ")|");
    }

    #[test]
    fn what_the_codecs_write_is_understood() {
        let stamp = crate::codec::type_name::<u64>();
        assert_eq!(split_stamp(&stamp), ("u64".into(), "plain".into()));
        let stamp = crate::codec::type_name::<[u8]>();
        assert_eq!(split_stamp(&stamp), ("[u8]".into(), "raw".into()));
    }

    #[test]
    fn the_restricted_end_gives_the_mode() {
        assert_eq!(joint_mode(Mode::Any, Mode::Active), Mode::Active);
        assert_eq!(joint_mode(Mode::Passive, Mode::Any), Mode::Passive);
        assert_eq!(joint_mode(Mode::Active, Mode::Active), Mode::Active);
        assert_eq!(joint_mode(Mode::Active, Mode::Passive), Mode::Any);
    }

    #[test]
    fn files_are_known_by_name() {
        let kind = |name| match file_kind(name) {
            File::Channel(channel) => channel.to_string(),
            File::Store(store) => format!("store {store}"),
            File::Known => "known".to_string(),
            File::Other => "other".to_string(),
        };
        assert_eq!(kind("a-b.channel"), "a-b");
        assert_eq!(kind("a.store"), "store a");
        assert_eq!(kind(".channel"), "other");
        assert_eq!(kind("a b.channel"), "other");
        assert_eq!(kind("roster"), "known");
        assert_eq!(kind("runtime"), "known");
        assert_eq!(kind(".0123.tmp"), "known");
        assert_eq!(kind("core"), "other");
    }
}
