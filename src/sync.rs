//! The one door to atomics and fences: core's, or those of a model checker, so that it sees every
//! shared access of the code it runs. Under `cfg(loom)` that is loom, which goes through all orders
//! of a few steps; with `cfg(shuttle)` besides it is shuttle, which draws some of many.
//!
//! Behind it too: the two halves of the asymmetric fence, and the switch by which a model or a
//! test takes one step out of a protocol to show that the step is needed.

// Aliases and a function, not re-exports: clippy.toml bans core's own names everywhere else.
#[cfg(not(loom))]
#[allow(clippy::disallowed_types, clippy::disallowed_methods)]
mod atomics {
    #[cfg(not(ringlane_plain_fence))]
    pub(crate) use core::sync::atomic::compiler_fence;

    pub(crate) use core::sync::atomic::Ordering;

    pub(crate) type AtomicU32 = core::sync::atomic::AtomicU32;
    pub(crate) type AtomicU64 = core::sync::atomic::AtomicU64;

    #[inline(always)]
    pub(crate) fn fence(ordering: Ordering) {
        core::sync::atomic::fence(ordering);
    }
}

#[cfg(all(loom, not(shuttle)))]
mod atomics {
    pub(crate) use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
    pub(crate) use loom::thread;
}

#[cfg(shuttle)]
mod atomics {
    pub(crate) use shuttle::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
    pub(crate) use shuttle::thread;
}

pub(crate) use atomics::*;

/// The cheap half of the asymmetric fence, between a sender's commit and its look at the parked
/// word. It costs no instruction: the sleeper's [`crate::sys::heavy_fence`] makes every running
/// thread pass a full barrier, and all that is left to do here is to keep the compiler from
/// swapping the two. Under loom, and with `--cfg ringlane_plain_fence`, it is the plain fence
/// that stands for both.
#[inline(always)]
pub(crate) fn light_fence() {
    #[cfg(any(loom, ringlane_plain_fence))]
    fence(Ordering::SeqCst);
    #[cfg(not(any(loom, ringlane_plain_fence)))]
    compiler_fence(Ordering::SeqCst);
}

/// Stores to a shared word. Every store that a crash may fall before goes through here, so that a
/// test can kill a process, or a thread that plays one, before any of them.
#[inline(always)]
pub(crate) fn store(word: &AtomicU64, value: u64, ordering: Ordering) {
    #[cfg(test)]
    kills::kill_point();
    word.store(value, ordering);
}

#[cfg(test)]
pub(crate) mod kills {
    //! A kill before the k-th store: by an unwind, or of the whole process. Under loom all threads
    //! of a model share the count, so only one of them may store.

    #[cfg(shuttle)]
    use shuttle::thread_local;
    use std::cell::Cell;
    use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

    thread_local! {
        static STORES_LEFT: Cell<u32> = const { Cell::new(u32::MAX) };
        static FOR_GOOD: Cell<bool> = const { Cell::new(false) };
        static KILLED: Cell<bool> = const { Cell::new(false) };
    }

    struct Killed;

    fn stores_left(stores: u32) {
        STORES_LEFT.with(|left| left.set(stores));
    }

    pub(crate) fn kill_point() {
        if is_killed_here() {
            resume_unwind(Box::new(Killed));
        }
    }

    /// A kill point in a destructor, where an unwind would leak what its caller returns: `true` if
    /// it is to do nothing more, as a dead process does not. What follows unwinds at its next store.
    pub(crate) fn is_killed_here() -> bool {
        match STORES_LEFT.with(Cell::get) {
            u32::MAX => {}
            0 if FOR_GOOD.with(Cell::get) => {
                let me = rustix::process::getpid();
                let _ = rustix::process::kill_process(me, rustix::process::Signal::KILL);
            }
            0 => KILLED.with(|killed| killed.set(true)),
            n => stores_left(n - 1),
        }
        KILLED.with(Cell::get)
    }

    /// Runs `f`, killed before its store number `stores`. `None` if it was.
    pub(crate) fn killed_after<T>(stores: u32, f: impl FnOnce() -> T) -> Option<T> {
        stores_left(stores);
        let outcome = catch_unwind(AssertUnwindSafe(f));
        stores_left(u32::MAX);
        let killed = KILLED.with(Cell::take);
        match outcome {
            Ok(value) => (!killed).then_some(value),
            Err(payload) if payload.is::<Killed>() => None,
            Err(payload) => resume_unwind(payload),
        }
    }

    /// Unwinds what a kill in a destructor left running.
    pub(crate) fn stay_dead() {
        if KILLED.with(Cell::get) {
            resume_unwind(Box::new(Killed));
        }
    }

    /// Runs `f`, and says how many kill points it passed.
    pub(crate) fn count<T>(f: impl FnOnce() -> T) -> (T, u32) {
        const MANY: u32 = u32::MAX - 1;
        stores_left(MANY);
        let value = f();
        (
            value,
            MANY - STORES_LEFT.with(|left| left.replace(u32::MAX)),
        )
    }

    /// Kills this process before the store number `stores` of this thread from now on.
    pub(crate) fn kill_process_after(stores: u32) {
        FOR_GOOD.with(|is_set| is_set.set(true));
        stores_left(stores);
    }
}

/// A step of a protocol that a model or a test can take out. Each has a test that fails without it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// The commit's header store is Release.
    CommitRelease,
    /// So it is where a message needed no further look.
    PutRelease,
    /// The consumer's load of the header is Acquire.
    PeekAcquire,
    /// So it is where the header is the usual one,
    UsualAcquire,
    /// and where records are passed over.
    PassAcquire,
    /// A record's payload is copied before its room is given back.
    CopyFirst,
    /// The release of a record is a Release store of `head`.
    HeadRelease,
    /// The producer's load of `head` is Acquire.
    HeadAcquire,
    /// The next header is zeroed before the header is committed.
    ZeroNext,
    /// So it is where a message needed no further look.
    PutZeroNext,
    /// None is needed only for what ends where the last look found room.
    RoomInReach,
    /// Room counts the next header.
    RoomForNext,
    /// A header is never zero, so an empty message is seen.
    KindInHeader,
    /// A successor producer walks to the first zero header instead of trusting the mirror.
    Walk,
    /// It begins where that walk began, if there is nothing.
    StartOfWalk,
    /// A successor's store of a header is Release, as its predecessor's was.
    DiscardRelease,
    /// A walk reads `head` before any header,
    WalkHeadFirst,
    /// and a header before its payload.
    WalkHeaderFirst,
    /// The sleeper's fence between its parked store and its second look.
    SleeperFence,
    /// The waker's fence between its commit and its look at the parked word.
    WakerFence,
    /// The sleeper's second look.
    SecondLook,
    /// The waker changes the futex word before it wakes.
    BellBeforeWake,
    /// Whoever sees a futex word changed sees what was stored before,
    RingRelease,
    /// if it was by setting bits of it.
    SleepAcquire,
    /// Who takes the lock sees what was done under it before,
    TakeAcquire,
    /// since giving it back is a Release store,
    GiveRelease,
    /// and who waited for it leaves the mark that others may wait.
    StillWaiters,
    /// What is taken over is the word whose owner was found dead.
    JudgedWord,
    /// A reader of the store looks at the slot again,
    SlotAgain,
    /// and at the block's stamp,
    StampAgain,
    /// also if the key was another.
    MismatchAgain,
    /// It reads the number of buckets before any of them,
    BucketsFirst,
    /// a bucket's link before its slots,
    LinkFirst,
    /// its slots before anything else,
    SlotsFirst,
    /// the stamp before the rest of a block,
    StampFirst,
    /// and once more after all else.
    StampLast,
    /// It scans the home bucket again at the end of a chain,
    ScanAgain,
    /// and asks whether the key's home is still the same.
    HomeAgain,
    /// A writer stores that a block is free before it fills it,
    FreeBeforeFill,
    /// and makes each store of a commit after the ones before it.
    CommitInOrder,
}

/// Whether `step` is to be left out. Always `false` outside models and tests.
#[cfg(not(any(loom, test)))]
#[inline(always)]
pub(crate) const fn without(_step: Step) -> bool {
    false
}

#[cfg(any(loom, test))]
pub(crate) use mutants::{run_without, without};

#[cfg(any(loom, test))]
mod mutants {
    use super::Step;
    use std::cell::Cell;

    thread_local! {
        // Loom runs all threads of a model on one thread of the system, so they all see this.
        static LEFT_OUT: Cell<Option<Step>> = const { Cell::new(None) };
    }

    pub(crate) fn without(step: Step) -> bool {
        LEFT_OUT.get() == Some(step)
    }

    /// Runs `f` with `step` left out, and says whether it panicked, which it should.
    pub(crate) fn run_without(step: Step, f: impl FnOnce() + std::panic::UnwindSafe) -> bool {
        LEFT_OUT.set(Some(step));
        let outcome = std::panic::catch_unwind(f);
        LEFT_OUT.set(None);
        #[cfg(test)]
        if outcome.is_err() {
            let what = "removals of a step of a protocol, each noticed";
            crate::common::tally::tally("model", what, 1);
        }
        outcome.is_err()
    }
}

/// Plays `scene` in orders drawn at random: some in which every step is as likely as any other, and
/// some in which few threads are interrupted, at a few places, which is how most faults are met
/// (Burckhardt et al., A Randomized Scheduler with Probabilistic Guarantees of Finding Bugs, 2010).
/// Gives how many there were.
#[cfg(all(test, shuttle))]
pub(crate) fn draw(schedules: usize, scene: fn()) -> u64 {
    use shuttle::scheduler::{PctScheduler, RandomScheduler};
    const INTERRUPTIONS: usize = 3;
    let seed = crate::common::random::Random::printed().next();
    let mut config = shuttle::Config::new();
    config.stack_size = 1 << 18;
    config.silence_warnings = true;
    let any = RandomScheduler::new_from_seed(seed, schedules.div_ceil(2));
    let few = PctScheduler::new_from_seed(seed, INTERRUPTIONS, schedules / 2);
    let played = shuttle::Runner::new(any, config.clone()).run(scene);
    (played + shuttle::Runner::new(few, config).run(scene)) as u64
}

/// A fence, unless a model took `step` out.
#[inline(always)]
pub(crate) fn fence_of(step: Step, ordering: Ordering) {
    if !without(step) {
        fence(ordering);
    }
}

/// `ordering`, unless a model took `step` out.
#[inline(always)]
pub(crate) fn ordered(step: Step, ordering: Ordering) -> Ordering {
    if without(step) {
        Ordering::Relaxed
    } else {
        ordering
    }
}
