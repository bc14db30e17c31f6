//! Contestant: two POSIX message queues, one a direction. A receive sleeps until there is something.
//!
//! Their names are gone before anything is sent: a queue is a descriptor, which is inherited.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::process;

use crate::channels::link::{Between, Link, Waiting};
use crate::channels::load::Load;
use crate::channels::peer::{Address, inherited, number};

pub struct Mq {
    from_peer: OwnedFd,
    to_peer: OwnedFd,
    buffer: Vec<u8>,
    load: Load,
}

/// Whether the limits of this process, raised as far as it may, allow messages of this size.
pub fn holds(load: Load) -> bool {
    queue(load).is_ok()
}

/// The most messages that a queue may hold, whoever asks; and what anybody may have.
const MOST: usize = 65_536;
const UNPRIVILEGED: usize = 10;

fn queue(load: Load) -> io::Result<OwnedFd> {
    let limit = libc::rlimit {
        rlim_cur: libc::RLIM_INFINITY,
        rlim_max: libc::RLIM_INFINITY,
    };
    // SAFETY: the limit is read during the call. Where it may not be raised, smaller queues remain.
    unsafe { libc::setrlimit(libc::RLIMIT_MSGQUEUE, &raw const limit) };
    let most = load.capacity_in_messages().min(MOST);
    open(load, most).or_else(|_| open(load, most.min(UNPRIVILEGED)))
}

fn open(load: Load, messages: usize) -> io::Result<OwnedFd> {
    let name = CString::new(format!("/shootout-{}", process::id())).expect("no zero in it");
    // SAFETY: all zeros is a value of it.
    let mut attributes: libc::mq_attr = unsafe { std::mem::zeroed() };
    attributes.mq_maxmsg = messages as _;
    attributes.mq_msgsize = load.bytes as _;
    let flags = libc::O_RDWR | libc::O_CREAT | libc::O_EXCL | libc::O_CLOEXEC;
    // SAFETY: name and attributes are read during the call.
    let fd = unsafe { libc::mq_open(name.as_ptr(), flags, 0o600, &raw const attributes) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the name is read during the call.
    unsafe { libc::mq_unlink(name.as_ptr()) };
    // SAFETY: a queue is a descriptor on Linux, and this one was just opened.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

impl Mq {
    fn new(from_peer: OwnedFd, to_peer: OwnedFd, load: Load) -> Self {
        Self {
            from_peer,
            to_peer,
            buffer: vec![0; load.bytes],
            load,
        }
    }
}

impl Link for Mq {
    fn send(&mut self, stamp: u64) {
        self.load.write(&mut self.buffer, stamp);
        let message = self.buffer.as_ptr().cast();
        // SAFETY: the message is read during the call.
        let failed =
            unsafe { libc::mq_send(self.to_peer.as_raw_fd(), message, self.buffer.len(), 0) };
        assert!(failed == 0, "send: {}", io::Error::last_os_error());
    }

    fn recv(&mut self) -> u64 {
        let (fd, room) = (self.from_peer.as_raw_fd(), self.buffer.len());
        let message = self.buffer.as_mut_ptr().cast();
        // SAFETY: the buffer has as much room as is said.
        let len = unsafe { libc::mq_receive(fd, message, room, std::ptr::null_mut()) };
        assert!(
            len == room as isize,
            "receive: {}",
            io::Error::last_os_error()
        );
        self.load.read(&self.buffer)
    }
}

impl Between for Mq {
    fn create(load: Load, _: Waiting) -> (Self, Address) {
        let make = || {
            let ours = queue(load).expect("a queue");
            let theirs = ours.try_clone().expect("another descriptor of it");
            (ours, theirs)
        };
        let ((from_peer, theirs_to), (to_peer, theirs_from)) = (make(), make());
        let word = format!("{} {}", number(&theirs_from), number(&theirs_to));
        let inherited = vec![theirs_from, theirs_to];
        let link = Self::new(from_peer, to_peer, load);
        (link, Address { word, inherited })
    }

    fn open(address: &str, load: Load, _: Waiting) -> Self {
        let (from_peer, to_peer) = address.split_once(' ').expect("two descriptors");
        Self::new(inherited(from_peer), inherited(to_peer), load)
    }
}
