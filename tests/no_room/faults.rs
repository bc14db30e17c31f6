//! An operation again and again, each time with another of its system calls failing.
//!
//! The thread that runs the operations is under a filter that asks about its calls, and so are the
//! threads and processes that it starts; a thread that was there before answers. What counts are
//! the calls of this process, and those of a child between `fork` and `exec`, but for those that
//! [`FREE`] and [`may_fail`] leave alone: they are not the library's, or cannot fail for want of
//! anything, and what std makes of that is an abort by design.

use crate::common::random::Random;
use crate::common::seccomp::{Question, Questions, Rule, Then, ask};
use crate::common::{Shared, base, scale, tally};
use ringlane::{Error, Result};
use rustix::fd::BorrowedFd;
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;
use std::ffi::CStr;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicUsize, Ordering::SeqCst};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// The errnos that calls are answered with.
const ERRNOS: [Errno; 12] = [
    Errno::NOMEM,
    Errno::NOSPC,
    Errno::MFILE,
    Errno::NFILE,
    Errno::INTR,
    Errno::AGAIN,
    Errno::IO,
    Errno::ACCESS,
    Errno::PERM,
    Errno::NOSYS,
    Errno::INVAL,
    Errno::BUSY,
];

/// As good as for ever. A signal comes often at the worst: who waits for it to stop gets there.
const FOR_EVER: usize = usize::MAX;
const OFTEN: usize = 100;

/// Far longer than any case takes.
const PATIENCE: Duration = Duration::from_secs(25);

/// Calls that nobody is asked about.
///
/// Giving back never fails: a descriptor, a mapping, a thread, a lock of a mask. Nor does asking
/// who one is, and waiting for, or signalling, a child of one's own. The rest is the allocator's
/// and the thread library's, where Rust aborts by design: private memory, and futexes of one
/// process.
const FREE: &[Rule] = &[
    Rule::all(libc::SYS_close, Then::Allow),
    Rule::all(libc::SYS_munmap, Then::Allow),
    Rule::all(libc::SYS_exit, Then::Allow),
    Rule::all(libc::SYS_exit_group, Then::Allow),
    Rule::all(libc::SYS_rt_sigprocmask, Then::Allow),
    Rule::all(libc::SYS_rt_sigaction, Then::Allow),
    Rule::all(libc::SYS_rt_sigreturn, Then::Allow),
    Rule::all(libc::SYS_sigaltstack, Then::Allow),
    Rule::all(libc::SYS_restart_syscall, Then::Allow),
    Rule::all(libc::SYS_clock_nanosleep, Then::Allow),
    Rule::all(libc::SYS_sched_yield, Then::Allow),
    Rule::all(libc::SYS_sched_getaffinity, Then::Allow),
    Rule::all(libc::SYS_set_robust_list, Then::Allow),
    Rule::all(libc::SYS_rseq, Then::Allow),
    Rule::all(libc::SYS_getpid, Then::Allow),
    Rule::all(libc::SYS_gettid, Then::Allow),
    Rule::all(libc::SYS_getppid, Then::Allow),
    Rule::all(libc::SYS_getuid, Then::Allow),
    Rule::all(libc::SYS_geteuid, Then::Allow),
    Rule::all(libc::SYS_getgid, Then::Allow),
    Rule::all(libc::SYS_getegid, Then::Allow),
    Rule::all(libc::SYS_getpgid, Then::Allow),
    Rule::all(libc::SYS_wait4, Then::Allow),
    Rule::all(libc::SYS_waitid, Then::Allow),
    Rule::all(libc::SYS_kill, Then::Allow),
    Rule::all(libc::SYS_tgkill, Then::Allow),
    // Std asks the child that it forked how `exec` went, and panics, or waits, if that fails.
    Rule::all(libc::SYS_recvfrom, Then::Allow),
    Rule::all(libc::SYS_recvmsg, Then::Allow),
    Rule::all(libc::SYS_sendto, Then::Allow),
    Rule::all(libc::SYS_sendmsg, Then::Allow),
    Rule::all(libc::SYS_brk, Then::Allow),
    Rule::all(libc::SYS_mremap, Then::Allow),
    Rule::all(libc::SYS_mprotect, Then::Allow),
    // A thread's stack may be refused, an allocation not.
    Rule::when(libc::SYS_mmap, 3, STACK, libc::MAP_STACK as u32, Then::Ask),
    Rule::when(libc::SYS_mmap, 3, ANONYMOUS, ANONYMOUS, Then::Allow),
    Rule::when(
        libc::SYS_madvise,
        2,
        ALL,
        libc::MADV_POPULATE_WRITE as u32,
        Then::Ask,
    ),
    Rule::when(
        libc::SYS_madvise,
        2,
        ALL,
        libc::MADV_DONTDUMP as u32,
        Then::Ask,
    ),
    Rule::all(libc::SYS_madvise, Then::Allow),
    Rule::when(libc::SYS_futex, 1, ALL, libc::FUTEX_WAIT as u32, Then::Ask),
    Rule::when(libc::SYS_futex, 1, ALL, libc::FUTEX_WAKE as u32, Then::Ask),
    Rule::all(libc::SYS_futex, Then::Allow),
];
const ALL: u32 = u32::MAX;
const STACK: u32 = libc::MAP_STACK as u32;
const ANONYMOUS: u32 = libc::MAP_ANONYMOUS as u32;

/// Whether a call is one that may fail.
fn may_fail(asked: &Question, is_child: bool, errno: i32, is_lasting: bool) -> bool {
    let argument = asked.arguments;
    match asked.call {
        // Std's own is longer, and it panics without.
        libc::SYS_getrandom => argument[1] == 8,
        // A thread's stack is reserved without any access; one for its signals, which Rust cannot
        // do without, is not.
        libc::SYS_mmap if argument[3] as u32 & ANONYMOUS != 0 => {
            argument[2] as i32 == libc::PROT_NONE
        }
        // A pipe, a socket, an eventfd have nothing to run out of.
        libc::SYS_read | libc::SYS_pread64 | libc::SYS_write | libc::SYS_pwrite64 => {
            // SAFETY: only asked what it is; the caller, who waits for us, has it open.
            let fd = unsafe { BorrowedFd::borrow_raw(argument[0] as i32) };
            let is_file = |mode| FileType::from_raw_mode(mode) == FileType::RegularFile;
            !is_child && rustix::fs::fstat(fd).is_ok_and(|stat| is_file(stat.st_mode))
        }
        // That another has the byte is no failure. For ever it would mean that 256 processes are
        // there, which is waited for.
        libc::SYS_fcntl => !(is_lasting && [libc::EAGAIN, libc::EACCES].contains(&errno)),
        _ => true,
    }
}

// What the answering thread is told, and tells.
static ARMED: AtomicBool = AtomicBool::new(false);
static CASE: AtomicUsize = AtomicUsize::new(0);
static FROM: AtomicUsize = AtomicUsize::new(0);
static TIMES: AtomicUsize = AtomicUsize::new(0);
static ERRNO: AtomicI32 = AtomicI32::new(0);
static SEEN: AtomicUsize = AtomicUsize::new(0);
static HITS: AtomicUsize = AtomicUsize::new(0);
/// Number of the first call that failed.
static HIT: AtomicUsize = AtomicUsize::new(0);

/// Whose a thread is.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Whose {
    Ours,
    /// A child's that did not exec yet.
    Child,
    Other,
}

/// Nothing here allocates: whoever waits for the answer may have the allocator's lock.
fn with_path<R>(path: std::fmt::Arguments<'_>, f: impl FnOnce(&CStr) -> R) -> R {
    let mut buffer = [0; 64];
    (&mut buffer[..63]).write_fmt(path).unwrap();
    f(CStr::from_bytes_until_nul(&buffer).unwrap())
}

fn whose(thread: u32) -> Whose {
    let is_ours = |path: &CStr| rustix::fs::stat(path).is_ok();
    if with_path(format_args!("/proc/self/task/{thread}"), is_ours) {
        return Whose::Ours;
    }
    let arguments = |path: &CStr| {
        let mut bytes = [0; 512];
        let file = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
        let len = file.map_or(0, |file| rustix::io::read(file, &mut bytes).unwrap_or(0));
        (bytes, len)
    };
    let theirs = with_path(format_args!("/proc/{thread}/cmdline"), arguments);
    match theirs == with_path(format_args!("/proc/self/cmdline"), arguments) {
        true => Whose::Child,
        false => Whose::Other,
    }
}

/// What the answering thread does.
fn answer(questions: &Questions) {
    // Of one case, for then a number may be another's.
    let mut known = [(0, Whose::Other); 32];
    let mut count = 0;
    let mut case = 0;
    while let Some(question) = questions.next() {
        if !ARMED.load(SeqCst) {
            questions.answer(&question, None);
            continue;
        }
        if case != CASE.load(SeqCst) {
            case = CASE.load(SeqCst);
            count = 0;
        }
        let thread = question.thread;
        let found = known[..count].iter().position(|(t, _)| *t == thread);
        let at = found.unwrap_or_else(|| {
            count = (count + 1).min(known.len());
            known[count - 1] = (thread, whose(thread));
            count - 1
        });
        let is_child = known[at].1 == Whose::Child;
        if is_child && question.call == libc::SYS_execve {
            known[at].1 = Whose::Other;
        }
        let (errno, times) = (ERRNO.load(SeqCst), TIMES.load(SeqCst));
        let counts = known[at].1 == Whose::Ours || is_child;
        let mut fails = counts && may_fail(&question, is_child, errno, times > 1);
        if fails {
            let number = SEEN.fetch_add(1, SeqCst) + 1;
            let from = FROM.load(SeqCst);
            fails = from != 0 && number >= from && number - from < times;
        }
        if fails && HITS.fetch_add(1, SeqCst) == 0 {
            HIT.store(question.call as usize, SeqCst);
        }
        questions.answer(&question, fails.then_some(errno));
    }
}

/// Puts this thread under the filter. Gives the thread that answers, which ends when all that ask
/// have.
fn begin() -> JoinHandle<()> {
    let fd = Arc::new(AtomicI32::new(-1));
    let theirs = fd.clone();
    let answering = std::thread::spawn(move || {
        while theirs.load(SeqCst) == -1 {
            std::thread::yield_now();
        }
        answer(&Questions::of(theirs.load(SeqCst)));
    });
    ask(FREE, &fd).unwrap();
    answering
}

/// Has `act` done to what is sent, on this thread, with calls that fail while it goes on. Gives
/// the thread that answers.
fn work<S>(
    act: impl Fn(&mut S) -> Result<()>,
    orders: Receiver<S>,
    done: Sender<(S, std::thread::Result<Result<()>>)>,
) -> JoinHandle<()> {
    let answering = begin();
    for mut state in orders {
        ARMED.store(true, SeqCst);
        let outcome = catch_unwind(AssertUnwindSafe(|| act(&mut state)));
        ARMED.store(false, SeqCst);
        let _ = done.send((state, outcome));
    }
    answering
}

/// What a process has taken of the system.
#[derive(Debug, PartialEq)]
struct Taken {
    descriptors: usize,
    mappings: usize,
    /// Of the file system that is all ours.
    blocks: u64,
    files: u64,
}

impl Taken {
    fn now() -> Taken {
        let place = base();
        let root = place.parent().unwrap();
        let stat = rustix::fs::statvfs(root).unwrap();
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let root = root.to_str().unwrap();
        Taken {
            descriptors: std::fs::read_dir("/proc/self/fd").unwrap().count(),
            mappings: maps.lines().filter(|line| line.contains(root)).count(),
            blocks: stat.f_blocks - stat.f_bfree,
            files: stat.f_files - stat.f_ffree,
        }
    }

    /// Panics if this is not what is taken now. What a thread has, it gives back a little later
    /// than others see it end.
    fn is_all(&self) {
        let start = Instant::now();
        loop {
            let now = Taken::now();
            if now == *self {
                return;
            }
            let waited = start.elapsed() > Duration::from_secs(5);
            assert!(!waited, "before {self:?}, after {now:?}");
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// Runs operations, and knows how much was done.
pub struct Bench {
    random: Random,
    /// One case in so many is tried.
    pub share: usize,
    cases: u64,
    /// Operations of which every case was tried, and those of which only some were.
    operations: [u64; 2],
    /// Other errors that are right where a call failed.
    pub also: fn(&Error) -> bool,
    progress: Shared,
}

/// Words of [`Bench::progress`].
const SCENE: usize = 0;
const AT: usize = 1;
const ANSWER: usize = 2;
const LASTING: usize = 3;
pub const WORDS: usize = 4;

/// Where the process was that kept this record.
pub fn last_case(progress: &Shared) -> String {
    let word = |at| progress.word(at).load(SeqCst);
    let errno = std::io::Error::from_raw_os_error(word(ANSWER) as i32);
    let (scene, at, lasting) = (word(SCENE), word(AT), word(LASTING));
    format!("operation {scene}, call {at} answers {errno}, {lasting} times at most")
}

impl Bench {
    pub fn new(progress: Shared) -> Bench {
        std::thread::spawn(|| {
            let mut seen = (0, Instant::now());
            loop {
                std::thread::sleep(Duration::from_secs(1));
                let case = CASE.load(SeqCst);
                if seen.0 != case {
                    seen = (case, Instant::now());
                }
                if seen.1.elapsed() > PATIENCE {
                    // The test that waits for us knows which one it was.
                    let number = HIT.load(SeqCst);
                    eprintln!("it hangs; the last call that failed was number {number}");
                    std::process::abort();
                }
            }
        });
        Bench {
            random: Random::printed(),
            share: scale(60, 1),
            cases: 0,
            operations: [0; 2],
            also: |_| false,
            progress,
        }
    }

    /// Runs `act` between `before` and `after` once for each of its calls, errno, and number of
    /// times. `after` is told what came of `act` and cleans up; what it finds must be in order
    /// whatever failed.
    pub fn scene<S: Send>(
        &mut self,
        name: &str,
        before: impl Fn() -> S,
        act: impl Fn(&mut S) -> Result<()> + Send,
        after: impl Fn(S, &Result<()>),
    ) {
        self.progress.word(SCENE).fetch_add(1, SeqCst);
        self.operations[usize::from(self.share > 1)] += 1;
        let also = self.also;
        let answering = std::thread::scope(|scope| {
            let (to_worker, orders) = channel();
            let (done, from_worker) = channel();
            let worker = scope.spawn(move || work(act, orders, done));
            let run = |fault: Option<(usize, Errno, usize)>| {
                let state = before();
                prepare(fault);
                to_worker.send(state).unwrap();
                let (state, outcome) = from_worker.recv().unwrap();
                let hits = HITS.load(SeqCst);
                let outcome = outcome.unwrap_or_else(|panic| resume_unwind(panic));
                match &outcome {
                    Ok(()) => {}
                    Err(e) if hits > 0 && (is_honest(e) || also(e)) => {}
                    Err(e) => panic!("{e:?}, after {hits} calls that failed"),
                }
                after(state, &outcome);
                hits
            };
            self.cases += every_case(name, &mut self.random, self.share, &self.progress, &run);
            drop(to_worker);
            worker.join().unwrap()
        });
        answering.join().unwrap();
    }

    /// Runs what a process can do only once, with one call after the other failing, until it is
    /// done. What it leaves running goes on asking.
    pub fn once(&mut self, act: impl Fn() -> Result<()> + Send) {
        self.operations[0] += 1;
        std::thread::scope(|scope| {
            let (to_worker, orders) = channel();
            let (done, from_worker) = channel();
            let worker = scope.spawn(move || work(|()| act(), orders, done));
            for from in 1.. {
                let errno = ERRNOS[self.random.below(ERRNOS.len() as u64) as usize];
                prepare(Some((from, errno, 1)));
                to_worker.send(()).unwrap();
                let outcome = from_worker.recv().unwrap().1;
                self.cases += HITS.load(SeqCst) as u64;
                match outcome.unwrap_or_else(|panic| resume_unwind(panic)) {
                    Ok(()) => break,
                    Err(e) => assert!(is_honest(&e), "call {from}, {errno:?}: {e:?}"),
                }
            }
            drop(to_worker);
            worker.join().unwrap();
        });
    }

    pub fn finish(self) {
        let whats = [
            "operations with each of their system calls failing",
            "operations with some of their system calls failing, drawn at random",
        ];
        for (what, count) in whats.into_iter().zip(self.operations) {
            if count > 0 {
                tally("no-room", what, count);
            }
        }
        tally("no-room", "system calls that failed in them", self.cases);
    }
}

/// Has so many calls of the next operation fail, from one on.
fn prepare(fault: Option<(usize, Errno, usize)>) {
    let (from, errno, times) = fault.unwrap_or((0, Errno::IO, 0));
    FROM.store(from, SeqCst);
    TIMES.store(times, SeqCst);
    ERRNO.store(errno.raw_os_error(), SeqCst);
    SEEN.store(0, SeqCst);
    HITS.store(0, SeqCst);
    CASE.fetch_add(1, SeqCst);
}

/// Runs all cases of a scene. `run` makes so many calls fail from one on, or none, and tells how
/// many did.
fn every_case(
    name: &str,
    random: &mut Random,
    share: usize,
    progress: &Shared,
    run: &dyn Fn(Option<(usize, Errno, usize)>) -> usize,
) -> u64 {
    // The first time of all sets up what a process has once.
    run(None);
    let taken = Taken::now();
    run(None);
    let calls = SEEN.load(SeqCst);
    let mut cases = 0;
    for errno in ERRNOS {
        let lasting = if errno == Errno::INTR {
            OFTEN
        } else {
            FOR_EVER
        };
        for times in [1, lasting] {
            for from in 1.. {
                if random.below(share as u64) != 0 {
                    if from > calls {
                        break;
                    }
                    continue;
                }
                for (at, value) in [
                    (AT, from),
                    (ANSWER, errno.raw_os_error() as usize),
                    (LASTING, times),
                ] {
                    progress.word(at).store(value as u64, SeqCst);
                }
                let checked = catch_unwind(AssertUnwindSafe(|| {
                    let hits = run(Some((from, errno, times)));
                    // All is well again.
                    run(None);
                    taken.is_all();
                    hits
                }));
                match checked {
                    Ok(0) => break,
                    Ok(_) => cases += 1,
                    Err(panic) => {
                        let number = HIT.load(SeqCst);
                        let count = if times == 1 { "once" } else { "from there on" };
                        eprintln!("{name}: call {from}, of number {number}: {errno:?} {count}");
                        resume_unwind(panic)
                    }
                }
            }
        }
    }
    cases
}

/// What an error may say when a call failed: no more than that, and that there was no room.
fn is_honest(error: &Error) -> bool {
    match error {
        Error::Io { .. } | Error::NoSpace { .. } => true,
        Error::Refused { why, .. } => *why == "permission denied",
        _ => false,
    }
}
