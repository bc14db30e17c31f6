//! Contestant: redb, in the same memory file system, a transaction for each call. Writes have no
//! durability, and are made durable between turns, untimed, so that it can reuse its pages.

use std::sync::Arc;

use redb::{Database, Durability, ReadableDatabase, TableDefinition};

use super::map::{Key, Map, Payload};
use crate::keeper::{Directory, Scratch};

const TABLE: TableDefinition<&[u8], &[u8]> = TableDefinition::new("table");

pub struct Redb {
    database: Arc<Database>,
    // After the database, which lies in it.
    directory: Arc<Directory>,
}

impl Redb {
    pub fn create(scratch: &Scratch) -> Self {
        let directory = scratch.directory("redb");
        let database = Database::create(directory.path().join("file")).expect("a database");
        Self {
            database: Arc::new(database),
            directory: Arc::new(directory),
        }
    }

    fn write(&self, durability: Durability, entries: &mut dyn Iterator<Item = (&[u8], &[u8])>) {
        let mut txn = self.database.begin_write().expect("a transaction");
        txn.set_durability(durability).expect("durability");
        let mut table = txn.open_table(TABLE).expect("a table");
        for (key, value) in entries {
            table.insert(key, value).expect("insert");
        }
        drop(table);
        txn.commit().expect("commit");
    }
}

impl<P: Payload> Map<P> for Redb {
    fn get(&mut self, key: &Key, out: &mut P) -> bool {
        let txn = self.database.begin_read().expect("a transaction");
        let table = txn.open_table(TABLE).expect("a table");
        match table.get(&key[..]).expect("get") {
            Some(found) => {
                out.copy(found.value());
                true
            }
            None => false,
        }
    }

    fn set(&mut self, key: &Key, value: &P) {
        let entry = (&key[..], value.bytes());
        self.write(Durability::None, &mut std::iter::once(entry));
    }

    fn fill(&mut self, entries: &mut dyn Iterator<Item = (Key, P)>) {
        let mut txn = self.database.begin_write().expect("a transaction");
        txn.set_durability(Durability::Immediate)
            .expect("durability");
        let mut table = txn.open_table(TABLE).expect("a table");
        for (key, value) in entries {
            table.insert(&key[..], value.bytes()).expect("insert");
        }
        drop(table);
        txn.commit().expect("commit");
    }

    fn another(&self) -> Option<Self> {
        Some(Self {
            database: Arc::clone(&self.database),
            directory: Arc::clone(&self.directory),
        })
    }

    fn leave(&mut self) {
        self.write(Durability::Immediate, &mut std::iter::empty());
    }
}
