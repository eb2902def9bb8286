//! Lists of variables and functions, for the reference documentation.

use super::Scope;
use super::cel::functions::table::{FUNCTIONS, Function, MACROS};
use super::cel::variables;

/// A variable or a field, for the reference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Variable {
    /// The full name.
    pub name: &'static str,
    /// The name of the type.
    pub ty: &'static str,
    /// True if the match of a route may read it.
    pub in_route_matches: bool,
    /// True if rules may read it.
    pub in_rules: bool,
}

/// Returns every variable and field, in the order of the reference.
pub fn variables() -> impl Iterator<Item = Variable> {
    variables::all().map(|(name, ty, visibility)| Variable {
        name,
        ty: ty.name(),
        in_route_matches: Scope::RouteMatch.can_see(visibility),
        in_rules: Scope::Rule.can_see(visibility),
    })
}

/// Returns every function and macro with its types, such as `string.split(string) -> list`.
pub fn functions() -> Vec<String> {
    let mut entries: Vec<String> = FUNCTIONS.iter().map(render_signature).collect();
    entries.extend(MACROS.iter().map(|name| format!("{name}(…), a macro")));
    entries
}

fn render_signature(function: &Function) -> String {
    let Function { name, method, params, result, .. } = function;
    let mut types = params.iter().map(|ty| ty.name());
    let receiver = if *method { types.next().map(|ty| format!("({ty}).")) } else { None };
    let types: Vec<_> = types.collect();
    format!("{}{name}({}) -> {}", receiver.unwrap_or_default(), types.join(", "), result.name())
}
