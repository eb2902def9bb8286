//! The result of an expression as JSON.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

use super::engine::common::types::{
    CelBool, CelBytes, CelDouble, CelInt, CelOptional, CelString, CelType, CelUInt, Kind,
};
use super::engine::common::value::Val;
use super::{budget, functions};

/// Converts a CEL value to JSON: timestamps as RFC 3339, durations in seconds (`1.5s`), bytes as base64, an empty optional
/// as null. Returns `None` for a value that JSON cannot represent (NaN, an address, a range of addresses).
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
        Kind::Timestamp | Kind::Duration => functions::convert_to_string(val)?.into(),
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
