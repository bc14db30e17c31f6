//! What is wrong on this machine and in its domains: everything that can be told without asking or
//! changing anything.

use super::picture::end_name;
use super::{
    ChannelInfo, DirectionInfo, DomainInfo, EndState, Finding, Severity, Snapshot, SnapshotOptions,
    logind, machine, place,
};
use crate::channel::End;
use crate::domain;
use crate::error::{Error, Result, display};
use std::time::{Duration, Instant};

/// How long a full ring has to stand still to be worth a word.
const PAUSE: Duration = Duration::from_millis(300);

/// Looks for everything that is wrong: what the kernel, the directory of the domains and systemd
/// take from the library here, and all that a [`snapshot`](super::snapshot) finds, with a walk
/// through each store that nobody is writing to. No findings, or notes only, is health.
///
/// Like a snapshot it changes nothing, takes no lock and wakes nobody; it only opens a file without
/// a name, to see whether that works. Where a ring is full it looks a second time 0.3 s
/// later, to tell whether it stands still. A large store takes the time to read it.
///
/// What is found in a domain is about `DOMAIN` or `DOMAIN/WHAT`.
///
/// ```
/// use ringlane::inspect::{self, Severity};
///
/// for finding in inspect::doctor()? {
///     if finding.severity >= Severity::Warning {
///         eprintln!("{finding}");
///     }
/// }
/// # Ok::<(), ringlane::Error>(())
/// ```
///
/// # Errors
/// None at present: a directory that cannot be read is a finding. With a
/// [domain](SnapshotOptions::doctor), `NotFound` and `BadName`.
pub fn doctor() -> Result<Vec<Finding>> {
    SnapshotOptions::new().doctor()
}

impl SnapshotOptions {
    /// The same as [`doctor`](super::doctor()), of what is to be looked at.
    ///
    /// # Errors
    /// `NotFound` or `BadName` if one domain was asked for and there is none of that name.
    pub fn doctor(&self) -> Result<Vec<Finding>> {
        let mut findings = machine::kernel();
        findings.extend(machine::processors());
        findings.extend(place::examine());
        let thorough = SnapshotOptions {
            verify: true,
            payload_bytes: 0,
            ..self.clone()
        };
        let picture = match thorough.take() {
            Ok(picture) => picture,
            Err(e @ (Error::NotFound { .. } | Error::BadName { .. })) => return Err(e),
            Err(e) => {
                let finding = Finding::of_error(&display(domain::base()), &e);
                findings.push(Finding {
                    severity: Severity::Error,
                    ..finding
                });
                return Ok(findings);
            }
        };
        if !picture.domains.is_empty() {
            findings.extend(logind::examine());
        }
        let standing = self.standing_still(&picture);
        findings.extend(picture.findings);
        for (i, domain) in picture.domains.into_iter().enumerate() {
            findings.extend(of_abandoned(&domain));
            let of_rings = standing.iter().filter(|(at, _)| *at == i);
            let found = of_rings.map(|(_, finding)| finding.clone());
            findings.extend(domain.findings.into_iter().chain(found).map(|finding| {
                let about = format!("{}/{}", domain.name, finding.about);
                Finding { about, ..finding }
            }));
        }
        Ok(findings)
    }

    /// Full rings from which nothing is received, each with the place of its domain.
    fn standing_still(&self, picture: &Snapshot) -> Vec<(usize, Finding)> {
        let is_suspect = |d: &DirectionInfo| d.undelivered > 0 && (is_full(d) || d.full > 0);
        let mut directions = directions(picture);
        if !directions.any(|(_, _, direction)| is_suspect(direction)) {
            return Vec::new();
        }
        let first = Instant::now();
        std::thread::sleep(PAUSE);
        let Ok(later) = self.take() else {
            return Vec::new();
        };
        let waited = first.elapsed();
        let mut findings = Vec::new();
        for (domain, channel, now) in self::directions(&later) {
            let before = self::directions(picture).find(|(of, in_channel, direction)| {
                of.name == domain.name
                    && in_channel.name == channel.name
                    && direction.from == now.from
            });
            let Some((of, _, before)) = before.filter(|(_, _, before)| is_suspect(before)) else {
                continue;
            };
            let refused = now.full != before.full;
            if now.received == before.received && now.undelivered > 0 && (is_full(now) || refused) {
                let at = picture.domains.iter().position(|d| d.name == of.name);
                let finding = of_full_ring(channel, now, waited);
                findings.extend(at.map(|at| (at, finding)));
            }
        }
        findings
    }
}

fn directions(
    picture: &Snapshot,
) -> impl Iterator<Item = (&DomainInfo, &ChannelInfo, &DirectionInfo)> {
    picture.domains.iter().flat_map(|domain| {
        domain.channels.iter().flat_map(move |channel| {
            let directions = channel.directions.iter();
            directions.map(move |direction| (domain, channel, direction))
        })
    })
}

/// Its sender waits, or will soon have to.
fn is_full(direction: &DirectionInfo) -> bool {
    direction.sender_waits || direction.used >= direction.capacity / 8 * 7
}

fn of_full_ring(channel: &ChannelInfo, direction: &DirectionInfo, waited: Duration) -> Finding {
    let receiver = match direction.to {
        End::Host => channel.host,
        End::Guest => channel.guest,
    };
    let remedy = match (receiver.state, receiver.pid) {
        (EndState::Alive, Some(pid)) if receiver.stopped => {
            format!("process {pid} is stopped: let it go on, `kill -CONT {pid}`")
        }
        (EndState::Alive, Some(pid)) => format!("see what process {pid} does instead of receiving"),
        (EndState::Alive, None) => "see what its process does instead of receiving".to_string(),
        _ => "start the program that receives".to_string(),
    };
    let longer = direction.full_ms.map_or(waited, Duration::from_millis);
    let text = format!(
        "the ring from {} to {} is full: {} of {} bytes in use, {} messages undelivered, and none \
         received for the last {}{}",
        end_name(direction.from),
        end_name(direction.to),
        direction.used,
        direction.capacity,
        direction.undelivered,
        for_people(waited.max(longer)),
        if direction.sender_waits {
            "; its sender waits"
        } else {
            ""
        },
    );
    Finding::new(Severity::Warning, &channel.name, text, remedy)
}

/// A time, in the unit that suits it.
fn for_people(time: Duration) -> String {
    match time.as_secs() {
        0..10 => format!("{:.1} s", time.as_secs_f64()),
        seconds @ 10..600 => format!("{seconds} s"),
        seconds @ 600..36_000 => format!("{} minutes", seconds / 60),
        seconds @ 36_000..864_000 => format!("{} hours", seconds / 3_600),
        seconds => format!("{} days", seconds / 86_400),
    }
}

/// A domain that nobody lives in.
fn of_abandoned(domain: &DomainInfo) -> Option<Finding> {
    if !domain.abandoned {
        return None;
    }
    let severity = match domain.is_left_behind() {
        true => Severity::Warning,
        // Messages and stores may be meant to wait there.
        false => Severity::Note,
    };
    let undelivered: u64 = directions_of(domain).map(|d| d.undelivered).sum();
    // What is damaged may say any number.
    let keys = domain.stores.iter().map(|store| store.keys);
    let keys = keys.fold(0, u64::saturating_add);
    let mut text = format!(
        "no process lives in it; it holds {} bytes, {undelivered} undelivered messages in {} \
         channels, and {keys} keys in {} stores",
        domain.bytes,
        domain.channels.len(),
        domain.stores.len(),
    );
    let mut remedy = "start its program again, which finds them; or let `remove_domain`, or `dump \
                      --clean`, remove it with all of that";
    if domain.unread > 0 {
        text += &format!("; and {} files that could not be read", domain.unread);
        remedy = "see what is said of those files first; `remove_domain`, or `dump --clean \
                  --domain`, removes it with all of that";
    }
    Some(Finding::new(severity, &domain.name, text, remedy))
}

fn directions_of(domain: &DomainInfo) -> impl Iterator<Item = &DirectionInfo> {
    domain
        .channels
        .iter()
        .flat_map(|channel| &channel.directions)
}
