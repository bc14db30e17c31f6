//! Contestant: Redis on a Unix socket, a server of its own with nothing that it would save, on the
//! other CPU. One command and its answer for each call.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Signal, set_parent_process_death_signal};

use super::map::{Key, Map, Payload};
use crate::keeper::{Directory, Scratch};
use crate::machine::{Machine, pin};

/// Commands sent before their answers are read, when filling.
const BATCH: usize = 100;

/// The version of what is installed, if it is.
pub fn installed() -> Option<String> {
    let told = Command::new("redis-server")
        .arg("--version")
        .output()
        .ok()?;
    let told = String::from_utf8_lossy(&told.stdout).into_owned();
    let version = told
        .split_whitespace()
        .find_map(|word| word.strip_prefix("v="));
    version.map(str::to_owned)
}

pub struct Redis {
    stream: UnixStream,
    out: Vec<u8>,
    answers: Answers,
    server: Arc<Server>,
}

struct Server {
    process: Child,
    directory: Directory,
}

impl Server {
    fn start(scratch: &Scratch, machine: &Machine) -> Self {
        let directory = scratch.directory("redis");
        let mut command = Command::new("redis-server");
        command
            .args(["--port", "0", "--save", "", "--appendonly", "no"])
            .args(["--daemonize", "no", "--unixsocket", "socket", "--dir"])
            .arg(directory.path())
            .current_dir(directory.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        let die_with_us = || Ok(set_parent_process_death_signal(Some(Signal::KILL))?);
        // SAFETY: the closure makes one system call and touches no memory of this process.
        unsafe { command.pre_exec(die_with_us) };
        // By this thread, which lives as long as the process, and whose CPU the server gets.
        pin(machine.second);
        let process = command.spawn();
        pin(machine.first);
        Self {
            process: process.expect("start redis-server"),
            directory,
        }
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("socket")
    }

    fn connect(&self) -> UnixStream {
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            match UnixStream::connect(self.socket()) {
                Ok(stream) => return stream,
                Err(e) => assert!(
                    Instant::now() < deadline,
                    "redis-server does not come up: {e}"
                ),
            }
            thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Redis {
    pub fn start(scratch: &Scratch, machine: &Machine) -> Self {
        Self::connect(Arc::new(Server::start(scratch, machine)))
    }

    fn connect(server: Arc<Server>) -> Self {
        let stream = server.connect();
        Self {
            stream,
            out: Vec::new(),
            answers: Answers::default(),
            server,
        }
    }

    fn put_command(&mut self, words: &[&[u8]]) {
        let _ = write!(self.out, "*{}\r\n", words.len());
        for word in words {
            let _ = write!(self.out, "${}\r\n", word.len());
            self.out.extend_from_slice(word);
            self.out.extend_from_slice(b"\r\n");
        }
    }

    fn send(&mut self) {
        self.stream.write_all(&self.out).expect("send to redis");
        self.out.clear();
    }

    fn expect_ok(&mut self) {
        let line = self.answers.line(&mut self.stream);
        assert!(
            line.starts_with(b"+OK"),
            "{}",
            String::from_utf8_lossy(line)
        );
    }
}

impl<P: Payload> Map<P> for Redis {
    fn get(&mut self, key: &Key, out: &mut P) -> bool {
        self.put_command(&[b"GET", key]);
        self.send();
        match self.answers.bulk(&mut self.stream) {
            Some(bytes) => {
                out.copy(bytes);
                true
            }
            None => false,
        }
    }

    fn set(&mut self, key: &Key, value: &P) {
        self.put_command(&[b"SET", key, value.bytes()]);
        self.send();
        self.expect_ok();
    }

    fn fill(&mut self, entries: &mut dyn Iterator<Item = (Key, P)>) {
        let mut unanswered = 0;
        for (key, value) in entries {
            self.put_command(&[b"SET", &key, value.bytes()]);
            unanswered += 1;
            if unanswered == BATCH || self.out.len() > 1 << 16 {
                self.send();
                (0..unanswered).for_each(|_| self.expect_ok());
                unanswered = 0;
            }
        }
        self.send();
        (0..unanswered).for_each(|_| self.expect_ok());
    }

    fn another(&self) -> Option<Self> {
        Some(Self::connect(Arc::clone(&self.server)))
    }
}

/// What came from the server and was not yet taken.
#[derive(Default)]
struct Answers {
    buffer: Vec<u8>,
    taken: usize,
    filled: usize,
}

impl Answers {
    fn more(&mut self, stream: &mut UnixStream) {
        if self.taken > 0 {
            self.buffer.copy_within(self.taken..self.filled, 0);
            self.filled -= self.taken;
            self.taken = 0;
        }
        if self.filled == self.buffer.len() {
            self.buffer.resize((2 * self.filled).max(1 << 14), 0);
        }
        let count = stream.read(&mut self.buffer[self.filled..]);
        let count = count.expect("read from redis");
        assert!(count > 0, "redis-server hung up");
        self.filled += count;
    }

    /// A line without its end.
    fn line(&mut self, stream: &mut UnixStream) -> &[u8] {
        let mut searched = 0;
        loop {
            let new = &self.buffer[self.taken + searched..self.filled];
            if let Some(at) = new.iter().position(|&byte| byte == b'\n') {
                let from = self.taken;
                self.taken += searched + at + 1;
                return &self.buffer[from..self.taken - 2];
            }
            searched += new.len();
            self.more(stream);
        }
    }

    /// A string of bytes, or none.
    fn bulk(&mut self, stream: &mut UnixStream) -> Option<&[u8]> {
        let line = self.line(stream);
        let length = line
            .strip_prefix(b"$")
            .and_then(|n| std::str::from_utf8(n).ok());
        let length: i64 = length.and_then(|n| n.parse().ok()).expect("a length");
        let length = usize::try_from(length).ok()?;
        while self.filled - self.taken < length + 2 {
            self.more(stream);
        }
        let from = self.taken;
        self.taken += length + 2;
        Some(&self.buffer[from..from + length])
    }
}
