//! The system calls: futex, membarrier, OFD locks, pidfd, what `/proc` says of a process, and the
//! page that tells a fork from its parent.
//!
//! The obligation of the `unsafe` here: hand the kernel only pointers to what it may read or write
//! for as long as it may. Everything else goes through `rustix`, which is safe.
#![allow(unsafe_code)]

#[cfg(not(loom))]
pub(crate) use real::*;

/// A futex word shared between processes: [`wait`](Futex::wait) sleeps while it holds a value,
/// whoever changes it calls [`wake`](Futex::wake).
#[cfg(not(loom))]
#[repr(transparent)]
#[derive(Debug, Default)]
pub(crate) struct Futex(crate::sync::AtomicU32);

#[cfg(loom)]
pub(crate) use model::*;

#[cfg(not(loom))]
mod real {
    use super::Futex;
    use crate::sync::{AtomicU64, Ordering::*, Step, fence, ordered};
    use core::time::Duration;
    use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
    use rustix::io::Errno;
    use rustix::process::{Pid, PidfdFlags, pidfd_open};
    use rustix::thread::{MembarrierCommand, futex, membarrier};
    use std::io;
    use std::sync::OnceLock;
    use std::sync::atomic::AtomicI32;
    use std::time::Instant;

    impl Futex {
        /// The present value; Relaxed, for [`Futex::wait`].
        pub(crate) fn seen(&self) -> u32 {
            self.0.load(Relaxed)
        }

        /// The word itself.
        #[cfg(test)]
        pub(crate) fn word(&self) -> &crate::sync::AtomicU32 {
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

    /// Whether some other open file description holds the byte `at`. Works on a read-only file.
    pub(crate) fn byte_is_locked(file: BorrowedFd<'_>, at: u64) -> io::Result<bool> {
        let mut lock = flock(libc::F_WRLCK, at, 1);
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

    /// Seconds since boot, sleep of the machine included.
    pub(crate) fn boot_seconds() -> u64 {
        rustix::time::clock_gettime(rustix::time::ClockId::Boottime).tv_sec as u64
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

    /// A word that a fork finds zeroed, because the kernel wipes its page.
    fn wiped_on_fork() -> &'static AtomicU64 {
        static WORD: OnceLock<&'static AtomicU64> = OnceLock::new();
        static NEVER_WIPED: AtomicU64 = AtomicU64::new(0);
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
                if page == libc::MAP_FAILED || libc::madvise(page, len, libc::MADV_WIPEONFORK) != 0
                {
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
}

/// A futex for the model checker: a word, and a queue beside it. The queue's lock is std's, because
/// loom runs one thread at a time and switches only at its own operations, of which none is made
/// while it is held.
#[cfg(loom)]
mod model {
    use crate::sync::{AtomicU32, Ordering::*, Step, ordered};
    use core::time::Duration;
    use loom::thread::{Thread, current, park, yield_now};
    use std::sync::Mutex;

    #[derive(Debug, Default)]
    pub(crate) struct Futex {
        word: AtomicU32,
        queue: Mutex<Queue>,
    }

    #[derive(Debug, Default)]
    struct Queue {
        /// The newest value of the word, which is what the kernel compares with.
        newest: u32,
        sleepers: Vec<Thread>,
    }

    impl Futex {
        pub(crate) fn seen(&self) -> u32 {
            self.word.load(Relaxed)
        }

        pub(crate) fn change(&self) {
            self.add(1);
        }

        pub(crate) fn add(&self, by: u32) -> u32 {
            let old = self.word.fetch_add(by, ordered(Step::RingRelease, Release));
            self.queue.lock().unwrap().newest = old + by;
            old
        }

        pub(crate) fn set(&self, bits: u32) -> u32 {
            let old = self
                .word
                .fetch_or(bits, ordered(Step::SleepAcquire, AcqRel));
            self.queue.lock().unwrap().newest = old | bits;
            old
        }

        pub(crate) fn exchange(&self, from: u32, to: u32) -> bool {
            let acquire = ordered(Step::TakeAcquire, Acquire);
            let taken = self.word.compare_exchange(from, to, acquire, Relaxed);
            if taken.is_ok() {
                self.queue.lock().unwrap().newest = to;
            }
            taken.is_ok()
        }

        pub(crate) fn reset(&self) -> u32 {
            let old = self.word.swap(0, ordered(Step::GiveRelease, Release));
            self.queue.lock().unwrap().newest = 0;
            old
        }

        pub(crate) fn clear(&self, bits: u32) {
            let old = self.word.fetch_and(!bits, Relaxed);
            self.queue.lock().unwrap().newest = old & !bits;
        }

        /// Without a timeout: a lost wake is a deadlock, which loom reports. But time that is up
        /// already is.
        pub(crate) fn wait(&self, seen: u32, timeout: Duration) -> bool {
            if timeout.is_zero() {
                yield_now();
                return false;
            }
            // A place for loom to switch, between the caller's second look and the sleep. The kernel
            // looks at the newest value, so the caller sees none that is older afterwards.
            self.word.fetch_or(0, Relaxed);
            {
                let mut queue = self.queue.lock().unwrap();
                if queue.newest != seen {
                    return true;
                }
                queue.sleepers.push(current());
            }
            park();
            true
        }

        pub(crate) fn wake(&self, count: u32) {
            self.word.load(Relaxed);
            let sleepers: Vec<_> = {
                let sleepers = &mut self.queue.lock().unwrap().sleepers;
                let count = sleepers.len().min(count as usize);
                sleepers.drain(..count).collect()
            };
            sleepers.into_iter().for_each(|thread| thread.unpark());
        }
    }

    pub(crate) fn heavy_fence() -> bool {
        crate::sync::fence(SeqCst);
        true
    }

    /// Nobody spins in a model.
    pub(crate) fn several_processors() -> bool {
        false
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    //! The store-load race of `doorbell`, between two processes.

    use super::*;
    use crate::sync::{AtomicU64, Ordering::*, light_fence};
    use std::time::{Duration, Instant};

    /// One side's words, each on a line of its own.
    #[repr(C, align(128))]
    struct Side {
        arrived: AtomicU64,
        stored: AtomicU64,
        seen: AtomicU64,
    }

    /// Waits until `word` is at least `round`, leaving the processor to others now and then.
    fn wait(word: &AtomicU64, round: u64) {
        let mut spins = 0u32;
        while word.load(Acquire) < round {
            spins += 1;
            if spins % (1 << 12) == 0 {
                rustix::thread::sched_yield();
            }
        }
    }

    /// One round: both store, pass their fence, and load what the other stored.
    fn store_and_load(mine: &Side, theirs: &Side, round: u64, fence: impl Fn()) {
        mine.arrived.store(round, Release);
        wait(&theirs.arrived, round);
        mine.stored.store(round, Relaxed);
        fence();
        mine.seen.store(theirs.stored.load(Relaxed), Release);
        // Nobody begins the next round before both are done with this one.
        mine.arrived.store(round + 1, Release);
        wait(&theirs.arrived, round + 1);
    }

    /// Plays `rounds` with a forked process, or until one went wrong, or time is up. Wrong is that
    /// neither side saw the other's store; gives whether one was.
    fn any_wrong(rounds: u64, limit: Duration, sleeper: impl Fn()) -> bool {
        let start = Instant::now();
        let len = 4096;
        // SAFETY: a new shared mapping; it is unmapped below, after its last use.
        let page = unsafe {
            libc::mmap(
                core::ptr::null_mut(),
                len,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        assert_ne!(page, libc::MAP_FAILED);
        // SAFETY: the page is large enough for three lines, zeroed, and only atomics refer to it.
        let (a, b, stop) = unsafe {
            let sides = page.cast::<Side>();
            (&*sides, &*sides.add(1), &(*sides.add(2)).stored)
        };
        // SAFETY: the child only touches the page and leaves by `_exit`.
        let pid = unsafe { libc::fork() };
        assert!(pid >= 0);
        if pid == 0 {
            // A parent that fails must not leave us spinning.
            let _ = rustix::process::set_parent_process_death_signal(Some(
                rustix::process::Signal::KILL,
            ));
        }
        let mut wrong = false;
        for round in (0..rounds).map(|r| 2 * r + 1) {
            if pid == 0 {
                store_and_load(b, a, round, light_fence);
            } else {
                store_and_load(a, b, round, &sleeper);
                wrong = a.seen.load(Relaxed) < round && b.seen.load(Acquire) < round;
                if wrong || start.elapsed() > limit {
                    stop.store(round, Relaxed);
                }
            }
            // Both must play the same rounds, so both look between two barriers.
            let (mine, theirs) = if pid == 0 { (b, a) } else { (a, b) };
            mine.arrived.store(round + 2, Release);
            wait(&theirs.arrived, round + 2);
            if stop.load(Relaxed) != 0 {
                break;
            }
        }
        if pid == 0 {
            // SAFETY: leaves at once, without anything of the parent's.
            unsafe { libc::_exit(0) };
        }
        // SAFETY: our own child, and a page that nobody uses any more.
        unsafe {
            libc::waitpid(pid, core::ptr::null_mut(), 0);
            libc::munmap(page, len);
        }
        wrong
    }

    #[test]
    fn the_heavy_fence_reaches_into_the_other_process() {
        let barrier = barrier();
        if !barrier.registered || !barrier.can_issue {
            println!("skipped: this kernel refuses membarrier, so plain fences are used");
            return;
        }
        // Processes that share a processor take a time slice for each round.
        let (rounds, seconds) = if std::env::var("RINGLANE_SCALE").is_ok() {
            (1_000_000, 60)
        } else {
            (50_000, 5)
        };
        let limit = Duration::from_secs(seconds);
        assert!(!any_wrong(rounds, limit, || assert!(heavy_fence())));
    }

    #[test]
    fn without_it_the_two_processes_miss_each_other() {
        // Those that we may use, not those that there are.
        let several = std::thread::available_parallelism().is_ok_and(|n| n.get() > 1);
        if !several || cfg!(ringlane_plain_fence) {
            println!("skipped: one processor races nothing, and plain fences need no other");
            return;
        }
        // How often is the machine's business; where it never happens, this litmus test, and so
        // the one above, sees nothing.
        if !any_wrong(u64::MAX / 4, Duration::from_secs(60), light_fence) {
            println!("skipped: no reordering was ever seen");
        }
    }
}
