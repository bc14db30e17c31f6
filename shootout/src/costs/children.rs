//! How costs grow with the number of a runtime's children.

use std::fs;
use std::time::{Duration, Instant};

use ringlane::inspect;
use ringlane::{Channel, Child, ChildResult, ChildSpec, Runtime, RuntimeBuilder};

use super::table::{Costs, time};
use super::{Cost, Run};
use crate::machine::pin;

/// The first argument of a child's process; then domain, number of children, CPU.
const CHILD: &str = "child-of-costs";
const DOMAIN: &str = "children";

const WORKS: [(&str, &str); 6] = [
    ("spawn_by_processes", "ns for each"),
    ("start_by_processes", "ns for each"),
    ("round_trip_by_processes", "ns for each"),
    ("dump_by_processes", "ns for each"),
    ("stop_by_processes", "ns for each"),
    ("idle_by_processes", "% for each"),
];

/// Turns this process into a runtime's child if it was started as one.
pub fn be_child_if_told() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match &arguments[..] {
        [word, count, cpu] if word == CHILD => {
            let cpu = cpu.parse().expect("a CPU");
            pin(cpu);
            let refused = builder(count.parse().expect("a count"), cpu).start();
            panic!("a child came back: {refused:?}");
        }
        _ => {}
    }
}

fn name(n: usize) -> String {
    format!("c{n}")
}

fn builder(count: usize, cpu: usize) -> RuntimeBuilder {
    let arguments = [CHILD.to_owned(), count.to_string(), cpu.to_string()];
    (0..count).fold(Runtime::builder(DOMAIN), |builder, n| {
        let spec = ChildSpec::entry(&name(n), echo).capacity(4096);
        builder.spec(spec.args(&arguments))
    })
}

/// Sends back what comes, until it is told to stop.
fn echo(child: Child) -> ChildResult {
    let mut main = child.active::<u64>()?;
    while let Ok(number) = main.recv() {
        main.send(number)?;
    }
    Ok(())
}

pub fn measure(run: &Run<'_>, costs: &mut Costs) {
    let counts: &[usize] = match run.quick {
        true => &[1, 10],
        false => &[1, 3, 10, 30, 100, 255],
    };
    let mut rows = Vec::new();
    for &count in counts {
        let mut lanes = WORKS.map(|(work, unit)| Cost::new(work, "", count as u64, unit));
        run.few_rounds().run(|_| {
            let figures = one_round(run, count);
            for (cost, figure) in lanes.iter_mut().zip(figures) {
                cost.rounds.push(figure / count as f64);
            }
        });
        let mut row = vec![count.to_string()];
        let (times, idle) = lanes.split_at(5);
        row.extend(times.iter().map(|cost| time(cost.median() * count as f64)));
        row.push(format!("{:.1} %", idle[0].median() * count as f64));
        rows.push(row);
        costs.extend(lanes);
    }
    costs.table(
        "Children of a runtime, all of them together",
        &[
            "children",
            "`start` returned",
            "all had answered",
            "a message to each and its answer",
            "picture",
            "`shutdown`",
            "processor while idle, main and all",
        ],
        &rows,
    );
}

/// Nanoseconds, and per cent of a processor, of each of [`WORKS`], for all children.
fn one_round(run: &Run<'_>, count: usize) -> [f64; 6] {
    let clock = Instant::now();
    let runtime = builder(count, run.machine.second)
        .start()
        .expect("to start");
    let spawned = clock.elapsed();
    let channel = |n| runtime.get_channel::<u64>(&format!("{}-active", name(n)));
    let channels: Result<Vec<_>, _> = (0..count).map(channel).collect();
    let mut channels = channels.expect("main's ends");
    to_all(&mut channels, 1);
    let started = clock.elapsed();

    let rounds = (2_000 / count as u64).max(5);
    let clock = Instant::now();
    (0..rounds).for_each(|round| to_all(&mut channels, round));
    let round_trip = clock.elapsed() / rounds as u32;

    let clock = Instant::now();
    let picture = inspect::snapshot_domain(DOMAIN).expect("a picture");
    let dump = clock.elapsed();
    assert_eq!(
        (picture.children.len(), picture.channels.len()),
        (count, 2 * count)
    );
    assert_eq!(picture.findings, []);

    let idle = idle(run, &runtime);
    let clock = Instant::now();
    runtime.shutdown().expect("to stop");
    let stopped = clock.elapsed();
    let nanos = |time: Duration| time.as_nanos() as f64;
    [
        nanos(spawned),
        nanos(started),
        nanos(round_trip),
        nanos(dump),
        nanos(stopped),
        idle,
    ]
}

/// A message to each, then an answer from each.
fn to_all(channels: &mut [Channel<u64>], number: u64) {
    for channel in &mut *channels {
        channel.send(number).expect("to send");
    }
    for channel in channels {
        assert_eq!(channel.recv().expect("an answer"), number);
    }
}

/// Per cent of a processor that main and its children take while nobody says anything.
fn idle(run: &Run<'_>, runtime: &Runtime) -> f64 {
    let mut pids: Vec<u32> = runtime.children().iter().filter_map(|c| c.pid).collect();
    pids.push(std::process::id());
    let taken = || -> u64 { pids.iter().map(|&pid| processor_time(pid)).sum() };
    let before = taken();
    let clock = Instant::now();
    std::thread::sleep(Duration::from_millis(if run.quick { 200 } else { 500 }));
    let elapsed = clock.elapsed();
    (taken() - before) as f64 / elapsed.as_nanos() as f64 * 100.0
}

/// Nanoseconds on a processor, of all threads of a process.
fn processor_time(pid: u32) -> u64 {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("its threads");
    let of = |task: std::io::Result<fs::DirEntry>| -> u64 {
        let stat = task.expect("a thread").path().join("schedstat");
        let text = fs::read_to_string(stat).expect("what it took");
        let word = text.split(' ').next().expect("three words");
        word.parse().expect("nanoseconds")
    };
    tasks.map(of).sum()
}
