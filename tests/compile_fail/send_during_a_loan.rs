//! Nothing is sent before a message that is being written.

use ringlane::Sender;

fn overtake(mut sender: Sender<[u8]>) {
    let loan = sender.loan(8).unwrap();
    sender.send([0; 8]).unwrap();
    loan.commit(8).unwrap();
}

fn main() {}
