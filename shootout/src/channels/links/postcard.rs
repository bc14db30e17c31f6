//! Contestants of a work of their own: this library with messages of a serde type, and the codec
//! alone, which has in one process what the messages of a round trip need.

use std::hint::black_box;
use std::time::{Duration, Instant};

use ::ringlane::{Channel, Message, Postcard};
use serde::{Deserialize, Serialize};

use super::ringlane::{create, open};
use crate::channels::link::{Between, Link, Waiting};
use crate::channels::load::Load;
use crate::channels::peer::Address;
use crate::channels::system::Timed;

/// A small struct, such as a chat program sends.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Note {
    number: u64,
    at: f64,
    from: String,
    text: String,
}

impl Message for Note {
    const NAME: &'static str = "shootout.Note";
    type Codec = Postcard;
}

impl Note {
    fn new() -> Self {
        Self {
            number: 0,
            at: 1_763_900_000.5,
            from: "alice".to_owned(),
            text: "we meet at the harbour at seven, right".to_owned(),
        }
    }
}

/// Bytes of a note as the codec makes them, with a number of three bytes.
pub const BYTES: usize = 56;

pub struct Notes {
    channel: Channel<Note>,
    note: Note,
}

impl Link for Notes {
    fn send(&mut self, stamp: u64) {
        self.note.number = stamp;
        assert!(self.channel.send(&self.note).is_ok(), "send");
    }

    fn recv(&mut self) -> u64 {
        let note = self.channel.recv().expect("recv");
        assert!(
            (note.at, &note.from, &note.text) == (self.note.at, &self.note.from, &self.note.text),
            "a note is not as it was sent"
        );
        note.number
    }
}

impl Between for Notes {
    fn create(load: Load, waiting: Waiting) -> (Self, Address) {
        let (channel, address) = create(load, waiting);
        let note = Note::new();
        (Self { channel, note }, address)
    }

    fn open(address: &str, load: Load, waiting: Waiting) -> Self {
        Self {
            channel: open(address, load, waiting),
            note: Note::new(),
        }
    }
}

/// No channel at all.
pub struct Codec {
    note: Note,
    bytes: Vec<u8>,
}

impl Codec {
    pub fn start() -> Box<dyn Timed> {
        Box::new(Self {
            note: Note::new(),
            bytes: Vec::new(),
        })
    }

    /// One message: a value becomes bytes, and they become a value.
    fn there(&mut self, number: u64) {
        self.note.number = number;
        self.bytes.clear();
        let note = black_box(&self.note);
        ::postcard::to_io(note, &mut self.bytes).expect("encode");
        let note: Note = ::postcard::from_bytes(black_box(&self.bytes)).expect("decode");
        assert!(note == self.note, "a note is not as it was");
    }
}

impl Timed for Codec {
    fn round_trips(&mut self, count: u64) -> Duration {
        let clock = Instant::now();
        for number in 0..count {
            self.there(number);
            self.there(number);
        }
        clock.elapsed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_has_as_many_bytes_as_are_told() {
        let mut codec = Codec {
            note: Note::new(),
            bytes: Vec::new(),
        };
        codec.there(1 << 20);
        assert_eq!(codec.bytes.len(), BYTES);
    }
}
