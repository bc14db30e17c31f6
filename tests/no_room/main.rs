//! There is no room, or the system refuses: every operation then ends with an error that says so,
//! or does without. Nothing is lost, nothing is left behind, and the next try finds all in order.

mod channels;
#[path = "../common/mod.rs"]
mod common;
mod domains;
mod faults;
mod limits;
mod listeners;
mod runtimes;
mod sandboxes;
mod stores;

use common::{Domain, Process, Shared, play, say, skip};
use faults::Bench;
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::process::Command;

#[test]
#[ignore = "what the processes of these tests run"]
fn process() {
    play(|role, arguments| match role {
        "store actor" => common::stores::act(arguments),
        "actor" => common::actor::act(arguments),
        "few descriptors" => limits::few_descriptors(),
        "little address space" => limits::little_address_space(),
        "fill" => limits::fill(),
        "use up files" => limits::use_up_files(),
        "little memory" => limits::little_memory(arguments),
        "main" => runtimes::main_of_a_child(arguments),
        "child" => calls_fail(arguments),
        "lack" => sandboxes::lack(arguments),
        "calls fail" => calls_fail(arguments),
        other => panic!("{other:?}"),
    });
}

/// A command that runs a program with a file system of its own at `RINGLANE_DIR`, which a mount
/// namespace of its own hides from others. `None` where that is not allowed.
fn with_file_system(scratch: &Scratch, options: &str) -> Option<Command> {
    let namespaces = if rustix::process::geteuid().is_root() {
        "-m"
    } else {
        "-Urm"
    };
    let mounted = || {
        let mount = r#"mount -t tmpfs -o "$OPTIONS" tmpfs "$RINGLANE_DIR" && exec "$@""#;
        let mut unshare = Command::new("unshare");
        unshare.args([namespaces, "sh", "-c", mount, "sh"]);
        unshare
            .env("RINGLANE_DIR", &scratch.0)
            .env("OPTIONS", format!("mode=0700,{options}"));
        unshare
    };
    let works = mounted().arg("true").output();
    if !works.is_ok_and(|output| output.status.success()) {
        let why = format!("`unshare {namespaces}` and a mount are not possible here");
        skip("no-room", &why);
        return None;
    }
    let mut unshare = mounted();
    unshare.arg(std::env::current_exe().unwrap());
    Some(unshare)
}

/// A directory for a test.
struct Scratch(PathBuf);

impl Scratch {
    fn new(domain: &Domain) -> Scratch {
        let path = std::env::temp_dir().join(format!("ringlane-dir-{}", domain.name()));
        std::fs::create_dir(&path).unwrap();
        Scratch(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A file of the domain "d" as dead processes left it.
struct Left {
    path: PathBuf,
    bytes: Vec<u8>,
}

impl Left {
    fn of(file: &str) -> Left {
        let path = common::base().join("d").join(file);
        let bytes = std::fs::read(&path).unwrap();
        Left { path, bytes }
    }

    /// Has it lie there again.
    fn put_back(&self) {
        let _ = std::fs::remove_file(&self.path);
        let mut options = File::options();
        let file = options.write(true).create_new(true).mode(0o600);
        file.open(&self.path)
            .unwrap()
            .write_all(&self.bytes)
            .unwrap();
    }
}

// ---- Every call of every operation.

/// Answers "no" if it may not, and "done" in the end.
fn calls_fail(arguments: &[&str]) {
    let [part, progress] = arguments else {
        panic!("{arguments:?}");
    };
    if let Err(e) = common::seccomp::may_ask() {
        return say(format!("no: {e}"));
    }
    let mut bench = Bench::new(Shared::open(progress));
    match *part {
        "channels" => channels::scenes(&mut bench),
        "stores" => stores::scenes(&mut bench),
        "domains" => domains::scenes(&mut bench),
        "runtimes" => runtimes::scenes(&mut bench),
        "child" => return runtimes::be_a_child(bench),
        other => panic!("{other:?}"),
    }
    bench.finish();
    say("done");
}

fn every_call_fails(part: &str) {
    every_call_fails_in("calls fail", part);
}

fn every_call_fails_in(role: &str, part: &str) {
    let domain = Domain::new(&format!("calls-{part}"));
    let scratch = Scratch::new(&domain);
    let progress = Shared::new(&domain, faults::WORDS);
    let Some(command) = with_file_system(&scratch, "size=64m") else {
        return;
    };
    let mut process = Process::start_by(command, role, &[part, progress.path()]);
    match process.next_line().as_deref() {
        Some("done") => process.finish(),
        Some(no) => skip("no-room", &format!("a filter of system calls: {no}")),
        None => {
            let status = process.wait();
            panic!("{}: {status}", faults::last_case(&progress));
        }
    }
}

#[test]
fn every_call_of_a_channel_fails() {
    every_call_fails("channels");
}

#[test]
fn every_call_of_a_store_fails() {
    every_call_fails("stores");
}

#[test]
fn every_call_that_is_about_a_domain_fails() {
    every_call_fails("domains");
}

#[test]
fn every_call_of_a_runtime_fails() {
    every_call_fails("runtimes");
}

#[test]
fn every_call_of_a_child_fails() {
    every_call_fails_in("main", "child");
}
