//! Constant folding: evaluates subexpressions that read no variables once, when the config is loaded.
//!
//! If the evaluation fails, the subexpression is rejected with its position. At run time it would be a rule that never
//! matches or always rejects. This includes branches that short-circuiting would never reach; they are always mistakes.

use super::ast::{call_expr, children, string_literal};
use super::{Checker, Constant, TypedExpr};
use crate::authz::cel::engine::common::ast::{CallExpr, Expr, IdedExpr, LiteralValue};
use crate::authz::cel::engine::common::types::{
    CelBool, CelBytes, CelDouble, CelDuration, CelInt, CelString, CelTimestamp, CelUInt, Kind,
};
use crate::authz::cel::engine::common::value::Val;
use crate::authz::cel::error::EvalError;
use crate::authz::cel::eval::{Resolver, constant_index, eval};
use crate::authz::cel::functions::{CidrValue, IpValue};

/// The result of folding a subexpression.
enum Folded {
    Literal(LiteralValue),
    Constant(Constant),
    /// The value has no constant representation, so the subexpression remains unchanged.
    NotFoldable,
}

impl Checker<'_> {
    /// Replaces an expression that reads no variables by its value.
    pub(crate) fn fold(&mut self, node: TypedExpr) -> TypedExpr {
        if !matches!(node.expr.expr, Expr::Call(_) | Expr::Select(_) | Expr::Map(_) | Expr::Comprehension(_))
            || !self.is_constant(&node.expr, &mut Vec::new())
        {
            return node;
        }
        let (id, start) = (node.expr.id, self.start_offset(&node.expr));
        self.folded_offsets.insert(id, start);
        let expr = match eval(&node.expr, &Resolver { activation: None, constants: &self.constants }, |val| {
            Ok(fold_value(val.as_ref()))
        }) {
            Ok(Folded::Literal(literal)) => IdedExpr { id, expr: Expr::Literal(literal) },
            Ok(Folded::Constant(constant)) => self.add_constant(id, constant),
            Ok(Folded::NotFoldable) => return node,
            Err(error) => {
                let (message, hint) = constant_error(&node.expr, &error);
                self.error_at_offset(start, message, hint);
                return node;
            }
        };
        TypedExpr::new(expr, node.ty)
    }

    /// Reports whether an expression has the same value for every request. `bound` contains the names that enclosing
    /// comprehensions of the same expression bind.
    fn is_constant<'e>(&self, expr: &'e IdedExpr, bound: &mut Vec<&'e str>) -> bool {
        match &expr.expr {
            Expr::Ident(name) => {
                bound.contains(&name.as_str()) || constant_index(name).is_some() || self.is_type_name(name)
            }
            Expr::Comprehension(comprehension) => {
                if !self.is_constant(&comprehension.iter_range, bound)
                    || !self.is_constant(&comprehension.accu_init, bound)
                {
                    return false;
                }
                let outer_len = bound.len();
                bound.extend([comprehension.iter_var.as_str(), comprehension.accu_var.as_str()]);
                let body = [&comprehension.loop_cond, &comprehension.loop_step, &comprehension.result];
                let constant = body.into_iter().all(|part| self.is_constant(part, bound));
                bound.truncate(outer_len);
                constant
            }
            Expr::Struct(_) | Expr::Unspecified => false,
            _ => children(expr).into_iter().all(|part| self.is_constant(part, bound)),
        }
    }
}

/// Reports whether the engine supports a time zone of that name.
pub(crate) fn is_time_zone(name: &str) -> bool {
    let literal = |literal| IdedExpr { id: 0, expr: Expr::Literal(literal) };
    let epoch = call_expr(0, "timestamp", vec![literal(LiteralValue::Int(0.into()))]);
    let args = vec![literal(LiteralValue::String(name.to_owned().into()))];
    let hours = CallExpr { func_name: "getHours".to_owned(), target: Some(Box::new(epoch)), args };
    let resolver = Resolver { activation: None, constants: &[] };
    eval(&IdedExpr { id: 0, expr: Expr::Call(hours) }, &resolver, |_| Ok(())).is_ok()
}

fn fold_value(val: &dyn Val) -> Folded {
    let literal = match val.get_type().kind() {
        Kind::NullType => Some(LiteralValue::Null),
        Kind::Boolean => val.downcast_ref::<CelBool>().cloned().map(LiteralValue::Boolean),
        Kind::Int => val.downcast_ref::<CelInt>().cloned().map(LiteralValue::Int),
        Kind::UInt => val.downcast_ref::<CelUInt>().cloned().map(LiteralValue::UInt),
        Kind::Double => val.downcast_ref::<CelDouble>().cloned().map(LiteralValue::Double),
        Kind::String => val.downcast_ref::<CelString>().map(|text| LiteralValue::String(text.clone().into_static())),
        Kind::Bytes => val.downcast_ref::<CelBytes>().map(|bytes| LiteralValue::Bytes(bytes.clone().into_static())),
        _ => None,
    };
    if let Some(literal) = literal {
        return Folded::Literal(literal);
    }
    let constant = val.downcast_ref::<CidrValue>().copied().map(Constant::Cidr);
    let constant = constant.or_else(|| val.downcast_ref::<IpValue>().copied().map(Constant::Ip));
    let constant = constant.or_else(|| val.downcast_ref::<CelTimestamp>().cloned().map(Constant::Timestamp));
    let constant = constant.or_else(|| val.downcast_ref::<CelDuration>().cloned().map(Constant::Duration));
    constant.map_or(Folded::NotFoldable, Folded::Constant)
}

/// Describes the error of a call that always fails, with a hint about its expected argument.
fn constant_error(expr: &IdedExpr, error: &EvalError) -> (String, Option<String>) {
    let always = (format!("this always fails: {error}"), None);
    let Some((name, text)) = string_argument(expr) else { return always };
    let expectation = match name {
        "timestamp" => "not a timestamp; write it as in RFC 3339, such as \"2027-01-01T00:00:00Z\"",
        "duration" => {
            "not a duration; write it as \"24h\" or \"1h30m\": the units are h, m, s, ms, us and ns, and CEL has none for days"
        }
        "int" => "not an int; write a whole number, such as \"42\"",
        "uint" => "not a uint; write a whole number that is not negative, such as \"42\"",
        "double" => "not a double; write a number, such as \"1.5\"",
        "bool" => "not a bool; write \"true\" or \"false\"",
        _ => {
            return match error.to_string().split_once(": ") {
                Some((function, reason)) if function == name => (format!("{text:?}: {reason}"), None),
                _ => always,
            };
        }
    };
    let (problem, hint) = expectation.split_once("; ").unwrap_or((expectation, ""));
    (format!("{text:?}: {problem}"), Some(hint.to_owned()))
}

/// Returns the function of a call and its last string argument.
fn string_argument(expr: &IdedExpr) -> Option<(&str, &str)> {
    let Expr::Call(call) = &expr.expr else { return None };
    match call.args.iter().rev().find_map(string_literal) {
        Some(text) => Some((&call.func_name, text)),
        // A charge wraps the call.
        None => call.args.first().filter(|_| call.func_name.starts_with('@')).and_then(string_argument),
    }
}
