//! Contestant: `ipc-channel`, its channels of bytes, which spare themselves a codec. A receive
//! sleeps until there is something; the crate decides how much may be under way.

use ::ipc_channel::ipc::{
    IpcBytesReceiver, IpcBytesSender, IpcOneShotServer, IpcSender, bytes_channel,
};

use crate::channels::link::{Between, Link, Waiting};
use crate::channels::load::Load;
use crate::channels::peer::Address;

type Ends = (IpcBytesSender, IpcBytesReceiver);

pub struct IpcChannel {
    /// Where the other process's greeting arrives.
    server: Option<IpcOneShotServer<Ends>>,
    /// Of this side; none until it arrived.
    ends: Option<Ends>,
    buffer: Vec<u8>,
    load: Load,
}

impl IpcChannel {
    fn new(server: Option<IpcOneShotServer<Ends>>, ends: Option<Ends>, load: Load) -> Self {
        Self {
            server,
            ends,
            buffer: vec![0; load.bytes],
            load,
        }
    }
}

impl Link for IpcChannel {
    fn send(&mut self, stamp: u64) {
        self.load.write(&mut self.buffer, stamp);
        let (to_peer, _) = self.ends.as_ref().expect("the ends");
        to_peer.send(&self.buffer).expect("send");
    }

    fn recv(&mut self) -> u64 {
        let (_, from_peer) = self.ends.as_ref().expect("the ends");
        let message = from_peer.recv().expect("receive");
        self.load.read(&message)
    }
}

impl Between for IpcChannel {
    fn create(load: Load, _: Waiting) -> (Self, Address) {
        let (server, word) = IpcOneShotServer::new().expect("a server");
        let link = Self::new(Some(server), None, load);
        let inherited = Vec::new();
        (link, Address { word, inherited })
    }

    fn open(address: &str, load: Load, _: Waiting) -> Self {
        let parent = IpcSender::<Ends>::connect(address.to_owned()).expect("the parent");
        let (to_parent, from_us) = bytes_channel().expect("a channel");
        let (to_us, from_parent) = bytes_channel().expect("a channel");
        parent.send((to_us, from_us)).expect("greet the parent");
        Self::new(None, Some((to_parent, from_parent)), load)
    }

    fn met(&mut self) {
        let server = self.server.take().expect("the server");
        let (_, ends) = server.accept().expect("the greeting");
        self.ends = Some(ends);
    }
}
