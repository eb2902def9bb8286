//! What functions want of the arguments that are written out: a wrong one would fail for every request.

use cel::common::ast::{Expr, IdedExpr};
use cel_interpreter as cel;

use super::super::functions;
use super::constants::is_time_zone;
use super::tree::{article, literal, literal_type};
use super::{Node, Walk};

impl Walk<'_> {
    /// What a method wants of a text that is written out, whatever it is called on.
    pub(super) fn check_text(&mut self, name: &str, text: &str, at: &IdedExpr) {
        let message = match name {
            "containsIP" => functions::parse_ip(text).err(),
            _ if name.starts_with("get") && !is_time_zone(text) => {
                Some("not a time zone; write it as \"Europe/Berlin\" or \"+01:00\"".to_owned())
            }
            _ => None,
        };
        if let Some(message) = message {
            self.fault(at, format!("{text:?}: {message}"), None);
        }
    }

    /// The steps of a claim's path are names.
    pub(super) fn check_path(&mut self, nodes: &[Node]) {
        let Some(Expr::List(path)) = nodes.get(1).map(|path| &path.expr.expr) else { return };
        for step in &path.elements {
            if let Expr::Literal(other) = &step.expr
                && literal(step).is_none()
            {
                let message = format!("a step of the path is {}, not a string", article(literal_type(other)));
                self.fault(step, message, None);
            }
        }
    }

    pub(super) fn check_is_jwt(&mut self, offset: usize, function: &str, nodes: &[Node]) {
        if nodes.first().and_then(|first| first.name.as_deref()) != Some("jwt") {
            self.fault_at(offset, format!("`{function}` reads the token"), Some(format!("write `{function}(jwt…)`")));
        }
    }
}
