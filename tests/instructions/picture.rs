//! The files of a domain: watched while a process writes to them, and put elsewhere as they were.

use crate::common::trace::Watched;
use std::fs::{self, DirBuilder, File};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, DirEntryExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// All that a killed process leaves.
#[derive(Default)]
pub struct Picture {
    /// The directory is there.
    exists: bool,
    files: Vec<(String, Vec<u8>)>,
}

/// Where the roster has its slots, their size, and where in one the pid is.
const SLOTS: usize = 256;
const SLOT: usize = 64;
const PID: usize = 8;
/// A pid that no process can have.
const NOBODY: u64 = 0x3fff_ffff;

impl Picture {
    /// Makes it a domain of that path, in which everybody is dead. Gives in how many places it
    /// named `pid`.
    pub fn put(&self, path: &Path, pid: u32) -> usize {
        let mut places = 0;
        if !self.exists {
            return places;
        }
        DirBuilder::new().mode(0o700).create(path).unwrap();
        for (name, bytes) in &self.files {
            let mut options = File::options();
            let options = options.write(true).create_new(true).mode(0o600);
            let mut file = options.open(path.join(name)).unwrap();
            if name != "roster" {
                file.write_all(bytes).unwrap();
                continue;
            }
            let mut bytes = bytes.clone();
            for slot in bytes[SLOTS..].chunks_exact_mut(SLOT) {
                let word: &mut [u8; 8] = (&mut slot[PID..PID + 8]).try_into().unwrap();
                let found = u64::from_ne_bytes(*word);
                places += usize::from(found == u64::from(pid));
                if found != 0 {
                    *word = NOBODY.to_ne_bytes();
                }
            }
            file.write_all(&bytes).unwrap();
        }
        places
    }

    /// Different for what differs.
    pub fn hash(&self) -> u64 {
        let each = self.files.iter();
        each.fold(u64::from(self.exists), |hash, (name, bytes)| {
            let name = rapidhash::v3::rapidhash_v3(name.as_bytes());
            (hash ^ name).rotate_left(23) ^ rapidhash::v3::rapidhash_v3(bytes)
        })
    }

    pub fn has(&self, name: &str) -> bool {
        self.files.iter().any(|(found, _)| found == name)
    }
}

/// The files of a domain while somebody writes to them.
pub struct View {
    path: PathBuf,
    exists: bool,
    files: Vec<Seen>,
}

struct Seen {
    name: String,
    inode: u64,
    watched: Watched,
}

impl View {
    pub fn of(path: PathBuf) -> View {
        let mut view = View {
            path,
            exists: false,
            files: Vec::new(),
        };
        view.look();
        view
    }

    /// Looks which files there are, and how long. Whether that has changed.
    pub fn look(&mut self) -> bool {
        let entries = match fs::read_dir(&self.path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                let changed = self.exists;
                (self.exists, self.files) = (false, Vec::new());
                return changed;
            }
            entries => entries.unwrap(),
        };
        let mut files = Vec::new();
        let mut changed = !self.exists;
        for entry in entries {
            let entry = entry.unwrap();
            let (name, inode) = (entry.file_name().into_string().unwrap(), entry.ino());
            let len = entry.metadata().unwrap().len();
            let is_it = |seen: &Seen| {
                (&seen.name, seen.inode, seen.watched.seen().len() as u64) == (&name, inode, len)
            };
            if let Some(at) = self.files.iter().position(is_it) {
                files.push(self.files.swap_remove(at));
            } else if let Some(watched) = Watched::open(&entry.path()).unwrap() {
                changed = true;
                files.push(Seen {
                    name,
                    inode,
                    watched,
                });
            }
        }
        // What is left is gone.
        changed |= !self.files.is_empty();
        files.sort_by(|a, b| a.name.cmp(&b.name));
        (self.exists, self.files) = (true, files);
        changed
    }

    /// Whether any byte has changed.
    pub fn has_changed(&mut self) -> bool {
        let files = self.files.iter_mut();
        files.fold(false, |changed, file| file.watched.has_changed() | changed)
    }

    pub fn picture(&self) -> Picture {
        let files = self.files.iter();
        let files = files.map(|file| (file.name.clone(), file.watched.seen().to_vec()));
        Picture {
            exists: self.exists,
            files: files.collect(),
        }
    }
}
