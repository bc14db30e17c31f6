//! Lifecycle hooks: each on a thread of its own with a queue, so that one that never returns delays
//! nothing but itself.

use super::{ChildStatus, Runtime};
use crate::error::{Error, Result};
use core::time::Duration;
use std::cell::Cell;
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

thread_local! {
    /// Whose hook this thread runs, and which of them.
    static RUNS: Cell<Option<(*const Shared, usize)>> = const { Cell::new(None) };
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
    /// Events posted and not yet dealt with, each by its hook, which is one of `queues`.
    pending: Mutex<Vec<(usize, Kind)>>,
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
        let hooks = std::mem::take(&mut *lock(&self.shared.hooks));
        for (at, (kind, mut hook, events)) in hooks.into_iter().enumerate() {
            let shared = self.shared.clone();
            let weak = Arc::downgrade(&runtime.inner);
            let body = move || {
                RUNS.set(Some((Arc::as_ptr(&shared), at)));
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
                    if let Some(first) = pending.iter().position(|event| *event == (at, kind)) {
                        pending.swap_remove(first);
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

    pub(super) fn post_child(&self, kind: Kind, child: &str) {
        self.post(kind, Event::Child(child.to_string()));
    }

    /// Tells all hooks of that kind, and does not wait for them.
    pub(super) fn post(&self, kind: Kind, event: Event) {
        let queues = lock(&self.shared.queues);
        let all = queues.iter().enumerate();
        for (at, (_, queue)) in all.filter(|(_, (k, _))| *k == kind) {
            // Kept until it is noted, so that the thread does not cross it out before.
            let mut pending = lock(&self.shared.pending);
            // Fails only if there never was a thread, which ends when its queue is closed.
            if queue.send(event.clone()).is_ok() {
                pending.push((at, kind));
            }
        }
    }

    /// Tells all hooks of that kind, and waits until they returned.
    pub(super) fn run_and_wait(&self, kind: Kind, event: Event) {
        self.post(kind, event);
        let mut pending = lock(&self.shared.pending);
        while pending.iter().any(|(_, k)| *k == kind) {
            pending = self
                .shared
                .one_done
                .wait(pending)
                .unwrap_or_else(|e| e.into_inner());
        }
    }

    /// Which of these hooks this thread runs, if it does.
    fn own(&self) -> Option<usize> {
        let (shared, at) = RUNS.get()?;
        (shared == Arc::as_ptr(&self.shared)).then_some(at)
    }

    /// Whether this thread runs one of these hooks.
    pub(super) fn is_one_here(&self) -> bool {
        self.own().is_some()
    }

    /// Closes the queues, and waits for what is running but for the hook that calls, at most
    /// `timeout`.
    pub(super) fn finish(&self, timeout: Duration) {
        lock(&self.shared.queues).clear();
        let deadline = Instant::now() + timeout;
        let own = self.own();
        let mut pending = lock(&self.shared.pending);
        while pending.iter().any(|(at, _)| Some(*at) != own) {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hook_that_finishes_all_does_not_wait_for_itself() {
        let domain = format!("test-hooks-{}", std::process::id());
        let runtime = Runtime::builder(&domain).start().unwrap();
        let (given, take) = channel::<Hooks>();
        let (done, is_done) = channel();
        let hook: Hook = Box::new(move |_, _| {
            // What else is posted to it can only follow.
            take.recv().unwrap().finish(Duration::from_secs(3600));
            done.send(()).unwrap();
        });
        let hooks = Hooks::new(vec![(Kind::AfterStart, hook)]);
        hooks.start(&runtime).unwrap();
        for _ in 0..2 {
            hooks.post(Kind::AfterStart, Event::AfterStart);
        }
        for _ in 0..2 {
            given.send(hooks.clone()).unwrap();
            is_done.recv_timeout(Duration::from_secs(60)).unwrap();
        }
        runtime.shutdown().unwrap();
    }
}
