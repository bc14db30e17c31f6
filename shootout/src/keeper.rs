//! Two processes: a worker that measures, and its keeper, who clears away after it.
//!
//! A worker may end by a panic, an abort in a rival's C code or a signal, and must leave no file
//! in any case. So all its files lie in one directory, and the keeper, who does nothing but wait,
//! removes that when the worker is gone. The worker is killed when its keeper dies.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use rustix::process::{Pid, Signal, kill_process, set_parent_process_death_signal};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// Says to a process that it is the worker, and where its directory is.
const WORKER: &str = "SHOOTOUT_SCRATCH";
/// Where ringlane's files lie; so in the same directory.
const RINGLANE_DIR: &str = "RINGLANE_DIR";
/// Where whoever asks for a temporary file gets one.
const TEMPORARY: &str = "TMPDIR";
const PREFIX: &str = "shootout-";

/// The directory of one run, in memory if there is `/dev/shm`.
pub struct Scratch(PathBuf);

impl Scratch {
    /// That of this process, if it is a worker.
    pub fn of_worker() -> Option<Self> {
        let directory = std::env::var_os(WORKER)?;
        set_parent_process_death_signal(Some(Signal::KILL)).expect("to die with the keeper");
        Some(Self(directory.into()))
    }

    /// A path in it that was not given before; nothing is there.
    pub fn path(&self, what: &str) -> PathBuf {
        self.0.join(unique(what))
    }

    /// A new directory in it.
    pub fn directory(&self, what: &str) -> Directory {
        let path = self.path(what);
        fs::create_dir(&path).expect("a directory");
        Directory(path)
    }
}

/// A name that this process has not given before.
pub fn unique(what: &str) -> String {
    static GIVEN: AtomicUsize = AtomicUsize::new(0);
    format!("{what}-{}", GIVEN.fetch_add(1, Ordering::Relaxed))
}

/// The directory of the run, for all of its processes.
pub fn directory() -> PathBuf {
    std::env::var_os(WORKER).expect("a process of a run").into()
}

/// What files must begin with that lie beside that directory, as POSIX shared memory does: they go
/// with it.
pub fn prefix() -> String {
    let directory = directory();
    let name = directory.file_name().and_then(|name| name.to_str());
    name.expect("a plain name").to_owned()
}

/// A directory that goes when this is dropped, with all that is in it.
pub struct Directory(PathBuf);

impl Directory {
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        // What cannot be removed now is the keeper's.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The keeper's life.
pub fn keep() -> ExitCode {
    let base = Path::new("/dev/shm");
    let base = if base.is_dir() {
        base.to_owned()
    } else {
        std::env::temp_dir()
    };
    remove_orphans(&base);
    let scratch = Directory(base.join(format!("{PREFIX}{}", std::process::id())));
    fs::create_dir(scratch.path()).expect("a directory for the run");
    let mut signals = Signals::new([SIGHUP, SIGINT, SIGTERM]).expect("to hear signals");
    let mut worker = Command::new("/proc/self/exe")
        .args(std::env::args_os().skip(1))
        .env(WORKER, scratch.path())
        .env(RINGLANE_DIR, scratch.path())
        .env(TEMPORARY, scratch.path())
        .spawn()
        .expect("start the worker");
    let pid = Pid::from_child(&worker);
    thread::spawn(move || {
        // Not reaped before the keeper ends, or only just: the pid is the worker's.
        while signals.forever().next().is_some() {
            let _ = kill_process(pid, Signal::KILL);
        }
    });
    let status = worker.wait().expect("the worker's end");
    remove_siblings(&base, std::process::id());
    if let Some(signal) = status.signal() {
        eprintln!("the run was ended by signal {signal}");
    }
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    code.map_or(ExitCode::FAILURE, ExitCode::from)
}

/// Removes what keepers left that were killed.
fn remove_orphans(base: &Path) {
    for entry in fs::read_dir(base).into_iter().flatten().flatten() {
        let keeper = entry.file_name().to_str().and_then(keeper_of);
        if keeper.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists()) {
            remove(&entry.path());
        }
    }
}

/// Removes what lies beside a run's directory and bears its name.
fn remove_siblings(base: &Path, keeper: u32) {
    for entry in fs::read_dir(base).into_iter().flatten().flatten() {
        if entry.file_name().to_str().and_then(keeper_of) == Some(keeper) {
            remove(&entry.path());
        }
    }
}

fn remove(path: &Path) {
    let _ = fs::remove_dir_all(path).or_else(|_| fs::remove_file(path));
}

/// Whose file it is: `shootout-PID`, or with more after another dash.
fn keeper_of(name: &str) -> Option<u32> {
    let pid = name.strip_prefix(PREFIX)?.split('-').next()?;
    pid.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_say_whose_they_are() {
        assert_eq!(keeper_of("shootout-12"), Some(12));
        assert_eq!(keeper_of("shootout-12-slots-3"), Some(12));
        assert_eq!(keeper_of("shootout-slots"), None);
        assert_eq!(keeper_of("ringlane-0"), None);
    }
}
