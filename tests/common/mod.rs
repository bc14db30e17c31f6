//! What the tests share: real processes, domains that must be gone afterwards, and a watchdog.
//!
//! A test's processes are its own binary again, running the ignored test `process` of the file,
//! which plays the role that the environment names. Tests of one file run one after another,
//! since each checks the file descriptors of the whole process.
#![allow(dead_code, unused_imports)]

pub mod actor;
pub mod cases;
pub mod damage;
pub mod random;
pub mod seccomp;
pub mod seen;
pub mod stores;
pub mod tally;
pub mod times;
#[cfg(target_arch = "x86_64")]
pub mod trace;

pub use random::{Random, config};
pub use tally::{scale, skip, tally};
pub use times::{Times, now};

use ringlane::{Channel, ChannelOptions, Message, Wait};
use rustix::process::{Pid, Signal, getppid, kill_process, set_parent_process_death_signal};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// Far above anything that a test waits for; only a hang lasts that long.
pub const LONG: Duration = Duration::from_secs(30);

/// Aborts the process if it is not dropped in time: a test that hangs must fail, and say so.
pub struct Watchdog(Arc<(Mutex<bool>, Condvar)>);

impl Watchdog {
    pub fn new(what: &str, patience: Duration) -> Watchdog {
        assert!(patience >= Duration::from_secs(10));
        let done = Arc::new((Mutex::new(false), Condvar::new()));
        let (theirs, what) = (done.clone(), what.to_string());
        std::thread::spawn(move || {
            let (done, bell) = &*theirs;
            let deadline = Instant::now() + patience;
            let mut guard = done.lock().unwrap();
            while !*guard {
                let left = deadline.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    let me = std::process::id();
                    // Not `eprintln`, whose output is captured, and lost by the abort.
                    let text = format!("\nWATCHDOG: {what} hangs for {patience:?} (pid {me})\n");
                    let _ = rustix::io::write(rustix::stdio::stderr(), text.as_bytes());
                    std::process::abort();
                }
                guard = bell.wait_timeout(guard, left).unwrap().0;
            }
        });
        Watchdog(done)
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        *self.0.0.lock().unwrap() = true;
        self.0.1.notify_all();
    }
}

/// The most sleeps that the clock may have ended although nobody was killed. One takes a call of
/// whoever wakes that is held up for 10 ms between what it does and the waking, as by a machine
/// that has no processor for it.
#[derive(Default)]
pub struct Slow(pub u64);

impl Slow {
    /// Makes a call that may wake somebody.
    pub fn time<T>(&mut self, call: impl FnOnce() -> T) -> T {
        let start = Instant::now();
        let outcome = call();
        self.0 += start.elapsed().as_millis() as u64 / 10;
        outcome
    }
}

/// A way to wait, by the word that a role's arguments have for it.
pub fn wait_of(name: &str) -> Wait {
    match name {
        "spin" => Wait::Spin,
        "adaptive" => Wait::Adaptive,
        "sleep" => Wait::Sleep,
        other => panic!("{other:?}"),
    }
}

static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// A domain of one test, and the promise that the test leaves nothing: no file, no directory, no
/// file descriptor. Declare it first, so that it is dropped last.
pub struct Domain {
    name: String,
    descriptors: Vec<String>,
    _watchdog: Watchdog,
    _alone: MutexGuard<'static, ()>,
}

impl Domain {
    pub fn new(test: &str) -> Domain {
        Domain::for_long(test, 1)
    }

    /// For a test that takes so many times as long as another may.
    pub fn for_long(test: &str, times: u64) -> Domain {
        let patience = times * scale(180, 300) as u64;
        let alone = ONE_AT_A_TIME.lock().unwrap_or_else(|e| e.into_inner());
        Domain {
            name: format!("test-{test}-{}", std::process::id()),
            descriptors: descriptors(),
            _watchdog: Watchdog::new(test, Duration::from_secs(patience)),
            _alone: alone,
        }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// Options for a channel of it.
    pub fn of<T: Message + ?Sized>(&self) -> ChannelOptions<T> {
        Channel::<T>::options().domain(&self.name)
    }

    pub fn path(&self) -> PathBuf {
        base().join(&self.name)
    }

    /// The file of a channel.
    pub fn file(&self, channel: &str) -> PathBuf {
        self.path().join(format!("{channel}.channel"))
    }

    /// Keeps the directory of all domains there, by a domain beside this one.
    pub fn keep_base(&self) -> Channel<u64> {
        let options = Channel::options().domain(&format!("{}-beside", self.name));
        options.create("keeper").unwrap()
    }

    /// Removes a channel that dead processes left, with all that is in it.
    pub fn remove<T: Message + ?Sized>(&self, channel: &str) {
        drop(self.of::<T>().keep_undelivered(false).create(channel));
    }
}

impl Drop for Domain {
    fn drop(&mut self) {
        let path = self.path();
        let left: Vec<_> = std::fs::read_dir(&path)
            .map(|entries| entries.map(|e| e.unwrap().file_name()).collect())
            .unwrap_or_default();
        let exists = path.exists();
        let _ = std::fs::remove_dir_all(&path);
        if !std::thread::panicking() {
            assert!(!exists, "{} is left, with {left:?} in it", path.display());
            // Another test that writes a count, or the C library that asks about memory, has one for
            // a moment; what leaked stays.
            let start = Instant::now();
            loop {
                let more = more(descriptors(), &self.descriptors);
                if more.is_empty() {
                    break;
                }
                assert!(start.elapsed() < LONG, "file descriptors leaked: {more:?}");
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    }
}

/// What the open file descriptors of this process lead to.
fn descriptors() -> Vec<String> {
    std::fs::read_dir("/proc/self/fd")
        .unwrap()
        .filter_map(|entry| std::fs::read_link(entry.unwrap().path()).ok())
        .map(|target| target.display().to_string())
        .collect()
}

/// What is in `all` more often than in `known`.
fn more(mut all: Vec<String>, known: &[String]) -> Vec<String> {
    for one in known {
        if let Some(at) = all.iter().position(|other| other == one) {
            all.remove(at);
        }
    }
    all
}

/// The directory of this user's domains.
pub fn base() -> PathBuf {
    let place = std::env::var_os("RINGLANE_DIR").filter(|place| !place.is_empty());
    let place = place.unwrap_or_else(|| "/dev/shm".into());
    let uid = rustix::process::geteuid().as_raw();
    Path::new(&place).join(format!("ringlane-{uid}"))
}

const ROLE: &str = "RINGLANE_TEST_ROLE";
const ARGUMENTS: &str = "RINGLANE_TEST_ARGUMENTS";
/// Who started it; not said where that is another program, which `start_by` began with.
const PARENT: &str = "RINGLANE_TEST_PARENT";
const SEPARATOR: &str = "\x1f";
/// Begins a line that is meant for the test; all else is the test harness talking.
const MARK: char = '@';

/// A process that plays a role; killed and reaped when dropped.
pub struct Process {
    child: Child,
    said: BufReader<ChildStdout>,
}

impl Process {
    /// Starts this binary again to play `role`.
    pub fn start(role: &str, arguments: &[&str]) -> Process {
        let mut command = Command::new("/proc/self/exe");
        command.env(PARENT, std::process::id().to_string());
        Process::start_by(command, role, arguments)
    }

    /// The same, by a command that ends with the program to start.
    pub fn start_by(mut command: Command, role: &str, arguments: &[&str]) -> Process {
        command.args([
            "process",
            "--exact",
            "--ignored",
            "--nocapture",
            "--test-threads=1",
        ]);
        as_role(&mut command, role, arguments);
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()
            .unwrap_or_else(|e| panic!("{command:?}: {e}"));
        let said = BufReader::new(child.stdout.take().unwrap());
        Process { child, said }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The next line that it said; `None` if it said nothing more and ended.
    pub fn next_line(&mut self) -> Option<String> {
        loop {
            let mut line = String::new();
            if self.said.read_line(&mut line).unwrap() == 0 {
                return None;
            }
            if let Some(rest) = line.strip_prefix(MARK) {
                return Some(rest.trim_end().to_string());
            }
        }
    }

    /// The next line that it said.
    #[track_caller]
    pub fn line(&mut self) -> String {
        match self.next_line() {
            Some(line) => line,
            None => panic!("the process ended early: {}", self.child.wait().unwrap()),
        }
    }

    /// Sends it a line.
    pub fn tell(&mut self, line: &str) {
        let stdin = self.child.stdin.as_mut().unwrap();
        stdin.write_all(format!("{line}\n").as_bytes()).unwrap();
    }

    /// Sends it a line, and waits for the answer.
    #[track_caller]
    pub fn ask(&mut self, line: &str) -> String {
        self.tell(line);
        self.line()
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Kills it with SIGKILL, and waits until it is gone.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        self.child.wait().unwrap();
    }

    /// Waits for its end.
    pub fn wait(&mut self) -> ExitStatus {
        drop(self.child.stdin.take());
        // What it says must not block it.
        while self.next_line().is_some() {}
        self.child.wait().unwrap()
    }

    /// Waits for its end, which must be a good one.
    #[track_caller]
    pub fn finish(mut self) {
        let status = self.wait();
        assert!(status.success(), "the process failed: {status}");
    }

    /// Its state, as `/proc` has it: `R`, `S`, `T` ...
    pub fn state(&self) -> char {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid())).unwrap();
        let rest = stat.rsplit_once(')').unwrap().1;
        rest.trim_start().chars().next().unwrap()
    }

    /// Whether all its threads sleep just now.
    pub fn is_asleep(&self) -> bool {
        are_threads(self.pid(), 'S')
    }

    /// Stops it, and waits until no thread of it does anything any more.
    pub fn stop(&self) {
        self.signal(Signal::STOP);
        until(|| are_threads(self.pid(), 'T'));
    }
}

/// Whether all threads of a process are in a state just now, as `/proc` has it.
pub fn are_threads(pid: u32, state: char) -> bool {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    threads.map(Result::unwrap).all(|thread| {
        // One that ended meanwhile does nothing any more.
        std::fs::read_to_string(thread.path().join("stat"))
            .ok()
            .is_none_or(|stat| stat.rsplit_once(") ").unwrap().1.starts_with(state))
    })
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Has a command of this program play `role`.
pub fn as_role(command: &mut Command, role: &str, arguments: &[&str]) {
    command
        .env(ROLE, role)
        .env(ARGUMENTS, arguments.join(SEPARATOR));
}

/// In the test `process`: plays the role for which this process was started, if it was.
pub fn play(act: impl FnOnce(&str, &[&str])) {
    let (Ok(role), Ok(arguments)) = (std::env::var(ROLE), std::env::var(ARGUMENTS)) else {
        return;
    };
    // Not to outlive a test that was aborted, be it before this.
    set_parent_process_death_signal(Some(Signal::KILL)).unwrap();
    if let Ok(parent) = std::env::var(PARENT) {
        let now = getppid().map(|pid| pid.as_raw_nonzero().to_string());
        assert_eq!(now, Some(parent), "the test is gone already");
    }
    let patience = scale(210, 330) as u64;
    let _watchdog = Watchdog::new(&role, Duration::from_secs(patience));
    act(&role, &arguments.split(SEPARATOR).collect::<Vec<_>>());
}

/// Has the kernel kill this process with SIGKILL at a time from now on, whatever it does then: a
/// killer that has to get a processor first comes late, and most often to somebody who waits.
pub fn be_killed_in(time: Duration) {
    // SAFETY: zeroes are a `sigevent` and a timer's times; all pointers are to locals.
    unsafe {
        let mut event: libc::sigevent = std::mem::zeroed();
        event.sigev_notify = libc::SIGEV_SIGNAL;
        event.sigev_signo = libc::SIGKILL;
        let mut timer = std::mem::zeroed();
        let made = libc::timer_create(libc::CLOCK_MONOTONIC, &raw mut event, &raw mut timer);
        assert_eq!(made, 0);
        let mut times: libc::itimerspec = std::mem::zeroed();
        times.it_value.tv_sec = time.as_secs() as i64;
        times.it_value.tv_nsec = i64::from(time.subsec_nanos()) + 1;
        let set = libc::timer_settime(timer, 0, &raw const times, std::ptr::null_mut());
        assert_eq!(set, 0);
    }
}

/// Says a line to the test that started this process, by one system call.
pub fn say(line: impl std::fmt::Display) {
    let text = format!("\n{MARK}{line}\n");
    let written = rustix::io::write(rustix::stdio::stdout(), text.as_bytes());
    assert_eq!(written, Ok(text.len()));
}

/// The next line from the test that started this process; `None` if there will be no more.
pub fn hear() -> Option<String> {
    let mut line = String::new();
    let count = std::io::stdin().read_line(&mut line).unwrap();
    (count > 0).then(|| line.trim_end().to_string())
}

/// Waits for `condition`, which something else makes true.
#[track_caller]
pub fn until(condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < LONG, "this never came to be");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Words that processes share beside the library, so that what one of them did is known after it
/// was killed.
pub struct Shared {
    map: memmap2::MmapRaw,
    path: PathBuf,
    mine: bool,
}

// The rule against core's own atomics is about the library's segments.
#[allow(clippy::disallowed_types)]
pub type Word = std::sync::atomic::AtomicU64;

impl Shared {
    pub fn new(domain: &Domain, words: usize) -> Shared {
        let path = std::env::temp_dir().join(format!("ringlane-{}", domain.name()));
        let file = std::fs::File::create_new(&path).unwrap();
        file.set_len(8 * words as u64).unwrap();
        let mut shared = Shared::open(path.to_str().unwrap());
        shared.mine = true;
        shared
    }

    pub fn open(path: &str) -> Shared {
        let file = std::fs::File::options()
            .read(true)
            .write(true)
            .open(path)
            .unwrap();
        Shared {
            map: memmap2::MmapRaw::map_raw(&file).unwrap(),
            path: path.into(),
            mine: false,
        }
    }

    pub fn path(&self) -> &str {
        self.path.to_str().unwrap()
    }

    pub fn word(&self, at: usize) -> &Word {
        assert!(8 * (at + 1) <= self.map.len());
        // SAFETY: it lies within the mapping, as just checked, which begins at a page; all that
        // refers to it is atomics.
        unsafe { &*self.map.as_mut_ptr().cast::<Word>().add(at) }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        if self.mine {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}
