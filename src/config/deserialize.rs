//! Deserializes nodes through plain serde derives, and reports all errors of the file in one run.
//!
//! A serde deserializer stops at its first error. The error is recorded, its value is pruned from the tree, and the whole
//! tree is deserialized again, until no error or too many are left. A field that is missing only because it was pruned is
//! not an error. Unknown keys are recorded and never stop the run.

mod accessors;
mod core_schema;
mod error;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use serde::de::{DeserializeOwned, Deserializer, IntoDeserializer, Visitor, value::StrDeserializer};

use super::diagnostic::Diagnostic;
use super::diagnostic_code::DiagnosticCode;
use super::env::{EnvLookup, expand, has_variable};
use super::serde_shapes::{LIST, MERGED, STRING_OR};
use super::source::Source;
use super::span::SPANNED;
use super::suggest::nearest;
use super::yaml::{MapEntry, Node, NodeKind, child_path};
use accessors::{EntryAccess, EnumChoice, ItemAccess, MergedAccess, SpannedAccess, StringOrAccess};
use core_schema::CoreValue;
use error::DecodeError;

/// The maximum number of errors of one run.
const MAX_ERRORS: usize = 100;

/// Deserializes `root`, or returns all errors.
pub(super) fn decode<T: DeserializeOwned>(
    root: &Node,
    source: &Source,
    env: EnvLookup<'_>,
) -> Result<T, Vec<Diagnostic>> {
    match decode_partially(root, source, env) {
        (Some(value), errors) if errors.is_empty() => Ok(value),
        (_, errors) => Err(errors),
    }
}

/// Deserializes the valid parts of `root`, and returns all errors.
pub(super) fn decode_partially<T: DeserializeOwned>(
    root: &Node,
    source: &Source,
    env: EnvLookup<'_>,
) -> (Option<T>, Vec<Diagnostic>) {
    let state = DecodeState { source, env, pruned: RefCell::default(), unknown_keys: RefCell::default() };
    let mut errors = Vec::new();
    let decoded = loop {
        let error = match T::deserialize(NodeDeserializer::new(root, &state)).map_err(|fault| fault.at(root)) {
            Ok(value) => break Some(value),
            Err(error) => error,
        };
        let (node, diagnostic) = error.into_diagnostic(&state);
        errors.extend(diagnostic);
        let newly_pruned = state.pruned.borrow_mut().insert(node);
        if !newly_pruned || node == root.id || errors.len() >= MAX_ERRORS {
            break None;
        }
    };
    errors.extend(state.unknown_keys.into_inner().into_values());
    if decoded.is_none() && errors.is_empty() {
        errors.push(Diagnostic::error(source.span(root.start, root.start, ""), "the config cannot be read"));
    }
    (decoded, errors)
}

/// The state shared by all passes over a file.
pub(super) struct DecodeState<'a> {
    source: &'a Source,
    env: EnvLookup<'a>,
    /// The indexes of values with an error.
    pruned: RefCell<BTreeSet<usize>>,
    /// The unknown keys, by the index of their value.
    unknown_keys: RefCell<BTreeMap<usize, Diagnostic>>,
}

impl DecodeState<'_> {
    /// Returns whether something inside a value has an error.
    fn has_error_inside(&self, node: &Node) -> bool {
        let inside = (std::ops::Bound::Excluded(node.id), std::ops::Bound::Included(node.last_id));
        node.last_id > node.id
            && (self.pruned.borrow().range(inside).next().is_some()
                || self.unknown_keys.borrow().range(inside).next().is_some())
    }

    fn is_pruned(&self, node: &Node) -> bool {
        self.pruned.borrow().contains(&node.id)
    }
}

/// The fields of the two structs of one map.
type SharedFields = Rc<RefCell<Vec<&'static [&'static str]>>>;

/// A deserializer for one value.
#[derive(Clone)]
pub(super) struct NodeDeserializer<'a> {
    node: &'a Node,
    state: &'a DecodeState<'a>,
    shared_fields: Option<SharedFields>,
}

impl<'a> NodeDeserializer<'a> {
    fn new(node: &'a Node, state: &'a DecodeState<'a>) -> Self {
        Self { node, state, shared_fields: None }
    }

    /// Returns an error about this value.
    fn error(&self, message: impl Into<String>) -> DecodeError<'a> {
        DecodeError::new(message).at(self.node)
    }

    /// Returns the error for a value of another type, with a hint.
    fn mismatch(&self, expected: &str) -> DecodeError<'a> {
        let error = self.type_error(expected);
        match (&self.node.kind, expected) {
            _ if self.is_null() => self.error("the value is missing").with_hint("write one, or remove the key"),
            (NodeKind::Scalar { plain: true, .. }, "a string") => error.with_hint("put it in quotes"),
            (NodeKind::Map(_), "a list") => error.with_hint("start each entry of a list with `- `"),
            (NodeKind::List(_), "a map") => error.with_hint("remove the `- ` at the start of its lines"),
            _ => error,
        }
    }

    /// Returns the error for a value of another type. The value of a variable may be secret, and is not shown.
    fn type_error(&self, expected: &str) -> DecodeError<'a> {
        match &self.node.kind {
            NodeKind::Scalar { text, .. } if has_variable(text) => {
                self.error(format!("expected {expected}, which the value of `{}` is not", truncate(text)))
            }
            _ => self.error(format!("expected {expected}, found {}", self.describe())),
        }
    }

    /// Describes the value for an error.
    fn describe(&self) -> String {
        match &self.node.kind {
            NodeKind::List(_) => "a list".to_owned(),
            NodeKind::Map(_) => "a map".to_owned(),
            NodeKind::Scalar { text, plain } => match CoreValue::resolve(text, *plain) {
                CoreValue::Null => "nothing".to_owned(),
                CoreValue::Bool(value) => format!("`{value}`"),
                CoreValue::Int(_) | CoreValue::Float(_) => format!("the number `{text}`"),
                CoreValue::Str => format!("the string `{}`", truncate(text)),
            },
        }
    }

    fn is_null(&self) -> bool {
        matches!(&self.node.kind, NodeKind::Scalar { text, plain } if CoreValue::resolve(text, *plain) == CoreValue::Null)
    }

    /// Returns the text of a scalar with its variables expanded.
    fn expanded(&self, text: &'a str) -> Result<std::borrow::Cow<'a, str>, DecodeError<'a>> {
        expand(text, self.state.env).map_err(|message| self.error(message).with_code(DiagnosticCode::UnsetVariable))
    }

    /// Returns a string.
    fn text(&self) -> Result<String, DecodeError<'a>> {
        match &self.node.kind {
            NodeKind::Scalar { text, plain } if CoreValue::resolve(text, *plain) == CoreValue::Str => {
                Ok(self.expanded(text)?.into_owned())
            }
            _ => Err(self.mismatch("a string")),
        }
    }

    /// Returns a scalar that is not a string. It may come from a variable (`port: ${PORT}`), also in quotes, which YAML
    /// requires inside braces.
    fn core_value(&self) -> Result<CoreValue, DecodeError<'a>> {
        match &self.node.kind {
            NodeKind::Scalar { text, plain } => {
                Ok(CoreValue::resolve(&self.expanded(text)?, *plain || has_variable(text)))
            }
            _ => Ok(CoreValue::Str),
        }
    }

    fn integer(&self, min: i128, max: i128) -> Result<i128, DecodeError<'a>> {
        match self.core_value()? {
            CoreValue::Int(value) if (min..=max).contains(&value) => Ok(value),
            CoreValue::Int(_) => Err(self.type_error(&format!("a whole number from {min} to {max}"))),
            _ => Err(self.mismatch("a whole number")),
        }
    }

    /// Records the keys of this map that are not fields.
    fn report_unknown_keys(&self, entries: &'a [MapEntry], valid_keys: &[&'static str]) {
        for entry in entries.iter().filter(|entry| !valid_keys.contains(&entry.key.as_str())) {
            let span = self.state.source.span(entry.start, entry.end, &child_path(&self.node.path, &entry.key));
            let finding = Diagnostic::error(span, format!("unknown key `{}`", truncate(&entry.key)))
                .with_code(DiagnosticCode::UnknownKey);
            let finding = match unknown_key_hint(&entry.key, valid_keys) {
                Some(advice) => finding.with_hint(advice),
                None => finding,
            };
            self.state.unknown_keys.borrow_mut().entry(entry.value.id).or_insert(finding);
        }
    }
}

/// Unsupported policies of agentgateway. They must never be ignored, because that could widen access.
const UNSUPPORTED_POLICIES: [&str; 14] = [
    "oidc",
    "csrf",
    "extProc",
    "remoteRateLimit",
    "buffer",
    "delay",
    "mcpAuthentication",
    "mcpAuthorization",
    "mcpGuardrails",
    "a2a",
    "ipAccessControl",
    "networkAuthorization",
    "sessionAffinity",
    "concurrencyLimit",
];

/// Other unsupported keys of agentgateway: protocols other than HTTP, and service discovery.
const UNSUPPORTED_KEYS: [&str; 17] = [
    "mcp",
    "llm",
    "ai",
    "aws",
    "ui",
    "dynamic",
    "internal",
    "service",
    "services",
    "workloads",
    "routeGroup",
    "routeGroups",
    "tcpRoutes",
    "tunnelProtocol",
    "frontendPolicies",
    "accessLog",
    "customFunctions",
];

fn unknown_key_hint(key: &str, valid_keys: &[&'static str]) -> Option<String> {
    if key == "<<" {
        return Some("merge keys are not part of YAML 1.2; write the keys out".to_owned());
    }
    if UNSUPPORTED_POLICIES.contains(&key) {
        return Some("this policy is not supported; ignoring it would not be safe".to_owned());
    }
    if UNSUPPORTED_KEYS.contains(&key) {
        return Some("this agentgateway feature is not supported; this gateway proxies HTTP only".to_owned());
    }
    if let Some(word) = nearest(key, valid_keys.iter().copied()) {
        return Some(format!("did you mean `{word}`?"));
    }
    let list: Vec<_> = valid_keys.iter().map(|word| format!("`{word}`")).collect();
    (1..=8).contains(&list.len()).then(|| format!("valid keys: {}", list.join(", ")))
}

/// Truncates a text for a message.
fn truncate(text: &str) -> String {
    match text.char_indices().nth(60) {
        Some((at, _)) => format!("{}…", text.get(..at).unwrap_or_default()),
        None => text.to_owned(),
    }
}

macro_rules! integers {
    ($($method:ident $visit:ident $type:ty),*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
            let value = self.integer(<$type>::MIN as i128, <$type>::MAX as i128)?;
            visitor.$visit(value as $type)
        }
    )*};
}

impl<'de, 'a> Deserializer<'de> for NodeDeserializer<'a> {
    type Error = DecodeError<'a>;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        match &self.node.kind {
            NodeKind::List(items) => visitor.visit_seq(ItemAccess::new(items, self.state)),
            NodeKind::Map(entries) => visitor.visit_map(EntryAccess::new(entries, self.state)),
            NodeKind::Scalar { text, plain } => match CoreValue::resolve(text, *plain) {
                CoreValue::Null => Err(self.mismatch("a value")),
                CoreValue::Bool(value) => visitor.visit_bool(value),
                CoreValue::Float(value) => visitor.visit_f64(value),
                CoreValue::Int(value) => match (u64::try_from(value), i64::try_from(value)) {
                    (Ok(value), _) => visitor.visit_u64(value),
                    (_, Ok(value)) => visitor.visit_i64(value),
                    _ => Err(self.error(format!("the number is too large: {text}"))),
                },
                CoreValue::Str => visitor.visit_string(self.text()?),
            },
        }
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        match self.core_value()? {
            CoreValue::Bool(value) => visitor.visit_bool(value),
            _ => Err(self.mismatch("`true` or `false`")),
        }
    }

    integers!(
        deserialize_u8 visit_u8 u8, deserialize_u16 visit_u16 u16, deserialize_u32 visit_u32 u32,
        deserialize_u64 visit_u64 u64, deserialize_i8 visit_i8 i8, deserialize_i16 visit_i16 i16,
        deserialize_i32 visit_i32 i32, deserialize_i64 visit_i64 i64
    );

    fn deserialize_f32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        self.deserialize_f64(visitor)
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        match self.core_value()? {
            CoreValue::Float(value) => visitor.visit_f64(value),
            CoreValue::Int(value) => visitor.visit_f64(value as f64),
            _ => Err(self.mismatch("a number")),
        }
    }

    fn deserialize_char<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        visitor.visit_string(self.text()?)
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        visitor.visit_string(self.text()?)
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        visitor.visit_string(self.text()?)
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        visitor.visit_string(self.text()?)
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        visitor.visit_string(self.text()?)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        // a key without a value is a mistake, not an absent key: a policy would be ignored silently
        match self.is_null() {
            true => Err(self.mismatch("a value")),
            false => visitor.visit_some(self),
        }
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        visitor.visit_unit()
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Self::Error> {
        visitor.visit_unit()
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Self::Error> {
        match (name, &self.node.kind) {
            (SPANNED, _) => visitor.visit_seq(SpannedAccess::new(self.clone())),
            (LIST, NodeKind::List(items)) => visitor.visit_seq(ItemAccess::new(items, self.state)),
            (LIST, _) => visitor.visit_seq(ItemAccess::new(std::slice::from_ref(self.node), self.state)),
            (STRING_OR, _) if self.is_null() => Err(self.mismatch("a value")),
            (STRING_OR, kind) => {
                visitor.visit_seq(StringOrAccess::new(self.clone(), matches!(kind, NodeKind::Scalar { .. })))
            }
            (MERGED, NodeKind::Map(entries)) => {
                let fields = SharedFields::default();
                let value = visitor.visit_seq(MergedAccess::new(self.node, self.state, &fields));
                // after an error in the first struct the fields of the second are unknown
                if let [first, second] = fields.borrow().as_slice() {
                    self.report_unknown_keys(entries, &[*first, *second].concat());
                }
                value.map_err(|error| error.at(self.node))
            }
            (MERGED, _) => Err(self.mismatch("a map")),
            _ => visitor.visit_newtype_struct(self),
        }
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        match &self.node.kind {
            NodeKind::List(items) => visitor.visit_seq(ItemAccess::new(items, self.state)),
            _ => Err(self.mismatch("a list")),
        }
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Self::Error> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: usize,
        visitor: V,
    ) -> Result<V::Value, Self::Error> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        match &self.node.kind {
            NodeKind::Map(entries) => visitor.visit_map(EntryAccess::new(entries, self.state)),
            _ => Err(self.mismatch("a map")),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Self::Error> {
        let NodeKind::Map(entries) = &self.node.kind else {
            return Err(self.mismatch("a map"));
        };
        match &self.shared_fields {
            Some(shared) => shared.borrow_mut().push(fields),
            None => self.report_unknown_keys(entries, fields),
        }
        visitor.visit_map(EntryAccess::for_struct(entries, self.state, fields))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Self::Error> {
        let choice = EnumChoice::new(self, variants)?;
        visitor.visit_enum(choice)
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        visitor.visit_string(self.text()?)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        visitor.visit_unit()
    }
}

/// Returns a serde deserializer for a fixed text.
fn str_deserializer<'de, 'a>(text: &'de str) -> StrDeserializer<'de, DecodeError<'a>> {
    text.into_deserializer()
}
