//! Readers and writers of a small table under the model checkers: all orders of a few steps, or
//! some orders of many.

#[cfg(not(shuttle))]
mod exhaustive;
#[cfg(shuttle)]
mod schedules;
mod world;
