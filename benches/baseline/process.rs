//! The two processes of a pair: how the child is started, pinned, given orders and ended.
//!
//! The child's standard input is a socket to the parent. Orders come through it (how many messages
//! the next run has), and its end is the end of the work. A child that is busy when its parent
//! dies does not read it, so the kernel kills it then (PDEATHSIG). A child that dies ends the
//! parent: it would wait for ever otherwise.

use std::fs;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use rustix::io::{FdFlags, fcntl_setfd};
use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, set_parent_process_death_signal, waitid,
};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use super::{Address, Entry};

/// Says to a process that it is a child: `ENTRY,CPU,ADDRESS`, where CPU may be empty.
const CHILD: &str = "RINGLANE_BENCH_CHILD";

/// The machine as the benches use it: the parent sits on one CPU, every child on another.
pub struct Machine {
    child_cpu: Option<usize>,
}

impl Machine {
    /// Pins this process and says what it runs on.
    pub fn prepare() -> Self {
        let cpus = allowed_cpus();
        print!("{}, {} CPUs; ", processor(), cpus.len());
        let [parent, child, ..] = cpus[..] else {
            println!("both processes on the only one");
            return Self { child_cpu: None };
        };
        println!("parent on CPU {parent}, child on CPU {child}");
        pin(parent);
        Self {
            child_cpu: Some(child),
        }
    }
}

fn allowed_cpus() -> Vec<usize> {
    let allowed = sched_getaffinity(None).expect("the CPUs of this process");
    (0..CpuSet::MAX_CPU)
        .filter(|&cpu| allowed.is_set(cpu))
        .collect()
}

fn pin(cpu: usize) {
    let mut only = CpuSet::new();
    only.set(cpu);
    sched_setaffinity(None, &only).expect("pin to an allowed CPU");
}

/// The processor's name; not every architecture gives one.
fn processor() -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = info
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    name.map_or("unnamed processor", |(_, name)| name)
        .to_owned()
}

/// The child, as the parent holds it; dropping it ends the work and waits until it is gone.
pub struct Child {
    process: std::process::Child,
    control: UnixStream,
    ending: Arc<AtomicBool>,
}

impl Child {
    pub fn spawn(entry: Entry, address: Address, machine: &Machine) -> Self {
        let (control, theirs) = UnixStream::pair().expect("a control socket");
        let cpu = machine
            .child_cpu
            .map_or(String::new(), |cpu| cpu.to_string());
        for fd in &address.inherited {
            fcntl_setfd(fd, FdFlags::empty()).expect("hand a descriptor on");
        }
        let process = Command::new("/proc/self/exe")
            .env(CHILD, format!("{entry},{cpu},{}", address.word))
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .spawn()
            .expect("start this program again");
        let ending = Arc::new(AtomicBool::new(false));
        watch(&process, entry, Arc::clone(&ending));
        Self {
            process,
            control,
            ending,
        }
    }

    /// Sets the child to work on this many messages; returns when it has begun.
    pub fn order(&mut self, messages: u64) {
        self.control
            .write_all(&messages.to_ne_bytes())
            .expect("order");
        self.control
            .read_exact(&mut [0])
            .expect("the child's answer to an order");
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.ending.store(true, Ordering::Relaxed);
        // A failed check leaves the child in the middle of a run, where it does not look up.
        if thread::panicking() {
            let _ = self.process.kill();
        }
        let _ = self.control.shutdown(Shutdown::Both);
        let _ = self.process.wait();
    }
}

/// Ends the parent if the child ends before its time.
fn watch(process: &std::process::Child, entry: Entry, ending: Arc<AtomicBool>) {
    let pid = Pid::from_child(process);
    thread::spawn(move || {
        // NOWAIT leaves the child to be reaped by `Child`.
        let _ = waitid(
            WaitId::Pid(pid),
            WaitIdOptions::EXITED | WaitIdOptions::NOWAIT,
        );
        if !ending.load(Ordering::Relaxed) {
            eprintln!("the child of `{entry}` ended early");
            std::process::exit(1);
        }
    });
}

/// The child's end of the control socket.
pub struct Control(UnixStream);

impl Control {
    /// How many messages the next run has; none when the parent ends the work.
    pub fn next_order(&mut self) -> Option<u64> {
        let mut messages = [0; 8];
        self.0.read_exact(&mut messages).ok()?;
        self.0.write_all(&[1]).ok()?;
        Some(u64::from_ne_bytes(messages))
    }
}

/// What this process is to serve, if it was started as a child.
pub fn enter_child() -> Option<(Entry, String, Control)> {
    let told = std::env::var(CHILD).ok()?;
    set_parent_process_death_signal(Some(Signal::KILL)).expect("to die with the parent");
    let mut words = told.splitn(3, ',');
    let mut word = || words.next().expect("three words");
    let entry = word().parse().expect("an entry");
    if let Ok(cpu) = word().parse() {
        pin(cpu);
    }
    let stdin = io::stdin()
        .as_fd()
        .try_clone_to_owned()
        .expect("the control socket");
    Some((entry, word().to_owned(), Control(UnixStream::from(stdin))))
}

/// A name that no other connection of this machine has now: `bench-PID-N`.
pub fn unique_name() -> String {
    static GIVEN: AtomicUsize = AtomicUsize::new(0);
    let n = GIVEN.fetch_add(1, Ordering::Relaxed);
    format!("bench-{}-{n}", std::process::id())
}

/// How a descriptor is called in an address.
pub fn number(fd: &OwnedFd) -> String {
    fd.as_raw_fd().to_string()
}

/// The inherited descriptor of this number.
pub fn inherited(number: &str) -> OwnedFd {
    let fd: RawFd = number.parse().expect("a descriptor's number");
    // SAFETY: the parent left this descriptor open for this child alone, and its address, which
    // names it once, is opened once; so nothing else in this process owns it.
    unsafe { OwnedFd::from_raw_fd(fd) }
}
