//! Removes what the dead left: a domain in which nobody lives.

use crate::domain::{CHANNEL, Directory, ROSTER, RUNTIME, STORE, TEMPORARY};
use crate::error::{Error, Result};
use crate::layout::Prologue;
use crate::roster::Abandoned;
use crate::segment::{Access, Segment};
use crate::sync::Ordering::Relaxed;

/// Removes a domain in which no process lives, with all that lies in it: **undelivered messages and
/// stores are lost**.
///
/// Most domains go by themselves, when the last process leaves in order, and what a killed process
/// left is for its successor. This is for a domain that nobody will start again.
/// [`inspect::doctor`](crate::inspect::doctor) tells which ones are abandoned, and changes nothing.
///
/// It is all or nothing, and it can be called at any time: whoever is about to join waits for it,
/// and then makes the domain anew. A stopped process is alive, and so is one in another pid
/// namespace that can be seen by its lock only. A read-only handle of a store is nobody: it keeps
/// what it has open, without a name.
///
/// ```
/// # let domain = format!("doc-remove-{}", std::process::id());
/// use ringlane::{Channel, Error, Store};
///
/// let store = Store::options().domain(&domain).create("settings")?;
/// store.set("volume", &11u32)?;
/// match ringlane::remove_domain(&domain) {
///     Err(Error::DomainInUse { pid, .. }) => assert_eq!(pid, std::process::id()),
///     other => panic!("{other:?}"),
/// }
/// drop(store); // now nobody is there, but the store still is
/// ringlane::remove_domain(&domain)?;
/// assert!(Store::options().domain(&domain).open("settings").is_err());
/// # Ok::<(), ringlane::Error>(())
/// ```
///
/// # Errors
/// `NotFound`, `BadName`; `DomainInUse` with the pid of who lives in it, if it is known, and for two
/// seconds of a domain that was just made and nobody joined yet; `Refused`,
/// `Layout`, `ForeignRoster` or `Io` with a file or directory of which it cannot be told whose it
/// is. Then nothing was removed. `Io` too if the system refuses to remove a file or the directory;
/// the files before it are gone then.
pub fn remove_domain(name: &str) -> Result<()> {
    let mut rounds = 0;
    let abandoned = loop {
        match Abandoned::take(Directory::open(name)?) {
            Err(Error::NotFound { .. }) => {}
            other => break other?,
        }
        // No roster; or it came or went meanwhile, and the next round tells.
        let directory = Directory::open(name)?;
        let names = directory.list()?;
        let in_use = || Error::DomainInUse {
            domain: name.to_string(),
            pid: 0,
        };
        match Directory::nobody_came(&names) {
            // What somebody killed while joining leaves, or one who is about to go on.
            true if directory.is_new() => return Err(in_use()),
            true => {
                directory.remove_temporaries();
                directory.remove_if_empty()?;
                return match directory.was_removed() {
                    true => Ok(()),
                    false => Err(in_use()),
                };
            }
            false if names.iter().any(|name| name == ROSTER) => {}
            false => {
                rounds += 1;
                if rounds == 3 {
                    let why = "without a roster nobody can tell who lives in it";
                    return Err(Error::refused(directory.path(), why));
                }
            }
        }
    };
    let directory = abandoned.directory();
    let mut segments = Vec::new();
    for file in directory.list()? {
        if file == ROSTER || file.ends_with(TEMPORARY) {
            continue;
        }
        if file != RUNTIME && !file.ends_with(CHANNEL) && !file.ends_with(STORE) {
            let why = "it is no file of this library";
            return Err(Error::refused(directory.file(&file), why));
        }
        let (segment, _) = Segment::open_with_file(directory, &file, None, Access::Read)?;
        // Whoever has it open came by another roster, and whether he lives nobody can tell.
        if segment.header::<Prologue>().roster.load(Relaxed) != abandoned.id() {
            return Err(Error::ForeignRoster {
                path: segment.path().to_string(),
            });
        }
        segments.push(segment);
    }
    // The roster last: should we be killed, what is left is a domain like any other.
    for segment in &segments {
        segment.unlink(directory)?;
    }
    abandoned.retire()
}
