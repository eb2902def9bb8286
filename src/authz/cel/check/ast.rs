//! Helpers for syntax trees: builders, predicates, and the names of types and paths in messages.

use super::TypedExpr;
use crate::authz::cel::engine::common::ast::operators as op;
use crate::authz::cel::engine::common::ast::{CallExpr, EntryExpr, Expr, IdedExpr, LiteralValue};
use crate::authz::cel::functions::table::internal;
use crate::authz::cel::types::CelType;

/// Returns the direct subexpressions of an expression.
pub(crate) fn children(expr: &IdedExpr) -> Vec<&IdedExpr> {
    match &expr.expr {
        Expr::Call(call) => call.target.iter().map(|target| &**target).chain(&call.args).collect(),
        Expr::Select(select) => vec![&select.operand],
        Expr::List(list) => list.elements.iter().collect(),
        Expr::Map(map) => {
            let parts = map.entries.iter().map(|entry| match &entry.expr {
                EntryExpr::MapEntry(entry) => vec![&entry.key, &entry.value],
                EntryExpr::StructField(field) => vec![&field.value],
            });
            parts.flatten().collect()
        }
        Expr::Comprehension(c) => vec![&c.iter_range, &c.accu_init, &c.loop_cond, &c.loop_step, &c.result],
        Expr::Ident(_) | Expr::Literal(_) | Expr::Struct(_) | Expr::Unspecified => Vec::new(),
    }
}

/// Returns the depth of an expression, which is the recursion depth of the engine.
pub(crate) fn depth(expr: &IdedExpr) -> usize {
    1 + children(expr).into_iter().map(depth).max().unwrap_or(0)
}

/// Returns the number of nodes of an expression, where a long text counts as several.
pub(crate) fn weight(expr: &IdedExpr) -> usize {
    let text = match &expr.expr {
        Expr::Literal(LiteralValue::String(text)) => text.inner().len(),
        Expr::Literal(LiteralValue::Bytes(bytes)) => bytes.inner().len(),
        _ => 0,
    };
    1 + text / 32 + children(expr).into_iter().map(weight).sum::<usize>()
}

/// Reports whether a field can be written without quotes.
pub(crate) fn is_plain_name(field: &str) -> bool {
    field.chars().all(|c| c.is_alphanumeric() || c == '_')
}

/// Returns the path of a claim or a header in its canonical form, for messages and comparisons.
pub(crate) fn field_path(name: &str, field: &str, header: bool) -> String {
    match is_plain_name(field) && !header {
        true => format!("{name}.{field}"),
        false => format!("{name}[{field:?}]"),
    }
}

/// Reports whether the name of a function is a word, and not an operator.
pub(crate) fn is_function_name(name: &str) -> bool {
    name.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '.')) && !name.starts_with('_')
}

pub(crate) fn call_expr(id: u64, name: &str, args: Vec<IdedExpr>) -> IdedExpr {
    IdedExpr { id, expr: Expr::Call(CallExpr { func_name: name.to_owned(), target: None, args }) }
}

/// Wraps an expression whose value the engine copies, so that the copy is charged. A literal is not charged: the length of
/// the source bounds it.
pub(crate) fn charge_copy(node: TypedExpr) -> IdedExpr {
    let mut expr = node.expr;
    if !matches!(expr.expr, Expr::Literal(_)) && !node.ty.is_small() {
        wrap_in_call(&mut expr, internal::CHARGE_COPY);
    }
    expr
}

/// Wraps an expression in a call.
pub(crate) fn wrap_in_call(expr: &mut IdedExpr, name: &str) {
    let inner = std::mem::take(expr);
    *expr = call_expr(inner.id, name, vec![inner]);
}

/// Builds a call that looks up a field.
pub(crate) fn lookup_call(id: u64, name: &str, operand: IdedExpr, field: String) -> IdedExpr {
    call_expr(id, name, vec![operand, IdedExpr { id, expr: Expr::Literal(LiteralValue::String(field.into())) }])
}

pub(crate) fn rebuild_call(id: u64, name: &str, nodes: Vec<TypedExpr>) -> IdedExpr {
    call_expr(id, name, nodes.into_iter().map(|node| node.expr).collect())
}

pub(crate) fn rebuild_method_call(id: u64, name: &str, nodes: Vec<TypedExpr>) -> IdedExpr {
    let mut exprs = nodes.into_iter().map(|node| node.expr);
    let target = exprs.next().map(Box::new);
    IdedExpr { id, expr: Expr::Call(CallExpr { func_name: name.to_owned(), target, args: exprs.collect() }) }
}

/// Returns the text of a string literal.
pub(crate) fn string_literal(expr: &IdedExpr) -> Option<&str> {
    match &expr.expr {
        Expr::Literal(LiteralValue::String(text)) => Some(text.inner()),
        _ => None,
    }
}

/// Reports whether an expression is a list of literals.
pub(crate) fn is_literal_list(expr: &IdedExpr) -> bool {
    matches!(&expr.expr, Expr::List(list) if list.elements.iter().all(|e| matches!(e.expr, Expr::Literal(_))))
}

/// Returns a chain of names as one name: `google.protobuf.Timestamp`.
pub(crate) fn dotted_name(expr: &Expr) -> Option<String> {
    match expr {
        Expr::Ident(name) => Some(name.strip_prefix('.').unwrap_or(name).to_owned()),
        Expr::Select(select) if !select.test => {
            Some(format!("{}.{}", dotted_name(&select.operand.expr)?, select.field))
        }
        _ => None,
    }
}

/// Rewrites `a.b["c"]` to `a.?b[?"c"]`.
pub(crate) fn optional_chain(expr: IdedExpr) -> IdedExpr {
    let id = expr.id;
    match expr.expr {
        Expr::Select(select) if !select.test => {
            let field = IdedExpr { id, expr: Expr::Literal(LiteralValue::String(select.field.into())) };
            call_expr(id, op::OPT_SELECT, vec![optional_chain(*select.operand), field])
        }
        Expr::Call(index) if index.func_name == op::INDEX => {
            let mut args = index.args.into_iter();
            let operand = args.next().map(optional_chain).unwrap_or_default();
            call_expr(id, op::OPT_INDEX, std::iter::once(operand).chain(args).collect())
        }
        other => IdedExpr { id, expr: other },
    }
}

pub(crate) fn literal_type(literal: &LiteralValue) -> CelType {
    match literal {
        LiteralValue::Boolean(_) => CelType::Bool,
        LiteralValue::Bytes(_) => CelType::Bytes,
        LiteralValue::Double(_) => CelType::Double,
        LiteralValue::Int(_) => CelType::Int,
        LiteralValue::Null => CelType::Null,
        LiteralValue::String(_) => CelType::String,
        LiteralValue::UInt(_) => CelType::Uint,
    }
}

pub(crate) fn with_article(ty: CelType) -> String {
    match ty {
        CelType::Null | CelType::Dyn | CelType::Claim | CelType::Bytes => ty.name().to_owned(),
        CelType::Int | CelType::Optional | CelType::Ip => format!("an {}", ty.name()),
        _ => format!("a {}", ty.name()),
    }
}

pub(crate) fn conversion_hint(a: CelType, b: CelType) -> Option<String> {
    match (a, b) {
        (CelType::Timestamp, CelType::Claim | CelType::Int) | (CelType::Claim | CelType::Int, CelType::Timestamp) => {
            Some("convert the number: timestamp(jwt.exp)".to_owned())
        }
        (CelType::String, number) | (number, CelType::String) if number.is_number() => {
            Some(format!("convert one side: {}(x) or string(x)", number.name()))
        }
        _ => None,
    }
}

/// Joins names for a message.
pub(crate) fn backticked_list<'n>(names: impl Iterator<Item = &'n str>) -> String {
    names.map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}
