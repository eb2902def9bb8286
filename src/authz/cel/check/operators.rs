//! Operators: checks their operand types, and replaces those that the engine evaluates incorrectly for the lists and maps of
//! [`json`](crate::authz::cel::json).

use super::ast::{
    call_expr, conversion_hint, is_literal_list, rebuild_call, string_literal, with_article, wrap_in_call,
};
use super::{Checker, Constant, TypedExpr};
use crate::authz::cel::engine::common::ast::operators as op;
use crate::authz::cel::engine::common::ast::{Expr, IdedExpr, LiteralValue};
use crate::authz::cel::engine::common::types::CelList;
use crate::authz::cel::engine::common::value::Val;
use crate::authz::cel::functions::table::internal;
use crate::authz::cel::types::CelType;
use crate::authz::cel::{json, macros};

impl Checker<'_> {
    pub(crate) fn check_operator(&mut self, id: u64, name: &str, args: Vec<IdedExpr>, depth: usize) -> TypedExpr {
        let mut nodes: Vec<TypedExpr> = args.into_iter().map(|arg| self.check_expr(arg, depth + 1)).collect();
        match (name, nodes.as_mut_slice()) {
            (op::CONDITIONAL, [cond, yes, no]) => {
                let (ty, claim) =
                    (if yes.ty == no.ty { yes.ty } else { CelType::Dyn }, yes.from_claim || no.from_claim);
                self.require_bool(cond, "the condition before `?`");
                TypedExpr { from_claim: claim, ..TypedExpr::new(rebuild_call(id, name, nodes), ty) }
            }
            (op::LOGICAL_AND | op::LOGICAL_OR | op::LOGICAL_NOT | op::NOT_STRICTLY_FALSE, operands) => {
                for operand in operands {
                    self.require_bool(operand, &format!("an operand of `{}`", name.trim_matches('_')));
                }
                TypedExpr::new(rebuild_call(id, name, nodes), CelType::Bool)
            }
            (op::EQUALS | op::NOT_EQUALS, [a, b]) => {
                if !a.ty.may_equal(b.ty) {
                    let message = format!("{} and {} are never equal", with_article(a.ty), with_article(b.ty));
                    let hint = conversion_hint(a.ty, b.ty);
                    self.error_at(&a.expr, message, hint);
                }
                // The equality of the engine is correct if one side is neither a list nor a map.
                if a.ty.is_scalar() || b.ty.is_scalar() {
                    self.charge_comparison(a, b);
                    return TypedExpr::new(rebuild_call(id, name, nodes), CelType::Bool);
                }
                let equal = rebuild_call(id, internal::EQUAL, nodes);
                TypedExpr::new(
                    if name == op::EQUALS { equal } else { call_expr(id, op::LOGICAL_NOT, vec![equal]) },
                    CelType::Bool,
                )
            }
            (op::LESS | op::LESS_EQUALS | op::GREATER | op::GREATER_EQUALS, [a, b]) => {
                if !a.ty.is_comparable_with(b.ty) {
                    let message = format!(
                        "`{}` can't compare {} with {}",
                        name.trim_matches('_'),
                        with_article(a.ty),
                        with_article(b.ty)
                    );
                    let hint = conversion_hint(a.ty, b.ty);
                    self.error_at(&a.expr, message, hint);
                }
                self.charge_comparison(a, b);
                TypedExpr::new(rebuild_call(id, name, nodes), CelType::Bool)
            }
            (op::ADD | op::SUBSTRACT | op::MULTIPLY | op::DIVIDE | op::MODULO, [a, b]) => {
                let sign = name.trim_matches('_').chars().next().unwrap_or('+');
                let ty = a.ty.arithmetic_result(sign, b.ty).unwrap_or_else(|| {
                    let message =
                        format!("`{sign}` can't be applied to {} and {}", with_article(a.ty), with_article(b.ty));
                    let hint = conversion_hint(a.ty, b.ty);
                    self.error_at(&a.expr, message, hint);
                    CelType::Dyn
                });
                // The engine recognizes the accumulator of a `map` by its shape, and appends to it without a copy.
                let appends = matches!(&a.expr.expr, Expr::Ident(name) if name == macros::ACCUMULATOR);
                let name = if name == op::ADD && !ty.is_small() && !appends { internal::ADD } else { name };
                let lists = a.ty == CelType::List || b.ty == CelType::List;
                let claim = lists && !appends && (a.from_claim || b.from_claim);
                TypedExpr { from_claim: claim, ..TypedExpr::new(rebuild_call(id, name, nodes), ty) }
            }
            (op::NEGATE, [a]) => {
                let ty = a.ty;
                if !(ty.may_be(CelType::Int) || ty.may_be(CelType::Double)) {
                    self.error_at(&a.expr, format!("`-` can't be applied to {}", with_article(ty)), None);
                }
                TypedExpr::new(rebuild_call(id, name, nodes), ty)
            }
            (op::IN, [a, b]) => self.check_membership(id, a.ty, b.ty, nodes),
            (op::INDEX, [a, b]) => {
                if let (Some(_), Some(field)) = (Self::declared_record(a), string_literal(&b.expr)) {
                    let field = field.to_owned();
                    let operand = std::mem::replace(a, TypedExpr::new(IdedExpr::default(), CelType::Dyn));
                    return self.select_field(id, operand, field);
                }
                if a.ty.is_scalar() {
                    self.error_at(&a.expr, format!("{} has no elements", with_article(a.ty)), None);
                } else if a.ty == CelType::List && !(b.ty.is_number() || b.ty.may_be(CelType::Int)) {
                    self.error_at(&b.expr, format!("a list is indexed by an int, not by {}", with_article(b.ty)), None);
                }
                let ty = match a.ty {
                    CelType::Claim | CelType::Jwt => CelType::Claim,
                    CelType::Headers => CelType::String,
                    CelType::Optional => CelType::Optional,
                    _ => CelType::Dyn,
                };
                if let (true, Some(key)) = (a.from_claim || a.ty == CelType::Headers, string_literal(&b.expr)) {
                    self.add_read(a.full_name.as_deref(), key, a.ty == CelType::Headers);
                }
                let (claim, name) = (a.from_claim, if a.ty.may_be_optional() { internal::INDEX } else { name });
                TypedExpr { from_claim: claim, ..TypedExpr::new(rebuild_call(id, name, nodes), ty) }
            }
            (op::OPT_INDEX | op::OPT_SELECT, [a, b]) => {
                let mut full_name = None;
                if let Some(field) = string_literal(&b.expr).map(str::to_owned) {
                    if let Some(record) = Self::declared_record(a) {
                        self.check_record_field(&a.expr, record, &field);
                    }
                    full_name = a.full_name.as_deref().map(|name| format!("{name}.{field}"));
                }
                let claim = a.from_claim;
                TypedExpr {
                    from_claim: claim,
                    full_name,
                    ..TypedExpr::new(rebuild_call(id, internal::OPTIONAL_INDEX, nodes), CelType::Optional)
                }
            }
            _ => {
                let expr = rebuild_call(id, name, nodes);
                self.error_at(&expr, format!("unknown operator `{name}`"), None);
                TypedExpr::new(expr, CelType::Dyn)
            }
        }
    }

    /// Charges for a comparison of two texts inside of a comprehension, unless one is a literal.
    fn charge_comparison(&self, a: &mut TypedExpr, b: &TypedExpr) {
        if b.ty.may_be_text() && !matches!(b.expr.expr, Expr::Literal(_)) {
            self.charge_read(a);
        }
    }

    /// Charges for reading a text inside of a comprehension. Elsewhere a text is read once, and the length of the rule bounds
    /// the number of reads.
    pub(crate) fn charge_read(&self, node: &mut TypedExpr) {
        if self.nesting > 0 && node.ty.may_be_text() && !matches!(node.expr.expr, Expr::Literal(_)) {
            wrap_in_call(&mut node.expr, internal::CHARGE_READ);
        }
    }

    /// Checks `a in b`.
    pub(crate) fn check_membership(&mut self, id: u64, a: CelType, b: CelType, nodes: Vec<TypedExpr>) -> TypedExpr {
        let Ok([value, container]) = <[TypedExpr; 2]>::try_from(nodes) else {
            return TypedExpr::new(IdedExpr::default(), CelType::Dyn);
        };
        if !(b.may_be(CelType::List) || b.may_be(CelType::Map)) {
            let hint = (a.may_be(CelType::String) && b == CelType::String)
                .then(|| "for a substring write text.contains(part)".to_owned());
            self.error_at(
                &value.expr,
                format!("`in` needs a list or a map on its right, not {}", with_article(b)),
                hint,
            );
        }
        if let Some(key) = string_literal(&value.expr) {
            self.add_presence_test(&container, key);
        }
        let plain = a.is_scalar() || is_literal_list(&container.expr);
        let container = self.fold_list(container);
        let name = if plain { op::IN } else { internal::MEMBER };
        TypedExpr::new(call_expr(id, name, vec![value.expr, container.expr]), CelType::Bool)
    }

    /// Replaces a list of literals by a constant.
    pub(crate) fn fold_list(&mut self, node: TypedExpr) -> TypedExpr {
        let Expr::List(list) = &node.expr.expr else { return node };
        if !is_literal_list(&node.expr) || !list.optional_indices.is_empty() {
            return node;
        }
        let vals: Vec<Box<dyn Val>> = list
            .elements
            .iter()
            .filter_map(|element| match &element.expr {
                Expr::Literal(literal) => Some(match literal {
                    LiteralValue::Boolean(value) => value.clone_as_boxed(),
                    LiteralValue::Bytes(value) => value.clone_as_boxed(),
                    LiteralValue::Double(value) => value.clone_as_boxed(),
                    LiteralValue::Int(value) => value.clone_as_boxed(),
                    LiteralValue::Null => json::NULL.clone_as_boxed(),
                    LiteralValue::String(value) => value.clone_as_boxed(),
                    LiteralValue::UInt(value) => value.clone_as_boxed(),
                }),
                _ => None,
            })
            .collect();
        let id = node.expr.id;
        TypedExpr::new(self.add_constant(id, Constant::List(CelList::from(vals))), CelType::List)
    }

    pub(crate) fn add_constant(&mut self, id: u64, constant: Constant) -> IdedExpr {
        let name = format!("@{}", self.constants.len());
        self.constants.push(constant);
        IdedExpr { id, expr: Expr::Ident(name) }
    }
}
