//! The pages of `docs/`: the [guide], the [guarantees], the [design FAQ](faq), the
//! [architecture], the [dependencies], the [benchmarks] and the [costs].
//!
//! They are compiled here so that their examples are tested and their links are checked.

// Of two definitions of a link the first one counts, so these win over those at the end of each
// page, which lead a reader of the repository to files.
macro_rules! pages {
    ($($name:ident)*) => {$(
        #[doc = r"
[guide]: crate::_docs::guide
[guarantees]: crate::_docs::guarantees
[faq]: crate::_docs::faq
[architecture]: crate::_docs::architecture
[dependencies]: crate::_docs::dependencies
[benchmarks]: crate::_docs::benchmarks
[costs]: crate::_docs::costs
[layout]: ../../../src/ringlane/layout.rs.html
[role]: ../../../src/ringlane/role.rs.html
[roster]: ../../../src/ringlane/roster/mod.rs.html
[attachment]: ../../../src/ringlane/channel/attachment/mod.rs.html
[segment]: ../../../src/ringlane/segment.rs.html
[ring]: ../../../src/ringlane/ring/mod.rs.html
[memory]: ../../../src/ringlane/store/memory.rs.html
[journal]: ../../../src/ringlane/store/journal.rs.html
[lookup]: ../../../src/ringlane/store/lookup.rs.html
[lock]: ../../../src/ringlane/lock.rs.html
[words]: ../../../src/ringlane/words.rs.html
[`Channel::split`]: crate::Channel::split
[`Channel::wait_peer`]: crate::Channel::wait_peer
[`ChannelOptions`]: crate::ChannelOptions
[`ChannelOptions::open_timeout`]: crate::ChannelOptions::open_timeout
[`Child::current`]: crate::Child::current
[`Child::generation`]: crate::Child::generation
[`Child::get_channel`]: crate::Child::get_channel
[`Child::request_restart`]: crate::Child::request_restart
[`Child::stopping`]: crate::Child::stopping
[`Child::wait_stop`]: crate::Child::wait_stop
[`ChildSpec::stop_grace`]: crate::ChildSpec::stop_grace
[`Error`]: crate::Error
[`inspect::doctor`]: crate::inspect::doctor()
[`inspect::snapshot`]: crate::inspect::snapshot
[`Listener`]: crate::Listener
[`Listener::stop`]: crate::Listener::stop
[`Message`]: crate::Message
[`Plain`]: crate::Plain
[`Postcard`]: crate::Postcard
[`Raw`]: crate::Raw
[`Receiver::recv_many`]: crate::Receiver::recv_many
[`Receiver::recv_ref`]: crate::Receiver::recv_ref
[`RecvError`]: crate::RecvError
[`RecvRef::keep`]: crate::RecvRef::keep
[`RecvRef::position`]: crate::RecvRef::position
[`Restart`]: crate::Restart
[`Runtime`]: crate::Runtime
[`Runtime::get_channel`]: crate::Runtime::get_channel
[`Runtime::restart`]: crate::Runtime::restart
[`Runtime::set_channel`]: crate::Runtime::set_channel
[`Runtime::store`]: crate::Runtime::store
[`Store::remove`]: crate::Store::remove
[`RuntimeBuilder::run`]: crate::RuntimeBuilder::run
[`remove_domain`]: crate::remove_domain
[`SendError`]: crate::SendError
[`Sender::loan`]: crate::Sender::loan
[`TryRecvError`]: crate::TryRecvError
[`TrySendError`]: crate::TrySendError
[`Wait::Sleep`]: crate::Wait::Sleep
[`Wait::Spin`]: crate::Wait::Spin
"]
        #[doc = include_str!(concat!("../docs/", stringify!($name), ".md"))]
        pub mod $name {}
    )*};
}

pages!(guide guarantees faq architecture dependencies benchmarks costs);
