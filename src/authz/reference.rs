//! What expressions may use, as lists for the documentation.

use super::Scope;
use super::cel::types::{MACROS, SIGNATURES, Signature};
use super::cel::variables;

/// A variable or a field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Variable {
    /// Its whole name.
    pub name: &'static str,
    /// Its type.
    pub ty: &'static str,
    /// Whether the match of a route sees it.
    pub in_route_matches: bool,
    /// Whether rules see it.
    pub in_rules: bool,
}

/// Every variable and field, in the order of the documentation.
pub fn variables() -> impl Iterator<Item = Variable> {
    variables::all().map(|(name, ty, visibility)| Variable {
        name,
        ty: ty.name(),
        in_route_matches: Scope::RouteMatch.can_see(visibility),
        in_rules: Scope::Rule.can_see(visibility),
    })
}

/// Every function and macro with its types, such as `string.split(string) -> list`.
pub fn functions() -> Vec<String> {
    let mut entries: Vec<String> = SIGNATURES.iter().map(render_signature).collect();
    entries.extend(MACROS.iter().map(|name| format!("{name}(…), a macro")));
    entries
}

fn render_signature(signature: &Signature) -> String {
    let Signature { name, method, params, result } = signature;
    let mut types = params.iter().map(|ty| ty.name());
    let target = if *method { types.next().map(|ty| format!("({ty}).")) } else { None };
    let types: Vec<_> = types.collect();
    format!("{}{name}({}) -> {}", target.unwrap_or_default(), types.join(", "), result.name())
}
