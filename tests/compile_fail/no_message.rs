//! A type does not cross a channel before it says how, and is told how to say it.

struct Reading {
    at: u64,
}

fn receive(_: ringlane::Receiver<Reading>) {}

fn main() {}
