//! From what was written to what runs: one walk that checks every name, type and literal, and puts in place what the
//! engine lacks or gets wrong.
//!
//! What it changes: `request.path` becomes one name; the range of a comprehension is paid for; `contains` on a claim is
//! no substring test; regexes, addresses and constant lists are made once; `==` and `in` know our lists and maps. What it
//! refuses: unknown names, what can never hold, and what would take too long.

use cel::common::ast::operators as op;
use cel::common::ast::{
    CallExpr, ComprehensionExpr, EntryExpr, Expr, IdedExpr, ListExpr, LiteralValue, SelectExpr, SourceInfo,
};
use cel::common::types::CelList;
use cel::common::value::Val;
use cel_interpreter as cel;

use super::expr::{Fault, Scope};
use super::functions::{self, Cidr, Ip, Pattern};
use super::types::{MACROS, SIGNATURES, Signature, TYPE_NAMES, Ty};
use super::{macros, names};

/// The deepest expression that is taken.
const MAX_DEPTH: usize = 256;
/// Comprehensions inside of comprehensions.
const MAX_NESTED: usize = 2;
/// First parts of functions' names.
const NAMESPACES: &[&str] = &["optional", "base64", "sha256", "strings"];

/// A value made once, when the expression is compiled.
#[derive(Debug)]
pub(super) enum Constant {
    Pattern(Pattern),
    Cidr(Cidr),
    Ip(Ip),
    List(CelList<'static>),
}

impl Constant {
    pub(super) fn val(&self) -> &dyn Val {
        match self {
            Self::Pattern(pattern) => pattern,
            Self::Cidr(cidr) => cidr,
            Self::Ip(ip) => ip,
            Self::List(list) => list,
        }
    }
}

/// A checked expression, with what is known of it.
struct Node {
    expr: IdedExpr,
    ty: Ty,
    /// The value is a claim as the token brought it, and no computation's result.
    claim: bool,
    /// The whole name of the variable or field that this is.
    name: Option<String>,
}

impl Node {
    fn new(expr: IdedExpr, ty: Ty) -> Self {
        Self { expr, ty, claim: false, name: None }
    }
}

/// The walk's result.
pub(super) struct Lowered {
    pub(super) expr: IdedExpr,
    pub(super) constants: Vec<Constant>,
    /// Claims that are read where nothing asks first whether they are there.
    pub(super) unguarded: Vec<String>,
}

/// Checks and rewrites a parsed expression.
pub(super) fn lower(expr: IdedExpr, info: &SourceInfo, scope: &Scope<'_>) -> Result<Lowered, Vec<Fault>> {
    let mut walk = Walk {
        scope,
        info,
        faults: Vec::new(),
        bound: Vec::new(),
        constants: Vec::new(),
        nested: 0,
        read: Vec::new(),
        tested: Vec::new(),
    };
    let start = walk.start(&expr);
    let node = walk.expr(expr, 0);
    if scope.is_condition() && !node.ty.may_be(Ty::Bool) {
        walk.fault_at(start, format!("this gives {}, not true or false", article(node.ty)), None);
    }
    if !walk.faults.is_empty() {
        walk.faults.sort_by_key(|fault| fault.offset);
        walk.faults.dedup();
        return Err(walk.faults);
    }
    let Walk { constants, mut read, tested, .. } = walk;
    read.retain(|path| !tested.iter().any(|tested| tested == path));
    read.sort();
    read.dedup();
    Ok(Lowered { expr: node.expr, constants, unguarded: read })
}

struct Walk<'s> {
    scope: &'s Scope<'s>,
    info: &'s SourceInfo,
    faults: Vec<Fault>,
    /// The variables of the comprehensions around, innermost last.
    bound: Vec<(String, Ty)>,
    constants: Vec<Constant>,
    nested: usize,
    read: Vec<String>,
    tested: Vec<String>,
}

impl Walk<'_> {
    /// Where an expression begins in the source.
    fn start(&self, expr: &IdedExpr) -> usize {
        let own = self.info.offset_for(expr.id).map(|(start, _)| start as usize);
        let first = match &expr.expr {
            Expr::Select(select) => Some(&*select.operand),
            Expr::Call(CallExpr { target: Some(target), .. }) => Some(&**target),
            Expr::Call(call) if !is_word(&call.func_name) => call.args.first(),
            _ => None,
        };
        match (first.map(|first| self.start(first)), own) {
            (Some(first), Some(own)) => first.min(own),
            (first, own) => first.or(own).unwrap_or(0),
        }
    }

    /// Where a function's name begins: the parser keeps the place of its parenthesis.
    fn start_of_name(&self, id: u64, name: &str) -> usize {
        let at = self.info.offset_for(id).map_or(0, |(start, _)| start as usize);
        let before = self.info.source.get(..at).unwrap_or_default().trim_end();
        before.strip_suffix(name).map_or(at, str::len)
    }

    fn fault_at(&mut self, offset: usize, message: impl Into<String>, hint: Option<String>) {
        self.faults.push(Fault { offset, message: message.into(), hint });
    }

    fn fault(&mut self, at: &IdedExpr, message: impl Into<String>, hint: Option<String>) {
        let offset = self.start(at);
        self.fault_at(offset, message, hint);
    }

    fn expr(&mut self, expr: IdedExpr, depth: usize) -> Node {
        if depth > MAX_DEPTH {
            if !self.faults.iter().any(|fault| fault.message.starts_with("deeper")) {
                self.fault(
                    &expr,
                    format!("deeper than {MAX_DEPTH} levels"),
                    Some("split the rule into several".into()),
                );
            }
            return Node::new(IdedExpr { id: expr.id, expr: Expr::Literal(LiteralValue::Null) }, Ty::Dyn);
        }
        let id = expr.id;
        if let Some(name) = dotted(&expr.expr).filter(|name| self.is_type_name(name)) {
            return Node::new(IdedExpr { id, expr: Expr::Ident(name) }, Ty::Type);
        }
        match expr.expr {
            Expr::Literal(literal) => {
                let ty = literal_type(&literal);
                Node::new(IdedExpr { id, expr: Expr::Literal(literal) }, ty)
            }
            Expr::Ident(name) => self.ident(id, name),
            Expr::Select(select) => self.select(id, select, depth),
            Expr::Call(call) => self.call(id, call, depth),
            Expr::List(list) => {
                let elements = list.elements.into_iter().map(|element| self.expr(element, depth + 1).expr).collect();
                let list = ListExpr::new_with_optionals(elements, list.optional_indices);
                Node::new(IdedExpr { id, expr: Expr::List(list) }, Ty::List)
            }
            Expr::Map(mut map) => {
                for entry in &mut map.entries {
                    if let EntryExpr::MapEntry(entry) = &mut entry.expr {
                        let (key, value) = (std::mem::take(&mut entry.key), std::mem::take(&mut entry.value));
                        let key = self.expr(key, depth + 1);
                        if !matches!(key.ty, Ty::Dyn | Ty::Claim | Ty::String | Ty::Int | Ty::Uint | Ty::Bool) {
                            self.fault(&key.expr, format!("a {} can't be a map's key", key.ty.name()), None);
                        }
                        entry.key = key.expr;
                        entry.value = self.expr(value, depth + 1).expr;
                    }
                }
                Node::new(IdedExpr { id, expr: Expr::Map(map) }, Ty::Map)
            }
            Expr::Comprehension(comprehension) => self.comprehension(id, *comprehension, depth),
            Expr::Struct(message) => {
                let offset = self.info.offset_for(id).map_or(0, |(start, _)| start as usize);
                self.fault_at(
                    offset,
                    format!("`{}{{…}}` is a message, and there are none here", message.type_name),
                    None,
                );
                Node::new(IdedExpr { id, expr: Expr::Literal(LiteralValue::Null) }, Ty::Dyn)
            }
            Expr::Unspecified => {
                self.fault_at(0, "the expression is empty", None);
                Node::new(IdedExpr { id, expr: Expr::Literal(LiteralValue::Null) }, Ty::Dyn)
            }
        }
    }

    fn is_type_name(&self, name: &str) -> bool {
        TYPE_NAMES.contains(&name) && !self.is_bound(name) && !self.scope.extra().contains(&name)
    }

    fn is_bound(&self, name: &str) -> bool {
        self.bound.iter().any(|(bound, _)| bound == name)
    }

    fn ident(&mut self, id: u64, written: String) -> Node {
        let name = written.strip_prefix('.').unwrap_or(&written).to_owned();
        let ident = |name: &str| IdedExpr { id, expr: Expr::Ident(name.to_owned()) };
        if let Some((_, ty)) = self.bound.iter().rev().find(|(bound, _)| *bound == written) {
            return Node::new(ident(&name), *ty);
        }
        if self.scope.extra().contains(&name.as_str()) {
            return Node::new(ident(&name), Ty::Claim);
        }
        let expr = ident(&name);
        match names::find(&name).filter(|_| !name.contains('.')) {
            Some((_, ty, sight)) if self.scope.sees(sight) => Node { expr, ty, claim: name == "jwt", name: Some(name) },
            Some(_) => {
                self.fault(&expr, format!("`{name}` can't be used here"), Some(self.scope.why_unseen().to_owned()));
                Node::new(expr, Ty::Dyn)
            }
            None => {
                let mut known: Vec<&str> = names::variables(*self.scope).collect();
                known.extend(self.scope.extra());
                let hint = match names::nearest(&name, known.iter().copied()) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!("there are {}", list(known.into_iter())),
                };
                self.fault(&expr, format!("unknown variable `{name}`"), Some(hint));
                Node::new(expr, Ty::Dyn)
            }
        }
    }

    /// Whether a record has that field; a fault if not.
    fn check_field(&mut self, at: &IdedExpr, record: &str, field: &str) -> bool {
        if names::has_field(record, field) {
            return true;
        }
        let hint = match names::nearest(field, names::fields(record)) {
            Some(near) => format!("did you mean `{record}.{near}`?"),
            None => format!("its fields are {}", list(names::fields(record))),
        };
        self.fault(at, format!("`{record}.{field}` is not a field of {record}"), Some(hint));
        false
    }

    /// The declared record that a node is, if it is one.
    fn record(node: &Node) -> Option<&'static str> {
        names::record(node.name.as_deref()?).filter(|name| *name != "jwt")
    }

    /// `operand.field`, where the operand is already lowered.
    fn field(&mut self, id: u64, operand: Node, field: String) -> Node {
        let whole = operand.name.as_deref().map(|name| format!("{name}.{field}"));
        if let (Some(record), false) = (Self::record(&operand), operand.ty == Ty::Optional) {
            if !self.check_field(&operand.expr, record, &field) {
                return Node::new(operand.expr, Ty::Dyn);
            }
            let whole = whole.unwrap_or_default();
            let ty = names::find(&whole).map_or(Ty::Dyn, |(_, ty, _)| ty);
            return Node {
                expr: IdedExpr { id: operand.expr.id, expr: Expr::Ident(whole.clone()) },
                ty,
                claim: false,
                name: Some(whole),
            };
        }
        if !field.chars().all(|c| c.is_alphanumeric() || c == '_') {
            return self.quoted_field(id, operand, field);
        }
        if let (true, Some(whole)) = (operand.claim && operand.ty != Ty::Optional, whole) {
            self.read.push(whole.clone());
            return Node {
                expr: IdedExpr { id: operand.expr.id, expr: Expr::Ident(whole.clone()) },
                ty: Ty::Claim,
                claim: true,
                name: Some(whole),
            };
        }
        if operand.ty == Ty::Headers {
            let key = IdedExpr { id, expr: Expr::Literal(LiteralValue::String(field.into())) };
            return Node::new(call(id, op::INDEX, vec![operand.expr, key]), Ty::String);
        }
        self.check_selectable(&operand);
        let ty = match operand.ty {
            Ty::Optional => Ty::Optional,
            Ty::Claim => Ty::Claim,
            _ => Ty::Dyn,
        };
        let claim = operand.claim;
        let select = SelectExpr { operand: Box::new(operand.expr), field, test: false };
        Node { expr: IdedExpr { id, expr: Expr::Select(select) }, ty, claim, name: None }
    }

    /// A field in backticks becomes an index, since a whole name is split at its dots.
    fn quoted_field(&mut self, id: u64, operand: Node, field: String) -> Node {
        self.check_selectable(&operand);
        let ty = match operand.ty {
            Ty::Jwt => Ty::Claim,
            Ty::Headers => Ty::String,
            other @ (Ty::Claim | Ty::Optional) => other,
            _ => Ty::Dyn,
        };
        if let Some(name) = operand.name.as_deref().filter(|_| operand.claim) {
            self.read.push(format!("{name}[{field:?}]"));
        }
        let key = IdedExpr { id, expr: Expr::Literal(LiteralValue::String(field.into())) };
        let claim = operand.claim;
        Node { claim, ..Node::new(call(id, op::INDEX, vec![operand.expr, key]), ty) }
    }

    fn check_selectable(&mut self, operand: &Node) {
        if operand.ty.is_scalar() || operand.ty == Ty::List {
            self.fault(&operand.expr, format!("a {} has no fields", operand.ty.name()), None);
        }
    }

    fn select(&mut self, id: u64, select: SelectExpr, depth: usize) -> Node {
        let operand = self.expr(*select.operand, depth + 1);
        if !select.test {
            return self.field(id, operand, select.field);
        }
        if let Some(record) = Self::record(&operand) {
            self.check_field(&operand.expr, record, &select.field);
        } else {
            self.check_selectable(&operand);
        }
        if let Some(name) = operand.name.as_deref().filter(|_| operand.claim) {
            self.tested.push(format!("{name}.{}", select.field));
        }
        let select = SelectExpr { operand: Box::new(operand.expr), field: select.field, test: true };
        Node::new(IdedExpr { id, expr: Expr::Select(select) }, Ty::Bool)
    }

    fn comprehension(&mut self, id: u64, written: ComprehensionExpr, depth: usize) -> Node {
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
        self.bound.push((written.accu_var.clone(), init.ty));
        self.bound.push((written.iter_var.clone(), element));
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
        let range_id = range.expr.id;
        // A long body costs more for each element than a short one.
        let weight = LiteralValue::Int((1 + nodes(&step.expr) as i64 / 12).into());
        let weight = IdedExpr { id: range_id, expr: Expr::Literal(weight) };
        let lowered = ComprehensionExpr {
            iter_range: if binding { range.expr } else { call(range_id, "@each", vec![range.expr, weight]) },
            iter_var: written.iter_var,
            iter_var2: written.iter_var2,
            accu_var: written.accu_var,
            accu_init: init.expr,
            loop_cond: cond.expr,
            loop_step: step.expr,
            result: result.expr,
        };
        Node::new(IdedExpr { id, expr: Expr::Comprehension(Box::new(lowered)) }, result.ty)
    }

    fn call(&mut self, id: u64, written: CallExpr, depth: usize) -> Node {
        let CallExpr { func_name, target, args } = match macros::expand(id, written) {
            Ok(expanded) => return self.expr(IdedExpr { id, expr: expanded }, depth),
            Err(call) => call,
        };
        if target.is_none() && !is_word(&func_name) {
            return self.operator(id, &func_name, args, depth);
        }
        let func_name = func_name.strip_prefix('.').unwrap_or(&func_name).to_owned();
        // `base64.encode(x)` is a function with a long name, not a method of a variable.
        if let Some(Expr::Ident(namespace)) = target.as_ref().map(|target| &target.expr)
            && NAMESPACES.contains(&namespace.as_str())
            && !self.is_bound(namespace)
        {
            let name = format!("{namespace}.{func_name}");
            return self.function(id, name, None, args, depth);
        }
        if target.is_none()
            && func_name == "default"
            && let [value, otherwise] = args.as_slice()
        {
            return self.or_default(id, value.clone(), otherwise.clone(), depth);
        }
        self.function(id, func_name, target, args, depth)
    }

    /// `default(a.b, x)` is `a.?b.orValue(x)`: absence is answered, any other failure stays one.
    fn or_default(&mut self, id: u64, value: IdedExpr, otherwise: IdedExpr, depth: usize) -> Node {
        let chain = optional_chain(value);
        if !matches!(&chain.expr, Expr::Call(call) if matches!(call.func_name.as_str(), op::OPT_SELECT | op::OPT_INDEX))
        {
            let node = self.expr(chain, depth + 1);
            self.expr(otherwise, depth + 1);
            return Node { name: None, ..node };
        }
        self.function(id, "orValue".to_owned(), Some(Box::new(chain)), vec![otherwise], depth)
    }

    fn condition(&mut self, node: &Node, role: &str) {
        if !node.ty.may_be(Ty::Bool) {
            self.fault(&node.expr, format!("{role} must be true or false, and this is {}", article(node.ty)), None);
        }
    }

    fn operator(&mut self, id: u64, name: &str, args: Vec<IdedExpr>, depth: usize) -> Node {
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
                Node::new(rebuild(id, name, nodes), ty)
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
                if let (true, Some(name), Some(key)) = (a.claim, a.name.as_deref(), literal(&b.expr)) {
                    self.read.push(format!("{name}[{key:?}]"));
                }
                let claim = a.claim;
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
                Node { claim, name: whole, ..Node::new(rebuild(id, name, nodes), Ty::Optional) }
            }
            _ => {
                let expr = rebuild(id, name, nodes);
                self.fault(&expr, format!("unknown operator `{name}`"), None);
                Node::new(expr, Ty::Dyn)
            }
        }
    }

    /// `a in b`.
    fn membership(&mut self, id: u64, a: Ty, b: Ty, nodes: Vec<Node>) -> Node {
        let Ok([value, of]) = <[Node; 2]>::try_from(nodes) else {
            return Node::new(IdedExpr::default(), Ty::Dyn);
        };
        if !(b.may_be(Ty::List) || b.may_be(Ty::Map)) {
            let hint = (a.may_be(Ty::String) && b == Ty::String)
                .then(|| "for a substring write text.contains(part)".to_owned());
            self.fault(&value.expr, format!("`in` looks into a list or a map, not into {}", article(b)), hint);
        }
        let plain = a.is_scalar() || scalars(&of.expr);
        let of = self.folded(of);
        let name = if plain { op::IN } else { "@member" };
        Node::new(call(id, name, vec![value.expr, of.expr]), Ty::Bool)
    }

    /// A list of nothing but literals is made once.
    fn folded(&mut self, node: Node) -> Node {
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
                    LiteralValue::Null => super::json::NULL.clone_as_boxed(),
                    LiteralValue::String(value) => value.clone_as_boxed(),
                    LiteralValue::UInt(value) => value.clone_as_boxed(),
                }),
                _ => None,
            })
            .collect();
        let id = node.expr.id;
        Node::new(self.constant(id, Constant::List(CelList::from(vals))), Ty::List)
    }

    fn constant(&mut self, id: u64, constant: Constant) -> IdedExpr {
        let name = format!("@{}", self.constants.len());
        self.constants.push(constant);
        IdedExpr { id, expr: Expr::Ident(name) }
    }

    fn function(
        &mut self,
        id: u64,
        name: String,
        target: Option<Box<IdedExpr>>,
        args: Vec<IdedExpr>,
        depth: usize,
    ) -> Node {
        let method = target.is_some();
        let nodes: Vec<Node> =
            target.map(|target| *target).into_iter().chain(args).map(|arg| self.expr(arg, depth + 1)).collect();
        let offset = match nodes.first() {
            Some(first) if method => self.start(&first.expr),
            _ => self.start_of_name(id, &name),
        };
        let Some(result) = self.signature(offset, &name, method, &nodes) else {
            return Node::new(rebuild(id, "type", nodes), Ty::Dyn);
        };
        self.special(id, offset, &name, result, method, nodes)
    }

    /// The type that a call gives, or `None` after a fault.
    fn signature(&mut self, offset: usize, name: &str, method: bool, nodes: &[Node]) -> Option<Ty> {
        let named: Vec<&Signature> = SIGNATURES.iter().filter(|known| known.name == name).collect();
        let same: Vec<&&Signature> = named.iter().filter(|known| known.method == method).collect();
        if same.is_empty() {
            let (message, hint) = if MACROS.contains(&name) {
                (format!("`{name}` can't be used so"), Some(format!("write {}", macro_form(name))))
            } else if named.is_empty() {
                let known = SIGNATURES.iter().map(|known| known.name).chain(MACROS.iter().copied());
                let hint = match names::find(name) {
                    Some(_) => Some(format!("`{name}` is a variable, written without parentheses")),
                    None => names::nearest(name, known).map(|near| format!("did you mean `{near}`?")),
                };
                (format!("unknown function `{name}`"), hint)
            } else if method {
                (format!("`{name}` is not a method"), Some(format!("write `{name}(x)`")))
            } else {
                (format!("`{name}` is a method"), Some(format!("write `x.{name}(…)`")))
            };
            self.fault_at(offset, message, hint);
            return None;
        }
        let written = nodes.len() - usize::from(method);
        let fitting: Vec<&&&Signature> = same.iter().filter(|known| known.params.len() == nodes.len()).collect();
        if fitting.is_empty() {
            let mut counts: Vec<usize> = same.iter().map(|known| known.params.len() - usize::from(method)).collect();
            counts.sort_unstable();
            counts.dedup();
            let counts: Vec<String> = counts.iter().map(usize::to_string).collect();
            let message = format!("`{name}` takes {} arguments, and {written} are given", counts.join(" or "));
            self.fault_at(offset, message, None);
            return None;
        }
        let mut results = fitting
            .iter()
            .filter(|known| known.params.iter().zip(nodes).all(|(param, node)| node.ty.may_be(*param)))
            .map(|known| known.result);
        let Some(first) = results.next() else {
            let types: Vec<String> = nodes.iter().map(|node| article(node.ty)).collect();
            let (on, with) = types.split_at(usize::from(method));
            let message = match on.first() {
                Some(on) => format!("`{name}` can't be called on {on} with ({})", with.join(", ")),
                None => format!("`{name}` can't be called with ({})", with.join(", ")),
            };
            self.fault_at(offset, message, None);
            return None;
        };
        Some(if results.all(|result| result == first) { first } else { Ty::Dyn })
    }

    /// What a call becomes: most stay what they are.
    fn special(&mut self, id: u64, offset: usize, name: &str, ty: Ty, method: bool, nodes: Vec<Node>) -> Node {
        let on_claim = nodes.first().is_some_and(|first| first.claim);
        let text = |at: usize| nodes.get(at).and_then(|node| literal(&node.expr)).map(str::to_owned);
        match name {
            "contains" if on_claim => Node::new(rebuild(id, "@claim_contains", nodes), ty),
            "contains" => {
                let mut nodes = nodes;
                if let Some(first) = nodes.first_mut() {
                    let taken = std::mem::replace(first, Node::new(IdedExpr::default(), Ty::Dyn));
                    *first = self.folded(taken);
                }
                Node::new(rebuild_method(id, name, nodes), ty)
            }
            "matches" => {
                let source = text(1);
                let mut exprs: Vec<IdedExpr> = nodes.into_iter().map(|node| node.expr).collect();
                if let (Some(source), Some(slot)) = (source, exprs.get_mut(1)) {
                    match functions::pattern(&source) {
                        Ok(pattern) => *slot = self.constant(slot.id, Constant::Pattern(pattern)),
                        Err(message) => {
                            let at = slot.clone();
                            self.fault(&at, format!("not a regex: {message}"), None);
                        }
                    }
                }
                Node::new(call(id, "@matches", exprs), ty)
            }
            "cidr" | "ip" => {
                let Some(source) = text(0) else { return Node::new(rebuild(id, name, nodes), ty) };
                let constant = match name {
                    "cidr" => source.parse().map(Constant::Cidr),
                    _ => functions::parse_ip(&source).map(Constant::Ip),
                };
                match constant {
                    Ok(constant) => Node::new(self.constant(id, constant), ty),
                    Err(message) => {
                        self.fault_at(offset, format!("{source:?}: {message}"), None);
                        Node::new(rebuild(id, name, nodes), ty)
                    }
                }
            }
            "scopes" => {
                self.check_is_jwt(offset, name, &nodes);
                Node::new(IdedExpr { id, expr: Expr::Ident(names::SCOPES.to_owned()) }, ty)
            }
            "claim" => {
                self.check_is_jwt(offset, name, &nodes);
                Node { claim: true, ..Node::new(rebuild(id, name, nodes), ty) }
            }
            "headers" => {
                let lines = match nodes.first().and_then(|first| first.name.as_deref()) {
                    Some("request") => names::REQUEST_LINES,
                    Some("response") => names::RESPONSE_LINES,
                    _ => {
                        self.fault_at(
                            offset,
                            "`headers` reads a request",
                            Some("write `headers(request, \"x\")`".into()),
                        );
                        names::REQUEST_LINES
                    }
                };
                let of = IdedExpr { id, expr: Expr::Ident(lines.to_owned()) };
                let key = nodes.into_iter().nth(1).map(|node| node.expr).unwrap_or_default();
                Node::new(call(id, op::INDEX, vec![of, key]), ty)
            }
            "replace" => Node::new(rebuild(id, "@replace", nodes), ty),
            "join" => Node::new(rebuild(id, "@join", nodes), ty),
            "format" if text(0).is_none() => {
                self.fault_at(offset, "`format` needs its pattern written out", None);
                Node::new(rebuild_method(id, name, nodes), ty)
            }
            "orValue" | "value" | "or" | "dyn" | "optional.of" | "optional.ofNonZeroValue" => {
                let claim = nodes.iter().any(|node| node.claim);
                let expr = if method { rebuild_method(id, name, nodes) } else { rebuild(id, name, nodes) };
                Node { claim, ..Node::new(expr, ty) }
            }
            _ if method => Node::new(rebuild_method(id, name, nodes), ty),
            _ => Node::new(rebuild(id, name, nodes), ty),
        }
    }

    fn check_is_jwt(&mut self, offset: usize, function: &str, nodes: &[Node]) {
        if nodes.first().and_then(|first| first.name.as_deref()) != Some("jwt") {
            self.fault_at(offset, format!("`{function}` reads the token"), Some(format!("write `{function}(jwt…)`")));
        }
    }
}

/// What an expression consists of.
fn parts(expr: &IdedExpr) -> Vec<&IdedExpr> {
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

/// The levels of an expression, as the engine descends into it.
pub(super) fn depth(expr: &IdedExpr) -> usize {
    1 + parts(expr).into_iter().map(depth).max().unwrap_or(0)
}

/// How many nodes an expression has.
fn nodes(expr: &IdedExpr) -> usize {
    1 + parts(expr).into_iter().map(nodes).sum::<usize>()
}

/// Whether a function's name is a word, and not an operator's.
fn is_word(name: &str) -> bool {
    name.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '.')) && !name.starts_with('_')
}

fn call(id: u64, name: &str, args: Vec<IdedExpr>) -> IdedExpr {
    IdedExpr { id, expr: Expr::Call(CallExpr { func_name: name.to_owned(), target: None, args }) }
}

fn rebuild(id: u64, name: &str, nodes: Vec<Node>) -> IdedExpr {
    call(id, name, nodes.into_iter().map(|node| node.expr).collect())
}

fn rebuild_method(id: u64, name: &str, nodes: Vec<Node>) -> IdedExpr {
    let mut exprs = nodes.into_iter().map(|node| node.expr);
    let target = exprs.next().map(Box::new);
    IdedExpr { id, expr: Expr::Call(CallExpr { func_name: name.to_owned(), target, args: exprs.collect() }) }
}

/// The text of a string literal.
fn literal(expr: &IdedExpr) -> Option<&str> {
    match &expr.expr {
        Expr::Literal(LiteralValue::String(text)) => Some(text.inner()),
        _ => None,
    }
}

/// A list that holds nothing but literals.
fn scalars(expr: &IdedExpr) -> bool {
    matches!(&expr.expr, Expr::List(list) if list.elements.iter().all(|e| matches!(e.expr, Expr::Literal(_))))
}

/// A chain of names as it was written: `google.protobuf.Timestamp`.
fn dotted(expr: &Expr) -> Option<String> {
    match expr {
        Expr::Ident(name) => Some(name.strip_prefix('.').unwrap_or(name).to_owned()),
        Expr::Select(select) if !select.test => Some(format!("{}.{}", dotted(&select.operand.expr)?, select.field)),
        _ => None,
    }
}

/// `a.b["c"]` as `a.?b[?"c"]`.
fn optional_chain(expr: IdedExpr) -> IdedExpr {
    let id = expr.id;
    match expr.expr {
        Expr::Select(select) if !select.test => {
            let field = IdedExpr { id, expr: Expr::Literal(LiteralValue::String(select.field.into())) };
            call(id, op::OPT_SELECT, vec![optional_chain(*select.operand), field])
        }
        Expr::Call(index) if index.func_name == op::INDEX => {
            let mut args = index.args.into_iter();
            let operand = args.next().map(optional_chain).unwrap_or_default();
            call(id, op::OPT_INDEX, std::iter::once(operand).chain(args).collect())
        }
        other => IdedExpr { id, expr: other },
    }
}

fn literal_type(literal: &LiteralValue) -> Ty {
    match literal {
        LiteralValue::Boolean(_) => Ty::Bool,
        LiteralValue::Bytes(_) => Ty::Bytes,
        LiteralValue::Double(_) => Ty::Double,
        LiteralValue::Int(_) => Ty::Int,
        LiteralValue::Null => Ty::Null,
        LiteralValue::String(_) => Ty::String,
        LiteralValue::UInt(_) => Ty::Uint,
    }
}

fn article(ty: Ty) -> String {
    match ty {
        Ty::Null | Ty::Dyn | Ty::Claim | Ty::Bytes => ty.name().to_owned(),
        Ty::Int | Ty::Optional | Ty::Ip => format!("an {}", ty.name()),
        _ => format!("a {}", ty.name()),
    }
}

fn conversion_hint(a: Ty, b: Ty) -> Option<String> {
    match (a, b) {
        (Ty::Timestamp, Ty::Claim | Ty::Int) | (Ty::Claim | Ty::Int, Ty::Timestamp) => {
            Some("convert the number: timestamp(jwt.exp)".to_owned())
        }
        (Ty::String, number) | (number, Ty::String) if number.is_number() => {
            Some(format!("convert one side: {}(x) or string(x)", number.name()))
        }
        _ => None,
    }
}

fn macro_form(name: &str) -> &'static str {
    match name {
        "has" => "has(a.b) or has(a[\"b\"])",
        "map" => "list.map(x, expression)",
        "optMap" | "optFlatMap" => "optional.optMap(x, expression)",
        "all" => "list.all(x, condition)",
        "exists" => "list.exists(x, condition)",
        "exists_one" => "list.exists_one(x, condition)",
        _ => "list.filter(x, condition)",
    }
}

/// Names in a sentence.
fn list<'n>(names: impl Iterator<Item = &'n str>) -> String {
    names.map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}
