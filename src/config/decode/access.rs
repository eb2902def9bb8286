//! The parts of a value, handed to serde one by one.

use std::rc::Rc;

use serde::de::{DeserializeSeed, EnumAccess, MapAccess, SeqAccess, VariantAccess, Visitor, value::SeqDeserializer};

use super::super::node::{Entry, Kind, Node};
use super::super::suggest::nearest;
use super::fault::Fault;
use super::{De, Shared, State, short, word};

/// The items of a list that have no error yet.
pub(super) struct ItemAccess<'a> {
    items: std::slice::Iter<'a, Node>,
    state: &'a State<'a>,
}

impl<'a> ItemAccess<'a> {
    pub(super) fn new(items: &'a [Node], state: &'a State<'a>) -> Self {
        Self { items: items.iter(), state }
    }
}

impl<'de, 'a> SeqAccess<'de> for ItemAccess<'a> {
    type Error = Fault<'a>;
    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Fault<'a>> {
        let state = self.state;
        let Some(node) = self.items.find(|node| !state.is_pruned(node)) else { return Ok(None) };
        seed.deserialize(De::new(node, self.state)).map(Some).map_err(|fault| fault.at(node))
    }
}

/// The entries of a map that have no error yet; for a struct, those that it knows.
pub(super) struct EntryAccess<'a> {
    entries: std::slice::Iter<'a, Entry>,
    state: &'a State<'a>,
    known: Option<&'static [&'static str]>,
    current: Option<&'a Entry>,
}

impl<'a> EntryAccess<'a> {
    pub(super) fn new(entries: &'a [Entry], state: &'a State<'a>) -> Self {
        Self { entries: entries.iter(), state, known: None, current: None }
    }

    pub(super) fn only(entries: &'a [Entry], state: &'a State<'a>, known: &'static [&'static str]) -> Self {
        Self { known: Some(known), ..Self::new(entries, state) }
    }
}

impl<'de, 'a> MapAccess<'de> for EntryAccess<'a> {
    type Error = Fault<'a>;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Fault<'a>> {
        let (state, known) = (self.state, self.known);
        self.current = self.entries.find(|entry| {
            !state.is_pruned(&entry.value) && known.is_none_or(|known| known.contains(&entry.key.as_str()))
        });
        let Some(entry) = self.current else { return Ok(None) };
        let key: Result<_, Fault<'a>> = seed.deserialize(serde::de::value::StringDeserializer::new(entry.key.clone()));
        key.map(Some).map_err(|fault| fault.at(&entry.value).spanning(entry.start, entry.end))
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, Fault<'a>> {
        let Some(entry) = self.current.take() else {
            return Err(Fault::new("a value without a key"));
        };
        let value = De::new(&entry.value, self.state);
        let null = value.is_null();
        seed.deserialize(value).map_err(|fault| {
            // Nothing stands there to point at, so the key is what to look at.
            match null {
                true => fault.at(&entry.value).spanning(entry.start, entry.end),
                false => fault.at(&entry.value),
            }
        })
    }
}

/// A value's place and then the value itself.
pub(super) struct LocatedAccess<'a> {
    de: De<'a>,
    step: u8,
}

impl<'a> LocatedAccess<'a> {
    pub(super) fn new(de: De<'a>) -> Self {
        Self { de, step: 0 }
    }
}

impl<'de, 'a> SeqAccess<'de> for LocatedAccess<'a> {
    type Error = Fault<'a>;
    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Fault<'a>> {
        let node = self.de.node;
        let end = if matches!(node.kind, Kind::Scalar { .. }) { node.end } else { node.start };
        let place = self.de.state.source.place(node.start, end, &node.path);
        self.step += 1;
        match self.step {
            1 => seed.deserialize(SeqDeserializer::new([place.file.to_string(), place.path.to_string()].into_iter())),
            2 => seed.deserialize(SeqDeserializer::new([place.line, place.column].into_iter())),
            3 => seed.deserialize(SeqDeserializer::new([place.start, place.end].into_iter())),
            4 => seed.deserialize(self.de.clone()),
            _ => return Ok(None),
        }
        .map(Some)
        .map_err(|fault| fault.at(node))
    }
}

/// Whether a value is a text, and then the value itself.
pub(super) struct TextOrAccess<'a> {
    de: De<'a>,
    text: bool,
    step: u8,
}

impl<'a> TextOrAccess<'a> {
    pub(super) fn new(de: De<'a>, text: bool) -> Self {
        Self { de, text, step: 0 }
    }
}

impl<'de, 'a> SeqAccess<'de> for TextOrAccess<'a> {
    type Error = Fault<'a>;
    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Fault<'a>> {
        self.step += 1;
        match self.step {
            1 => seed.deserialize(serde::de::value::BoolDeserializer::new(self.text)),
            2 => seed.deserialize(self.de.clone()),
            _ => return Ok(None),
        }
        .map(Some)
        .map_err(|fault| fault.at(self.de.node))
    }
}

/// The same map twice, for the two structs that share it.
pub(super) struct BothAccess<'a> {
    de: De<'a>,
}

impl<'a> BothAccess<'a> {
    pub(super) fn new(node: &'a Node, state: &'a State<'a>, known: &Shared) -> Self {
        Self { de: De { node, state, shared: Some(Rc::clone(known)) } }
    }
}

impl<'de, 'a> SeqAccess<'de> for BothAccess<'a> {
    type Error = Fault<'a>;
    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Fault<'a>> {
        seed.deserialize(self.de.clone()).map(Some).map_err(|fault| fault.at(self.de.node))
    }
}

/// A word, or a map with one key that leads to the rest.
pub(super) struct EnumChoice<'a> {
    name: &'static str,
    de: De<'a>,
    value: Option<&'a Node>,
}

impl<'a> EnumChoice<'a> {
    pub(super) fn of(de: De<'a>, variants: &'static [&'static str]) -> Result<Self, Fault<'a>> {
        let (written, value, span) = match &de.node.kind {
            Kind::Scalar { .. } => (de.text()?, None, None),
            Kind::Map(entries) => match entries.as_slice() {
                [entry] => (entry.key.clone(), Some(&entry.value), Some((entry.start, entry.end))),
                _ => return Err(de.fault(format!("expected exactly one of {}", choices(variants)))),
            },
            Kind::List(_) => return Err(de.mismatch(&format!("one of {}", choices(variants)))),
        };
        let Some(name) = variants.iter().find(|name| **name == written) else {
            let fault = de.fault(format!("expected one of {}, found `{}`", choices(variants), short(&written)));
            let fault = match nearest(&written, words(variants)) {
                Some(name) => fault.hint(format!("did you mean `{name}`?")),
                None => fault,
            };
            return Err(match span {
                Some((start, end)) => fault.spanning(start, end),
                None => fault,
            });
        };
        Ok(Self { name, de, value })
    }

    /// The value is wrong in itself, and was told.
    fn is_pruned(&self) -> bool {
        self.value.is_some_and(|value| self.de.state.is_pruned(value))
    }
}

/// The words of an enum; of two that differ only in case the one that starts with a small letter.
fn words(variants: &[&'static str]) -> Vec<&'static str> {
    let twin = |name: &str| variants.iter().any(|other| *other != name && other.eq_ignore_ascii_case(name));
    variants
        .iter()
        .copied()
        .filter(|name| !(twin(name) && name.starts_with(|c: char| c.is_ascii_uppercase())))
        .collect()
}

fn choices(variants: &[&'static str]) -> String {
    words(variants).iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

impl<'de, 'a> EnumAccess<'de> for EnumChoice<'a> {
    type Error = Fault<'a>;
    type Variant = Self;

    fn variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<(T::Value, Self), Fault<'a>> {
        let name = self.name;
        let node = self.de.node;
        Ok((seed.deserialize(word(name)).map_err(|fault: Fault<'a>| fault.at(node))?, self))
    }
}

impl<'de, 'a> VariantAccess<'de> for EnumChoice<'a> {
    type Error = Fault<'a>;

    fn unit_variant(self) -> Result<(), Fault<'a>> {
        match self.value {
            None => Ok(()),
            Some(_) => Err(self.de.fault(format!("`{}` takes no value; write the word alone", self.name))),
        }
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Fault<'a>> {
        if self.is_pruned() {
            return Err(Fault::follows().at(self.de.node));
        }
        match self.value {
            Some(node) => {
                let value = De::new(node, self.de.state);
                seed.deserialize(value).map_err(|fault| fault.at(node))
            }
            None => Err(self.de.fault(format!("`{0}` needs a value: `{0}: …`", self.name))),
        }
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, _: V) -> Result<V::Value, Fault<'a>> {
        Err(self.de.mismatch("another form"))
    }

    fn struct_variant<V: Visitor<'de>>(self, _: &'static [&'static str], _: V) -> Result<V::Value, Fault<'a>> {
        Err(self.de.mismatch("another form"))
    }
}
