//! Overload resolution: finds the overload of a call by the types of its arguments, and explains why there is none.

use super::ast::with_article;
use super::{Checker, TypedExpr};
use crate::authz::cel::functions::table::{self, FUNCTIONS, Function, MACROS};
use crate::authz::cel::types::CelType;
use crate::authz::cel::variables;
use crate::config::suggest::nearest;

impl Checker<'_> {
    /// Returns the type of the result of a call, or `None` after an error.
    pub(crate) fn resolve_overload(
        &mut self,
        offset: usize,
        name: &str,
        method: bool,
        nodes: &[TypedExpr],
    ) -> Option<CelType> {
        let named: Vec<&Function> = table::overloads(name).collect();
        let overloads: Vec<&Function> = named.iter().copied().filter(|function| function.method == method).collect();
        if overloads.is_empty() {
            let (message, hint) = if MACROS.contains(&name) {
                (format!("`{name}` can't be used like this"), Some(format!("write {}", macro_usage(name))))
            } else if named.is_empty() {
                let candidates = FUNCTIONS.iter().map(|function| function.name).chain(MACROS.iter().copied());
                let hint = match variables::find(name) {
                    Some(_) => Some(format!("`{name}` is a variable; remove the parentheses")),
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
        let same_arity: Vec<&Function> =
            overloads.iter().copied().filter(|function| function.params.len() == nodes.len()).collect();
        if same_arity.is_empty() {
            let mut counts: Vec<usize> =
                overloads.iter().map(|function| function.params.len() - usize::from(method)).collect();
            counts.sort_unstable();
            counts.dedup();
            let counts: Vec<String> = counts.iter().map(usize::to_string).collect();
            let message = format!("`{name}` takes {} arguments, and {given} are given", counts.join(" or "));
            self.error_at_offset(offset, message, None);
            return None;
        }
        let mut results = same_arity
            .iter()
            .filter(|function| function.params.iter().zip(nodes).all(|(param, node)| node.ty.may_be(*param)))
            .map(|function| function.result);
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
}

/// Returns an example of a macro.
fn macro_usage(name: &str) -> &'static str {
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
