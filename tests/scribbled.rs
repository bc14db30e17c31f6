//! No content of a file makes a call panic or hang: it gets a typed error, or goes on with data
//! that is as good as what was written.

mod common;

use common::actor::{self, act};
use common::cases::{Cases, in_time};
use common::damage::{attached, received, sent};
use common::{Domain, Random, config, play, scale, tally};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use ringlane::{Channel, Error, PeerState, RecvError, Result, TryRecvError};
use std::cell::Cell;
use std::fs::{self, File, Permissions};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

#[test]
#[ignore = "what the processes of these tests run"]
fn process() {
    play(|_, arguments| act(arguments));
}

/// A word of a file and what it becomes.
#[derive(Clone, Debug)]
struct Patch {
    at: u64,
    how: How,
}

#[derive(Clone, Debug)]
enum How {
    Set(u64),
    Flip(u32),
    Add(u64),
}

impl Patch {
    /// Makes it, and says whether the word is another now.
    fn apply(&self, file: &File) -> bool {
        let mut bytes = [0; 8];
        file.read_exact_at(&mut bytes, self.at).unwrap();
        let old = u64::from_ne_bytes(bytes);
        let new = match self.how {
            How::Set(value) => value,
            How::Flip(bit) => old ^ 1 << bit,
            How::Add(value) => old.wrapping_add(value),
        };
        file.write_all_at(&new.to_ne_bytes(), self.at).unwrap();
        new != old
    }
}

/// Makes them all, and says whether any word is another now.
fn apply_all(patches: &[Patch], file: &File) -> bool {
    patches
        .iter()
        .fold(false, |any, patch| any | patch.apply(file))
}

fn how() -> impl Strategy<Value = How> + Clone {
    let edges = vec![
        0,
        1,
        2,
        7,
        8,
        9,
        2040,
        2048,
        4095,
        4096,
        8192,
        1 << 31,
        1 << 32,
        1 << 33,
        3 << 32,
        (1 << 62) - 8,
        1 << 62,
        (1 << 62) + 8,
        1 << 63,
        u64::MAX - 7,
        u64::MAX,
    ];
    // Record headers: length, kind, epoch.
    let header = (0..4200u64, 0..5u64, 0..4u64).prop_map(|(l, k, e)| l | k << 32 | e << 40);
    // Role words: state, epoch, generation, slot.
    let role =
        (0..8u64, 0..4u64, any::<u32>()).prop_map(|(s, e, g)| s | e << 8 | u64::from(g) << 32);
    prop_oneof![
        3 => proptest::sample::select(edges).prop_map(How::Set),
        1 => Just(How::Set(u64::MAX)),
        1 => any::<u64>().prop_map(How::Set),
        2 => header.prop_map(How::Set),
        1 => role.prop_map(How::Set),
        3 => (0..64u32).prop_map(How::Flip),
        2 => prop_oneof![Just(8u64), Just(8u64.wrapping_neg()), Just(1), Just(4096)].prop_map(How::Add),
    ]
}

/// Bytes of each ring.
const RING: u64 = 4096;

fn patch_of_channel() -> impl Strategy<Value = Patch> {
    let at = prop_oneof![
        // The prologue and the cold facts; the two ring headers; the records.
        2 => 0..512 / 8u64,
        4 => 512 / 8..1280 / 8u64,
        4 => 4096 / 8..(4096 + 200) / 8u64,
        2 => 4096 / 8..(4096 + 2 * RING) / 8,
    ];
    (at, how()).prop_map(|(at, how)| Patch { at: 8 * at, how })
}

/// What an end does after, and while, words are patched.
#[derive(Clone, Debug)]
enum Act {
    TrySend(usize),
    SendTimeout(usize),
    Loan(usize, usize),
    TryRecv,
    RecvTimeout,
    RecvRef(bool),
    TryIter,
    RecvMany,
    Peer,
    Stats,
    Patch(Patch),
}

fn an_act() -> impl Strategy<Value = Act> {
    let size = prop_oneof![0..20usize, 0..2041usize];
    prop_oneof![
        4 => size.clone().prop_map(Act::TrySend),
        1 => size.clone().prop_map(Act::SendTimeout),
        1 => (size.clone(), size).prop_map(|(len, cut)| Act::Loan(len, cut)),
        4 => Just(Act::TryRecv),
        1 => Just(Act::RecvTimeout),
        2 => any::<bool>().prop_map(Act::RecvRef),
        1 => Just(Act::TryIter),
        1 => Just(Act::RecvMany),
        1 => Just(Act::Peer),
        1 => Just(Act::Stats),
        6 => patch_of_channel().prop_map(Act::Patch),
    ]
}

/// Gives whether it patched a word.
fn do_act(act: &Act, end: &mut Channel<[u8]>, file: &File) -> bool {
    let moment = Duration::from_micros(50);
    match act {
        Act::TrySend(len) => drop(sent(end.try_send(vec![7; *len]))),
        Act::SendTimeout(len) => drop(sent(end.send_timeout(vec![7; *len], moment))),
        Act::Loan(len, cut) => match end.loan(*len) {
            Ok(mut loan) => {
                loan.put(len / 3, &vec![9; len - len / 3]).unwrap();
                loan.commit(*(cut.min(len))).unwrap();
            }
            Err(e) => drop(sent(Err(e))),
        },
        Act::TryRecv => drop(received(end.try_recv())),
        Act::RecvTimeout => drop(received(end.recv_timeout(moment))),
        Act::RecvRef(keep) => match end.try_recv_ref() {
            Ok(message) => {
                assert!(message.len() <= RING as usize / 2);
                assert_eq!(message.get().unwrap().len(), message.len());
                let _ = (message.position(), message.redelivered());
                if *keep {
                    message.keep();
                }
            }
            Err(e) => drop(received::<()>(Err(e))),
        },
        // What is never empty, since somebody patches it, need not end.
        Act::TryIter => assert!(end.try_iter().take(10_000).count() < 10_000),
        // It waits, so only where there is something to take.
        Act::RecvMany => {
            let is_there = end.try_recv_ref().map(|message| message.keep());
            if is_there.is_ok() {
                let outcome = end.recv_many(&mut Vec::new(), 100);
                received(outcome.map_err(TryRecvError::Recv));
            }
        }
        Act::Peer => match end.peer() {
            PeerState::Absent | PeerState::Closed => {}
            PeerState::Alive { .. } | PeerState::Dead { .. } => {}
        },
        Act::Stats => {
            let stats = end.stats();
            assert!(stats.used <= stats.capacity);
        }
        Act::Patch(patch) => return patch.apply(file),
    }
    false
}

/// A channel as it lies there after both of its processes were killed.
fn crash(file: &Path, host: Channel<[u8]>, guest: Channel<[u8]>) {
    let bytes = fs::read(file).unwrap();
    drop((host, guest));
    let _ = fs::remove_file(file);
    fs::write(file, bytes).unwrap();
    fs::set_permissions(file, Permissions::from_mode(0o600)).unwrap();
    let file = File::options().read(true).write(true).open(file).unwrap();
    // Both roles are held at a generation of our slot that is not ours.
    for role in [32, 40] {
        let how = How::Flip(32);
        assert!(Patch { at: role, how }.apply(&file));
    }
}

/// Patches a channel before its ends attach to it, or while they use it: no panic, no hang.
#[test]
fn scribbled_channels_give_typed_errors() {
    let domain = Domain::new("scribbled");
    let _keeper = domain.of::<u64>().create("keeper").unwrap();
    let file = domain.file("c");
    let messages = proptest::collection::vec(0..500usize, 0..6);
    let before = proptest::collection::vec(patch_of_channel(), 0..5);
    let acts = proptest::collection::vec((any::<bool>(), an_act()), 0..60);
    let all = (messages, before, acts, any::<[bool; 3]>());
    let patched = Cell::new(0);
    let mut runner = TestRunner::new(config(scale(3_000, 62_000)));
    let cases = Cases::new("scribbled channels");
    let case = |(messages, before, acts, how): (Vec<_>, Vec<Patch>, Vec<_>, [bool; 3])| {
        let [crashed, guest_first, keep] = how;
        let options = || {
            let options = domain.of::<[u8]>().capacity(RING as usize);
            options.keep_undelivered(keep)
        };
        let _ = fs::remove_file(&file);
        let mut host = options().create("c").unwrap();
        let mut guest = options().open("c").unwrap();
        for len in messages {
            let _ = host.try_send(vec![1; len]);
            let _ = guest.try_send(vec![1; len]);
        }
        let open_file = || File::options().read(true).write(true).open(&file).unwrap();
        let mut opened = open_file();
        let mut is_patched = false;
        let mut ends = if crashed {
            crash(&file, host, guest);
            opened = open_file();
            is_patched |= apply_all(&before, &opened);
            // Those who come now find it so.
            let create = || attached(options().create("c")).ok();
            let open = || attached(options().open("c")).ok();
            if guest_first {
                let guest = open();
                [create(), guest]
            } else {
                [create(), open()]
            }
        } else {
            is_patched |= apply_all(&before, &opened);
            [Some(host), Some(guest)]
        };
        for (end, act) in acts {
            if let Some(end) = &mut ends[usize::from(end)] {
                is_patched |= do_act(&act, end, &opened);
            }
        }
        drop(ends);
        let _ = fs::remove_file(&file);
        patched.set(patched.get() + u64::from(is_patched));
    };
    let outcome = runner.run(&all, |drawn| {
        cases.play(|| case(drawn));
        Ok(())
    });
    outcome.unwrap_or_else(|e| panic!("{e}"));
    tally("corrupt", "channel files patched", patched.get());
}

/// Records that were taken back, all around the ring: there is always one more to pass over.
#[test]
fn a_lap_without_an_end_is_corrupt() {
    let domain = Domain::new("lap");
    let mut host = actor::host(domain.name(), "c");
    let mut guest = domain.of::<u64>().open("c").unwrap();
    let file = File::options().write(true).open(domain.file("c")).unwrap();
    let half = RING / 2;
    // Length, kind and epoch, as `src/ring` has them.
    let header: u64 = (half - 8) | 3 << 32 | 1 << 40;
    for at in [4096, 4096 + half] {
        file.write_all_at(&header.to_ne_bytes(), at).unwrap();
    }
    for _ in 0..3 {
        let outcome = guest.try_recv();
        let corrupt = Err(TryRecvError::Recv(RecvError::Corrupt {
            path: domain.file("c").display().to_string(),
            offset: 0,
        }));
        // Where it gave up does not matter.
        assert_eq!(outcome.map_err(without_offset), corrupt);
    }
    // Nor does a new sender look for the end for ever.
    host.kill();
    let successor = domain.of::<u64>().create("c");
    assert!(matches!(successor, Err(Error::Corrupt { .. })));
    drop(guest);
    let _ = fs::remove_file(domain.file("c"));
    drop(domain.of::<u64>().create("another").unwrap());
}

fn without_offset(error: TryRecvError) -> TryRecvError {
    match error {
        TryRecvError::Recv(RecvError::Corrupt { path, .. }) => {
            TryRecvError::Recv(RecvError::Corrupt { path, offset: 0 })
        }
        other => other,
    }
}

/// How often a channel in use is patched, and how much is done with it between two patches.
const PATCHES: usize = 40;
const PACE: usize = 10;

/// Somebody scribbles over a channel while two threads use it, at no agreed moment.
#[test]
fn a_channel_that_is_scribbled_over_all_the_time_gives_typed_errors() {
    let domain = Domain::new("scribbling");
    let _keeper = domain.of::<u64>().create("keeper").unwrap();
    let file = domain.file("c");
    let mut random = Random::printed();
    let cases = Cases::new("channels scribbled over all the time");
    let mut patched = 0;
    for _ in 0..scale(300, 2_000) {
        cases.begin();
        let options = || domain.of::<[u8]>().capacity(RING as usize);
        let mut host = options().create("c").unwrap();
        let mut guest = options().open("c").unwrap();
        let opened = File::options().read(true).write(true).open(&file).unwrap();
        let mut theirs = Random::of(random.next());
        let (acts, goes_on) = (AtomicUsize::new(0), AtomicBool::new(true));
        let traffic = |end: &mut Channel<[u8]>, mut random: Random| {
            // So that it goes on behind the last patch, too.
            let mut left = 2 * PACE;
            while left > 0 {
                left -= usize::from(!goes_on.load(Relaxed));
                let len = random.below(2041) as usize >> random.below(8);
                let act = match random.below(8) {
                    0 => Act::Loan(len, len / 2),
                    1 => Act::RecvRef(random.below(4) == 0),
                    2 => Act::SendTimeout(len),
                    3 => Act::RecvTimeout,
                    4..6 => Act::TrySend(len),
                    _ => Act::TryRecv,
                };
                in_time("a call", || do_act(&act, end, &opened));
                acts.fetch_add(1, Relaxed);
            }
        };
        let seeds = [Random::of(random.next()), Random::of(random.next())];
        std::thread::scope(|scope| {
            let [one, two] = seeds;
            let ends = [(&mut host, one), (&mut guest, two)];
            let all = ends.map(|(end, random)| {
                let traffic = &traffic;
                scope.spawn(move || traffic(end, random))
            });
            for patch in 1..=PATCHES {
                // Where one of them failed, nothing comes any more.
                while acts.load(Relaxed) < PACE * patch && !all.iter().any(|t| t.is_finished()) {
                    std::thread::sleep(Duration::from_micros(20));
                }
                let at = match theirs.below(3) {
                    0 => 32 + 8 * theirs.below(60),
                    1 => 512 + 8 * theirs.below(96),
                    _ => 4096 + 8 * theirs.below(2 * RING / 8),
                };
                let how = match theirs.below(3) {
                    0 => How::Set(theirs.next()),
                    1 => How::Set(theirs.below(5) << 32 | theirs.below(3000) | 1 << 40),
                    _ => How::Flip(theirs.below(64) as u32),
                };
                patched += u64::from(Patch { at, how }.apply(&opened));
            }
            let goes_on_still = !all.iter().any(|thread| thread.is_finished());
            goes_on.store(false, Relaxed);
            assert!(goes_on_still);
        });
        drop((guest, host));
        let _ = fs::remove_file(&file);
    }
    tally("hostile", "patches of a channel in use", patched);
}

/// The same of a roster: it may lie about who lives, but not break anything.
#[test]
fn scribbled_rosters_give_typed_errors() {
    let domain = Domain::new("scribbled-roster");
    let _keeper = domain.keep_base();
    let roster = domain.path().join("roster");
    // As a process that was killed leaves it.
    actor::host(domain.name(), "c").kill();
    let left = fs::read(&roster).unwrap();
    fs::remove_dir_all(domain.path()).unwrap();
    // The prologue and the header; the slots that are used first; their generations above all.
    let at = prop_oneof![
        2 => 0..256 / 8u64,
        2 => 256 / 8..(256 + 4 * 64) / 8u64,
        1 => (0..4u64).prop_map(|slot| (256 + 64 * slot) / 8),
    ];
    let patches = (at, how()).prop_map(|(at, how)| Patch { at: 8 * at, how });
    let patches = std::rc::Rc::new(proptest::collection::vec(patches, 1..5));
    let all = (patches.clone(), patches, any::<bool>());
    let patched = Cell::new(0);
    let mut runner = TestRunner::new(config(scale(2_000, 10_500)));
    let cases = Cases::new("scribbled rosters");
    let case = |(before, during, keep): (Vec<Patch>, Vec<Patch>, _)| {
        let _ = fs::remove_dir_all(domain.path());
        fs::create_dir(domain.path()).unwrap();
        fs::set_permissions(domain.path(), Permissions::from_mode(0o700)).unwrap();
        fs::write(&roster, &left).unwrap();
        fs::set_permissions(&roster, Permissions::from_mode(0o600)).unwrap();
        let opened = File::options()
            .read(true)
            .write(true)
            .open(&roster)
            .unwrap();
        let mut is_patched = apply_all(&before, &opened);
        let options = || {
            let options = domain.of::<[u8]>().capacity(RING as usize);
            options.keep_undelivered(keep)
        };
        let attach = |outcome: Result<Channel<[u8]>>| match outcome {
            Err(Error::TooManyProcesses { .. }) => None,
            other => attached(other).ok(),
        };
        let mut ends = [attach(options().create("c")), attach(options().open("c"))];
        for patches in [&[][..], &during[..]] {
            is_patched |= apply_all(patches, &opened);
            for end in ends.iter_mut().flatten() {
                for _ in 0..5 {
                    sent(end.try_send(vec![7; 1000]));
                }
                received(end.try_recv());
                received(end.recv_timeout(Duration::from_micros(50)));
                let _ = end.peer();
            }
            // Others may come meanwhile.
            drop(attach(options().create("another")));
            drop(attach(options().open("c")));
        }
        drop(ends);
        let _ = fs::remove_dir_all(domain.path());
        patched.set(patched.get() + u64::from(is_patched));
    };
    let outcome = runner.run(&all, |drawn| {
        cases.play(|| case(drawn));
        Ok(())
    });
    outcome.unwrap_or_else(|e| panic!("{e}"));
    tally("corrupt", "rosters patched", patched.get());
}
