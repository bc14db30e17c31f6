//! How a value becomes bytes, and which types are messages.

use core::borrow::Borrow;
use rapidhash::v3::rapidhash_v3;
use zerocopy::{Immutable, IntoBytes, KnownLayout, TryFromBytes};

mod sealed {
    pub trait Sealed {}
}

/// A type that crosses a channel or lies in a store: under which name, and how.
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
/// The name, the codec and, but for serde types, size and alignment are what both ends of a channel,
/// and all users of a value in a store, must agree on. Change the name when you change what the bytes mean.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a message",
    note = "say how it crosses: `impl ringlane::Message for {Self} {{ const NAME: &str = \"..\"; type Codec = ringlane::Plain; /* or Postcard */ }}`"
)]
pub trait Message {
    /// The type's name outside of the program, the same in every program that uses it.
    const NAME: &'static str;
    /// [`Plain`], [`Raw`], `Pod` or `Postcard`.
    type Codec: Codec<Self>;
}

/// What receiving or getting a `T` yields: `T` itself, `Vec<u8>` for `[u8]`, `String` for `str`.
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
    /// Whether `scratch` is used at all.
    #[doc(hidden)]
    const NEEDS_SCRATCH: bool;

    /// Calls `with` on the bytes of `value`, which may be put together in `scratch`.
    #[doc(hidden)]
    fn encode<R>(
        value: &T,
        scratch: &mut Vec<u8>,
        with: impl FnOnce(&[u8]) -> R,
    ) -> Result<R, String>;

    /// Makes a value of the bytes in `source`, which may be put together in `scratch`.
    #[doc(hidden)]
    fn decode<S: Source>(source: S, scratch: &mut Vec<u8>) -> Result<Self::Owned, S::Error>;
}

/// The bytes of one message, in shared memory: a record of a ring, or a value in a store. They are
/// copied once, and what is made of them is made of the copy.
#[doc(hidden)]
pub trait Source {
    /// Says that the bytes are no value, or that they changed while they were copied.
    type Error;

    /// The value that the bytes are. It is moved once, to where the caller of `recv` or `get` wants
    /// it, if this is the last thing that a codec does.
    fn read<T: TryFromBytes + KnownLayout + Immutable>(self) -> Result<T, Self::Error>;

    /// Appends all bytes to `out`.
    fn append(self, out: &mut Vec<u8>) -> Result<(), Self::Error>;

    /// The bytes are no value of the type.
    fn undecodable(why: String) -> Self::Error;
}

fn to_vec<S: Source>(source: S) -> Result<Vec<u8>, S::Error> {
    let mut bytes = Vec::new();
    source.append(&mut bytes)?;
    Ok(bytes)
}

#[cfg(any(feature = "serde", feature = "bytemuck"))]
fn refill<S: Source>(scratch: &mut Vec<u8>, source: S) -> Result<(), S::Error> {
    scratch.clear();
    source.append(scratch)
}

/// The codec of `zerocopy` types: their bytes as they stand, one copy each way. What is read is checked to be a value of the type after it was copied.
pub enum Plain {}

impl sealed::Sealed for Plain {}

impl<T> Codec<T> for Plain
where
    T: TryFromBytes + IntoBytes + KnownLayout + Immutable + 'static,
{
    type Owned = T;
    const ID: u16 = 1;
    const SHAPE: Option<(usize, usize)> = Some((size_of::<T>(), align_of::<T>()));
    const NEEDS_SCRATCH: bool = false;

    #[inline(always)]
    fn encode<R>(value: &T, _: &mut Vec<u8>, with: impl FnOnce(&[u8]) -> R) -> Result<R, String> {
        Ok(with(value.as_bytes()))
    }

    #[inline(always)]
    fn decode<S: Source>(source: S, _: &mut Vec<u8>) -> Result<T, S::Error> {
        source.read()
    }
}

/// That `len` bytes are no value of a type of `size` bytes.
#[cold]
#[inline(never)]
pub(crate) fn no_value<S: Source>(len: usize, size: usize) -> S::Error {
    S::undecodable(if len == size {
        "the bytes are no value of the type".to_string()
    } else {
        format!("{len} bytes, and the type has {size}")
    })
}

/// The codec of `[u8]` and `str`: the bytes themselves, of any length, one copy each way.
pub enum Raw {}

impl sealed::Sealed for Raw {}

impl Codec<[u8]> for Raw {
    type Owned = Vec<u8>;
    const ID: u16 = 0;
    const SHAPE: Option<(usize, usize)> = None;
    const NEEDS_SCRATCH: bool = false;

    #[inline(always)]
    fn encode<R>(
        value: &[u8],
        _: &mut Vec<u8>,
        with: impl FnOnce(&[u8]) -> R,
    ) -> Result<R, String> {
        Ok(with(value))
    }

    #[inline]
    fn decode<S: Source>(source: S, _: &mut Vec<u8>) -> Result<Vec<u8>, S::Error> {
        to_vec(source)
    }
}

impl Codec<str> for Raw {
    type Owned = String;
    const ID: u16 = 2;
    const SHAPE: Option<(usize, usize)> = None;
    const NEEDS_SCRATCH: bool = false;

    #[inline(always)]
    fn encode<R>(value: &str, _: &mut Vec<u8>, with: impl FnOnce(&[u8]) -> R) -> Result<R, String> {
        Ok(with(value.as_bytes()))
    }

    #[inline]
    fn decode<S: Source>(source: S, _: &mut Vec<u8>) -> Result<String, S::Error> {
        String::from_utf8(to_vec(source)?).map_err(|e| S::undecodable(e.to_string()))
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
    const NEEDS_SCRATCH: bool = true;

    #[inline(always)]
    fn encode<R>(value: &T, _: &mut Vec<u8>, with: impl FnOnce(&[u8]) -> R) -> Result<R, String> {
        Ok(with(bytemuck::bytes_of(value)))
    }

    #[inline]
    fn decode<S: Source>(source: S, scratch: &mut Vec<u8>) -> Result<T, S::Error> {
        refill(scratch, source)?;
        let value = bytemuck::checked::try_pod_read_unaligned(scratch);
        value.map_err(|e| S::undecodable(e.to_string()))
    }
}

/// The codec of serde types, in the `postcard` format. It goes through a buffer of the handle,
/// which grows to the largest message and is used again.
///
/// A value is serialized anew each time a sending call tries: twice where the room that was seen
/// last is used up, and more often while the ring is full. It should come out the same each time.
///
/// A type whose values take no bytes but come in any number, such as `Vec<()>`, should not be used:
/// `serde` counts them one by one, as many as a damaged message says. Nor should one that contains
/// itself, such as a list of boxes: it nests as deep as a damaged message says, and the stack is not
/// watched.
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
    const NEEDS_SCRATCH: bool = true;

    fn encode<R>(
        value: &T,
        scratch: &mut Vec<u8>,
        with: impl FnOnce(&[u8]) -> R,
    ) -> Result<R, String> {
        scratch.clear();
        postcard::to_io(value, &mut *scratch).map_err(|e| e.to_string())?;
        Ok(with(scratch))
    }

    fn decode<S: Source>(source: S, scratch: &mut Vec<u8>) -> Result<T, S::Error> {
        refill(scratch, source)?;
        match postcard::take_from_bytes(scratch) {
            Ok((value, [])) => Ok(value),
            Ok((_, rest)) => {
                let why = format!("{} bytes are left over", rest.len());
                Err(S::undecodable(why))
            }
            Err(e) => Err(S::undecodable(e.to_string())),
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

/// What all users of a `T` must agree on, hashed: codec, name and, where it counts, shape. Never 0.
/// Computed by the compiler.
pub(crate) const fn type_hash<T: Message + ?Sized>() -> u64 {
    const {
        let name = rapidhash_v3(T::NAME.as_bytes());
        let (size, align) = match T::Codec::SHAPE {
            Some((size, align)) => (size as u64, align as u64),
            None => (0, 0),
        };
        let id = T::Codec::ID as u64;
        let mut hash = name;
        let parts = [id, size, align];
        let mut i = 0;
        while i < parts.len() {
            let both = (hash as u128) << 64 | parts[i] as u128;
            hash = rapidhash_v3(&both.to_le_bytes());
            i += 1;
        }
        if hash == 0 { 1 } else { hash }
    }
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
