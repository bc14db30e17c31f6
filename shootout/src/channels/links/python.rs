//! Contestant: two Python processes with `multiprocessing.Pipe` between them, `send_bytes` and
//! `recv_bytes`, which spare themselves pickling. Its clock is Python's own.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::process::{Signal, set_parent_process_death_signal};

use crate::channels::peer::watch;
use crate::channels::system::{Entry, Timed};
use crate::machine::Machine;

const PROGRAM: &str = include_str!("python.py");

/// Its version, if it is there.
pub fn installed() -> Option<String> {
    let told = Command::new("python3").arg("--version").output().ok()?;
    let told = told.status.success().then_some(told.stdout)?;
    Some(String::from_utf8_lossy(&told).trim().to_owned())
}

pub struct Python {
    process: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
    ending: Arc<AtomicBool>,
}

impl Python {
    pub fn start(entry: Entry, machine: &Machine) -> Box<dyn Timed> {
        let touched = if entry.load.touched {
            "touched"
        } else {
            "untouched"
        };
        let mut command = Command::new("python3");
        command
            .args(["-I", "-c", PROGRAM])
            .args([machine.first, machine.second, entry.load.bytes].map(|n| n.to_string()))
            .arg(touched)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let die_with_us = || Ok(set_parent_process_death_signal(Some(Signal::KILL))?);
        // SAFETY: the closure makes one system call and touches no memory of this process.
        unsafe { command.pre_exec(die_with_us) };
        let mut process = command.spawn().expect("start python3");
        let ending = Arc::new(AtomicBool::new(false));
        watch(&process, entry.to_string(), Arc::clone(&ending));
        let orders = process.stdin.take().expect("its input");
        let answers = process.stdout.take().expect("its output");
        let mut python = Self {
            process,
            orders,
            answers: BufReader::new(answers),
            ending,
        };
        assert_eq!(python.answer(), "ready", "python3");
        Box::new(python)
    }

    fn answer(&mut self) -> String {
        let mut line = String::new();
        let read = self.answers.read_line(&mut line);
        assert!(read.is_ok_and(|bytes| bytes > 0), "python3 went away");
        line.trim().to_owned()
    }

    fn order(&mut self, order: &str) -> Vec<Duration> {
        writeln!(self.orders, "{order}").expect("order");
        let answer = self.answer();
        let numbers = answer.split(' ').map(|n| n.parse().expect("nanoseconds"));
        numbers.map(Duration::from_nanos).collect()
    }
}

impl Timed for Python {
    fn round_trips(&mut self, count: u64) -> Duration {
        self.order(&format!("rtt {count}"))[0]
    }

    fn stream(&mut self, count: u64) -> Duration {
        self.order(&format!("stream {count}"))[0]
    }

    fn bursts(&mut self, count: u64) -> Duration {
        self.order(&format!("burst {count}"))[0]
    }

    fn paced(&mut self, count: u64, period: Duration) -> Vec<Duration> {
        self.order(&format!("paced {count} {}", period.as_nanos()))
    }
}

impl Drop for Python {
    fn drop(&mut self) {
        self.ending.store(true, Ordering::Relaxed);
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
