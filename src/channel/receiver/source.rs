//! A record as what a codec reads a value from.

use super::ring_producer;
use crate::codec::{Source, no_value};
use crate::error::RecvError;
use crate::ring::{Consumer, Record};
use core::marker::PhantomData;
use zerocopy::{Immutable, KnownLayout, TryFromBytes};

/// A record of which a value is made, and which stays where it is. Nobody changes it meanwhile.
pub(super) struct Received<'a, E> {
    consumer: &'a Consumer,
    record: Record,
    error: PhantomData<E>,
}

impl<'a, E> Received<'a, E> {
    pub(super) fn new(consumer: &'a Consumer, record: Record) -> Self {
        let error = PhantomData;
        Received {
            consumer,
            record,
            error,
        }
    }
}

impl<E: From<RecvError>> Source for Received<'_, E> {
    type Error = E;

    #[inline(always)]
    fn read<T: TryFromBytes + KnownLayout + Immutable>(self) -> Result<T, E> {
        let no_value = || no_value::<Self>(self.record.len(), size_of::<T>());
        self.consumer.read(&self.record, no_value)
    }

    #[inline(always)]
    fn append(self, out: &mut Vec<u8>) -> Result<(), E> {
        self.consumer.append(&self.record, out);
        Ok(())
    }

    fn undecodable(why: String) -> E {
        RecvError::Decode(why).into()
    }
}

/// A record that is released as soon as its bytes are copied.
pub(super) struct Taken<'a, E> {
    pub(super) consumer: &'a mut Consumer,
    pub(super) record: Record,
    pub(super) fences: bool,
    pub(super) error: PhantomData<E>,
}

impl<E: From<RecvError>> Source for Taken<'_, E> {
    type Error = E;

    #[inline(always)]
    fn read<T: TryFromBytes + KnownLayout + Immutable>(self) -> Result<T, E> {
        let no_value = || no_value::<Self>(self.record.len(), size_of::<T>());
        let released = |consumer: &Consumer| ring_producer(consumer, self.fences);
        self.consumer.take(self.record, released, no_value)
    }

    #[inline(always)]
    fn append(self, out: &mut Vec<u8>) -> Result<(), E> {
        self.consumer.append(&self.record, out);
        self.consumer.release(self.record);
        ring_producer(self.consumer, self.fences);
        Ok(())
    }

    fn undecodable(why: String) -> E {
        Received::undecodable(why)
    }
}
