//! Files that are to be refused, and left as they were.

use super::{skip, tally};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// A file or directory as it was.
pub struct Seen {
    path: PathBuf,
    pub is: Facts,
}

#[derive(PartialEq, Debug)]
pub struct Facts {
    /// All but the time of the last access.
    numbers: Vec<u64>,
    times: Vec<i64>,
    pub bytes: Option<Vec<u8>>,
}

impl Facts {
    pub fn of(path: &Path) -> Facts {
        let m = fs::symlink_metadata(path).unwrap();
        let numbers = vec![
            m.dev(),
            m.ino(),
            u64::from(m.mode()),
            m.nlink(),
            u64::from(m.uid()),
            u64::from(m.gid()),
            m.size(),
            m.blocks(),
        ];
        Facts {
            numbers,
            times: vec![m.mtime(), m.mtime_nsec(), m.ctime(), m.ctime_nsec()],
            bytes: m.is_file().then(|| fs::read(path).unwrap()),
        }
    }
}

impl Seen {
    pub fn of(path: &Path) -> Seen {
        Seen {
            path: path.to_path_buf(),
            is: Facts::of(path),
        }
    }

    /// For what is found out only after the file was mapped, which changes its times.
    #[track_caller]
    pub fn has_the_same_content(&self) {
        let now = Facts::of(&self.path);
        assert_eq!(now.numbers, self.is.numbers);
        assert!(now.bytes == self.is.bytes, "{:?} was changed", self.path);
    }

    #[track_caller]
    pub fn is_untouched(&self) {
        // Not `assert_eq`, which would print the bytes.
        let now = Facts::of(&self.path);
        assert_eq!(now.numbers, self.is.numbers);
        assert_eq!(now.times, self.is.times);
        assert!(now.bytes == self.is.bytes, "{:?} was changed", self.path);
    }
}

/// Makes it another user's, if we may: not even every root may.
pub fn gave_away(path: &Path) -> bool {
    let outcome = std::os::unix::fs::chown(path, Some(65534), None);
    match outcome.map_err(|e| e.raw_os_error()) {
        Ok(()) => true,
        Err(Some(libc::EPERM | libc::EINVAL)) => {
            skip("permissions", "nothing can be given to another user here");
            false
        }
        other => panic!("{other:?}"),
    }
}

/// Records that so many calls refused a file for that reason.
pub fn tally_refusals(why: &str, calls: u64) {
    let fault = match why {
        "truncated" | "size" => "truncate",
        "kind" | "layout" => "mismatch",
        _ => "permissions",
    };
    tally(fault, "calls that refused a file", calls);
}
