//! CEL values of variables: records of fields, header fields, and absent credentials.

use std::sync::OnceLock;

use http::{HeaderMap, HeaderValue};

use super::Activation;
use crate::authz::cel::engine::ExecutionError;
use crate::authz::cel::engine::common::traits::{Container, Indexer, Iterable, Iterator as Items, Sizer};
use crate::authz::cel::engine::common::types::{CelInt, CelList, CelMap, CelNull, CelString, Type};
use crate::authz::cel::engine::common::value::{CowVal, Val};
use crate::authz::cel::json;
use crate::authz::cel::json::{Elements, NULL};
use crate::authz::cel::{budget, variables};

/// `jwt`, `jwtAuth`, `basicAuth` or `apiKey` of a request without a valid credential of that kind. It equals null, and has
/// no fields.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AbsentCredential;

impl Val for AbsentCredential {
    fn get_type(&self) -> &Type {
        CelNull::cel_type()
    }

    fn cel_type() -> &'static Type {
        CelNull::cel_type()
    }

    fn as_indexer<'b, 'v>(&'b self) -> Option<&'b (dyn Indexer + 'v)>
    where
        Self: 'v,
    {
        Some(self)
    }

    fn as_container(&self) -> Option<&dyn Container> {
        Some(self)
    }

    fn equals(&self, other: &dyn Val) -> bool {
        NULL.equals(other)
    }

    fn clone_as_boxed<'v>(&self) -> Box<dyn Val + 'v> {
        Box::new(AbsentCredential)
    }

    // The engine treats this as its null, so that `null == jwt` is also true.
    fn as_any(&self) -> Option<&dyn std::any::Any> {
        Some(&NULL)
    }
}

impl Indexer for AbsentCredential {
    fn get<'b, 'v>(&'b self, idx: &dyn Val) -> Result<CowVal<'b, 'v>, ExecutionError>
    where
        Self: 'v,
    {
        let key = json::string_key(idx)?.unwrap_or_default();
        Err(ExecutionError::no_such_key(&format!("{key}, since the request has no valid credential")))
    }

    fn steal<'v>(self: Box<Self>, idx: &dyn Val) -> Result<Box<dyn Val + 'v>, ExecutionError>
    where
        Self: 'v,
    {
        Ok(self.get(idx)?.into_owned())
    }
}

impl Container for AbsentCredential {
    fn contains(&self, value: &dyn Val) -> Result<bool, ExecutionError> {
        json::string_key(value).map(|_| false)
    }
}

/// A variable with fields, for expressions that use the variable itself: `has(request.query)`, `request["path"]`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RecordValue<'b, 'a> {
    pub(crate) activation: &'b Activation<'a>,
    pub(crate) name: &'static str,
}

impl Val for RecordValue<'_, '_> {
    fn get_type(&self) -> &Type {
        CelMap::cel_type()
    }

    fn cel_type() -> &'static Type {
        CelMap::cel_type()
    }

    fn as_indexer<'b, 'v>(&'b self) -> Option<&'b (dyn Indexer + 'v)>
    where
        Self: 'v,
    {
        Some(self)
    }

    fn as_container(&self) -> Option<&dyn Container> {
        Some(self)
    }

    fn clone_as_boxed<'v>(&self) -> Box<dyn Val + 'v>
    where
        Self: 'v,
    {
        Box::new(*self)
    }
}

impl RecordValue<'_, '_> {
    fn full_name(&self, field: &str) -> Option<String> {
        // A request without a query has an empty `request.query`, so that rules can compare it. `has()` is false for it.
        let absent = self.name == "request" && field == "query" && self.activation.vars.head.query.is_none();
        (!absent && variables::has_field(self.name, field)).then(|| format!("{}.{field}", self.name))
    }
}

impl Indexer for RecordValue<'_, '_> {
    fn get<'b, 'v>(&'b self, idx: &dyn Val) -> Result<CowVal<'b, 'v>, ExecutionError>
    where
        Self: 'v,
    {
        let field = json::string_key(idx)?.unwrap_or_default();
        let Some(full_name) = self.full_name(field) else { return Err(ExecutionError::no_such_key(field)) };
        self.activation.get(&full_name).ok_or_else(|| match self.activation.unreadable_reason(&full_name) {
            Some(reason) => ExecutionError::function_error(&full_name, reason),
            None => ExecutionError::no_such_key(field),
        })
    }

    fn steal<'v>(self: Box<Self>, idx: &dyn Val) -> Result<Box<dyn Val + 'v>, ExecutionError>
    where
        Self: 'v,
    {
        Ok(self.get(idx)?.into_owned())
    }
}

impl Container for RecordValue<'_, '_> {
    fn contains(&self, value: &dyn Val) -> Result<bool, ExecutionError> {
        let field = json::string_key(value)?.unwrap_or_default();
        let exists = |full_name: String| {
            self.activation.get(&full_name).is_some() || self.activation.unreadable_reason(&full_name).is_some()
        };
        Ok(self.full_name(field).is_some_and(exists))
    }
}

/// Header fields by case-insensitive name. The lines of a field are one string, joined with `,` (RFC 9110 section 5.3), so
/// that a rule cannot miss the second line. With `as_lines` they are a list.
#[derive(Debug)]
pub(crate) struct HeadersValue<'a> {
    map: &'a HeaderMap,
    as_lines: bool,
    keys: OnceLock<Vec<Box<dyn Val + 'a>>>,
}

impl<'a> HeadersValue<'a> {
    pub(crate) fn new(map: &'a HeaderMap, as_lines: bool) -> Self {
        Self { map, as_lines, keys: OnceLock::new() }
    }
}

impl Val for HeadersValue<'_> {
    fn get_type(&self) -> &Type {
        CelMap::cel_type()
    }

    fn cel_type() -> &'static Type {
        CelMap::cel_type()
    }

    fn as_indexer<'b, 'v>(&'b self) -> Option<&'b (dyn Indexer + 'v)>
    where
        Self: 'v,
    {
        Some(self)
    }

    fn as_container(&self) -> Option<&dyn Container> {
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

    fn equals(&self, other: &dyn Val) -> bool {
        json::equal(self, other).unwrap_or(false)
    }

    fn clone_as_boxed<'v>(&self) -> Box<dyn Val + 'v>
    where
        Self: 'v,
    {
        Box::new(HeadersValue::new(self.map, self.as_lines))
    }
}

/// Returns the text of a field line. Fails if it is not UTF-8, since a rule would otherwise evaluate a text that the client
/// has not sent.
fn field_line_text(value: &HeaderValue) -> Result<&str, ExecutionError> {
    std::str::from_utf8(value.as_bytes())
        .map_err(|_| ExecutionError::function_error("headers", "the header's value is not UTF-8"))
}

impl Indexer for HeadersValue<'_> {
    fn get<'b, 'v>(&'b self, idx: &dyn Val) -> Result<CowVal<'b, 'v>, ExecutionError>
    where
        Self: 'v,
    {
        let name = json::string_key(idx)?.unwrap_or_default();
        let mut values = self.map.get_all(name).iter();
        if self.as_lines {
            let lines = values
                .map(|value| field_line_text(value).map(|line| Box::new(CelString::from(line)) as Box<dyn Val + 'v>))
                .collect::<Result<Vec<_>, _>>()?;
            return Ok(CowVal::owned(CelList::from(lines)));
        }
        let Some(first) = values.next() else { return Err(ExecutionError::no_such_key(name)) };
        let first = field_line_text(first)?;
        let Some(second) = values.next() else { return Ok(CowVal::owned(CelString::from(first))) };
        let mut joined = first.to_owned();
        for value in std::iter::once(second).chain(values) {
            joined.push(',');
            joined.push_str(field_line_text(value)?);
        }
        budget::charge_alloc(joined.len())?;
        Ok(CowVal::owned(CelString::from(joined)))
    }

    fn steal<'v>(self: Box<Self>, idx: &dyn Val) -> Result<Box<dyn Val + 'v>, ExecutionError>
    where
        Self: 'v,
    {
        Ok(self.get(idx)?.into_owned())
    }
}

impl Container for HeadersValue<'_> {
    fn contains(&self, value: &dyn Val) -> Result<bool, ExecutionError> {
        Ok(json::string_key(value)?.is_some_and(|name| self.map.contains_key(name)))
    }
}

impl Iterable for HeadersValue<'_> {
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

impl Sizer for HeadersValue<'_> {
    fn size(&self) -> CelInt {
        (self.map.keys_len() as i64).into()
    }
}
