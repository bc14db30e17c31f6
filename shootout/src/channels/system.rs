//! Who takes part, in what, and how they are started.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use super::link::{Between, Seat, Waiting, Within, serve};
use super::links::batch::Batch;
use super::links::crossbeam::Crossbeam;
use super::links::futex::Futex;
use super::links::iceoryx2::Iceoryx2;
use super::links::in_place::InPlace;
use super::links::ipc_channel::IpcChannel;
use super::links::memcpy::Memcpy;
use super::links::mpsc::Mpsc;
use super::links::mq::{self, Mq};
use super::links::pipe::Pipe;
use super::links::postcard::{Codec, Notes};
use super::links::python::Python;
use super::links::raw::Raw;
use super::links::ringlane::Ringlane;
use super::links::rtrb::Rtrb;
use super::links::shared_memory::SharedMemory;
use super::links::unix::Unix;
use super::load::{Load, Words};
use super::peer::Control;
use super::work::Work;
use crate::machine::Machine;

/// Something that can be timed, checked already. What it does not do is not asked of it, as
/// [`System::does`] says.
pub trait Timed {
    /// How long so many messages take, each sent back before the next one is sent.
    fn round_trips(&mut self, _count: u64) -> Duration {
        unreachable!("no round trips");
    }
    /// How long so many messages take until all have arrived, which is answered once.
    fn stream(&mut self, _count: u64) -> Duration {
        unreachable!("no stream");
    }
    /// The same for so many bursts, each answered.
    fn bursts(&mut self, _count: u64) -> Duration {
        unreachable!("no bursts");
    }
    /// How long each round trip takes when there is one each `period`, and sleep before it.
    fn paced(&mut self, _count: u64, _period: Duration) -> Vec<Duration> {
        unreachable!("no pace");
    }
}

macro_rules! systems {
    ($($(#[$condition:meta])? $system:ident $name:literal,)*) => {
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum System {
            $($(#[$condition])? $system,)*
        }

        impl System {
            pub const ALL: &[Self] = &[$($(#[$condition])? Self::$system,)*];

            pub fn name(self) -> &'static str {
                match self {
                    $($(#[$condition])? Self::$system => $name,)*
                }
            }
        }
    };
}

systems! {
    Ringlane "ringlane",
    RinglaneInPlace "ringlane-inplace",
    RinglaneBatch "ringlane-batch",
    Raw "raw",
    Futex "futex",
    Memcpy "memcpy",
    Rtrb "rtrb",
    Crossbeam "crossbeam",
    Mpsc "mpsc",
    Iceoryx2 "iceoryx2",
    Iceoryx2ZeroCopy "iceoryx2-zerocopy",
    IpcChannel "ipc-channel",
    Pipe "pipe",
    Unix "unix",
    Mq "mq",
    SharedMemory "shared_memory",
    PythonPipe "python-pipe",
    #[cfg(feature = "tachyon")] Tachyon "tachyon",
    #[cfg(feature = "aeron")]
    Aeron "aeron",
    RinglanePostcard "ringlane-postcard",
    Codec "codec",
}

impl System {
    /// Whether it can do this work with messages of this size.
    pub fn does(self, work: Work, load: Load) -> bool {
        use System::*;
        if work == Work::RoundTripPostcard {
            // The codec and its ring, and beside them what the ring takes for as many bytes.
            return matches!(self, Ringlane | Raw | RinglanePostcard | Codec);
        }
        let awake = work.waiting() == Waiting::Awake;
        let round_trip = matches!(work, Work::RoundTrip | Work::RoundTripUntouched);
        let many = matches!(work, Work::Stream | Work::StreamUntouched | Work::Burst);
        match self {
            // One message at a time is all there is room for.
            Raw => round_trip,
            Futex => !awake,
            Memcpy => matches!(work, Work::Stream | Work::StreamUntouched),
            RinglaneBatch => many && load.bytes <= RETURNED_BY_VALUE && load.touched,
            Rtrb => awake && by_value(load),
            // It spins and yields for longer than a round trip takes before it sleeps.
            Crossbeam => by_value(load) && work != Work::SleepRoundTrip,
            Mpsc => by_value(load),
            Mq => mq::holds(load),
            Ringlane | RinglaneInPlace | Iceoryx2 | Iceoryx2ZeroCopy | IpcChannel | Pipe | Unix
            | SharedMemory | PythonPipe => true,
            #[cfg(feature = "tachyon")]
            Tachyon => load.bytes <= super::links::tachyon::MOST,
            // It only polls.
            #[cfg(feature = "aeron")]
            Aeron => awake && load.bytes <= super::links::aeron::MOST,
            RinglanePostcard | Codec => false,
        }
    }
}

/// What threads hand over by value: nobody would do so with a megabyte, and it is always touched.
fn by_value(load: Load) -> bool {
    load.touched && load.bytes <= 64 << 10
}

/// One system with one size of message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    pub system: System,
    pub load: Load,
    pub waiting: Waiting,
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Load { bytes, touched } = self.load;
        let touched = if touched { "touched" } else { "untouched" };
        let name = self.system.name();
        write!(f, "{name} {bytes} {touched} {:?}", self.waiting)
    }
}

impl FromStr for Entry {
    type Err = ();
    /// Reads what `Display` wrote.
    fn from_str(text: &str) -> Result<Self, ()> {
        let words: Vec<&str> = text.split(' ').collect();
        let [system, bytes, touched, waiting] = words[..] else {
            return Err(());
        };
        let mut systems = System::ALL.iter().copied();
        let mut ways = [Waiting::Awake, Waiting::Asleep, Waiting::Seldom].into_iter();
        Ok(Self {
            system: systems.find(|known| known.name() == system).ok_or(())?,
            load: Load {
                bytes: bytes.parse().map_err(|_| ())?,
                touched: touched == "touched",
            },
            waiting: ways
                .find(|known| format!("{known:?}") == waiting)
                .ok_or(())?,
        })
    }
}

/// What is done for an entry at each side. The type of the link is settled here, once, so that no
/// message pays for a dynamic call.
struct Sides {
    start: fn(Entry, &Machine) -> Box<dyn Timed>,
    /// In a process of its own; none if the other side is a thread.
    serve: Option<fn(Entry, &str, Control)>,
}

impl Sides {
    fn between<L: Between>() -> Self {
        Self {
            start: Seat::<L>::between,
            serve: Some(|entry, address, control| {
                let link = L::open(address, entry.load, entry.waiting);
                serve(link, entry.load, control);
            }),
        }
    }

    fn within<L: Within>() -> Self {
        Self::alone(Seat::<L>::within)
    }

    /// No other process.
    fn alone(start: fn(Entry, &Machine) -> Box<dyn Timed>) -> Self {
        Self { start, serve: None }
    }
}

impl Entry {
    /// Starts both sides, and makes sure that messages arrive whole.
    pub fn start(self, machine: &Machine) -> Box<dyn Timed> {
        (self.sides().start)(self, machine)
    }

    /// The life of a process that was started as the other side.
    pub fn serve(self, address: &str, control: Control) {
        let serve = self.sides().serve.expect("a process at the other side");
        serve(self, address, control);
    }

    fn sides(self) -> Sides {
        /// The sides of a link that has the message's type as its parameter.
        macro_rules! by_size {
            (small, $link:ident) => {
                match self.load.bytes {
                    8 => Sides::between::<$link<Words<1>>>(),
                    56 => Sides::between::<$link<Words<7>>>(),
                    64 => Sides::between::<$link<Words<8>>>(),
                    other => unreachable!("structs of {other} bytes"),
                }
            };
            (all, $link:ident) => {
                match self.load.bytes {
                    8 => Sides::within::<$link<Words<1>>>(),
                    56 => Sides::within::<$link<Words<7>>>(),
                    64 => Sides::within::<$link<Words<8>>>(),
                    1024 => Sides::within::<$link<Words<128>>>(),
                    8192 => Sides::within::<$link<Words<1024>>>(),
                    65_536 => Sides::within::<$link<Words<8192>>>(),
                    other => unreachable!("messages of {other} bytes"),
                }
            };
        }
        match self.system {
            System::Ringlane if self.load.bytes > RETURNED_BY_VALUE => {
                Sides::between::<Ringlane<[u8]>>()
            }
            System::Ringlane => by_size!(small, Ringlane),
            System::RinglaneInPlace => Sides::between::<InPlace>(),
            System::RinglaneBatch => by_size!(small, Batch),
            System::Raw => Sides::between::<Raw>(),
            System::Futex => Sides::between::<Futex>(),
            System::Memcpy => Sides::alone(|entry, _| Memcpy::start(entry.load)),
            System::Rtrb => by_size!(all, Rtrb),
            System::Crossbeam => by_size!(all, Crossbeam),
            System::Mpsc => by_size!(all, Mpsc),
            System::Iceoryx2 => Sides::between::<Iceoryx2<true>>(),
            System::Iceoryx2ZeroCopy => Sides::between::<Iceoryx2<false>>(),
            System::IpcChannel => Sides::between::<IpcChannel>(),
            System::Pipe => Sides::between::<Pipe>(),
            System::Unix => Sides::between::<Unix>(),
            System::Mq => Sides::between::<Mq>(),
            System::SharedMemory => Sides::between::<SharedMemory>(),
            System::PythonPipe => Sides::alone(Python::start),
            #[cfg(feature = "tachyon")]
            System::Tachyon => Sides::between::<super::links::tachyon::Tachyon>(),
            #[cfg(feature = "aeron")]
            System::Aeron => Sides::between::<super::links::aeron::Aeron>(),
            System::RinglanePostcard => Sides::between::<Notes>(),
            System::Codec => Sides::alone(|_, _| Codec::start()),
        }
    }
}

/// Up to here ringlane's messages are plain structs; larger ones are bytes: a `Vec` that is received
/// stays where it is, where a large struct would be moved about on the stack.
const RETURNED_BY_VALUE: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_survives_the_environment() {
        for &system in System::ALL {
            for waiting in [Waiting::Awake, Waiting::Asleep, Waiting::Seldom] {
                let load = Load {
                    bytes: 64,
                    touched: waiting == Waiting::Asleep,
                };
                let entry = Entry {
                    system,
                    load,
                    waiting,
                };
                assert_eq!(entry.to_string().parse(), Ok(entry));
            }
        }
    }
}
