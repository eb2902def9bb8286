//! The checker: checks every name, type and literal of a parsed expression, and rewrites it into the expression that the
//! engine evaluates.
//!
//! Rewrites: `request.path` becomes one name, the range of a comprehension is charged, `contains` on a claim is not a
//! substring test, regexes and constant subexpressions are built once, and `==` and `in` support the lists and maps of
//! [`json`](super::json).
//!
//! Rejects: unknown names, comparisons that can never be true, subexpressions that always fail, and expressions that take
//! too long.

mod arguments;
mod ast;
mod calls;
mod comprehension;
mod constants;
mod fields;
mod operators;
mod overloads;

use std::collections::BTreeMap;

use self::ast::{backticked_list, charge_copy, dotted_name, is_function_name, literal_type, with_article};
pub(crate) use self::ast::{children, depth, field_path, string_literal};
use super::engine::common::ast::{CallExpr, EntryExpr, Expr, IdedExpr, ListExpr, LiteralValue, MapExpr, SourceInfo};
use super::error::CompileError;
use super::eval::Constant;
use super::scope::Scope;
use super::types::{CelType, TYPE_NAMES};
use super::variables;
use crate::config::suggest::nearest;

/// The limit on the depth of an expression.
const MAX_DEPTH: usize = 256;

/// A checked expression, with its static type.
struct TypedExpr {
    expr: IdedExpr,
    ty: CelType,
    /// True if the value is an unmodified claim of the token, or contains one.
    from_claim: bool,
    /// The full name of the variable or field that the expression consists of.
    full_name: Option<String>,
}

impl TypedExpr {
    fn new(expr: IdedExpr, ty: CelType) -> Self {
        Self { expr, ty, from_claim: false, full_name: None }
    }

    /// Returns an expression in place of one that was rejected.
    fn rejected(id: u64) -> Self {
        Self::new(IdedExpr { id, expr: Expr::Literal(LiteralValue::Null) }, CelType::Dyn)
    }

    fn with_claim(self, from_claim: bool) -> Self {
        Self { from_claim, ..self }
    }
}

/// A variable of a comprehension.
struct LoopVariable {
    name: String,
    ty: CelType,
    from_claim: bool,
}

/// The result of the checker.
pub(crate) struct CheckedExpr {
    pub(crate) expr: IdedExpr,
    pub(crate) constants: Vec<Constant>,
    /// The paths of claims and headers that are read without a test of their presence.
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
        checker.errors.sort_by_key(|error| error.offset);
        checker.errors.dedup();
        return Err(checker.errors);
    }
    let Checker { constants, mut reads, presence_tests, .. } = checker;
    reads.retain(|path| !presence_tests.contains(path));
    reads.sort();
    reads.dedup();
    Ok(CheckedExpr { expr: node.expr, constants, unguarded_reads: reads })
}

struct Checker<'s> {
    scope: &'s Scope<'s>,
    info: &'s SourceInfo,
    errors: Vec<CompileError>,
    /// The variables of the enclosing comprehensions, innermost last.
    loop_variables: Vec<LoopVariable>,
    constants: Vec<Constant>,
    /// The number of enclosing comprehensions.
    nesting: usize,
    reads: Vec<String>,
    presence_tests: Vec<String>,
    /// The start offsets of expressions that were replaced by a constant, by their ids.
    folded_offsets: BTreeMap<u64, usize>,
}

impl Checker<'_> {
    /// Returns the offset of the first byte of an expression.
    fn start_offset(&self, expr: &IdedExpr) -> usize {
        if let Some(start) = self.folded_offsets.get(&expr.id) {
            return *start;
        }
        let recorded = self.info.offset_for(expr.id).map(|(start, _)| start as usize);
        let first = match &expr.expr {
            Expr::Select(select) => Some(&*select.operand),
            Expr::Call(CallExpr { target: Some(target), .. }) => Some(&**target),
            Expr::Comprehension(comprehension) => match &comprehension.iter_range.expr {
                // The value that `optMap` binds.
                Expr::List(list) if list.elements.is_empty() => Some(&comprehension.accu_init),
                _ => Some(&comprehension.iter_range),
            },
            Expr::Call(call) if !is_function_name(&call.func_name) => call.args.first(),
            Expr::Call(call) => return self.function_name_offset(expr.id, &call.func_name),
            _ => None,
        };
        match (first.map(|first| self.start_offset(first)), recorded) {
            (Some(first), Some(recorded)) => first.min(recorded),
            (first, recorded) => first.or(recorded).unwrap_or(0),
        }
    }

    /// Returns the offset of the name of a function. The parser records only that of its parenthesis.
    fn function_name_offset(&self, id: u64, name: &str) -> usize {
        let offset = self.info.offset_for(id).map_or(0, |(start, _)| start as usize);
        let prefix = self.info.source.get(..offset).unwrap_or_default().trim_end();
        prefix.strip_suffix(name).map_or(offset, str::len)
    }

    fn error_at_offset(&mut self, offset: usize, message: impl Into<String>, hint: Option<String>) {
        self.errors.push(CompileError { offset, message: message.into(), hint });
    }

    fn error_at(&mut self, expr: &IdedExpr, message: impl Into<String>, hint: Option<String>) {
        let offset = self.start_offset(expr);
        self.error_at_offset(offset, message, hint);
    }

    /// Checks an expression, and replaces it by its value if it is constant.
    fn check_expr(&mut self, expr: IdedExpr, depth: usize) -> TypedExpr {
        let error_count = self.errors.len();
        let node = self.check_unfolded(expr, depth);
        if self.errors.len() == error_count { self.fold(node) } else { node }
    }

    /// Checks an expression without replacing it by a constant.
    fn check_unfolded(&mut self, expr: IdedExpr, depth: usize) -> TypedExpr {
        if depth > MAX_DEPTH {
            if !self.errors.iter().any(|error| error.message.starts_with("deeper")) {
                self.error_at(
                    &expr,
                    format!("deeper than {MAX_DEPTH} levels"),
                    Some("split the rule into several".into()),
                );
            }
            return TypedExpr::rejected(expr.id);
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
                let from_claim = nodes.iter().any(|node| node.from_claim);
                let list =
                    ListExpr::new_with_optionals(nodes.into_iter().map(charge_copy).collect(), list.optional_indices);
                TypedExpr::new(IdedExpr { id, expr: Expr::List(list) }, CelType::List).with_claim(from_claim)
            }
            Expr::Map(map) => self.check_map(id, map, depth),
            Expr::Comprehension(comprehension) => self.check_comprehension(id, *comprehension, depth),
            Expr::Struct(message) => {
                let offset = self.info.offset_for(id).map_or(0, |(start, _)| start as usize);
                self.error_at_offset(
                    offset,
                    format!("`{}{{…}}` is a protobuf message, which is not supported", message.type_name),
                    None,
                );
                TypedExpr::rejected(id)
            }
            Expr::Unspecified => {
                self.error_at_offset(0, "the expression is empty", None);
                TypedExpr::rejected(id)
            }
        }
    }

    fn check_map(&mut self, id: u64, mut map: MapExpr, depth: usize) -> TypedExpr {
        let mut from_claim = false;
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
                from_claim |= value.from_claim;
                entry.key = charge_copy(key);
                entry.value = charge_copy(value);
            }
        }
        TypedExpr::new(IdedExpr { id, expr: Expr::Map(map) }, CelType::Map).with_claim(from_claim)
    }

    fn is_type_name(&self, name: &str) -> bool {
        TYPE_NAMES.contains(&name) && !self.is_loop_variable(name) && !self.scope.extra().contains(&name)
    }

    fn is_loop_variable(&self, name: &str) -> bool {
        self.loop_variables.iter().any(|variable| variable.name == name)
    }

    fn check_ident(&mut self, id: u64, raw: String) -> TypedExpr {
        let name = raw.strip_prefix('.').unwrap_or(&raw).to_owned();
        let ident = |name: &str| IdedExpr { id, expr: Expr::Ident(name.to_owned()) };
        if let Some(variable) = self.loop_variables.iter().rev().find(|variable| variable.name == raw) {
            return TypedExpr::new(ident(&name), variable.ty).with_claim(variable.from_claim);
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
                let hint = match nearest(&name, candidates.iter().copied()) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!("there are {}", backticked_list(candidates.into_iter())),
                };
                self.error_at(&expr, format!("unknown variable `{name}`"), Some(hint));
                TypedExpr::new(expr, CelType::Dyn)
            }
        }
    }
}
