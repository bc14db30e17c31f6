//! A main process and a child that is restarted by request, killed, and back again each time.
//!
//! ```sh
//! cargo run --release --example hello
//! ```
//!
//! Main starts the child `nonebot` and talks to it on two channels: every 0.1 s on
//! `nonebot-passive`, where a handler with a filter receives, and every second on `nonebot-active`,
//! where a `recv` loop does. The child asks main to restart it; later main kills it. Both times it
//! comes back and goes on where the messages stand. Every line carries a number, and the child
//! reports what it got, so that at the end the sum can be drawn. In the store that both share, main
//! sets a greeting, the child gets it and counts its starts, and main watches the count. Run `dump`
//! beside it to look on.

use ringlane::{
    Child, ChildResult, Message, Postcard, Receiver, RecvError, Runtime, Sender, TryRecvError,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::error::Error;
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

/// What main says to the child.
#[derive(Serialize, Deserialize)]
enum Line {
    Text {
        number: u32,
        text: String,
    },
    /// Something that the filter does not let through.
    Noise,
    Ping(u64),
    /// What the child says to main.
    Up {
        generation: u32,
    },
    Got(Way, u32),
    Pong(u64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
enum Way {
    Active,
    Passive,
}

impl Message for Line {
    const NAME: &'static str = "hello.Line";
    type Codec = Postcard;
}

const PASSIVE_LINES: u32 = 32;
const PINGS: u64 = 50_000;
/// A message that the child is working on when it is killed is lost with it.
const LOST_PER_KILL: usize = 1;

fn main() -> Result<(), Box<dyn Error>> {
    // What stands before `start` happens in the child, too. The hook before the start does not.
    let (lend, lent) = mpsc::channel();
    let (talk, talked) = mpsc::channel();
    let runtime = Runtime::builder("hello")
        .child("nonebot", nonebot)
        .on_before_start(|runtime| {
            let greeting = "I am the main process";
            if let Err(e) = runtime.store().and_then(|s| s.set("greeting", greeting)) {
                println!("main: no store: {e}");
            }
        })
        .on_after_start(move |runtime| {
            // Fails only once main gave up, and then nobody is left to tell.
            if let Ok(spoken) = speak(runtime, &lent) {
                let _ = talk.send(spoken);
            }
        })
        .on_child_exit(|_, status| match (status.last_exit, &status.last_error) {
            (Some(exit), _) => {
                println!(
                    "main: {} (generation {}) ended: {exit}",
                    status.name, status.generation
                );
            }
            (None, error) => println!("main: {} ended: {error:?}", status.name),
        })
        .on_before_restart(|_, name| println!("main: {name} is started again"))
        .start()?;

    let store = runtime.store()?;
    let watcher = store.watch::<u32>("starts")?.on_change(|starts| {
        println!("main: the store says {starts:?} starts");
    })?;

    let (sender, mut reports) = runtime.get_channel::<Line>("nonebot-active")?.split();
    let sender = Arc::new(Mutex::new(sender));
    lend.send(sender.clone())?;

    let mut got = BTreeSet::new();
    let mut kills = 0;
    let mut since_second = 0;
    let mut generation = 0;
    let mut spoken = None;
    let deadline = Instant::now() + Duration::from_secs(9);
    let mut quiet = Instant::now();
    // Until everything arrived, or nothing has for a second.
    loop {
        match reports.recv_timeout(Duration::from_millis(50)) {
            Ok(Line::Got(way, number)) => {
                got.insert((way, number));
                quiet = Instant::now();
                since_second += usize::from(generation == 2);
            }
            Ok(Line::Up { generation: now }) => {
                println!("main: nonebot is up, generation {now}");
                generation = now;
            }
            Ok(_) => {}
            Err(TryRecvError::Empty) => {}
            Err(TryRecvError::Recv(
                e @ (RecvError::PeerDied { .. } | RecvError::PeerRestarted { .. }),
            )) => {
                println!("main: {e}");
            }
            Err(e) => return Err(e.into()),
        }
        if since_second >= 8 && kills == 0 {
            let pid = runtime.children()[0].pid;
            if let Some(pid) = pid.and_then(|pid| rustix::process::Pid::from_raw(pid as i32)) {
                println!("main: kill -9 {}", pid.as_raw_nonzero());
                rustix::process::kill_process(pid, rustix::process::Signal::KILL)?;
                kills += 1;
                since_second = 0;
            }
        }
        spoken = spoken.or_else(|| talked.try_recv().ok());
        let all = spoken.is_some_and(|(passive, active)| got.len() == (passive + active) as usize);
        let settled = spoken.is_some() && generation == 3;
        if settled && (all || quiet.elapsed() > Duration::from_secs(1)) || Instant::now() > deadline
        {
            break;
        }
    }
    let figures = round_trips(&sender, &mut reports)?;
    let (passive, active) = spoken.ok_or("main did not finish speaking")?;
    let starts = store.get_or::<u32>("starts", 0)?;
    watcher.stop()?;
    drop((sender, reports, store));
    runtime.shutdown()?;

    let sent = (passive + active) as usize;
    let lost = sent - got.len();
    println!(
        "main: {sent} lines sent, {} received, {lost} lost",
        got.len()
    );
    if (generation, starts, kills) != (3, 3, 1) || lost > LOST_PER_KILL * kills {
        let what = format!("generation {generation}, {starts} starts, {kills} kills, {lost} lost");
        return Err(what.into());
    }
    println!("{figures}");
    Ok(())
}

/// Says what main has to say, and gives how many lines that were on each channel.
fn speak(
    runtime: &Runtime,
    lent: &mpsc::Receiver<Arc<Mutex<Sender<Line>>>>,
) -> Result<(u32, u32), Box<dyn Error>> {
    let active_sender = lent.recv()?;
    let mut passive = runtime.get_channel::<Line>("nonebot-passive")?;
    let mut active = 0;
    for number in 1..=PASSIVE_LINES {
        let text = "I am the main process, passive".to_string();
        passive.send(Line::Text { number, text })?;
        passive.send(Line::Noise)?;
        if number % 10 == 1 {
            active += 1;
            let text = "I am the main process, active".to_string();
            let line = Line::Text {
                number: active,
                text,
            };
            active_sender.lock().unwrap().send(line)?;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok((PASSIVE_LINES, active))
}

/// There and back, between two processes, in nanoseconds.
fn round_trips(
    sender: &Mutex<Sender<Line>>,
    reports: &mut Receiver<Line>,
) -> ringlane::Result<String> {
    let mut sender = sender.lock().unwrap();
    let mut times = Vec::new();
    for ping in 0..PINGS {
        let start = Instant::now();
        sender.send(Line::Ping(ping))?;
        while !matches!(reports.recv()?, Line::Pong(pong) if pong == ping) {}
        times.push(start.elapsed().as_nanos());
    }
    times.sort_unstable();
    let at = |share: usize| times[(times.len() - 1) * share / 100];
    Ok(format!(
        "round trip main - nonebot - main: p50 {} ns, p99 {} ns",
        at(50),
        at(99)
    ))
}

/// The child: a process of its own, three times over.
fn nonebot(child: Child) -> ChildResult {
    let generation = child.generation();
    let store = child.store()?;
    let greeting = store.get::<str>("greeting")?;
    println!("  nonebot/{generation}: the store says {greeting:?}");
    store.update::<u32>("starts", |starts| Some(starts.unwrap_or(0) + 1))?;
    let (sender, mut active) = child.active::<Line>()?.split();
    let (_nothing_to_say, passive) = child.passive::<Line>()?.split();
    let sender = Arc::new(Mutex::new(sender));
    sender.lock().unwrap().send(Line::Up { generation })?;

    let reporter = sender.clone();
    passive
        .listener()
        .on(
            |line| matches!(line, Line::Text { .. }),
            move |line| {
                let Line::Text { number, text } = line else {
                    return;
                };
                println!("  nonebot/{generation}: passive {number:2}: {text}");
                if let Err(e) = reporter
                    .lock()
                    .unwrap()
                    .send(Line::Got(Way::Passive, *number))
                {
                    println!("  nonebot/{generation}: {e}");
                }
            },
        )
        .on_error(move |e| println!("  nonebot/{generation}: passive: {e}"))
        .start()?;

    loop {
        match active.recv() {
            Ok(Line::Text { number, text }) => {
                println!("  nonebot/{generation}: active  {number:2}: {text}");
                sender
                    .lock()
                    .unwrap()
                    .send(Line::Got(Way::Active, number))?;
                if generation == 1 && number == 2 {
                    println!("  nonebot/{generation}: please restart me");
                    child.request_restart()?;
                }
            }
            Ok(Line::Ping(ping)) => sender.lock().unwrap().send(Line::Pong(ping))?,
            Ok(_) => {}
            Err(RecvError::Stopping) => break,
            Err(e @ (RecvError::PeerDied { .. } | RecvError::PeerRestarted { .. })) => {
                println!("  nonebot/{generation}: {e}");
            }
            Err(e) => return Err(e.into()),
        }
    }
    println!("  nonebot/{generation}: stopping");
    Ok(())
}
