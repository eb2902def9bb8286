//! Expands the macros of CEL. The `has` of the engine does not accept `a["b"]`, which header names need since they are not
//! identifiers.
//!
//! The expansions have the shapes that the engine recognizes: it builds the list of a `map` or `filter` in place, and defers
//! an error of `all` and `exists` while another element may still decide.

use crate::authz::cel::engine::common::ast::operators as op;
use crate::authz::cel::engine::common::ast::{
    CallExpr, ComprehensionExpr, Expr, IdedExpr, ListExpr, LiteralValue, SelectExpr,
};

/// The name of the accumulator. No source can contain it.
pub(crate) const ACCUMULATOR: &str = "@result";

/// Expands a call of a macro, and returns any other call unchanged as the error.
pub(crate) fn expand(id: u64, call: CallExpr) -> Result<Expr, CallExpr> {
    let builder = MacroBuilder { id };
    match (call.func_name.as_str(), &call.target, call.args.as_slice()) {
        ("has", None, [IdedExpr { expr: Expr::Select(select), .. }]) if !select.test => {
            Ok(Expr::Select(SelectExpr { test: true, ..select.clone() }))
        }
        ("has", None, [IdedExpr { expr: Expr::Call(index), .. }]) if index.func_name == op::INDEX => {
            match index.args.as_slice() {
                [operand, IdedExpr { expr: Expr::Literal(LiteralValue::String(field)), .. }] => {
                    let (operand, field) = (Box::new(operand.clone()), field.inner().to_owned());
                    Ok(Expr::Select(SelectExpr { operand, field, test: true }))
                }
                _ => Err(call),
            }
        }
        ("all" | "exists" | "exists_one" | "filter", Some(range), [IdedExpr { expr: Expr::Ident(var), .. }, body]) => {
            let (range, var, body) = ((**range).clone(), var.clone(), body.clone());
            Ok(match call.func_name.as_str() {
                "all" => builder.all(range, var, body),
                "exists" => builder.exists(range, var, body),
                "exists_one" => builder.exists_one(range, var, body),
                _ => {
                    let element = builder.ident(&var);
                    builder.map_or_filter(range, var, Some(body), element)
                }
            })
        }
        ("map", Some(range), [IdedExpr { expr: Expr::Ident(var), .. }, body]) => {
            Ok(builder.map_or_filter((**range).clone(), var.clone(), None, body.clone()))
        }
        ("map", Some(range), [IdedExpr { expr: Expr::Ident(var), .. }, condition, body]) => {
            Ok(builder.map_or_filter((**range).clone(), var.clone(), Some(condition.clone()), body.clone()))
        }
        _ => Err(call),
    }
}

/// Builds nodes with the id of the macro call, and so with its position.
struct MacroBuilder {
    id: u64,
}

impl MacroBuilder {
    fn node(&self, expr: Expr) -> IdedExpr {
        IdedExpr { id: self.id, expr }
    }

    fn ident(&self, name: &str) -> IdedExpr {
        self.node(Expr::Ident(name.to_owned()))
    }

    fn accumulator(&self) -> IdedExpr {
        self.ident(ACCUMULATOR)
    }

    fn bool(&self, value: bool) -> IdedExpr {
        self.node(Expr::Literal(LiteralValue::Boolean(value.into())))
    }

    fn int(&self, value: i64) -> IdedExpr {
        self.node(Expr::Literal(LiteralValue::Int(value.into())))
    }

    fn call(&self, name: &str, args: Vec<IdedExpr>) -> IdedExpr {
        self.node(Expr::Call(CallExpr { func_name: name.to_owned(), target: None, args }))
    }

    fn comprehension(&self, range: IdedExpr, var: String, [init, cond, step, result]: [IdedExpr; 4]) -> Expr {
        Expr::Comprehension(Box::new(ComprehensionExpr {
            iter_range: range,
            iter_var: var,
            iter_var2: None,
            accu_var: ACCUMULATOR.to_owned(),
            accu_init: init,
            loop_cond: cond,
            loop_step: step,
            result,
        }))
    }

    fn all(&self, range: IdedExpr, var: String, body: IdedExpr) -> Expr {
        let cond = self.call(op::NOT_STRICTLY_FALSE, vec![self.accumulator()]);
        let step = self.call(op::LOGICAL_AND, vec![self.accumulator(), body]);
        self.comprehension(range, var, [self.bool(true), cond, step, self.accumulator()])
    }

    fn exists(&self, range: IdedExpr, var: String, body: IdedExpr) -> Expr {
        let undecided = self.call(op::LOGICAL_NOT, vec![self.accumulator()]);
        let cond = self.call(op::NOT_STRICTLY_FALSE, vec![undecided]);
        let step = self.call(op::LOGICAL_OR, vec![self.accumulator(), body]);
        self.comprehension(range, var, [self.bool(false), cond, step, self.accumulator()])
    }

    fn exists_one(&self, range: IdedExpr, var: String, body: IdedExpr) -> Expr {
        let incremented = self.call(op::ADD, vec![self.accumulator(), self.int(1)]);
        let step = self.call(op::CONDITIONAL, vec![body, incremented, self.accumulator()]);
        let result = self.call(op::EQUALS, vec![self.accumulator(), self.int(1)]);
        self.comprehension(range, var, [self.int(0), self.bool(true), step, result])
    }

    fn map_or_filter(&self, range: IdedExpr, var: String, condition: Option<IdedExpr>, element: IdedExpr) -> Expr {
        let init = self.node(Expr::List(ListExpr::new(Vec::new())));
        let singleton = self.node(Expr::List(ListExpr::new(vec![element])));
        let appended = self.call(op::ADD, vec![self.accumulator(), singleton]);
        let step = match condition {
            Some(condition) => self.call(op::CONDITIONAL, vec![condition, appended, self.accumulator()]),
            None => appended,
        };
        self.comprehension(range, var, [init, self.bool(true), step, self.accumulator()])
    }
}
