//! A process under control: stopped where it says so, taken on instruction by instruction or from
//! system call to system call, some of which are answered without being made. All that calls
//! `ptrace` stands here.
//!
//! The traced thread is the one that calls [`consent`]; the others of its process run free. It
//! calls [`mark`] where it is to be stopped.

use super::{Process, hear, say};
use rustix::io::Errno;
use rustix::process::Signal;
use std::ffi::{c_int, c_long, c_void};
use std::fs::File;
use std::io;
use std::marker::PhantomData;
use std::path::Path;
use std::ptr::{null_mut, without_provenance_mut};

/// In the process that is to be traced: tells which thread it is, and waits until it is traced.
pub fn consent() {
    say(rustix::thread::gettid().as_raw_nonzero());
    assert_eq!(hear().as_deref(), Some("traced"));
}

/// Stops the calling thread, which must be traced: it would die of it else.
#[inline(never)]
pub fn mark() {
    // SAFETY: the trap changes nothing; whoever traces us takes it away. Not `nomem`: stores stay on
    // the side of it where they are written.
    unsafe { std::arch::asm!("int3", options(nostack, preserves_flags)) };
}

/// Why a traced thread stands still.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// It called [`mark`].
    Mark,
    /// It has executed one instruction.
    Step,
    /// It is about to make the system call of this number.
    Entry(c_long),
    /// It has come back from a system call.
    Exit,
    /// It is gone: the wait status.
    Ended(c_int),
}

/// A process with one thread that does nothing unless it is told to. Killed and reaped when dropped.
pub struct Tracee {
    process: Process,
    thread: libc::pid_t,
    registers: libc::user_regs_struct,
    /// Where `mark` traps, once that is known.
    mark: u64,
    /// It has gone into a system call and not come out.
    in_call: bool,
    /// Not gone, nor let go.
    traced: bool,
    /// Only the thread that traces it may handle it.
    _here: PhantomData<*const ()>,
}

impl Tracee {
    /// Starts this binary again to play `role`, which must [`consent`], and stops it at its first
    /// [`mark`]. `None` if nothing may be traced here.
    pub fn start(role: &str, arguments: &[&str]) -> Option<Tracee> {
        let mut process = Process::start(role, arguments);
        let thread = process.line().parse().unwrap();
        // The kernel would give the status of a first thread to whoever waits for the process.
        assert_ne!(thread as u32, process.pid());
        let options = libc::PTRACE_O_EXITKILL | libc::PTRACE_O_TRACESYSGOOD;
        match request(libc::PTRACE_SEIZE, thread, options as usize) {
            Err(e) if matches!(e.raw_os_error(), Some(libc::EPERM | libc::ENOSYS)) => return None,
            outcome => outcome.unwrap(),
        }
        let mut tracee = Tracee {
            process,
            thread,
            // SAFETY: numbers, for which all zeros will do.
            registers: unsafe { std::mem::zeroed() },
            mark: 0,
            in_call: false,
            traced: true,
            _here: PhantomData,
        };
        request(libc::PTRACE_INTERRUPT, thread, 0).unwrap();
        assert_eq!(tracee.wait(), Err(0));
        tracee.process.tell("traced");
        assert_eq!(tracee.run(), Stop::Mark);
        Some(tracee)
    }

    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// What the traced process says, and what it is told.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Lets it run to the next mark, or to its end.
    pub fn run(&mut self) -> Stop {
        self.resume(libc::PTRACE_CONT)
    }

    /// Has it execute one instruction. A system call is one.
    pub fn step(&mut self) -> Stop {
        self.resume(libc::PTRACE_SINGLESTEP)
    }

    /// Lets it run to where it goes into a system call or comes out of one, to the next mark, or
    /// to its end.
    pub fn run_to_call(&mut self) -> Stop {
        self.resume(libc::PTRACE_SYSCALL)
    }

    /// At the [`Stop::Entry`] of a system call: it is not made, and this is what came of it.
    pub fn refuse(&mut self, errno: Errno) -> Stop {
        assert!(self.in_call);
        let mut registers = self.registers;
        registers.orig_rax = u64::MAX;
        self.set_registers(&registers);
        let stop = self.run_to_call();
        if stop == Stop::Exit {
            let mut registers = self.registers;
            registers.rax = i64::from(-errno.raw_os_error()) as u64;
            self.set_registers(&registers);
        }
        stop
    }

    /// Those of the thread where it stands.
    pub fn registers(&self) -> &libc::user_regs_struct {
        &self.registers
    }

    fn read_registers(&mut self) {
        // SAFETY: the kernel writes the registers of a stopped thread to where that much room is.
        let outcome = unsafe {
            let to: *mut libc::user_regs_struct = &raw mut self.registers;
            libc::ptrace(libc::PTRACE_GETREGS, self.thread, null_mut::<c_void>(), to)
        };
        assert_eq!(outcome, 0, "{}", io::Error::last_os_error());
    }

    pub fn set_registers(&mut self, registers: &libc::user_regs_struct) {
        self.registers = *registers;
        // SAFETY: the kernel reads the registers from where they are; what they lead to happens in
        // another process.
        let outcome = unsafe {
            let from: *const libc::user_regs_struct = registers;
            libc::ptrace(
                libc::PTRACE_SETREGS,
                self.thread,
                null_mut::<c_void>(),
                from,
            )
        };
        assert_eq!(outcome, 0, "{}", io::Error::last_os_error());
    }

    /// Kills the process where it stands, and waits until it is gone.
    pub fn kill(&mut self) {
        if self.traced {
            self.process.signal(Signal::KILL);
            // Before the process, which is not gone while its thread waits to be asked about.
            while !matches!(self.wait(), Ok(Stop::Ended(_))) {}
        }
        self.process.kill();
    }

    /// Lets it run on without us from where it stands, to its end, which must be a good one.
    #[track_caller]
    pub fn finish(mut self) {
        request(libc::PTRACE_DETACH, self.thread, 0).unwrap();
        self.traced = false;
        let status = self.process.wait();
        assert!(status.success(), "the process failed: {status}");
    }

    fn resume(&mut self, how: libc::c_uint) -> Stop {
        assert!(self.traced);
        self.in_call &= how == libc::PTRACE_SYSCALL;
        let mut signal = 0;
        loop {
            match request(how, self.thread, signal) {
                // Killed by somebody else: it ends.
                Err(e) if e.raw_os_error() == Some(libc::ESRCH) => {}
                outcome => outcome.unwrap(),
            }
            match self.wait() {
                Ok(stop) => return stop,
                Err(theirs) => signal = theirs as usize,
            }
        }
    }

    /// Waits for it to stop: for a reason that counts, or for a signal that is to be its own.
    fn wait(&mut self) -> Result<Stop, c_int> {
        let mut status = 0;
        loop {
            // SAFETY: the kernel writes the status to where we have it.
            let found = unsafe { libc::waitpid(self.thread, &raw mut status, libc::__WALL) };
            if found == self.thread {
                break;
            }
            let error = io::Error::last_os_error();
            assert_eq!(error.kind(), io::ErrorKind::Interrupted, "{error}");
        }
        if !libc::WIFSTOPPED(status) {
            self.traced = false;
            return Ok(Stop::Ended(status));
        }
        self.read_registers();
        let is_event = status >> 16 != 0;
        match libc::WSTOPSIG(status) {
            _ if is_event => Err(0),
            CALL => {
                self.in_call = !self.in_call;
                Ok(match self.in_call {
                    true => Stop::Entry(self.registers.orig_rax as c_long),
                    false => Stop::Exit,
                })
            }
            libc::SIGTRAP => {
                let at = self.registers.rip;
                // The first trap of all is a mark.
                if self.mark == 0 {
                    self.mark = at;
                }
                Ok(match at == self.mark {
                    true => Stop::Mark,
                    false => Stop::Step,
                })
            }
            signal => Err(signal),
        }
    }
}

impl Drop for Tracee {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A file that a traced process may write to, as it was when it was looked at last.
pub struct Watched {
    map: memmap2::MmapRaw,
    seen: Vec<u8>,
}

impl Watched {
    /// `None` if it is empty.
    pub fn open(path: &Path) -> io::Result<Option<Watched>> {
        let file = File::open(path)?;
        let len = file.metadata()?.len() as usize;
        if len == 0 {
            return Ok(None);
        }
        let map = memmap2::MmapOptions::new().map_raw_read_only(&file)?;
        assert_eq!(map.len(), len);
        let seen = vec![0; len];
        let mut watched = Watched { map, seen };
        watched.has_changed();
        Ok(Some(watched))
    }

    /// Whether it is not as it was. All who write to it must stand still.
    pub fn has_changed(&mut self) -> bool {
        let (now, len) = (self.map.as_ptr(), self.seen.len());
        // SAFETY: both are that long, and nobody writes to them meanwhile.
        unsafe {
            let same = libc::memcmp(now.cast(), self.seen.as_ptr().cast(), len) == 0;
            if !same {
                self.seen.as_mut_ptr().copy_from_nonoverlapping(now, len);
            }
            !same
        }
    }

    pub fn seen(&self) -> &[u8] {
        &self.seen
    }
}

/// The signal of a stop at a system call.
const CALL: c_int = libc::SIGTRAP | 0x80;

/// Makes a request about a thread, with a number. None of those made here writes to our memory.
fn request(what: libc::c_uint, thread: libc::pid_t, data: usize) -> io::Result<()> {
    let data: *mut c_void = without_provenance_mut(data);
    // SAFETY: these requests take numbers, and change nothing but the other thread.
    match unsafe { libc::ptrace(what, thread, null_mut::<c_void>(), data) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}
