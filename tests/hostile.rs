//! A process scribbles over a channel and a store all the time, with pauses of up to 100 us: it makes
//! up positions, records, roles and locks, and punches holes. Those who share them get typed errors or
//! values, and go on; those who share another channel and another store of the same domain notice
//! nothing of it.

mod common;

use common::cases::in_time;
use common::damage::{Went, attached, done, opened, received, sent};
use common::{Domain, LONG, Process, Random, Shared, base, play, say, scale, tally};
use ringlane::{Channel, Store};
use rustix::fs::{FallocateFlags, fallocate};
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

#[test]
#[ignore = "what the processes of these tests run"]
fn process() {
    play(|role, arguments| match role {
        "scribbler" => scribble(arguments[0], &Shared::open(arguments[1])),
        "host" => use_them(arguments[0], &Shared::open(arguments[1]), true),
        "guest" => use_them(arguments[0], &Shared::open(arguments[1]), false),
        "echo" => echo(arguments[0]),
        other => panic!("{other:?}"),
    });
}

// Words beside the library.
const IS_OVER: usize = 0;
const SCRIBBLED: usize = 1;
const HOLES: usize = 2;
const WENT_WELL: usize = 3;
const TOLD_OF_DAMAGE: usize = 4;

const CAPACITY: usize = 4096;

fn remove(domain: &str, name: &str) {
    let _ = fs::remove_file(base().join(domain).join(name));
}

// ---- Who scribbles.

fn scribble(domain: &str, shared: &Shared) {
    let mut random = Random::printed();
    while shared.word(IS_OVER).load(Relaxed) == 0 {
        for name in ["c.channel", "s.store"] {
            let path = base().join(domain).join(name);
            let Ok(file) = File::options().read(true).write(true).open(path) else {
                continue;
            };
            for _ in 0..random.below(60) {
                // So that honest work is done between them.
                std::thread::sleep(random.micros(100));
                let changed = scribble_a_word(&file, &mut random);
                shared
                    .word(SCRIBBLED)
                    .fetch_add(u64::from(changed), Relaxed);
            }
            if random.below(8) == 0 {
                let pages = file.metadata().unwrap().len() / 4096;
                let how = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
                fallocate(&file, how, 4096 * random.below(pages.max(1)), 4096).unwrap();
                shared.word(HOLES).fetch_add(1, Relaxed);
            }
        }
    }
    say("stopped");
}

/// Gives whether the word is another one now.
fn scribble_a_word(file: &File, random: &mut Random) -> bool {
    let words = file.metadata().unwrap().len() / 8;
    let read = |at: u64| {
        let mut bytes = [0; 8];
        file.read_exact_at(&mut bytes, 8 * at).unwrap();
        u64::from_ne_bytes(bytes)
    };
    // Headers more often than the rest.
    let at = match random.below(3) {
        0 => random.below(words.min(160)),
        1 => random.below(words.min(1600)),
        _ => random.below(words),
    };
    let old = read(at);
    let new = match random.below(8) {
        0 => 0,
        1 => random.next(),
        2 => old.wrapping_add(8),
        3 => old.wrapping_sub(8),
        4 => read(random.below(words)),
        // A record's header, or small numbers of another kind.
        5 => random.below(4) << 40 | random.below(5) << 32 | random.below(3000),
        _ => old ^ 1 << random.below(64),
    };
    file.write_all_at(&new.to_ne_bytes(), 8 * at).unwrap();
    new != old
}

// ---- Who shares what is scribbled over.

fn use_them(domain: &str, shared: &Shared, as_host: bool) {
    let mut random = Random::printed();
    let count = |went: Went| {
        let word = match went {
            Went::Well => WENT_WELL,
            Went::Damaged => TOLD_OF_DAMAGE,
            Went::Idly => return,
        };
        shared.word(word).fetch_add(1, Relaxed);
    };
    while shared.word(IS_OVER).load(Relaxed) == 0 {
        let options = Channel::<[u8]>::options().domain(domain).capacity(CAPACITY);
        let end = match as_host {
            true => options.create("c"),
            false => options.open("c"),
        };
        match attached(end) {
            Ok(mut end) => (0..200).for_each(|_| {
                count(in_time("a call", || exchange(&mut end, &mut random)));
            }),
            Err(went) => {
                count(went);
                if as_host {
                    remove(domain, "c.channel");
                }
            }
        }
        let options = Store::options().domain(domain).max_size(1 << 20);
        let options = options.lock_timeout(Duration::from_millis(1));
        match opened(options.open_or_create("s")) {
            Ok(store) => (0..200).for_each(|_| {
                count(in_time("a call", || change(&store, &mut random)));
            }),
            Err(went) => {
                count(went);
                if as_host {
                    remove(domain, "s.store");
                }
            }
        }
        if as_host && random.below(16) == 0 {
            remove(domain, "s.store");
        }
    }
    say("stopped");
}

/// Whatever comes of it, it ends, and what it gives is a value or one of the errors for it.
fn exchange(end: &mut Channel<[u8]>, random: &mut Random) -> Went {
    let len = random.below(2041) as usize >> random.below(8);
    let moment = Duration::from_micros(50);
    match random.below(8) {
        0 | 1 => sent(end.try_send(&vec![7; len][..])),
        2 => sent(end.send_timeout(&vec![7; len][..], moment)),
        3 => received(end.try_recv()),
        4 => received(end.recv_timeout(moment)),
        // What is never empty, since somebody makes records up, need not end.
        5 => match end.try_iter().take(10_000).count() {
            0 => Went::Idly,
            _ => Went::Well,
        },
        6 => {
            let stats = end.stats();
            assert!(stats.used <= stats.capacity);
            Went::Idly
        }
        _ => match end.try_recv_ref() {
            Ok(message) => {
                assert!(message.len() <= CAPACITY / 2);
                assert_eq!(message.get().unwrap().len(), message.len());
                Went::Well
            }
            Err(e) => received::<()>(Err(e)),
        },
    }
}

fn change(store: &Store, random: &mut Random) -> Went {
    let key = [random.below(64) as u8];
    let len = random.below(1000) as usize >> random.below(6);
    match random.below(16) {
        0..6 => done(store.set::<[u8]>(key, &vec![7; len])),
        6..8 => done(store.delete(key)),
        8 => done(store.fetch_add(key, 1)),
        9 => {
            let longer = |old: Option<Vec<u8>>| old.map(|old| [&old[..], b"x"].concat());
            done(store.update::<[u8]>(key, longer))
        }
        10 => {
            assert!(store.keys().take(1 << 20).count() < 1 << 20);
            Went::Idly
        }
        11 => done(store.verify()),
        12 => {
            drop(store.stats());
            Went::Idly
        }
        _ => done(store.get::<[u8]>(key)),
    }
}

// ---- Who does not.

fn echo(domain: &str) {
    let mut guest = Channel::<u64>::options()
        .domain(domain)
        .open("own")
        .unwrap();
    let store = Store::options().domain(domain).open("own").unwrap();
    while let Ok(number) = guest.recv() {
        assert_eq!(store.get::<u64>("host").unwrap(), Some(number));
        store.set("guest", &number).unwrap();
        guest.send(number).unwrap();
    }
}

#[test]
fn who_scribbles_harms_nobody_else() {
    let domain = Domain::new("hostile");
    let shared = Shared::new(&domain, 5);
    let mut host = domain.of::<u64>().create("own").unwrap();
    let store = Store::options()
        .domain(domain.name())
        .create("own")
        .unwrap();
    let honest = Process::start("echo", &[domain.name()]);
    let mut others = ["scribbler", "host", "guest"]
        .map(|role| Process::start(role, &[domain.name(), shared.path()]));
    let end = Instant::now() + Duration::from_millis(scale(700, 20_000) as u64);
    let mut number = 0;
    while Instant::now() < end {
        number += 1;
        store.set("host", &number).unwrap();
        host.send(number).unwrap();
        assert_eq!(host.recv_timeout(LONG), Ok(number));
        assert_eq!(store.get::<u64>("guest").unwrap(), Some(number));
        if number % 1000 == 0 {
            store.verify().unwrap();
        }
    }
    shared.word(IS_OVER).store(1, Relaxed);
    for other in &mut others {
        assert_eq!(other.line(), "stopped");
    }
    others.into_iter().for_each(Process::finish);
    drop(host);
    honest.finish();
    store.verify().unwrap();
    store.remove().unwrap();
    remove(domain.name(), "c.channel");
    remove(domain.name(), "s.store");
    drop(store);
    // The others left their dead segments' names, and with them the roster.
    drop(domain.of::<u64>().create("last").unwrap());
    let [scribbled, holes, well, damaged] =
        [SCRIBBLED, HOLES, WENT_WELL, TOLD_OF_DAMAGE].map(|at| shared.word(at).load(Relaxed));
    assert!(scribbled > 0 && well > 0 && damaged > 0);
    tally("hostile", "words that a process scribbled over", scribbled);
    tally("hostile", "holes that it punched", holes);
    tally("hostile", "calls beside it that went well", well);
    tally("hostile", "calls beside it that told of damage", damaged);
    tally(
        "hostile",
        "exchanges of those who share nothing with it",
        number,
    );
}
