//! Contestant: iceoryx2, publish and subscribe between two processes, one service a direction,
//! nothing lost: a full subscriber is waited for.
//!
//! Copying, the message is put together in private memory and copied into a loaned sample; not, it
//! is written there. Either way it is read in the sample that the subscriber got, where it lies:
//! iceoryx2 has no receive that copies, so the receiver does less than ringlane's.
//!
//! Awake, the subscriber is polled, which is the only way that publish and subscribe has. To sleep,
//! an event service for each direction stands beside it, which is notified after each message.

use std::hint;

use ::iceoryx2::config::Config;
use ::iceoryx2::node::Node;
use ::iceoryx2::port::listener::Listener;
use ::iceoryx2::port::notifier::Notifier;
use ::iceoryx2::port::publisher::Publisher;
use ::iceoryx2::port::subscriber::Subscriber;
use ::iceoryx2::prelude::*;

use crate::channels::link::{Between, Link, Waiting};
use crate::channels::load::Load;
use crate::channels::peer::Address;
use crate::keeper;

pub struct Iceoryx2<const COPYING: bool> {
    publisher: Publisher<ipc::Service, [u8], ()>,
    subscriber: Subscriber<ipc::Service, [u8], ()>,
    /// Only to sleep.
    bells: Option<(Notifier<ipc::Service>, Listener<ipc::Service>)>,
    buffer: Vec<u8>,
    load: Load,
    // After the ports.
    _node: Node<ipc::Service>,
}

/// Everything that it makes lies in the run's directory or bears its name.
fn config() -> Config {
    let mut config = Config::default();
    let root = keeper::directory().join("iceoryx2");
    let root = root.to_str().expect("a path of plain letters");
    config
        .global
        .set_root_path(&root.try_into().expect("a path"));
    let prefix = format!("{}-", keeper::prefix());
    config.global.prefix = prefix.as_str().try_into().expect("a file name");
    config
}

impl<const COPYING: bool> Iceoryx2<COPYING> {
    /// Both sides do the same, with the directions the other way round.
    fn join(name: &str, [own, peer]: [&str; 2], load: Load, waiting: Waiting) -> Self {
        set_log_level(LogLevel::Fatal);
        let node = NodeBuilder::new()
            .config(&config())
            .signal_handling_mode(SignalHandlingMode::Disabled)
            .create::<ipc::Service>()
            .expect("a node");
        let named = |direction: &str| {
            let name = format!("{name}-{direction}");
            ServiceName::new(&name).expect("a name")
        };
        let service = |direction| {
            let service = node
                .service_builder(&named(direction))
                .publish_subscribe::<[u8]>()
                .payload_alignment(Alignment::new(8).expect("a power of two"))
                .enable_safe_overflow(false)
                .history_size(0)
                .max_publishers(1)
                .max_subscribers(1)
                .max_nodes(2)
                .subscriber_max_borrowed_samples(1)
                .subscriber_max_buffer_size(load.capacity_in_messages())
                .open_or_create();
            service.expect("a service")
        };
        let publisher = service(own)
            .publisher_builder()
            .initial_max_slice_len(load.bytes)
            .max_loaned_samples(1)
            .backpressure_strategy(BackpressureStrategy::RetryUntilDelivered)
            .create();
        let subscriber = service(peer).subscriber_builder().create();
        let bell = |direction: &str| {
            let service = node
                .service_builder(&named(direction))
                .event()
                .max_nodes(2)
                .open_or_create();
            service.expect("an event service")
        };
        let bells = (waiting != Waiting::Awake).then(|| {
            let notifier = bell(own).notifier_builder().create();
            let listener = bell(peer).listener_builder().create();
            (notifier.expect("a notifier"), listener.expect("a listener"))
        });
        Self {
            publisher: publisher.expect("a publisher"),
            subscriber: subscriber.expect("a subscriber"),
            bells,
            buffer: vec![0; load.bytes],
            load,
            _node: node,
        }
    }
}

impl<const COPYING: bool> Link for Iceoryx2<COPYING> {
    #[inline(always)]
    fn send(&mut self, stamp: u64) {
        let sample = self.publisher.loan_slice_uninit(self.load.bytes);
        let mut sample = sample.expect("a loan");
        let sample = if COPYING {
            self.load.write(&mut self.buffer, stamp);
            sample.write_from_slice(&self.buffer)
        } else {
            let payload = sample.payload_mut();
            let (at, len) = (payload.as_mut_ptr().cast::<u8>(), payload.len());
            // SAFETY: the sample is ours alone until it is sent, and its memory, which the kernel
            // zeroed, has held bytes ever since.
            let payload = unsafe { std::slice::from_raw_parts_mut(at, len) };
            self.load.write(payload, stamp);
            // SAFETY: as above.
            unsafe { sample.assume_init() }
        };
        sample.send().expect("send");
        if let Some((notifier, _)) = &self.bells {
            notifier.notify().expect("notify");
        }
    }

    #[inline(always)]
    fn recv(&mut self) -> u64 {
        loop {
            if let Some(sample) = self.subscriber.receive().expect("receive") {
                return self.load.read(sample.payload());
            }
            match &self.bells {
                Some((_, listener)) => {
                    listener.blocking_wait(|_| {}).expect("wait");
                }
                None => hint::spin_loop(),
            }
        }
    }
}

impl<const COPYING: bool> Between for Iceoryx2<COPYING> {
    fn create(load: Load, waiting: Waiting) -> (Self, Address) {
        let word = keeper::unique("shootout");
        let inherited = Vec::new();
        let link = Self::join(&word, ["there", "back"], load, waiting);
        (link, Address { word, inherited })
    }

    fn open(address: &str, load: Load, waiting: Waiting) -> Self {
        Self::join(address, ["back", "there"], load, waiting)
    }
}
