//! Nodes -> typed values, through plain serde derives, with every error of the file in one run.
//!
//! A decoder stops at its first error, as serde must. The error is kept, the value that it is about is taken out of
//! the tree, and the whole is decoded again, until nothing is wrong or too much is. What is missing only because it
//! was taken out is no error of its own. Unknown keys are kept aside and never stop anything.

mod access;
mod fault;
mod plain;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use serde::de::{DeserializeOwned, Deserializer, IntoDeserializer, Visitor, value::StrDeserializer};

use self::access::{BothAccess, EntryAccess, EnumChoice, ItemAccess, LocatedAccess, TextOrAccess};
use self::fault::Fault;
use self::plain::Plain;
use super::code::Code;
use super::error::Diagnostic;
use super::expand::{Env, expand, has_variable};
use super::node::{Entry, Kind, Node, child};
use super::place::LOCATED;
use super::shape::{BOTH, LIST, TEXT_OR};
use super::source::Source;
use super::suggest::nearest;

/// After so many errors the rest is left for the next run.
const MAX_ERRORS: usize = 100;

/// The value that `root` describes, or everything that is wrong with it.
pub(super) fn decode<T: DeserializeOwned>(root: &Node, source: &Source, env: Env<'_>) -> Result<T, Vec<Diagnostic>> {
    match salvage(root, source, env) {
        (Some(value), errors) if errors.is_empty() => Ok(value),
        (_, errors) => Err(errors),
    }
}

/// What can be read of `root` when everything that is wrong with it is left out, and what that is.
pub(super) fn salvage<T: DeserializeOwned>(root: &Node, source: &Source, env: Env<'_>) -> (Option<T>, Vec<Diagnostic>) {
    let state = State { source, env, pruned: RefCell::default(), unknown: RefCell::default() };
    let mut errors = Vec::new();
    let decoded = loop {
        let fault = match T::deserialize(De::new(root, &state)).map_err(|fault| fault.at(root)) {
            Ok(value) => break Some(value),
            Err(fault) => fault,
        };
        let (node, diagnostic) = fault.finish(&state);
        errors.extend(diagnostic);
        let fresh = state.pruned.borrow_mut().insert(node);
        if !fresh || node == root.id || errors.len() >= MAX_ERRORS {
            break None;
        }
    };
    errors.extend(state.unknown.into_inner().into_values());
    if decoded.is_none() && errors.is_empty() {
        errors.push(Diagnostic::error(source.place(root.start, root.start, ""), "the config can't be read"));
    }
    (decoded, errors)
}

/// What one decoding of a file shares.
pub(super) struct State<'a> {
    source: &'a Source,
    env: Env<'a>,
    /// The numbers of values that had an error.
    pruned: RefCell<BTreeSet<usize>>,
    /// The unknown keys, by the number of their value.
    unknown: RefCell<BTreeMap<usize, Diagnostic>>,
}

impl State<'_> {
    /// Whether something inside a value is already known to be wrong.
    fn is_spoiled(&self, node: &Node) -> bool {
        let inside = (std::ops::Bound::Excluded(node.id), std::ops::Bound::Included(node.last));
        node.last > node.id
            && (self.pruned.borrow().range(inside).next().is_some()
                || self.unknown.borrow().range(inside).next().is_some())
    }

    fn is_pruned(&self, node: &Node) -> bool {
        self.pruned.borrow().contains(&node.id)
    }
}

/// The keys that the two structs of one map know.
type Shared = Rc<RefCell<Vec<&'static [&'static str]>>>;

/// One value, about to be decoded.
#[derive(Clone)]
pub(super) struct De<'a> {
    node: &'a Node,
    state: &'a State<'a>,
    shared: Option<Shared>,
}

impl<'a> De<'a> {
    fn new(node: &'a Node, state: &'a State<'a>) -> Self {
        Self { node, state, shared: None }
    }

    /// An error about this value.
    fn fault(&self, message: impl Into<String>) -> Fault<'a> {
        Fault::new(message).at(self.node)
    }

    /// A value of another kind stands here.
    fn mismatch(&self, wanted: &str) -> Fault<'a> {
        let fault = self.unlike(wanted);
        match (&self.node.kind, wanted) {
            _ if self.is_null() => self.fault("there is no value").hint("write one, or remove the key"),
            (Kind::Scalar { plain: true, .. }, "a string") => fault.hint("put it in quotes"),
            (Kind::Map(_), "a list") => fault.hint("begin each entry of a list with `- `"),
            (Kind::List(_), "a map") => fault.hint("remove the `- ` at the start of its lines"),
            _ => fault,
        }
    }

    /// The value is not what is wanted. What a variable stands for may be secret, and is not shown.
    fn unlike(&self, wanted: &str) -> Fault<'a> {
        match &self.node.kind {
            Kind::Scalar { text, .. } if has_variable(text) => {
                self.fault(format!("expected {wanted}, which the value of `{}` is not", short(text)))
            }
            _ => self.fault(format!("expected {wanted}, found {}", self.found())),
        }
    }

    /// What stands here, for an error.
    fn found(&self) -> String {
        match &self.node.kind {
            Kind::List(_) => "a list".to_owned(),
            Kind::Map(_) => "a map".to_owned(),
            Kind::Scalar { text, plain } => match Plain::of(text, *plain) {
                Plain::Null => "nothing".to_owned(),
                Plain::Bool(value) => format!("`{value}`"),
                Plain::Int(_) | Plain::Float(_) => format!("the number `{text}`"),
                Plain::Text => format!("the string `{}`", short(text)),
            },
        }
    }

    fn is_null(&self) -> bool {
        matches!(&self.node.kind, Kind::Scalar { text, plain } if Plain::of(text, *plain) == Plain::Null)
    }

    /// The text of a scalar with its variables filled in.
    fn expanded(&self, text: &'a str) -> Result<std::borrow::Cow<'a, str>, Fault<'a>> {
        expand(text, self.state.env).map_err(|message| self.fault(message).code(Code::Variable))
    }

    /// A string.
    fn text(&self) -> Result<String, Fault<'a>> {
        match &self.node.kind {
            Kind::Scalar { text, plain } if Plain::of(text, *plain) == Plain::Text => {
                Ok(self.expanded(text)?.into_owned())
            }
            _ => Err(self.mismatch("a string")),
        }
    }

    /// A scalar that is not a string. It may come from a variable (`port: ${PORT}`), also in quotes: inside braces
    /// YAML has no other way to write one.
    fn plain(&self) -> Result<Plain, Fault<'a>> {
        match &self.node.kind {
            Kind::Scalar { text, plain } => Ok(Plain::of(&self.expanded(text)?, *plain || has_variable(text))),
            _ => Ok(Plain::Text),
        }
    }

    fn integer(&self, least: i128, most: i128) -> Result<i128, Fault<'a>> {
        match self.plain()? {
            Plain::Int(value) if (least..=most).contains(&value) => Ok(value),
            Plain::Int(_) => Err(self.unlike(&format!("a whole number from {least} to {most}"))),
            _ => Err(self.mismatch("a whole number")),
        }
    }

    /// Keeps the keys of this map that no field has.
    fn check_keys(&self, entries: &'a [Entry], known: &[&'static str]) {
        for entry in entries.iter().filter(|entry| !known.contains(&entry.key.as_str())) {
            let place = self.state.source.place(entry.start, entry.end, &child(&self.node.path, &entry.key));
            let finding =
                Diagnostic::error(place, format!("unknown key `{}`", short(&entry.key))).code(Code::UnknownKey);
            let finding = match advice(&entry.key, known) {
                Some(advice) => finding.hint(advice),
                None => finding,
            };
            self.state.unknown.borrow_mut().entry(entry.value.id).or_insert(finding);
        }
    }
}

/// Policies of the dialect that are not there. They must never be skipped: that would open a door.
const ABSENT_POLICIES: [&str; 14] = [
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

/// Other parts of the dialect that are not there: what else it serves than HTTP, and how it finds that.
const ABSENT_PARTS: [&str; 17] = [
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

fn advice(key: &str, known: &[&'static str]) -> Option<String> {
    if key == "<<" {
        return Some("merge keys are not part of YAML 1.2; write the keys out".to_owned());
    }
    if ABSENT_POLICIES.contains(&key) {
        return Some("this policy is not supported, and leaving it out silently would not be safe".to_owned());
    }
    if ABSENT_PARTS.contains(&key) {
        return Some(
            "agentgateway knows this; this gateway is for HTTP between clients and backends, and does not".to_owned(),
        );
    }
    if let Some(word) = nearest(key, known.iter().copied()) {
        return Some(format!("did you mean `{word}`?"));
    }
    let list: Vec<_> = known.iter().map(|word| format!("`{word}`")).collect();
    (1..=8).contains(&list.len()).then(|| format!("known here: {}", list.join(", ")))
}

/// A text that stands in a message.
fn short(text: &str) -> String {
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

impl<'de, 'a> Deserializer<'de> for De<'a> {
    type Error = Fault<'a>;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        match &self.node.kind {
            Kind::List(items) => visitor.visit_seq(ItemAccess::new(items, self.state)),
            Kind::Map(entries) => visitor.visit_map(EntryAccess::new(entries, self.state)),
            Kind::Scalar { text, plain } => match Plain::of(text, *plain) {
                Plain::Null => Err(self.mismatch("a value")),
                Plain::Bool(value) => visitor.visit_bool(value),
                Plain::Float(value) => visitor.visit_f64(value),
                Plain::Int(value) => match (u64::try_from(value), i64::try_from(value)) {
                    (Ok(value), _) => visitor.visit_u64(value),
                    (_, Ok(value)) => visitor.visit_i64(value),
                    _ => Err(self.fault(format!("the number is too large: {text}"))),
                },
                Plain::Text => visitor.visit_string(self.text()?),
            },
        }
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        match self.plain()? {
            Plain::Bool(value) => visitor.visit_bool(value),
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
        match self.plain()? {
            Plain::Float(value) => visitor.visit_f64(value),
            Plain::Int(value) => visitor.visit_f64(value as f64),
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
        // A key without value is a mistake, not an absent key: a policy would silently be gone.
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
            (LOCATED, _) => visitor.visit_seq(LocatedAccess::new(self.clone())),
            (LIST, Kind::List(items)) => visitor.visit_seq(ItemAccess::new(items, self.state)),
            (LIST, _) => visitor.visit_seq(ItemAccess::new(std::slice::from_ref(self.node), self.state)),
            (TEXT_OR, _) if self.is_null() => Err(self.mismatch("a value")),
            (TEXT_OR, kind) => visitor.visit_seq(TextOrAccess::new(self.clone(), matches!(kind, Kind::Scalar { .. }))),
            (BOTH, Kind::Map(entries)) => {
                let known = Shared::default();
                let value = visitor.visit_seq(BothAccess::new(self.node, self.state, &known));
                // After an error in the first struct nothing is known of the second.
                if let [first, second] = known.borrow().as_slice() {
                    self.check_keys(entries, &[*first, *second].concat());
                }
                value.map_err(|fault| fault.at(self.node))
            }
            (BOTH, _) => Err(self.mismatch("a map")),
            _ => visitor.visit_newtype_struct(self),
        }
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        match &self.node.kind {
            Kind::List(items) => visitor.visit_seq(ItemAccess::new(items, self.state)),
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
            Kind::Map(entries) => visitor.visit_map(EntryAccess::new(entries, self.state)),
            _ => Err(self.mismatch("a map")),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Self::Error> {
        let Kind::Map(entries) = &self.node.kind else {
            return Err(self.mismatch("a map"));
        };
        match &self.shared {
            Some(known) => known.borrow_mut().push(fields),
            None => self.check_keys(entries, fields),
        }
        visitor.visit_map(EntryAccess::only(entries, self.state, fields))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Self::Error> {
        let choice = EnumChoice::of(self, variants)?;
        visitor.visit_enum(choice)
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        visitor.visit_string(self.text()?)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        visitor.visit_unit()
    }
}

/// A word that is no value of the file, as serde wants it.
fn word<'de, 'a>(text: &'de str) -> StrDeserializer<'de, Fault<'a>> {
    text.into_deserializer()
}
