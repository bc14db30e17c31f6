//! A direction has one sender.

use ringlane::Sender;

fn two(sender: Sender<u64>) -> (Sender<u64>, Sender<u64>) {
    (sender.clone(), sender)
}

fn main() {}
