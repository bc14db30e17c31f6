//! Two unrelated processes and one channel, found by its name.
//!
//! Run it in two terminals; whoever comes first answers, the second asks:
//!
//! ```sh
//! cargo run --release --example ping_pong
//! ```

use ringlane::{Channel, Error, RecvError};
use std::time::{Duration, Instant};

const NAME: &str = "ping-pong";
const ROUNDS: u64 = 100_000;

fn main() -> ringlane::Result<()> {
    match Channel::<u64>::open(NAME) {
        Ok(channel) => ask(channel),
        Err(Error::NotFound { .. }) => answer(Channel::create(NAME)?),
        Err(e) => Err(e),
    }
}

/// The first process: sends every number back, until nobody asks any more.
fn answer(mut channel: Channel<u64>) -> ringlane::Result<()> {
    println!(
        "process {} waits for another: run this once more",
        std::process::id()
    );
    channel.wait_peer(Duration::from_secs(60))?;
    println!("{:?}", channel.peer());
    loop {
        match channel.recv() {
            Ok(u64::MAX) => return Ok(()),
            Ok(number) => channel.send(number)?,
            // Another asks now, or will.
            Err(e @ (RecvError::PeerDied { .. } | RecvError::PeerRestarted { .. })) => {
                println!("{e}")
            }
            Err(e) => return Err(e.into()),
        }
    }
}

/// The second: measures, and says goodbye.
fn ask(mut channel: Channel<u64>) -> ringlane::Result<()> {
    let mut times = Vec::new();
    for number in 0..ROUNDS {
        let start = Instant::now();
        channel.send(number)?;
        let back = channel.recv()?;
        times.push(start.elapsed());
        assert_eq!(back, number);
    }
    channel.send(u64::MAX)?;
    times.sort_unstable();
    let at = |share: usize| times[(times.len() - 1) * share / 1000];
    println!(
        "{ROUNDS} round trips: p50 {:?}, p99 {:?}, p99.9 {:?}",
        at(500),
        at(990),
        at(999)
    );
    println!("asked: {:?}", channel.stats());
    Ok(())
}
