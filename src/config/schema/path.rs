//! Lookup by dotted path in the schema: the schema of a value, and its fields.

use serde_json::Value;

use super::ALIAS_KEYWORD;

/// A field of a map.
#[derive(Debug, Clone, PartialEq)]
pub struct SchemaField {
    /// The key.
    pub name: String,
    /// The accepted types and enum variants.
    pub type_names: String,
    /// The description.
    pub description: String,
    /// The requirement that the field is present.
    pub required: bool,
    /// The presence of fields below the value.
    pub has_fields: bool,
}

/// A node of the schema.
#[derive(Debug, Clone, Copy)]
pub struct SchemaNode<'s> {
    root: &'s Value,
    node: &'s Value,
    /// The description of the parent key, which is more specific than that of the type.
    parent_description: Option<&'s str>,
}

impl<'s> SchemaNode<'s> {
    /// Returns the root.
    pub fn root(schema: &'s Value) -> Self {
        Self { root: schema, node: schema, parent_description: None }
    }

    /// Returns the node at a path such as `binds.listeners.routes` or `routes[0].policies.jwtAuth`; list indexes are
    /// ignored. A path may also start at any inner key, such as `jwtAuth.mode`.
    ///
    /// # Errors
    /// The part that does not exist, and the valid keys.
    pub fn find(self, path: &str) -> Result<Self, (String, Vec<String>)> {
        let names =
            || path.split('.').map(|part| part.split('[').next().unwrap_or(part)).filter(|part| !part.is_empty());
        let strict = names().try_fold(self, |spot, name| {
            spot.child(name)
                .ok_or_else(|| (name.to_owned(), spot.fields().into_iter().map(|field| field.name).collect()))
        });
        let error = match strict {
            Ok(spot) => return Ok(spot),
            Err(error) => error,
        };
        let mut names = names();
        let inside = names.next().and_then(|first| self.find_anywhere(first));
        match inside.and_then(|spot| names.try_fold(spot, |spot, name| spot.child(name))) {
            Some(spot) => Ok(spot),
            None => Err(error),
        }
    }

    /// Returns the key in the first definition that has it.
    fn find_anywhere(self, name: &str) -> Option<Self> {
        let definitions = self.root.get("$defs")?.as_object()?;
        definitions.values().find_map(|node| Self { node, parent_description: None, ..self }.child(name))
    }

    fn child(self, name: &str) -> Option<Self> {
        self.alternatives().into_iter().find_map(|part| {
            let found = part.get("properties").and_then(|properties| properties.get(name));
            // the keys of a map are chosen by the author
            let found = found.or_else(|| part.get("additionalProperties").filter(|more| more.is_object()))?;
            let choice_description = part.get("description").filter(|_| part.get("required").is_some_and(is_single));
            Some(Self {
                node: found,
                parent_description: found.get("description").or(choice_description).and_then(Value::as_str),
                ..self
            })
        })
    }

    /// Returns all alternatives of the node, following references, lists and choices.
    fn alternatives(self) -> Vec<&'s Value> {
        let mut parts: Vec<&'s Value> = Vec::new();
        let mut pending: Vec<&'s Value> = vec![self.node];
        while let Some(node) = pending.pop() {
            if parts.len() > 64 || parts.iter().any(|seen| std::ptr::eq(*seen, node)) {
                continue;
            }
            parts.push(node);
            if let Some(target) = node.get("$ref").and_then(Value::as_str).and_then(|path| path.strip_prefix('#')) {
                pending.extend(self.root.pointer(target));
            }
            pending.extend(node.get("items"));
            for choice in ["oneOf", "anyOf", "allOf"] {
                pending.extend(node.get(choice).and_then(Value::as_array).into_iter().flatten().rev());
            }
        }
        parts
    }

    /// Returns the fields.
    pub fn fields(self) -> Vec<SchemaField> {
        let mut fields: Vec<SchemaField> = Vec::new();
        for part in self.alternatives() {
            let required = |name: &str| {
                part.get("required").and_then(Value::as_array).is_some_and(|all| all.iter().any(|entry| entry == name))
            };
            for (name, node) in part.get("properties").and_then(Value::as_object).into_iter().flatten() {
                if fields.iter().any(|existing| existing.name == *name) || node.get(ALIAS_KEYWORD).is_some() {
                    continue;
                }
                // a choice among keys has the description next to the key
                let choice_description =
                    part.get("description").filter(|_| part.get("required").is_some_and(is_single));
                let parent_description = node.get("description").or(choice_description).and_then(Value::as_str);
                let spot = Self { node, parent_description, ..self };
                fields.push(SchemaField {
                    name: name.clone(),
                    type_names: spot.type_names(),
                    description: spot.description(),
                    required: required(name),
                    has_fields: spot.alternatives().iter().any(|part| part.get("properties").is_some()),
                });
            }
        }
        fields
    }

    /// Returns the description.
    pub fn description(self) -> String {
        let own_description = || self.alternatives().into_iter().find_map(|part| part.get("description")?.as_str());
        let text = self.parent_description.or_else(own_description).unwrap_or_default();
        text.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    /// Returns the accepted types and enum variants.
    pub fn type_names(self) -> String {
        let mut kinds: Vec<String> = Vec::new();
        let mut add = |kind: String| {
            if !kinds.contains(&kind) {
                kinds.push(kind);
            }
        };
        for part in self.alternatives() {
            if part.get(ALIAS_KEYWORD).is_some() && !std::ptr::eq(part, self.node) {
                continue;
            }
            for word in part.get("enum").and_then(Value::as_array).into_iter().flatten() {
                add(word.as_str().map_or_else(|| word.to_string(), str::to_owned));
            }
            if let Some(word) = part.get("const") {
                add(word.as_str().map_or_else(|| word.to_string(), str::to_owned));
            }
            if part.get("enum").is_some() || part.get("const").is_some() {
                continue;
            }
            let types = match part.get("type") {
                Some(Value::String(name)) => vec![name.as_str()],
                Some(Value::Array(several)) => several.iter().filter_map(Value::as_str).collect(),
                _ => Vec::new(),
            };
            for kind in types {
                match kind {
                    "null" => {}
                    "object" => add("map".to_owned()),
                    "array" => add("list".to_owned()),
                    other => add(other.to_owned()),
                }
            }
        }
        if kinds.is_empty() { "anything".to_owned() } else { kinds.join(" | ") }
    }
}

/// Returns whether a list has one entry.
fn is_single(list: &Value) -> bool {
    list.as_array().is_some_and(|list| list.len() == 1)
}
