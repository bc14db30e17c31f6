//! One mapped file: made, opened, checked, lent out as a header and words.
//!
//! A segment is made without a name (`O_TMPFILE`), given all its pages (`fallocate`, then
//! `MADV_POPULATE_WRITE`), initialised, and only then linked: no opener ever sees half a segment,
//! and a full file system is an error here and not a SIGBUS later.
//!
//! The obligation of the `unsafe` here: what is lent out lies within the mapping, is aligned, and
//! is atomics only; whoever lends keeps the segment.
#![allow(unsafe_code)]

use crate::domain::{Directory, TEMPORARY};
use crate::error::{Error, Result, display};
use crate::layout::{
    self, ChannelHeader, DOOR, HEAP, Kind, MAGIC, PAGE, Prologue, RosterHeader, RuntimeHeader,
    StoreDoor, StoreHeader,
};
use crate::sync::{AtomicU64, Ordering::Relaxed};
use core::ptr::NonNull;
use memmap2::{Advice, MmapOptions, MmapRaw};
use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, FallocateFlags, FileType, Mode, OFlags, Stat, StatFs};
use rustix::io::Errno;
use zerocopy::IntoBytes;

/// A struct that may be laid over the start of a segment.
///
/// # Safety
/// It is `repr(C)`, consists of atomics only, and needs no more than page alignment.
pub(crate) unsafe trait Header {}
// SAFETY: all fields are atomics or arrays and `repr(C)` structs of them.
unsafe impl Header for Prologue {}
// SAFETY: as above.
unsafe impl Header for ChannelHeader {}
// SAFETY: as above.
unsafe impl Header for RosterHeader {}
// SAFETY: as above.
unsafe impl Header for RuntimeHeader {}
// SAFETY: as above.
unsafe impl Header for StoreHeader {}

/// How a file may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// Only with Relaxed loads: more is not promised on a read-only mapping.
    Read,
    Write,
}

/// How large a file is made, and how large it may become: 0 if it does not grow. All of it is
/// mapped at once, so that a growing one stays where it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Size {
    pub(crate) bytes: u64,
    pub(crate) reach: u64,
}

impl Size {
    pub(crate) fn fixed(bytes: u64) -> Self {
        Size { bytes, reach: 0 }
    }
}

/// A mapped file whose prologue was checked when it was opened.
#[derive(Debug)]
pub(crate) struct Segment {
    map: MmapRaw,
    name: String,
    path: String,
    inode: (u64, u64),
    /// All that the file may ever be is mapped.
    is_whole: bool,
}

/// Why a file could not be linked: its name is taken.
pub(crate) struct NameTaken;

impl Segment {
    /// Makes a segment of that size (a multiple of the page), lets `init` fill it in, and links it
    /// as `name`.
    pub(crate) fn create(
        directory: &Directory,
        name: &str,
        kind: Kind,
        size: Size,
        roster: u64,
        init: impl FnOnce(&Segment),
    ) -> Result<core::result::Result<Segment, NameTaken>> {
        let path = directory.file(name);
        let failed = |call, e| match e {
            e if is_full(e) => no_space(directory, size.bytes, u64::MAX),
            e => Error::of_call(call, &path, e),
        };
        let made = make_nameless(directory);
        let (file, temporary) = made.map_err(|(call, e)| failed(call, e))?;
        let made = || -> Result<Segment> {
            // The umask may have taken bits from the mode.
            rustix::fs::fchmod(&file, Mode::RUSR | Mode::WUSR).map_err(|e| Error::io(&path, e))?;
            reserve(&file, 0, size.bytes).map_err(|e| failed("fallocate", e))?;
            let segment = Segment::map(&file, name, &path, size, Access::Write)?;
            let populated = segment.populate(0, size.bytes);
            populated.map_err(|e| Error::of_call(POPULATE, &path, e))?;
            let prologue = segment.header::<Prologue>();
            prologue
                .version
                .store(u64::from(layout::VERSION) | (kind as u64) << 32, Relaxed);
            prologue.size.store(size.bytes, Relaxed);
            prologue.reach.store(size.reach, Relaxed);
            prologue.roster.store(roster, Relaxed);
            prologue.magic.store(MAGIC, Relaxed);
            init(&segment);
            Ok(segment)
        };
        let linked =
            made().and_then(
                |segment| match link(directory, &file, temporary.as_deref(), name) {
                    Ok(()) => Ok(Ok(segment)),
                    Err(Errno::EXIST) => Ok(Err(NameTaken)),
                    Err(e) if temporary.is_some() => Err(failed("renameat2", e)),
                    Err(e) => Err(failed("linkat", e)),
                },
            );
        if let (Some(temporary), false) = (temporary, matches!(linked, Ok(Ok(_)))) {
            let _ = rustix::fs::unlinkat(directory, &*temporary, AtFlags::empty());
        }
        linked
    }

    /// Opens `name`, refusing whatever is not a segment of ours and of `kind`; touches nothing.
    /// Without a kind, of any kind and layout version: then only the prologue means anything.
    pub(crate) fn open(directory: &Directory, name: &str, kind: Option<Kind>) -> Result<Segment> {
        Segment::open_with_file(directory, name, kind, Access::Write).map(|(segment, _)| segment)
    }

    /// The same, with the file: the mapping does not need it, a lock does, and growing.
    pub(crate) fn open_with_file(
        directory: &Directory,
        name: &str,
        kind: Option<Kind>,
        access: Access,
    ) -> Result<(Segment, OwnedFd)> {
        let path = directory.file(name);
        let mode = match access {
            Access::Read => OFlags::RDONLY,
            Access::Write => OFlags::RDWR,
        };
        // NONBLOCK: opening a FIFO must not wait for its writer.
        let flags = mode | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
        let file = match rustix::fs::openat(directory, name, flags, Mode::empty()) {
            Ok(file) => file,
            Err(Errno::NOENT) => {
                return Err(Error::NotFound {
                    name: name.to_string(),
                });
            }
            Err(Errno::LOOP) => return Err(Error::refused(path, "it is a symbolic link")),
            Err(Errno::ISDIR) => return Err(Error::refused(path, "it is a directory")),
            Err(Errno::NXIO) => return Err(Error::refused(path, "it is not a regular file")),
            Err(Errno::ACCESS) => return Err(Error::refused(path, "permission denied")),
            Err(e) => return Err(Error::io(path, e)),
        };
        let stat = rustix::fs::fstat(&file).map_err(|e| Error::io(&path, e))?;
        if stat.st_nlink == 0 {
            return Err(Error::NotFound {
                name: name.to_string(),
            });
        }
        check_file(&stat).map_err(|why| Error::refused(&path, why))?;
        let size = stat.st_size as u64;
        if size < PAGE as u64 || size % PAGE as u64 != 0 {
            return Err(Error::refused(path, "it is no segment, or was truncated"));
        }
        let [magic, version, stated_size, _, _, _, reach] =
            read_prologue(&file).map_err(|e| Error::io(&path, e))?;
        if magic != MAGIC {
            return Err(Error::refused(path, "it is no segment"));
        }
        if let Some(kind) = kind {
            if version as u32 != layout::VERSION {
                return Err(Error::Layout {
                    path,
                    expected: layout::VERSION,
                    found: version as u32,
                });
            }
            if version >> 32 != kind as u64 {
                return Err(Error::refused(path, "it is a segment of another kind"));
            }
            let is_right = match reach {
                0 => stated_size == size && kind != Kind::Store,
                _ => stated_size <= size && size <= reach && kind == Kind::Store,
            };
            if !is_right || size.max(reach) > kind.most_bytes() || reach % PAGE as u64 != 0 {
                return Err(Error::refused(path, "its size is not what its header says"));
            }
        }
        // Of a file that may be anything, no more is mapped than what will be looked at.
        let size = match kind {
            Some(_) => Size { bytes: size, reach },
            None => Size::fixed(PAGE as u64),
        };
        let segment = Segment::map(&file, name, &path, size, access)?;
        // One that grows may be large, and most of it not be wanted here.
        if access == Access::Write && size.reach == 0 {
            let populated = segment.populate(0, size.bytes);
            populated.map_err(|e| Error::of_call(POPULATE, &path, e))?;
        }
        Ok((segment, file))
    }

    fn map(file: &OwnedFd, name: &str, path: &str, size: Size, access: Access) -> Result<Segment> {
        use std::os::fd::AsRawFd;
        let stat = rustix::fs::fstat(file).map_err(|e| Error::io(path, e))?;
        let mut len = size.bytes.max(size.reach);
        let map = loop {
            let mut options = MmapOptions::new();
            let bytes = usize::try_from(len).map_err(|_| Error::refused(path, "it is too large"));
            options.len(bytes?);
            let map = match access {
                Access::Write => options.map_raw(file.as_raw_fd()),
                Access::Read => options.map_raw_read_only(file.as_raw_fd()),
            };
            match map {
                Ok(map) => break map,
                // A limit on address space, or on locked memory: less of what is not there yet.
                Err(e) if len > size.bytes && is_short_of_memory(&e) => {
                    len = (len / 2).next_multiple_of(PAGE as u64).max(size.bytes);
                }
                Err(e) => return Err(Error::io(path, e)),
            }
        };
        // Segments would only make a core dump large and dying slow. A refusal costs no more.
        let _ = map.advise(Advice::DontDump);
        Ok(Segment {
            map,
            name: name.to_string(),
            path: path.to_string(),
            inode: (stat.st_dev, stat.st_ino),
            is_whole: len == size.bytes.max(size.reach),
        })
    }

    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    pub(crate) fn size(&self) -> u64 {
        self.map.len() as u64
    }

    /// Whether all that the file may ever be is mapped: a limit on address space may be in the way.
    pub(crate) fn is_whole(&self) -> bool {
        self.is_whole
    }

    pub(crate) fn inode(&self) -> (u64, u64) {
        self.inode
    }

    /// The header at the start.
    #[inline]
    pub(crate) fn header<H: Header>(&self) -> &H {
        assert!(size_of::<H>() <= self.map.len());
        // SAFETY: it lies within the mapping (just checked), a mapping is page-aligned, and `H`
        // is atomics only. The mapping lives as long as `self`.
        unsafe { &*self.map.as_ptr().cast::<H>() }
    }

    /// The `len` bytes of words at `offset`, both multiples of 8.
    pub(crate) fn words(&self, offset: u64, len: u64) -> NonNull<AtomicU64> {
        assert!(offset % 8 == 0 && len % 8 == 0);
        assert!(
            offset
                .checked_add(len)
                .is_some_and(|end| end <= self.size())
        );
        // SAFETY: the offset lies within the mapping, as just checked.
        let at = unsafe { self.map.as_mut_ptr().add(offset as usize) };
        NonNull::new(at.cast()).expect("a mapping is not at address 0")
    }

    /// The door of a store, which has its words beside the header.
    pub(crate) fn door(&self) -> &StoreDoor {
        assert!(self.map.len() >= HEAP);
        // SAFETY: it lies within the mapping (just checked) at a multiple of the page, and is
        // atomics only. The mapping lives as long as `self`.
        unsafe { &*self.map.as_ptr().add(DOOR).cast::<StoreDoor>() }
    }

    /// Gives the file the bytes `from..to`, with all their pages.
    pub(crate) fn grow(&self, file: &OwnedFd, from: u64, to: u64) -> std::io::Result<()> {
        if to > self.size() {
            return Err(Errno::FBIG.into());
        }
        reserve(file, from, to - from)?;
        self.populate(from, to - from)
    }

    /// Faults pages in. A page that is not to be had is an error here, not a signal later.
    fn populate(&self, from: u64, len: u64) -> std::io::Result<()> {
        let range = self
            .map
            .advise_range(Advice::PopulateWrite, from as usize, len as usize);
        match range {
            // Before Linux 5.14: the pages are reserved, and are faulted in as they are touched.
            Err(e) if e.raw_os_error() == Some(libc::EINVAL) => Ok(()),
            other => other,
        }
    }

    /// Writes all changes to the disk, if that is where the file lies.
    pub(crate) fn sync(&self, len: u64) -> Result<()> {
        let len = len.min(self.size()) as usize;
        self.map
            .flush_range(0, len)
            .map_err(|e| Error::io(&self.path, e))
    }

    /// Whether our file is still the one of that name. An error says neither.
    pub(crate) fn is_linked(&self, directory: &Directory) -> Result<bool> {
        match rustix::fs::statat(directory, &*self.name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok((stat.st_dev, stat.st_ino) == self.inode),
            Err(Errno::NOENT) => Ok(false),
            Err(e) => Err(Error::io(&self.path, e)),
        }
    }

    /// Removes the name, if it still names our file.
    pub(crate) fn unlink(&self, directory: &Directory) -> Result<()> {
        if !self.is_linked(directory)? {
            return Ok(());
        }
        match rustix::fs::unlinkat(directory, &*self.name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(e) => Err(Error::io(&self.path, e)),
        }
    }
}

/// A file or directory of this user that nobody else may touch.
pub(crate) fn check_owner(stat: &Stat) -> core::result::Result<(), &'static str> {
    if stat.st_uid != rustix::process::geteuid().as_raw() {
        return Err("it belongs to another user");
    }
    if stat.st_mode & 0o077 != 0 {
        return Err("others may access it");
    }
    Ok(())
}

fn check_file(stat: &Stat) -> core::result::Result<(), &'static str> {
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => {}
        FileType::Directory => return Err("it is a directory"),
        _ => return Err("it is not a regular file"),
    }
    check_owner(stat)?;
    if stat.st_nlink != 1 {
        Err("it has several names")
    } else {
        Ok(())
    }
}

/// The first words of a [`Prologue`]. Read, not mapped: a mapping that is populated fills the
/// holes of a file that may not be ours, and changes its times.
fn read_prologue(file: &OwnedFd) -> rustix::io::Result<[u64; 7]> {
    let mut words = [0; 7];
    let bytes = words.as_mut_bytes();
    match rustix::io::pread(file, &mut *bytes, 0) {
        // Cut short meanwhile: what is missing is zero, which is no magic.
        Ok(_) => Ok(words),
        Err(e) => Err(e),
    }
}

/// What [`Segment::populate`] calls, for messages.
const POPULATE: &str = "madvise(MADV_POPULATE_WRITE)";

/// A file without a name; where the file system has no such thing, one with a random name. An error
/// comes with the call that failed.
fn make_nameless(
    directory: &Directory,
) -> core::result::Result<(OwnedFd, Option<String>), (&'static str, Errno)> {
    let mode = Mode::RUSR | Mode::WUSR;
    let flags = OFlags::RDWR | OFlags::CLOEXEC;
    match rustix::fs::openat(directory, ".", flags | OFlags::TMPFILE, mode) {
        Ok(file) => Ok((file, None)),
        Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL) => {
            let random = crate::sys::random_nonzero().map_err(|_| ("getrandom", Errno::AGAIN))?;
            let name = format!(".{random:016x}{TEMPORARY}");
            let file = rustix::fs::openat(
                directory,
                &*name,
                flags | OFlags::CREATE | OFlags::EXCL,
                mode,
            )
            .map_err(|e| ("", e))?;
            Ok((file, Some(name)))
        }
        Err(e) => Err(("openat(O_TMPFILE)", e)),
    }
}

fn link(
    directory: &Directory,
    file: &OwnedFd,
    temporary: Option<&str>,
    name: &str,
) -> rustix::io::Result<()> {
    use std::os::fd::AsRawFd;
    match temporary {
        None => {
            let of_file = format!("/proc/self/fd/{}", file.as_raw_fd());
            rustix::fs::linkat(
                rustix::fs::CWD,
                of_file,
                directory,
                name,
                AtFlags::SYMLINK_FOLLOW,
            )
        }
        Some(temporary) => rustix::fs::renameat_with(
            directory,
            temporary,
            directory,
            name,
            rustix::fs::RenameFlags::NOREPLACE,
        ),
    }
}

/// Gives the file its pages now.
fn reserve(file: &OwnedFd, from: u64, len: u64) -> rustix::io::Result<()> {
    let (mut at, end) = (from, from + len);
    let mut piece = len;
    while at < end {
        let len = piece.min(end - at);
        match rustix::fs::fallocate(file, FallocateFlags::empty(), at, len) {
            Ok(()) => at += len,
            // A signal. Before Linux 6.11 a tmpfs takes all pages of that call back, so a timer could
            // keep us here; of a smaller piece it cannot.
            Err(Errno::INTR) => piece = (piece / 2).next_multiple_of(PAGE as u64),
            Err(Errno::OPNOTSUPP) => return write_zeros(file, at, end - at),
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// Gives the file its pages where the file system has no call for that. Nothing is there yet.
fn write_zeros(file: &OwnedFd, from: u64, len: u64) -> rustix::io::Result<()> {
    let (mut at, end) = (from, from + len);
    while at < end {
        let piece = (end - at).min(PAGE as u64) as usize;
        match rustix::io::pwrite(file, &[0; PAGE][..piece], at) {
            Ok(written) => at += written as u64,
            Err(Errno::INTR) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

fn is_full(error: Errno) -> bool {
    matches!(
        error,
        Errno::NOSPC | Errno::DQUOT | Errno::FBIG | Errno::NOMEM
    )
}

/// The error of a directory where no more than `most` bytes may be had, even if more are free.
pub(crate) fn no_space(directory: &Directory, needed: u64, most: u64) -> Error {
    let free = rustix::fs::fstatvfs(directory).map_or(0, |fs| match (fs.f_files, fs.f_favail) {
        // No byte is to be had without a file; some file systems do not count theirs.
        (1.., 0) => 0,
        _ => fs.f_bavail * fs.f_frsize,
    });
    Error::NoSpace {
        path: display(directory.path()),
        needed,
        free: free.min(most),
    }
}

pub(crate) fn is_tmpfs(fs: StatFs) -> bool {
    const TMPFS_MAGIC: u64 = 0x0102_1994;
    fs.f_type as u64 == TMPFS_MAGIC
}

fn is_short_of_memory(error: &std::io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOMEM | libc::EAGAIN))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_written_where_they_cannot_be_reserved() {
        let flags = OFlags::RDWR | OFlags::TMPFILE | OFlags::CLOEXEC;
        let file = rustix::fs::open("/dev/shm", flags, Mode::RUSR | Mode::WUSR).unwrap();
        for (from, len) in [(0, 3 * PAGE as u64), (3 * PAGE as u64, 5000)] {
            write_zeros(&file, from, len).unwrap();
            let stat = rustix::fs::fstat(&file).unwrap();
            assert_eq!(stat.st_size as u64, from + len);
            assert!(stat.st_blocks as u64 * 512 >= from + len);
        }
    }
}
