//! Comprehensions: what they run over is paid for, their names hide nothing, and few stand inside of one another.

use cel::common::ast::{ComprehensionExpr, Expr, IdedExpr, LiteralValue};
use cel_interpreter as cel;

use super::super::names;
use super::super::types::Ty;
use super::tree::{call, copied, nodes};
use super::{Bound, Node, Walk};

/// Comprehensions inside of comprehensions.
const MAX_NESTED: usize = 2;

impl Walk<'_> {
    pub(super) fn comprehension(&mut self, id: u64, written: ComprehensionExpr, depth: usize) -> Node {
        // `optMap` binds a name with a comprehension over nothing.
        let binding = matches!(&written.iter_range.expr, Expr::List(list) if list.elements.is_empty());
        let range = self.expr(written.iter_range, depth + 1);
        let element = match range.ty {
            Ty::Claim => Ty::Claim,
            Ty::Headers => Ty::String,
            _ => Ty::Dyn,
        };
        if !(range.ty.may_be(Ty::List) || range.ty.may_be(Ty::Map)) {
            self.fault(&range.expr, format!("a {} has no elements to run over", range.ty.name()), None);
        }
        let init = self.expr(written.accu_init, depth + 1);
        for name in [&written.iter_var, &written.accu_var] {
            if names::find(name).is_some() || self.scope.extra().contains(&name.as_str()) {
                self.fault(
                    &range.expr,
                    format!("`{name}` is a variable already"),
                    Some("choose another name for the element".to_owned()),
                );
            }
        }
        // What `optMap` binds is still the claim that it was.
        self.bound.push(Bound { name: written.accu_var.clone(), ty: init.ty, claim: binding && init.claim });
        self.bound.push(Bound { name: written.iter_var.clone(), ty: element, claim: false });
        self.nested += usize::from(!binding);
        if self.nested > MAX_NESTED && !binding {
            self.fault(
                &range.expr,
                format!("more than {MAX_NESTED} comprehensions inside of one another"),
                Some("their cost multiplies; split the rule".to_owned()),
            );
        }
        let cond = self.expr(written.loop_cond, depth + 1);
        let step = self.expr(written.loop_step, depth + 1);
        self.nested -= usize::from(!binding);
        self.bound.pop();
        let result = self.expr(written.result, depth + 1);
        self.bound.pop();
        let (range_id, result_ty) = (range.expr.id, result.ty);
        // A long body costs more for each element than a short one.
        let weight = LiteralValue::Int((1 + nodes(&step.expr) as i64 / 12).into());
        let weight = IdedExpr { id: range_id, expr: Expr::Literal(weight) };
        let lowered = ComprehensionExpr {
            iter_range: if binding { range.expr } else { call(range_id, "@each", vec![range.expr, weight]) },
            iter_var: written.iter_var,
            iter_var2: written.iter_var2,
            accu_var: written.accu_var,
            accu_init: if binding { copied(init) } else { init.expr },
            loop_cond: cond.expr,
            loop_step: step.expr,
            result: if binding { copied(result) } else { result.expr },
        };
        Node::new(IdedExpr { id, expr: Expr::Comprehension(Box::new(lowered)) }, result_ty)
    }
}
