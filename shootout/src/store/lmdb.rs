//! Contestant: LMDB, in the same memory file system, with every flag that makes it quicker and
//! leaves it what it is: WRITEMAP, NOSYNC, NOMETASYNC, NORDAHEAD and NOMEMINIT. Not NOLOCK, which
//! would keep other processes out.

use std::sync::Arc;

use heed::types::Bytes;
use heed::{CommitOrAbort, Database, Env, EnvFlags, EnvOpenOptions, RoTxn, TlsUsage};
use heed::{WithTls, WithoutTls};

use super::map::{Key, Map, Payload};
use crate::keeper::{Directory, Scratch};

/// Address space; the file has holes.
const MAP_SIZE: usize = 8 << 30;

pub const FLAGS: &str = "WRITEMAP NOSYNC NOMETASYNC NORDAHEAD NOMEMINIT";

/// A transaction for each call.
pub struct Lmdb(Opened<WithTls>);

/// One transaction for all reads of a turn.
pub struct LongTxn {
    // Before what it reads from.
    reading: Option<RoTxn<'static, WithoutTls>>,
    opened: Opened<WithoutTls>,
}

struct Opened<T: TlsUsage> {
    env: Env<T>,
    table: Database<'static, Bytes, Bytes>,
    // After the environment, which lies in it.
    directory: Arc<Directory>,
}

impl<T: TlsUsage> Opened<T> {
    fn create(mut options: EnvOpenOptions<T>, scratch: &Scratch) -> Self {
        let directory = scratch.directory("lmdb");
        let flags = EnvFlags::WRITE_MAP
            | EnvFlags::NO_SYNC
            | EnvFlags::NO_META_SYNC
            | EnvFlags::NO_READ_AHEAD
            | EnvFlags::NO_MEM_INIT;
        // SAFETY: the flags give up durability only, and the file is on no disk.
        let options = unsafe { options.map_size(MAP_SIZE).flags(flags) };
        // SAFETY: the directory is new, and nobody but this process knows it.
        let env = unsafe { options.open(directory.path()) }.expect("an environment");
        let txn = env.write_txn().expect("a transaction");
        let table = env.create_databases_and_commit(txn, |opener, txn| {
            let table = opener.create_database(txn, None);
            table.map(CommitOrAbort::<_, ()>::Commit)
        });
        let table = table.expect("a table").unwrap_commit();
        Self {
            env,
            table,
            directory: Arc::new(directory),
        }
    }

    fn fill<P: Payload>(&self, entries: &mut dyn Iterator<Item = (Key, P)>) {
        let mut txn = self.env.write_txn().expect("a transaction");
        for (key, value) in entries {
            let put = self.table.put(&mut txn, &key, value.bytes());
            put.expect("put");
        }
        txn.commit().expect("commit");
    }

    fn get<P: Payload>(&self, txn: &RoTxn<'_>, key: &Key, out: &mut P) -> bool {
        match self.table.get(txn, key).expect("get") {
            Some(bytes) => {
                out.copy(bytes);
                true
            }
            None => false,
        }
    }
}

impl Lmdb {
    pub fn create(scratch: &Scratch) -> Self {
        Self(Opened::create(EnvOpenOptions::new(), scratch))
    }
}

impl<P: Payload> Map<P> for Lmdb {
    fn get(&mut self, key: &Key, out: &mut P) -> bool {
        let txn = self.0.env.read_txn().expect("a transaction");
        self.0.get(&txn, key, out)
    }

    fn set(&mut self, key: &Key, value: &P) {
        let mut txn = self.0.env.write_txn().expect("a transaction");
        let put = self.0.table.put(&mut txn, key, value.bytes());
        put.expect("put");
        txn.commit().expect("commit");
    }

    fn fill(&mut self, entries: &mut dyn Iterator<Item = (Key, P)>) {
        self.0.fill(entries);
    }

    fn another(&self) -> Option<Self> {
        let Opened {
            env,
            table,
            directory,
        } = &self.0;
        Some(Self(Opened {
            env: env.clone(),
            table: *table,
            directory: Arc::clone(directory),
        }))
    }
}

impl LongTxn {
    pub fn create(scratch: &Scratch) -> Self {
        Self {
            reading: None,
            opened: Opened::create(EnvOpenOptions::new().read_txn_without_tls(), scratch),
        }
    }
}

impl<P: Payload> Map<P> for LongTxn {
    fn get(&mut self, key: &Key, out: &mut P) -> bool {
        let txn = self.reading.as_ref().expect("entered");
        self.opened.get(txn, key, out)
    }

    fn set(&mut self, _key: &Key, _value: &P) {
        unreachable!("for reads only");
    }

    fn fill(&mut self, entries: &mut dyn Iterator<Item = (Key, P)>) {
        self.opened.fill(entries);
    }

    fn enter(&mut self) {
        let env = self.opened.env.clone();
        self.reading = Some(env.static_read_txn().expect("a transaction"));
    }

    fn leave(&mut self) {
        self.reading = None;
    }
}
