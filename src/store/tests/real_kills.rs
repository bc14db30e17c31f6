//! The same kills of real processes, whose lock has to be taken over.

use super::kills::{read_only, recover};
use super::scenes::{Scene, act, all, table};
use super::{Yard, options, scale};
use crate::sync::kills::{count, kill_process_after};
use rustix::process::{Signal, set_parent_process_death_signal};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus, Stdio};

/// Domain, store, kill point and act, for the process that is to be killed.
const VICTIM: &str = "RINGLANE_TEST_VICTIM";

#[test]
#[ignore = "what the processes of the next test run"]
fn victim() {
    let Ok(text) = std::env::var(VICTIM) else {
        return;
    };
    set_parent_process_death_signal(Some(Signal::KILL)).unwrap();
    let mut parts = text.splitn(4, ' ');
    let mut part = || parts.next().unwrap();
    let store = options(part()).open(part()).unwrap();
    kill_process_after(part().parse().unwrap());
    act(&store, part());
    std::process::exit(7);
}

fn kill_at(yard: &Yard, name: &str, k: u32, act: &str) -> ExitStatus {
    let mut command = Command::new("/proc/self/exe");
    command
        .args(["store::tests::real_kills::victim", "--exact", "--ignored"])
        .args(["--nocapture", "--test-threads=1"])
        .env(VICTIM, format!("{} {name} {k} {act}", yard.domain))
        .stdout(Stdio::null());
    command.status().unwrap()
}

#[test]
fn a_killed_process_leaves_the_change_done_or_not_done() {
    let yard = Yard::new("store-real-kills");
    let step = scale(17, 1) as u32;
    let mut rows = Vec::new();
    for (i, scene) in all(&yard).iter().enumerate() {
        let points = points_of(&yard, scene);
        let mut reached = 0;
        let mut kills = 0;
        // The first and the last, and some between, others for each scene.
        let ks = (0..=points).filter(|k| (k + i as u32) % step == 0 || *k == points);
        for k in ks {
            let why = format!("{}, {k} of {points}", scene.name);
            let name = yard.put(&scene.image);
            let status = kill_at(&yard, &name, k, &scene.act);
            match k == points {
                true => assert_eq!(status.code(), Some(7), "{why}"),
                false => assert_eq!(status.signal(), Some(9), "{why}"),
            }
            let seen = read_only(&yard, scene, &name, &why);
            let recovered = recover(&yard, scene, &name, &why);
            assert!(reached <= recovered && seen <= recovered, "{why}");
            assert!(k < points || recovered == scene.states.len() - 1, "{why}");
            reached = recovered;
            kills += u32::from(k < points);
        }
        rows.push((scene.name, kills));
    }
    eprintln!("processes killed\n{}", table(&rows));
}

fn points_of(yard: &Yard, scene: &Scene) -> u32 {
    let name = yard.put(&scene.image);
    let store = yard.options().open(&name).unwrap();
    let ((), points) = count(|| act(&store, &scene.act));
    drop(store);
    yard.take(&name);
    points
}
