//! Comprehensions: charges for their ranges, and rejects variables that shadow others and deep nesting.

use super::ast::{call_expr, charge_copy, weight};
use super::{Checker, LoopVariable, TypedExpr};
use crate::authz::cel::engine::common::ast::{ComprehensionExpr, Expr, IdedExpr, LiteralValue};
use crate::authz::cel::functions::table::internal;
use crate::authz::cel::types::CelType;
use crate::authz::cel::variables;

/// The limit on the nesting of comprehensions.
const MAX_NESTING: usize = 2;

impl Checker<'_> {
    pub(crate) fn check_comprehension(&mut self, id: u64, parsed: ComprehensionExpr, depth: usize) -> TypedExpr {
        // `optMap` binds a name with a comprehension over nothing.
        let binding = matches!(&parsed.iter_range.expr, Expr::List(list) if list.elements.is_empty());
        let range = self.check_expr(parsed.iter_range, depth + 1);
        let element = match range.ty {
            CelType::Claim => CelType::Claim,
            CelType::Headers => CelType::String,
            _ => CelType::Dyn,
        };
        if !(range.ty.may_be(CelType::List) || range.ty.may_be(CelType::Map)) {
            self.error_at(&range.expr, format!("a {} cannot be iterated over", range.ty.name()), None);
        }
        let init = self.check_expr(parsed.accu_init, depth + 1);
        for name in [&parsed.iter_var, &parsed.accu_var] {
            if variables::find(name).is_some() || self.scope.extra().contains(&name.as_str()) {
                self.error_at(
                    &range.expr,
                    format!("`{name}` is already a variable"),
                    Some("choose another name for the element".to_owned()),
                );
            }
        }
        // The value that `optMap` binds remains an unmodified claim.
        self.loop_variables.push(LoopVariable {
            name: parsed.accu_var.clone(),
            ty: init.ty,
            from_claim: binding && init.from_claim,
        });
        self.loop_variables.push(LoopVariable { name: parsed.iter_var.clone(), ty: element, from_claim: false });
        self.nesting += usize::from(!binding);
        if self.nesting > MAX_NESTING && !binding {
            self.error_at(
                &range.expr,
                format!("more than {MAX_NESTING} nested comprehensions"),
                Some("their costs multiply; split the rule".to_owned()),
            );
        }
        let cond = self.check_expr(parsed.loop_cond, depth + 1);
        let step = self.check_expr(parsed.loop_step, depth + 1);
        self.nesting -= usize::from(!binding);
        self.loop_variables.pop();
        let result = self.check_expr(parsed.result, depth + 1);
        self.loop_variables.pop();
        let (range_id, result_ty) = (range.expr.id, result.ty);
        // A long body costs more for each element than a short one.
        let weight = LiteralValue::Int((1 + weight(&step.expr) as i64 / 12).into());
        let weight = IdedExpr { id: range_id, expr: Expr::Literal(weight) };
        let checked = ComprehensionExpr {
            iter_range: if binding {
                range.expr
            } else {
                call_expr(range_id, internal::CHARGE_RANGE, vec![range.expr, weight])
            },
            iter_var: parsed.iter_var,
            iter_var2: parsed.iter_var2,
            accu_var: parsed.accu_var,
            accu_init: if binding { charge_copy(init) } else { init.expr },
            loop_cond: cond.expr,
            loop_step: step.expr,
            result: if binding { charge_copy(result) } else { result.expr },
        };
        TypedExpr::new(IdedExpr { id, expr: Expr::Comprehension(Box::new(checked)) }, result_ty)
    }
}
