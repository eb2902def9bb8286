//! From what was written to what runs: one walk that checks every name, type and literal, and puts in place what the
//! engine lacks or gets wrong.
//!
//! What it changes: `request.path` becomes one name; the range of a comprehension is paid for; `contains` on a claim is
//! no substring test; regexes and whatever reads nothing are made once; `==` and `in` know our lists and maps. What it
//! refuses: unknown names, what can never hold, what always fails, and what would take too long.

mod arguments;
mod ast;
mod calls;
mod comprehension;
mod constants;
mod operators;

use std::collections::BTreeMap;

use cel::common::ast::operators as op;
use cel::common::ast::{CallExpr, EntryExpr, Expr, IdedExpr, ListExpr, LiteralValue, MapExpr, SelectExpr, SourceInfo};
use cel::common::types::{CelDuration, CelList, CelTimestamp};
use cel::common::value::Val;
use cel_interpreter as cel;

use super::expression::{CompileError, Scope};
use super::functions::{CidrValue, IpValue, RegexValue};
use super::types::{CelType, TYPE_NAMES};
use super::variables;
use ast::{
    backticked_list, charge_copy, dotted_name, is_function_name, is_plain_name, literal_type, lookup_call, with_article,
};
pub(crate) use ast::{children, depth, field_path};

/// The deepest expression that is taken.
const MAX_DEPTH: usize = 256;

/// A value made once, when the expression is compiled.
#[derive(Debug)]
pub(crate) enum Constant {
    Pattern(RegexValue),
    Cidr(CidrValue),
    Ip(IpValue),
    Timestamp(CelTimestamp),
    Duration(CelDuration),
    List(CelList<'static>),
}

impl Constant {
    pub(crate) fn val(&self) -> &dyn Val {
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
struct TypedExpr {
    expr: IdedExpr,
    ty: CelType,
    /// The value is a claim as the token brought it, or holds one, and is no computation's result.
    from_claim: bool,
    /// The whole name of the variable or field that this is.
    full_name: Option<String>,
}

impl TypedExpr {
    fn new(expr: IdedExpr, ty: CelType) -> Self {
        Self { expr, ty, from_claim: false, full_name: None }
    }
}

/// A variable of a comprehension.
struct LoopVariable {
    name: String,
    ty: CelType,
    from_claim: bool,
}

/// The walk's result.
pub(crate) struct CheckedExpr {
    pub(crate) expr: IdedExpr,
    pub(crate) constants: Vec<Constant>,
    /// Claims and headers that are read where nothing asks whether they are there.
    pub(crate) unguarded_reads: Vec<String>,
}

/// Checks and rewrites a parsed expression.
pub(crate) fn check(expr: IdedExpr, info: &SourceInfo, scope: &Scope<'_>) -> Result<CheckedExpr, Vec<CompileError>> {
    let mut checker = Checker {
        scope,
        info,
        errors: Vec::new(),
        loop_variables: Vec::new(),
        constants: Vec::new(),
        nesting: 0,
        reads: Vec::new(),
        presence_tests: Vec::new(),
        folded_offsets: BTreeMap::new(),
    };
    let start = checker.start_offset(&expr);
    let node = checker.check_expr(expr, 0);
    if scope.is_condition() && !node.ty.may_be(CelType::Bool) {
        checker.error_at_offset(start, format!("this gives {}, not true or false", with_article(node.ty)), None);
    }
    if !checker.errors.is_empty() {
        checker.errors.sort_by_key(|fault| fault.offset);
        checker.errors.dedup();
        return Err(checker.errors);
    }
    let Checker { constants, reads: mut read, presence_tests: tested, .. } = checker;
    read.retain(|path| !tested.iter().any(|tested| tested == path));
    read.sort();
    read.dedup();
    Ok(CheckedExpr { expr: node.expr, constants, unguarded_reads: read })
}

struct Checker<'s> {
    scope: &'s Scope<'s>,
    info: &'s SourceInfo,
    errors: Vec<CompileError>,
    /// The variables of the comprehensions around, innermost last.
    loop_variables: Vec<LoopVariable>,
    constants: Vec<Constant>,
    nesting: usize,
    reads: Vec<String>,
    presence_tests: Vec<String>,
    /// Where what is a constant now began, by its id.
    folded_offsets: BTreeMap<u64, usize>,
}

impl Checker<'_> {
    /// Where an expression begins in the source.
    fn start_offset(&self, expr: &IdedExpr) -> usize {
        if let Some(start) = self.folded_offsets.get(&expr.id) {
            return *start;
        }
        let recorded = self.info.offset_for(expr.id).map(|(start, _)| start as usize);
        let first = match &expr.expr {
            Expr::Select(select) => Some(&*select.operand),
            Expr::Call(CallExpr { target: Some(target), .. }) => Some(&**target),
            Expr::Comprehension(comprehension) => match &comprehension.iter_range.expr {
                // What `optMap` binds.
                Expr::List(list) if list.elements.is_empty() => Some(&comprehension.accu_init),
                _ => Some(&comprehension.iter_range),
            },
            Expr::Call(call) if !is_function_name(&call.func_name) => call.args.first(),
            Expr::Call(call) => return self.function_name_offset(expr.id, &call.func_name),
            _ => None,
        };
        match (first.map(|first| self.start_offset(first)), recorded) {
            (Some(first), Some(own)) => first.min(own),
            (first, own) => first.or(own).unwrap_or(0),
        }
    }

    /// Where a function's name begins: the parser keeps the place of its parenthesis.
    fn function_name_offset(&self, id: u64, name: &str) -> usize {
        let at = self.info.offset_for(id).map_or(0, |(start, _)| start as usize);
        let prefix = self.info.source.get(..at).unwrap_or_default().trim_end();
        prefix.strip_suffix(name).map_or(at, str::len)
    }

    fn error_at_offset(&mut self, offset: usize, message: impl Into<String>, hint: Option<String>) {
        self.errors.push(CompileError { offset, message: message.into(), hint });
    }

    fn error_at(&mut self, at: &IdedExpr, message: impl Into<String>, hint: Option<String>) {
        let offset = self.start_offset(at);
        self.error_at_offset(offset, message, hint);
    }

    fn check_expr(&mut self, expr: IdedExpr, depth: usize) -> TypedExpr {
        let error_count = self.errors.len();
        let node = self.check_unfolded(expr, depth);
        if self.errors.len() == error_count { self.fold(node) } else { node }
    }

    fn check_unfolded(&mut self, expr: IdedExpr, depth: usize) -> TypedExpr {
        if depth > MAX_DEPTH {
            if !self.errors.iter().any(|fault| fault.message.starts_with("deeper")) {
                self.error_at(
                    &expr,
                    format!("deeper than {MAX_DEPTH} levels"),
                    Some("split the rule into several".into()),
                );
            }
            return TypedExpr::new(IdedExpr { id: expr.id, expr: Expr::Literal(LiteralValue::Null) }, CelType::Dyn);
        }
        let id = expr.id;
        if let Some(name) = dotted_name(&expr.expr).filter(|name| self.is_type_name(name)) {
            return TypedExpr::new(IdedExpr { id, expr: Expr::Ident(name) }, CelType::Type);
        }
        match expr.expr {
            Expr::Literal(literal) => {
                let ty = literal_type(&literal);
                TypedExpr::new(IdedExpr { id, expr: Expr::Literal(literal) }, ty)
            }
            Expr::Ident(name) => self.check_ident(id, name),
            Expr::Select(select) => self.check_select(id, select, depth),
            Expr::Call(call) => self.check_call(id, call, depth),
            Expr::List(list) => {
                let nodes: Vec<TypedExpr> =
                    list.elements.into_iter().map(|element| self.check_expr(element, depth + 1)).collect();
                let claim = nodes.iter().any(|node| node.from_claim);
                let list =
                    ListExpr::new_with_optionals(nodes.into_iter().map(charge_copy).collect(), list.optional_indices);
                TypedExpr {
                    from_claim: claim,
                    ..TypedExpr::new(IdedExpr { id, expr: Expr::List(list) }, CelType::List)
                }
            }
            Expr::Map(map) => self.check_map(id, map, depth),
            Expr::Comprehension(comprehension) => self.check_comprehension(id, *comprehension, depth),
            Expr::Struct(message) => {
                let offset = self.info.offset_for(id).map_or(0, |(start, _)| start as usize);
                self.error_at_offset(
                    offset,
                    format!("`{}{{…}}` is a message, and there are none here", message.type_name),
                    None,
                );
                TypedExpr::new(IdedExpr { id, expr: Expr::Literal(LiteralValue::Null) }, CelType::Dyn)
            }
            Expr::Unspecified => {
                self.error_at_offset(0, "the expression is empty", None);
                TypedExpr::new(IdedExpr { id, expr: Expr::Literal(LiteralValue::Null) }, CelType::Dyn)
            }
        }
    }

    fn check_map(&mut self, id: u64, mut map: MapExpr, depth: usize) -> TypedExpr {
        let mut claim = false;
        for entry in &mut map.entries {
            if let EntryExpr::MapEntry(entry) = &mut entry.expr {
                let (key, value) = (std::mem::take(&mut entry.key), std::mem::take(&mut entry.value));
                let (key, value) = (self.check_expr(key, depth + 1), self.check_expr(value, depth + 1));
                if !matches!(
                    key.ty,
                    CelType::Dyn | CelType::Claim | CelType::String | CelType::Int | CelType::Uint | CelType::Bool
                ) {
                    self.error_at(&key.expr, format!("a {} can't be a map's key", key.ty.name()), None);
                }
                claim |= value.from_claim;
                entry.key = charge_copy(key);
                entry.value = charge_copy(value);
            }
        }
        TypedExpr { from_claim: claim, ..TypedExpr::new(IdedExpr { id, expr: Expr::Map(map) }, CelType::Map) }
    }

    fn is_type_name(&self, name: &str) -> bool {
        TYPE_NAMES.contains(&name) && !self.is_loop_variable(name) && !self.scope.extra().contains(&name)
    }

    fn is_loop_variable(&self, name: &str) -> bool {
        self.loop_variables.iter().any(|bound| bound.name == name)
    }

    fn check_ident(&mut self, id: u64, raw: String) -> TypedExpr {
        let name = raw.strip_prefix('.').unwrap_or(&raw).to_owned();
        let ident = |name: &str| IdedExpr { id, expr: Expr::Ident(name.to_owned()) };
        if let Some(bound) = self.loop_variables.iter().rev().find(|bound| bound.name == raw) {
            return TypedExpr { from_claim: bound.from_claim, ..TypedExpr::new(ident(&name), bound.ty) };
        }
        if self.scope.extra().contains(&name.as_str()) {
            return TypedExpr::new(ident(&name), CelType::Claim);
        }
        let expr = ident(&name);
        match variables::find(&name).filter(|_| !name.contains('.')) {
            Some((_, ty, visibility)) if self.scope.can_see(visibility) => {
                TypedExpr { expr, ty, from_claim: variables::has_open_fields(&name), full_name: Some(name) }
            }
            Some(_) => {
                self.error_at(
                    &expr,
                    format!("`{name}` can't be used here"),
                    Some(self.scope.hidden_reason().to_owned()),
                );
                TypedExpr::new(expr, CelType::Dyn)
            }
            None => {
                let mut candidates: Vec<&str> = variables::variables(*self.scope).collect();
                candidates.extend(self.scope.extra());
                let hint = match variables::nearest(&name, candidates.iter().copied()) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!("there are {}", backticked_list(candidates.into_iter())),
                };
                self.error_at(&expr, format!("unknown variable `{name}`"), Some(hint));
                TypedExpr::new(expr, CelType::Dyn)
            }
        }
    }

    /// Whether a record has that field; a fault if not.
    fn check_record_field(&mut self, at: &IdedExpr, record: &str, field: &str) -> bool {
        if variables::has_field(record, field) {
            return true;
        }
        let hint = match variables::nearest(field, variables::fields(record)) {
            Some(near) => format!("did you mean `{record}.{near}`?"),
            None => format!("its fields are {}", backticked_list(variables::fields(record))),
        };
        self.error_at(at, format!("`{record}.{field}` is not a field of {record}"), Some(hint));
        false
    }

    /// The declared record that a node is, if it is one.
    fn declared_record(node: &TypedExpr) -> Option<&'static str> {
        variables::find_record(node.full_name.as_deref()?).filter(|name| !variables::has_open_fields(name))
    }

    /// `operand.field`, where the operand is already lowered.
    fn select_field(&mut self, id: u64, operand: TypedExpr, field: String) -> TypedExpr {
        let full_name = operand.full_name.as_deref().map(|name| format!("{name}.{field}"));
        if let (Some(record), false) = (Self::declared_record(&operand), operand.ty == CelType::Optional) {
            if !self.check_record_field(&operand.expr, record, &field) {
                return TypedExpr::new(operand.expr, CelType::Dyn);
            }
            let full_name = full_name.unwrap_or_default();
            let ty = variables::find(&full_name).map_or(CelType::Dyn, |(_, ty, _)| ty);
            return TypedExpr {
                expr: IdedExpr { id: operand.expr.id, expr: Expr::Ident(full_name.clone()) },
                ty,
                from_claim: false,
                full_name: Some(full_name),
            };
        }
        if !is_plain_name(&field) {
            return self.index_field(id, operand, field);
        }
        if let (true, Some(full_name)) = (operand.from_claim && operand.ty != CelType::Optional, full_name) {
            self.add_read(operand.full_name.as_deref(), &field, false);
            return TypedExpr {
                expr: IdedExpr { id: operand.expr.id, expr: Expr::Ident(full_name.clone()) },
                ty: CelType::Claim,
                from_claim: true,
                full_name: Some(full_name),
            };
        }
        if operand.ty == CelType::Headers {
            self.add_read(operand.full_name.as_deref(), &field, true);
            return TypedExpr::new(lookup_call(id, op::INDEX, operand.expr, field), CelType::String);
        }
        self.check_selectable(&operand);
        let ty = match operand.ty {
            CelType::Optional => CelType::Optional,
            CelType::Claim => CelType::Claim,
            _ => CelType::Dyn,
        };
        let claim = operand.from_claim;
        if operand.ty.may_be_optional() {
            return TypedExpr { from_claim: claim, ..TypedExpr::new(lookup_call(id, "@at", operand.expr, field), ty) };
        }
        let select = SelectExpr { operand: Box::new(operand.expr), field, test: false };
        TypedExpr { from_claim: claim, ..TypedExpr::new(IdedExpr { id, expr: Expr::Select(select) }, ty) }
    }

    fn add_read(&mut self, name: Option<&str>, field: &str, header: bool) {
        self.reads.extend(name.map(|name| field_path(name, field, header)));
    }

    /// The expression asks whether `of` has that field.
    fn add_presence_test(&mut self, operand: &TypedExpr, field: &str) {
        if let Some(name) = operand.full_name.as_deref() {
            self.presence_tests.push(field_path(name, field, operand.ty == CelType::Headers));
        }
    }

    /// A field in backticks becomes an index, since a whole name is split at its dots.
    fn index_field(&mut self, id: u64, operand: TypedExpr, field: String) -> TypedExpr {
        self.check_selectable(&operand);
        let ty = match operand.ty {
            CelType::Jwt => CelType::Claim,
            CelType::Headers => CelType::String,
            other @ (CelType::Claim | CelType::Optional) => other,
            _ => CelType::Dyn,
        };
        if operand.from_claim || operand.ty == CelType::Headers {
            self.add_read(operand.full_name.as_deref(), &field, operand.ty == CelType::Headers);
        }
        let (claim, name) = (operand.from_claim, if operand.ty.may_be_optional() { "@at" } else { op::INDEX });
        TypedExpr { from_claim: claim, ..TypedExpr::new(lookup_call(id, name, operand.expr, field), ty) }
    }

    fn check_selectable(&mut self, operand: &TypedExpr) {
        if operand.ty.is_scalar() || operand.ty == CelType::List {
            self.error_at(&operand.expr, format!("a {} has no fields", operand.ty.name()), None);
        }
    }

    fn check_select(&mut self, id: u64, select: SelectExpr, depth: usize) -> TypedExpr {
        let operand = self.check_expr(*select.operand, depth + 1);
        if !select.test {
            return self.select_field(id, operand, select.field);
        }
        if let Some(record) = Self::declared_record(&operand) {
            self.check_record_field(&operand.expr, record, &select.field);
        } else {
            self.check_selectable(&operand);
        }
        self.add_presence_test(&operand, &select.field);
        if operand.ty.may_be_optional() {
            return TypedExpr::new(lookup_call(id, "@has", operand.expr, select.field), CelType::Bool);
        }
        let select = SelectExpr { operand: Box::new(operand.expr), field: select.field, test: true };
        TypedExpr::new(IdedExpr { id, expr: Expr::Select(select) }, CelType::Bool)
    }
}
