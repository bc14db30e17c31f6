//! Contestant: Aeron, its C client and driver, one IPC stream a direction. A message is put together
//! in private memory and offered, which copies it, and read where the poll finds it.
//!
//! The driver lives in a thread of the timed process. It moves no message, but it alone tells a
//! sender how far it may go, and on two processors it has none of its own: so there is more room
//! than for the others, and where that ends, a stream waits for the driver.

use std::ffi::CString;
use std::hint;
use std::time::Duration;

use rusteron_client::{
    Aeron as Client, AeronContext, AeronExclusivePublication, AeronSubscription, Handlers,
};
use rusteron_media_driver::bindings::aeron_threading_mode_enum::AERON_THREADING_MODE_SHARED;
use rusteron_media_driver::testing::EmbeddedDriver;

use crate::channels::link::{Between, Link, Waiting};
use crate::channels::load::Load;
use crate::channels::peer::Address;
use crate::keeper;

/// As one fragment; more would have to be put together again.
pub const MOST: usize = 8192;
/// A sender may be half of it ahead.
const CHANNEL: &str = "aeron:ipc?term-length=1m|mtu=16k";
const THERE: i32 = 1;
const BACK: i32 = 2;
const PATIENCE: Duration = Duration::from_secs(10);

pub struct Aeron {
    to_peer: AeronExclusivePublication,
    from_peer: AeronSubscription,
    buffer: Vec<u8>,
    load: Load,
    // After what belongs to it.
    _client: Client,
    /// Only at the side that is timed.
    driver: Option<EmbeddedDriver>,
}

impl Aeron {
    fn join(directory: &str, [own, peer]: [i32; 2], load: Load) -> Self {
        let context = AeronContext::new().expect("a context");
        let directory = CString::new(directory).expect("no zero in it");
        context.set_dir(&directory).expect("its directory");
        context
            .set_pre_touch_mapped_memory(true)
            .expect("an option");
        let client = Client::new(&context).expect("a client");
        client.start().expect("start the client");
        let channel = CString::new(CHANNEL).expect("no zero in it");
        let to_peer = client
            .async_add_exclusive_publication(&channel, own)
            .and_then(|adding| adding.poll_blocking(PATIENCE));
        let from_peer = client
            .async_add_subscription(&channel, peer, Handlers::NONE, Handlers::NONE)
            .and_then(|adding| adding.poll_blocking(PATIENCE));
        Self {
            to_peer: to_peer.expect("a publication"),
            from_peer: from_peer.expect("a subscription"),
            buffer: vec![0; load.bytes],
            load,
            _client: client,
            driver: None,
        }
    }
}

impl Link for Aeron {
    #[inline(always)]
    fn send(&mut self, stamp: u64) {
        self.load.write(&mut self.buffer, stamp);
        loop {
            match self.to_peer.offer(&self.buffer) {
                Ok(_) => return,
                Err(e) if e.is_retryable() => hint::spin_loop(),
                Err(e) => panic!("offer: {e}"),
            }
        }
    }

    #[inline(always)]
    fn recv(&mut self) -> u64 {
        let (load, mut stamp) = (self.load, 0);
        let take = |message: &[u8], _| stamp = load.read(message);
        let mut take = take;
        loop {
            if self.from_peer.poll_fn(&mut take, 1).expect("poll") == 1 {
                return stamp;
            }
            hint::spin_loop();
        }
    }
}

impl Between for Aeron {
    fn create(load: Load, _: Waiting) -> (Self, Address) {
        let path = keeper::directory().join(keeper::unique("aeron"));
        let word = path.to_str().expect("a path of plain letters").to_owned();
        let directory = CString::new(word.as_str()).expect("no zero in it");
        let driver = EmbeddedDriver::launch_with(|context| {
            context.set_dir(&directory)?;
            context.set_threading_mode(AERON_THREADING_MODE_SHARED)?;
            context.set_term_buffer_sparse_file(false)?;
            Ok(())
        });
        let driver = driver.expect("a driver");
        let mut link = Self::join(&word, [THERE, BACK], load);
        link.driver = Some(driver);
        let inherited = Vec::new();
        (link, Address { word, inherited })
    }

    fn open(address: &str, load: Load, _: Waiting) -> Self {
        Self::join(address, [BACK, THERE], load)
    }
}
