//! What is done with the messages.

use std::time::Duration;

use super::link::Waiting;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    RoundTrip,
    SleepRoundTrip,
    Stream,
    Burst,
    Paced1kHz,
    Paced10Hz,
    RoundTripUntouched,
    StreamUntouched,
    RoundTripPostcard,
}

impl Work {
    pub fn name(self) -> &'static str {
        match self {
            Self::RoundTrip => "rtt",
            Self::SleepRoundTrip => "sleep_rtt",
            Self::Stream => "stream",
            Self::Burst => "burst",
            Self::Paced1kHz => "paced_1khz",
            Self::Paced10Hz => "paced_10hz",
            Self::RoundTripUntouched => "rtt_untouched",
            Self::StreamUntouched => "stream_untouched",
            Self::RoundTripPostcard => "rtt_postcard",
        }
    }

    pub fn unit(self) -> &'static str {
        match self {
            Self::Stream | Self::StreamUntouched => "Mmsg/s",
            _ => "ns",
        }
    }

    pub fn waiting(self) -> Waiting {
        match self {
            Self::SleepRoundTrip => Waiting::Asleep,
            Self::Paced1kHz | Self::Paced10Hz => Waiting::Seldom,
            _ => Waiting::Awake,
        }
    }

    /// The time between two messages, if it is not up to the contestant.
    pub fn period(self) -> Option<Duration> {
        match self {
            Self::Paced1kHz => Some(Duration::from_millis(1)),
            Self::Paced10Hz => Some(Duration::from_millis(100)),
            _ => None,
        }
    }
}
