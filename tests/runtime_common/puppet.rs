//! A child that does what main tells it, one line at a time.

use ringlane::{Channel, Child, ChildResult, RecvError};
use std::time::Duration;

/// The child's function. It says `up GENERATION PID` first, then obeys what comes on its active
/// channel, and ends well when it is asked to stop.
pub fn puppet(child: Child) -> ChildResult {
    let mut main = child.active::<str>()?;
    main.send(format!("up {} {}", child.generation(), std::process::id()))?;
    loop {
        let line = match main.recv() {
            Ok(line) => line,
            Err(RecvError::Stopping) => return Ok(()),
            Err(other) => return Err(other.into()),
        };
        match line.split(' ').collect::<Vec<_>>()[..] {
            ["say", ..] => main.send(line[4..].to_string())?,
            ["return"] => return Ok(()),
            ["fail", ..] => return Err(line[5..].into()),
            ["panic"] => panic!("as told"),
            ["abort"] => std::process::abort(),
            ["exit", status] => std::process::exit(status.parse()?),
            ["restart"] => child.request_restart()?,
            ["restart", "and", "return"] => {
                child.request_restart()?;
                return Ok(());
            }
            // Neither hears that it is to stop, nor ends of SIGTERM.
            ["be", "stubborn"] => {
                ignore_sigterm();
                main.send("stubborn")?;
                loop {
                    std::thread::sleep(Duration::from_secs(1));
                }
            }
            // Does not hear that it is to stop.
            ["be", "busy"] => {
                main.send("busy")?;
                loop {
                    std::thread::sleep(Duration::from_secs(1));
                }
            }
            _ => return Err(format!("cannot {line:?}").into()),
        }
    }
}

pub fn ignore_sigterm() {
    // SAFETY: to ignore a signal runs no code of ours.
    unsafe { libc::signal(libc::SIGTERM, libc::SIG_IGN) };
}

/// The next line that a child says, whatever became of it in between.
#[track_caller]
pub fn line(channel: &mut Channel<str>) -> String {
    channel.iter().next().expect("there is a next line")
}

/// Waits until the puppet says that it is up, and gives its generation and pid.
#[track_caller]
pub fn up(channel: &mut Channel<str>) -> (u32, u32) {
    let line = line(channel);
    let words: Vec<_> = line.split(' ').collect();
    assert_eq!(words[0], "up", "{line}");
    (words[1].parse().unwrap(), words[2].parse().unwrap())
}

/// Tells the puppet something, and gives its answer.
#[track_caller]
pub fn ask(channel: &mut Channel<str>, what: &str) -> String {
    channel.send(what).unwrap();
    line(channel)
}
