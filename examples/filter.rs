//! Several handlers on one channel, each with a filter.
//!
//! ```sh
//! cargo run --release --example filter
//! ```

use ringlane::{Channel, Message, Postcard};
use serde::{Deserialize, Serialize};

#[derive(Debug, Serialize, Deserialize)]
enum Event {
    Temperature { celsius: f32 },
    Door { open: bool },
}

impl Message for Event {
    const NAME: &'static str = "filter.Event";
    type Codec = Postcard;
}

fn main() -> ringlane::Result<()> {
    // Two processes as a rule; here both ends are in one.
    let mut house = Channel::<Event>::create("house-events")?;
    let (_, events) = Channel::<Event>::open("house-events")?.split();

    let listener = events
        .listener()
        .on(
            |event| matches!(event, Event::Temperature { celsius } if *celsius > 30.0),
            |event| println!("too hot: {event:?}"),
        )
        .on(
            |event| matches!(event, Event::Door { open: true }),
            |event| println!("somebody came: {event:?}"),
        )
        .on(|_| true, |event| println!("log: {event:?}"))
        .on_error(|error| println!("the listener says: {error}"))
        .start()?;

    house.send_all([
        Event::Temperature { celsius: 21.5 },
        Event::Door { open: true },
        Event::Temperature { celsius: 35.0 },
        Event::Door { open: false },
    ])?;

    // Closing the channel ends the listener, after everything was handled.
    drop(house);
    listener.join()
}
