//! Values of all kinds, and a store's calls for each of them.

use ringlane::zerocopy::{Immutable, IntoBytes, KnownLayout, TryFromBytes};
use ringlane::{CasError, Message, Owned, Plain, Result, Store};
use std::collections::BTreeMap;
use std::marker::PhantomData;

#[derive(Clone, Copy, Debug, PartialEq, TryFromBytes, IntoBytes, KnownLayout, Immutable)]
#[zerocopy(crate = "ringlane::zerocopy")]
#[repr(C)]
pub struct Point {
    pub x: u64,
    pub y: i32,
    pub z: u32,
}

impl Message for Point {
    const NAME: &str = "test.Point";
    type Codec = Plain;
}

#[cfg(feature = "serde")]
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub enum Note {
    Empty,
    Words(Vec<String>),
}

#[cfg(feature = "serde")]
impl Message for Note {
    const NAME: &str = "test.Note";
    type Codec = ringlane::Postcard;
}

macro_rules! kinds {
    ($($(#[$meta:meta])* $kind:ident: $type:ty => $owned:ty,)*) => {
        #[derive(Clone, Debug, PartialEq)]
        pub enum Value {
            $($(#[$meta])* $kind($owned),)*
        }

        #[derive(Clone, Copy, Debug, PartialEq)]
        pub enum Kind {
            $($(#[$meta])* $kind,)*
        }

        pub const KINDS: &[Kind] = &[$($(#[$meta])* Kind::$kind,)*];

        impl Value {
            pub fn kind(&self) -> Kind {
                match self {
                    $($(#[$meta])* Value::$kind(_) => Kind::$kind,)*
                }
            }
        }

        impl Kind {
            pub fn calls(self) -> &'static dyn Calls {
                match self {
                    $($(#[$meta])* Kind::$kind => &Of::<$type>(PhantomData),)*
                }
            }
        }

        $(
            $(#[$meta])*
            impl From<$owned> for Value {
                fn from(value: $owned) -> Value {
                    Value::$kind(value)
                }
            }

            $(#[$meta])*
            impl InValue for $type {
                fn of(value: &Value) -> &$type {
                    match value {
                        Value::$kind(value) => value,
                        other => panic!("{other:?}"),
                    }
                }
            }
        )*
    };
}

kinds! {
    Number: u64 => u64,
    Counter: i64 => i64,
    Text: str => String,
    Bytes: [u8] => Vec<u8>,
    Flag: bool => bool,
    Letter: char => char,
    Point: Point => Point,
    #[cfg(feature = "serde")]
    Note: Note => Note,
}

/// A type that a value may be of.
pub trait InValue {
    fn of(value: &Value) -> &Self;
}

/// The calls of a store for one type.
pub trait Calls {
    fn name(&self) -> &'static str;
    fn set(&self, store: &Store, key: &[u8], value: &Value) -> Result<u64>;
    fn insert_new(&self, store: &Store, key: &[u8], value: &Value) -> Result<Option<u64>>;
    fn swap(&self, store: &Store, key: &[u8], value: &Value) -> Result<Option<Value>>;
    fn compare_and_set(
        &self,
        store: &Store,
        key: &[u8],
        version: u64,
        value: &Value,
    ) -> Result<u64, CasError>;
    /// Gives the old value, too.
    fn update(
        &self,
        store: &Store,
        key: &[u8],
        new: Option<&Value>,
    ) -> Result<(u64, Option<Value>)>;
    fn get(&self, store: &Store, key: &[u8]) -> Result<Option<Value>>;
    fn get_or(&self, store: &Store, key: &[u8], default: &Value) -> Result<Value>;
    fn get_versioned(&self, store: &Store, key: &[u8]) -> Result<Option<(Value, u64)>>;
    fn iter(&self, store: &Store) -> BTreeMap<Vec<u8>, Value>;
    fn get_all(&self, store: &Store) -> Result<BTreeMap<Vec<u8>, Value>>;
}

pub struct Of<T: ?Sized>(PhantomData<T>);

impl<T> Calls for Of<T>
where
    T: Message + InValue + ToOwned<Owned = Owned<T>> + ?Sized,
    Value: From<Owned<T>>,
{
    fn name(&self) -> &'static str {
        T::NAME
    }

    fn set(&self, store: &Store, key: &[u8], value: &Value) -> Result<u64> {
        store.set(key, T::of(value))
    }

    fn insert_new(&self, store: &Store, key: &[u8], value: &Value) -> Result<Option<u64>> {
        store.insert_new(key, T::of(value))
    }

    fn swap(&self, store: &Store, key: &[u8], value: &Value) -> Result<Option<Value>> {
        Ok(store.swap(key, T::of(value))?.map(Value::from))
    }

    fn compare_and_set(
        &self,
        store: &Store,
        key: &[u8],
        version: u64,
        value: &Value,
    ) -> Result<u64, CasError> {
        store.compare_and_set(key, version, T::of(value))
    }

    fn update(
        &self,
        store: &Store,
        key: &[u8],
        new: Option<&Value>,
    ) -> Result<(u64, Option<Value>)> {
        let mut seen = None;
        let version = store.update::<T>(key, |old| {
            seen = old.map(Value::from);
            new.map(|value| T::of(value).to_owned())
        })?;
        Ok((version, seen))
    }

    fn get(&self, store: &Store, key: &[u8]) -> Result<Option<Value>> {
        Ok(store.get::<T>(key)?.map(Value::from))
    }

    fn get_or(&self, store: &Store, key: &[u8], default: &Value) -> Result<Value> {
        Ok(store.get_or::<T>(key, T::of(default).to_owned())?.into())
    }

    fn get_versioned(&self, store: &Store, key: &[u8]) -> Result<Option<(Value, u64)>> {
        let found = store.get_versioned::<T>(key)?;
        Ok(found.map(|(value, version)| (value.into(), version)))
    }

    fn iter(&self, store: &Store) -> BTreeMap<Vec<u8>, Value> {
        let mut all = BTreeMap::new();
        for (key, value) in store.iter::<T>() {
            assert!(all.insert(key, value.into()).is_none(), "a key twice");
        }
        all
    }

    fn get_all(&self, store: &Store) -> Result<BTreeMap<Vec<u8>, Value>> {
        let all = store.get_all::<T>()?.into_iter();
        Ok(all.map(|(key, value)| (key, value.into())).collect())
    }
}
