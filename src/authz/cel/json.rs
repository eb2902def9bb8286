//! JSON as CEL values, borrowed and lazy: a claim is converted to a CEL value only when a rule reads it.
//!
//! Integers are CEL ints, as rules expect (`jwt.level >= 3`). Only an integer that does not fit an int is a uint. The lists
//! and maps of the engine do not compare with other implementations, so the equality of this module covers both.

mod containers;

use serde_json::Value;

use super::budget::{self, element_count};
use crate::authz::cel::engine::ExecutionError;
use crate::authz::cel::engine::common::traits::Iterator as Items;
use crate::authz::cel::engine::common::types::{
    CelBool, CelDouble, CelInt, CelList, CelMap, CelMapKey, CelNull, CelOptional, CelString, CelUInt, Kind,
};
use crate::authz::cel::engine::common::value::Val;
use containers::JsonList;
pub(crate) use containers::{Elements, JsonMap, string_key};

pub(crate) static NULL: CelNull = CelNull;

/// Converts a JSON value to a CEL value that borrows it.
pub(crate) fn from_json<'a>(value: &'a Value) -> Box<dyn Val + 'a> {
    match value {
        Value::String(text) => Box::new(CelString::from(text.as_str())),
        Value::Array(items) => Box::new(JsonList::new(items)),
        Value::Object(map) => Box::new(JsonMap::new(map)),
        Value::Null => Box::new(CelNull),
        Value::Bool(bool) => Box::new(CelBool::from(*bool)),
        Value::Number(number) => from_number(number),
    }
}

/// Converts a JSON value that has no other owner, such as the result of `json()`.
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
        Value::Number(number) => from_number(&number),
    }
}

fn from_number<'a>(number: &serde_json::Number) -> Box<dyn Val + 'a> {
    if let Some(int) = number.as_i64() {
        Box::new(CelInt::from(int))
    } else if let Some(uint) = number.as_u64() {
        Box::new(CelUInt::from(uint))
    } else {
        Box::new(CelDouble::from(number.as_f64().unwrap_or(f64::NAN)))
    }
}

/// Compares two values by the rules of CEL, including a list or map of the engine with one of this module. Numbers compare
/// across their types, and all other values only within one type. Fails if an element cannot be read, since it could equal
/// the other.
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

/// Reports whether one of `items` equals `value`. As in `||`, an equal item takes precedence over one that fails.
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

/// Iterates over the elements of a list or the keys of a map.
pub(crate) fn items<'b, 'v>(val: &'b (dyn Val + 'v)) -> Result<Box<dyn Items<'b, 'v> + 'b>, ExecutionError> {
    Ok(val.as_iterable().ok_or(ExecutionError::MissingArgumentOrTarget)?.iter())
}

fn lists_equal(a: &dyn Val, b: &dyn Val) -> Result<bool, ExecutionError> {
    let len = element_count(a);
    if len != element_count(b) {
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

/// Compares two maps. A value that differs takes precedence over one that cannot be read, at any position, since the maps of
/// the engine are unordered.
fn maps_equal(a: &dyn Val, b: &dyn Val) -> Result<bool, ExecutionError> {
    let len = element_count(a);
    if len != element_count(b) {
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
