//! Calls of functions and methods: checks their arguments, and rewrites those that the engine does not evaluate as written.

use super::ast::{
    call_expr, charge_copy, is_function_name, optional_chain, rebuild_call, rebuild_method_call, string_literal,
    with_article, wrap_in_call,
};
use super::{Checker, Constant, TypedExpr};
use crate::authz::cel::engine::common::ast::operators as op;
use crate::authz::cel::engine::common::ast::{CallExpr, Expr, IdedExpr};
use crate::authz::cel::functions::table::{internal, is_charged_for_result, replacement_name};
use crate::authz::cel::types::CelType;
use crate::authz::cel::{functions, macros, variables};

/// The namespaces of functions.
const NAMESPACES: &[&str] = &["optional", "base64", "sha256", "strings"];

/// Wraps a call whose result is charged.
fn charge_result(id: u64, expr: IdedExpr, ty: CelType) -> TypedExpr {
    TypedExpr::new(call_expr(id, internal::CHARGE_RESULT, vec![expr]), ty)
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

    /// Rewrites `default(a.b, x)` to `a.?b.orValue(x)`, which replaces an absent value. Any other failure remains a failure.
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

    /// Rewrites a call. Most calls remain unchanged.
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
        let text = |index: usize| nodes.get(index).and_then(|node| string_literal(&node.expr)).map(str::to_owned);
        if let (Some(text), Some(node)) = (text(1), nodes.get(1)) {
            self.check_string_argument(name, &text, &node.expr);
        }
        match name {
            "contains" if on_claim => TypedExpr::new(rebuild_call(id, internal::CLAIM_CONTAINS, nodes), ty),
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
                        Ok(regex) => *slot = self.add_constant(slot.id, Constant::Regex(regex)),
                        Err(message) => {
                            let argument = slot.clone();
                            self.error_at(&argument, format!("not a regex: {message}"), None);
                        }
                    }
                }
                TypedExpr::new(call_expr(id, internal::MATCHES, exprs), ty)
            }
            "scopes" => {
                self.check_is_jwt(offset, name, &nodes);
                TypedExpr::new(IdedExpr { id, expr: Expr::Ident(variables::SCOPES.to_owned()) }, ty)
            }
            "claim" => {
                self.check_is_jwt(offset, name, &nodes);
                self.check_claim_path(&nodes);
                TypedExpr::new(rebuild_call(id, name, nodes), ty).with_claim(true)
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
            "format" if text(0).is_none() => {
                self.error_at_offset(offset, "the pattern of `format` must be a string literal", None);
                TypedExpr::new(rebuild_method_call(id, name, nodes), ty)
            }
            "format" => {
                let mut nodes = nodes;
                if let Some(arguments) = nodes.get_mut(1) {
                    wrap_in_call(&mut arguments.expr, internal::CHARGE_FORMAT_ARGS);
                }
                charge_result(id, rebuild_method_call(id, name, nodes), ty)
            }
            "orValue" | "value" | "or" | "dyn" | "optional.of" | "optional.ofNonZeroValue" => {
                let from_claim = nodes.iter().any(|node| node.from_claim);
                let nodes = match name.starts_with("optional.") {
                    true => nodes
                        .into_iter()
                        .map(|node| {
                            let from_claim = node.from_claim;
                            TypedExpr::new(charge_copy(node), CelType::Dyn).with_claim(from_claim)
                        })
                        .collect(),
                    false => nodes,
                };
                let expr = if method { rebuild_method_call(id, name, nodes) } else { rebuild_call(id, name, nodes) };
                TypedExpr::new(expr, ty).with_claim(from_claim)
            }
            _ => {
                if let Some(replacement) = replacement_name(name) {
                    return TypedExpr::new(rebuild_call(id, &replacement, nodes), ty);
                }
                let mut nodes = nodes;
                if let Some(first) = nodes.first_mut() {
                    self.charge_read(first);
                }
                let expr = if method { rebuild_method_call(id, name, nodes) } else { rebuild_call(id, name, nodes) };
                match is_charged_for_result(name) {
                    true => charge_result(id, expr, ty),
                    false => TypedExpr::new(expr, ty),
                }
            }
        }
    }
}
