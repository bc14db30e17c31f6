//! A second process at a store: the bench binary again, started with a role.

use std::env;
use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};

use ringlane::Store;
use rustix::process::{Signal, set_parent_process_death_signal};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::keys;

/// Says to a process that it is the second one: `ROLE,DOMAIN,NAME,KEYS`.
const CHILD: &str = "RINGLANE_BENCH_STORE";

/// What it does until it is killed.
#[derive(Clone, Copy)]
pub enum Role {
    /// Overwrites all keys, round and round, as fast as it can.
    Overwrite,
    /// Waits for each change of `ping`, and sets `pong` to the same.
    Echo,
}

impl Role {
    const ALL: [(Self, &str); 2] = [(Self::Overwrite, "overwrite"), (Self::Echo, "echo")];

    fn name(self) -> &'static str {
        match self {
            Self::Overwrite => "overwrite",
            Self::Echo => "echo",
        }
    }
}

/// The process, at work; killed when this is dropped.
pub struct Beside(Child);

impl Beside {
    /// Starts it, and waits until it is at work.
    pub fn start(role: Role, domain: &str, store: &Store, keys: u64) -> Self {
        let told = format!("{},{domain},{},{keys}", role.name(), store.name());
        let mut process = Command::new("/proc/self/exe")
            .env(CHILD, told)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("start this program again");
        let mut ready = process.stdout.take().expect("its output");
        let beside = Self(process);
        ready
            .read_exact(&mut [0])
            .expect("its word that it is ready");
        beside
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Turns this process into the second one if it was started as that; must come first in `main`.
pub fn work_if_second() {
    let Ok(told) = env::var(CHILD) else {
        return;
    };
    set_parent_process_death_signal(Some(Signal::KILL)).expect("to die with the first");
    let words: Vec<&str> = told.split(',').collect();
    let [role, domain, name, count] = words[..] else {
        panic!("four words, not {told}");
    };
    let mut roles = Role::ALL.into_iter();
    let (role, _) = roles.find(|&(_, known)| known == role).expect("a role");
    pin(1);
    let store = Store::options().domain(domain).open(name);
    let store = store.expect("open the store");
    match role {
        Role::Overwrite => overwrite(&store, count.parse().expect("a count")),
        Role::Echo => echo(&store),
    }
}

fn overwrite(store: &Store, count: u64) -> ! {
    let keys = keys(0..count, 7);
    ready();
    loop {
        for (key, value) in keys.iter().zip(0_i64..) {
            store.set(key, &value).expect("set");
        }
    }
}

fn echo(store: &Store) -> ! {
    let mut ping = store.watch::<u64>("ping").expect("watch");
    ready();
    loop {
        if let Some(value) = ping.wait().expect("wait") {
            store.set("pong", &value).expect("set");
        }
    }
}

fn ready() {
    let mut out = std::io::stdout();
    let told = out.write_all(&[1]).and_then(|()| out.flush());
    told.expect("tell the first");
}

/// Pins this process to the n-th of its CPUs, if there are so many.
pub fn pin(n: usize) {
    let allowed = sched_getaffinity(None).expect("the CPUs of this process");
    let mut cpus = (0..CpuSet::MAX_CPU).filter(|&cpu| allowed.is_set(cpu));
    if let Some(cpu) = cpus.nth(n) {
        let mut only = CpuSet::new();
        only.set(cpu);
        sched_setaffinity(None, &only).expect("pin to an allowed CPU");
    }
}
