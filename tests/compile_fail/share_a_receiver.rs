//! One thread at a time uses a handle.

use ringlane::Receiver;

fn share(receiver: Receiver<u64>) {
    std::thread::scope(|scope| {
        scope.spawn(|| receiver.stats());
        scope.spawn(|| receiver.stats());
    });
}

fn main() {}
