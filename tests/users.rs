//! Two users beside each other in one directory: neither reaches, hinders or needs the other.
//!
//! Others mix them up: <https://github.com/eProsima/Fast-DDS/issues/3535>,
//! <https://github.com/eProsima/Fast-DDS/issues/5258>,
//! <https://github.com/eProsima/Fast-DDS/issues/5265>,
//! <https://github.com/eclipse-iceoryx/iceoryx/issues/1829>,
//! <https://github.com/eclipse-iceoryx/iceoryx2/issues/1188>,
//! <https://github.com/eclipse-iceoryx/iceoryx2/issues/1341>,
//! <https://github.com/zeromq/libzmq/issues/48>.

mod common;

use common::{Domain, Process, actor, play, say, skip, tally};
use ringlane::{Channel, Error, Result, Store, inspect};
use std::fs::{self, Permissions};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

const OTHER: u32 = 65534;

#[test]
#[ignore = "what the processes of these tests run"]
fn process() {
    play(|role, arguments| match role {
        "actor" => actor::act(arguments),
        "make" => {
            let mut directory = fs::DirBuilder::new();
            directory.mode(0o700).create(arguments[0]).unwrap();
        }
        "channels" => {
            let options = || Channel::<u64>::options().domain("d");
            told(options().open("c"));
            told(options().create("c"));
            told(inspect::snapshot());
        }
        "store" => {
            let options = || Store::options().path(arguments[0]);
            told(options().open("s"));
            told(options().create("s"));
            told(options().read_only().open("s"));
        }
        "domains" => {
            for domain in inspect::snapshot().unwrap().domains {
                say(format!("{} {}", domain.path, domain.channels.len()));
            }
        }
        other => panic!("{other:?}"),
    });
}

/// Says what a call was refused with.
fn told<T>(outcome: Result<T>) {
    say(match outcome {
        Err(e @ (Error::Refused { .. } | Error::Io { .. })) => e.to_string(),
        Err(e) => format!("unexpected: {e:?}"),
        Ok(_) => "unexpected: it went well".to_string(),
    });
}

/// A directory for both users, as `/dev/shm` is one.
struct Shared(PathBuf);

impl Shared {
    fn new(domain: &Domain) -> Shared {
        let path = Path::new("/dev/shm").join(format!("ringlane-{}", domain.name()));
        fs::create_dir(&path).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o1777)).unwrap();
        Shared(path)
    }

    fn of(&self, uid: u32) -> PathBuf {
        self.0.join(format!("ringlane-{uid}"))
    }

    fn start(&self, uid: u32, role: &str, arguments: &[&str]) -> Process {
        let mut command = Command::new("/proc/self/exe");
        command.env("RINGLANE_DIR", &self.0).uid(uid).gid(uid);
        Process::start_by(command, role, arguments)
    }

    /// All that a process says.
    fn say(&self, uid: u32, role: &str, arguments: &[&str]) -> Vec<String> {
        let mut process = self.start(uid, role, arguments);
        let lines = std::iter::from_fn(|| process.next_line()).collect();
        process.finish();
        lines
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Whether this is root, and may be somebody else.
fn may_be_others() -> bool {
    let mut other = Command::new("true");
    let may = rustix::process::geteuid().is_root() && other.uid(OTHER).gid(OTHER).status().is_ok();
    if !may {
        skip("permissions", "no process can be another user's here");
    }
    may
}

#[test]
fn a_directory_that_another_user_made_first_is_refused() {
    let domain = Domain::new("users-first");
    if !may_be_others() {
        return;
    }
    let shared = Shared::new(&domain);
    let mut refused = 0;
    // Root may look into it, and does not.
    for (maker, user, why) in [
        (OTHER, 0, "it belongs to another user"),
        (0, OTHER, "permission denied"),
    ] {
        let path = shared.of(user);
        let path = path.to_str().unwrap();
        shared.start(maker, "make", &[path]).finish();
        let lines = shared.say(user, "channels", &[]);
        assert_eq!(lines, vec![format!("{path} refused: {why}"); 3]);
        assert_eq!(fs::read_dir(path).unwrap().count(), 0);
        fs::remove_dir(path).unwrap();
        refused += lines.len() as u64;
    }
    tally("permissions", "calls refused to a real other user", refused);
}

#[test]
fn what_is_another_users_is_refused() {
    let domain = Domain::new("users-store");
    if !may_be_others() {
        return;
    }
    let shared = Shared::new(&domain);
    let mut refused = 0;
    for (owner, user) in [(0, OTHER), (OTHER, 0)] {
        let mut host = shared.start(owner, "actor", &["d"]);
        assert_eq!(host.ask("create c"), "Ok");
        // The owner's domain, by its path. Only root gets as far as the files in it.
        let directory = shared.of(owner).join("d");
        let store = directory.join("s.store");
        fs::copy(directory.join("c.channel"), &store).unwrap();
        std::os::unix::fs::chown(&store, Some(owner), Some(owner)).unwrap();
        let bytes = fs::read(&store).unwrap();
        let lines = shared.say(user, "store", &[directory.to_str().unwrap()]);
        assert_eq!(lines.len(), 3);
        for line in &lines {
            let why = match user {
                0 => line.contains("it belongs to another user"),
                _ => line.starts_with(directory.to_str().unwrap()) && line.contains("denied"),
            };
            assert!(why, "{line}");
        }
        assert!(fs::read(&store).unwrap() == bytes);
        fs::remove_file(store).unwrap();
        host.finish();
        refused += lines.len() as u64;
    }
    tally("permissions", "calls refused to a real other user", refused);
}

#[test]
fn two_users_share_a_directory_and_nothing_else() {
    let domain = Domain::new("users-beside");
    if !may_be_others() {
        return;
    }
    let shared = Shared::new(&domain);
    let mut all = [0, OTHER].map(|uid| {
        let mut host = shared.start(uid, "actor", &["d"]);
        assert_eq!(host.ask("create c"), "Ok");
        let mut guest = shared.start(uid, "actor", &["d"]);
        assert_eq!(guest.ask("open c"), "Ok");
        (uid, host, guest)
    });
    for round in 0..10 {
        for (uid, host, guest) in &mut all {
            let number = round + u64::from(*uid);
            assert_eq!(host.ask(&format!("send {number}")), "Ok(())");
            assert_eq!(guest.ask("recv"), format!("Ok({number})"));
        }
    }
    for uid in [0, OTHER] {
        let own = shared.of(uid).join("d");
        let expected = format!("{} 1", own.display());
        assert_eq!(shared.say(uid, "domains", &[]), [expected]);
    }
    // One's death is the other's no concern.
    let [(_, mut host, mut guest), (_, mut theirs, their_guest)] = all;
    theirs.kill();
    assert_eq!(host.ask("send 7"), "Ok(())");
    assert_eq!(guest.ask("recv"), "Ok(7)");
    host.finish();
    guest.finish();
    assert!(!shared.of(0).exists() && shared.of(OTHER).exists());
    their_guest.finish();
}
