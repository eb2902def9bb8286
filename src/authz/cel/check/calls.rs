//! Calls of functions and methods: which there are, what they take, and what some of them become.

use crate::authz::cel::engine::common::ast::operators as op;
use crate::authz::cel::engine::common::ast::{CallExpr, Expr, IdedExpr};

use super::ast::{
    call_expr, charge_copy, is_function_name, macro_usage, optional_chain, rebuild_call, rebuild_method_call,
    string_literal, with_article, wrap_in_call,
};
use super::{Checker, Constant, TypedExpr};
use crate::authz::cel::functions;
use crate::authz::cel::types::{CelType, MACROS, SIGNATURES, Signature};
use crate::authz::cel::{macros, variables};
use crate::config::suggest::nearest;

/// First parts of functions' names.
const NAMESPACES: &[&str] = &["optional", "base64", "sha256", "strings"];

/// Functions of the engine whose result may be about as large as what they are given.
const ALLOCATING: &[&str] =
    &["string", "bytes", "lowerAscii", "upperAscii", "trim", "reverse", "substring", "charAt", "strings.quote"];

/// What a call makes, paid for.
fn charge_result(id: u64, expr: IdedExpr, ty: CelType) -> TypedExpr {
    TypedExpr::new(call_expr(id, "@made", vec![expr]), ty)
}

impl Checker<'_> {
    pub(crate) fn check_call(&mut self, id: u64, call: CallExpr, depth: usize) -> TypedExpr {
        let CallExpr { func_name, target, args } = match macros::expand(id, call) {
            Ok(expanded) => return self.check_expr(IdedExpr { id, expr: expanded }, depth),
            Err(call) => call,
        };
        if target.is_none() && !is_function_name(&func_name) {
            return self.check_operator(id, &func_name, args, depth);
        }
        let func_name = func_name.strip_prefix('.').unwrap_or(&func_name).to_owned();
        // `base64.encode(x)` is a function with a long name, not a method of a variable.
        if let Some(Expr::Ident(namespace)) = target.as_ref().map(|target| &target.expr)
            && NAMESPACES.contains(&namespace.as_str())
            && !self.is_loop_variable(namespace)
        {
            let name = format!("{namespace}.{func_name}");
            return self.check_function(id, name, None, args, depth);
        }
        if target.is_none()
            && func_name == "default"
            && let [value, fallback] = args.as_slice()
        {
            return self.rewrite_default(id, value.clone(), fallback.clone(), depth);
        }
        self.check_function(id, func_name, target, args, depth)
    }

    /// `default(a.b, x)` is `a.?b.orValue(x)`: absence is answered, any other failure stays one.
    pub(crate) fn rewrite_default(&mut self, id: u64, value: IdedExpr, fallback: IdedExpr, depth: usize) -> TypedExpr {
        let chain = optional_chain(value);
        if !matches!(&chain.expr, Expr::Call(call) if matches!(call.func_name.as_str(), op::OPT_SELECT | op::OPT_INDEX))
        {
            let node = self.check_expr(chain, depth + 1);
            self.check_expr(fallback, depth + 1);
            return TypedExpr { full_name: None, ..node };
        }
        self.check_function(id, "orValue".to_owned(), Some(Box::new(chain)), vec![fallback], depth)
    }

    pub(crate) fn require_bool(&mut self, node: &TypedExpr, role: &str) {
        if !node.ty.may_be(CelType::Bool) {
            self.error_at(
                &node.expr,
                format!("{role} must be true or false, and this is {}", with_article(node.ty)),
                None,
            );
        }
    }

    pub(crate) fn check_function(
        &mut self,
        id: u64,
        name: String,
        target: Option<Box<IdedExpr>>,
        args: Vec<IdedExpr>,
        depth: usize,
    ) -> TypedExpr {
        let method = target.is_some();
        let nodes: Vec<TypedExpr> =
            target.map(|target| *target).into_iter().chain(args).map(|arg| self.check_expr(arg, depth + 1)).collect();
        let offset = match nodes.first() {
            Some(first) if method => self.start_offset(&first.expr),
            _ => self.function_name_offset(id, &name),
        };
        let Some(result) = self.resolve_overload(offset, &name, method, &nodes) else {
            return TypedExpr::new(rebuild_call(id, "type", nodes), CelType::Dyn);
        };
        self.rewrite_call(id, offset, &name, result, method, nodes)
    }

    /// The type that a call gives, or `None` after a fault.
    pub(crate) fn resolve_overload(
        &mut self,
        offset: usize,
        name: &str,
        method: bool,
        nodes: &[TypedExpr],
    ) -> Option<CelType> {
        let named: Vec<&Signature> = SIGNATURES.iter().filter(|signature| signature.name == name).collect();
        let overloads: Vec<&&Signature> = named.iter().filter(|signature| signature.method == method).collect();
        if overloads.is_empty() {
            let (message, hint) = if MACROS.contains(&name) {
                (format!("`{name}` can't be used so"), Some(format!("write {}", macro_usage(name))))
            } else if named.is_empty() {
                let candidates = SIGNATURES.iter().map(|signature| signature.name).chain(MACROS.iter().copied());
                let hint = match variables::find(name) {
                    Some(_) => Some(format!("`{name}` is a variable, written without parentheses")),
                    None => nearest(name, candidates).map(|near| format!("did you mean `{near}`?")),
                };
                (format!("unknown function `{name}`"), hint)
            } else if method {
                (format!("`{name}` is not a method"), Some(format!("write `{name}(x)`")))
            } else {
                (format!("`{name}` is a method"), Some(format!("write `x.{name}(…)`")))
            };
            self.error_at_offset(offset, message, hint);
            return None;
        }
        let given = nodes.len() - usize::from(method);
        let same_arity: Vec<&&&Signature> =
            overloads.iter().filter(|signature| signature.params.len() == nodes.len()).collect();
        if same_arity.is_empty() {
            let mut counts: Vec<usize> =
                overloads.iter().map(|signature| signature.params.len() - usize::from(method)).collect();
            counts.sort_unstable();
            counts.dedup();
            let counts: Vec<String> = counts.iter().map(usize::to_string).collect();
            let message = format!("`{name}` takes {} arguments, and {given} are given", counts.join(" or "));
            self.error_at_offset(offset, message, None);
            return None;
        }
        let mut results = same_arity
            .iter()
            .filter(|signature| signature.params.iter().zip(nodes).all(|(param, node)| node.ty.may_be(*param)))
            .map(|signature| signature.result);
        let Some(first) = results.next() else {
            let types: Vec<String> = nodes.iter().map(|node| with_article(node.ty)).collect();
            let (on, with) = types.split_at(usize::from(method));
            let message = match on.first() {
                Some(on) => format!("`{name}` can't be called on {on} with ({})", with.join(", ")),
                None => format!("`{name}` can't be called with ({})", with.join(", ")),
            };
            self.error_at_offset(offset, message, None);
            return None;
        };
        Some(if results.all(|result| result == first) { first } else { CelType::Dyn })
    }

    /// What a call becomes: most stay what they are.
    pub(crate) fn rewrite_call(
        &mut self,
        id: u64,
        offset: usize,
        name: &str,
        ty: CelType,
        method: bool,
        nodes: Vec<TypedExpr>,
    ) -> TypedExpr {
        let on_claim = nodes.first().is_some_and(|first| first.from_claim);
        let text = |at: usize| nodes.get(at).and_then(|node| string_literal(&node.expr)).map(str::to_owned);
        if let (Some(text), Some(node)) = (text(1), nodes.get(1)) {
            self.check_string_argument(name, &text, &node.expr);
        }
        match name {
            "contains" if on_claim => TypedExpr::new(rebuild_call(id, "@claim_contains", nodes), ty),
            "contains" => {
                let mut nodes = nodes;
                if let Some(first) = nodes.first_mut() {
                    let receiver = std::mem::replace(first, TypedExpr::new(IdedExpr::default(), CelType::Dyn));
                    *first = self.fold_list(receiver);
                    self.charge_read(first);
                }
                TypedExpr::new(rebuild_method_call(id, name, nodes), ty)
            }
            "matches" => {
                let source = text(1);
                let mut exprs: Vec<IdedExpr> = nodes.into_iter().map(|node| node.expr).collect();
                if let (Some(source), Some(slot)) = (source, exprs.get_mut(1)) {
                    match functions::compile_pattern(&source) {
                        Ok(pattern) => *slot = self.add_constant(slot.id, Constant::Regex(pattern)),
                        Err(message) => {
                            let at = slot.clone();
                            self.error_at(&at, format!("not a regex: {message}"), None);
                        }
                    }
                }
                TypedExpr::new(call_expr(id, "@matches", exprs), ty)
            }
            "scopes" => {
                self.check_is_jwt(offset, name, &nodes);
                TypedExpr::new(IdedExpr { id, expr: Expr::Ident(variables::SCOPES.to_owned()) }, ty)
            }
            "claim" => {
                self.check_is_jwt(offset, name, &nodes);
                self.check_claim_path(&nodes);
                TypedExpr { from_claim: true, ..TypedExpr::new(rebuild_call(id, name, nodes), ty) }
            }
            "headers" => {
                let lines = match nodes.first().and_then(|first| first.full_name.as_deref()) {
                    Some("request") => variables::REQUEST_FIELD_LINES,
                    Some("response") => variables::RESPONSE_FIELD_LINES,
                    _ => {
                        self.error_at_offset(
                            offset,
                            "`headers` reads a request",
                            Some("write `headers(request, \"x\")`".into()),
                        );
                        variables::REQUEST_FIELD_LINES
                    }
                };
                let operand = IdedExpr { id, expr: Expr::Ident(lines.to_owned()) };
                let key = nodes.into_iter().nth(1).map(|node| node.expr).unwrap_or_default();
                TypedExpr::new(call_expr(id, op::INDEX, vec![operand, key]), ty)
            }
            "replace" | "join" | "split" | "indexOf" | "lastIndexOf" => {
                TypedExpr::new(rebuild_call(id, &format!("@{name}"), nodes), ty)
            }
            "format" if text(0).is_none() => {
                self.error_at_offset(offset, "`format` needs its pattern written out", None);
                TypedExpr::new(rebuild_method_call(id, name, nodes), ty)
            }
            "format" => {
                let mut nodes = nodes;
                if let Some(arguments) = nodes.get_mut(1) {
                    wrap_in_call(&mut arguments.expr, "@shown");
                }
                charge_result(id, rebuild_method_call(id, name, nodes), ty)
            }
            "orValue" | "value" | "or" | "dyn" | "optional.of" | "optional.ofNonZeroValue" => {
                let claim = nodes.iter().any(|node| node.from_claim);
                let nodes = match name.starts_with("optional.") {
                    true => nodes
                        .into_iter()
                        .map(|node| TypedExpr {
                            from_claim: node.from_claim,
                            ..TypedExpr::new(charge_copy(node), CelType::Dyn)
                        })
                        .collect(),
                    false => nodes,
                };
                let expr = if method { rebuild_method_call(id, name, nodes) } else { rebuild_call(id, name, nodes) };
                TypedExpr { from_claim: claim, ..TypedExpr::new(expr, ty) }
            }
            _ => {
                let mut nodes = nodes;
                if let Some(first) = nodes.first_mut() {
                    self.charge_read(first);
                }
                let expr = if method { rebuild_method_call(id, name, nodes) } else { rebuild_call(id, name, nodes) };
                match ALLOCATING.contains(&name) {
                    true => charge_result(id, expr, ty),
                    false => TypedExpr::new(expr, ty),
                }
            }
        }
    }
}
