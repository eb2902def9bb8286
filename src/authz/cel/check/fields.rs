//! Field selections: the declared fields of records, claims, headers and optionals.

use super::ast::{backticked_list, field_path, is_plain_name, lookup_call};
use super::{Checker, TypedExpr};
use crate::authz::cel::engine::common::ast::operators as op;
use crate::authz::cel::engine::common::ast::{Expr, IdedExpr, SelectExpr};
use crate::authz::cel::functions::table::internal;
use crate::authz::cel::types::CelType;
use crate::authz::cel::variables;
use crate::config::suggest::nearest;

impl Checker<'_> {
    /// Reports whether a record declares a field, and adds an error if it does not.
    pub(super) fn check_record_field(&mut self, expr: &IdedExpr, record: &str, field: &str) -> bool {
        if variables::has_field(record, field) {
            return true;
        }
        let hint = match nearest(field, variables::fields(record)) {
            Some(near) => format!("did you mean `{record}.{near}`?"),
            None => format!("its fields are {}", backticked_list(variables::fields(record))),
        };
        self.error_at(expr, format!("`{record}.{field}` is not a field of {record}"), Some(hint));
        false
    }

    /// Returns the name of the record that an expression consists of, if its fields are declared.
    pub(super) fn declared_record(node: &TypedExpr) -> Option<&'static str> {
        variables::find_record(node.full_name.as_deref()?).filter(|name| !variables::has_open_fields(name))
    }

    /// Checks `operand.field` for an operand that is already checked.
    pub(super) fn select_field(&mut self, id: u64, operand: TypedExpr, field: String) -> TypedExpr {
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
        let from_claim = operand.from_claim;
        if operand.ty.may_be_optional() {
            return TypedExpr::new(lookup_call(id, internal::INDEX, operand.expr, field), ty).with_claim(from_claim);
        }
        let select = SelectExpr { operand: Box::new(operand.expr), field, test: false };
        TypedExpr::new(IdedExpr { id, expr: Expr::Select(select) }, ty).with_claim(from_claim)
    }

    pub(super) fn add_read(&mut self, name: Option<&str>, field: &str, header: bool) {
        self.reads.extend(name.map(|name| field_path(name, field, header)));
    }

    /// Records that the expression tests the presence of a field of `operand`.
    pub(super) fn add_presence_test(&mut self, operand: &TypedExpr, field: &str) {
        if let Some(name) = operand.full_name.as_deref() {
            self.presence_tests.push(field_path(name, field, operand.ty == CelType::Headers));
        }
    }

    /// Rewrites a field in backticks to an index, since a full name is split at its dots.
    pub(super) fn index_field(&mut self, id: u64, operand: TypedExpr, field: String) -> TypedExpr {
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
        let (from_claim, name) =
            (operand.from_claim, if operand.ty.may_be_optional() { internal::INDEX } else { op::INDEX });
        TypedExpr::new(lookup_call(id, name, operand.expr, field), ty).with_claim(from_claim)
    }

    pub(super) fn check_selectable(&mut self, operand: &TypedExpr) {
        if operand.ty.is_scalar() || operand.ty == CelType::List {
            self.error_at(&operand.expr, format!("a {} has no fields", operand.ty.name()), None);
        }
    }

    pub(super) fn check_select(&mut self, id: u64, select: SelectExpr, depth: usize) -> TypedExpr {
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
            return TypedExpr::new(lookup_call(id, internal::HAS, operand.expr, select.field), CelType::Bool);
        }
        let select = SelectExpr { operand: Box::new(operand.expr), field: select.field, test: true };
        TypedExpr::new(IdedExpr { id, expr: Expr::Select(select) }, CelType::Bool)
    }
}
