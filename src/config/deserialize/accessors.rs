//! serde accessors for the parts of a value.

use std::rc::Rc;

use serde::de::{DeserializeSeed, EnumAccess, MapAccess, SeqAccess, VariantAccess, Visitor, value::SeqDeserializer};

use super::error::DecodeError;
use super::{DecodeState, NodeDeserializer, SharedFields, str_deserializer, truncate};
use crate::config::suggest::nearest;
use crate::config::yaml::{MapEntry, Node, NodeKind};

/// Accesses the items of a list that have no error.
pub(crate) struct ItemAccess<'a> {
    items: std::slice::Iter<'a, Node>,
    state: &'a DecodeState<'a>,
}

impl<'a> ItemAccess<'a> {
    pub(crate) fn new(items: &'a [Node], state: &'a DecodeState<'a>) -> Self {
        Self { items: items.iter(), state }
    }
}

impl<'de, 'a> SeqAccess<'de> for ItemAccess<'a> {
    type Error = DecodeError<'a>;
    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, DecodeError<'a>> {
        let state = self.state;
        let Some(node) = self.items.find(|node| !state.is_pruned(node)) else { return Ok(None) };
        seed.deserialize(NodeDeserializer::new(node, self.state)).map(Some).map_err(|error| error.at(node))
    }
}

/// Accesses the entries of a map that have no error; for a struct, only its fields.
pub(crate) struct EntryAccess<'a> {
    entries: std::slice::Iter<'a, MapEntry>,
    state: &'a DecodeState<'a>,
    fields: Option<&'static [&'static str]>,
    current: Option<&'a MapEntry>,
}

impl<'a> EntryAccess<'a> {
    pub(crate) fn new(entries: &'a [MapEntry], state: &'a DecodeState<'a>) -> Self {
        Self { entries: entries.iter(), state, fields: None, current: None }
    }

    pub(crate) fn for_struct(
        entries: &'a [MapEntry],
        state: &'a DecodeState<'a>,
        fields: &'static [&'static str],
    ) -> Self {
        Self { fields: Some(fields), ..Self::new(entries, state) }
    }
}

impl<'de, 'a> MapAccess<'de> for EntryAccess<'a> {
    type Error = DecodeError<'a>;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, DecodeError<'a>> {
        let (state, fields) = (self.state, self.fields);
        self.current = self.entries.find(|entry| {
            !state.is_pruned(&entry.value) && fields.is_none_or(|known| known.contains(&entry.key.as_str()))
        });
        let Some(entry) = self.current else { return Ok(None) };
        let key: Result<_, DecodeError<'a>> =
            seed.deserialize(serde::de::value::StringDeserializer::new(entry.key.clone()));
        key.map(Some).map_err(|error| error.at(&entry.value).with_span(entry.start, entry.end))
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, DecodeError<'a>> {
        let Some(entry) = self.current.take() else {
            return Err(DecodeError::new("a value without a key"));
        };
        let value = NodeDeserializer::new(&entry.value, self.state);
        let null = value.is_null();
        seed.deserialize(value).map_err(|error| {
            // there is no value to point at, so point at the key
            match null {
                true => error.at(&entry.value).with_span(entry.start, entry.end),
                false => error.at(&entry.value),
            }
        })
    }
}

/// Accesses a value's position, and then the value.
pub(crate) struct SpannedAccess<'a> {
    de: NodeDeserializer<'a>,
    step: u8,
}

impl<'a> SpannedAccess<'a> {
    pub(crate) fn new(de: NodeDeserializer<'a>) -> Self {
        Self { de, step: 0 }
    }
}

impl<'de, 'a> SeqAccess<'de> for SpannedAccess<'a> {
    type Error = DecodeError<'a>;
    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, DecodeError<'a>> {
        let node = self.de.node;
        let end = if matches!(node.kind, NodeKind::Scalar { .. }) { node.end } else { node.start };
        let span = self.de.state.source.span(node.start, end, &node.path);
        self.step += 1;
        match self.step {
            1 => seed.deserialize(SeqDeserializer::new([span.file.to_string(), span.path.to_string()].into_iter())),
            2 => seed.deserialize(SeqDeserializer::new([span.line, span.column].into_iter())),
            3 => seed.deserialize(SeqDeserializer::new([span.start, span.end].into_iter())),
            4 => seed.deserialize(self.de.clone()),
            _ => return Ok(None),
        }
        .map(Some)
        .map_err(|error| error.at(node))
    }
}

/// Accesses whether a value is a string, and then the value.
pub(crate) struct StringOrAccess<'a> {
    de: NodeDeserializer<'a>,
    is_string: bool,
    step: u8,
}

impl<'a> StringOrAccess<'a> {
    pub(crate) fn new(de: NodeDeserializer<'a>, is_string: bool) -> Self {
        Self { de, is_string, step: 0 }
    }
}

impl<'de, 'a> SeqAccess<'de> for StringOrAccess<'a> {
    type Error = DecodeError<'a>;
    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, DecodeError<'a>> {
        self.step += 1;
        match self.step {
            1 => seed.deserialize(serde::de::value::BoolDeserializer::new(self.is_string)),
            2 => seed.deserialize(self.de.clone()),
            _ => return Ok(None),
        }
        .map(Some)
        .map_err(|error| error.at(self.de.node))
    }
}

/// Accesses the same map twice, for the two structs that share it.
pub(crate) struct MergedAccess<'a> {
    de: NodeDeserializer<'a>,
}

impl<'a> MergedAccess<'a> {
    pub(crate) fn new(node: &'a Node, state: &'a DecodeState<'a>, fields: &SharedFields) -> Self {
        Self { de: NodeDeserializer { node, state, shared_fields: Some(Rc::clone(fields)) } }
    }
}

impl<'de, 'a> SeqAccess<'de> for MergedAccess<'a> {
    type Error = DecodeError<'a>;
    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, DecodeError<'a>> {
        seed.deserialize(self.de.clone()).map(Some).map_err(|error| error.at(self.de.node))
    }
}

/// Accesses an enum: a string, or a map with one key.
pub(crate) struct EnumChoice<'a> {
    name: &'static str,
    de: NodeDeserializer<'a>,
    value: Option<&'a Node>,
}

impl<'a> EnumChoice<'a> {
    pub(crate) fn new(de: NodeDeserializer<'a>, variants: &'static [&'static str]) -> Result<Self, DecodeError<'a>> {
        let (variant, value, span) = match &de.node.kind {
            NodeKind::Scalar { .. } => (de.text()?, None, None),
            NodeKind::Map(entries) => match entries.as_slice() {
                [entry] => (entry.key.clone(), Some(&entry.value), Some((entry.start, entry.end))),
                _ => return Err(de.error(format!("expected exactly one of {}", list_variants(variants)))),
            },
            NodeKind::List(_) => return Err(de.mismatch(&format!("one of {}", list_variants(variants)))),
        };
        let Some(name) = variants.iter().find(|name| **name == variant) else {
            let error =
                de.error(format!("expected one of {}, found `{}`", list_variants(variants), truncate(&variant)));
            let error = match nearest(&variant, canonical_variants(variants)) {
                Some(name) => error.with_hint(format!("did you mean `{name}`?")),
                None => error,
            };
            return Err(match span {
                Some((start, end)) => error.with_span(start, end),
                None => error,
            });
        };
        Ok(Self { name, de, value })
    }

    /// Returns whether the value has an error that was reported.
    fn is_pruned(&self) -> bool {
        self.value.is_some_and(|value| self.de.state.is_pruned(value))
    }
}

/// Returns the variants of an enum; of two that differ only in case, the lower-case one.
fn canonical_variants(variants: &[&'static str]) -> Vec<&'static str> {
    let has_case_variant = |name: &str| variants.iter().any(|other| *other != name && other.eq_ignore_ascii_case(name));
    variants
        .iter()
        .copied()
        .filter(|name| !(has_case_variant(name) && name.starts_with(|c: char| c.is_ascii_uppercase())))
        .collect()
}

fn list_variants(variants: &[&'static str]) -> String {
    canonical_variants(variants).iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

impl<'de, 'a> EnumAccess<'de> for EnumChoice<'a> {
    type Error = DecodeError<'a>;
    type Variant = Self;

    fn variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<(T::Value, Self), DecodeError<'a>> {
        let name = self.name;
        let node = self.de.node;
        Ok((seed.deserialize(str_deserializer(name)).map_err(|error: DecodeError<'a>| error.at(node))?, self))
    }
}

impl<'de, 'a> VariantAccess<'de> for EnumChoice<'a> {
    type Error = DecodeError<'a>;

    fn unit_variant(self) -> Result<(), DecodeError<'a>> {
        match self.value {
            None => Ok(()),
            Some(_) => Err(self.de.error(format!("`{}` takes no value; write the name alone", self.name))),
        }
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, DecodeError<'a>> {
        if self.is_pruned() {
            return Err(DecodeError::secondary().at(self.de.node));
        }
        match self.value {
            Some(node) => {
                let value = NodeDeserializer::new(node, self.de.state);
                seed.deserialize(value).map_err(|error| error.at(node))
            }
            None => Err(self.de.error(format!("`{0}` needs a value: `{0}: …`", self.name))),
        }
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, _: V) -> Result<V::Value, DecodeError<'a>> {
        Err(self.de.mismatch("another form"))
    }

    fn struct_variant<V: Visitor<'de>>(self, _: &'static [&'static str], _: V) -> Result<V::Value, DecodeError<'a>> {
        Err(self.de.mismatch("another form"))
    }
}
