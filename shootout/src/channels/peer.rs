//! Who sits at the other side: another process, or another thread; how it is started, pinned,
//! given orders and ended, and what happens if it ends by itself or hangs.
//!
//! Orders come through a socket, and its end is the end of the work. A process that is busy when
//! its parent dies does not read it, so the kernel kills it then. One that dies ends the run, with
//! its name: the other side would wait for ever.

use std::env;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::process::{self, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::io::{FdFlags, fcntl_setfd};
use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, getppid, set_parent_process_death_signal, waitid,
};

use super::system::Entry;
use crate::machine::pin;

/// Says to a process that it is a peer: `ENTRY,PARENT,CPU,ADDRESS`.
const PEER: &str = "SHOOTOUT_PEER";

/// A turn that takes longer does not end any more.
const HUNG: Duration = Duration::from_secs(20);

/// Where a process finds its side: a word for `Between::open`, and descriptors that it inherits.
pub struct Address {
    pub word: String,
    pub inherited: Vec<OwnedFd>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Job {
    /// Each message goes back before the next one comes.
    Echo,
    /// All messages, then one answer.
    Swallow,
    /// The same, a burst at a time.
    Bursts,
}

/// What to do so many times; the stamp of the first message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Order {
    pub job: Job,
    pub count: u64,
    pub first: u64,
}

impl Order {
    const JOBS: [Job; 3] = [Job::Echo, Job::Swallow, Job::Bursts];

    fn to_bytes(self) -> [u8; 24] {
        let job = Self::JOBS.iter().position(|&job| job == self.job);
        let words = [job.expect("one of them") as u64, self.count, self.first];
        let mut bytes = [0; 24];
        for (to, word) in bytes.chunks_exact_mut(8).zip(words) {
            to.copy_from_slice(&word.to_ne_bytes());
        }
        bytes
    }

    fn from_bytes(bytes: [u8; 24]) -> Self {
        let word =
            |i: usize| u64::from_ne_bytes(bytes[8 * i..8 * i + 8].try_into().expect("8 bytes"));
        Self {
            job: Self::JOBS[word(0) as usize],
            count: word(1),
            first: word(2),
        }
    }
}

/// The peer as the timed side holds it. Dropping it ends the work, and waits until it is gone.
pub struct Peer {
    control: UnixStream,
    body: Body,
}

enum Body {
    Process(process::Child, Arc<AtomicBool>),
    /// Taken when it is joined.
    Thread(Option<JoinHandle<()>>),
}

impl Peer {
    /// Starts this program again as the peer, and waits until it has opened its side.
    pub fn process(entry: Entry, address: Address, cpu: usize) -> Self {
        let (control, theirs) = UnixStream::pair().expect("a control socket");
        for fd in &address.inherited {
            fcntl_setfd(fd, FdFlags::empty()).expect("hand a descriptor on");
        }
        let told = format!("{entry},{},{cpu},{}", process::id(), address.word);
        let process = Command::new("/proc/self/exe")
            .env(PEER, told)
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .spawn()
            .expect("start this program again");
        let ending = Arc::new(AtomicBool::new(false));
        watch(&process, entry.to_string(), Arc::clone(&ending));
        Self::ready(control, Body::Process(process, ending))
    }

    /// Starts a thread as the peer.
    pub fn thread(entry: Entry, cpu: usize, serve: impl FnOnce(Control) + Send + 'static) -> Self {
        let (control, theirs) = UnixStream::pair().expect("a control socket");
        let body = move || {
            let _early = EndsTheRun(entry);
            pin(cpu);
            serve(Control(theirs));
        };
        // Large messages lie on its stack.
        let thread = thread::Builder::new().stack_size(32 << 20).spawn(body);
        let thread = thread.expect("start a thread");
        Self::ready(control, Body::Thread(Some(thread)))
    }

    fn ready(control: UnixStream, body: Body) -> Self {
        let mut peer = Self { control, body };
        peer.await_word();
        peer
    }

    /// Sets the peer to work; returns when it has begun.
    pub fn order(&mut self, order: Order) {
        self.control.write_all(&order.to_bytes()).expect("order");
        self.await_word();
    }

    fn await_word(&mut self) {
        if self.control.read_exact(&mut [0]).is_err() {
            // Its end is being told by who watches it.
            thread::sleep(Duration::from_secs(1));
            panic!("a peer went away");
        }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.control.shutdown(Shutdown::Both);
        match &mut self.body {
            Body::Process(process, ending) => {
                ending.store(true, Ordering::Relaxed);
                // After a failed check the peer is in the middle of its work, and does not look up.
                if thread::panicking() {
                    let _ = process.kill();
                }
                let _ = process.wait();
            }
            Body::Thread(thread) => {
                let thread = thread.take().filter(|_| !thread::panicking());
                thread.map(JoinHandle::join);
            }
        }
    }
}

/// Ends the run if the process ends before its time.
pub fn watch(process: &process::Child, name: String, ending: Arc<AtomicBool>) {
    let pid = Pid::from_child(process);
    thread::spawn(move || {
        // NOWAIT leaves it to be reaped by who started it.
        let _ = waitid(
            WaitId::Pid(pid),
            WaitIdOptions::EXITED | WaitIdOptions::NOWAIT,
        );
        if !ending.load(Ordering::Relaxed) {
            eprintln!("the other side of `{name}` ended early");
            process::exit(1);
        }
    });
}

/// In a thread: a panic there ends the run.
struct EndsTheRun(Entry);

impl Drop for EndsTheRun {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("the other side of `{}` ended early", self.0);
            process::exit(1);
        }
    }
}

/// The peer's end of the control socket.
pub struct Control(UnixStream);

impl Control {
    /// Says that the peer's side is open.
    pub fn say_open(&mut self) {
        // If nobody hears it, there will be no order either.
        let _ = self.0.write_all(&[1]);
    }

    /// The next order; none when the work ends.
    pub fn next_order(&mut self) -> Option<Order> {
        let mut bytes = [0; 24];
        self.0.read_exact(&mut bytes).ok()?;
        self.0.write_all(&[1]).ok()?;
        Some(Order::from_bytes(bytes))
    }
}

/// Turns this process into a peer if it was started as one; must come first in `main`.
pub fn serve_if_peer() {
    let Ok(told) = env::var(PEER) else {
        return;
    };
    let words: Vec<&str> = told.splitn(4, ',').collect();
    let [entry, parent, cpu, address] = words[..] else {
        panic!("four words, not {told}");
    };
    die_with(parent.parse().expect("a pid"));
    pin(cpu.parse().expect("a CPU"));
    let entry: Entry = entry.parse().expect("an entry");
    let stdin = io::stdin().as_fd().try_clone_to_owned();
    let stream = UnixStream::from(stdin.expect("the control socket"));
    entry.serve(address, Control(stream));
    process::exit(0);
}

/// Has the kernel kill this process when its parent dies, which may have happened already.
fn die_with(parent: u32) {
    set_parent_process_death_signal(Some(Signal::KILL)).expect("to die with the parent");
    let now = getppid().map(|pid| pid.as_raw_nonzero().get() as u32);
    if now != Some(parent) {
        process::exit(1);
    }
}

/// What is going on, as the watchdog sees it; ended when this is dropped. One at a time.
pub struct Turn;

static CURRENT: Mutex<Option<(Instant, String)>> = Mutex::new(None);

impl Turn {
    pub fn of(name: String) -> Self {
        set_current(Some((Instant::now(), name)));
        Self
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        set_current(None);
    }
}

fn set_current(turn: Option<(Instant, String)>) {
    *CURRENT.lock().unwrap_or_else(PoisonError::into_inner) = turn;
}

/// Ends the run if a turn does not end.
pub fn start_watchdog() {
    thread::spawn(|| {
        loop {
            thread::sleep(Duration::from_secs(1));
            let current = CURRENT.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some((since, name)) = &*current
                && since.elapsed() > HUNG
            {
                eprintln!("`{name}` hangs: a turn took more than {} s", HUNG.as_secs());
                process::exit(1);
            }
        }
    });
}

/// How a descriptor is called in an address.
pub fn number(fd: &OwnedFd) -> String {
    fd.as_raw_fd().to_string()
}

/// The inherited descriptor of this number.
pub fn inherited(number: &str) -> OwnedFd {
    let fd: RawFd = number.parse().expect("a descriptor's number");
    // SAFETY: the parent left this descriptor open for this process alone, and its address, which
    // names it once, is opened once; so nothing else in this process owns it.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_survives_the_socket() {
        for job in Order::JOBS {
            let order = Order {
                job,
                count: 12,
                first: u64::MAX,
            };
            assert_eq!(Order::from_bytes(order.to_bytes()), order);
        }
    }
}
