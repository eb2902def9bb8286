//! Operators: their types, and where the engine's own would be wrong about our lists and maps.

use cel::common::ast::operators as op;
use cel::common::ast::{Expr, IdedExpr, LiteralValue};
use cel::common::types::CelList;
use cel::common::value::Val;
use cel_interpreter as cel;

use super::super::types::Ty;
use super::super::{json, macros};
use super::tree::{article, call, conversion_hint, literal, rebuild, scalars, wrap};
use super::{Constant, Node, Walk};

impl Walk<'_> {
    pub(super) fn operator(&mut self, id: u64, name: &str, args: Vec<IdedExpr>, depth: usize) -> Node {
        let mut nodes: Vec<Node> = args.into_iter().map(|arg| self.expr(arg, depth + 1)).collect();
        match (name, nodes.as_mut_slice()) {
            (op::CONDITIONAL, [cond, yes, no]) => {
                let (ty, claim) = (if yes.ty == no.ty { yes.ty } else { Ty::Dyn }, yes.claim || no.claim);
                self.condition(cond, "what stands before `?`");
                Node { claim, ..Node::new(rebuild(id, name, nodes), ty) }
            }
            (op::LOGICAL_AND | op::LOGICAL_OR | op::LOGICAL_NOT | op::NOT_STRICTLY_FALSE, operands) => {
                for operand in operands {
                    self.condition(operand, &format!("an operand of `{}`", name.trim_matches('_')));
                }
                Node::new(rebuild(id, name, nodes), Ty::Bool)
            }
            (op::EQUALS | op::NOT_EQUALS, [a, b]) => {
                if !a.ty.equals(b.ty) {
                    let message = format!("{} and {} are never equal", article(a.ty), article(b.ty));
                    let hint = conversion_hint(a.ty, b.ty);
                    self.fault(&a.expr, message, hint);
                }
                // The engine's own equality is right as soon as one side can be no list and no map.
                if a.ty.is_scalar() || b.ty.is_scalar() {
                    self.compared(a, b);
                    return Node::new(rebuild(id, name, nodes), Ty::Bool);
                }
                let equal = rebuild(id, "@equal", nodes);
                Node::new(if name == op::EQUALS { equal } else { call(id, op::LOGICAL_NOT, vec![equal]) }, Ty::Bool)
            }
            (op::LESS | op::LESS_EQUALS | op::GREATER | op::GREATER_EQUALS, [a, b]) => {
                if !a.ty.compares(b.ty) {
                    let message =
                        format!("`{}` can't compare {} with {}", name.trim_matches('_'), article(a.ty), article(b.ty));
                    let hint = conversion_hint(a.ty, b.ty);
                    self.fault(&a.expr, message, hint);
                }
                self.compared(a, b);
                Node::new(rebuild(id, name, nodes), Ty::Bool)
            }
            (op::ADD | op::SUBSTRACT | op::MULTIPLY | op::DIVIDE | op::MODULO, [a, b]) => {
                let sign = name.trim_matches('_').chars().next().unwrap_or('+');
                let ty = a.ty.arithmetic(sign, b.ty).unwrap_or_else(|| {
                    let message = format!("`{sign}` can't be applied to {} and {}", article(a.ty), article(b.ty));
                    let hint = conversion_hint(a.ty, b.ty);
                    self.fault(&a.expr, message, hint);
                    Ty::Dyn
                });
                // The engine knows the accumulator of a `map` by its shape, and appends to it without a copy.
                let appends = matches!(&a.expr.expr, Expr::Ident(name) if name == macros::RESULT);
                let name = if name == op::ADD && !ty.is_small() && !appends { "@add" } else { name };
                let lists = a.ty == Ty::List || b.ty == Ty::List;
                let claim = lists && !appends && (a.claim || b.claim);
                Node { claim, ..Node::new(rebuild(id, name, nodes), ty) }
            }
            (op::NEGATE, [a]) => {
                let ty = a.ty;
                if !(ty.may_be(Ty::Int) || ty.may_be(Ty::Double)) {
                    self.fault(&a.expr, format!("`-` can't be applied to {}", article(ty)), None);
                }
                Node::new(rebuild(id, name, nodes), ty)
            }
            (op::IN, [a, b]) => self.membership(id, a.ty, b.ty, nodes),
            (op::INDEX, [a, b]) => {
                if let (Some(_), Some(field)) = (Self::record(a), literal(&b.expr)) {
                    let field = field.to_owned();
                    let operand = std::mem::replace(a, Node::new(IdedExpr::default(), Ty::Dyn));
                    return self.field(id, operand, field);
                }
                if a.ty.is_scalar() {
                    self.fault(&a.expr, format!("{} has no elements", article(a.ty)), None);
                } else if a.ty == Ty::List && !(b.ty.is_number() || b.ty.may_be(Ty::Int)) {
                    self.fault(&b.expr, format!("a list is indexed by an int, not by {}", article(b.ty)), None);
                }
                let ty = match a.ty {
                    Ty::Claim | Ty::Jwt => Ty::Claim,
                    Ty::Headers => Ty::String,
                    Ty::Optional => Ty::Optional,
                    _ => Ty::Dyn,
                };
                if let (true, Some(key)) = (a.claim || a.ty == Ty::Headers, literal(&b.expr)) {
                    self.note_read(a.name.as_deref(), key, a.ty == Ty::Headers);
                }
                let (claim, name) = (a.claim, if a.ty.may_be_optional() { "@at" } else { name });
                Node { claim, ..Node::new(rebuild(id, name, nodes), ty) }
            }
            (op::OPT_INDEX | op::OPT_SELECT, [a, b]) => {
                let mut whole = None;
                if let Some(field) = literal(&b.expr).map(str::to_owned) {
                    if let Some(record) = Self::record(a) {
                        self.check_field(&a.expr, record, &field);
                    }
                    whole = a.name.as_deref().map(|name| format!("{name}.{field}"));
                }
                let claim = a.claim;
                Node { claim, name: whole, ..Node::new(rebuild(id, "@maybe", nodes), Ty::Optional) }
            }
            _ => {
                let expr = rebuild(id, name, nodes);
                self.fault(&expr, format!("unknown operator `{name}`"), None);
                Node::new(expr, Ty::Dyn)
            }
        }
    }

    /// Two texts are compared: paid for where it happens again and again, and neither is as short as it is written.
    fn compared(&self, a: &mut Node, b: &Node) {
        if b.ty.may_be_text() && !matches!(b.expr.expr, Expr::Literal(_)) {
            self.read(a);
        }
    }

    /// A text is gone through. Outside of a comprehension that happens once, and a rule's length bounds it.
    pub(super) fn read(&self, node: &mut Node) {
        if self.nested > 0 && node.ty.may_be_text() && !matches!(node.expr.expr, Expr::Literal(_)) {
            wrap(&mut node.expr, "@read");
        }
    }

    /// `a in b`.
    pub(super) fn membership(&mut self, id: u64, a: Ty, b: Ty, nodes: Vec<Node>) -> Node {
        let Ok([value, of]) = <[Node; 2]>::try_from(nodes) else {
            return Node::new(IdedExpr::default(), Ty::Dyn);
        };
        if !(b.may_be(Ty::List) || b.may_be(Ty::Map)) {
            let hint = (a.may_be(Ty::String) && b == Ty::String)
                .then(|| "for a substring write text.contains(part)".to_owned());
            self.fault(&value.expr, format!("`in` looks into a list or a map, not into {}", article(b)), hint);
        }
        if let Some(key) = literal(&value.expr) {
            self.note_test(&of, key);
        }
        let plain = a.is_scalar() || scalars(&of.expr);
        let of = self.folded(of);
        let name = if plain { op::IN } else { "@member" };
        Node::new(call(id, name, vec![value.expr, of.expr]), Ty::Bool)
    }

    /// A list of nothing but literals is made once.
    pub(super) fn folded(&mut self, node: Node) -> Node {
        let Expr::List(list) = &node.expr.expr else { return node };
        if !scalars(&node.expr) || !list.optional_indices.is_empty() {
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
        Node::new(self.constant(id, Constant::List(CelList::from(vals))), Ty::List)
    }

    pub(super) fn constant(&mut self, id: u64, constant: Constant) -> IdedExpr {
        let name = format!("@{}", self.constants.len());
        self.constants.push(constant);
        IdedExpr { id, expr: Expr::Ident(name) }
    }
}
