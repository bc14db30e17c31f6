//! A process that does with a channel of `u64` what it is told, one line at a time, and answers
//! each line with what came of it.

use super::{Process, hear, say};
use ringlane::{Channel, ChannelOptions, Receiver, Sender};
use std::fmt::Debug;
use std::time::Duration;

/// Starts one in a domain. The file's test `process` must hand the role `actor` to [`act`].
pub fn start(domain: &str) -> Process {
    Process::start("actor", &[domain])
}

/// Starts one that holds the guest's end of a channel.
#[track_caller]
pub fn guest(domain: &str, channel: &str) -> Process {
    let mut actor = start(domain);
    assert_eq!(actor.ask(&format!("open {channel}")), "Ok");
    actor
}

/// Starts one that holds the host's end of a channel of 4 KiB each way.
#[track_caller]
pub fn host(domain: &str, channel: &str) -> Process {
    let mut actor = start(domain);
    assert_eq!(actor.ask(&format!("create {channel}")), "Ok");
    actor
}

fn options(domain: &str) -> ChannelOptions<u64> {
    Channel::options().domain(domain).capacity(4096)
}

/// What an actor holds.
enum Held {
    Nothing,
    Whole(Channel<u64>),
    OnlySender(Sender<u64>),
    OnlyReceiver(Receiver<u64>),
}

impl Held {
    fn take(&mut self) -> Held {
        std::mem::replace(self, Held::Nothing)
    }
}

macro_rules! sending {
    ($held:ident, $half:ident => $what:expr) => {
        match &mut $held {
            Held::Whole($half) => shown($what),
            Held::OnlySender($half) => shown($what),
            _ => panic!("the actor holds no sender"),
        }
    };
}

macro_rules! receiving {
    ($held:ident, $half:ident => $what:expr) => {
        match &mut $held {
            Held::Whole($half) => shown($what),
            Held::OnlyReceiver($half) => shown($what),
            _ => panic!("the actor holds no receiver"),
        }
    };
}

fn shown(outcome: impl Debug) -> String {
    format!("{outcome:?}")
}

/// What `process` does in the role `actor`.
pub fn act(arguments: &[&str]) {
    let domain = arguments[0];
    let mut held = Held::Nothing;
    while let Some(line) = hear() {
        let words: Vec<_> = line.split(' ').collect();
        let number = |at: usize| words[at].parse::<u64>().unwrap();
        let answer = match words[0] {
            "create" | "open" => {
                let keep = words.get(2) != Some(&"drop");
                let options = options(domain).keep_undelivered(keep);
                let outcome = match words[0] {
                    "create" => options.create(words[1]),
                    _ => options.open(words[1]),
                };
                match outcome {
                    Ok(channel) => {
                        held = Held::Whole(channel);
                        "Ok".to_string()
                    }
                    Err(e) => shown(e),
                }
            }
            "send" => sending!(held, half => half.send(number(1))),
            "try_send" => sending!(held, half => half.try_send(number(1))),
            // Sends all numbers of a range.
            "range" => sending!(held, half => half.send_all(number(1)..number(2))),
            "recv" => receiving!(held, half => half.recv()),
            "try_recv" => receiving!(held, half => half.try_recv()),
            "recv_timeout" => {
                let timeout = Duration::from_millis(number(1));
                receiving!(held, half => half.recv_timeout(timeout))
            }
            // Takes a message in place, says which, and keeps it in its hands for ever.
            "hold" => {
                let Held::Whole(channel) = &mut held else {
                    panic!("the actor holds no channel");
                };
                let message = channel.recv_ref().unwrap();
                say(format!("{} {}", message.get().unwrap(), message.position()));
                loop {
                    std::thread::park();
                }
            }
            "drop_sender" => {
                held = match held.take() {
                    Held::Whole(channel) => Held::OnlyReceiver(channel.split().1),
                    _ => Held::Nothing,
                };
                "Ok".to_string()
            }
            "drop_receiver" => {
                held = match held.take() {
                    Held::Whole(channel) => Held::OnlySender(channel.split().0),
                    _ => Held::Nothing,
                };
                "Ok".to_string()
            }
            "leave" => {
                held = Held::Nothing;
                "Ok".to_string()
            }
            other => panic!("{other:?} is not something that an actor does"),
        };
        say(answer);
    }
}
