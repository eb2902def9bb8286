//! JSON as CEL values, borrowed and lazy: a claim is turned into a CEL value when a rule touches it, and not before.
//!
//! Integers are CEL ints, as rules are written (`jwt.level >= 3`); only what no int can hold is a uint. The engine's own
//! lists and maps know no other implementation, so equality stands here and covers both.

mod containers;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cel::ExecutionError;
use cel::common::traits::Iterator as Items;
use cel::common::types::{
    CelBool, CelBytes, CelDouble, CelInt, CelList, CelMap, CelMapKey, CelNull, CelOptional, CelString, CelType,
    CelUInt, Kind,
};
use cel::common::value::Val;
use cel_interpreter as cel;
use serde_json::{Map, Value};

use super::budget;
use containers::JsonList;
pub(crate) use containers::{Elements, JsonMap, string_key};

pub(crate) static NULL: CelNull = CelNull;

/// A borrowed JSON value.
pub(crate) fn from_json<'a>(value: &'a Value) -> Box<dyn Val + 'a> {
    match value {
        Value::String(text) => Box::new(CelString::from(text.as_str())),
        Value::Array(items) => Box::new(JsonList::new(items)),
        Value::Object(map) => Box::new(JsonMap::new(map)),
        Value::Null => Box::new(CelNull),
        Value::Bool(bool) => Box::new(CelBool::from(*bool)),
        Value::Number(number) => crate::authz::cel::json::number(number),
    }
}

/// A JSON value that nobody else holds: what `json()` makes.
pub(crate) fn from_owned_json(value: Value) -> Box<dyn Val> {
    match value {
        Value::String(text) => Box::new(CelString::from(text)),
        Value::Array(items) => {
            Box::new(CelList::from(items.into_iter().map(from_owned_json).collect::<Vec<Box<dyn Val>>>()))
        }
        Value::Object(map) => Box::new(CelMap::from(
            map.into_iter()
                .map(|(key, value)| (CelMapKey::from(key), from_owned_json(value)))
                .collect::<std::collections::HashMap<CelMapKey<'static>, Box<dyn Val>>>(),
        )),
        Value::Null => Box::new(CelNull),
        Value::Bool(bool) => Box::new(CelBool::from(bool)),
        Value::Number(number) => crate::authz::cel::json::number(&number),
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
pub(crate) fn to_json(val: &dyn Val) -> Option<Value> {
    let length = val.downcast_ref::<CelString>().map_or(0, |text| text.inner().len());
    budget::charge_alloc(length).ok()?;
    Some(match val.get_type().kind() {
        Kind::NullType => Value::Null,
        Kind::Boolean => (*val.downcast_ref::<CelBool>()?.inner()).into(),
        Kind::Int => (*val.downcast_ref::<CelInt>()?.inner()).into(),
        Kind::UInt => (*val.downcast_ref::<CelUInt>()?.inner()).into(),
        Kind::Double => Value::Number(serde_json::Number::from_f64(*val.downcast_ref::<CelDouble>()?.inner())?),
        Kind::String => val.downcast_ref::<CelString>()?.inner().into(),
        Kind::Bytes => STANDARD.encode(val.downcast_ref::<CelBytes>()?.inner()).into(),
        Kind::Timestamp | Kind::Duration => crate::authz::cel::functions::convert_to_string(val)?.into(),
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
/// only within one. Fails where an element can't be read: it may be what it is compared with.
pub(crate) fn equal(a: &dyn Val, b: &dyn Val) -> Result<bool, ExecutionError> {
    match (a.get_type().kind(), b.get_type().kind()) {
        (Kind::List, Kind::List) => lists_equal(a, b),
        (Kind::Map, Kind::Map) => maps_equal(a, b),
        (Kind::List | Kind::Map, _) | (_, Kind::List | Kind::Map) => Ok(false),
        (Kind::Opaque, Kind::Opaque) => match (a.downcast_ref::<CelOptional>(), b.downcast_ref::<CelOptional>()) {
            (Some(a), Some(b)) => match (a.option(), b.option()) {
                (Some(a), Some(b)) => equal(a, b),
                (a, b) => Ok(a.is_none() && b.is_none()),
            },
            _ => Ok(a.equals(b)),
        },
        (Kind::String, Kind::String) => {
            budget::charge_read(a.downcast_ref::<CelString>().map_or(0, |text| text.inner().len()))?;
            Ok(a.equals(b))
        }
        _ => Ok(a.equals(b)),
    }
}

/// Whether one of `items` equals `value`. As with `||`, one that does decides over one that fails.
pub(crate) fn any_equal<'i>(items: impl Iterator<Item = &'i dyn Val>, value: &dyn Val) -> Result<bool, ExecutionError> {
    let mut last_error = None;
    for item in items {
        match equal(item, value) {
            Ok(true) => return Ok(true),
            Ok(false) => {}
            Err(error) => last_error = Some(error),
        }
    }
    last_error.map_or(Ok(false), Err)
}

/// How many elements a list or a map has; none for anything else.
pub(crate) fn size(val: &dyn Val) -> usize {
    val.as_sizer().map_or(0, |sizer| usize::try_from(*sizer.size().inner()).unwrap_or(0))
}

/// The elements of a list, or the keys of a map.
pub(crate) fn items<'b, 'v>(val: &'b (dyn Val + 'v)) -> Result<Box<dyn Items<'b, 'v> + 'b>, ExecutionError> {
    Ok(val.as_iterable().ok_or(ExecutionError::MissingArgumentOrTarget)?.iter())
}

fn lists_equal(a: &dyn Val, b: &dyn Val) -> Result<bool, ExecutionError> {
    let len = size(a);
    if len != size(b) {
        return Ok(false);
    }
    budget::charge_scan(len)?;
    let (mut left, mut right) = (items(a)?, items(b)?);
    while let (Some(left), Some(right)) = (left.next(), right.next()) {
        if !equal(left, right)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// A value that differs decides over one that can't be read, wherever they stand: the engine's maps have no order.
fn maps_equal(a: &dyn Val, b: &dyn Val) -> Result<bool, ExecutionError> {
    let len = size(a);
    if len != size(b) {
        return Ok(false);
    }
    budget::charge_scan(len)?;
    let no_indexer = ExecutionError::MissingArgumentOrTarget;
    let (left, right) = a.as_indexer().zip(b.as_indexer()).ok_or(no_indexer)?;
    let mut keys = items(a)?;
    let mut last_error = None;
    while let Some(key) = keys.next() {
        let equal = match (left.get(key), right.get(key)) {
            (_, Err(ExecutionError::NoSuchKey(_))) => Ok(false),
            (Ok(left), Ok(right)) => equal(left.as_ref(), right.as_ref()),
            (Err(error), _) | (_, Err(error)) => Err(error),
        };
        match equal {
            Ok(true) => {}
            Ok(false) => return Ok(false),
            Err(error) => last_error = Some(error),
        }
    }
    last_error.map_or(Ok(true), Err)
}
