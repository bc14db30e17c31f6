//! What the files beside this one do, without what is wrong with it: if this compiles and they do
//! not, it is for the right reason.
#![allow(dead_code)]

use ringlane::zerocopy::{Immutable, IntoBytes, KnownLayout, TryFromBytes};
use ringlane::{Channel, Message, Plain, Receiver, Sender};

fn one_way_of_receiving(receiver: Receiver<u64>) -> ringlane::Result<()> {
    let listener = receiver.on_receive(|_| ())?;
    let mut receiver = listener.stop()?;
    receiver.recv()?;
    Ok(())
}

#[derive(TryFromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
struct Padded {
    small: u8,
    padding: [u8; 7],
    large: u64,
}

impl Message for Padded {
    const NAME: &str = "test.Padded";
    type Codec = Plain;
}

fn messages(mut channel: Channel<Padded>) {
    let _ = channel.recv();
}

fn one_handle(sender: Sender<u64>) {
    // Moved to another thread, not shared with it.
    std::thread::spawn(move || drop(sender));
}

fn one_message_at_a_time(mut receiver: Receiver<u64>) {
    drop(receiver.recv_ref());
    drop(receiver.recv_ref());
}

fn one_loan_at_a_time(mut sender: Sender<[u8]>) {
    drop(sender.loan(8));
    drop(sender.send([0; 8]));
}

fn main() {}
