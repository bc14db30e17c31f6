//! What only the inside of a store can show: kills before each of its stores, and damage.

mod chains;
mod damage;
mod damages;
mod kills;
mod mutations;
mod real_kills;
mod scenes;
mod scribbles;

use super::{Store, StoreOptions};
use crate::common::random::Random;
use crate::common::tally::scale;
use crate::domain::{STORE, base};
use crate::layout::DOOR;
use std::cell::{Cell, RefCell};
use std::fs;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::PathBuf;
use std::sync::mpsc;
use std::time::Duration;

thread_local! {
    /// What the keys of stores that this thread makes are hashed with, so that they lie where they
    /// lay when a test is repeated by its seed.
    static SEEDS: RefCell<Option<Random>> = const { RefCell::new(None) };
}

pub(super) fn hash_seed() -> Option<u64> {
    SEEDS.with_borrow_mut(|seeds| seeds.as_mut().map(|seeds| seeds.next() | 1))
}

/// A domain of one test, in which files are put as they are to be found; gone afterwards.
struct Yard {
    domain: String,
    keeper: Store,
    made: Cell<u32>,
    /// Where the test's own draws begin.
    random: Random,
    _watchdog: mpsc::Sender<()>,
}

impl Yard {
    fn new(test: &str) -> Yard {
        let domain = format!("test-{test}-{}", std::process::id());
        let mut random = Random::printed();
        SEEDS.set(Some(Random::of(random.next())));
        Yard {
            keeper: options(&domain).create("keeper").unwrap(),
            domain,
            made: Cell::new(0),
            random,
            _watchdog: watchdog(test),
        }
    }

    fn options(&self) -> StoreOptions {
        options(&self.domain)
    }

    /// Options of one that does not wait long for a lock that nobody gives back.
    fn brief(&self) -> StoreOptions {
        self.options().lock_timeout(Duration::from_millis(20))
    }

    fn file(&self, name: &str) -> PathBuf {
        base().join(&self.domain).join(format!("{name}{STORE}"))
    }

    /// The bytes of a new store that `fill` filled.
    fn image(&self, fill: impl FnOnce(&Store)) -> Vec<u8> {
        let store = self.options().create("new").unwrap();
        fill(&store);
        store.verify().unwrap();
        let image = fs::read(self.file("new")).unwrap();
        store.remove().unwrap();
        image
    }

    /// Puts a store there, and gives its name.
    fn put(&self, image: &[u8]) -> String {
        self.made.set(self.made.get() + 1);
        let name = format!("copy-{}", self.made.get());
        let mut file = fs::File::options();
        let file = file.write(true).create_new(true).mode(0o600);
        let file = file.open(self.file(&name)).unwrap();
        file.write_all_at(image, 0).unwrap();
        name
    }

    /// Takes it away again.
    fn take(&self, name: &str) {
        fs::remove_file(self.file(name)).unwrap();
    }
}

impl Drop for Yard {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let _ = fs::remove_dir_all(base().join(&self.domain));
            return;
        }
        let left: Vec<_> = fs::read_dir(base().join(&self.domain))
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        assert_eq!(left.len(), 2, "{left:?}");
        self.keeper.remove().unwrap();
    }
}

fn options(domain: &str) -> StoreOptions {
    Store::options().domain(domain).max_size(16 << 20)
}

/// Aborts the process if what it returns is not dropped in time: a test that hangs must fail.
fn watchdog(test: &str) -> mpsc::Sender<()> {
    let (done, dropped) = mpsc::channel();
    let patience = Duration::from_secs(scale(120, 1_200) as u64);
    let test = test.to_string();
    std::thread::spawn(move || {
        if dropped.recv_timeout(patience) == Err(mpsc::RecvTimeoutError::Timeout) {
            let text = format!("\nWATCHDOG: {test} hangs for {patience:?}\n");
            let _ = rustix::io::write(rustix::stdio::stderr(), text.as_bytes());
            std::process::abort();
        }
    });
    done
}

/// Where a store's file has the word of the lock.
const LOCK: u64 = DOOR as u64;
