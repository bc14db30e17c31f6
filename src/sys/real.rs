//! The calls themselves.

use crate::sync::{AtomicU32, AtomicU64, Ordering::*, Step, fence, ordered};
use core::time::Duration;
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use rustix::thread::{MembarrierCommand, futex, membarrier};
use std::io;
use std::sync::OnceLock;
use std::sync::atomic::AtomicI32;
use std::time::Instant;

/// A futex word shared between processes: [`wait`](Futex::wait) sleeps while it holds a value,
/// whoever changes it calls [`wake`](Futex::wake).
#[repr(transparent)]
#[derive(Debug, Default)]
pub(crate) struct Futex(AtomicU32);

impl Futex {
    /// The present value; Relaxed, for [`Futex::wait`].
    pub(crate) fn seen(&self) -> u32 {
        self.0.load(Relaxed)
    }

    /// The word itself.
    #[cfg(test)]
    pub(crate) fn word(&self) -> &AtomicU32 {
        &self.0
    }

    /// Changes the word, so that whoever read the old value does not fall asleep on it.
    pub(crate) fn change(&self) {
        self.add(1);
    }

    /// Changes the word by so much; Release. Gives what it was.
    pub(crate) fn add(&self, by: u32) -> u32 {
        self.0.fetch_add(by, ordered(Step::RingRelease, Release))
    }

    /// Sets bits; Acquire and Release. Gives what the word was.
    pub(crate) fn set(&self, bits: u32) -> u32 {
        self.0.fetch_or(bits, ordered(Step::SleepAcquire, AcqRel))
    }

    /// Makes it `to` if it is `from`; Acquire. Says whether it was.
    #[inline(always)]
    pub(crate) fn exchange(&self, from: u32, to: u32) -> bool {
        let acquire = ordered(Step::TakeAcquire, Acquire);
        let taken = self.0.compare_exchange(from, to, acquire, Relaxed);
        taken.is_ok()
    }

    /// Makes it 0; Release. Gives what it was.
    #[inline(always)]
    pub(crate) fn reset(&self) -> u32 {
        self.0.swap(0, ordered(Step::GiveRelease, Release))
    }

    /// Takes bits away; Relaxed.
    pub(crate) fn clear(&self, bits: u32) {
        self.0.fetch_and(!bits, Relaxed);
    }

    /// Sleeps while the word is `seen`, at most `timeout`. `false` if the time ran out.
    /// May return early for no reason, but not for a signal: those may come so often that time
    /// would never run out.
    pub(crate) fn wait(&self, seen: u32, timeout: Duration) -> bool {
        let start = Instant::now();
        loop {
            let left = timeout.saturating_sub(start.elapsed());
            let left = rustix::thread::futex::Timespec {
                tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: left.subsec_nanos().into(),
            };
            // No PRIVATE flag: the other side is another process.
            let outcome = futex::wait(&self.0, futex::Flags::empty(), seen, Some(&left));
            if outcome != Err(Errno::INTR) {
                return outcome != Err(Errno::TIMEDOUT);
            }
        }
    }

    /// Wakes up to `count` sleepers.
    pub(crate) fn wake(&self, count: u32) {
        // Nothing to report: with no sleeper there is nothing to do, and the address is valid.
        let _ = futex::wake(&self.0, futex::Flags::empty(), count);
    }
}

/// What this process can do with `membarrier(GLOBAL_EXPEDITED)`, found out once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Barrier {
    /// Our running threads pass a barrier when a sleeper asks for one.
    pub(crate) registered: bool,
    /// We can make others pass one.
    pub(crate) can_issue: bool,
}

pub(crate) fn barrier() -> Barrier {
    static BARRIER: OnceLock<Barrier> = OnceLock::new();
    *BARRIER.get_or_init(|| {
        if cfg!(ringlane_plain_fence) {
            return Barrier {
                registered: false,
                can_issue: false,
            };
        }
        let registered = membarrier(MembarrierCommand::RegisterGlobalExpedited).is_ok();
        let can_issue = membarrier(MembarrierCommand::GlobalExpedited).is_ok();
        Barrier {
            registered,
            can_issue,
        }
    })
}

/// The dear half of the asymmetric fence, on the side that is about to sleep. `false` if the
/// kernel refused; the caller then must not rely on the other side's [`light_fence`].
///
/// [`light_fence`]: crate::sync::light_fence
pub(crate) fn heavy_fence() -> bool {
    fence(SeqCst);
    membarrier(MembarrierCommand::GlobalExpedited).is_ok()
}

/// Takes the byte `at` of `file` for this open file description; `Ok(false)` if another has it.
pub(crate) fn lock_byte(file: BorrowedFd<'_>, at: u64) -> io::Result<bool> {
    lock_range(file, libc::F_WRLCK, at, 1)
}

/// Takes the bytes `0..len`, which fails while anyone else has one of them.
pub(crate) fn lock_all(file: BorrowedFd<'_>, len: u64) -> io::Result<bool> {
    lock_range(file, libc::F_WRLCK, 0, len)
}

/// Gives the bytes `at..at + len` back.
pub(crate) fn unlock_range(file: BorrowedFd<'_>, at: u64, len: u64) -> io::Result<()> {
    lock_range(file, libc::F_UNLCK, at, len).map(drop)
}

fn lock_range(file: BorrowedFd<'_>, kind: i32, at: u64, len: u64) -> io::Result<bool> {
    let lock = flock(kind, at, len);
    // SAFETY: F_OFD_SETLK reads one flock, which lives through the call.
    let code = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_SETLK, &raw const lock) };
    if code == 0 {
        return Ok(true);
    }
    match io::Error::last_os_error() {
        e if matches!(e.raw_os_error(), Some(libc::EAGAIN | libc::EACCES)) => Ok(false),
        e => Err(e),
    }
}

/// Whether some other open file description holds one of the bytes `at..at + len`. Works on a
/// read-only file.
pub(crate) fn range_is_locked(file: BorrowedFd<'_>, at: u64, len: u64) -> io::Result<bool> {
    let mut lock = flock(libc::F_WRLCK, at, len);
    // SAFETY: F_OFD_GETLK reads and writes one flock, which lives through the call.
    let code = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_GETLK, &raw mut lock) };
    if code == 0 {
        Ok(i32::from(lock.l_type) != libc::F_UNLCK)
    } else {
        Err(io::Error::last_os_error())
    }
}

fn flock(kind: i32, at: u64, len: u64) -> libc::flock {
    // SAFETY: flock is plain integers, for which zero is a value.
    let mut lock: libc::flock = unsafe { core::mem::zeroed() };
    lock.l_type = kind as i16;
    lock.l_whence = libc::SEEK_SET as i16;
    lock.l_start = at as libc::off_t;
    lock.l_len = len as libc::off_t;
    lock
}

/// A descriptor of the process `pid`; `Ok(None)` if there is none.
pub(crate) fn open_pid(pid: u32) -> io::Result<Option<OwnedFd>> {
    let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) else {
        return Ok(None);
    };
    match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(fd) => Ok(Some(fd)),
        Err(Errno::SRCH) => Ok(None),
        Err(e) => Err(e.into()),
    }
}

/// Whether the process behind a pidfd has ended; a zombie has.
pub(crate) fn has_ended(pidfd: BorrowedFd<'_>) -> io::Result<bool> {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let mut fds = [PollFd::from_borrowed_fd(pidfd, PollFlags::IN)];
    let now = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    Ok(poll(&mut fds, Some(&now))? > 0)
}

/// The inode of a pidfd, which no other process ever has again; 0 before Linux 6.9, where all
/// pidfds share one inode.
pub(crate) fn pidfd_inode(pidfd: BorrowedFd<'_>) -> u64 {
    const PIDFS_MAGIC: u64 = 0x5049_4446;
    static ON_PIDFS: OnceLock<bool> = OnceLock::new();
    // One answer for all pidfds of a kernel; that there was none is no answer.
    let on_pidfs = ON_PIDFS.get().copied().unwrap_or_else(|| {
        let fs = rustix::fs::fstatfs(pidfd);
        fs.is_ok_and(|fs| *ON_PIDFS.get_or_init(|| fs.f_type as u64 == PIDFS_MAGIC))
    });
    match rustix::fs::fstat(pidfd) {
        Ok(stat) if on_pidfs => stat.st_ino,
        _ => 0,
    }
}

/// Nanoseconds of the coarse monotonic clock: a few ns to read, and as old as a timer tick.
pub(crate) fn coarse_nanos() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::MonotonicCoarse);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// Milliseconds since boot, sleep of the machine included.
pub(crate) fn boot_millis() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    now.tv_sec as u64 * 1_000 + now.tv_nsec as u64 / 1_000_000
}

/// Seconds since boot, sleep of the machine included.
pub(crate) fn boot_seconds() -> u64 {
    boot_millis() / 1_000
}

/// Whether a signal does to this process what it does by default.
pub(crate) fn has_default_action(signal: i32) -> bool {
    // SAFETY: a sigaction is integers and an optional function, for which zero is a value.
    let mut action: libc::sigaction = unsafe { core::mem::zeroed() };
    // SAFETY: a query: the kernel writes one sigaction, which lives through the call.
    let code = unsafe { libc::sigaction(signal, core::ptr::null(), &raw mut action) };
    code == 0 && action.sa_sigaction == libc::SIG_DFL
}

/// Processors of the machine that are in use.
pub(crate) fn processors() -> usize {
    // SAFETY: a query without pointers.
    let count = unsafe { libc::sysconf(libc::_SC_NPROCESSORS_ONLN) };
    usize::try_from(count).unwrap_or(1)
}

/// Whether spinning can help: with a single processor, whoever is waited for cannot run.
pub(crate) fn several_processors() -> bool {
    static SEVERAL: OnceLock<bool> = OnceLock::new();
    *SEVERAL.get_or_init(|| processors() > 1)
}

/// Random bits from the kernel, never 0.
pub(crate) fn random_nonzero() -> io::Result<u64> {
    let mut bytes = [0u8; 8];
    // SAFETY: the kernel writes at most the length given, into bytes that live through the call.
    let got = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) };
    if got != bytes.len() as isize {
        return Err(io::Error::last_os_error());
    }
    Ok(u64::from_ne_bytes(bytes) | 1)
}

/// Descriptors that a forked child must not keep: they hold this process's liveness tokens,
/// and a copy in a child would keep a dead parent looking alive.
static TOKENS: [Token; 64] = [const { Token::none() }; 64];

struct Token {
    fd: AtomicI32,
    /// Of the file, in case a user closed the descriptor and its number is another's by now.
    inode: AtomicU64,
}

impl Token {
    const fn none() -> Self {
        Token {
            fd: AtomicI32::new(-1),
            inode: AtomicU64::new(0),
        }
    }
}

/// Runs in every forked child. Only async-signal-safe calls are allowed here.
extern "C" fn close_tokens() {
    for token in &TOKENS {
        let fd = token.fd.swap(-1, Relaxed);
        if fd < 0 {
            continue;
        }
        // SAFETY: fstat is async-signal-safe, and fills a struct of plain integers.
        let is_token = unsafe {
            let mut stat: libc::stat = core::mem::zeroed();
            libc::fstat(fd, &raw mut stat) == 0 && stat.st_ino == token.inode.load(Relaxed)
        };
        if is_token {
            // SAFETY: close is async-signal-safe. This copy of the descriptor is the child's,
            // whose owner of it looks at the canary and does not close it again.
            unsafe { libc::close(fd) };
        }
    }
}

/// The canary's word where the kernel wipes no page.
static NEVER_WIPED: AtomicU64 = AtomicU64::new(0);

/// Whether forks find the canary's word wiped.
pub(crate) fn wipes_on_fork() -> bool {
    !core::ptr::eq(wiped_on_fork(), &NEVER_WIPED)
}

/// A word that a fork finds zeroed, because the kernel wipes its page.
fn wiped_on_fork() -> &'static AtomicU64 {
    static WORD: OnceLock<&'static AtomicU64> = OnceLock::new();
    WORD.get_or_init(|| {
        // SAFETY: the handler is a plain function that lives as long as the program.
        unsafe { libc::pthread_atfork(None, None, Some(close_tokens)) };
        let len = rustix::param::page_size();
        // SAFETY: a new private mapping at a place of the kernel's choosing; it is never
        // unmapped, so a reference to its first word is good for ever.
        unsafe {
            let page = libc::mmap(
                core::ptr::null_mut(),
                len,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            );
            if page == libc::MAP_FAILED || libc::madvise(page, len, libc::MADV_WIPEONFORK) != 0 {
                // No memory, or a kernel before 4.14: forks go unnoticed by this word; the
                // tokens are still closed in the child.
                return &NEVER_WIPED;
            }
            &*page.cast::<AtomicU64>()
        }
    })
}

/// Tells the process that made a handle from a fork of it, by one private load.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ForkCanary {
    word: &'static AtomicU64,
    mine: u64,
}

impl ForkCanary {
    /// Of the present process.
    pub(crate) fn new() -> io::Result<Self> {
        let word = wiped_on_fork();
        if word.load(Relaxed) == 0 {
            // First handle of this process; two threads may race, and one value stands.
            let _ = word.compare_exchange(0, random_nonzero()?, Relaxed, Relaxed);
        }
        Ok(ForkCanary {
            word,
            mine: word.load(Relaxed),
        })
    }

    /// Whether this is a fork of the process that made the canary.
    #[inline(always)]
    pub(crate) fn forked(self) -> bool {
        self.word.load(Relaxed) != self.mine
    }
}

/// Has `fd` closed in forked children. `false` if the table is full; the pid proof then
/// decides alone.
pub(crate) fn close_in_forks(fd: &OwnedFd, inode: u64) -> bool {
    let raw = fd.as_fd().as_raw_fd();
    TOKENS.iter().any(|token| {
        let taken = token.fd.compare_exchange(-1, raw, Relaxed, Relaxed).is_ok();
        if taken {
            token.inode.store(inode, Relaxed);
        }
        taken
    })
}

/// Takes `fd` off that list, before it is closed here.
pub(crate) fn keep_in_forks(fd: &OwnedFd) {
    let raw = fd.as_fd().as_raw_fd();
    for token in &TOKENS {
        if token.fd.compare_exchange(raw, -1, Relaxed, Relaxed).is_ok() {
            return;
        }
    }
}
