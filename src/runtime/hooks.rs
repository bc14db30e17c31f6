//! Lifecycle hooks: each on a thread of its own with a queue, so that one that never returns delays
//! nothing but itself.

use super::{ChildStatus, Runtime};
use crate::error::{Error, Result};
use core::time::Duration;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Instant;

/// When a hook runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    BeforeStart,
    AfterStart,
    BeforeChildStop,
    BeforeRestart,
    AfterRestart,
    ChildExit,
    AfterShutdown,
}

/// What a hook is told.
#[derive(Clone, Debug)]
pub(super) enum Event {
    BeforeStart,
    AfterStart,
    Child(String),
    Exit(ChildStatus),
    AfterShutdown,
}

/// After the shutdown there is no runtime to hand out.
pub(super) type Hook = Box<dyn FnMut(Option<&Runtime>, &Event) + Send>;

#[derive(Clone)]
pub(super) struct Hooks {
    shared: Arc<Shared>,
}

struct Shared {
    queues: Mutex<Vec<(Kind, Sender<Event>)>>,
    /// Taken when the threads are started.
    hooks: Mutex<Vec<(Kind, Hook, Receiver<Event>)>>,
    /// Events posted and not yet dealt with, by kind of hook.
    pending: Mutex<Vec<Kind>>,
    one_done: Condvar,
}

impl Hooks {
    pub(super) fn new(hooks: Vec<(Kind, Hook)>) -> Hooks {
        let mut queues = Vec::new();
        let mut waiting = Vec::new();
        for (kind, hook) in hooks {
            let (sender, receiver) = channel();
            queues.push((kind, sender));
            waiting.push((kind, hook, receiver));
        }
        let shared = Shared {
            queues: Mutex::new(queues),
            hooks: Mutex::new(waiting),
            pending: Mutex::default(),
            one_done: Condvar::new(),
        };
        Hooks {
            shared: Arc::new(shared),
        }
    }

    /// Starts the threads. `runtime` must not keep itself alive.
    pub(super) fn start(&self, runtime: &Runtime) -> Result<()> {
        for (kind, mut hook, events) in std::mem::take(&mut *lock(&self.shared.hooks)) {
            let shared = self.shared.clone();
            let weak = Arc::downgrade(&runtime.inner);
            let body = move || {
                for event in events {
                    let runtime = weak.upgrade().map(|inner| Runtime {
                        inner,
                        _guard: None,
                    });
                    // The panic has been printed, and concerns nobody else.
                    let _ = catch_unwind(AssertUnwindSafe(|| hook(runtime.as_ref(), &event)));
                    // Whoever waits for us then has the last one.
                    drop(runtime);
                    let mut pending = lock(&shared.pending);
                    if let Some(at) = pending.iter().position(|k| *k == kind) {
                        pending.swap_remove(at);
                    }
                    shared.one_done.notify_all();
                }
            };
            std::thread::Builder::new()
                .name("ringlane-hook".into())
                .spawn(body)
                .map_err(|e| Error::io("a hook's thread", e))?;
        }
        Ok(())
    }

    /// Tells all hooks of the event's kind, and does not wait for them.
    pub(super) fn post(&self, event: Event) {
        match event {
            Event::BeforeStart => self.post_as(Kind::BeforeStart, event),
            Event::AfterStart => self.post_as(Kind::AfterStart, event),
            Event::Exit(_) => self.post_as(Kind::ChildExit, event),
            Event::AfterShutdown => self.post_as(Kind::AfterShutdown, event),
            Event::Child(_) => unreachable!("posted with its kind"),
        }
    }

    pub(super) fn post_child(&self, kind: Kind, child: &str) {
        self.post_as(kind, Event::Child(child.to_string()));
    }

    fn post_as(&self, kind: Kind, event: Event) {
        for (_, queue) in lock(&self.shared.queues).iter().filter(|(k, _)| *k == kind) {
            // Kept until it is noted, so that the thread does not cross it out before.
            let mut pending = lock(&self.shared.pending);
            // Fails only if there never was a thread, which ends when its queue is closed.
            if queue.send(event.clone()).is_ok() {
                pending.push(kind);
            }
        }
    }

    /// Tells all hooks of the event's kind, and waits until they returned.
    pub(super) fn run_and_wait(&self, event: Event) {
        let kind = if matches!(event, Event::BeforeStart) {
            Kind::BeforeStart
        } else {
            Kind::AfterShutdown
        };
        self.post(event);
        let mut pending = lock(&self.shared.pending);
        while pending.contains(&kind) {
            pending = self
                .shared
                .one_done
                .wait(pending)
                .unwrap_or_else(|e| e.into_inner());
        }
    }

    /// Closes the queues, and waits for what is running, at most `timeout`.
    pub(super) fn finish(&self, timeout: Duration) {
        lock(&self.shared.queues).clear();
        let deadline = Instant::now() + timeout;
        let mut pending = lock(&self.shared.pending);
        while !pending.is_empty() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            let woken = self.shared.one_done.wait_timeout(pending, left);
            pending = woken.unwrap_or_else(|e| e.into_inner()).0;
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|e| e.into_inner())
}
