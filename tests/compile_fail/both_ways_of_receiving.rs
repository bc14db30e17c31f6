//! A receiver that a listener has cannot be received from.

use ringlane::Receiver;

fn both(mut receiver: Receiver<u64>) -> ringlane::Result<()> {
    let _listener = receiver.on_receive(|_| ())?;
    receiver.recv()?;
    Ok(())
}

fn main() {}
