//! JSON as CEL values, borrowed and lazy: a claim is turned into a CEL value when a rule touches it, and not before.
//!
//! Integers are CEL ints, as rules are written (`jwt.level >= 3`); only what no int can hold is a uint. The engine's own
//! lists and maps know no other implementation, so equality stands here and covers both.

use std::sync::OnceLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cel::ExecutionError;
use cel::common::traits::{Adder, Container, Indexer, Iterable, Iterator as Items, Sizer, Zeroer};
use cel::common::types::{
    CelBool, CelBytes, CelDouble, CelInt, CelList, CelMap, CelMapKey, CelNull, CelOptional, CelString, CelType,
    CelUInt, Kind, Type,
};
use cel::common::value::{CowVal, Val};
use cel_interpreter as cel;
use serde_json::{Map, Value};

use super::steps;

pub(super) static NULL: CelNull = CelNull;

/// A borrowed JSON value.
pub(super) fn borrowed<'a>(value: &'a Value) -> Box<dyn Val + 'a> {
    match value {
        Value::String(text) => Box::new(CelString::from(text.as_str())),
        Value::Array(items) => Box::new(JsonList { items, vals: OnceLock::new() }),
        Value::Object(map) => Box::new(JsonMap::new(map)),
        Value::Null => Box::new(CelNull),
        Value::Bool(bool) => Box::new(CelBool::from(*bool)),
        Value::Number(number) => self::number(number),
    }
}

/// A JSON value that nobody else holds: what `json()` makes.
pub(super) fn owned(value: Value) -> Box<dyn Val> {
    match value {
        Value::String(text) => Box::new(CelString::from(text)),
        Value::Array(items) => Box::new(CelList::from(items.into_iter().map(owned).collect::<Vec<Box<dyn Val>>>())),
        Value::Object(map) => Box::new(CelMap::from(
            map.into_iter()
                .map(|(key, value)| (CelMapKey::from(key), owned(value)))
                .collect::<std::collections::HashMap<CelMapKey<'static>, Box<dyn Val>>>(),
        )),
        Value::Null => Box::new(CelNull),
        Value::Bool(bool) => Box::new(CelBool::from(bool)),
        Value::Number(number) => self::number(&number),
    }
}

fn number<'a>(number: &serde_json::Number) -> Box<dyn Val + 'a> {
    if let Some(int) = number.as_i64() {
        Box::new(CelInt::from(int))
    } else if let Some(uint) = number.as_u64() {
        Box::new(CelUInt::from(uint))
    } else {
        Box::new(CelDouble::from(number.as_f64().unwrap_or(f64::NAN)))
    }
}

/// A CEL value as JSON: timestamps in RFC 3339, durations in seconds (`1.5s`), bytes in base64, an absent optional as
/// null. `None` for what JSON has no form for (NaN, a type, a value of our own).
pub(super) fn to_json(val: &dyn Val) -> Option<Value> {
    Some(match val.get_type().kind() {
        Kind::NullType => Value::Null,
        Kind::Boolean => (*val.downcast_ref::<CelBool>()?.inner()).into(),
        Kind::Int => (*val.downcast_ref::<CelInt>()?.inner()).into(),
        Kind::UInt => (*val.downcast_ref::<CelUInt>()?.inner()).into(),
        Kind::Double => Value::Number(serde_json::Number::from_f64(*val.downcast_ref::<CelDouble>()?.inner())?),
        Kind::String => val.downcast_ref::<CelString>()?.inner().into(),
        Kind::Bytes => STANDARD.encode(val.downcast_ref::<CelBytes>()?.inner()).into(),
        Kind::Timestamp | Kind::Duration => super::functions::text(val)?.into(),
        Kind::Type => val.downcast_ref::<CelType>()?.name().into(),
        Kind::List => {
            let mut items = val.as_iterable()?.iter();
            let mut list = Vec::new();
            while let Some(item) = items.next() {
                list.push(to_json(item)?);
            }
            Value::Array(list)
        }
        Kind::Map => {
            let indexer = val.as_indexer()?;
            let mut keys = val.as_iterable()?.iter();
            let mut map = Map::new();
            while let Some(key) = keys.next() {
                let name = match to_json(key)? {
                    Value::String(text) => text,
                    scalar => scalar.to_string(),
                };
                map.insert(name, to_json(indexer.get(key).ok()?.as_ref())?);
            }
            Value::Object(map)
        }
        _ => match val.downcast_ref::<CelOptional>()?.option() {
            Some(inner) => to_json(inner)?,
            None => Value::Null,
        },
    })
}

/// CEL equality, also between a list or map of the engine and one of ours. Numbers compare across their types, all else
/// only within one.
pub(super) fn equal(a: &dyn Val, b: &dyn Val) -> bool {
    match (a.get_type().kind(), b.get_type().kind()) {
        (Kind::List, Kind::List) => lists_equal(a, b).unwrap_or(false),
        (Kind::Map, Kind::Map) => maps_equal(a, b).unwrap_or(false),
        (Kind::List | Kind::Map, _) | (_, Kind::List | Kind::Map) => false,
        (Kind::Opaque, Kind::Opaque) => match (a.downcast_ref::<CelOptional>(), b.downcast_ref::<CelOptional>()) {
            (Some(a), Some(b)) => match (a.option(), b.option()) {
                (Some(a), Some(b)) => equal(a, b),
                (None, None) => true,
                _ => false,
            },
            _ => a.equals(b),
        },
        _ => a.equals(b),
    }
}

fn size(val: &dyn Val) -> Option<i64> {
    Some(*val.as_sizer()?.size().inner())
}

fn lists_equal(a: &dyn Val, b: &dyn Val) -> Option<bool> {
    let len = size(a)?;
    if len != size(b)? {
        return Some(false);
    }
    charge_cheap(len).ok()?;
    let (mut left, mut right) = (a.as_iterable()?.iter(), b.as_iterable()?.iter());
    while let Some(item) = left.next() {
        if !equal(item, right.next()?) {
            return Some(false);
        }
    }
    Some(true)
}

fn maps_equal(a: &dyn Val, b: &dyn Val) -> Option<bool> {
    let len = size(a)?;
    if len != size(b)? {
        return Some(false);
    }
    charge_cheap(len).ok()?;
    let (left, right) = (a.as_indexer()?, b.as_indexer()?);
    let mut keys = a.as_iterable()?.iter();
    while let Some(key) = keys.next() {
        match (left.get(key), right.get(key)) {
            (Ok(left), Ok(right)) if equal(left.as_ref(), right.as_ref()) => {}
            _ => return Some(false),
        }
    }
    Some(true)
}

/// Looking at an element costs a fraction of what running an expression over it does.
pub(super) fn charge_cheap(elements: i64) -> Result<(), ExecutionError> {
    steps::charge(1 + usize::try_from(elements).unwrap_or(0) / 8)
}

/// A JSON array.
#[derive(Debug)]
struct JsonList<'a> {
    items: &'a [Value],
    /// The elements as CEL values, made when a rule runs over them: the engine borrows them from here.
    vals: OnceLock<Vec<Box<dyn Val + 'a>>>,
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
        equal(self, other)
    }

    fn clone_as_boxed<'v>(&self) -> Box<dyn Val + 'v>
    where
        Self: 'v,
    {
        Box::new(JsonList { items: self.items, vals: OnceLock::new() })
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
        list.extend(self.items.iter().map(|item| borrowed(item) as Box<dyn Val + 'v>));
        if let Some(rhs) = rhs.as_iterable() {
            let mut items = rhs.iter();
            while let Some(item) = items.next() {
                list.push(item.clone_as_boxed());
            }
        }
        steps::charge(list.len())?;
        Ok(CowVal::owned(CelList::from(list)))
    }
}

impl Container for JsonList<'_> {
    fn contains(&self, value: &dyn Val) -> Result<bool, ExecutionError> {
        charge_cheap(self.items.len() as i64)?;
        // A string is what is nearly always asked for: compared in place, without a CEL value for each element.
        if let Some(text) = value.downcast_ref::<CelString>() {
            return Ok(self.items.iter().any(|item| item.as_str() == Some(text.inner())));
        }
        Ok(self.items.iter().any(|item| equal(borrowed(item).as_ref(), value)))
    }
}

impl Indexer for JsonList<'_> {
    fn get<'b, 'v>(&'b self, idx: &dyn Val) -> Result<CowVal<'b, 'v>, ExecutionError>
    where
        Self: 'v,
    {
        let at = match idx.get_type().kind() {
            Kind::Int => idx.downcast_ref::<CelInt>().and_then(|int| usize::try_from(*int.inner()).ok()),
            Kind::UInt => idx.downcast_ref::<CelUInt>().and_then(|uint| usize::try_from(*uint.inner()).ok()),
            // As the engine does for its own lists: a whole double is an index.
            Kind::Double => idx.downcast_ref::<CelDouble>().map(|double| *double.inner()).and_then(|double| {
                (double >= 0.0 && double <= f64::from(u32::MAX) && double.fract() == 0.0).then_some(double as usize)
            }),
            _ => {
                return Err(ExecutionError::UnexpectedType {
                    got: idx.get_type().name().to_owned(),
                    want: "int".to_owned(),
                });
            }
        };
        match at.and_then(|at| self.items.get(at)) {
            Some(value) => Ok(CowVal::Owned(borrowed(value))),
            None => Err(ExecutionError::IndexOutOfBounds(cel::Value::Null)),
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
        let vals = self.vals.get_or_init(|| self.items.iter().map(borrowed).collect());
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
pub(super) struct JsonMap<'a> {
    map: &'a Map<String, Value>,
    keys: OnceLock<Vec<Box<dyn Val + 'a>>>,
}

impl<'a> JsonMap<'a> {
    pub(super) fn new(map: &'a Map<String, Value>) -> Self {
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
        equal(self, other)
    }

    fn clone_as_boxed<'v>(&self) -> Box<dyn Val + 'v>
    where
        Self: 'v,
    {
        Box::new(JsonMap::new(self.map))
    }
}

/// The text of a map key. A JSON object has no others, so any other scalar is a key that is not there.
pub(super) fn key(key: &dyn Val) -> Result<Option<&str>, ExecutionError> {
    match key.get_type().kind() {
        Kind::String => Ok(key.downcast_ref::<CelString>().map(CelString::inner)),
        Kind::Int | Kind::UInt | Kind::Boolean | Kind::Double => Ok(None),
        _ => Err(ExecutionError::UnexpectedType { got: key.get_type().name().to_owned(), want: "string".to_owned() }),
    }
}

impl Container for JsonMap<'_> {
    fn contains(&self, value: &dyn Val) -> Result<bool, ExecutionError> {
        Ok(key(value)?.is_some_and(|key| self.map.contains_key(key)))
    }
}

impl Indexer for JsonMap<'_> {
    fn get<'b, 'v>(&'b self, idx: &dyn Val) -> Result<CowVal<'b, 'v>, ExecutionError>
    where
        Self: 'v,
    {
        let key = key(idx)?;
        match key.and_then(|key| self.map.get(key)) {
            Some(value) => Ok(CowVal::Owned(borrowed(value))),
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

/// Runs over values that somebody else keeps.
pub(super) struct Elements<'b, 'a>(pub(super) std::slice::Iter<'b, Box<dyn Val + 'a>>);

impl<'b, 'a: 'v, 'v> Items<'b, 'v> for Elements<'b, 'a> {
    fn next(&mut self) -> Option<&'b (dyn Val + 'v)> {
        self.0.next().map(|val| val.as_ref() as &(dyn Val + 'v))
    }
}
