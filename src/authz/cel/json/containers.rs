//! JSON arrays and objects as lists and maps of the engine.

use std::sync::OnceLock;

use serde_json::{Map, Value};

use super::{equal, from_json};
use crate::authz::cel::engine::ExecutionError;
use crate::authz::cel::engine::common::traits::{
    Adder, Container, Indexer, Iterable, Iterator as Items, Sizer, Zeroer,
};
use crate::authz::cel::engine::common::types::{CelDouble, CelInt, CelList, CelMap, CelString, CelUInt, Kind, Type};
use crate::authz::cel::engine::common::value::{CowVal, Val};
use crate::authz::cel::{budget, engine};

/// A JSON array.
#[derive(Debug)]
pub(crate) struct JsonList<'a> {
    items: &'a [Value],
    /// The elements as CEL values, which the engine borrows. They are built when a rule iterates over the list.
    vals: OnceLock<Vec<Box<dyn Val + 'a>>>,
}

impl<'a> JsonList<'a> {
    pub(crate) fn new(items: &'a [Value]) -> Self {
        Self { items, vals: OnceLock::new() }
    }
}

impl<'a> Val for JsonList<'a> {
    fn get_type(&self) -> &Type {
        CelList::cel_type()
    }

    fn cel_type() -> &'static Type {
        CelList::cel_type()
    }

    fn as_adder<'b, 'v>(&'b self) -> Option<&'b (dyn Adder + 'v)>
    where
        Self: 'v,
    {
        Some(self)
    }

    fn as_container(&self) -> Option<&dyn Container> {
        Some(self)
    }

    fn as_indexer<'b, 'v>(&'b self) -> Option<&'b (dyn Indexer + 'v)>
    where
        Self: 'v,
    {
        Some(self)
    }

    fn as_iterable<'b, 'v>(&'b self) -> Option<&'b (dyn Iterable + 'v)>
    where
        Self: 'v,
    {
        Some(self)
    }

    fn as_sizer(&self) -> Option<&dyn Sizer> {
        Some(self)
    }

    fn as_zeroer(&self) -> Option<&dyn Zeroer> {
        Some(self)
    }

    fn equals(&self, other: &dyn Val) -> bool {
        equal(self, other).unwrap_or(false)
    }

    fn clone_as_boxed<'v>(&self) -> Box<dyn Val + 'v>
    where
        Self: 'v,
    {
        Box::new(JsonList::new(self.items))
    }
}

impl Adder for JsonList<'_> {
    fn add<'b, 'v>(&'b self, rhs: &(dyn Val + 'v)) -> Result<CowVal<'b, 'v>, ExecutionError>
    where
        Self: 'v,
    {
        if rhs.get_type().kind() != Kind::List {
            return Err(ExecutionError::no_such_overload(
                "_+_",
                vec!["list".to_owned(), rhs.get_type().name().to_owned()],
            ));
        }
        let mut list: Vec<Box<dyn Val + 'v>> = Vec::with_capacity(self.items.len());
        list.extend(self.items.iter().map(|item| from_json(item) as Box<dyn Val + 'v>));
        if let Some(rhs) = rhs.as_iterable() {
            let mut items = rhs.iter();
            while let Some(item) = items.next() {
                list.push(item.clone_as_boxed());
            }
        }
        Ok(CowVal::owned(CelList::from(list)))
    }
}

impl Container for JsonList<'_> {
    fn contains(&self, value: &dyn Val) -> Result<bool, ExecutionError> {
        budget::charge_scan(self.items.len())?;
        // Most lookups are for a string, which is compared in place, without a CEL value for each element.
        if let Some(text) = value.downcast_ref::<CelString>() {
            return Ok(self.items.iter().any(|item| item.as_str() == Some(text.inner())));
        }
        for item in self.items {
            if equal(from_json(item).as_ref(), value)? {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// Returns the position of an index, or `None` if it is out of range for every list. As in the lists of the engine, a double
/// without a fraction is an index.
fn list_index(idx: &dyn Val) -> Result<Option<usize>, ExecutionError> {
    if let Some(int) = idx.downcast_ref::<CelInt>() {
        return Ok(usize::try_from(*int.inner()).ok());
    }
    if let Some(uint) = idx.downcast_ref::<CelUInt>() {
        return Ok(usize::try_from(*uint.inner()).ok());
    }
    match idx.downcast_ref::<CelDouble>().map(|double| *double.inner()) {
        Some(double) if double.fract() == 0.0 => {
            Ok((double >= 0.0 && double <= f64::from(u32::MAX)).then_some(double as usize))
        }
        _ => Err(ExecutionError::UnexpectedType { got: idx.get_type().name().to_owned(), want: "int".to_owned() }),
    }
}

impl Indexer for JsonList<'_> {
    fn get<'b, 'v>(&'b self, idx: &dyn Val) -> Result<CowVal<'b, 'v>, ExecutionError>
    where
        Self: 'v,
    {
        match list_index(idx)?.and_then(|index| self.items.get(index)) {
            Some(value) => Ok(CowVal::Owned(from_json(value))),
            None => Err(ExecutionError::IndexOutOfBounds(engine::Value::Null)),
        }
    }

    fn steal<'v>(self: Box<Self>, idx: &dyn Val) -> Result<Box<dyn Val + 'v>, ExecutionError>
    where
        Self: 'v,
    {
        Ok(self.get(idx)?.into_owned())
    }
}

impl Iterable for JsonList<'_> {
    fn iter<'b, 'v>(&'b self) -> Box<dyn Items<'b, 'v> + 'b>
    where
        Self: 'v,
    {
        let vals = self.vals.get_or_init(|| self.items.iter().map(from_json).collect());
        Box::new(Elements(vals.iter()))
    }
}

impl Sizer for JsonList<'_> {
    fn size(&self) -> CelInt {
        (self.items.len() as i64).into()
    }
}

impl Zeroer for JsonList<'_> {
    fn is_zero_value(&self) -> bool {
        self.items.is_empty()
    }
}

/// A JSON object.
#[derive(Debug)]
pub(crate) struct JsonMap<'a> {
    map: &'a Map<String, Value>,
    keys: OnceLock<Vec<Box<dyn Val + 'a>>>,
}

impl<'a> JsonMap<'a> {
    pub(crate) fn new(map: &'a Map<String, Value>) -> Self {
        Self { map, keys: OnceLock::new() }
    }
}

impl<'a> Val for JsonMap<'a> {
    fn get_type(&self) -> &Type {
        CelMap::cel_type()
    }

    fn cel_type() -> &'static Type {
        CelMap::cel_type()
    }

    fn as_container(&self) -> Option<&dyn Container> {
        Some(self)
    }

    fn as_indexer<'b, 'v>(&'b self) -> Option<&'b (dyn Indexer + 'v)>
    where
        Self: 'v,
    {
        Some(self)
    }

    fn as_iterable<'b, 'v>(&'b self) -> Option<&'b (dyn Iterable + 'v)>
    where
        Self: 'v,
    {
        Some(self)
    }

    fn as_sizer(&self) -> Option<&dyn Sizer> {
        Some(self)
    }

    fn as_zeroer(&self) -> Option<&dyn Zeroer> {
        Some(self)
    }

    fn equals(&self, other: &dyn Val) -> bool {
        equal(self, other).unwrap_or(false)
    }

    fn clone_as_boxed<'v>(&self) -> Box<dyn Val + 'v>
    where
        Self: 'v,
    {
        Box::new(JsonMap::new(self.map))
    }
}

/// Returns the text of a map key. The keys of a JSON object are strings, so any other scalar is an absent key.
pub(crate) fn string_key(key: &dyn Val) -> Result<Option<&str>, ExecutionError> {
    match key.get_type().kind() {
        Kind::String => Ok(key.downcast_ref::<CelString>().map(CelString::inner)),
        Kind::Int | Kind::UInt | Kind::Boolean | Kind::Double => Ok(None),
        _ => Err(ExecutionError::UnexpectedType { got: key.get_type().name().to_owned(), want: "string".to_owned() }),
    }
}

impl Container for JsonMap<'_> {
    fn contains(&self, value: &dyn Val) -> Result<bool, ExecutionError> {
        Ok(string_key(value)?.is_some_and(|key| self.map.contains_key(key)))
    }
}

impl Indexer for JsonMap<'_> {
    fn get<'b, 'v>(&'b self, idx: &dyn Val) -> Result<CowVal<'b, 'v>, ExecutionError>
    where
        Self: 'v,
    {
        let key = string_key(idx)?;
        match key.and_then(|key| self.map.get(key)) {
            Some(value) => Ok(CowVal::Owned(from_json(value))),
            None => Err(ExecutionError::no_such_key(key.unwrap_or("that is not a string"))),
        }
    }

    fn steal<'v>(self: Box<Self>, idx: &dyn Val) -> Result<Box<dyn Val + 'v>, ExecutionError>
    where
        Self: 'v,
    {
        Ok(self.get(idx)?.into_owned())
    }
}

impl Iterable for JsonMap<'_> {
    fn iter<'b, 'v>(&'b self) -> Box<dyn Items<'b, 'v> + 'b>
    where
        Self: 'v,
    {
        let keys = self.keys.get_or_init(|| {
            self.map.keys().map(|key| Box::new(CelString::from(key.as_str())) as Box<dyn Val>).collect()
        });
        Box::new(Elements(keys.iter()))
    }
}

impl Sizer for JsonMap<'_> {
    fn size(&self) -> CelInt {
        (self.map.len() as i64).into()
    }
}

impl Zeroer for JsonMap<'_> {
    fn is_zero_value(&self) -> bool {
        self.map.is_empty()
    }
}

/// Iterates over borrowed values.
pub(crate) struct Elements<'b, 'a>(pub(crate) std::slice::Iter<'b, Box<dyn Val + 'a>>);

impl<'b, 'a: 'v, 'v> Items<'b, 'v> for Elements<'b, 'a> {
    fn next(&mut self) -> Option<&'b (dyn Val + 'v)> {
        self.0.next().map(|val| val.as_ref() as &(dyn Val + 'v))
    }
}
