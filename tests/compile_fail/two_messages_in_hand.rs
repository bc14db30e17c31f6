//! One message at a time is handed out in place.

use ringlane::Receiver;

fn two(mut receiver: Receiver<u64>) -> ringlane::Result<()> {
    let first = receiver.recv_ref()?;
    let second = receiver.recv_ref()?;
    println!("{first:?} {second:?}");
    Ok(())
}

fn main() {}
