//! The directory in which the domains lie or would lie, and what its file system can do.

use super::{Finding, Severity, Space, space};
use crate::channel::DEFAULT_CAPACITY;
use crate::domain;
use crate::error::display;
use crate::layout::PAGE;
use crate::segment::is_tmpfs;
use crate::sys;
use rustix::fd::{AsFd, AsRawFd, OwnedFd};
use rustix::fs::{Access, AtFlags, CWD, FallocateFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;
use std::path::Path;

/// What the two channels of a child take if nothing is said.
const OF_A_CHILD: u64 = 2 * (PAGE as u64 + 2 * DEFAULT_CAPACITY as u64);
/// The size that Docker gives `/dev/shm` if nothing is said.
const SMALL: u64 = 64 << 20;

const ELSEWHERE: &str = "set RINGLANE_DIR to a directory on a tmpfs that is right";

/// Severity, text and remedy.
type Told = (Severity, String, &'static str);

pub(super) fn examine() -> Vec<Finding> {
    let base = domain::base();
    let place = base.parent().unwrap_or(&base);
    let finding =
        |(severity, text, remedy): Told| Finding::new(severity, &display(place), text, remedy);
    let stat = rustix::fs::stat(place).ok();
    let is_directory = |stat: &Stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
    let Some(stat) = stat.filter(is_directory) else {
        let told = "there is no such directory".to_string();
        return vec![finding((Severity::Error, told, ELSEWHERE))];
    };
    let used = if base.exists() { &base } else { place };
    let mut told: Vec<Told> = Vec::new();
    told.extend(of_mode(&stat));
    if !rustix::fs::statfs(place).is_ok_and(is_tmpfs) {
        told.push((
            Severity::Warning,
            "it is on no tmpfs, so the kernel writes what passes through to a disk, and may let \
             processes wait for it"
                .to_string(),
            ELSEWHERE,
        ));
    }
    told.extend(of_space(space()));
    told.extend(of_files(used));
    told.into_iter().map(finding).collect()
}

fn of_mode(stat: &Stat) -> Option<Told> {
    let mode = stat.st_mode & 0o7777;
    let anybody_may_remove = mode & 0o1002 == 0o0002;
    anybody_may_remove.then(|| {
        (
            Severity::Warning,
            format!("its mode is {mode:o}, so everybody may remove what others have in it"),
            "`chmod +t` it, as /dev/shm should be",
        )
    })
}

fn of_space(Space { size, free }: Space) -> Option<Told> {
    // Not told, or without a limit.
    if size == 0 {
        return None;
    }
    let remedy = "make it larger, with Docker by `--shm-size`; or remove what is not needed";
    let used = (size - free.min(size)) as f64 / size as f64 * 100.0;
    if free < OF_A_CHILD {
        let text = format!("{free} bytes of {size} are free, and a child takes {OF_A_CHILD}");
        Some((Severity::Warning, text, remedy))
    } else if free < size / 10 {
        let text = format!("it is nearly full: {used:.0} % of {size} bytes are in use");
        Some((Severity::Warning, text, remedy))
    } else if size <= SMALL {
        let children = free / OF_A_CHILD;
        let text = format!(
            "it has {size} bytes: room for the channels of {children} more children, as they are \
             if nothing is said"
        );
        Some((
            Severity::Note,
            text,
            "more, with Docker by `--shm-size`, if that is too little",
        ))
    } else {
        None
    }
}

/// What files in it can do. Of the file that is opened for it nobody sees anything: it has no name.
fn of_files(place: &Path) -> Vec<Told> {
    let may = rustix::fs::accessat(
        CWD,
        place,
        Access::WRITE_OK | Access::EXEC_OK,
        AtFlags::EACCESS,
    );
    if let Err(e @ (Errno::ACCESS | Errno::ROFS)) = may {
        let text = format!("this user cannot make anything in {}: {e}", display(place));
        return vec![(Severity::Error, text, ELSEWHERE)];
    }
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    let file = match rustix::fs::open(place, flags, Mode::RUSR | Mode::WUSR) {
        Ok(file) => file,
        Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL) => {
            return vec![(
                Severity::Note,
                "there are no files without a name (O_TMPFILE): whoever is killed while it makes \
                 a segment leaves a file, which goes with its domain"
                    .to_string(),
                ELSEWHERE,
            )];
        }
        Err(e) => {
            let text = format!("no file can be made in {}: {e}", display(place));
            return vec![(Severity::Error, text, ELSEWHERE)];
        }
    };
    of_file(&file, place)
}

fn of_file(file: &OwnedFd, place: &Path) -> Vec<Told> {
    let mut told = Vec::new();
    match rustix::fs::fallocate(file, FallocateFlags::empty(), 0, PAGE as u64) {
        Err(Errno::OPNOTSUPP) => told.push((
            Severity::Note,
            "there is no `fallocate`: the pages of a segment are reserved by writing them"
                .to_string(),
            ELSEWHERE,
        )),
        Err(e) if e != Errno::INTR => {
            let text = format!("not a page of a file can be had: {e}");
            told.push((Severity::Error, text, ELSEWHERE));
        }
        _ => {}
    }
    if let Err(e) = sys::lock_byte(file.as_fd(), 0) {
        let text = format!("files cannot be locked (OFD locks), so nobody can tell who lives: {e}");
        told.push((
            Severity::Error,
            text,
            "a newer kernel or another file system",
        ));
    }
    // To a name that is there already: all is asked for, and nothing is made.
    let of_file = format!("/proc/self/fd/{}", file.as_raw_fd());
    let there = place.join(".");
    match rustix::fs::linkat(CWD, of_file, CWD, there, AtFlags::SYMLINK_FOLLOW) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(e) => {
            let text = format!("a file without a name cannot be given one through /proc: {e}");
            told.push((
                Severity::Error,
                text,
                "mount /proc; a sandbox may have to allow `linkat`",
            ));
        }
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_little_room_is_told() {
        let severity = |size, free| of_space(Space { size, free }).map(|told| told.0);
        let gib = 1 << 30;
        assert_eq!(severity(0, 0), None);
        assert_eq!(severity(gib, gib / 2), None);
        assert_eq!(severity(gib, gib / 11), Some(Severity::Warning));
        assert_eq!(severity(SMALL, SMALL), Some(Severity::Note));
        assert_eq!(severity(SMALL, OF_A_CHILD - 1), Some(Severity::Warning));
        // What cannot be, and may be said all the same.
        assert_eq!(severity(gib, 2 * gib), None);
    }
}
