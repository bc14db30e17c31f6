//! Where `/proc` is of another pid namespace, `/proc/PID` is another process's, and says nothing
//! about ours.

mod common;

use common::{Domain, LONG, Process, hear, play, say, skip};
use ringlane::{Channel, PeerState, TryRecvError};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

#[test]
#[ignore = "what the processes of these tests run"]
fn process() {
    play(|role, arguments| match role {
        "judge" => judge(arguments[0]),
        "lose token" => lose_token(arguments[0]),
        other => panic!("{other:?}"),
    });
}

fn options(domain: &str) -> ringlane::ChannelOptions<u64> {
    Channel::options().domain(domain)
}

/// Has no descriptor any more that says that it lives.
fn lose_token(domain: &str) {
    let mut guest = options(domain).open("c").unwrap();
    for descriptor in 3..1024 {
        // SAFETY: nothing in this process uses a descriptor of its own from here on; what still
        // owns one is never dropped, since the process is killed.
        unsafe { libc::close(descriptor) };
    }
    guest.send(1).unwrap();
    say("lost");
    hear();
}

/// In a pid namespace with the `/proc` of another.
fn judge(domain: &str) {
    let ours = std::fs::read_link("/proc/self").unwrap();
    assert_ne!(ours, PathBuf::from(std::process::id().to_string()));
    let mut host = options(domain).create("c").unwrap();
    let mut guest = Process::start("lose token", &[domain]);
    assert_eq!(guest.line(), "lost");
    let pid = guest.pid();
    assert_eq!(host.recv_timeout(LONG), Ok(1));
    assert_eq!(host.peer(), PeerState::Alive { pid });
    let nothing = host.recv_timeout(Duration::from_millis(150));
    assert_eq!(nothing, Err(TryRecvError::Empty));
    guest.kill();
    assert_eq!(host.peer(), PeerState::Dead { pid });
    drop(options(domain).open("c").unwrap());
    say("judged");
}

struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn the_proc_of_another_namespace_declares_nobody_dead() {
    let domain = Domain::new("procfs");
    // Who is root in a user namespace is another user.
    let scratch = Scratch(std::env::temp_dir().join(format!("ringlane-{}", domain.name())));
    std::fs::create_dir(&scratch.0).unwrap();
    let unshare = || {
        let mut unshare = Command::new("unshare");
        if !rustix::process::geteuid().is_root() {
            unshare.args(["--user", "--map-root-user"]);
        }
        unshare.args(["--pid", "--fork", "--kill-child"]);
        unshare.env("RINGLANE_DIR", &scratch.0);
        unshare
    };
    let works = unshare().arg("true").output();
    if !works.is_ok_and(|output| output.status.success()) {
        return skip("namespaces", "pid namespaces cannot be made here");
    }
    let mut command = unshare();
    command.arg(std::env::current_exe().unwrap());
    let mut judge = Process::start_by(command, "judge", &[domain.name()]);
    assert_eq!(judge.line(), "judged");
    judge.finish();
}
