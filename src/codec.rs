//! How a value becomes bytes, and which types are messages.

use crate::ring::{Consumer, Record};
use core::borrow::Borrow;
use zerocopy::{Immutable, IntoBytes, KnownLayout, TryFromBytes};

mod sealed {
    pub trait Sealed {}
}

/// A type that crosses a channel: under which name, and how.
///
/// Integers, floats, `bool`, `char`, `()`, `str` and `[u8]` are messages. Another type becomes one
/// by saying so once:
///
/// ```
/// use ringlane::{Message, Plain};
/// use ringlane::zerocopy::{Immutable, IntoBytes, KnownLayout, TryFromBytes};
///
/// #[derive(TryFromBytes, IntoBytes, KnownLayout, Immutable)]
/// #[zerocopy(crate = "ringlane::zerocopy")]
/// #[repr(C)]
/// struct Point {
///     x: f64,
///     y: f64,
/// }
///
/// impl Message for Point {
///     const NAME: &str = "demo.Point";
///     type Codec = Plain;
/// }
/// ```
///
/// The name, the codec and, but for serde types, size and alignment are what both ends of a channel
/// must agree on. Change the name when you change what the bytes mean.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a message",
    note = "say how it crosses: `impl ringlane::Message for {Self} {{ const NAME: &str = \"..\"; type Codec = ringlane::Plain; /* or Postcard */ }}`"
)]
pub trait Message {
    /// The type's name on the channel, the same in every program that uses it.
    const NAME: &'static str;
    /// [`Plain`], [`Raw`], `Pod` or `Postcard`.
    type Codec: Codec<Self>;
}

/// What receiving a `T` yields: `T` itself, `Vec<u8>` for `[u8]`, `String` for `str`.
pub type Owned<T> = <<T as Message>::Codec as Codec<T>>::Owned;

/// How a `T` becomes bytes and is made of bytes again. Implemented by this crate's codecs only.
#[diagnostic::on_unimplemented(message = "`{Self}` cannot encode `{T}`")]
pub trait Codec<T: ?Sized>: sealed::Sealed + 'static {
    /// What is received.
    type Owned: Borrow<T>;

    #[doc(hidden)]
    const ID: u16;
    /// Size and alignment, if both ends must agree on them.
    #[doc(hidden)]
    const SHAPE: Option<(usize, usize)>;

    /// Calls `with` on the bytes of `value`, which may be put together in `scratch`.
    #[doc(hidden)]
    fn encode<R>(
        value: &T,
        scratch: &mut Vec<u8>,
        with: impl FnOnce(&[u8]) -> R,
    ) -> Result<R, String>;

    /// Makes a value of what was received.
    #[doc(hidden)]
    fn decode(received: Received<'_>) -> Result<Self::Owned, String>;
}

/// A record that is being received, and a buffer to use.
#[doc(hidden)]
pub struct Received<'a> {
    pub(crate) consumer: &'a Consumer,
    pub(crate) record: Record,
    // Some codecs need it, and which there are is the features' business.
    #[cfg_attr(not(any(feature = "serde", feature = "bytemuck")), allow(dead_code))]
    pub(crate) scratch: &'a mut Vec<u8>,
}

impl Received<'_> {
    #[inline(always)]
    fn read<T: TryFromBytes + KnownLayout + Immutable>(&self) -> Result<T, String> {
        match self.consumer.read(&self.record) {
            Some(value) => Ok(value),
            None => Err(self.not_a(size_of::<T>())),
        }
    }

    #[cold]
    fn not_a(&self, size: usize) -> String {
        match self.record.len() {
            len if len != size => format!("{len} bytes, and the type has {size}"),
            _ => "the bytes are no value of the type".to_string(),
        }
    }

    fn to_vec(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.consumer.append(&self.record, &mut bytes);
        bytes
    }
}

/// The codec of `zerocopy` types: their bytes as they stand, one copy each way. What is received
/// is checked to be a value of the type after it was copied.
pub enum Plain {}

impl sealed::Sealed for Plain {}

impl<T> Codec<T> for Plain
where
    T: TryFromBytes + IntoBytes + KnownLayout + Immutable + 'static,
{
    type Owned = T;
    const ID: u16 = 1;
    const SHAPE: Option<(usize, usize)> = Some((size_of::<T>(), align_of::<T>()));

    #[inline(always)]
    fn encode<R>(value: &T, _: &mut Vec<u8>, with: impl FnOnce(&[u8]) -> R) -> Result<R, String> {
        Ok(with(value.as_bytes()))
    }

    #[inline(always)]
    fn decode(received: Received<'_>) -> Result<T, String> {
        received.read()
    }
}

/// The codec of `[u8]` and `str`: the bytes themselves, of any length, one copy each way.
pub enum Raw {}

impl sealed::Sealed for Raw {}

impl Codec<[u8]> for Raw {
    type Owned = Vec<u8>;
    const ID: u16 = 0;
    const SHAPE: Option<(usize, usize)> = None;

    #[inline(always)]
    fn encode<R>(
        value: &[u8],
        _: &mut Vec<u8>,
        with: impl FnOnce(&[u8]) -> R,
    ) -> Result<R, String> {
        Ok(with(value))
    }

    #[inline]
    fn decode(received: Received<'_>) -> Result<Vec<u8>, String> {
        Ok(received.to_vec())
    }
}

impl Codec<str> for Raw {
    type Owned = String;
    const ID: u16 = 2;
    const SHAPE: Option<(usize, usize)> = None;

    #[inline(always)]
    fn encode<R>(value: &str, _: &mut Vec<u8>, with: impl FnOnce(&[u8]) -> R) -> Result<R, String> {
        Ok(with(value.as_bytes()))
    }

    #[inline]
    fn decode(received: Received<'_>) -> Result<String, String> {
        String::from_utf8(received.to_vec()).map_err(|e| e.to_string())
    }
}

/// The codec of `bytemuck` types. On the channel they are what [`Plain`] makes of the same type, so
/// one end may use either.
///
/// ```
/// use ringlane::{Message, Pod};
///
/// #[derive(Clone, Copy, bytemuck::NoUninit, bytemuck::CheckedBitPattern)]
/// #[repr(C)]
/// struct Sample {
///     at: u64,
///     value: f64,
/// }
///
/// impl Message for Sample {
///     const NAME: &str = "demo.Sample";
///     type Codec = Pod;
/// }
/// ```
#[cfg(feature = "bytemuck")]
pub enum Pod {}

#[cfg(feature = "bytemuck")]
impl sealed::Sealed for Pod {}

#[cfg(feature = "bytemuck")]
impl<T> Codec<T> for Pod
where
    T: bytemuck::NoUninit + bytemuck::CheckedBitPattern,
{
    type Owned = T;
    const ID: u16 = 1;
    const SHAPE: Option<(usize, usize)> = Some((size_of::<T>(), align_of::<T>()));

    #[inline(always)]
    fn encode<R>(value: &T, _: &mut Vec<u8>, with: impl FnOnce(&[u8]) -> R) -> Result<R, String> {
        Ok(with(bytemuck::bytes_of(value)))
    }

    #[inline]
    fn decode(received: Received<'_>) -> Result<T, String> {
        let bytes = received.scratch;
        bytes.clear();
        received.consumer.append(&received.record, bytes);
        bytemuck::checked::try_pod_read_unaligned(bytes).map_err(|e| e.to_string())
    }
}

/// The codec of serde types, in the `postcard` format. It goes through a buffer of the handle,
/// which grows to the largest message and is used again.
///
/// A type whose values take no bytes but come in any number, such as `Vec<()>`, should not be used:
/// `serde` counts them one by one, as many as a damaged message says.
///
/// ```
/// use ringlane::{Message, Postcard};
///
/// #[derive(serde::Serialize, serde::Deserialize)]
/// enum Line {
///     Text(String),
///     Quit,
/// }
///
/// impl Message for Line {
///     const NAME: &str = "demo.Line";
///     type Codec = Postcard;
/// }
/// ```
#[cfg(feature = "serde")]
pub enum Postcard {}

#[cfg(feature = "serde")]
impl sealed::Sealed for Postcard {}

#[cfg(feature = "serde")]
impl<T> Codec<T> for Postcard
where
    T: serde::Serialize + serde::de::DeserializeOwned + 'static,
{
    type Owned = T;
    const ID: u16 = 16;
    const SHAPE: Option<(usize, usize)> = None;

    fn encode<R>(
        value: &T,
        scratch: &mut Vec<u8>,
        with: impl FnOnce(&[u8]) -> R,
    ) -> Result<R, String> {
        scratch.clear();
        postcard::to_io(value, &mut *scratch).map_err(|e| e.to_string())?;
        Ok(with(scratch))
    }

    fn decode(received: Received<'_>) -> Result<T, String> {
        let bytes = received.scratch;
        bytes.clear();
        received.consumer.append(&received.record, bytes);
        match postcard::take_from_bytes(bytes) {
            Ok((value, [])) => Ok(value),
            Ok((_, rest)) => Err(format!("{} bytes are left over", rest.len())),
            Err(e) => Err(e.to_string()),
        }
    }
}

macro_rules! plain {
    ($($name:ident)*) => {
        $(impl Message for $name {
            const NAME: &'static str = stringify!($name);
            type Codec = Plain;
        })*
    };
}

plain!(u8 u16 u32 u64 u128 i8 i16 i32 i64 i128 f32 f64 bool char);

impl Message for () {
    const NAME: &'static str = "()";
    type Codec = Plain;
}

impl Message for [u8] {
    const NAME: &'static str = "[u8]";
    type Codec = Raw;
}

impl Message for str {
    const NAME: &'static str = "str";
    type Codec = Raw;
}

/// What both ends must agree on, hashed: codec, name and, where it counts, shape. Never 0.
pub(crate) fn type_hash<T: Message + ?Sized>() -> u64 {
    let mut bytes = T::Codec::ID.to_le_bytes().to_vec();
    if let Some((size, align)) = T::Codec::SHAPE {
        bytes.extend((size as u64).to_le_bytes());
        bytes.extend((align as u64).to_le_bytes());
    }
    bytes.extend(T::NAME.as_bytes());
    rapidhash::v3::rapidhash_v3(&bytes).max(1)
}

/// The same for people: `name (codec)`.
pub(crate) fn type_name<T: Message + ?Sized>() -> String {
    let codec = codec_name(T::Codec::ID);
    match T::Codec::SHAPE {
        Some((size, align)) => format!("{} ({codec}, {size} bytes, align {align})", T::NAME),
        None => format!("{} ({codec})", T::NAME),
    }
}

fn codec_name(id: u16) -> &'static str {
    match id {
        0 | 2 => "raw",
        1 => "plain",
        16 => "postcard",
        _ => "unknown codec",
    }
}
