//! What SIGINT and SIGTERM mean while [`run`](super::RuntimeBuilder::run) goes on: the first asks
//! for the shutdown, the second ends the process at once.
//!
//! A handler that is installed cannot be taken out again without a race, so ours stay. Outside of
//! a `run` they do what the system would, if that is what it did before.

use crate::sys;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::{SigId, flag, low_level};
use std::io::{ErrorKind, Read, Result};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

/// No `run` goes on.
static OUTSIDE: AtomicBool = AtomicBool::new(true);
/// How many do; `None` before the first.
static RUNS: Mutex<Option<usize>> = Mutex::new(None);

fn runs() -> MutexGuard<'static, Option<usize>> {
    RUNS.lock().unwrap_or_else(|e| e.into_inner())
}

/// SIGINT and SIGTERM, while they mean a shutdown.
pub(super) struct Signals {
    ids: Vec<SigId>,
    read: UnixStream,
    write: UnixStream,
}

impl Signals {
    pub(super) fn install() -> Result<Signals> {
        let (read, write) = UnixStream::pair()?;
        let mut runs = runs();
        if runs.is_none() {
            for signal in [SIGINT, SIGTERM] {
                if sys::has_default_action(signal) {
                    flag::register_conditional_default(signal, &OUTSIDE)?;
                }
            }
        }
        *runs = Some(runs.unwrap_or(0) + 1);
        drop(runs);
        let mut signals = Signals {
            ids: Vec::new(),
            read,
            write,
        };
        let again = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM] {
            let write = signals.write.try_clone()?;
            signals.ids.push(low_level::pipe::register(signal, write)?);
            // In this order: the first signal arms what the second one does.
            let end = flag::register_conditional_default(signal, again.clone());
            signals.ids.push(end?);
            signals.ids.push(flag::register(signal, again.clone())?);
        }
        OUTSIDE.store(false, Ordering::SeqCst);
        Ok(signals)
    }

    /// A byte written there counts as a signal.
    pub(super) fn other_reason(&self) -> Result<UnixStream> {
        self.write.try_clone()
    }

    /// Waits for a signal or another reason.
    pub(super) fn wait(&self) -> Result<()> {
        let mut byte = [0];
        loop {
            match (&self.read).read_exact(&mut byte) {
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                outcome => return outcome,
            }
        }
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        let mut runs = runs();
        *runs = runs.map(|count| count - 1);
        if *runs == Some(0) {
            OUTSIDE.store(true, Ordering::SeqCst);
        }
        for id in self.ids.drain(..) {
            low_level::unregister(id);
        }
    }
}
