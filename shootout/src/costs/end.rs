//! The processes at the two ends, as the run holds them.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use super::Run;

/// Says to a process that it is an end: `CPU FENCE`.
pub const END: &str = "SHOOTOUT_END";
/// Where all ends find their channels.
pub const DOMAIN: &str = "costs";

/// Who pays for the order of memory between a send and a falling asleep.
#[derive(Clone, Copy)]
pub enum Fence {
    /// The sleeper, by `membarrier`: as everybody has it whose kernel lets them.
    Sleeper,
    /// Everybody, by a fence in each call: as it is where `membarrier` is refused.
    Everybody,
}

impl Fence {
    pub fn parse(word: &str) -> Self {
        match word {
            "sleeper" => Self::Sleeper,
            "everybody" => Self::Everybody,
            other => panic!("no fence `{other}`"),
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Sleeper => "sleeper",
            Self::Everybody => "everybody",
        }
    }

    /// Has the kernel refuse `membarrier` to this process, or pass it: by a filter in both cases,
    /// so that all other calls take the same time.
    pub fn set(self) {
        let verdict = match self {
            Self::Sleeper => libc::SECCOMP_RET_ALLOW,
            Self::Everybody => libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32,
        };
        let statement = |code: u32, k: u32| libc::sock_filter {
            code: code as u16,
            jt: 0,
            jf: 0,
            k,
        };
        // The number of the call is the first word of what the filter sees. Calls of other
        // architectures have other numbers, and nobody makes any here.
        let mut filter = [
            statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0),
            libc::sock_filter {
                code: (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16,
                jt: 0,
                jf: 1,
                k: libc::SYS_membarrier as u32,
            },
            statement(libc::BPF_RET | libc::BPF_K, verdict),
            statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW),
        ];
        let program = libc::sock_fprog {
            len: filter.len() as u16,
            filter: filter.as_mut_ptr(),
        };
        // SAFETY: the kernel copies the program and its filter, which live through the calls.
        let set = unsafe {
            libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
                && libc::prctl(
                    libc::PR_SET_SECCOMP,
                    libc::SECCOMP_MODE_FILTER,
                    &raw const program,
                ) == 0
        };
        assert!(set, "no filter: {}", std::io::Error::last_os_error());
    }
}

/// One process; killed when it is dropped, or when the run dies.
pub struct End {
    process: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl End {
    fn start(cpu: usize, fence: Fence) -> Self {
        let mut process = Command::new("/proc/self/exe")
            .env(END, format!("{cpu} {}", fence.word()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("start this program again");
        Self {
            orders: process.stdin.take().expect("its input"),
            answers: BufReader::new(process.stdout.take().expect("its output")),
            process,
        }
    }

    /// Gives an order, and takes the figures.
    pub fn order(&mut self, order: &str) -> Vec<f64> {
        self.tell(order);
        self.figures()
    }

    fn tell(&mut self, order: &str) {
        writeln!(self.orders, "{order}").expect("an end that listens");
    }

    fn hear(&mut self) -> String {
        let mut line = String::new();
        let length = self.answers.read_line(&mut line);
        assert!(length.expect("an answer") > 0, "an end ended early");
        line.trim_end().to_owned()
    }

    fn figures(&mut self) -> Vec<f64> {
        let line = self.hear();
        line.split(' ')
            .map(|figure| figure.parse().expect("a figure"))
            .collect()
    }
}

impl Drop for End {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// What an end took for an order.
#[derive(Clone)]
pub struct Taken {
    pub wall: f64,
    pub processor: f64,
    pub sleeps: f64,
    pub others: Vec<f64>,
}

impl Taken {
    pub fn of(figures: Vec<f64>) -> Self {
        Self {
            wall: figures[0],
            processor: figures[1],
            sleeps: figures[2],
            others: figures[3..].to_vec(),
        }
    }
}

/// The channels of a pair, as both of its ends are told of them.
#[derive(Clone, Copy)]
pub struct Channels<'a> {
    pub name: &'a str,
    pub count: u64,
    /// Of a message; 8 are numbers, all else byte strings.
    pub size: u64,
    pub capacity: u64,
    pub wait: &'a str,
}

impl<'a> Channels<'a> {
    /// One of numbers, as it is made if nothing is said.
    pub fn one(name: &'a str) -> Self {
        Self {
            name,
            count: 1,
            size: 8,
            capacity: 256 << 10,
            wait: "adaptive",
        }
    }

    fn words(&self) -> String {
        let kind = if self.size == 8 { "numbers" } else { "bytes" };
        let Self {
            name,
            count,
            size,
            capacity,
            wait,
        } = self;
        format!("{kind} {size} {name} {count} {capacity} {wait}")
    }
}

/// Two ends, on the two CPUs.
pub struct Pair {
    pub host: End,
    pub guest: End,
    /// Nanoseconds that each took to come, and before that to its first channel.
    pub created: f64,
    pub opened: f64,
    pub first_created: f64,
    pub first_opened: f64,
}

impl Pair {
    pub fn start(run: &Run<'_>, fence: Fence, channels: Channels<'_>) -> Self {
        let mut host = End::start(run.machine.first, fence);
        let mut guest = End::start(run.machine.second, fence);
        // Whatever a process does only once counts by itself.
        let first_created = host.order("create numbers 8 first 1 4096 adaptive")[0];
        let first_opened = guest.order("open numbers 8 first 1 4096 adaptive")[0];
        guest.order("close");
        host.order("close");
        let mut pair = Self {
            host,
            guest,
            created: 0.0,
            opened: 0.0,
            first_created,
            first_opened,
        };
        (pair.created, pair.opened) = pair.attach(channels);
        pair
    }

    /// Has channels created and opened; gives the nanoseconds that took.
    pub fn attach(&mut self, channels: Channels<'_>) -> (f64, f64) {
        let words = channels.words();
        let created = self.host.order(&format!("create {words}"))[0];
        let opened = self.guest.order(&format!("open {words}"))[0];
        (created, opened)
    }

    /// The guest obeys, and then the host; gives what each took.
    pub fn run(&mut self, host: &str, guest: &str) -> (Taken, Taken) {
        self.guest.tell(guest);
        assert_eq!(self.guest.hear(), "ready");
        let host = self.host.order(host);
        (Taken::of(host), Taken::of(self.guest.figures()))
    }

    /// Nanoseconds of one of so many round trips.
    pub fn round_trip(&mut self, count: u64) -> f64 {
        let (host, _) = self.run(&format!("ask {count}"), &format!("answer {count}"));
        host.wall / count as f64
    }

    /// Nanoseconds of one of so many messages, until the last was received.
    pub fn stream(&mut self, count: u64) -> f64 {
        let (host, _) = self.run(&format!("send {count}"), &format!("receive {count}"));
        host.wall / count as f64
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        // What killed ends leave, the next of that name would take over.
        if !std::thread::panicking() {
            self.guest.order("close");
            self.host.order("close");
        }
    }
}

/// How many fill a turn; each is to take nanoseconds, as `one` says for so many.
pub fn fill(turn: Duration, mut one: impl FnMut(u64) -> f64) -> u64 {
    let mut count = 16;
    while one(count) * (count as f64) < turn.as_nanos() as f64 {
        count *= 2;
    }
    count
}
