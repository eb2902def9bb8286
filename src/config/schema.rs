//! The JSON Schema of the config file, generated from the config types and their doc comments. Used by editors and by
//! `portcullis schema --explain`.

mod path;

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use super::resolve::RawConfig;
use super::serde_shapes::{Merged, OneOrMany, OrderedMap, StringOr};
use super::span::Spanned;
use super::value::Size;

pub use path::{SchemaField, SchemaNode};

/// Accepted aliases from the formats of other gateways: the type, the alias, and the canonical name.
const ALIASES: [(&str, &str, &str); 12] = [
    ("JwtMode", "Strict", "strict"),
    ("JwtMode", "Optional", "optional"),
    ("JwtMode", "Permissive", "permissive"),
    ("JwtMode", "Shadow", "shadow"),
    ("AuthorizationMode", "Enforce", "enforce"),
    ("AuthorizationMode", "Shadow", "shadow"),
    ("AuthMode", "Strict", "strict"),
    ("AuthMode", "Optional", "optional"),
    ("AuthMode", "Permissive", "permissive"),
    ("Algorithm", "Ed25519", "EdDSA"),
    ("Timeout", "requestTimeout", "request"),
    ("Timeout", "backendRequestTimeout", "backend"),
];

/// The keyword that marks an alias. Explanations skip aliases.
const ALIAS_KEYWORD: &str = "$comment";

/// Returns the schema of a config file (JSON Schema 2020-12).
pub fn schema() -> serde_json::Value {
    let mut schema = SchemaGenerator::default().into_root_schema_for::<RawConfig>();
    schema.insert("title".to_owned(), "Portcullis config".into());
    let mut schema = schema.to_value();
    for (name, alias, canonical) in ALIASES {
        if let Some(node) = schema.pointer_mut(&format!("/$defs/{name}")) {
            add_alias(node, alias, canonical);
        }
    }
    schema
}

/// Adds an alias of a key or of an enum variant.
fn add_alias(node: &mut serde_json::Value, alias: &str, canonical: &str) {
    let copy = |node: &serde_json::Value| {
        let mut copy = node.as_object().cloned().unwrap_or_default();
        copy.insert(ALIAS_KEYWORD.to_owned(), format!("the same as `{canonical}`").into());
        copy
    };
    if let Some(words) = node.get_mut("oneOf").and_then(|words| words.as_array_mut())
        && let Some(mut word) =
            words.iter().find(|word| word.get("const").is_some_and(|word| word == canonical)).map(copy)
    {
        word.insert("const".to_owned(), alias.into());
        words.push(word.into());
    }
    if let Some(keys) = node.get_mut("properties").and_then(|keys| keys.as_object_mut())
        && let Some(key) = keys.get(canonical).map(copy)
    {
        keys.insert(alias.to_owned(), key.into());
    }
}

/// The position is not part of the schema.
impl<T: JsonSchema> JsonSchema for Spanned<T> {
    fn inline_schema() -> bool {
        T::inline_schema()
    }

    fn schema_name() -> Cow<'static, str> {
        T::schema_name()
    }

    fn schema_id() -> Cow<'static, str> {
        T::schema_id()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        T::json_schema(generator)
    }
}

impl<T: JsonSchema> JsonSchema for OneOrMany<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("OneOrMany_{}", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let item = generator.subschema_for::<T>();
        json_schema!({ "anyOf": [item, {"type": "array", "items": item}] })
    }
}

impl<T: JsonSchema> JsonSchema for StringOr<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("TextOr_{}", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let other = generator.subschema_for::<T>();
        json_schema!({ "anyOf": [{"type": "string"}, other] })
    }
}

impl<K, V: JsonSchema> JsonSchema for OrderedMap<K, V> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("Entries_{}", V::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let value = generator.subschema_for::<V>();
        json_schema!({ "type": "object", "additionalProperties": value })
    }
}

/// One map with the fields of both. Neither may reject the fields of the other.
impl<A: JsonSchema, B: JsonSchema> JsonSchema for Merged<A, B> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("{}_and_{}", A::schema_name(), B::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let (mut schema, other) = (A::json_schema(generator), B::json_schema(generator));
        let mut properties = schema.remove("properties").unwrap_or_else(|| serde_json::json!({}));
        if let (Some(merged), Some(more)) =
            (properties.as_object_mut(), other.get("properties").and_then(|more| more.as_object()))
        {
            for (name, property) in more {
                merged.entry(name.clone()).or_insert_with(|| property.clone());
            }
        }
        schema.insert("properties".to_owned(), properties);
        let lists = [schema.remove("required"), other.get("required").cloned()];
        let required: Vec<_> =
            lists.into_iter().flatten().filter_map(|list| list.as_array().cloned()).flatten().collect();
        if !required.is_empty() {
            schema.insert("required".to_owned(), required.into());
        }
        schema
    }
}

impl JsonSchema for Size {
    fn schema_name() -> Cow<'static, str> {
        "Size".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A size: an integer of bytes, or a number with a unit, such as `64KiB` and `2MiB`.",
            "anyOf": [{"type": "integer", "minimum": 0}, {"type": "string"}],
        })
    }
}

#[cfg(test)]
mod tests;
