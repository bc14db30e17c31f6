//! Filters of system calls: calls that are answered with an errno for good, as by a sandbox or an
//! old kernel, and calls that a thread of this process decides about one by one while they wait.
#![allow(dead_code)]

use rustix::event::{PollFd, PollFlags, poll};
use std::io;
use std::mem::offset_of;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicI32, Ordering::SeqCst};

/// What becomes of a call.
#[derive(Clone, Copy)]
pub enum Then {
    Allow,
    Fail(i32),
    /// [`Questions`] decide.
    Ask,
}

/// A call, or those of its calls of which an argument has this value under a mask.
#[derive(Clone, Copy)]
pub struct Rule {
    pub call: i64,
    /// Which argument, the mask, the value.
    pub when: Option<(usize, u32, u32)>,
    pub then: Then,
}

impl Rule {
    pub const fn all(call: i64, then: Then) -> Rule {
        let when = None;
        Rule { call, when, then }
    }

    pub const fn when(call: i64, argument: usize, mask: u32, value: u32, then: Then) -> Rule {
        let when = Some((argument, mask, value));
        Rule { call, when, then }
    }
}

fn instruction(code: u32, k: u32, jt: u8, jf: u8) -> libc::sock_filter {
    let code = code as u16;
    libc::sock_filter { code, jt, jf, k }
}

/// The first rule that applies decides, else `otherwise`.
fn program(rules: &[Rule], otherwise: Then) -> Vec<libc::sock_filter> {
    const LOAD: u32 = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
    const AND: u32 = libc::BPF_ALU | libc::BPF_AND | libc::BPF_K;
    const EQUALS: u32 = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
    let end = |then| {
        let k = match then {
            Then::Allow => libc::SECCOMP_RET_ALLOW,
            Then::Fail(errno) => libc::SECCOMP_RET_ERRNO | errno as u32,
            Then::Ask => libc::SECCOMP_RET_USER_NOTIF,
        };
        instruction(libc::BPF_RET | libc::BPF_K, k, 0, 0)
    };
    let mut all = Vec::new();
    for rule in rules {
        let number = offset_of!(libc::seccomp_data, nr) as u32;
        all.push(instruction(LOAD, number, 0, 0));
        match rule.when {
            None => all.push(instruction(EQUALS, rule.call as u32, 0, 1)),
            Some((argument, mask, value)) => {
                all.push(instruction(EQUALS, rule.call as u32, 0, 4));
                // Of 64 bits, the lower half.
                let half = 4 * u32::from(cfg!(target_endian = "big"));
                let at = offset_of!(libc::seccomp_data, args) + 8 * argument;
                all.push(instruction(LOAD, at as u32 + half, 0, 0));
                all.push(instruction(AND, mask, 0, 0));
                all.push(instruction(EQUALS, value, 0, 1));
            }
        }
        all.push(end(rule.then));
    }
    all.push(end(otherwise));
    all
}

fn install(rules: &[Rule], otherwise: Then, flags: libc::c_ulong) -> io::Result<i32> {
    let mut filter = program(rules, otherwise);
    let program = libc::sock_fprog {
        len: filter.len() as u16,
        filter: filter.as_mut_ptr(),
    };
    // SAFETY: a flag of this thread, which takes no pointers.
    if unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel reads the program, which lives through the call.
    let code = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            flags,
            &raw const program,
        )
    };
    if code < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(code as i32)
}

/// From now on, for all threads of this process and for what they start.
pub fn apply(rules: &[Rule]) -> io::Result<()> {
    match install(rules, Then::Allow, libc::SECCOMP_FILTER_FLAG_TSYNC)? {
        0 => Ok(()),
        thread => Err(io::Error::other(format!("thread {thread} has another one"))),
    }
}

/// From now on this thread, and what it starts, asks about each call that no rule decides.
/// Whoever answers must be a thread that was there before, so it cannot be told by a call: it
/// looks at `questions`.
pub fn ask(rules: &[Rule], questions: &AtomicI32) -> io::Result<()> {
    let fd = install(rules, Then::Ask, libc::SECCOMP_FILTER_FLAG_NEW_LISTENER)?;
    questions.store(fd, SeqCst);
    Ok(())
}

/// Whether filters that ask may be used here.
pub fn may_ask() -> io::Result<()> {
    // A thread takes its filter along when it ends.
    let tried = std::thread::spawn(|| {
        let fd = install(&[], Then::Allow, libc::SECCOMP_FILTER_FLAG_NEW_LISTENER)?;
        drop(Questions::of(fd));
        Ok(())
    });
    tried.join().unwrap()
}

/// The calls that wait for an answer. Neither taking nor giving one allocates: whoever asks may
/// have the allocator's lock.
pub struct Questions(OwnedFd);

/// A call that waits.
pub struct Question {
    id: u64,
    pub thread: u32,
    pub call: i64,
    pub arguments: [u64; 6],
}

impl Questions {
    /// Those behind the descriptor that [`ask`] stored.
    pub fn of(fd: i32) -> Questions {
        // SAFETY: it is a new descriptor, which nobody else knows.
        let questions = Questions(unsafe { OwnedFd::from_raw_fd(fd) });
        // Whoever asks sleeps until we have answered, so we may use its processor; not before
        // Linux 6.6.
        let same_processor = 1;
        // SAFETY: flags of the descriptor, by value.
        unsafe { libc::ioctl(fd, libc::SECCOMP_IOCTL_NOTIF_SET_FLAGS, same_processor) };
        questions
    }

    /// Waits for the next one; `None` if there is nobody left to ask.
    pub fn next(&self) -> Option<Question> {
        loop {
            let mut fds = [PollFd::new(&self.0, PollFlags::IN)];
            if poll(&mut fds, None).is_err() {
                continue;
            }
            if fds[0].revents().contains(PollFlags::HUP) {
                return None;
            }
            // SAFETY: plain integers, for which zero is a value; the kernel insists on it.
            let mut asked: libc::seccomp_notif = unsafe { core::mem::zeroed() };
            let receive = libc::SECCOMP_IOCTL_NOTIF_RECV;
            // SAFETY: the kernel writes one such struct, which lives through the call.
            let code = unsafe { libc::ioctl(self.0.as_raw_fd(), receive, &raw mut asked) };
            // Else whoever asked was killed meanwhile.
            if code == 0 {
                return Some(Question {
                    id: asked.id,
                    thread: asked.pid,
                    call: i64::from(asked.data.nr),
                    arguments: asked.data.args,
                });
            }
        }
    }

    /// Has the call made, or answered with an errno.
    pub fn answer(&self, question: &Question, errno: Option<i32>) {
        let answer = libc::seccomp_notif_resp {
            id: question.id,
            val: 0,
            error: errno.map_or(0, |errno| -errno),
            flags: match errno {
                Some(_) => 0,
                None => libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE as u32,
            },
        };
        let send = libc::SECCOMP_IOCTL_NOTIF_SEND;
        // Fails only if whoever asked was killed meanwhile.
        // SAFETY: the kernel reads one such struct, which lives through the call.
        unsafe { libc::ioctl(self.0.as_raw_fd(), send, &raw const answer) };
    }
}
