//! The promise: a runtime's children are processes with names and two channels each, which are
//! there before the children are; main's end of such a channel can be taken once at a time; a child
//! knows that it is one, and nothing else takes itself for it; and whatever cannot be started is
//! refused by an error that says why, with nothing left behind.

mod runtime_common;

use ringlane::{
    Channel, Child, ChildResult, ChildSpec, Error, PeerState, RecvError, Restart, Runtime,
    TryRecvError, inspect,
};
use runtime_common::common::{Random, scale, tally};
use runtime_common::puppet::{ask, line, puppet, up};
use runtime_common::{BY_WORD, Case, is_alive, now_ms, say, state, until, wait_to_go_on};
use rustix::pipe::PipeFlags;
use rustix::process::Signal;
use std::io::Read;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::Command;
use std::sync::mpsc;
use std::time::{Duration, Instant};

fn main() {
    runtime_common::main(&[
        ("starts_and_talks", starts_and_talks),
        (
            "channels_come_before_children",
            channels_come_before_children,
        ),
        (
            "an_end_is_taken_once_at_a_time",
            an_end_is_taken_once_at_a_time,
        ),
        (
            "each_channel_of_a_child_has_its_mode",
            each_channel_of_a_child_has_its_mode,
        ),
        (
            "set_channel_is_for_a_child_to_open",
            set_channel_is_for_a_child_to_open,
        ),
        ("channels_are_listed_in_order", channels_are_listed_in_order),
        (
            "a_child_is_this_program_again",
            a_child_is_this_program_again,
        ),
        (
            "a_child_outlives_the_program_file",
            a_child_outlives_the_program_file,
        ),
        (
            "a_childs_domain_is_its_runtimes",
            a_childs_domain_is_its_runtimes,
        ),
        (
            "how_a_function_ends_is_how_its_process_does",
            how_a_function_ends_is_how_its_process_does,
        ),
        (
            "closed_pipes_change_no_exit_status",
            closed_pipes_change_no_exit_status,
        ),
        ("outside_of_a_child", outside_of_a_child),
        (
            "a_command_finds_out_what_it_is",
            a_command_finds_out_what_it_is,
        ),
        ("a_command_behind_a_wrapper", a_command_behind_a_wrapper),
        (
            "a_process_of_another_builder_ends",
            a_process_of_another_builder_ends,
        ),
        (
            "a_command_without_an_environment",
            a_command_without_an_environment,
        ),
        (
            "a_command_that_closes_its_descriptors",
            a_command_that_closes_its_descriptors,
        ),
        (
            "a_supervisor_that_cannot_sleep_pauses",
            a_supervisor_that_cannot_sleep_pauses,
        ),
        ("one_main_for_a_domain", one_main_for_a_domain),
        ("mains_take_turns", mains_take_turns),
        ("bad_names", bad_names),
        (
            "a_child_waits_for_a_dying_holder",
            a_child_waits_for_a_dying_holder,
        ),
        (
            "a_child_does_not_wait_for_ever",
            a_child_does_not_wait_for_ever,
        ),
        (
            "main_may_start_in_a_thread_that_ends",
            main_may_start_in_a_thread_that_ends,
        ),
        ("a_hundred_children", a_hundred_children),
        ("idle_it_takes_no_time", idle_it_takes_no_time),
    ]);
}

fn starts_and_talks(case: &Case) {
    let runtime = Runtime::builder(&case.domain)
        .spec(ChildSpec::entry("nonebot", puppet).stop_grace(BY_WORD))
        .spec(ChildSpec::entry("other", puppet).stop_grace(BY_WORD))
        .start()
        .unwrap();
    let mut first = runtime.get_channel::<str>("nonebot-active").unwrap();
    let mut second = runtime.get_channel::<str>("other-active").unwrap();
    let (generation, pid) = up(&mut first);
    assert_eq!(generation, 1);
    assert_ne!(up(&mut second).1, pid);
    assert_eq!(ask(&mut first, "say hello"), "hello");
    assert_eq!(ask(&mut second, "say hello yourself"), "hello yourself");
    assert_eq!(first.peer(), PeerState::Alive { pid });

    let children = runtime.children();
    assert_eq!(children.len(), 2);
    let nonebot = &children[0];
    assert_eq!(nonebot.name, "nonebot");
    assert_eq!(nonebot.pid, Some(pid));
    assert_eq!((nonebot.generation, nonebot.restarts), (1, 0));
    assert!(nonebot.running && nonebot.last_exit.is_none() && nonebot.last_error.is_none());

    drop((first, second));
    runtime.shutdown().unwrap();
    for child in runtime.children() {
        assert!(!child.running && child.pid.is_none());
        assert!(child.last_exit.unwrap().success(), "{child:?}");
    }
    // With the runtime still there: shut down is shut down.
    assert!(!case.directory().exists());
}

fn channels_come_before_children(case: &Case) {
    fn reads_at_once(child: Child) -> ChildResult {
        let mut active = child.active::<str>()?;
        // What was sent before this process began is there without waiting.
        let line = active.try_recv()?;
        active.send(line)?;
        Ok(())
    }
    let domain = case.domain.clone();
    let runtime = Runtime::builder(&case.domain)
        .child("a", reads_at_once)
        .on_before_start(move |runtime| {
            assert_eq!(runtime.channels().unwrap(), ["a-active", "a-passive"]);
            assert_eq!(runtime.children()[0].generation, 0);
            assert!(runtime.children()[0].pid.is_none());
            let mut channel = runtime.get_channel::<str>("a-active").unwrap();
            assert_eq!(channel.peer(), PeerState::Absent);
            channel.send("early").unwrap();
            Case::here().note(domain);
        })
        .start()
        .unwrap();
    assert_eq!(
        case.notes(),
        std::slice::from_ref(&case.domain),
        "the hook ran to its end"
    );
    let mut channel = runtime.get_channel::<str>("a-active").unwrap();
    assert_eq!(line(&mut channel), "early");
    assert!(runtime.wait("a").unwrap().last_exit.unwrap().success());
    assert_eq!(channel.recv(), Err(RecvError::Closed));
}

fn an_end_is_taken_once_at_a_time(case: &Case) {
    let runtime = Runtime::builder(&case.domain)
        .child("a", puppet)
        .start()
        .unwrap();
    let me = std::process::id();
    let taken = |runtime: &Runtime| match runtime.get_channel::<str>("a-active") {
        Err(Error::EndTaken { name, pid }) => {
            assert_eq!((name.as_str(), pid), ("a-active", me));
        }
        other => panic!("{other:?}"),
    };
    let mut channel = runtime.get_channel::<str>("a-active").unwrap();
    let (_, child) = up(&mut channel);
    taken(&runtime);
    channel.send("say kept in between").unwrap();
    drop(channel);

    // Not of another type, and trying that takes nothing.
    match runtime.get_channel::<u64>("a-active") {
        Err(Error::TypeMismatch {
            expected, found, ..
        }) => {
            assert!(
                expected.contains("u64") && found.contains("str"),
                "{expected} {found}"
            );
        }
        other => panic!("{other:?}"),
    }
    let (mut sender, mut receiver) = runtime.get_channel::<str>("a-active").unwrap().split();
    assert_eq!(receiver.recv().unwrap(), "kept in between");
    taken(&runtime);
    sender.send("say still here").unwrap();
    drop(sender);
    taken(&runtime);
    assert_eq!(receiver.recv().unwrap(), "still here");
    drop(receiver);
    let mut channel = runtime.get_channel::<str>("a-active").unwrap();
    assert_eq!(ask(&mut channel, "say a third time"), "a third time");
    drop(channel);

    // The child's end is the child's.
    match Channel::<str>::options()
        .domain(&case.domain)
        .open("a-active")
    {
        Err(Error::EndTaken { pid, .. }) => assert_eq!(pid, child),
        other => panic!("{other:?}"),
    }
    match runtime.set_channel::<str>("a-active") {
        Err(Error::AlreadyExists { name }) => assert_eq!(name, "a-active"),
        other => panic!("{other:?}"),
    }
    assert!(matches!(
        runtime.get_channel::<str>("b-active"),
        Err(Error::NotFound { name }) if name == "b-active"
    ));
}

fn each_channel_of_a_child_has_its_mode(case: &Case) {
    fn tries_both(child: Child) -> ChildResult {
        let (mut sender, mut receiver) = child.passive::<str>()?.split();
        for outcome in [
            receiver.recv().map(drop),
            receiver
                .iter()
                .next()
                .map_or(Ok(()), |_| Err(RecvError::Closed)),
            receiver.recv_ref().map(drop),
        ] {
            sender.send(format!("passive: {outcome:?}"))?;
        }
        match receiver.try_recv() {
            Err(TryRecvError::Recv(e)) => sender.send(format!("passive: {e:?}"))?,
            other => sender.send(format!("passive: {other:?}"))?,
        }
        // Refused, and so given up: taken anew.
        let (_, receiver) = child.active::<str>()?.split();
        let refused = receiver.on_receive(|_| ()).map(drop);
        sender.send(format!("active: {refused:?}"))?;
        let (_, receiver) = child.active::<str>()?.split();
        let refused = receiver.listener().on(|_| true, |_| ()).start().map(drop);
        sender.send(format!("active: {refused:?}"))?;
        child.active::<str>()?.send("it can still send")?;
        Ok(())
    }
    let runtime = Runtime::builder(&case.domain)
        .child("a", tries_both)
        .start()
        .unwrap();
    // Main may receive as it likes: the modes are the child's.
    let mut passive = runtime.get_channel::<str>("a-passive").unwrap();
    let said: Vec<_> = passive.iter().collect();
    assert_eq!(said.len(), 6, "{said:?}");
    for (at, line) in said.iter().enumerate() {
        if at == 1 {
            // An iterator ends at what it cannot pass over.
            assert_eq!(line, "passive: Ok(())");
        } else if at < 4 {
            assert!(
                line.contains("ModeConflict") && line.contains("\"a-passive\""),
                "{line}"
            );
            assert!(line.contains("Passive"), "{line}");
        } else {
            assert!(
                line.contains("ModeConflict") && line.contains("\"a-active\""),
                "{line}"
            );
            assert!(line.contains("Active"), "{line}");
        }
    }
    let (tx, rx) = mpsc::channel();
    let (_, receiver) = runtime.get_channel::<str>("a-active").unwrap().split();
    let listener = receiver
        .on_receive(move |line| tx.send(line).unwrap())
        .unwrap();
    assert_eq!(rx.recv().unwrap(), "it can still send");
    listener.join().unwrap();
    // Both channels are closed by now.
    passive
        .split()
        .1
        .listener()
        .start()
        .unwrap()
        .join()
        .unwrap();
}

fn set_channel_is_for_a_child_to_open(case: &Case) {
    fn opens(child: Child) -> ChildResult {
        let mut extra = child.get_channel::<u64>("extra")?;
        assert!(matches!(
            child.get_channel::<str>("extra"),
            Err(Error::TypeMismatch { .. })
        ));
        assert!(matches!(
            child.get_channel::<u64>("nothing"),
            Err(Error::NotFound { .. })
        ));
        // One's own end is no dying process's: at once, and not after five seconds.
        match child.get_channel::<u64>("extra") {
            Err(Error::EndTaken { pid, .. }) => assert_eq!(pid, std::process::id()),
            other => panic!("{other:?}"),
        }
        // Main lets go of it once it has these.
        for number in 0..10 {
            extra.send(number)?;
        }
        while !child.wait_stop(Duration::from_secs(60)) {}
        // Its peer left in order in between, and that is final.
        assert_eq!(extra.recv(), Err(RecvError::Closed));
        Ok(())
    }
    let (lend, lent) = mpsc::channel();
    let runtime = Runtime::builder(&case.domain)
        .spec(ChildSpec::entry("a", opens).stop_grace(BY_WORD))
        .on_before_start(move |runtime| {
            lend.send(runtime.set_channel::<u64>("extra").unwrap())
                .unwrap();
        })
        .start()
        .unwrap();
    let mut extra = lent.recv().unwrap();
    assert_eq!(
        extra.iter().take(10).collect::<Vec<_>>(),
        (0..10).collect::<Vec<_>>()
    );
    assert!(matches!(
        runtime.set_channel::<u64>("extra"),
        Err(Error::AlreadyExists { .. })
    ));
    assert_eq!(
        runtime.channels().unwrap(),
        ["a-active", "a-passive", "extra"]
    );
    drop(extra);
    assert_eq!(runtime.channels().unwrap(), ["a-active", "a-passive"]);
    runtime.stop("a").unwrap();
    let status = &runtime.children()[0];
    assert!(status.last_exit.unwrap().success(), "{status:?}");
}

fn channels_are_listed_in_order(case: &Case) {
    let runtime = Runtime::builder(&case.domain)
        .child("a-b", puppet)
        .child("a", puppet)
        .start()
        .unwrap();
    let held: Vec<_> = ["z", "a", "a-b", "a.c", "Z"]
        .iter()
        .map(|name| runtime.set_channel::<u8>(name).unwrap())
        .collect();
    let mut expected = vec![
        "a-active",
        "a-passive",
        "a-b-active",
        "a-b-passive",
        "z",
        "a",
        "a-b",
        "a.c",
        "Z",
    ];
    expected.sort_unstable();
    assert_eq!(runtime.channels().unwrap(), expected);
    drop(held);
}

fn a_child_is_this_program_again(case: &Case) {
    fn looks_at_itself(child: Child) -> ChildResult {
        let mut main = child.active::<str>()?;
        let arguments: Vec<_> = std::env::args().collect();
        main.send(arguments.join("\n"))?;
        let read = |file: &str| std::fs::read_to_string(format!("/proc/self/{file}"));
        main.send(read("comm")?.trim_end().to_string())?;
        main.send(std::fs::read_link("/proc/self/fd/0")?.display().to_string())?;
        let group = rustix::process::getpgrp().as_raw_nonzero();
        main.send(if group.get() as u32 == std::process::id() {
            "own group"
        } else {
            "?"
        })?;
        // Signals as any program finds them: what is ignored or caught is up to it.
        let caught = read("status")?;
        let caught = caught.lines().find_map(|l| l.strip_prefix("SigCgt:"));
        let caught = u64::from_str_radix(caught.unwrap_or("?").trim(), 16)?;
        let of = |signal: i32| caught >> (signal - 1) & 1;
        main.send(format!(
            "caught {}",
            of(libc::SIGINT) + of(libc::SIGTERM) + of(libc::SIGCHLD)
        ))?;
        Ok(())
    }
    let runtime = Runtime::builder(&case.domain)
        .child("a-long-name-of-a-child", looks_at_itself)
        .spec(ChildSpec::entry("b", looks_at_itself).args(
            // Another role, which leads here all the same.
            case.arguments(&["other", "arguments"]),
        ))
        .start()
        .unwrap();
    for (name, role) in [("a-long-name-of-a-child", ""), ("b", "\nother\narguments")] {
        let mut channel = runtime
            .get_channel::<str>(&format!("{name}-active"))
            .unwrap();
        let own: Vec<_> = std::env::args().collect();
        assert_eq!(line(&mut channel), own.join("\n") + role);
        assert_eq!(line(&mut channel), name[..name.len().min(15)]);
        assert_eq!(line(&mut channel), "/dev/null");
        assert_eq!(line(&mut channel), "own group");
        assert_eq!(line(&mut channel), "caught 0");
        assert!(runtime.wait(name).unwrap().last_exit.unwrap().success());
    }
}

fn a_child_outlives_the_program_file(case: &Case) {
    if case.role().is_empty() {
        let copy = case.file("program");
        std::fs::copy("/proc/self/exe", &copy).unwrap();
        let mut command = Command::new(&copy);
        command.args(case.arguments(&["main"]));
        let mut main = runtime_common::Process::start(command);
        assert_eq!(main.line(), "1");
        // As a new build does.
        std::fs::remove_file(&copy).unwrap();
        main.go_on();
        assert_eq!(main.line(), "2");
        assert!(main.wait().0.success());
        return;
    }
    let runtime = Runtime::builder(&case.domain)
        .child("a", puppet)
        .start()
        .unwrap();
    let mut channel = runtime.get_channel::<str>("a-active").unwrap();
    say(up(&mut channel).0);
    wait_to_go_on();
    runtime.restart("a").unwrap();
    say(up(&mut channel).0);
}

fn a_childs_domain_is_its_runtimes(case: &Case) {
    fn opens_by_name(_: Child) -> ChildResult {
        Channel::<u32>::open("extra")?.send(7)?;
        Ok(())
    }
    let (lend, lent) = mpsc::channel();
    let runtime = Runtime::builder(&case.domain)
        .child("a", opens_by_name)
        .on_before_start(move |runtime| {
            lend.send(runtime.set_channel::<u32>("extra").unwrap())
                .unwrap();
        })
        .start()
        .unwrap();
    let status = runtime.wait("a").unwrap();
    assert!(status.last_exit.unwrap().success(), "{status:?}");
    assert_eq!(lent.recv().unwrap().recv(), Ok(7));
}

fn how_a_function_ends_is_how_its_process_does(case: &Case) {
    if case.role().is_empty() {
        let mut command = case.command(&["main"]);
        let errors = std::fs::File::create(case.file("stderr")).unwrap();
        command.stderr(errors);
        let mut main = runtime_common::Process::start(command);
        let (status, said) = main.wait();
        assert!(status.success(), "{said}");
        assert_eq!(
            said.lines().collect::<Vec<_>>(),
            [
                "return 0",
                "fail 1",
                "panic 101",
                "exit 7",
                "abort signal 6"
            ]
        );
        let printed = case.notes_in("stderr");
        assert!(
            printed.iter().any(|l| l == "fail: this is why"),
            "{printed:?}"
        );
        assert!(printed.iter().any(|l| l.contains("as told")), "{printed:?}");
        return;
    }
    let names = ["return", "fail", "panic", "exit", "abort"];
    let mut builder = Runtime::builder(&case.domain);
    for name in names {
        builder = builder.spec(ChildSpec::entry(name, puppet).restart(Restart::Never));
    }
    let runtime = builder.start().unwrap();
    for (name, order) in
        names
            .iter()
            .zip(["return", "fail this is why", "panic", "exit 7", "abort"])
    {
        let mut channel = runtime
            .get_channel::<str>(&format!("{name}-active"))
            .unwrap();
        channel.send(order).unwrap();
        let status = runtime.wait(name).unwrap();
        assert!(!status.running && status.pid.is_none() && status.restarts == 0);
        let exit = status.last_exit.unwrap();
        match exit.code() {
            Some(code) => say(format!("{name} {code}")),
            None => say(format!("{name} signal {}", exit.signal().unwrap())),
        }
    }
}

fn closed_pipes_change_no_exit_status(case: &Case) {
    fn prints(_: Child) -> ChildResult {
        println!("into the void");
        Ok(())
    }
    fn fails(_: Child) -> ChildResult {
        Err("into the void".into())
    }
    match case.role() {
        "" => {
            let (reader, writer) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC).unwrap();
            drop(reader);
            let mut command = case.command(&["main"]);
            command.stdout(writer.try_clone().unwrap()).stderr(writer);
            assert!(command.status().unwrap().success(), "{:?}", case.notes());
            // A panic of `println!`, an error that nobody reads, a builder that is refused.
            assert_eq!(case.notes(), ["prints 101", "fails 1", "refused 2"]);
        }
        "stranger" => {
            let started = Runtime::builder("another").child("refused", fails).start();
            case.note(format!("{started:?}"));
        }
        _ => {
            let stranger = case.arguments(&["stranger"]);
            let never = |spec: ChildSpec| spec.restart(Restart::Never);
            let runtime = Runtime::builder(&case.domain)
                .spec(never(ChildSpec::entry("prints", prints)))
                .spec(never(ChildSpec::entry("fails", fails)))
                .spec(never(ChildSpec::entry("refused", fails).args(stranger)))
                .start()
                .unwrap();
            for name in ["prints", "fails", "refused"] {
                let status = runtime.wait(name).unwrap();
                let code = status.last_exit.unwrap().code();
                case.note(format!("{name} {}", code.unwrap_or(-1)));
            }
        }
    }
}

fn outside_of_a_child(case: &Case) {
    if case.role() == "puzzled" {
        let what = std::env::var("RINGLANE_CHILD").unwrap();
        match Child::current() {
            Err(Error::NotAChild) => say("NotAChild"),
            other => say(format!("{what:?} gives {other:?}")),
        }
        // Nor does it keep anybody from being a main.
        let runtime = Runtime::builder(&case.domain).start();
        say(if runtime.is_ok() { "a main" } else { "no main" });
        return;
    }
    assert!(matches!(Child::current(), Err(Error::NotAChild)));
    let runtime = Runtime::builder(&case.domain).start().unwrap();
    assert!(matches!(Child::current(), Err(Error::NotAChild)));
    assert!(runtime.children().is_empty() && runtime.channels().unwrap().is_empty());
    drop(runtime);
    for nonsense in [
        "",
        "entry",
        "entry:a:b",
        "what:a:b:1:2:3",
        "entry:a:b:x:2:3",
        "::::::",
        // What somebody's children inherited, who outlive him and his main.
        "entry:gone:a:1:2:3:4",
        "command:gone:a:1:2:3:4",
    ] {
        let mut command = case.command(&["puzzled"]);
        command.env("RINGLANE_CHILD", nonsense);
        let mut process = runtime_common::Process::start(command);
        assert_eq!(process.line(), "NotAChild", "{nonsense:?}");
        assert_eq!(process.line(), "a main", "{nonsense:?}");
        assert!(process.wait().0.success());
    }
}

fn a_command_finds_out_what_it_is(case: &Case) {
    match case.role() {
        "grandchild" => {
            // The environment says "child", but that place is taken.
            assert!(std::env::var("RINGLANE_CHILD").unwrap().contains("tool"));
            let outcome = Child::current();
            let what = case.role[1..].join(" ");
            case.note(format!("{what} {:?}", outcome.map(|c| c.generation())));
        }
        "tool" => {
            let child = Child::current().unwrap();
            let again: Vec<_> = (0..8)
                .map(|_| std::thread::spawn(Child::current))
                .map(|thread| thread.join().unwrap().unwrap())
                .collect();
            assert!(
                again
                    .iter()
                    .all(|c| c.name() == "tool" && c.generation() == 1)
            );
            let mut main = child.active::<str>().unwrap();
            main.send(format!("up {} {}", child.generation(), std::process::id()))
                .unwrap();
            let mut grandchild = case.command(&["grandchild", "it"]);
            assert!(grandchild.status().unwrap().success());
            // To whom there is no such domain.
            let mut elsewhere = case.command(&["grandchild", "elsewhere"]);
            elsewhere.env("RINGLANE_DIR", case.file(""));
            assert!(elsewhere.status().unwrap().success());
            // SAFETY: what the fork runs takes no lock that another thread of ours may hold: the
            // other one sleeps in `read`.
            let fork = unsafe { libc::fork() };
            if fork == 0 {
                let refused = matches!(Child::current(), Err(Error::NotAChild))
                    && matches!(child.request_restart(), Err(Error::Forked));
                // SAFETY: the fork ends at once, without destructors that are its parent's.
                unsafe { libc::_exit(i32::from(!refused)) };
            }
            let status = runtime_common::reap(fork as u32).unwrap();
            case.note(format!("fork {:?}", status.exit_status()));
            assert_eq!(main.recv(), Err(RecvError::Stopping));
            assert!(child.stopping() && Child::current().unwrap().stopping());
            // It is a program like any other, and may have a domain of its own.
            let own = format!("{}-of-tool", case.domain);
            Runtime::builder(&own).start().unwrap().shutdown().unwrap();
            case.note("tool ended well");
        }
        _ => {
            let runtime = Runtime::builder(&case.domain)
                .spec(ChildSpec::command("tool", case.command(&["tool"])).stop_grace(BY_WORD))
                .start()
                .unwrap();
            let mut channel = runtime.get_channel::<str>("tool-active").unwrap();
            let (generation, pid) = up(&mut channel);
            assert_eq!((generation, Some(pid)), (1, runtime.children()[0].pid));
            case.noted("fork");
            runtime.stop("tool").unwrap();
            let status = &runtime.children()[0];
            assert!(status.last_exit.unwrap().success(), "{status:?}");
            assert_eq!(
                case.notes(),
                [
                    "it Err(NotAChild)",
                    "elsewhere Err(NotAChild)",
                    "fork Some(0)",
                    "tool ended well"
                ]
            );
        }
    }
}

fn a_command_behind_a_wrapper(case: &Case) {
    if case.role() == "tool" {
        // The wrapper closed what it did not know, as sudo does and Python, and we opened others.
        let files: Vec<_> = (0..100)
            .map(|_| std::fs::File::open(case.file("data")).unwrap())
            .collect();
        let child = Child::current().unwrap();
        let mut main = child.active::<str>().unwrap();
        main.send(format!("up {} {}", child.generation(), std::process::id()))
            .unwrap();
        assert_eq!(main.recv(), Err(RecvError::Stopping));
        // They are still ours, and nobody read from them.
        for mut file in files {
            let mut text = String::new();
            file.read_to_string(&mut text).unwrap();
            assert_eq!(text, "data");
        }
        return;
    }
    std::fs::write(case.file("data"), "data").unwrap();
    let mut wrapper = Command::new("sh");
    let closes = "for fd in 3 4 5 6 7 8 9; do eval \"exec $fd<&-\"; done; exec \"$@\"";
    wrapper.args(["-c", closes, "sh"]);
    wrapper.arg(std::env::current_exe().unwrap());
    wrapper.args(case.arguments(&["tool"]));
    let runtime = Runtime::builder(&case.domain)
        .spec(ChildSpec::command("tool", wrapper).stop_grace(BY_WORD))
        .start()
        .unwrap();
    let mut channel = runtime.get_channel::<str>("tool-active").unwrap();
    assert_eq!(up(&mut channel).0, 1);
    runtime.stop("tool").unwrap();
    let status = &runtime.children()[0];
    assert!(status.last_exit.unwrap().success(), "{status:?}");
}

fn a_process_of_another_builder_ends(case: &Case) {
    fn never(_: Child) -> ChildResult {
        Case::here().note("it ran");
        Ok(())
    }
    let other = format!("{}-other", case.domain);
    let strange = |domain: &str, name: &str| {
        let started = Runtime::builder(domain)
            .child(name, never)
            .command("bomb", case.command(&["bomb"]))
            .on_before_start(|_| Case::here().note("a hook ran"))
            .start();
        case.note(format!("{:?}", started.map(drop)));
    };
    match case.role() {
        "domain" => return strange(&other, "a"),
        "child" => return strange(&case.domain, "b"),
        "bomb" => return case.note("the bomb went off"),
        _ => {}
    }
    let again = |role: &str| {
        ChildSpec::entry(role, never)
            .args(case.arguments(&[role]))
            .restart(Restart::OnFailure {
                max: 1,
                backoff: Duration::from_millis(1),
            })
    };
    let runtime = Runtime::builder(&case.domain)
        .spec(again("domain"))
        .spec(again("child"))
        .start()
        .unwrap();
    for name in ["domain", "child"] {
        let status = runtime.wait(name).unwrap();
        assert_eq!(status.last_exit.unwrap().code(), Some(2), "{status:?}");
        assert_eq!(status.restarts, 1);
    }
    assert_eq!(case.notes(), [""; 0]);
    assert!(!runtime_common::common::base().join(other).exists());
}

/// Is told where it belongs all the same.
fn a_command_without_an_environment(case: &Case) {
    if case.role() != "main" {
        let mut main = case.command(&["main"]);
        std::fs::create_dir(case.file("place")).unwrap();
        main.env("RINGLANE_DIR", case.file("place"));
        assert!(main.status().unwrap().success());
        return;
    }
    let mut command = Command::new("/usr/bin/env");
    let out = std::fs::File::create(case.file("out")).unwrap();
    command.env_clear().stdout(out);
    let runtime = Runtime::builder(&case.domain)
        .spec(ChildSpec::command("a", command).restart(Restart::Never))
        .start()
        .unwrap();
    assert!(runtime.wait("a").unwrap().last_exit.unwrap().success());
    let mut told: Vec<_> = case.notes_in("out");
    told.sort();
    told.retain(|line| !line.starts_with("RINGLANE_CHILD="));
    let place = case.file("place").display().to_string();
    let expected = [
        format!("RINGLANE_DIR={place}"),
        format!("RINGLANE_DOMAIN={}", case.domain),
    ];
    assert_eq!(told, expected);
}

fn a_command_that_closes_its_descriptors(case: &Case) {
    let mut command = Command::new("true");
    let close = || {
        // SAFETY: no pointers. What is closed is the new process's.
        match unsafe { libc::syscall(libc::SYS_close_range, 3, u32::MAX, 0) } {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        }
    };
    // SAFETY: it makes one system call.
    unsafe { command.pre_exec(close) };
    let runtime = Runtime::builder(&case.domain)
        .spec(ChildSpec::command("a", command).restart(Restart::Never))
        .start()
        .unwrap();
    let exit = runtime.wait("a").unwrap().last_exit.unwrap();
    assert!(exit.success(), "{exit:?}");
}

/// `poll` is an error with more descriptors than there may be.
fn a_supervisor_that_cannot_sleep_pauses(case: &Case) {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let runtime = Runtime::builder(&case.domain)
        .child("a", puppet)
        .spec(ChildSpec::command("b", Command::new("true")).restart(Restart::Never))
        .start()
        .unwrap();
    runtime.wait("b").unwrap();
    let threads = std::fs::read_dir("/proc/self/task").unwrap();
    let of_supervisor = |path: &std::path::PathBuf| {
        std::fs::read_to_string(path.join("comm")).unwrap().trim() == "ringlane-superv"
    };
    let mut paths = threads.map(|thread| thread.unwrap().path());
    let supervisor = paths.find(of_supervisor).unwrap();
    drop(paths);
    let open = |file| std::fs::File::open(supervisor.join(file)).unwrap();
    let (status, used) = (open("status"), open("schedstat"));
    let read = |file: &std::fs::File| {
        let mut text = [0; 8192];
        let len = std::os::unix::fs::FileExt::read_at(file, &mut text, 0).unwrap();
        String::from_utf8_lossy(&text[..len]).into_owned()
    };
    let number = |text: &str| text.split_whitespace().next().unwrap().parse::<u64>();
    // How often it went to sleep, and how long it was at work.
    let sleeps = || {
        let text = read(&status);
        let of = |line: &str| line.strip_prefix("voluntary_ctxt_switches:").map(number);
        text.lines().find_map(of).unwrap().unwrap()
    };
    let used = || Duration::from_nanos(number(&read(&used)).unwrap());
    let limit = getrlimit(Resource::Nofile);
    let mut none = limit;
    none.current = Some(1);
    setrlimit(Resource::Nofile, none).unwrap();
    // Wakes it, and changes nothing.
    runtime.stop("b").unwrap();
    let before = (sleeps(), used());
    // What the harness has for this opens files.
    while sleeps() < before.0 + 100 {
        std::thread::sleep(Duration::from_millis(1));
    }
    let used = used() - before.1;
    assert!(used < Duration::from_secs(1), "{used:?} for 100 sleeps");
    setrlimit(Resource::Nofile, limit).unwrap();
    runtime.shutdown().unwrap();
}

fn one_main_for_a_domain(case: &Case) {
    let start = || Runtime::builder(&case.domain).child("a", puppet).start();
    if case.role() == "second" {
        match start() {
            Err(Error::DomainTaken { domain, pid }) => {
                assert_eq!(domain, case.domain);
                say(pid);
            }
            other => say(format!("{:?}", other.map(drop))),
        }
        return;
    }
    let me = std::process::id();
    let runtime = start().unwrap();
    let mut channel = runtime.get_channel::<str>("a-active").unwrap();
    up(&mut channel);
    let mut second = case.start(&["second"]);
    assert_eq!(second.line(), me.to_string());
    assert!(second.wait().0.success());
    // One process is no exception.
    match start() {
        Err(e @ Error::DomainTaken { .. }) => {
            let text = e.to_string();
            assert!(
                text.contains(&me.to_string()) && text.contains(&case.domain),
                "{text}"
            );
        }
        other => panic!("{:?}", other.map(drop)),
    }
    assert_eq!(
        ask(&mut channel, "say nothing happened"),
        "nothing happened"
    );
    drop(channel);
    runtime.shutdown().unwrap();
    let next = start().unwrap();
    assert_eq!(up(&mut next.get_channel("a-active").unwrap()).0, 1);
}

fn mains_take_turns(case: &Case) {
    let rounds = scale(40, 100);
    let start = || {
        let spec = ChildSpec::entry("a", puppet).capacity(4096);
        Runtime::builder(&case.domain).spec(spec).start()
    };
    if case.role() == "main" {
        let mut turns = 0;
        while turns < rounds {
            match start() {
                Ok(runtime) => {
                    turns += 1;
                    // Nobody else is one now.
                    let alone = case.file("alone");
                    std::fs::File::create_new(&alone).unwrap();
                    let extra = runtime.set_channel::<u8>("extra").unwrap();
                    std::fs::remove_file(&alone).unwrap();
                    drop((extra, runtime));
                }
                // The one whose turn it is needs the processor.
                Err(Error::DomainTaken { .. }) => std::thread::sleep(Duration::from_millis(1)),
                Err(other) => panic!("{other:?}"),
            }
        }
        return;
    }
    let mut mains: Vec<_> = (0..4).map(|_| case.start(&["main"])).collect();
    for main in &mut mains {
        assert!(main.wait().0.success());
    }
    assert!(!case.directory().exists());
}

fn bad_names(case: &Case) {
    let long = "a".repeat(101);
    for name in ["", "/", "a/b", ".a", "..", "a\0b", "-a", "a b", "ä", &long] {
        let bad = |outcome: ringlane::Result<Runtime>| match outcome {
            Err(Error::BadName { name: told }) => assert_eq!(told, name),
            other => panic!("{name:?} gives {other:?}"),
        };
        bad(Runtime::builder(name).child("a", puppet).start());
        bad(Runtime::builder(&case.domain).child(name, puppet).start());
    }
    // A child's name must leave room for those of its channels.
    let (fits, long) = ("a".repeat(92), "a".repeat(93));
    match Runtime::builder(&case.domain).child(&long, puppet).start() {
        Err(Error::BadName { name }) => assert_eq!(name, long),
        other => panic!("{other:?}"),
    }
    match Runtime::builder(&case.domain)
        .child("a", puppet)
        .command("a", Command::new("true"))
        .start()
    {
        Err(Error::AlreadyExists { name }) => assert_eq!(name, "a"),
        other => panic!("{other:?}"),
    }
    let mut many = Runtime::builder(&case.domain);
    for i in 0..256 {
        many = many.child(&format!("c{i}"), puppet);
    }
    assert!(matches!(
        many.start(),
        Err(Error::TooManyProcesses { max: 255 })
    ));
    assert!(!case.directory().exists(), "nothing was made");

    let runtime = Runtime::builder(&case.domain)
        .child(&fits, puppet)
        .start()
        .unwrap();
    for bad in ["", "a/b", ".a"] {
        assert!(matches!(
            runtime.get_channel::<str>(bad),
            Err(Error::BadName { .. })
        ));
        assert!(matches!(
            runtime.set_channel::<str>(bad),
            Err(Error::BadName { .. })
        ));
    }
    let unknown = |outcome: ringlane::Result<()>| match outcome {
        Err(Error::NotFound { name }) => assert_eq!(name, "nobody"),
        other => panic!("{other:?}"),
    };
    unknown(runtime.restart("nobody"));
    unknown(runtime.stop("nobody"));
    unknown(runtime.wait("nobody").map(drop));
}

/// In the role `holder`: holds the child's end of a channel for a while, as one of its processes
/// that is slow to die does.
fn hold(case: &Case) {
    let channel = Channel::<str>::options()
        .domain(&case.domain)
        .open("a-active");
    let channel = channel.unwrap();
    case.note(format!("held {}", now_ms()));
    say("held");
    std::thread::sleep(Duration::from_millis(case.role[1].parse().unwrap()));
    case.note(format!("freed {}", now_ms()));
    drop(channel);
}

fn a_child_waits_for_a_dying_holder(case: &Case) {
    if case.role() == "holder" {
        return hold(case);
    }
    fn takes(child: Child) -> ChildResult {
        child.active::<str>()?.send("mine")?;
        Case::here().note(format!("taken {}", now_ms()));
        Ok(())
    }
    let (tx, rx) = mpsc::channel();
    let runtime = Runtime::builder(&case.domain)
        .child("a", takes)
        .on_before_start(move |_| {
            let mut holder = Case::here().start(&["holder", "700"]);
            assert_eq!(holder.line(), "held");
            tx.send(holder).unwrap();
        })
        .start()
        .unwrap();
    let status = runtime.wait("a").unwrap();
    assert!(status.last_exit.unwrap().success(), "{status:?}");
    let at = |what| case.noted(what).parse::<u64>().unwrap();
    assert!(at("taken") >= at("freed"));
    // It waits for five seconds, and fails then.
    let in_time = at("freed") - at("held") < 5000;
    assert!(status.generation == 1 || !in_time, "{status:?}");
    assert!(rx.recv().unwrap().wait().0.success());
}

fn a_child_does_not_wait_for_ever(case: &Case) {
    if case.role() == "holder" {
        return hold(case);
    }
    fn tries(child: Child) -> ChildResult {
        let start = now_ms();
        match child.active::<str>() {
            Err(Error::EndTaken { pid, .. }) => {
                Case::here().note(format!("taken-by {pid}"));
                Case::here().note(format!("waited {}", now_ms() - start));
                Ok(())
            }
            other => Err(format!("{other:?}").into()),
        }
    }
    let (tx, rx) = mpsc::channel();
    let runtime = Runtime::builder(&case.domain)
        .child("a", tries)
        .on_before_start(move |_| {
            let mut holder = Case::here().start(&["holder", "60000"]);
            assert_eq!(holder.line(), "held");
            tx.send(holder).unwrap();
        })
        .start()
        .unwrap();
    let status = runtime.wait("a").unwrap();
    assert!(status.last_exit.unwrap().success(), "{status:?}");
    let mut holder = rx.recv().unwrap();
    assert_eq!(case.noted("taken-by"), holder.pid().to_string());
    assert!(case.noted("waited").parse::<u64>().unwrap() >= 5000);
    holder.kill();
}

/// The kernel's parent-death signal comes when the *thread* that spawned a child ends: in
/// https://github.com/nekename/OpenDeck/issues/329 that kills all plugins, in
/// https://github.com/Tencent-Hunyuan/UniRL/pull/276 all workers, and
/// https://github.com/golang/go/issues/27505 is the trap itself.
fn main_may_start_in_a_thread_that_ends(case: &Case) {
    let rounds = scale(1, 200);
    let mut random = Random::printed();
    for round in 0..rounds {
        let spare = match round {
            0 => Duration::from_millis(300),
            _ => random.micros(50_000),
        };
        outlive_the_thread(case, spare);
    }
    tally("fork", "mains started in threads that ended", rounds as u64);
}

/// Neither the start of its children nor a restart binds their lives to a thread. Gives the signal
/// that long to come.
fn outlive_the_thread(case: &Case, spare: Duration) {
    let domain = case.domain.clone();
    let start = move || {
        let mut sleep = Command::new("sleep");
        sleep.arg("1000");
        Runtime::builder(&domain)
            .child("a", puppet)
            .command("b", sleep)
            .start()
            .unwrap()
    };
    let runtime = std::thread::spawn(start).join().unwrap();
    let mut channel = runtime.get_channel::<str>("a-active").unwrap();
    let (_, pid) = up(&mut channel);
    let sleeper = runtime.children()[1].pid.unwrap();
    // Restarted by yet another thread.
    let theirs = runtime.clone();
    std::thread::spawn(move || theirs.restart("a").unwrap())
        .join()
        .unwrap();
    let (generation, next) = up(&mut channel);
    assert_eq!(generation, 2);
    std::thread::sleep(spare);
    assert!(is_alive(next) && is_alive(sleeper) && !is_alive(pid));
    assert_eq!(ask(&mut channel, "say alive"), "alive");
    assert_eq!(runtime.children()[1].generation, 1);
}

/// In a longer run as many as there may be.
fn a_hundred_children(case: &Case) {
    let count = scale(100, 255);
    let mut builder = Runtime::builder(&case.domain);
    for i in 0..count {
        let spec = ChildSpec::entry(&format!("c{i}"), puppet).capacity(4096);
        builder = builder.spec(spec.stop_grace(BY_WORD));
    }
    let runtime = builder.start().unwrap();
    assert_eq!(runtime.channels().unwrap().len(), 2 * count);
    let mut pids = Vec::new();
    let mut channels = Vec::new();
    for i in 0..count {
        let mut channel = runtime.get_channel::<str>(&format!("c{i}-active")).unwrap();
        pids.push(up(&mut channel).1);
        assert_eq!(channel.stats().capacity, 4096);
        channels.push(channel);
    }
    for (channel, i) in channels.iter_mut().zip(0..) {
        channel.send(format!("say {i}")).unwrap();
    }
    for (channel, i) in channels.iter_mut().zip(0..) {
        assert_eq!(line(channel), i.to_string());
    }
    let picture = inspect::snapshot_domain(&case.domain).unwrap();
    assert_eq!(picture.findings, []);
    assert_eq!(picture.channels.len(), 2 * count);
    let pictured: Vec<_> = picture.children.iter().map(|child| child.pid).collect();
    assert_eq!(pictured, pids.iter().copied().map(Some).collect::<Vec<_>>());
    let running = |child: &inspect::ChildInfo| child.state == inspect::ChildState::Running;
    assert!(picture.children.iter().all(running));

    runtime_common::signal(pids[7], Signal::STOP);
    until("it is stopped", || state(pids[7]) == Some('T'));
    runtime_common::signal(pids[7], Signal::CONT);
    runtime.shutdown().unwrap();
    assert!(pids.iter().all(|pid| !is_alive(*pid)));
    let ended_well = |c: &ringlane::ChildStatus| c.last_exit.is_some_and(|e| e.success());
    assert!(runtime.children().iter().all(ended_well));
}

fn idle_it_takes_no_time(case: &Case) {
    let runtime = Runtime::builder(&case.domain)
        .child("a", puppet)
        .start()
        .unwrap();
    let mut channel = runtime.get_channel::<str>("a-active").unwrap();
    let (_, child) = up(&mut channel);
    // Both wait in `recv`, and so does main's thread for the control segment.
    let waiting = std::thread::spawn(move || channel.recv());
    let me = std::process::id();
    let start = Instant::now();
    let before = [me, child].map(time_taken);
    std::thread::sleep(Duration::from_secs(2));
    let taken = [me, child].map(time_taken);
    let elapsed = start.elapsed();
    for (taken, before) in taken.into_iter().zip(before) {
        let taken = taken - before;
        // They look around ten times a second: some 20 µs each time.
        assert!(taken < elapsed / 20, "{taken:?} in {elapsed:?}");
    }
    runtime.stop("a").unwrap();
    assert_eq!(waiting.join().unwrap(), Err(RecvError::Closed));
}

/// Time on a processor of all threads of a process.
fn time_taken(pid: u32) -> Duration {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let of = |task: std::io::Result<std::fs::DirEntry>| {
        let stat = std::fs::read_to_string(task.unwrap().path().join("schedstat")).unwrap();
        stat.split(' ').next().unwrap().parse::<u64>().unwrap()
    };
    Duration::from_nanos(tasks.map(of).sum())
}
