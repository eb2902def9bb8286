//! From what was written to what runs: one walk that checks every name, type and literal, and puts in place what the
//! engine lacks or gets wrong.
//!
//! What it changes: `request.path` becomes one name; the range of a comprehension is paid for; `contains` on a claim is
//! no substring test; regexes and whatever reads nothing are made once; `==` and `in` know our lists and maps. What it
//! refuses: unknown names, what can never hold, what always fails, and what would take too long.

mod arguments;
mod calls;
mod comprehension;
mod constants;
mod operators;
mod tree;

use std::collections::BTreeMap;

use cel::common::ast::operators as op;
use cel::common::ast::{CallExpr, EntryExpr, Expr, IdedExpr, ListExpr, LiteralValue, MapExpr, SelectExpr, SourceInfo};
use cel::common::types::{CelDuration, CelList, CelTimestamp};
use cel::common::value::Val;
use cel_interpreter as cel;

use self::tree::{article, copied, dotted, is_plain, is_word, list, literal_type, lookup};
pub(super) use self::tree::{depth, parts, path};
use super::expr::{Fault, Scope};
use super::functions::{Cidr, Ip, Pattern};
use super::names;
use super::types::{TYPE_NAMES, Ty};

/// The deepest expression that is taken.
const MAX_DEPTH: usize = 256;

/// A value made once, when the expression is compiled.
#[derive(Debug)]
pub(super) enum Constant {
    Pattern(Pattern),
    Cidr(Cidr),
    Ip(Ip),
    Timestamp(CelTimestamp),
    Duration(CelDuration),
    List(CelList<'static>),
}

impl Constant {
    pub(super) fn val(&self) -> &dyn Val {
        match self {
            Self::Pattern(pattern) => pattern,
            Self::Cidr(cidr) => cidr,
            Self::Ip(ip) => ip,
            Self::Timestamp(timestamp) => timestamp,
            Self::Duration(duration) => duration,
            Self::List(list) => list,
        }
    }
}

/// A checked expression, with what is known of it.
struct Node {
    expr: IdedExpr,
    ty: Ty,
    /// The value is a claim as the token brought it, or holds one, and is no computation's result.
    claim: bool,
    /// The whole name of the variable or field that this is.
    name: Option<String>,
}

impl Node {
    fn new(expr: IdedExpr, ty: Ty) -> Self {
        Self { expr, ty, claim: false, name: None }
    }
}

/// A variable of a comprehension.
struct Bound {
    name: String,
    ty: Ty,
    claim: bool,
}

/// The walk's result.
pub(super) struct Lowered {
    pub(super) expr: IdedExpr,
    pub(super) constants: Vec<Constant>,
    /// Claims and headers that are read where nothing asks whether they are there.
    pub(super) unguarded: Vec<String>,
}

/// Checks and rewrites a parsed expression.
pub(super) fn lower(expr: IdedExpr, info: &SourceInfo, scope: &Scope<'_>) -> Result<Lowered, Vec<Fault>> {
    let mut walk = Walk {
        scope,
        info,
        faults: Vec::new(),
        bound: Vec::new(),
        constants: Vec::new(),
        nested: 0,
        read: Vec::new(),
        tested: Vec::new(),
        starts: BTreeMap::new(),
    };
    let start = walk.start(&expr);
    let node = walk.expr(expr, 0);
    if scope.is_condition() && !node.ty.may_be(Ty::Bool) {
        walk.fault_at(start, format!("this gives {}, not true or false", article(node.ty)), None);
    }
    if !walk.faults.is_empty() {
        walk.faults.sort_by_key(|fault| fault.offset);
        walk.faults.dedup();
        return Err(walk.faults);
    }
    let Walk { constants, mut read, tested, .. } = walk;
    read.retain(|path| !tested.iter().any(|tested| tested == path));
    read.sort();
    read.dedup();
    Ok(Lowered { expr: node.expr, constants, unguarded: read })
}

struct Walk<'s> {
    scope: &'s Scope<'s>,
    info: &'s SourceInfo,
    faults: Vec<Fault>,
    /// The variables of the comprehensions around, innermost last.
    bound: Vec<Bound>,
    constants: Vec<Constant>,
    nested: usize,
    read: Vec<String>,
    tested: Vec<String>,
    /// Where what is a constant now began, by its id.
    starts: BTreeMap<u64, usize>,
}

impl Walk<'_> {
    /// Where an expression begins in the source.
    fn start(&self, expr: &IdedExpr) -> usize {
        if let Some(start) = self.starts.get(&expr.id) {
            return *start;
        }
        let own = self.info.offset_for(expr.id).map(|(start, _)| start as usize);
        let first = match &expr.expr {
            Expr::Select(select) => Some(&*select.operand),
            Expr::Call(CallExpr { target: Some(target), .. }) => Some(&**target),
            Expr::Comprehension(one) => match &one.iter_range.expr {
                // What `optMap` binds.
                Expr::List(list) if list.elements.is_empty() => Some(&one.accu_init),
                _ => Some(&one.iter_range),
            },
            Expr::Call(call) if !is_word(&call.func_name) => call.args.first(),
            Expr::Call(call) => return self.start_of_name(expr.id, &call.func_name),
            _ => None,
        };
        match (first.map(|first| self.start(first)), own) {
            (Some(first), Some(own)) => first.min(own),
            (first, own) => first.or(own).unwrap_or(0),
        }
    }

    /// Where a function's name begins: the parser keeps the place of its parenthesis.
    fn start_of_name(&self, id: u64, name: &str) -> usize {
        let at = self.info.offset_for(id).map_or(0, |(start, _)| start as usize);
        let before = self.info.source.get(..at).unwrap_or_default().trim_end();
        before.strip_suffix(name).map_or(at, str::len)
    }

    fn fault_at(&mut self, offset: usize, message: impl Into<String>, hint: Option<String>) {
        self.faults.push(Fault { offset, message: message.into(), hint });
    }

    fn fault(&mut self, at: &IdedExpr, message: impl Into<String>, hint: Option<String>) {
        let offset = self.start(at);
        self.fault_at(offset, message, hint);
    }

    fn expr(&mut self, expr: IdedExpr, depth: usize) -> Node {
        let faults = self.faults.len();
        let node = self.lowered(expr, depth);
        if self.faults.len() == faults { self.fold(node) } else { node }
    }

    fn lowered(&mut self, expr: IdedExpr, depth: usize) -> Node {
        if depth > MAX_DEPTH {
            if !self.faults.iter().any(|fault| fault.message.starts_with("deeper")) {
                self.fault(
                    &expr,
                    format!("deeper than {MAX_DEPTH} levels"),
                    Some("split the rule into several".into()),
                );
            }
            return Node::new(IdedExpr { id: expr.id, expr: Expr::Literal(LiteralValue::Null) }, Ty::Dyn);
        }
        let id = expr.id;
        if let Some(name) = dotted(&expr.expr).filter(|name| self.is_type_name(name)) {
            return Node::new(IdedExpr { id, expr: Expr::Ident(name) }, Ty::Type);
        }
        match expr.expr {
            Expr::Literal(literal) => {
                let ty = literal_type(&literal);
                Node::new(IdedExpr { id, expr: Expr::Literal(literal) }, ty)
            }
            Expr::Ident(name) => self.ident(id, name),
            Expr::Select(select) => self.select(id, select, depth),
            Expr::Call(call) => self.call(id, call, depth),
            Expr::List(list) => {
                let nodes: Vec<Node> = list.elements.into_iter().map(|element| self.expr(element, depth + 1)).collect();
                let claim = nodes.iter().any(|node| node.claim);
                let list = ListExpr::new_with_optionals(nodes.into_iter().map(copied).collect(), list.optional_indices);
                Node { claim, ..Node::new(IdedExpr { id, expr: Expr::List(list) }, Ty::List) }
            }
            Expr::Map(map) => self.map(id, map, depth),
            Expr::Comprehension(comprehension) => self.comprehension(id, *comprehension, depth),
            Expr::Struct(message) => {
                let offset = self.info.offset_for(id).map_or(0, |(start, _)| start as usize);
                self.fault_at(
                    offset,
                    format!("`{}{{…}}` is a message, and there are none here", message.type_name),
                    None,
                );
                Node::new(IdedExpr { id, expr: Expr::Literal(LiteralValue::Null) }, Ty::Dyn)
            }
            Expr::Unspecified => {
                self.fault_at(0, "the expression is empty", None);
                Node::new(IdedExpr { id, expr: Expr::Literal(LiteralValue::Null) }, Ty::Dyn)
            }
        }
    }

    fn map(&mut self, id: u64, mut map: MapExpr, depth: usize) -> Node {
        let mut claim = false;
        for entry in &mut map.entries {
            if let EntryExpr::MapEntry(entry) = &mut entry.expr {
                let (key, value) = (std::mem::take(&mut entry.key), std::mem::take(&mut entry.value));
                let (key, value) = (self.expr(key, depth + 1), self.expr(value, depth + 1));
                if !matches!(key.ty, Ty::Dyn | Ty::Claim | Ty::String | Ty::Int | Ty::Uint | Ty::Bool) {
                    self.fault(&key.expr, format!("a {} can't be a map's key", key.ty.name()), None);
                }
                claim |= value.claim;
                entry.key = copied(key);
                entry.value = copied(value);
            }
        }
        Node { claim, ..Node::new(IdedExpr { id, expr: Expr::Map(map) }, Ty::Map) }
    }

    fn is_type_name(&self, name: &str) -> bool {
        TYPE_NAMES.contains(&name) && !self.is_bound(name) && !self.scope.extra().contains(&name)
    }

    fn is_bound(&self, name: &str) -> bool {
        self.bound.iter().any(|bound| bound.name == name)
    }

    fn ident(&mut self, id: u64, written: String) -> Node {
        let name = written.strip_prefix('.').unwrap_or(&written).to_owned();
        let ident = |name: &str| IdedExpr { id, expr: Expr::Ident(name.to_owned()) };
        if let Some(bound) = self.bound.iter().rev().find(|bound| bound.name == written) {
            return Node { claim: bound.claim, ..Node::new(ident(&name), bound.ty) };
        }
        if self.scope.extra().contains(&name.as_str()) {
            return Node::new(ident(&name), Ty::Claim);
        }
        let expr = ident(&name);
        match names::find(&name).filter(|_| !name.contains('.')) {
            Some((_, ty, sight)) if self.scope.sees(sight) => {
                Node { expr, ty, claim: names::is_open(&name), name: Some(name) }
            }
            Some(_) => {
                self.fault(&expr, format!("`{name}` can't be used here"), Some(self.scope.why_unseen().to_owned()));
                Node::new(expr, Ty::Dyn)
            }
            None => {
                let mut known: Vec<&str> = names::variables(*self.scope).collect();
                known.extend(self.scope.extra());
                let hint = match names::nearest(&name, known.iter().copied()) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!("there are {}", list(known.into_iter())),
                };
                self.fault(&expr, format!("unknown variable `{name}`"), Some(hint));
                Node::new(expr, Ty::Dyn)
            }
        }
    }

    /// Whether a record has that field; a fault if not.
    fn check_field(&mut self, at: &IdedExpr, record: &str, field: &str) -> bool {
        if names::has_field(record, field) {
            return true;
        }
        let hint = match names::nearest(field, names::fields(record)) {
            Some(near) => format!("did you mean `{record}.{near}`?"),
            None => format!("its fields are {}", list(names::fields(record))),
        };
        self.fault(at, format!("`{record}.{field}` is not a field of {record}"), Some(hint));
        false
    }

    /// The declared record that a node is, if it is one.
    fn record(node: &Node) -> Option<&'static str> {
        names::record(node.name.as_deref()?).filter(|name| !names::is_open(name))
    }

    /// `operand.field`, where the operand is already lowered.
    fn field(&mut self, id: u64, operand: Node, field: String) -> Node {
        let whole = operand.name.as_deref().map(|name| format!("{name}.{field}"));
        if let (Some(record), false) = (Self::record(&operand), operand.ty == Ty::Optional) {
            if !self.check_field(&operand.expr, record, &field) {
                return Node::new(operand.expr, Ty::Dyn);
            }
            let whole = whole.unwrap_or_default();
            let ty = names::find(&whole).map_or(Ty::Dyn, |(_, ty, _)| ty);
            return Node {
                expr: IdedExpr { id: operand.expr.id, expr: Expr::Ident(whole.clone()) },
                ty,
                claim: false,
                name: Some(whole),
            };
        }
        if !is_plain(&field) {
            return self.quoted_field(id, operand, field);
        }
        if let (true, Some(whole)) = (operand.claim && operand.ty != Ty::Optional, whole) {
            self.note_read(operand.name.as_deref(), &field, false);
            return Node {
                expr: IdedExpr { id: operand.expr.id, expr: Expr::Ident(whole.clone()) },
                ty: Ty::Claim,
                claim: true,
                name: Some(whole),
            };
        }
        if operand.ty == Ty::Headers {
            self.note_read(operand.name.as_deref(), &field, true);
            return Node::new(lookup(id, op::INDEX, operand.expr, field), Ty::String);
        }
        self.check_selectable(&operand);
        let ty = match operand.ty {
            Ty::Optional => Ty::Optional,
            Ty::Claim => Ty::Claim,
            _ => Ty::Dyn,
        };
        let claim = operand.claim;
        if operand.ty.may_be_optional() {
            return Node { claim, ..Node::new(lookup(id, "@at", operand.expr, field), ty) };
        }
        let select = SelectExpr { operand: Box::new(operand.expr), field, test: false };
        Node { claim, ..Node::new(IdedExpr { id, expr: Expr::Select(select) }, ty) }
    }

    fn note_read(&mut self, name: Option<&str>, field: &str, header: bool) {
        self.read.extend(name.map(|name| path(name, field, header)));
    }

    /// The expression asks whether `of` has that field.
    fn note_test(&mut self, of: &Node, field: &str) {
        if let Some(name) = of.name.as_deref() {
            self.tested.push(path(name, field, of.ty == Ty::Headers));
        }
    }

    /// A field in backticks becomes an index, since a whole name is split at its dots.
    fn quoted_field(&mut self, id: u64, operand: Node, field: String) -> Node {
        self.check_selectable(&operand);
        let ty = match operand.ty {
            Ty::Jwt => Ty::Claim,
            Ty::Headers => Ty::String,
            other @ (Ty::Claim | Ty::Optional) => other,
            _ => Ty::Dyn,
        };
        if operand.claim || operand.ty == Ty::Headers {
            self.note_read(operand.name.as_deref(), &field, operand.ty == Ty::Headers);
        }
        let (claim, name) = (operand.claim, if operand.ty.may_be_optional() { "@at" } else { op::INDEX });
        Node { claim, ..Node::new(lookup(id, name, operand.expr, field), ty) }
    }

    fn check_selectable(&mut self, operand: &Node) {
        if operand.ty.is_scalar() || operand.ty == Ty::List {
            self.fault(&operand.expr, format!("a {} has no fields", operand.ty.name()), None);
        }
    }

    fn select(&mut self, id: u64, select: SelectExpr, depth: usize) -> Node {
        let operand = self.expr(*select.operand, depth + 1);
        if !select.test {
            return self.field(id, operand, select.field);
        }
        if let Some(record) = Self::record(&operand) {
            self.check_field(&operand.expr, record, &select.field);
        } else {
            self.check_selectable(&operand);
        }
        self.note_test(&operand, &select.field);
        if operand.ty.may_be_optional() {
            return Node::new(lookup(id, "@has", operand.expr, select.field), Ty::Bool);
        }
        let select = SelectExpr { operand: Box::new(operand.expr), field: select.field, test: true };
        Node::new(IdedExpr { id, expr: Expr::Select(select) }, Ty::Bool)
    }
}
