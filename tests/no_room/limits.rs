//! Real limits: of a file system's bytes and files, of descriptors, of address space, of memory.

use super::{Scratch, with_file_system};
use crate::common::{Domain, Process, base, hear, say, scale, skip, tally};
use ringlane::{Channel, ChildSpec, Error, Result, Runtime, Store, inspect};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::fs::File;
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What `path` has in it, and what this process has open.
fn left(path: &Path) -> [usize; 2] {
    [path, Path::new("/proc/self/fd")].map(|path| std::fs::read_dir(path).unwrap().count())
}

fn channel() -> Result<[Channel<u64>; 2]> {
    let mut host = Channel::<u64>::options().domain("d").create("c")?;
    let mut guest = Channel::options().domain("d").open("c")?;
    host.send(1)?;
    assert_eq!(guest.recv()?, 1);
    Ok([host, guest])
}

/// Makes one of each thing, uses it, and lets it go. The first of them start no thread.
const OPERATIONS: [fn() -> Result<()>; 5] = [
    || channel().map(drop),
    || {
        let store = Store::options().domain("d").open_or_create("s")?;
        store.set("k", &[7u8; 100][..])?;
        assert_eq!(store.get::<[u8]>("k")?.unwrap(), [7; 100]);
        store.remove()
    },
    || inspect::snapshot().map(drop),
    || {
        let [_host, guest] = channel()?;
        let heard = guest.split().1.on_receive(|_| ())?;
        drop(heard.stop()?);
        Ok(())
    },
    || {
        let mut sleep = Command::new("sleep");
        sleep.arg("1000");
        let child = ChildSpec::command("a", sleep).capacity(4096);
        Runtime::builder("d").spec(child).start()?.shutdown()
    },
];
const THREADLESS: &[fn() -> Result<()>] = OPERATIONS.split_at(3).0;
/// Which of them makes no file.
const LOOK: usize = 2;

/// Whether an error says that there was no room, of whatever.
fn says_no_room(error: &Error) -> bool {
    let errnos = [
        libc::ENOSPC,
        libc::EMFILE,
        libc::ENOMEM,
        // A thread for which there is no room.
        libc::EAGAIN,
    ];
    match error {
        Error::NoSpace { .. } => true,
        Error::Io { source, .. } => errnos.contains(&source.raw_os_error().unwrap_or(0)),
        _ => false,
    }
}

/// Tries operations under each of these limits, then without: nothing may be left but what is
/// there without.
fn try_all(
    operations: &[fn() -> Result<()>],
    resource: Resource,
    limits: impl Iterator<Item = u64>,
) {
    let unlimited = getrlimit(resource);
    for operation in operations {
        operation().unwrap();
    }
    let place = base().parent().unwrap().to_path_buf();
    let before = left(&place);
    let mut refused = 0;
    for limit in limits {
        for operation in operations {
            let current = Some(limit);
            setrlimit(
                resource,
                Rlimit {
                    current,
                    ..unlimited
                },
            )
            .unwrap();
            let outcome = operation();
            setrlimit(resource, unlimited).unwrap();
            if let Err(e) = &outcome {
                refused += 1;
                assert!(says_no_room(e), "at {limit}: {e:?}");
                operation().unwrap();
            }
            assert_eq!(left(&place), before, "at {limit}: {outcome:?}");
        }
    }
    assert!(refused > 0);
    say(refused);
}

/// Has fewer and fewer descriptors.
pub fn few_descriptors() {
    let open = left(base().parent().unwrap())[1] as u64;
    try_all(&OPERATIONS, Resource::Nofile, (open - 4..open + 24).rev());
}

/// Has less and less address space.
pub fn little_address_space() {
    // So that the allocator, which aborts if it gets nothing, has what it needs.
    let blocks: Vec<_> = (0..8000).map(|_| vec![1u8; 1000]).collect();
    let last = vec![1u8; 1000];
    drop(blocks);
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let size = status.lines().find_map(|line| line.strip_prefix("VmSize:"));
    let size = size.unwrap().trim().trim_end_matches(" kB");
    let size = size.parse::<u64>().unwrap() << 10;
    let slack = (0..scale(20, 200) as u64).map(|n| n * (5 << 20) / scale(20, 200) as u64);
    // Rust's library ends a process that has room for a thread, and none for its signal stack.
    try_all(THREADLESS, Resource::As, slack.map(|slack| size + slack));
    drop(last);
}

fn under_limits(role: &str, what: &str) {
    let domain = Domain::new(&role.replace(' ', "-"));
    let scratch = Scratch::new(&domain);
    let Some(mut command) = with_file_system(&scratch, "size=64m") else {
        return;
    };
    // The allocator reserves 64 MiB for a thread that allocates, perhaps after the limit was set.
    command.env("MALLOC_ARENA_MAX", "1");
    let mut process = Process::start_by(command, role, &[]);
    let refused = process.line().parse().unwrap();
    process.finish();
    tally("no-room", what, refused);
}

/// https://github.com/servo/ipc-channel/issues/240 is a process that runs out of them.
#[test]
fn few_descriptors_are_an_error_and_no_leak() {
    under_limits(
        "few descriptors",
        "operations refused for want of descriptors",
    );
}

#[test]
fn little_address_space_is_an_error_and_no_leak() {
    under_limits(
        "little address space",
        "operations refused for want of address space",
    );
}

// ---- A file system.

/// Fills it with a store and with channels, and with either again after making room.
pub fn fill() {
    let place = base().parent().unwrap().to_path_buf();
    let before = left(&place);
    let store = Store::options().domain("d").create("s").unwrap();
    let mut refused = 0;
    for round in 0..3u64 {
        let mut stored = 0u64;
        let error = loop {
            let value = vec![round as u8; 3000];
            match store.set(stored.to_ne_bytes(), &value[..]) {
                Ok(_) => stored += 1,
                Err(e) => break e,
            }
        };
        assert!(matches!(error, Error::NoSpace { .. }), "{error:?}");
        assert!(stored > 50, "{stored}");
        refused += 1;
        for operation in [OPERATIONS[0], OPERATIONS[4]] {
            let error = operation().unwrap_err();
            assert!(matches!(error, Error::NoSpace { .. }), "{error:?}");
            refused += 1;
        }
        for key in 0..stored {
            let value = store.get::<[u8]>(key.to_ne_bytes()).unwrap().unwrap();
            assert_eq!(value, [round as u8; 3000]);
        }
        store.verify().unwrap();
        store.clear().unwrap();
    }
    store.remove().unwrap();
    drop(store);
    for operation in OPERATIONS {
        operation().unwrap();
    }
    assert_eq!(left(&place), before);
    say(refused);
}

#[test]
fn a_small_file_system_fills_up_and_loses_nothing() {
    let domain = Domain::new("fills");
    let scratch = Scratch::new(&domain);
    let Some(command) = with_file_system(&scratch, "size=1m") else {
        return;
    };
    let mut process = Process::start_by(command, "fill", &[]);
    let refused = process.line().parse().unwrap();
    process.finish();
    tally(
        "no-room",
        "operations refused by a full file system",
        refused,
    );
}

/// Uses up its files.
pub fn use_up_files() {
    let place = base().parent().unwrap().to_path_buf();
    let before = left(&place);
    let options = || Channel::<u64>::options().domain("d").capacity(4096);
    let mut refused = 0;
    // With nobody there, and with as many as fit.
    for kept in 0..2 {
        let mut channels = Vec::new();
        let error = loop {
            match options().create(&format!("c{}", channels.len())) {
                Ok(channel) => channels.push(channel),
                Err(e) => break e,
            }
        };
        assert!(matches!(error, Error::NoSpace { free: 0, .. }), "{error:?}");
        assert!(channels.len() > 2);
        channels.truncate(channels.len() * kept);
        refused += 1;
        for (which, operation) in OPERATIONS.iter().enumerate() {
            match operation() {
                Ok(()) => assert!(kept == 0 || which == LOOK, "operation {which}"),
                Err(e) => {
                    assert!(kept == 1 && which != LOOK && says_no_room(&e), "{e:?}");
                    refused += 1;
                }
            }
        }
        for channel in &mut channels {
            channel.send(1).unwrap();
            let mut guest = options().open(channel.name()).unwrap();
            assert_eq!(guest.recv(), Ok(1));
        }
    }
    for operation in OPERATIONS {
        operation().unwrap();
    }
    assert_eq!(left(&place), before);
    say(refused);
}

#[test]
fn a_file_system_without_files_left_is_no_space() {
    let domain = Domain::new("files");
    let scratch = Scratch::new(&domain);
    let Some(command) = with_file_system(&scratch, "size=16m,nr_inodes=12") else {
        return;
    };
    let mut process = Process::start_by(command, "use up files", &[]);
    let refused = process.line().parse().unwrap();
    process.finish();
    tally("no-room", "operations refused for want of files", refused);
}

// ---- Memory.

/// A control group for one process, with so much memory.
struct Group(PathBuf);

impl Group {
    fn new(name: &str, bytes: u64) -> Option<Group> {
        let groups = std::fs::read_to_string("/proc/self/cgroup").unwrap();
        let path_of = |begins: &str| {
            let line = groups.lines().find_map(|line| {
                let (_, rest) = line.split_once(':')?;
                rest.strip_prefix(begins)
            });
            line.unwrap_or("/").trim_start_matches('/').to_string()
        };
        let places = [
            ("/sys/fs/cgroup", path_of(":"), "memory.max"),
            ("/sys/fs/cgroup", String::new(), "memory.max"),
            (
                "/sys/fs/cgroup/memory",
                path_of("memory:"),
                "memory.limit_in_bytes",
            ),
            (
                "/sys/fs/cgroup/memory",
                String::new(),
                "memory.limit_in_bytes",
            ),
        ];
        places.iter().find_map(|(root, path, file)| {
            let path = Path::new(root).join(path).join(name);
            std::fs::create_dir(&path).ok()?;
            let group = Group(path);
            // Not made, if that is no group.
            let limit = File::options().write(true).open(group.0.join(file));
            limit.ok()?.write_all(bytes.to_string().as_bytes()).ok()?;
            Some(group)
        })
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // Busy until the kernel has taken its last process down.
        for _ in 0..1000 {
            if std::fs::remove_dir(&self.0).is_ok() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
    }
}

const MEMORY: u64 = 32 << 20;
const VALUE: usize = 1 << 20;

/// Stores more than there is memory for, and tells of each value that is stored.
pub fn little_memory(arguments: &[&str]) {
    let store = Store::options().domain(arguments[0]).open("s").unwrap();
    say("here");
    assert_eq!(hear().as_deref(), Some("go"));
    for key in 0..2 * MEMORY / VALUE as u64 {
        match store.set(key.to_ne_bytes(), &vec![key as u8; VALUE][..]) {
            Ok(_) => say(key),
            Err(Error::NoSpace { .. } | Error::Io { .. }) => return,
            Err(e) => panic!("{e:?}"),
        }
    }
    panic!("there was room");
}

#[test]
fn a_limit_on_memory_loses_nothing() {
    let domain = Domain::new("memory");
    let rounds = scale(1, 5);
    for _ in 0..rounds {
        // A new one each time, or its pages are charged to the group that was first.
        let store = Store::options().domain(domain.name()).create("s").unwrap();
        let Some(group) = Group::new(domain.name(), MEMORY) else {
            store.remove().unwrap();
            return skip(
                "no-room",
                "no control group with a limit on memory can be made here",
            );
        };
        let mut process = Process::start("little memory", &[domain.name()]);
        assert_eq!(process.line(), "here");
        std::fs::write(group.0.join("cgroup.procs"), process.pid().to_string()).unwrap();
        process.tell("go");
        let mut stored = 0;
        while let Some(key) = process.next_line() {
            assert_eq!(key, stored.to_string());
            stored += 1;
        }
        // An error, or the kernel's killer, but no access to a page that is not to be had.
        let status = process.wait();
        let killed = status.signal() == Some(libc::SIGKILL);
        assert!(status.success() || killed, "{status}");
        drop(group);
        assert!(stored > 0);
        for key in 0..stored {
            let value = store.get::<[u8]>((key as u64).to_ne_bytes()).unwrap();
            assert!(value.unwrap().iter().all(|byte| *byte == key as u8));
        }
        store.verify().unwrap();
        store.remove().unwrap();
    }
    tally(
        "no-room",
        "processes that ran out of memory, with a store",
        rounds as u64,
    );
}
