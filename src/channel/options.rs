//! How a channel is made, and found.

use super::attachment::{Attachment, Plan, TypeStamp};
use super::{Channel, Mode, Wait, deadline_in};
use crate::codec::Message;
use crate::error::{Error, Result};
use crate::layout::{LEAST_CAPACITY, MOST_CAPACITY};
use crate::roster;
use core::marker::PhantomData;
use core::time::Duration;
use std::sync::Arc;
use std::time::Instant;

/// How to create or open a channel.
///
/// ```
/// # let domain = format!("doc-options-{}", std::process::id());
/// use ringlane::{Channel, Mode};
///
/// let channel = Channel::<u64>::options()
///     .domain(&domain)
///     .capacity(1 << 20)
///     .mode(Mode::Active)
///     .create("samples")?;
/// assert_eq!(channel.stats().capacity, 1 << 20);
/// # Ok::<(), ringlane::Error>(())
/// ```
#[derive(Debug)]
pub struct ChannelOptions<T: ?Sized> {
    capacity: usize,
    mode: Mode,
    wait: Wait,
    domain: Option<String>,
    keep_undelivered: bool,
    message: PhantomData<fn(&T)>,
}

// By hand: the message type need not be `Clone`.
impl<T: ?Sized> Clone for ChannelOptions<T> {
    fn clone(&self) -> Self {
        ChannelOptions {
            domain: self.domain.clone(),
            ..*self
        }
    }
}

impl<T: Message + ?Sized> ChannelOptions<T> {
    pub(super) fn new() -> Self {
        ChannelOptions {
            capacity: DEFAULT_CAPACITY,
            mode: Mode::Any,
            wait: Wait::Adaptive,
            domain: None,
            keep_undelivered: true,
            message: PhantomData,
        }
    }

    /// Bytes of each direction, rounded up to a power of two between 4 KiB and 1 GiB; 256 KiB if
    /// nothing is said. They are reserved when the channel is created. A message takes 8 bytes and
    /// its own length rounded up to 8, and at most half a direction. A channel that is taken over
    /// keeps the capacity it has.
    pub fn capacity(mut self, bytes: usize) -> Self {
        self.capacity = bytes;
        self
    }

    /// Which way of receiving the channel allows, at both ends; any if nothing is said. Counts when
    /// the channel is created.
    pub fn mode(mut self, mode: Mode) -> Self {
        self.mode = mode;
        self
    }

    /// How this handle waits.
    pub fn wait(mut self, wait: Wait) -> Self {
        self.wait = wait;
        self
    }

    /// The domain to look in; else that of `RINGLANE_DOMAIN`, else `default`.
    pub fn domain(mut self, domain: &str) -> Self {
        self.domain = Some(domain.to_string());
        self
    }

    /// Whether to keep what was sent and not received when a dead process's end is taken over, or
    /// that of a host that closed; yes if nothing is said. `false` drops both directions. What a
    /// guest that left in order had sent is always kept.
    pub fn keep_undelivered(mut self, yes: bool) -> Self {
        self.keep_undelivered = yes;
        self
    }

    /// Creates the channel and holds its host's end. If it is there and its host is dead, takes
    /// that end over with all its messages; also if its host closed it before everything was
    /// received, and nobody is there to receive it.
    ///
    /// # Errors
    /// `AlreadyExists` while the host lives, `NoSpace`, `TypeMismatch` if a living guest uses it
    /// with another type, `Refused`, `Layout` or `Corrupt` if there is a file of that name that is
    /// not to be replaced.
    pub fn create(self, name: &str) -> Result<Channel<T>> {
        let roster = roster::join(&self.domain_name(), true)?;
        let plan = Plan {
            capacity: checked_capacity(self.capacity),
            host_mode: self.mode,
            guest_mode: self.mode,
            keep_undelivered: self.keep_undelivered,
        };
        let attachment = Attachment::create(&roster, name, plan, Some(&TypeStamp::of::<T>()))?;
        Channel::new(Arc::new(attachment), None, self.wait)
    }

    /// Opens the channel and holds its guest's end, taking it over if its holder is dead.
    ///
    /// # Errors
    /// `NotFound`, `EndTaken` while another process holds it, `TypeMismatch`, `Refused`, `Layout`,
    /// `Corrupt`.
    pub fn open(self, name: &str) -> Result<Channel<T>> {
        let attachment = self.attach(name)?;
        Channel::new(Arc::new(attachment), None, self.wait)
    }

    /// As [`open`](Self::open), waiting until the channel is there and its end is free.
    ///
    /// # Errors
    /// As `open`, with `NotFound` and `EndTaken` only after `timeout`.
    pub fn open_timeout(self, name: &str, timeout: Duration) -> Result<Channel<T>> {
        let attachment = self.attach_timeout(name, timeout)?;
        Channel::new(Arc::new(attachment), None, self.wait)
    }

    fn domain_name(&self) -> String {
        self.domain
            .clone()
            .unwrap_or_else(crate::domain::default_domain)
    }

    fn attach(&self, name: &str) -> Result<Attachment> {
        let roster = roster::join(&self.domain_name(), false).map_err(|e| match e {
            Error::NotFound { .. } => Error::NotFound {
                name: name.to_string(),
            },
            other => other,
        });
        // A bad name is to be told from a domain that is not there.
        crate::domain::check_name(name)?;
        Attachment::open(
            &roster?,
            name,
            Some(&TypeStamp::of::<T>()),
            self.keep_undelivered,
        )
    }

    pub(crate) fn attach_timeout(&self, name: &str, timeout: Duration) -> Result<Attachment> {
        let deadline = deadline_in(timeout);
        // Stays in the domain, once it is there, instead of joining it for each look.
        let mut _stay = None;
        let mut pause = Duration::from_micros(200);
        loop {
            _stay = roster::join(&self.domain_name(), false).ok().or(_stay);
            match self.attach(name) {
                Err(e @ (Error::NotFound { .. } | Error::EndTaken { .. })) => {
                    let left = deadline.map_or(Duration::MAX, |d| {
                        d.saturating_duration_since(Instant::now())
                    });
                    if left.is_zero() {
                        return Err(e);
                    }
                    std::thread::sleep(pause.min(left));
                    pause = (pause * 2).min(Duration::from_millis(10));
                }
                other => return other,
            }
        }
    }
}

/// What was asked for, as a ring can have it.
pub(crate) fn checked_capacity(bytes: usize) -> u64 {
    bytes
        .clamp(LEAST_CAPACITY, MOST_CAPACITY)
        .next_power_of_two() as u64
}

/// Bytes of each direction if nothing is said.
pub(crate) const DEFAULT_CAPACITY: usize = 256 << 10;
