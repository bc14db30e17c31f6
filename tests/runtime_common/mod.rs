//! A harness for tests whose subject is a main process.
//!
//! A child of a runtime is its main's program started again with main's arguments, which must lead
//! it to the same `start`. So these tests bring their own `main`: the process that `cargo test`
//! starts only watches, and each case runs in a process of its own, which becomes the runtime's
//! main. Whatever case it is, the watcher then looks that no process, no file and no directory is
//! left, and the case's process that it has as many descriptors and threads as it began with.
#![allow(dead_code)]

#[path = "../common/mod.rs"]
pub mod common;

pub mod puppet;

use common::{base, scale};
use rustix::process::{Pid, Signal, WaitStatus};
use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Only a hang lasts that long.
const PATIENCE: Duration = Duration::from_secs(120);
/// What becomes true by itself does so within this, or never.
const SOON: Duration = Duration::from_secs(60);
/// The grace of a child that is to end by the word alone: a signal in a grace that a busy machine
/// can miss would end it first.
pub const BY_WORD: Duration = Duration::from_secs(3600);
/// Cases that run side by side: most of them wait most of the time.
const ABREAST: usize = 4;

/// In the environment of every process of a case, so that those that are left can be found.
const MARK: &str = "RINGLANE_TEST_CASE";

/// A case by its name. Its function runs in its process, and in that of every child it has.
pub type Cases = &'static [(&'static str, fn(&Case))];

/// What a process knows of the case that it belongs to, all of it from its arguments.
#[derive(Clone, Debug)]
pub struct Case {
    pub name: String,
    pub domain: String,
    /// A directory for files of its own.
    pub scratch: PathBuf,
    /// Nothing in the case's own process; else what this process is to do.
    pub role: Vec<String>,
}

/// The `main` of a file of cases.
pub fn main(cases: Cases) {
    hear_signals();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let Some(case) = Case::parse(&arguments) {
        case.play(cases);
    } else {
        watch(cases, &arguments);
    }
}

/// Who runs in the background of a shell begins with SIGINT ignored, and what these tests start
/// would, too.
fn hear_signals() {
    // Not again in what the cases start: how they began is what some of them are about.
    if std::env::var_os(MARK).is_none() {
        for signal in [libc::SIGINT, libc::SIGTERM] {
            // SAFETY: what the system does by default runs no code of ours.
            unsafe { libc::signal(signal, libc::SIG_DFL) };
        }
    }
}

impl Case {
    fn parse(arguments: &[String]) -> Option<Case> {
        match arguments {
            [flag, name, domain, scratch, role @ ..] if flag == "--case" => Some(Case {
                name: name.clone(),
                domain: domain.clone(),
                scratch: scratch.into(),
                role: role.to_vec(),
            }),
            _ => None,
        }
    }

    /// For a child's function, which is given nothing but a `Child`.
    pub fn here() -> Case {
        let arguments: Vec<String> = std::env::args().skip(1).collect();
        Case::parse(&arguments).expect("only processes of a case ask")
    }

    fn play(self, cases: Cases) {
        let (_, run) = cases
            .iter()
            .find(|(name, _)| *name == self.name)
            .expect("the watcher names a case that there is");
        let before = descriptors();
        run(&self);
        if std::env::var_os("RINGLANE_CHILD").is_some() {
            // Whoever is a child stays attached until its end.
            return;
        }
        // Those of hooks end by themselves, once nobody can give them more to do.
        until("all threads ended", || threads() == 1);
        assert_eq!(descriptors(), before, "file descriptors leaked");
    }

    /// What this process is to do, as a word.
    pub fn role(&self) -> &str {
        self.role.first().map_or("", String::as_str)
    }

    /// The arguments that make a process play `role` in this case.
    pub fn arguments(&self, role: &[&str]) -> Vec<String> {
        let scratch = self.scratch.to_str().expect("our own path is text");
        ["--case", &self.name, &self.domain, scratch]
            .iter()
            .chain(role)
            .map(ToString::to_string)
            .collect()
    }

    /// This program again, in another role.
    pub fn command(&self, role: &[&str]) -> Command {
        let mut command = Command::new("/proc/self/exe");
        command.args(self.arguments(role));
        command
    }

    /// Starts this program in another role, to be listened to.
    pub fn start(&self, role: &[&str]) -> Process {
        Process::start(self.command(role))
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.scratch.join(name)
    }

    /// Adds a line to what all processes of the case noted. In one piece, whoever else does.
    pub fn note(&self, line: impl std::fmt::Display) {
        self.note_in("notes", line);
    }

    pub fn note_in(&self, file: &str, line: impl std::fmt::Display) {
        let mut file = File::options()
            .create(true)
            .append(true)
            .open(self.file(file))
            .unwrap();
        file.write_all(format!("{line}\n").as_bytes()).unwrap();
    }

    /// What was noted, in order.
    pub fn notes(&self) -> Vec<String> {
        self.notes_in("notes")
    }

    pub fn notes_in(&self, file: &str) -> Vec<String> {
        let text = std::fs::read_to_string(self.file(file)).unwrap_or_default();
        text.lines().map(str::to_string).collect()
    }

    /// Waits for a note that begins so, and gives the rest of it.
    #[track_caller]
    pub fn noted(&self, beginning: &str) -> String {
        let mut rest = None;
        until(beginning, || {
            let notes = self.notes();
            rest = notes
                .iter()
                .find_map(|note| note.strip_prefix(beginning))
                .map(|rest| rest.trim().to_string());
            rest.is_some()
        });
        rest.unwrap()
    }

    /// The directory of the case's domain.
    pub fn directory(&self) -> PathBuf {
        base().join(&self.domain)
    }
}

/// Runs the cases that the arguments select, each in its own process.
fn watch(cases: Cases, arguments: &[String]) {
    let has = |flag: &str| arguments.iter().any(|a| a == flag);
    let (exact, list) = (has("--exact"), has("--list"));
    let (mut filters, mut skipped) = (Vec::new(), Vec::new());
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        match argument.as_str() {
            "--skip" => skipped.extend(rest.next()),
            "--test-threads" | "--format" | "--color" | "--logfile" | "-Z" => drop(rest.next()),
            flag if flag.starts_with('-') => {}
            _ => filters.push(argument),
        }
    }
    let wanted = |name: &str| {
        let fits = |f: &&String| {
            if exact {
                **f == name
            } else {
                name.contains(&***f)
            }
        };
        (filters.is_empty() || filters.iter().any(fits)) && !skipped.iter().any(fits)
    };
    // None of them is ignored.
    let chosen: VecDeque<&str> = cases
        .iter()
        .map(|(name, _)| *name)
        .filter(|name| wanted(name) && !has("--ignored"))
        .collect();
    if list {
        chosen.iter().for_each(|name| println!("{name}: test"));
        return;
    }
    let count = chosen.len();
    println!("\nrunning {count} tests");
    let start = Instant::now();
    let queue = Mutex::new(chosen);
    let failed = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..ABREAST {
            scope.spawn(|| {
                loop {
                    // Not in the head of a `while`, which would keep the lock.
                    let Some(name) = queue.lock().unwrap().pop_front() else {
                        return;
                    };
                    match watch_one(name) {
                        Ok(took) => println!("test {name} ... ok ({took:.1?})"),
                        Err(why) => {
                            println!("test {name} ... FAILED\n{why}\n");
                            failed.lock().unwrap().push(name);
                        }
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap();
    println!(
        "\n{} passed, {} failed; {:.1?}\n",
        count - failed.len(),
        failed.len(),
        start.elapsed()
    );
    if !failed.is_empty() {
        println!("failed: {failed:?}");
        std::process::exit(1);
    }
}

/// Runs one case; an error tells all that is wrong, and what its processes printed.
fn watch_one(name: &str) -> Result<Duration, String> {
    let binary = std::env::args().next().unwrap_or_default();
    let binary = Path::new(&binary).file_name().unwrap_or_default();
    let binary = binary.to_string_lossy();
    let binary = binary.split('-').next().unwrap_or_default();
    let domain = format!("test-{binary}-{name}-{}", std::process::id());
    let case = Case {
        name: name.to_string(),
        scratch: std::env::temp_dir().join(&domain),
        domain,
        role: Vec::new(),
    };
    std::fs::create_dir(&case.scratch).map_err(|e| e.to_string())?;
    let output = File::create(case.file("output")).map_err(|e| e.to_string())?;
    let start = Instant::now();
    let mut process = case
        .command(&[])
        .env(MARK, &case.domain)
        .env_remove("RINGLANE_CHILD")
        .env_remove("RINGLANE_DOMAIN")
        .stdin(Stdio::null())
        .stdout(output.try_clone().map_err(|e| e.to_string())?)
        .stderr(output)
        .process_group(0)
        .spawn()
        .map_err(|e| e.to_string())?;
    let mut wrong = Vec::new();
    match end_of(&mut process, patience()) {
        Some(status) if status.success() => {}
        Some(status) => wrong.push(format!("{status}")),
        None => {
            wrong.push(format!(
                "hangs for {:?}: {}",
                patience(),
                threads_of(process.id())
            ));
            let _ = process.kill();
            let _ = process.wait();
        }
    }
    let took = start.elapsed();
    // Those that were told or killed may still be on their way out.
    let deadline = Instant::now() + SOON * slowness();
    let mut left = processes_of(&case.domain);
    while !left.is_empty() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(10));
        left = processes_of(&case.domain);
    }
    for (pid, line) in left {
        wrong.push(format!("process {pid} is left: {line}"));
        if let Some(pid) = Pid::from_raw(pid as i32) {
            let _ = rustix::process::kill_process(pid, Signal::KILL);
        }
    }
    if let Ok(entries) = std::fs::read_dir(case.directory()) {
        let left: Vec<_> = entries.flatten().map(|e| e.file_name()).collect();
        wrong.push(format!(
            "{} is left, with {left:?}",
            case.directory().display()
        ));
        let _ = std::fs::remove_dir_all(case.directory());
    }
    let printed = std::fs::read_to_string(case.file("output")).unwrap_or_default();
    let notes = case.notes().join("\n");
    let _ = std::fs::remove_dir_all(&case.scratch);
    if wrong.is_empty() {
        // What a case has to say when all is well: its seed, its figures.
        for line in printed.lines().filter(|line| line.starts_with("# ")) {
            println!("{name}: {}", &line[2..]);
        }
        return Ok(took);
    }
    Err(format!(
        "{}\n---- printed\n{printed}\n---- noted\n{notes}\n----",
        wrong.join("\n")
    ))
}

fn patience() -> Duration {
    PATIENCE * scale(1, 10) as u32 * slowness()
}

fn end_of(process: &mut Child, patience: Duration) -> Option<ExitStatus> {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(status) = process.try_wait().unwrap() {
            return Some(status);
        }
        if Instant::now() > deadline {
            return None;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// The living processes of a case: its mark is in their environment, which the dead have not. Any
/// thread tells it, for the first may have ended before the others.
fn processes_of(domain: &str) -> Vec<(u32, String)> {
    let mark = format!("{MARK}={domain}").into_bytes();
    let is_one = |pid: &u32| {
        let threads = std::fs::read_dir(format!("/proc/{pid}/task"));
        threads.into_iter().flatten().flatten().any(|thread| {
            let environment = std::fs::read(thread.path().join("environ")).unwrap_or_default();
            environment.split(|b| *b == 0).any(|line| line == mark)
        })
    };
    let pids = std::fs::read_dir("/proc").unwrap().flatten();
    pids.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(is_one)
        .map(|pid| {
            let line = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            (pid, line.replace('\0', " "))
        })
        .collect()
}

/// What the threads of a process that hangs wait for.
fn threads_of(pid: u32) -> String {
    let Ok(tasks) = std::fs::read_dir(format!("/proc/{pid}/task")) else {
        return String::new();
    };
    let said = |path: PathBuf, file: &str| {
        let text = std::fs::read_to_string(path.join(file)).unwrap_or_default();
        text.trim().to_string()
    };
    let all = tasks.flatten().map(|task| {
        format!(
            "\n    {} in {} ({})",
            said(task.path(), "comm"),
            said(task.path(), "wchan"),
            said(task.path(), "syscall")
        )
    });
    all.collect()
}

/// Where the open descriptors of this process lead, sorted.
pub fn descriptors() -> Vec<String> {
    let mut all: Vec<_> = std::fs::read_dir("/proc/self/fd")
        .unwrap()
        .filter_map(|entry| std::fs::read_link(entry.unwrap().path()).ok())
        .map(|target| target.display().to_string())
        .collect();
    all.sort();
    all
}

/// How many threads this process has.
pub fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").unwrap().count()
}

/// The living children of this process, by any of its threads.
pub fn children() -> Vec<u32> {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let of_task = |task: std::io::Result<std::fs::DirEntry>| {
        std::fs::read_to_string(task.unwrap().path().join("children")).unwrap_or_default()
    };
    let all: String = tasks.map(of_task).collect();
    all.split_whitespace()
        .map(|pid| pid.parse().unwrap())
        .filter(|pid| is_alive(*pid))
        .collect()
}

/// The state of a process, as `/proc` has it; `None` if there is none.
pub fn state(pid: u32) -> Option<char> {
    state_in(Path::new(&format!("/proc/{pid}")))
}

fn state_in(directory: &Path) -> Option<char> {
    let stat = std::fs::read_to_string(directory.join("stat")).ok()?;
    stat.rsplit_once(')')?.1.trim_start().chars().next()
}

/// Whether any thread of a process runs, or could: a zombie could not. While one does, all that the
/// process holds is held, though its first thread may have ended.
pub fn is_alive(pid: u32) -> bool {
    let Ok(threads) = std::fs::read_dir(format!("/proc/{pid}/task")) else {
        return false;
    };
    let mut states = threads.flatten().map(|thread| state_in(&thread.path()));
    states.any(|state| !matches!(state, None | Some('Z' | 'X')))
}

pub fn signal(pid: u32, signal: Signal) {
    let pid = Pid::from_raw(pid as i32).expect("a pid is not 0");
    rustix::process::kill_process(pid, signal).unwrap();
}

/// Whether this was built with AddressSanitizer, which reserves terabytes for its shadow. Memory
/// that is freed then stays for a while, and to start a process takes a tenth of a second.
pub fn is_sanitized() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let size = status.lines().find_map(|l| l.strip_prefix("VmSize:"));
    let kib = size.and_then(|size| size.split_whitespace().next()?.parse::<u64>().ok());
    kib.is_some_and(|kib| kib > 1 << 30)
}

fn slowness() -> u32 {
    if is_sanitized() { 10 } else { 1 }
}

/// Waits for `condition`, which something else makes true.
#[track_caller]
pub fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + SOON * slowness();
    while !condition() {
        assert!(Instant::now() < deadline, "this never came to be: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Milliseconds of a clock that all processes share.
pub fn now_ms() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec as u64 * 1000 + now.tv_nsec as u64 / 1_000_000
}

/// A process in another role, and what it says. Killed when dropped.
pub struct Process {
    child: Child,
    said: BufReader<ChildStdout>,
}

impl Process {
    pub fn start(mut command: Command) -> Process {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|e| panic!("{command:?}: {e}"));
        let said = BufReader::new(child.stdout.take().unwrap());
        Process { child, said }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The next line that it says.
    #[track_caller]
    pub fn line(&mut self) -> String {
        let mut line = String::new();
        let count = self.said.read_line(&mut line).unwrap();
        assert!(count > 0, "the process said nothing more and ended");
        line.trim_end().to_string()
    }

    /// Tells it to go on.
    pub fn go_on(&mut self) {
        let stdin = self.child.stdin.as_mut().unwrap();
        stdin.write_all(b"\n").unwrap();
    }

    pub fn signal(&self, what: Signal) {
        signal(self.pid(), what);
    }

    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Waits for its end, and gives what else it said.
    pub fn wait(&mut self) -> (ExitStatus, String) {
        let status = self.child.wait().unwrap();
        let mut rest = String::new();
        self.said.read_to_string(&mut rest).unwrap();
        (status, rest)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// In another role: waits to be told to go on.
pub fn wait_to_go_on() {
    let mut line = String::new();
    let count = std::io::stdin().read_line(&mut line).unwrap();
    assert!(count > 0, "whoever started us is gone");
}

/// In another role: says a line.
pub fn say(line: impl std::fmt::Display) {
    let text = format!("{line}\n");
    let written = rustix::io::write(rustix::stdio::stdout(), text.as_bytes());
    assert_eq!(written, Ok(text.len()));
}

/// Reaps children of this process that nobody else does.
pub fn reap(pid: u32) -> Option<WaitStatus> {
    let pid = Pid::from_raw(pid as i32);
    let reaped = rustix::process::waitpid(pid, rustix::process::WaitOptions::empty());
    reaped.ok().flatten().map(|(_, status)| status)
}
