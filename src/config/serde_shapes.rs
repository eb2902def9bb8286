//! Types for YAML shapes that serde lacks: one value or a list, a string or another value, an ordered map, and two structs
//! merged into one map.
//!
//! Only the config's deserializer supports them. It keeps positions and unknown-key checks intact, which serde's `untagged`
//! and `flatten` lose.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};

pub(super) const LIST: &str = "$list";
pub(super) const STRING_OR: &str = "$text-or";
pub(super) const MERGED: &str = "$both";

/// One value, or a list of them.
#[derive(Debug, Clone, PartialEq)]
pub struct OneOrMany<T>(pub Vec<T>);

// manual, because the derived impl would require `T: Default`
impl<T> Default for OneOrMany<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for OneOrMany<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ListVisitor<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for ListVisitor<T> {
            type Value = OneOrMany<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("one value or a list")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = seq.next_element()? {
                    items.push(item);
                }
                Ok(OneOrMany(items))
            }
        }
        deserializer.deserialize_newtype_struct(LIST, ListVisitor(PhantomData))
    }
}

/// A string, or another value.
#[derive(Debug, Clone, PartialEq)]
pub enum StringOr<T> {
    /// A scalar.
    Text(String),
    /// A map or a list.
    Other(T),
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for StringOr<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct StringOrVisitor<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for StringOrVisitor<T> {
            type Value = StringOr<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string or a map")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                let absent = || A::Error::custom("a value was expected");
                let text: bool = seq.next_element()?.ok_or_else(absent)?;
                Ok(if text {
                    StringOr::Text(seq.next_element()?.ok_or_else(absent)?)
                } else {
                    StringOr::Other(seq.next_element()?.ok_or_else(absent)?)
                })
            }
        }
        deserializer.deserialize_newtype_struct(STRING_OR, StringOrVisitor(PhantomData))
    }
}

/// Two structs with their fields in one map. A key is unknown if neither has it.
#[derive(Debug, Clone, PartialEq)]
pub struct Merged<A, B>(pub A, pub B);

impl<'de, A: Deserialize<'de>, B: Deserialize<'de>> Deserialize<'de> for Merged<A, B> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct MergedVisitor<A, B>(PhantomData<(A, B)>);
        impl<'de, A: Deserialize<'de>, B: Deserialize<'de>> Visitor<'de> for MergedVisitor<A, B> {
            type Value = Merged<A, B>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map")
            }
            fn visit_seq<S: SeqAccess<'de>>(self, mut seq: S) -> Result<Self::Value, S::Error> {
                let absent = || S::Error::custom("a value was expected");
                let first = seq.next_element()?.ok_or_else(absent)?;
                let second = seq.next_element()?.ok_or_else(absent)?;
                Ok(Merged(first, second))
            }
        }
        deserializer.deserialize_newtype_struct(MERGED, MergedVisitor(PhantomData))
    }
}

/// The entries of a map, in the order of the file.
#[derive(Debug, Clone, PartialEq)]
pub struct OrderedMap<K, V>(pub Vec<(K, V)>);

impl<K, V> Default for OrderedMap<K, V> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<'de, K: Deserialize<'de>, T: Deserialize<'de>> Deserialize<'de> for OrderedMap<K, T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct MapVisitor<K, T>(PhantomData<(K, T)>);
        impl<'de, K: Deserialize<'de>, T: Deserialize<'de>> Visitor<'de> for MapVisitor<K, T> {
            type Value = OrderedMap<K, T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map")
            }
            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Self::Value, M::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(OrderedMap(entries))
            }
        }
        deserializer.deserialize_map(MapVisitor(PhantomData))
    }
}
