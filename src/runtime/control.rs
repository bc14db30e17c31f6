//! The control segment: what a main process and its children tell each other outside of the
//! channels. Control never shares a ring with data.
//!
//! | word | who writes | who reads |
//! |---|---|---|
//! | `nonce` | main before a spawn; the child takes it by storing 0 | both: 0 means attached |
//! | `stop` | main: the highest generation that is to stop | the child |
//! | `request` | the child: its generation, to be restarted | main |
//! | `bell` | children | main's control thread sleeps on it |
//! | `stop_bell` | main | the child sleeps on it |
//!
//! A word that speaks of a child carries its generation, so that what one incarnation said or was
//! told never reaches the next.

use crate::domain::RUNTIME;
use crate::error::{Error, Result};
use crate::layout::{CHILDREN, ChildRecord, Kind, PAGE, Prologue, RuntimeHeader};
use crate::role::{self, Claimed, Denied, State};
use crate::roster::Roster;
use crate::segment::{Segment, Size};
use crate::sync::Ordering::*;
use crate::sys;
use core::time::Duration;
use std::sync::Arc;

/// Where a child is in its life, as `dump` shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub(crate) enum Stage {
    Starting = 0,
    Running = 1,
    Stopping = 2,
    Waiting = 3,
    Ended = 4,
    Failed = 5,
}

/// The mapped segment, and for main its claim of the domain.
pub(crate) struct Control {
    segment: Segment,
    roster: Arc<Roster>,
    claimed: Option<Claimed>,
}

impl Control {
    /// Claims the domain for this process as main, and makes the segment.
    pub(crate) fn create(roster: &Arc<Roster>, children: &[&str]) -> Result<Control> {
        let directory = roster.directory();
        if children.len() > CHILDREN {
            return Err(Error::TooManyProcesses {
                max: CHILDREN as u32,
            });
        }
        let size = Size::fixed(size_of::<RuntimeHeader>().next_multiple_of(PAGE) as u64);
        for _ in 0..100 {
            match Segment::open(directory, RUNTIME, None) {
                Err(Error::NotFound { .. }) => {}
                Err(e) => return Err(e),
                Ok(old) => {
                    remove_dead(&old, roster)?;
                    continue;
                }
            }
            let mut claimed = None;
            let made = Segment::create(
                directory,
                RUNTIME,
                Kind::Runtime,
                size,
                roster.id(),
                |segment| {
                    let header = segment.header::<RuntimeHeader>();
                    header
                        .main_pid
                        .store(u64::from(std::process::id()), Relaxed);
                    header.started.store(sys::boot_seconds(), Relaxed);
                    for (record, name) in header.records.iter().zip(children) {
                        record.name.write(name);
                    }
                    header.children.store(children.len() as u64, Release);
                    claimed = role::claim(&header.prologue.host, roster).ok();
                },
            )?;
            if let (Ok(segment), Some(claimed)) = (made, claimed) {
                return Ok(Control {
                    segment,
                    roster: roster.clone(),
                    claimed: Some(claimed),
                });
            }
        }
        Err(Error::DomainTaken {
            domain: directory.name().to_string(),
            pid: 0,
        })
    }

    /// Opens the segment of the main process that started us.
    pub(crate) fn open(roster: &Arc<Roster>) -> Result<Control> {
        let segment = Segment::open(roster.directory(), RUNTIME, Some(Kind::Runtime))?;
        if segment.size() < size_of::<RuntimeHeader>() as u64 {
            return Err(Error::refused(
                segment.path(),
                "it is too small for a control segment",
            ));
        }
        if segment.header::<Prologue>().roster.load(Relaxed) != roster.id() {
            return Err(Error::ForeignRoster {
                path: segment.path().to_string(),
            });
        }
        Ok(Control {
            segment,
            roster: roster.clone(),
            claimed: None,
        })
    }

    pub(crate) fn header(&self) -> &RuntimeHeader {
        self.segment.header()
    }

    pub(crate) fn record(&self, index: usize) -> &ChildRecord {
        &self.header().records[index]
    }

    /// The record of the child called `name`.
    pub(crate) fn find(&self, name: &str) -> Option<usize> {
        let count = (self.header().children.load(Acquire) as usize).min(CHILDREN);
        (0..count).find(|i| self.record(*i).name.read() == name)
    }

    /// Main: tells a child to stop.
    pub(crate) fn tell_stop(&self, index: usize, generation: u32) {
        let record = self.record(index);
        // Release: whoever wakes up to it sees what was stored before; partner: `told_to_stop`.
        record.stop.fetch_max(generation, Release);
        record.stop_bell.change();
        record.stop_bell.wake(u32::MAX >> 1);
    }

    /// Child: whether this generation is to stop.
    pub(crate) fn told_to_stop(&self, index: usize, generation: u32) -> bool {
        self.record(index).stop.load(Acquire) >= generation
    }

    /// Child: sleeps until told something, at most `timeout`. `seen` was read before it looked.
    pub(crate) fn sleep(&self, index: usize, seen: u32, timeout: Duration) {
        self.record(index).stop_bell.wait(seen, timeout);
    }

    /// Child: asks main to restart it.
    pub(crate) fn ask_restart(&self, index: usize, generation: u32) {
        self.record(index).request.store(generation, Release);
        self.ring_main();
    }

    /// Wakes main's control thread.
    pub(crate) fn ring_main(&self) {
        self.header().bell.change();
        self.header().bell.wake(1);
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        let Some(claimed) = self.claimed else { return };
        if !self.roster.forked() {
            let state = match self.segment.unlink(self.roster.directory()) {
                Ok(()) => State::Closed,
                // For whoever starts the domain next to remove.
                Err(_) => State::Free,
            };
            role::give_up(&self.header().prologue.host, claimed.role, state);
        }
    }
}

/// Removes the control segment of a main that is gone; `DomainTaken` while it lives.
fn remove_dead(old: &Segment, roster: &Roster) -> Result<()> {
    let prologue = old.header::<Prologue>();
    if prologue.roster.load(Relaxed) != roster.id() {
        return Err(Error::ForeignRoster {
            path: old.path().to_string(),
        });
    }
    match role::claim_to_sweep(&prologue.host, roster) {
        Ok(claimed) => match old.unlink(roster.directory()) {
            Ok(()) => {
                role::give_up(&prologue.host, claimed.role, State::Closed);
                Ok(())
            }
            Err(e) => {
                role::restore(&prologue.host, claimed);
                Err(e)
            }
        },
        Err(Denied::Held(holder)) => Err(Error::DomainTaken {
            domain: roster.directory().name().to_string(),
            pid: roster.pid_of(holder),
        }),
        // Its main is just leaving, or another removes it.
        Err(Denied::Gone) => {
            std::thread::sleep(Duration::from_millis(1));
            Ok(())
        }
    }
}
