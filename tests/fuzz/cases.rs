//! What a fuzzer does with its bytes, and `tests/corpus.rs` with those that were worth keeping: no
//! bytes in a segment may lead to a panic, to undefined behaviour or to a hang; and where nobody
//! touches a segment, a channel is a queue and a store a map.
#![allow(dead_code)]

use ringlane::{Channel, ChannelOptions, RecvError, Store, StoreOptions, TryRecvError, inspect};
use std::collections::{BTreeMap, VecDeque};
use std::fs::{self, File};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::PathBuf;
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

/// The bytes of a case, taken from the front; zeroes when there are no more.
struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    fn next(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn small(&mut self) -> u8 {
        self.next().unwrap_or(0)
    }

    fn pair(&mut self) -> u16 {
        u16::from_le_bytes([self.small(), self.small()])
    }

    fn word(&mut self) -> u64 {
        u64::from_le_bytes(std::array::from_fn(|_| self.small()))
    }

    fn value(&mut self) -> Vec<u8> {
        let len = usize::from(self.pair()) % 2500;
        vec![self.small(); len]
    }

    fn key(&mut self) -> [u8; 1] {
        [self.small() % 32]
    }
}

/// The domain of this process, and a channel that keeps it.
fn domain() -> &'static str {
    static DOMAIN: OnceLock<String> = OnceLock::new();
    DOMAIN.get_or_init(|| format!("test-fuzz-{}", std::process::id()))
}

/// Leaves nothing behind when it is dropped.
pub struct Keeper(Option<Channel<u64>>);

impl Keeper {
    pub fn new() -> Keeper {
        let keeper = Channel::options().domain(domain()).create("keeper");
        Keeper(Some(keeper.unwrap()))
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        for name in ["c.channel", "s.store"] {
            let _ = fs::remove_file(path(name));
        }
        drop(self.0.take());
    }
}

/// In a fuzzer's process, until it ends by `exit`, as libFuzzer does when it found nothing.
fn keep_domain() {
    static KEEPER: Mutex<Option<Keeper>> = Mutex::new(None);
    unsafe extern "C" {
        fn atexit(run: extern "C" fn()) -> i32;
    }
    extern "C" fn leave() {
        drop(KEEPER.lock().unwrap().take());
    }
    if !path("roster").exists() {
        *KEEPER.lock().unwrap() = Some(Keeper::new());
        // SAFETY: the function is there as long as the process, and an `extern "C"` one does not unwind.
        unsafe { atexit(leave) };
    }
}

fn path(name: &str) -> PathBuf {
    let place = std::env::var_os("RINGLANE_DIR").unwrap_or("/dev/shm".into());
    let user = fs::metadata("/proc/self").unwrap();
    let user = std::os::unix::fs::MetadataExt::uid(&user);
    let base = PathBuf::from(place).join(format!("ringlane-{user}"));
    base.join(domain()).join(name)
}

fn channel() -> ChannelOptions<[u8]> {
    Channel::options().domain(domain()).capacity(4096)
}

fn store() -> StoreOptions {
    let options = Store::options().domain(domain()).max_size(1 << 20);
    options.lock_timeout(Duration::from_millis(1))
}

/// Changes a word of a file that may be mapped.
fn patch(file: &File, bytes: &mut Bytes) {
    let words = file.metadata().unwrap().len() / 8;
    if words == 0 {
        return;
    }
    let at = 8 * (u64::from(bytes.pair()) % words);
    let mut old = [0; 8];
    if file.read_exact_at(&mut old, at).is_err() {
        return;
    }
    let old = u64::from_ne_bytes(old);
    let new = match bytes.small() % 8 {
        0 => 0,
        1 => u64::MAX,
        2 => old.wrapping_add(8),
        3 => old.wrapping_sub(8),
        4 => old ^ 1 << (bytes.small() % 64),
        5 => u64::from(bytes.pair()),
        6 => old.rotate_left(32),
        _ => bytes.word(),
    };
    let _ = file.write_all_at(&new.to_ne_bytes(), at);
}

/// Makes a page of it what it is after a hole was punched there.
fn blank(file: &File, bytes: &mut Bytes) {
    let pages = file.metadata().unwrap().len() / 4096;
    let at = 4096 * (u64::from(bytes.small()) % pages.max(1));
    let _ = file.write_all_at(&[0; 4096][..], at);
}

fn open_file(name: &str) -> Option<File> {
    File::options().read(true).write(true).open(path(name)).ok()
}

/// Receives all there is, by all ways: no more than a lap of records without anybody who sends.
fn receive_all(end: &mut Channel<[u8]>, bytes: &mut Bytes) {
    for _ in 0..4096 {
        let over = match bytes.small() % 3 {
            0 => end.try_recv().err(),
            1 => end
                .try_iter()
                .take(3)
                .count()
                .eq(&0)
                .then_some(TryRecvError::Empty),
            _ => match end.try_recv_ref() {
                Ok(message) => {
                    let _ = message.get();
                    message.copy_to(message.len(), &mut []).unwrap();
                    None
                }
                Err(e) => Some(e),
            },
        };
        match over {
            None => {}
            Some(TryRecvError::Recv(
                RecvError::PeerDied { .. } | RecvError::PeerRestarted { .. },
            )) => {}
            Some(_) => return,
        }
    }
    panic!("there is no end of it");
}

/// A channel's file, patched, and then both ends of it, one after the other.
pub fn attach(data: &[u8]) {
    static IMAGES: OnceLock<[Vec<u8>; 2]> = OnceLock::new();
    keep_domain();
    let images = IMAGES.get_or_init(|| {
        let mut host = channel().create("c").unwrap();
        let mut guest = channel().open("c").unwrap();
        for len in [0, 8, 300, 2000] {
            host.send(&vec![7; len][..]).unwrap();
            guest.send(&vec![8; len][..]).unwrap();
        }
        guest.recv().unwrap();
        let held = fs::read(path("c.channel")).unwrap();
        drop(guest);
        let free = fs::read(path("c.channel")).unwrap();
        [held, free]
    });
    let mut bytes = Bytes(data);
    let name = path("c.channel");
    let _ = fs::remove_file(&name);
    fs::write(&name, &images[usize::from(bytes.small() % 2)]).unwrap();
    fs::set_permissions(&name, fs::Permissions::from_mode(0o600)).unwrap();
    let file = open_file("c.channel").unwrap();
    for _ in 0..bytes.small() % 6 {
        patch(&file, &mut bytes);
    }
    let _ = inspect::snapshot_domain(domain());
    let keep = bytes.small() % 2 == 0;
    let options = || channel().keep_undelivered(keep);
    let ends = match bytes.small() % 2 {
        0 => [options().open("c"), options().create("c")],
        _ => [options().create("c"), options().open("c")],
    };
    for mut end in ends.into_iter().flatten() {
        let _ = end.try_send(&[1; 100][..]);
        receive_all(&mut end, &mut bytes);
    }
    let _ = fs::remove_file(&name);
}

/// A channel whose file is patched while both ends work.
pub fn drain(data: &[u8]) {
    keep_domain();
    let mut bytes = Bytes(data);
    let _ = fs::remove_file(path("c.channel"));
    let mut host = channel().create("c").unwrap();
    let mut guest = channel().open("c").unwrap();
    let file = open_file("c.channel").unwrap();
    while let Some(act) = bytes.next() {
        let end = if act & 1 == 0 { &mut host } else { &mut guest };
        match act >> 1 & 7 {
            0 | 1 => drop(end.try_send(&bytes.value()[..])),
            2 => drop(end.try_recv()),
            3 => receive_all(end, &mut bytes),
            4 => {
                if let Ok(mut loan) = end.loan(100) {
                    let len = usize::from(bytes.small()) % 101;
                    loan.put(0, &vec![3; len]).unwrap();
                    loan.commit(len).unwrap();
                }
            }
            5 => drop(inspect::snapshot_domain(domain())),
            6 if bytes.small() == 0 => blank(&file, &mut bytes),
            _ => patch(&file, &mut bytes),
        }
    }
    drop((host, guest));
    let _ = fs::remove_file(path("c.channel"));
}

/// A store whose file is patched while it is used.
pub fn store_ops(data: &[u8]) {
    keep_domain();
    let mut bytes = Bytes(data);
    let _ = fs::remove_file(path("s.store"));
    let store_of = || store().open("s");
    let mut user = store().create("s").unwrap();
    let reader = store().read_only().open("s").unwrap();
    let file = open_file("s.store").unwrap();
    // One that seems to have the lock is waited for a millisecond each time.
    let mut left = 200;
    while let (Some(act), 1..) = (bytes.next(), left) {
        left -= 1;
        let key = bytes.key();
        match act % 16 {
            0..3 => drop(user.set::<[u8]>(key, &bytes.value())),
            3 => drop(user.delete(key)),
            4 => drop(user.get::<[u8]>(key)),
            5 => drop(reader.get::<[u8]>(key)),
            6 => drop(user.fetch_add(key, 1)),
            7 => drop(user.update::<[u8]>(key, |old| old.map(|old| [&old[..], b"x"].concat()))),
            8 => assert!(reader.keys().take(1 << 20).count() < 1 << 20),
            9 => drop(user.verify()),
            10 => drop((user.stats(), inspect::snapshot_domain(domain()))),
            11 => drop(user.clear()),
            12 => {
                if let Ok(another) = store_of() {
                    user = another;
                }
            }
            13 if bytes.small() == 0 => blank(&file, &mut bytes),
            _ => patch(&file, &mut bytes),
        }
    }
    drop((user, reader));
    let _ = fs::remove_file(path("s.store"));
}

/// A channel beside queues, and a store beside a map.
pub fn differential(data: &[u8]) {
    keep_domain();
    let mut bytes = Bytes(data);
    let mut ends = [channel().create("c").unwrap(), channel().open("c").unwrap()];
    let table = store().create("s").unwrap();
    // What each end will receive.
    let mut queues = [VecDeque::new(), VecDeque::new()];
    let mut map = BTreeMap::new();
    while let Some(act) = bytes.next() {
        let (at, key) = (usize::from(act & 1), bytes.key());
        match act >> 1 & 7 {
            0 | 1 => {
                let value = bytes.value();
                if ends[at].try_send(&value[..]).is_ok() {
                    queues[1 - at].push_back(value);
                } else {
                    // The end of a lap is left free before a message that would not fit there: one
                    // of these, or this one.
                    let sizes = || queues[1 - at].iter().map(|value| value.len() + 16);
                    let (used, left) = (sizes().sum::<usize>(), sizes().max().unwrap_or(0));
                    let fits = value.len() <= 2040 && used + left + 2 * (value.len() + 24) <= 4096;
                    assert!(!fits, "{} bytes do not fit beside {used}", value.len());
                }
            }
            2 => assert_eq!(ends[at].try_recv().ok(), queues[at].pop_front()),
            3 => {
                let all: Vec<_> = ends[at].try_iter().collect();
                assert!(all.into_iter().eq(queues[at].drain(..)));
            }
            4 | 5 => {
                let value = bytes.value();
                table.set::<[u8]>(key, &value).unwrap();
                map.insert(key, value);
            }
            6 => assert_eq!(table.delete(key).unwrap(), map.remove(&key).is_some()),
            _ => assert_eq!(table.get::<[u8]>(key).unwrap().as_ref(), map.get(&key)),
        }
    }
    table.verify().unwrap();
    assert_eq!(table.len(), map.len());
    let all = table.get_all::<[u8]>().unwrap();
    assert!(
        all.into_iter()
            .eq(map.into_iter().map(|(key, value)| (key.to_vec(), value)))
    );
    table.remove().unwrap();
}
