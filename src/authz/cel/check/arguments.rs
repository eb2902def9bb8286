//! Checks of literal arguments, since an invalid one would fail for every request.

use super::ast::{literal_type, string_literal, with_article};
use super::constants::is_time_zone;
use super::{Checker, TypedExpr};
use crate::authz::cel::engine::common::ast::{Expr, IdedExpr};
use crate::authz::cel::functions;

impl Checker<'_> {
    /// Checks a string literal in a call of a method, independently of the receiver.
    pub(crate) fn check_string_argument(&mut self, name: &str, text: &str, argument: &IdedExpr) {
        let message = match name {
            "containsIP" => functions::parse_ip(text).err(),
            _ if name.starts_with("get") && !is_time_zone(text) => {
                Some("not a time zone; write it as \"Europe/Berlin\" or \"+01:00\"".to_owned())
            }
            _ => None,
        };
        if let Some(message) = message {
            self.error_at(argument, format!("{text:?}: {message}"), None);
        }
    }

    /// Checks that the steps of the path of a claim are strings.
    pub(crate) fn check_claim_path(&mut self, nodes: &[TypedExpr]) {
        let Some(Expr::List(path)) = nodes.get(1).map(|path| &path.expr.expr) else { return };
        for step in &path.elements {
            if let Expr::Literal(other) = &step.expr
                && string_literal(step).is_none()
            {
                let message = format!("a step of the path is {}, not a string", with_article(literal_type(other)));
                self.error_at(step, message, None);
            }
        }
    }

    pub(crate) fn check_is_jwt(&mut self, offset: usize, function: &str, nodes: &[TypedExpr]) {
        if nodes.first().and_then(|first| first.full_name.as_deref()) != Some("jwt") {
            self.error_at_offset(
                offset,
                format!("`{function}` reads the token"),
                Some(format!("write `{function}(jwt…)`")),
            );
        }
    }
}
