//! Children with different fates: one that works, one that crashes for a while, one that never gets
//! well, and one that is not ours at all.
//!
//! ```sh
//! cargo run --release --example supervisor
//! ```

use ringlane::{Child, ChildResult, ChildSpec, Restart, Runtime};
use std::process::Command;
use std::time::Duration;

fn main() -> ringlane::Result<()> {
    let patient = Restart::OnFailure {
        max: 3,
        backoff: Duration::from_millis(50),
    };
    let mut clock = Command::new("/bin/sh");
    clock.args(["-c", "while :; do sleep 1; done"]);

    let runtime = Runtime::builder("supervisor")
        .child("worker", worker)
        .spec(ChildSpec::entry("convalescent", convalescent).restart(patient.clone()))
        .spec(ChildSpec::entry("hopeless", hopeless).restart(patient))
        .command("clock", clock)
        .on_child_exit(|_, status| {
            let exit = status
                .last_exit
                .map_or("unknown".to_string(), |exit| exit.to_string());
            let then = if status.running {
                "to be started again"
            } else {
                "for good"
            };
            println!(
                "{} (generation {}) ended: {exit}, {then}",
                status.name, status.generation
            );
        })
        .start()?;

    let mut jobs = runtime.get_channel::<u64>("worker-active")?;
    for job in 1..=3 {
        jobs.send(job)?;
        println!("worker: the square of {job} is {}", jobs.recv()?);
    }

    let gave_up = runtime.wait("hopeless")?;
    println!("hopeless was started {} times", gave_up.generation);
    // It may still be waiting for its last try.
    while runtime.children()[1].generation < 3 {
        std::thread::sleep(Duration::from_millis(10));
    }

    println!("stopping");
    runtime.shutdown()?;
    for child in runtime.children() {
        println!("{}: {} restarts", child.name, child.restarts);
    }
    Ok(())
}

fn worker(child: Child) -> ChildResult {
    let mut jobs = child.active::<u64>()?;
    // Ends with `Stopping`.
    while let Ok(job) = jobs.recv() {
        jobs.send(job * job)?;
    }
    Ok(())
}

/// Fails twice, then is well.
fn convalescent(child: Child) -> ChildResult {
    if child.generation() < 3 {
        return Err("not well yet".into());
    }
    child.wait_stop(Duration::MAX);
    Ok(())
}

/// Aborts each time.
fn hopeless(_: Child) -> ChildResult {
    std::process::abort();
}
