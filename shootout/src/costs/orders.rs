//! What an end does: it holds channels, and sends and receives on them as it is told.
//!
//! An order is a line on its standard input. Each is answered by a line of numbers; one that waits
//! for the other end says a line before it begins, too.

use std::io::{self, BufRead, Write};
use std::time::{Duration, Instant};

use ringlane::{Channel, TryRecvError, Wait};
use rustix::process::{Signal, set_parent_process_death_signal};
use rustix::time::{ClockId, clock_gettime};

use super::end::{DOMAIN, END, Fence};
use super::load::{Bytes, Load, Numbers};
use crate::machine::pin;

/// Turns this process into an end if it was started as one.
pub fn serve_if_end() {
    let Ok(told) = std::env::var(END) else {
        return;
    };
    set_parent_process_death_signal(Some(Signal::KILL)).expect("to die with the run");
    let mut words = told.split(' ');
    let mut word = || words.next().expect("two words");
    pin(word().parse().expect("a CPU"));
    Fence::parse(word()).set();
    let mut held: Box<dyn Ends> = Box::new(Nothing);
    for line in io::stdin().lock().lines() {
        let line = line.expect("an order");
        let words: Vec<&str> = line.split(' ').collect();
        let number = |at: usize| words[at].parse::<u64>().expect("a number");
        let figures = match words[0] {
            "create" | "open" => {
                let clock = Instant::now();
                held = hold(&words);
                vec![clock.elapsed().as_nanos() as f64]
            }
            "close" => {
                let clock = Instant::now();
                held = Box::new(Nothing);
                vec![clock.elapsed().as_nanos() as f64]
            }
            "listen" => listen(&words),
            "ask" => taken(|| held.ask(number(1))),
            "send" => taken(|| held.send(number(1))),
            "look" => taken(|| held.look(number(1))),
            "answer" => {
                say("ready");
                taken(|| held.answer(number(1)))
            }
            "receive" => {
                say("ready");
                taken(|| held.receive(number(1)))
            }
            "pace" => {
                let mut nanos = Vec::new();
                let period = Duration::from_nanos(number(1));
                let mut figures = taken(|| nanos = held.pace(period, number(2)));
                nanos.sort_unstable();
                let at = |share: f64| nanos[(nanos.len() as f64 * share) as usize] as f64;
                figures.extend([at(0.5), at(0.99)]);
                figures
            }
            "memory" => memory(),
            other => panic!("no order `{other}`"),
        };
        let figures: Vec<String> = figures.iter().map(f64::to_string).collect();
        say(&figures.join(" "));
    }
    std::process::exit(0);
}

fn say(line: &str) {
    println!("{line}");
    io::stdout().flush().expect("somebody who listens");
}

/// Wall time, processor time, both in nanoseconds, and how often this process slept.
fn taken(work: impl FnOnce()) -> Vec<f64> {
    let (slept, processor, clock) = (sleeps(), processor_time(), Instant::now());
    work();
    let wall = clock.elapsed();
    let processor = processor_time() - processor;
    let slept = sleeps() - slept;
    vec![
        wall.as_nanos() as f64,
        processor.as_nanos() as f64,
        slept as f64,
    ]
}

fn processor_time() -> Duration {
    let now = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}

fn sleeps() -> u64 {
    of_status("voluntary_ctxt_switches")
}

/// A number in this process's `/proc` entry.
fn of_status(field: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("/proc");
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    let line = line.expect("this field").trim_start_matches(':').trim();
    line.trim_end_matches(" kB").parse().expect("a number")
}

/// KiB that are this process's own, KiB of its page tables, its descriptors, its threads.
fn memory() -> Vec<f64> {
    let descriptors = std::fs::read_dir("/proc/self/fd").expect("/proc").count();
    let numbers = [
        of_status("RssAnon"),
        of_status("VmPTE"),
        descriptors as u64,
        of_status("Threads"),
    ];
    numbers.map(|n| n as f64).to_vec()
}

/// `create|open KIND SIZE NAME COUNT CAPACITY WAIT`
fn hold(words: &[&str]) -> Box<dyn Ends> {
    let size: usize = words[2].parse().expect("a size");
    match words[1] {
        "numbers" => Box::new(Held::new(Numbers, words)),
        "bytes" => Box::new(Held::new(Bytes::new(size), words)),
        other => panic!("no kind `{other}`"),
    }
}

pub fn name(prefix: &str, n: u64) -> String {
    format!("{prefix}-{n}")
}

/// `listen NAME COUNT MILLISECONDS`: opens so many channels, and has a listener on each for a while.
fn listen(words: &[&str]) -> Vec<f64> {
    let count: u64 = words[2].parse().expect("a count");
    let while_idle = Duration::from_millis(words[3].parse().expect("a time"));
    let listeners: Vec<_> = (0..count)
        .map(|n| {
            let options = Channel::<u64>::options().domain(DOMAIN);
            let channel = options.open(&name(words[1], n)).expect("a channel");
            let (sender, receiver) = channel.split();
            let listener = receiver.on_receive(|number: u64| assert!(number > 0));
            (sender, listener.expect("a listener"))
        })
        .collect();
    let figures = taken(|| std::thread::sleep(while_idle));
    drop(listeners);
    figures
}

/// What can be done with the channels that are held, whatever they carry.
trait Ends {
    /// Sends on each, then receives an answer on each.
    fn ask(&mut self, rounds: u64);

    fn answer(&mut self, rounds: u64);

    /// Sends all, and waits for a word when they were received.
    fn send(&mut self, count: u64);

    fn receive(&mut self, count: u64);

    /// Looks for a message on each, and finds none.
    fn look(&mut self, rounds: u64);

    /// Asks once a period; gives the nanoseconds until each answer.
    fn pace(&mut self, period: Duration, rounds: u64) -> Vec<u64>;
}

struct Nothing;

impl Ends for Nothing {
    fn ask(&mut self, _: u64) {}
    fn answer(&mut self, _: u64) {}
    fn send(&mut self, _: u64) {}
    fn receive(&mut self, _: u64) {}
    fn look(&mut self, _: u64) {}
    fn pace(&mut self, _: Duration, _: u64) -> Vec<u64> {
        Vec::new()
    }
}

struct Held<L: Load> {
    load: L,
    channels: Vec<Channel<L::Message>>,
}

impl<L: Load> Held<L> {
    fn new(load: L, words: &[&str]) -> Self {
        let number = |at: usize| words[at].parse::<u64>().expect("a number");
        let wait = match words[6] {
            "spin" => Wait::Spin,
            "adaptive" => Wait::Adaptive,
            "sleep" => Wait::Sleep,
            other => panic!("no wait `{other}`"),
        };
        let one = |n| {
            let options = Channel::<L::Message>::options().domain(DOMAIN).wait(wait);
            let name = name(words[3], n);
            match words[0] {
                "create" => options.capacity(number(5) as usize).create(&name),
                _ => options.open(&name),
            }
            .expect("a channel")
        };
        Self {
            load,
            channels: (0..number(4)).map(one).collect(),
        }
    }
}

impl<L: Load> Ends for Held<L> {
    fn ask(&mut self, rounds: u64) {
        let Self { load, channels } = self;
        for round in 0..rounds {
            for channel in &mut *channels {
                load.send(channel, round);
            }
            for channel in &mut *channels {
                assert_eq!(load.receive(channel), round);
            }
        }
    }

    fn answer(&mut self, rounds: u64) {
        let Self { load, channels } = self;
        for _ in 0..rounds {
            for channel in &mut *channels {
                let number = load.receive(channel);
                load.send(channel, number);
            }
        }
    }

    fn send(&mut self, count: u64) {
        let Self { load, channels } = self;
        let channel = &mut channels[0];
        (0..count).for_each(|n| load.send(channel, n));
        let sum = load.receive(channel);
        assert_eq!(sum, (0..count).fold(0, u64::wrapping_add));
    }

    fn receive(&mut self, count: u64) {
        let Self { load, channels } = self;
        let channel = &mut channels[0];
        let sum = (0..count).fold(0, |sum: u64, _| sum.wrapping_add(load.receive(channel)));
        load.send(channel, sum);
    }

    fn look(&mut self, rounds: u64) {
        for _ in 0..rounds {
            for channel in &mut self.channels {
                assert!(matches!(channel.try_recv(), Err(TryRecvError::Empty)));
            }
        }
    }

    fn pace(&mut self, period: Duration, rounds: u64) -> Vec<u64> {
        let Self { load, channels } = self;
        let channel = &mut channels[0];
        let mut nanos = Vec::with_capacity(rounds as usize);
        let mut due = Instant::now();
        for round in 0..rounds {
            if !period.is_zero() {
                std::thread::sleep(due.saturating_duration_since(Instant::now()));
                due += period;
            }
            let clock = Instant::now();
            load.send(channel, round);
            assert_eq!(load.receive(channel), round);
            nanos.push(clock.elapsed().as_nanos() as u64);
        }
        nanos
    }
}
