//! Calls of functions and methods: which there are, what they take, and what some of them become.

use cel::common::ast::operators as op;
use cel::common::ast::{CallExpr, Expr, IdedExpr};
use cel_interpreter as cel;

use super::super::functions;
use super::super::types::{MACROS, SIGNATURES, Signature, Ty};
use super::super::{macros, names};
use super::tree::{article, call, copied, is_word, literal, macro_form, optional_chain, rebuild, rebuild_method, wrap};
use super::{Constant, Node, Walk};

/// First parts of functions' names.
const NAMESPACES: &[&str] = &["optional", "base64", "sha256", "strings"];

/// Functions of the engine whose result may be about as large as what they are given.
const MAKING: &[&str] =
    &["string", "bytes", "lowerAscii", "upperAscii", "trim", "reverse", "substring", "charAt", "strings.quote"];

/// What a call makes, paid for.
fn made(id: u64, expr: IdedExpr, ty: Ty) -> Node {
    Node::new(call(id, "@made", vec![expr]), ty)
}

impl Walk<'_> {
    pub(super) fn call(&mut self, id: u64, written: CallExpr, depth: usize) -> Node {
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
    pub(super) fn or_default(&mut self, id: u64, value: IdedExpr, otherwise: IdedExpr, depth: usize) -> Node {
        let chain = optional_chain(value);
        if !matches!(&chain.expr, Expr::Call(call) if matches!(call.func_name.as_str(), op::OPT_SELECT | op::OPT_INDEX))
        {
            let node = self.expr(chain, depth + 1);
            self.expr(otherwise, depth + 1);
            return Node { name: None, ..node };
        }
        self.function(id, "orValue".to_owned(), Some(Box::new(chain)), vec![otherwise], depth)
    }

    pub(super) fn condition(&mut self, node: &Node, role: &str) {
        if !node.ty.may_be(Ty::Bool) {
            self.fault(&node.expr, format!("{role} must be true or false, and this is {}", article(node.ty)), None);
        }
    }

    pub(super) fn function(
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
    pub(super) fn signature(&mut self, offset: usize, name: &str, method: bool, nodes: &[Node]) -> Option<Ty> {
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
    pub(super) fn special(
        &mut self,
        id: u64,
        offset: usize,
        name: &str,
        ty: Ty,
        method: bool,
        nodes: Vec<Node>,
    ) -> Node {
        let on_claim = nodes.first().is_some_and(|first| first.claim);
        let text = |at: usize| nodes.get(at).and_then(|node| literal(&node.expr)).map(str::to_owned);
        if let (Some(text), Some(node)) = (text(1), nodes.get(1)) {
            self.check_text(name, &text, &node.expr);
        }
        match name {
            "contains" if on_claim => Node::new(rebuild(id, "@claim_contains", nodes), ty),
            "contains" => {
                let mut nodes = nodes;
                if let Some(first) = nodes.first_mut() {
                    let taken = std::mem::replace(first, Node::new(IdedExpr::default(), Ty::Dyn));
                    *first = self.folded(taken);
                    self.read(first);
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
            "scopes" => {
                self.check_is_jwt(offset, name, &nodes);
                Node::new(IdedExpr { id, expr: Expr::Ident(names::SCOPES.to_owned()) }, ty)
            }
            "claim" => {
                self.check_is_jwt(offset, name, &nodes);
                self.check_path(&nodes);
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
            "replace" | "join" | "split" | "indexOf" | "lastIndexOf" => {
                Node::new(rebuild(id, &format!("@{name}"), nodes), ty)
            }
            "format" if text(0).is_none() => {
                self.fault_at(offset, "`format` needs its pattern written out", None);
                Node::new(rebuild_method(id, name, nodes), ty)
            }
            "format" => {
                let mut nodes = nodes;
                if let Some(shown) = nodes.get_mut(1) {
                    wrap(&mut shown.expr, "@shown");
                }
                made(id, rebuild_method(id, name, nodes), ty)
            }
            "orValue" | "value" | "or" | "dyn" | "optional.of" | "optional.ofNonZeroValue" => {
                let claim = nodes.iter().any(|node| node.claim);
                let nodes = match name.starts_with("optional.") {
                    true => nodes
                        .into_iter()
                        .map(|node| Node { claim: node.claim, ..Node::new(copied(node), Ty::Dyn) })
                        .collect(),
                    false => nodes,
                };
                let expr = if method { rebuild_method(id, name, nodes) } else { rebuild(id, name, nodes) };
                Node { claim, ..Node::new(expr, ty) }
            }
            _ => {
                let mut nodes = nodes;
                if let Some(first) = nodes.first_mut() {
                    self.read(first);
                }
                let expr = if method { rebuild_method(id, name, nodes) } else { rebuild(id, name, nodes) };
                match MAKING.contains(&name) {
                    true => made(id, expr, ty),
                    false => Node::new(expr, ty),
                }
            }
        }
    }
}
