//! Where clients and the supervisor meet: orders in, statuses out, and waiting for what was ordered.

use super::ChildStatus;
use crate::error::{Error, Result};
use rustix::fd::OwnedFd;
use std::collections::VecDeque;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;

#[derive(Clone, Copy, Debug)]
pub(super) enum Order {
    Restart(usize),
    Stop(usize),
    ShutDown,
}

/// What the supervisor and its clients share.
pub(super) struct Desk {
    pub(super) names: Vec<String>,
    pub(super) state: Mutex<DeskState>,
    pub(super) changed: Condvar,
    /// Written after every order.
    pub(super) wake: OwnedFd,
}

pub(super) struct DeskState {
    pub(super) orders: VecDeque<Order>,
    pub(super) statuses: Vec<ChildStatus>,
    pub(super) ends: Vec<End>,
    /// Somebody obeys.
    pub(super) started: bool,
    pub(super) closed: bool,
    pub(super) when_all_ended: Option<UnixStream>,
    /// The supervisor left, and tells nobody any more.
    pub(super) left: bool,
    pub(super) threads: Vec<JoinHandle<()>>,
}

/// How often a child was found to run no more, and how it stood then.
pub(super) struct End {
    pub(super) count: u64,
    pub(super) last: ChildStatus,
}

/// A client's view of the supervisor.
#[derive(Clone)]
pub(super) struct Handle(pub(super) Arc<Desk>);

impl Handle {
    pub(super) fn lock(&self) -> MutexGuard<'_, DeskState> {
        self.0.state.lock().unwrap_or_else(|e| e.into_inner())
    }

    pub(super) fn index(&self, child: &str) -> Result<usize> {
        let found = self.0.names.iter().position(|name| name == child);
        found.ok_or_else(|| Error::NotFound {
            name: child.to_string(),
        })
    }

    pub(super) fn statuses(&self) -> Vec<ChildStatus> {
        self.lock().statuses.clone()
    }

    pub(super) fn order(&self, order: Order) -> Result<()> {
        self.order_under(self.lock(), order)
    }

    fn order_under(&self, mut state: MutexGuard<'_, DeskState>, order: Order) -> Result<()> {
        if state.closed {
            return Err(Error::Stopping);
        }
        match order {
            // So that whoever waits from here on waits for what was ordered.
            Order::Restart(index) => state.statuses[index].running = true,
            Order::Stop(_) => {}
            Order::ShutDown => state.closed = true,
        }
        state.orders.push_back(order);
        drop(state);
        wake(&self.0.wake);
        Ok(())
    }

    /// Orders a child to be stopped, and waits until it was. Not before the start, which may wait
    /// for the caller.
    pub(super) fn stop(&self, index: usize) -> Result<()> {
        let state = self.lock();
        let (before, started) = (state.ends[index].count, state.started);
        self.order_under(state, Order::Stop(index))?;
        if started {
            self.wait_for_end(self.lock(), index, before);
        }
        Ok(())
    }

    /// Waits until the child runs no more and will not by itself.
    pub(super) fn wait(&self, index: usize) -> ChildStatus {
        let state = self.lock();
        if !state.statuses[index].running || !state.started {
            return state.statuses[index].clone();
        }
        let before = state.ends[index].count;
        self.wait_for_end(state, index, before)
    }

    /// Waits for an end after the first `before`. Not for a child that runs no more: somebody may
    /// have it started again before we wake up.
    fn wait_for_end(
        &self,
        mut state: MutexGuard<'_, DeskState>,
        index: usize,
        before: u64,
    ) -> ChildStatus {
        while state.ends[index].count == before {
            state = self
                .0
                .changed
                .wait(state)
                .unwrap_or_else(|e| e.into_inner());
        }
        state.ends[index].last.clone()
    }

    /// Has a byte written once all children ended.
    pub(super) fn tell_when_all_ended(&self, to: UnixStream) {
        let mut state = self.lock();
        if state.left {
            return tell(to);
        }
        state.when_all_ended = Some(to);
        drop(state);
        wake(&self.0.wake);
    }

    /// Stops all children and waits for the end of both threads.
    pub(super) fn shut_down(&self) {
        // Closed before: then another call waits for the threads.
        let _ = self.order(Order::ShutDown);
        let threads = std::mem::take(&mut self.lock().threads);
        for thread in threads {
            let _ = thread.join();
        }
    }
}

pub(super) fn tell(mut to: UnixStream) {
    let _ = to.write_all(&[0]);
}

pub(super) fn wake(eventfd: &OwnedFd) {
    // Only a counter at its maximum would block, and that wakes as well.
    let _ = rustix::io::write(eventfd, &1u64.to_ne_bytes());
}
