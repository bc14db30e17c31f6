//! A domain: a directory `ringlane-UID/DOMAIN/` (mode 0700) in `/dev/shm`, or in `RINGLANE_DIR`,
//! with one file for each channel and store. The file system is the registry: a name that `ls`, `dump` and a
//! restarted child can find, and that is still there after a crash.

use crate::error::{Error, Result};
use crate::segment::check_owner;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{CWD, FileType, Mode, OFlags};
use rustix::io::Errno;
use std::path::{Path, PathBuf};

/// The domain of those who name none, unless [`VARIABLE`] does.
pub(crate) const DEFAULT: &str = "default";
/// Names the domain of those who name none. A runtime sets it for its children.
pub(crate) const VARIABLE: &str = "RINGLANE_DOMAIN";
/// Where domains lie instead of in `/dev/shm`.
pub(crate) const PLACE: &str = "RINGLANE_DIR";
/// Ending of a channel's file.
pub(crate) const CHANNEL: &str = ".channel";
/// Ending of a store's file.
pub(crate) const STORE: &str = ".store";
/// Ending of a file that is being made, where there are no nameless files.
pub(crate) const TEMPORARY: &str = ".tmp";
/// File name of the roster.
pub(crate) const ROSTER: &str = "roster";
/// Name of the store that a runtime and its children share.
pub(crate) const SHARED: &str = "shared";
/// File name of the control segment of the domain's main process and its children.
pub(crate) const RUNTIME: &str = "runtime";

/// Where files lie.
#[derive(Clone, Debug)]
pub(crate) enum Place {
    /// In the directory of a domain, which is made when it is needed and removed when it is not.
    Domain(String),
    /// In a directory of the user's own, which is left as it is. Only stores do.
    Path(PathBuf),
}

impl Place {
    /// The directory, whether it is there or not; the same for each way to write it.
    pub(crate) fn path(&self) -> Result<PathBuf> {
        match self {
            Place::Domain(domain) => {
                check_name(domain)?;
                Ok(base().join(domain))
            }
            Place::Path(path) => std::fs::canonicalize(path).map_err(|e| Error::io(path, e)),
        }
    }
}

/// An open domain directory, or another in which a store lies.
#[derive(Debug)]
pub(crate) struct Directory {
    fd: OwnedFd,
    path: PathBuf,
    /// Of the domain; `None` for a directory that is not ours.
    domain: Option<String>,
}

impl AsFd for Directory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// The directory in which this user's domains lie.
pub(crate) fn base() -> PathBuf {
    let place = std::env::var_os(PLACE).filter(|dir| !dir.is_empty());
    let place = place.map_or_else(|| PathBuf::from("/dev/shm"), PathBuf::from);
    // A relative one means another place once the process changed its directory.
    let place = std::path::absolute(&place).unwrap_or(place);
    place.join(format!("ringlane-{}", rustix::process::geteuid().as_raw()))
}

/// The domain that a call without one means.
pub(crate) fn default_domain() -> String {
    match std::env::var(VARIABLE) {
        Ok(domain) if !domain.is_empty() => domain,
        _ => DEFAULT.to_string(),
    }
}

/// Checks a name of a domain, channel or child.
pub(crate) fn check_name(name: &str) -> Result<()> {
    let ok = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    let first = name
        .bytes()
        .next()
        .is_some_and(|b| b.is_ascii_alphanumeric());
    if first && name.len() <= 100 && name.bytes().all(ok) {
        Ok(())
    } else {
        Err(Error::BadName {
            name: name.to_string(),
        })
    }
}

impl Directory {
    /// Opens the directory at `place`; makes it if that is a domain's, and `create`.
    pub(crate) fn at(place: &Place, create: bool) -> Result<Directory> {
        match place {
            Place::Domain(domain) if create => Directory::open_or_create(domain),
            Place::Domain(domain) => Directory::open(domain),
            Place::Path(_) => {
                let path = place.path()?;
                let flags = OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::RDONLY;
                let fd = rustix::fs::openat(CWD, &path, flags, Mode::empty())
                    .map_err(|e| Error::io(&path, e))?;
                let domain = None;
                Ok(Directory { fd, path, domain })
            }
        }
    }

    /// Opens the directory of `domain`, `NotFound` if there is none.
    pub(crate) fn open(domain: &str) -> Result<Directory> {
        check_name(domain)?;
        let base = base();
        let top = open_checked(CWD, &base, &base).map_err(|e| not_found(e, domain))?;
        let path = base.join(domain);
        let fd = open_checked(top.as_fd(), Path::new(domain), &path)
            .map_err(|e| not_found(e, domain))?;
        Ok(Directory {
            fd,
            path,
            domain: Some(domain.to_string()),
        })
    }

    /// Opens the directory of `domain`, making it if there is none.
    pub(crate) fn open_or_create(domain: &str) -> Result<Directory> {
        check_name(domain)?;
        let base = base();
        // Whoever leaves last removes both directories, perhaps between two steps of ours.
        for _ in 0..100 {
            make(CWD, &base, &base)?;
            let top = match open_checked(CWD, &base, &base) {
                Err(Error::Io { source, .. }) if is_gone(&source) => continue,
                other => other?,
            };
            let path = base.join(domain);
            match make(top.as_fd(), Path::new(domain), &path) {
                Err(Error::Io { source, .. }) if is_gone(&source) => continue,
                other => other?,
            }
            match open_checked(top.as_fd(), Path::new(domain), &path) {
                Err(Error::Io { source, .. }) if is_gone(&source) => continue,
                Ok(fd) => {
                    return Ok(Directory {
                        fd,
                        path,
                        domain: Some(domain.to_string()),
                    });
                }
                Err(e) => return Err(e),
            }
        }
        Err(Error::io(base.join(domain), Errno::NOENT))
    }

    /// The name of the domain, or of the directory.
    pub(crate) fn name(&self) -> &str {
        match &self.domain {
            Some(domain) => domain,
            None => self.path.to_str().unwrap_or("directory"),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The path of a file in it, for messages.
    pub(crate) fn file(&self, name: &str) -> String {
        crate::error::display(self.path.join(name))
    }

    /// The names in it, sorted.
    pub(crate) fn list(&self) -> Result<Vec<String>> {
        list(self.fd.as_fd(), &self.path)
    }

    /// The number of the file of that name, if there is one.
    pub(crate) fn inode(&self, name: &str) -> Result<Option<u64>> {
        match rustix::fs::statat(&self.fd, name, rustix::fs::AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat.st_ino)),
            Err(Errno::NOENT) => Ok(None),
            Err(e) => Err(Error::io(self.path.join(name), e)),
        }
    }

    /// The channels in it, sorted.
    pub(crate) fn channels(&self) -> Result<Vec<String>> {
        let files = self.list()?;
        let names = files.iter().filter_map(|file| file.strip_suffix(CHANNEL));
        let mut names: Vec<_> = names.map(str::to_string).collect();
        // `a` comes before `a-b`, but `a-b.channel` before `a.channel`.
        names.sort();
        Ok(names)
    }

    /// Whether nothing in it needs the roster: in a domain there is nothing but it and what
    /// [`TEMPORARY`] ends; elsewhere, what is no store is none of our business.
    pub(crate) fn is_unused(&self) -> bool {
        let counts = |name: &String| match self.domain {
            Some(_) => name != ROSTER && !name.ends_with(TEMPORARY),
            None => name.ends_with(STORE),
        };
        self.list().is_ok_and(|names| !names.iter().any(counts))
    }

    /// Removes files that were not finished, because their makers were killed. For one who knows
    /// that nobody makes any.
    pub(crate) fn remove_temporaries(&self) {
        if self.domain.is_none() {
            return;
        }
        for name in self.list().unwrap_or_default() {
            if name.ends_with(TEMPORARY) {
                let _ = rustix::fs::unlinkat(&self.fd, name, rustix::fs::AtFlags::empty());
            }
        }
    }

    /// Whether nothing of what was listed is more than a process leaves that is killed before it
    /// makes the roster.
    pub(crate) fn nobody_came(names: &[String]) -> bool {
        names.iter().all(|name| name.ends_with(TEMPORARY))
    }

    /// Whether somebody removed the directory that we have open.
    pub(crate) fn was_removed(&self) -> bool {
        rustix::fs::fstat(&self.fd).is_ok_and(|stat| stat.st_nlink == 0)
    }

    /// Whether it was made or changed just now, so that whoever did it may be about to join. Else he
    /// might lose to one who removes it again and again.
    pub(crate) fn is_new(&self) -> bool {
        rustix::fs::fstat(&self.fd).is_ok_and(|stat| is_recent(stat.st_mtime as u64))
    }

    /// Removes a domain's directory if it is empty, and the user's if that is empty then.
    pub(crate) fn remove_if_empty(&self) -> Result<()> {
        if self.domain.is_none() {
            return Ok(());
        }
        let removed = rustix::fs::rmdir(&self.path);
        if let Some(base) = self.path.parent() {
            let _ = std::fs::remove_dir(base);
        }
        match removed {
            // Somebody came, or was faster.
            Ok(()) | Err(Errno::NOTEMPTY | Errno::EXIST | Errno::NOENT) => Ok(()),
            Err(e) => Err(Error::io(&self.path, e)),
        }
    }
}

/// The domains of this user, sorted. None is not an error.
pub(crate) fn list_domains() -> Result<Vec<String>> {
    let base = base();
    match open_checked(CWD, &base, &base) {
        Ok(fd) => list(fd.as_fd(), &base),
        Err(Error::Io { source, .. }) if is_gone(&source) => Ok(Vec::new()),
        Err(e) => Err(e),
    }
}

fn list(fd: BorrowedFd<'_>, path: &Path) -> Result<Vec<String>> {
    let entries = rustix::fs::Dir::read_from(fd).map_err(|e| Error::io(path, e))?;
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|e| Error::io(path, e))?;
        // What is no UTF-8 is no name of ours, and is there all the same.
        let name = entry.file_name().to_string_lossy();
        if name != "." && name != ".." {
            names.push(name.into_owned());
        }
    }
    names.sort();
    Ok(names)
}

fn make(at: BorrowedFd<'_>, name: &Path, path: &Path) -> Result<()> {
    match rustix::fs::mkdirat(at, name, Mode::RWXU) {
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(e) => Err(Error::io(path, e)),
    }
}

/// Opens a directory that is ours alone.
fn open_checked(at: BorrowedFd<'_>, name: &Path, path: &Path) -> Result<OwnedFd> {
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::RDONLY;
    let fd = match rustix::fs::openat(at, name, flags, Mode::empty()) {
        Ok(fd) => fd,
        Err(Errno::LOOP | Errno::NOTDIR) => {
            return Err(Error::refused(path, "it is not a directory"));
        }
        Err(Errno::ACCESS) => return Err(Error::refused(path, "permission denied")),
        Err(e) => return Err(Error::io(path, e)),
    };
    let stat = rustix::fs::fstat(&fd).map_err(|e| Error::io(path, e))?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
        return Err(Error::refused(path, "it is not a directory"));
    }
    check_owner(&stat).map_err(|why| Error::refused(path, why))?;
    Ok(fd)
}

/// Whether that many seconds since the epoch are less than two ago. A clock that was set is no
/// reason to wait.
pub(crate) fn is_recent(seconds: u64) -> bool {
    let now = std::time::UNIX_EPOCH
        .elapsed()
        .map_or(0, |now| now.as_secs());
    now.checked_sub(seconds).is_some_and(|age| age < 2)
}

fn is_gone(error: &std::io::Error) -> bool {
    error.raw_os_error() == Some(Errno::NOENT.raw_os_error())
}

fn not_found(error: Error, domain: &str) -> Error {
    match error {
        Error::Io { source, .. } if is_gone(&source) => Error::NotFound {
            name: domain.to_string(),
        },
        other => other,
    }
}
