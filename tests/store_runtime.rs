//! The promise: main and its children share one store, made when it is first asked for; it outlives
//! a child and a main that are killed, and goes when main shuts down in order.

mod runtime_common;

use ringlane::{Child, ChildResult, Error, Runtime, Store};
use runtime_common::{Case, say, signal, until};
use rustix::process::Signal;
use std::time::Duration;

fn main() {
    runtime_common::main(&[
        ("main_and_child_share_one", main_and_child_share_one),
        ("it_is_made_when_asked_for", it_is_made_when_asked_for),
        ("it_outlives_a_killed_main", it_outlives_a_killed_main),
        ("a_shutdown_removes_it", a_shutdown_removes_it),
    ]);
}

/// Counts its starts, says what it finds, and waits to be stopped.
fn counts(child: Child) -> ChildResult {
    let store = child.store()?;
    let greeting = store.get_or::<str>("greeting", String::new())?;
    store.set("found", &format!("{greeting}/{}", child.generation())[..])?;
    store.fetch_add("starts", 1)?;
    while !child.wait_stop(Duration::from_secs(60)) {}
    Ok(())
}

fn main_and_child_share_one(case: &Case) {
    let runtime = Runtime::builder(&case.domain)
        .child("counts", counts)
        .on_before_start(|runtime| {
            let store = runtime.store().unwrap();
            store.set("greeting", "hello").unwrap();
        })
        .start()
        .unwrap();
    let store = runtime.store().unwrap();
    let mut found = store.watch::<str>("found").unwrap();
    if store.get::<i64>("starts").unwrap().is_none() {
        // Of the first start there may be nothing left to wait for.
        found.wait().unwrap();
    }
    until("the first start", || {
        store.get_or::<i64>("starts", 0).unwrap() == 1
    });
    assert_eq!(store.get::<str>("found").unwrap().unwrap(), "hello/1");

    let pid = || runtime.children()[0].pid;
    until("the child's pid", || pid().is_some());
    signal(pid().unwrap(), Signal::KILL);
    until("the second start", || {
        store.get_or::<i64>("starts", 0).unwrap() == 2
    });
    assert_eq!(store.get::<str>("found").unwrap().unwrap(), "hello/2");
    drop((found, store));
    runtime.shutdown().unwrap();
}

fn it_is_made_when_asked_for(case: &Case) {
    let file = case.directory().join("shared.store");
    let runtime = Runtime::builder(&case.domain).start().unwrap();
    assert!(!file.exists());
    assert_eq!(runtime.store().unwrap().name(), "shared");
    assert!(file.exists());
    let by_name = Store::options().domain(&case.domain).open("shared");
    by_name.unwrap().set("key", &1u8).unwrap();
    let mine = runtime.store().unwrap().get::<u8>("key");
    assert_eq!(mine.unwrap(), Some(1));
    runtime.shutdown().unwrap();
}

fn it_outlives_a_killed_main(case: &Case) {
    if case.role() == "main" {
        let runtime = Runtime::builder(&case.domain).start().unwrap();
        runtime.store().unwrap().set("from", "the first").unwrap();
        say("set");
        std::thread::sleep(Duration::from_secs(60));
        return;
    }
    let mut first = case.start(&["main"]);
    assert_eq!(first.line(), "set");
    first.kill();
    let runtime = Runtime::builder(&case.domain).start().unwrap();
    let found = runtime.store().unwrap().get::<str>("from").unwrap();
    assert_eq!(found.as_deref(), Some("the first"));
    runtime.shutdown().unwrap();
}

fn a_shutdown_removes_it(case: &Case) {
    let runtime = Runtime::builder(&case.domain).start().unwrap();
    let store = runtime.store().unwrap();
    store.set("key", &1u8).unwrap();
    runtime.shutdown().unwrap();
    assert!(matches!(runtime.store(), Err(Error::Stopping)));
    let open = Store::options().domain(&case.domain).open("shared");
    assert!(matches!(open, Err(Error::NotFound { .. })));
    // Who has it keeps it.
    store.set("key", &2u8).unwrap();
    assert_eq!(store.get::<u8>("key").unwrap(), Some(2));
}
