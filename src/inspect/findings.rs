//! What is worth saying of what was read, and what can be done. Only what is certain.

use super::{ChannelInfo, EndInfo, EndState};
use crate::error::Error;
use core::fmt;

/// How much a [`Finding`] matters. The later of two in this list matters more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "lowercase"))]
pub enum Severity {
    /// Good to know. All works as it should.
    Note,
    /// Somebody should do something: it waits, it was left behind, or it will not go well for long.
    Warning,
    /// It does not work, or is damaged.
    Error,
}

/// Something that is worth saying, and what can be done.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Finding {
    /// How much it matters.
    pub severity: Severity,
    /// The channel, store, child, domain or file that it is about, or the part of the machine.
    pub about: String,
    /// What is so.
    pub text: String,
    /// What can be done.
    pub remedy: String,
}

/// What is wrong with a channel whose file is sound.
pub(super) fn judge(channel: &ChannelInfo) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut find = |severity, text: String, remedy: &str| {
        findings.push(Finding::new(severity, &channel.name, text, remedy));
    };
    let (host, guest) = (channel.host, channel.guest);
    let who = |end: EndInfo| {
        end.pid
            .map_or(String::new(), |pid| format!(", process {pid},"))
    };
    if host.state == EndState::Dead {
        let remedy = if guest.state == EndState::Alive {
            "start its program again: it takes its end over with what was not delivered"
        } else {
            "start its program again to have what was not delivered; or let a starting main \
             process sweep it"
        };
        find(
            Severity::Warning,
            format!("its host{} died", who(host)),
            remedy,
        );
    }
    if guest.state == EndState::Dead {
        find(
            Severity::Warning,
            format!("its guest{} died", who(guest)),
            "whoever opens it next takes the end over with what was not delivered",
        );
    }
    let left = channel.directions.first().map_or(0, |d| d.undelivered);
    if host.state == EndState::Closed && guest.state != EndState::Alive && left > 0 {
        find(
            Severity::Note,
            format!("its host closed it; undelivered messages left: {left}"),
            "open it and receive them; or remove the file",
        );
    }
    if !channel.directions.is_empty() && channel.directions.iter().all(|d| d.sender_waits) {
        find(
            Severity::Warning,
            "both ends wait in `send` for room, perhaps for each other".to_string(),
            "receive between sends, on another thread, or send with a timeout",
        );
    }
    let rescues: u64 = channel
        .directions
        .iter()
        .fold(0, |sum, d| sum.wrapping_add(d.rescues));
    if rescues > 0 {
        find(
            Severity::Note,
            format!("sleeps that ended by the clock although there was something to do: {rescues}"),
            "none needed: a process was killed while it woke another, and nothing is lost",
        );
    }
    findings
}

impl Finding {
    pub(super) fn new(
        severity: Severity,
        about: &str,
        text: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Finding {
        Finding {
            severity,
            about: about.to_string(),
            text: text.into(),
            remedy: remedy.into(),
        }
    }

    /// A file, a domain or the directory of all that could not be read.
    pub(super) fn of_error(about: &str, error: &Error) -> Finding {
        use Severity::{Error as Bad, Warning};
        let (severity, remedy) = match error {
            Error::Layout { .. } => (
                Warning,
                "look at it with the build that made it; once nobody alive holds it, whoever \
                 creates it again replaces it",
            ),
            Error::ForeignRoster { .. } => (Warning, "first end the processes that use it"),
            Error::Corrupt { .. } => (Bad, "end the processes that use it and remove it"),
            Error::Damaged { .. } => (Bad, "copy what can be read, remove it and make it anew"),
            Error::BadName { .. } => (Warning, "remove it: no domain can have this name"),
            Error::Io { .. } => (Bad, "see what the system says"),
            _ => (
                Warning,
                "move it away, or set its owner and permissions right",
            ),
        };
        Finding::new(severity, about, error.to_string(), remedy)
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Severity::Note => "note",
            Severity::Warning => "warning",
            Severity::Error => "error",
        })
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Finding {
            severity,
            about,
            text,
            remedy,
        } = self;
        write!(f, "{severity}: {about}: {text} ({remedy})")
    }
}

#[cfg(test)]
mod tests {
    use super::super::{DirectionInfo, ModeInUse};
    use super::*;
    use crate::channel::{End, Mode};

    fn end(state: EndState) -> EndInfo {
        EndInfo {
            state,
            pid: Some(7),
            stopped: false,
            generation: 1,
        }
    }

    fn direction(from: End, to: End) -> DirectionInfo {
        DirectionInfo {
            from,
            to,
            sent: 3,
            received: 1,
            undelivered: 2,
            used: 32,
            capacity: 4096,
            peak: 32,
            full: 0,
            full_ms: None,
            sleeps: 0,
            wakes: 0,
            rescues: 0,
            sender_waits: false,
            receiver_waits: false,
            closed: false,
            mode: ModeInUse::Unset,
            allowed: Mode::Any,
            messages: Vec::new(),
        }
    }

    fn channel(host: EndState, guest: EndState) -> ChannelInfo {
        ChannelInfo {
            name: "c".to_string(),
            type_name: String::new(),
            codec: String::new(),
            mode: Mode::Any,
            capacity: 4096,
            host: end(host),
            guest: end(guest),
            directions: vec![
                direction(End::Host, End::Guest),
                direction(End::Guest, End::Host),
            ],
        }
    }

    fn texts(channel: &ChannelInfo) -> Vec<String> {
        judge(channel).into_iter().map(|w| w.text).collect()
    }

    #[test]
    fn only_what_is_wrong_is_warned_of() {
        use EndState::*;
        assert!(texts(&channel(Alive, Alive)).is_empty());
        assert!(texts(&channel(Alive, Absent)).is_empty());
        assert_eq!(texts(&channel(Dead, Alive)), ["its host, process 7, died"]);
        assert_eq!(texts(&channel(Dead, Dead)).len(), 2);
        assert_eq!(
            texts(&channel(Closed, Absent)),
            ["its host closed it; undelivered messages left: 2"]
        );
        assert!(texts(&channel(Closed, Alive)).is_empty());
    }

    #[test]
    fn one_full_direction_is_traffic_and_two_are_a_warning() {
        let mut channel = channel(EndState::Alive, EndState::Alive);
        channel.directions[0].sender_waits = true;
        assert!(texts(&channel).is_empty());
        channel.directions[1].sender_waits = true;
        assert_eq!(texts(&channel).len(), 1);
        channel.directions[1].rescues = 2;
        assert_eq!(texts(&channel).len(), 2);
    }
}
