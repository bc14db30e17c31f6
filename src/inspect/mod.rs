//! Read-only pictures of domains: who runs, what the channels hold, and what is wrong.
//!
//! A picture is made of the bytes in the segments and of nothing that a process would have to
//! answer. So it can be had while the owners run, while they are stopped, and when they are dead,
//! until the next start sweeps what they left. It disturbs nobody: the segments are mapped
//! read-only, no lock is taken, no end is claimed, nobody is woken.
//!
//! What the files hold is not trusted. A file that is no segment, or not a sound one, becomes a
//! [`Finding`], and the rest of the picture is not less for it. Only a process that truncates a
//! segment while it is looked at can do harm, as it can to everyone who has the segment mapped.
//!
//! The parts of a picture are read one after the other, so numbers of a channel in use need not
//! add up.
//!
//! ```
//! # let domain = format!("doc-inspect-{}", std::process::id());
//! use ringlane::{Channel, inspect};
//!
//! let mut host = Channel::<str>::options().domain(&domain).create("greetings")?;
//! host.send("hello")?;
//!
//! let picture = inspect::SnapshotOptions::new().domain(&domain).payload_bytes(16).take()?;
//! let channel = &picture.domains[0].channels[0];
//! assert_eq!((channel.name.as_str(), channel.type_name.as_str()), ("greetings", "str"));
//! assert_eq!(channel.host.pid, Some(std::process::id()));
//! assert_eq!(channel.guest.state, inspect::EndState::Absent);
//! assert_eq!(channel.directions[0].undelivered, 1);
//! assert_eq!(channel.directions[0].messages[0].bytes, b"hello");
//! # Channel::<str>::options().domain(&domain).open("greetings")?.recv()?;
//! # Ok::<(), ringlane::Error>(())
//! ```
//!
//! With the feature `serde`, everything here is `Serialize`. The example `dump` prints a picture as
//! a table or as JSON.
mod direction;
mod doctor;
mod findings;
mod logind;
mod machine;
mod picture;
mod place;
mod reader;
mod store;

pub use doctor::doctor;
pub use findings::{Finding, Severity};
pub use picture::*;

use crate::domain::{self, Directory};
use crate::error::{Error, Result, display};
use crate::layout;
use reader::read_domain;

/// Takes a picture of all domains of this user. None is not an error.
///
/// ```
/// let picture = ringlane::inspect::snapshot()?;
/// for domain in &picture.domains {
///     println!("{}: {} channels", domain.name, domain.channels.len());
/// }
/// # Ok::<(), ringlane::Error>(())
/// ```
///
/// # Errors
/// `Refused` or `Io` if the directory of the domains cannot be read.
pub fn snapshot() -> Result<Snapshot> {
    SnapshotOptions::new().take()
}

/// Takes a picture of one domain.
///
/// ```
/// # let domain = format!("doc-snapshot-{}", std::process::id());
/// use ringlane::{Channel, inspect};
///
/// let channel = Channel::<u64>::options().domain(&domain).create("samples")?;
/// let picture = inspect::snapshot_domain(&domain)?;
/// assert_eq!(picture.channels[0].name, "samples");
/// assert_eq!(picture.channels[0].codec, "plain");
/// assert!(picture.main.is_none());
/// # Ok::<(), ringlane::Error>(())
/// ```
///
/// # Errors
/// `BadName`, `NotFound`, and `Refused` or `Io` if its directory cannot be read.
pub fn snapshot_domain(name: &str) -> Result<DomainInfo> {
    read_domain(&Directory::open(name)?, &SnapshotOptions::new())
}

/// What to take a picture of.
///
/// ```
/// use ringlane::inspect::SnapshotOptions;
///
/// let picture = SnapshotOptions::new().payload_bytes(32).max_messages(10).take()?;
/// # Ok::<(), ringlane::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct SnapshotOptions {
    domain: Option<String>,
    payload_bytes: usize,
    max_messages: usize,
    max_entries: usize,
    /// Whether stores are walked through. It takes time.
    verify: bool,
}

impl Default for SnapshotOptions {
    fn default() -> Self {
        Self::new()
    }
}

impl SnapshotOptions {
    /// All domains, and no payloads.
    pub fn new() -> Self {
        SnapshotOptions {
            domain: None,
            payload_bytes: 0,
            max_messages: 64,
            max_entries: 64,
            verify: false,
        }
    }

    /// Of this domain only, which must be there.
    pub fn domain(mut self, name: &str) -> Self {
        self.domain = Some(name.to_string());
        self
    }

    /// With the first `bytes` of each undelivered message and each value shown; 0, the default, for
    /// none.
    pub fn payload_bytes(mut self, bytes: usize) -> Self {
        self.payload_bytes = bytes;
        self
    }

    /// Of at most so many messages of each direction; 64 if nothing is said.
    pub fn max_messages(mut self, count: usize) -> Self {
        self.max_messages = count;
        self
    }

    /// With at most so many entries of each store; 64 if nothing is said.
    pub fn max_entries(mut self, count: usize) -> Self {
        self.max_entries = count;
        self
    }

    /// Takes the picture.
    ///
    /// # Errors
    /// As [`snapshot`] without a domain, as [`snapshot_domain`] with one.
    pub fn take(&self) -> Result<Snapshot> {
        let mut findings = Vec::new();
        let domains = match &self.domain {
            Some(name) => vec![read_domain(&Directory::open(name)?, self)?],
            None => self.read_all(&mut findings)?,
        };
        Ok(Snapshot {
            library: env!("CARGO_PKG_VERSION"),
            layout: layout::VERSION,
            directory: display(domain::base()),
            space: space(),
            domains,
            findings,
        })
    }

    fn read_all(&self, findings: &mut Vec<Finding>) -> Result<Vec<DomainInfo>> {
        let mut domains = Vec::new();
        for name in domain::list_domains()? {
            match Directory::open(&name).and_then(|directory| read_domain(&directory, self)) {
                Ok(domain) => domains.push(domain),
                // Gone since it was listed.
                Err(Error::NotFound { .. }) => {}
                Err(e) => findings.push(Finding::of_error(&name, &e)),
            }
        }
        Ok(domains)
    }
}

/// The file system of the domains, whether there are any or not.
fn space() -> Space {
    let base = domain::base();
    base.ancestors()
        .find_map(|place| rustix::fs::statvfs(place).ok())
        .map_or_else(Space::default, |fs| Space {
            size: fs.f_blocks.saturating_mul(fs.f_frsize),
            free: fs.f_bavail.saturating_mul(fs.f_frsize),
        })
}
