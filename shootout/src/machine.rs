//! The machine, and where on it the contestants sit.

use std::fmt;
use std::fs;
use std::process::Command;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// What it is, as it goes into tables and pictures, and the two CPUs that are used.
#[derive(Clone)]
pub struct Machine {
    pub processor: String,
    pub kernel: String,
    pub date: String,
    /// How the two CPUs lie to one another.
    pub neighbours: String,
    /// The main thread's CPU.
    pub first: usize,
    /// That of whoever works beside it; the same if there is no other.
    pub second: usize,
    cpus: usize,
}

impl Machine {
    /// Looks at it, and pins this thread to the first CPU.
    pub fn prepare() -> Self {
        let allowed = sched_getaffinity(None).expect("the CPUs of this process");
        let cpus: Vec<usize> = (0..CpuSet::MAX_CPU)
            .filter(|&cpu| allowed.is_set(cpu))
            .collect();
        let first = cpus[0];
        let second = *cpus.get(1).unwrap_or(&first);
        pin(first);
        let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let field = |name| {
            let line = info.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|line| line.split_once(": "))
                .map(|(_, value)| value)
        };
        let virtual_machine = field("flags").is_some_and(|flags| flags.contains("hypervisor"));
        let uname = rustix::system::uname();
        Self {
            processor: field("model name")
                .unwrap_or("unnamed processor")
                .to_owned(),
            kernel: uname.release().to_string_lossy().into_owned(),
            date: date(),
            neighbours: neighbours(first, second, virtual_machine),
            first,
            second,
            cpus: cpus.len(),
        }
    }

    /// All of it in one line.
    pub fn line(&self) -> String {
        format!(
            "{}, {} CPUs ({}), Linux {}, {}",
            self.processor, self.cpus, self.neighbours, self.kernel, self.date
        )
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "processor  {}, {} CPUs", self.processor, self.cpus)?;
        writeln!(
            f,
            "pinned to  {} and {}: {}",
            self.first, self.second, self.neighbours
        )?;
        writeln!(f, "kernel     {}", self.kernel)?;
        writeln!(f, "date       {}", self.date)
    }
}

/// Pins this thread, and all that it starts from now on.
pub fn pin(cpu: usize) {
    let mut only = CpuSet::new();
    only.set(cpu);
    sched_setaffinity(None, &only).expect("pin to an allowed CPU");
}

fn neighbours(first: usize, second: usize, virtual_machine: bool) -> String {
    if first == second {
        return "there is only one".to_owned();
    }
    let shares = |file: &str| {
        let path = format!("/sys/devices/system/cpu/cpu{first}/{file}");
        let list = fs::read_to_string(path).ok()?;
        Some(in_list(list.trim(), second))
    };
    let told = match (
        shares("topology/thread_siblings_list"),
        shares("cache/index3/shared_cpu_list"),
    ) {
        (Some(true), _) => "siblings of one core",
        (Some(false), Some(true)) => "cores with one L3",
        (Some(false), Some(false)) => "cores without a common L3",
        _ => "unknown",
    };
    match virtual_machine {
        true => format!("cannot be told in a virtual machine, which says: {told}"),
        false => told.to_owned(),
    }
}

/// Whether `0-3,8` has it.
fn in_list(list: &str, cpu: usize) -> bool {
    list.split(',').any(|part| {
        let (from, to) = part.split_once('-').unwrap_or((part, part));
        match (from.parse::<usize>(), to.parse::<usize>()) {
            (Ok(from), Ok(to)) => (from..=to).contains(&cpu),
            _ => false,
        }
    })
}

fn date() -> String {
    let told = Command::new("date")
        .args(["-u", "+%Y-%m-%d %H:%M UTC"])
        .output();
    let told = told.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    told.unwrap_or_else(|_| "date unknown".to_owned())
}
