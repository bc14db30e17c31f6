//! What is wrong with what was read, and what can be done. Only what is certain.

use super::{ChannelInfo, EndInfo, EndState, Warning};
use crate::error::Error;
use core::fmt;

/// What is wrong with a channel whose file is sound.
pub(super) fn judge(channel: &ChannelInfo) -> Vec<Warning> {
    let mut warnings = Vec::new();
    let mut warn = |text: String, remedy: &str| {
        warnings.push(Warning::new(&channel.name, text, remedy));
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
        warn(format!("its host{} died", who(host)), remedy);
    }
    if guest.state == EndState::Dead {
        warn(
            format!("its guest{} died", who(guest)),
            "whoever opens it next takes the end over with what was not delivered",
        );
    }
    let left = channel.directions.first().map_or(0, |d| d.undelivered);
    if host.state == EndState::Closed && guest.state != EndState::Alive && left > 0 {
        warn(
            format!("its host closed it; undelivered messages left: {left}"),
            "open it and receive them; or remove the file",
        );
    }
    if !channel.directions.is_empty() && channel.directions.iter().all(|d| d.sender_waits) {
        warn(
            "both ends wait in `send` for room, perhaps for each other".to_string(),
            "receive between sends, on another thread, or send with a timeout",
        );
    }
    let rescues: u64 = channel
        .directions
        .iter()
        .fold(0, |sum, d| sum.wrapping_add(d.rescues));
    if rescues > 0 {
        warn(
            format!("sleeps that ended by the clock although there was something to do: {rescues}"),
            "none needed: a process was killed while it woke another, and nothing is lost",
        );
    }
    warnings
}

impl Warning {
    pub(super) fn new(about: &str, text: impl Into<String>, remedy: &str) -> Warning {
        Warning {
            about: about.to_string(),
            text: text.into(),
            remedy: remedy.to_string(),
        }
    }

    /// A file or a domain that could not be read.
    pub(super) fn of_error(about: &str, error: &Error) -> Warning {
        let remedy = match error {
            Error::Layout { .. } => {
                "look at it with the build that made it; once nobody alive holds it, whoever \
                 creates it again replaces it"
            }
            Error::ForeignRoster { .. } => "first end the processes that use it",
            Error::Corrupt { .. } => "end the processes that use it and remove it",
            Error::BadName { .. } => "remove it: no domain can have this name",
            Error::Io { .. } => "see what the system says",
            _ => "move it away, or set its owner and permissions right",
        };
        Warning::new(about, error.to_string(), remedy)
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} ({})", self.about, self.text, self.remedy)
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
